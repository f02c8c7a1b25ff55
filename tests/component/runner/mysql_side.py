"""A MySQL server that the test plays: the wire protocol, as far as a client meets it with one statement."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from component.runner import far_side

# CLIENT_LONG_PASSWORD, CONNECT_WITH_DB, PROTOCOL_41, TRANSACTIONS, SECURE_CONNECTION, MULTI_RESULTS, PLUGIN_AUTH
_ABILITIES = 0x1 | 0x8 | 0x200 | 0x2000 | 0x8000 | 0x20000 | 0x80000
_OK = b"\x00\x00\x00\x02\x00\x00\x00"
_END = b"\xfe\x00\x00\x02\x00"
# Types of columns: a number, a decimal, a moment, a text.
KINDS = {"int": 3, "decimal": 246, "datetime": 12, "text": 253}


@dataclass
class MySQL:
    """Answers statements by their text; what begins as one that is none of them is taken."""

    port: int = 0
    asked: list[str] = field(default_factory=list)
    database: str = ""
    answers: dict[str, bytes | list[bytes]] = field(default_factory=dict)
    refuse: bytes | None = None


def rows(columns: dict[str, str], *found: tuple[str | None, ...]) -> list[bytes]:
    """The packets of a result."""
    heads = [
        b"".join(map(_text, ("def", "", "t", "t", name, name)))
        + b"\x0c"
        + struct.pack("<HIBHB", 45 if kind == "text" else 63, 1024, KINDS[kind], 0, 0)
        + b"\0\0"
        for name, kind in columns.items()
    ]
    bodies = [b"".join(b"\xfb" if each is None else _text(each) for each in row) for row in found]
    return [bytes([len(columns)]), *heads, _END, *bodies, _END]


def error(number: int, state: str, said: str) -> bytes:
    return b"\xff" + struct.pack("<H", number) + b"#" + state.encode() + said.encode()


@asynccontextmanager
async def serve() -> AsyncIterator[MySQL]:
    there = MySQL()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        greeting = (
            b"\x0a8.0.36\0" + struct.pack("<I", 7) + b"abcdefgh\0" + struct.pack("<H", _ABILITIES & 0xFFFF)
            + b"\x2d\x02\x00" + struct.pack("<H", _ABILITIES >> 16) + bytes([21]) + b"\0" * 10
            + b"ijklmnopqrst\0" + b"mysql_native_password\0"
        )  # fmt: skip
        _send(writer, 0, greeting)
        there.database = (await _receive(reader)).split(b"\0")[-3].decode("utf-8", "replace")
        _send(writer, 2, there.refuse or _OK)
        while (packet := await _receive(reader))[:1] == b"\x03":
            asked = packet[1:].decode()
            there.asked.append(asked)
            said = there.answers.get(asked, _OK)
            for number, each in enumerate(said if isinstance(said, list) else [said], 1):
                _send(writer, number & 0xFF, each)
            await writer.drain()

    async with far_side.raw(talk) as port:
        there.port = port
        yield there


def _text(value: str) -> bytes:
    raw = value.encode()
    if len(raw) < 251:
        return bytes([len(raw)]) + raw
    return b"\xfe" + struct.pack("<Q", len(raw)) + raw


def _send(writer: asyncio.StreamWriter, number: int, packet: bytes) -> None:
    writer.write(struct.pack("<I", len(packet))[:3] + bytes([number]) + packet)


async def _receive(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(4)
    return await reader.readexactly(int.from_bytes(head[:3], "little"))
