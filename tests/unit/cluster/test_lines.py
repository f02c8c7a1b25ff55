"""A watch's bytes become its lines, however the network has cut them."""

from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keep_operator.cluster import lines

pytestmark = pytest.mark.unit


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def read(stream: AsyncIterator[bytes]) -> list[bytes]:
    return [line async for line in stream]


@given(st.lists(st.binary(max_size=20).map(lambda b: b.replace(b"\n", b"")), max_size=8), st.data())
async def test_the_cuts_make_no_difference(written: list[bytes], data: st.DataObject) -> None:
    """Every line arrives once, whole and in order, and nothing else does."""
    whole = b"".join(line + b"\n" for line in written)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=10)))
    parts = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert await read(lines.split(pieces(*parts))) == written


async def test_what_has_no_end_is_dropped() -> None:
    """A line that was cut off is not taken for a whole one."""
    assert await read(lines.split(pieces(b"a\nb", b"c"))) == [b"a"]


@pytest.mark.parametrize(
    "parts", [[b"xxxxxx"], [b"xxx", b"xxx"], [b"xxxxxx\n"], [b"ok\nxxx", b"xxx\n"], [b"x" * 6 + b"\nok\n"]]
)
async def test_a_line_without_measure_is_refused(parts: list[bytes]) -> None:
    """A server cannot fill the memory with one line."""
    with pytest.raises(lines.LineTooLong):
        await read(lines.split(pieces(*parts), longest=5))


async def test_a_line_of_just_the_length_is_a_line() -> None:
    """The bound itself is allowed."""
    assert await read(lines.split(pieces(b"xx", b"xxx\nyyyyy\n"), longest=5)) == [b"xxxxx", b"yyyyy"]
