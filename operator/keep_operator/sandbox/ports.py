"""The loopback ports of the sandbox's servers, which keep them over restarts."""

import random
import socket
from typing import Final

# Below those that systems give to outgoing connections: one of these could take the port while its server restarts, even
# the connection of a client that tries to reach that very server.
CHOICE: Final = range(20_000, 32_768)


def choose(count: int) -> list[int]:
    """As many different ports that nobody listens on now."""
    chosen: list[int] = []
    for port in random.sample(CHOICE, len(CHOICE)):
        if len(chosen) == count:
            break
        if free(port):
            chosen.append(port)
    return chosen


def free(port: int) -> bool:
    """Whether a server could listen on the port now."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
