"""A client's connection, and how long it is waited for: uvicorn itself would wait for ever.

::

    opened, or answered ──HEAD_S──► aborted          a client that sends the head of its request byte by byte, or nothing
        │  the head has come
        ▼
    being answered ──ANSWER_S──► aborted             a client that does not take its answer, or goes on sending a body

Between two requests uvicorn's own limit counts, which is shorter. Bodies have theirs where they are read.
"""

import asyncio
from typing import ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol


class Connection(H11Protocol):
    """One connection; aborted, not closed: who does not read would keep a closing one open."""

    # Seconds. Heads come with the first packet; this is for links that lose some of them.
    HEAD_S: ClassVar[float] = 10.0
    # Seconds, above all that an answer is made within.
    ANSWER_S: ClassVar[float] = 90.0

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._wait(self.HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        if self._patience is not None:
            self._patience.cancel()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Take in what has come; a new request has its own time to be answered."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self._wait(self.ANSWER_S)

    def on_response_complete(self) -> None:
        """Begin to wait for the next request, which may be there already; first for the answer to be taken, if it is long."""
        self._wait(self.ANSWER_S if self.transport.get_write_buffer_size() else self.HEAD_S)
        super().on_response_complete()

    def _wait(self, seconds: float) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self._patience = self.loop.call_later(seconds, self.transport.abort)
