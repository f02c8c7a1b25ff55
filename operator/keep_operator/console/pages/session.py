"""Who is signed in: a cookie that holds the user's own token, encrypted and authenticated, and nothing on the server.

The token is the one that the user has shown; it is asked about at the API server with each request (`Doorkeeper` remembers
that for seconds), so a token that is taken back or expires ends the session.
"""

import hmac
import json
import secrets
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from starlette.responses import Response

# Seconds after which somebody must sign in again, whatever his token's age.
LIFETIME_S: Final = 12 * 3600
# With this prefix browsers take the cookie only from a secure origin, for all of it and for no other host.
COOKIE: Final = "__Host-keep-operator"
# Browsers keep 4 KiB of a cookie with its name and attributes; a long token takes several.
_PIECE: Final = 3_500
MOST_PIECES: Final = 6


@dataclass(frozen=True, slots=True)
class Session:
    """A user's token, and what his forms must bring back."""

    token: str
    csrf: str
    began: int

    def vouches_for(self, csrf: str) -> bool:
        """Whether a form comes from one of our own pages."""
        return hmac.compare_digest(self.csrf.encode(), csrf.encode("utf-8", "replace"))


class TooLong(Exception):
    """The token does not fit into what browsers keep."""


class Sessions:
    """Seals and opens cookies with the first of the keys, and opens those of the others."""

    def __init__(self, keys: Sequence[str], clock: Callable[[], float] = time.time) -> None:
        self._keys = MultiFernet([Fernet(key) for key in keys])
        self._clock = clock

    def begin(self, token: str) -> Session:
        """A new session."""
        return Session(token, secrets.token_urlsafe(24), int(self._clock()))

    def find(self, cookies: Mapping[str, str]) -> Session | None:
        """The session of a request; None: there is none, it has expired, or it was sealed by nobody we know."""
        text = "".join(cookies.get(name, "") for name in _names())
        if not text:
            return None
        try:
            told = json.loads(
                zlib.decompress(self._keys.decrypt_at_time(text.encode(), LIFETIME_S, int(self._clock())))
            )
        except (InvalidToken, ValueError, zlib.error):
            return None
        return Session(told["token"], told["csrf"], told["began"])

    def give(self, response: Response, session: Session) -> None:
        """Have the browser keep the session. Raises TooLong."""
        told = {"token": session.token, "csrf": session.csrf, "began": session.began}
        sealed = self._keys.encrypt_at_time(zlib.compress(json.dumps(told).encode()), session.began).decode()
        pieces = [sealed[start : start + _PIECE] for start in range(0, len(sealed), _PIECE)]
        if len(pieces) > MOST_PIECES:
            raise TooLong
        for name, piece in zip(_names(), [*pieces, *[""] * (MOST_PIECES - len(pieces))], strict=True):
            if piece:
                response.set_cookie(
                    name, piece, max_age=LIFETIME_S, path="/", secure=True, httponly=True, samesite="strict"
                )
            else:
                _drop(response, name)

    def end(self, response: Response) -> None:
        """Have the browser forget it."""
        for name in _names():
            _drop(response, name)


def _drop(response: Response, name: str) -> None:
    response.delete_cookie(name, path="/", secure=True, httponly=True, samesite="strict")


def _names() -> list[str]:
    return [COOKIE, *(f"{COOKIE}-{number}" for number in range(1, MOST_PIECES))]
