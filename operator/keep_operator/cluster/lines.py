"""A stream of bytes as lines: what a watch brings arrives in pieces that know nothing of them."""

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

LONGEST_LINE_BYTES: Final = 16 << 20
"""An object is at most 1.5 MiB in etcd; as JSON with every byte escaped it stays below this."""


class LineTooLong(Exception):  # says what happened, and never leaves the room
    """A line went on for longer than we are willing to keep."""


async def split(pieces: AsyncIterator[bytes], *, longest: int = LONGEST_LINE_BYTES) -> AsyncGenerator[bytes, None]:
    """The lines, without their ends; what follows the last line end was cut off and is dropped.

    Raises LineTooLong once more than ``longest`` bytes came without a line end.
    """
    begun: list[bytes] = []
    length = 0
    async for piece in pieces:
        first, *others = piece.split(b"\n")
        begun.append(first)
        length += len(first)
        for other in others:
            if length > longest:
                raise LineTooLong
            yield b"".join(begun)
            begun, length = [other], len(other)
        if length > longest:
            raise LineTooLong
