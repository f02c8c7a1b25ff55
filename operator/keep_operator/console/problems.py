"""What is answered in place of what was asked for: problem details (RFC 9457), which name the thing, the fact and the remedy.

::

    400  the request cannot be meant so            404  no such thing, for somebody who may know that
    401  no token, or nobody's                     405  another method
    403  the user may not                          408, 413, 415  the body
    429  more than is let through                  500  a bug; it is in the log
    503  the database or the API server is away

No answer holds SQL, an address, a token, or a word of what the user may not read.
"""

import math
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final

from keep_operator.errors import KeepOperatorError, Unavailable

MEDIA_TYPE: Final = "application/problem+json"
# What clients are told to wait for, in seconds, where a dependency does not answer.
RETRY_AFTER_S: Final = 5


class Problem(Exception):
    """An answer other than success; ``reason`` is one word for programs, ``detail`` a sentence for people."""

    def __init__(
        self, status: HTTPStatus, reason: str, detail: str, headers: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.detail = detail
        self.headers = headers

    def document(self) -> dict[str, Any]:
        """The answer's body."""
        return {
            "type": "about:blank",
            "title": self.status.phrase,
            "status": int(self.status),
            "reason": self.reason,
            "detail": self.detail,
        }


def bad(reason: str, detail: str) -> Problem:
    """The request cannot be meant so."""
    return Problem(HTTPStatus.BAD_REQUEST, reason, detail)


def missing(reason: str, detail: str) -> Problem:
    """There is no such thing."""
    return Problem(HTTPStatus.NOT_FOUND, reason, detail)


def unauthenticated(detail: str) -> Problem:
    """Nobody knows who asks."""
    return Problem(
        HTTPStatus.UNAUTHORIZED, "Unauthenticated", detail, {"WWW-Authenticate": 'Bearer realm="keep-operator"'}
    )


def forbidden(detail: str) -> Problem:
    """The user may not."""
    return Problem(HTTPStatus.FORBIDDEN, "Forbidden", detail)


def too_many(what: str, wait_s: float, headers: Mapping[str, str] = MappingProxyType({})) -> Problem:
    """More than is let through; when to come again."""
    again = max(1, math.ceil(wait_s))
    return Problem(
        HTTPStatus.TOO_MANY_REQUESTS,
        "TooManyRequests",
        f"{what}; try again in {again} s.",
        {"Retry-After": str(again), **headers},
    )


def unavailable(what: str, failure: KeepOperatorError) -> Problem:
    """A dependency did not answer, or not as it should; the rest is in the log, for those who run it."""
    wait_s = failure.retry_after_s if isinstance(failure, Unavailable) else None
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        failure.reason,
        f"{what} cannot be asked just now; try again. The log of the console says more.",
        {"Retry-After": str(max(1, round(wait_s or RETRY_AFTER_S)))},
    )


INTERNAL: Final = Problem(
    HTTPStatus.INTERNAL_SERVER_ERROR,
    "InternalError",
    "This is a bug of the console; its log says more. Other requests are answered.",
)
