"""The door for what goes wrong with the API server: driver errors and HTTP answers become our errors, here only.

::

    no answer, half an answer, no JSON, 3xx, 429, 5xx  ──► Unavailable ApiServerUnavailable
    no usable credentials                              ──► Unavailable ApiCredentialsUnavailable
    401 again after a refresh                          ──► Unavailable ApiUnauthorized
    403                                                ──► Unavailable ApiAccessDenied (NamespaceTerminating)
    404 of a collection                                ──► Unavailable ApiResourceMissing
    404 of an object, 409                              ──► Conflict    ObjectGone, ObjectChanged, AlreadyExists
    410                                                ──► Expired: list again
    409 between field managers                         ──► Refused     FieldManagerConflict
    other 4xx in the server's own words                ──► Refused     ApiRejected
    kubeconfig                                         ──► Refused     KubeconfigInvalid

Only a ``Status`` object is the server's own word. A bare 404 may come from a proxy, or from a server that has
not loaded our CRDs yet: taken for "deleted", it would make us delete what belongs to a living object.
"""

import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from keep_operator.errors import Conflict, KeepOperatorError, Refused, Unavailable

MESSAGE_LIMIT_CHARACTERS: Final = 300
"""How much of a server's own words is repeated: enough for one field error, too little for a dump."""


class Expired(Unavailable):
    """The version that a watch or the next page starts from is no longer kept: list again (410)."""


class NoAnswer(Unavailable):
    """The server did not answer, or not to the end: it says nothing about what was asked."""


class TooLarge(Unavailable):
    """An answer was longer than we read; fewer objects a page may help."""


@dataclass(frozen=True, slots=True)
class Status:
    """What the API server says about a request that it did not carry out (a ``Status`` object)."""

    reason: str = ""
    message: str = ""
    name: str = ""
    causes: tuple[tuple[str, str], ...] = ()
    code: int = 0
    genuine: bool = False

    @classmethod
    def read(cls, document: Any, redact: Callable[[str], str] = str) -> "Status":
        """The answer's fields, whatever shape it has; ``genuine`` if the API server itself wrote it.

        ``redact`` takes our own secrets out of the texts, which may have come back to us.
        """
        if not isinstance(document, Mapping) or document.get("kind") != "Status":
            return cls()
        details = document.get("details")
        details = details if isinstance(details, Mapping) else {}
        causes = details.get("causes")
        return cls(
            reason=_text(document.get("reason")),
            message=redact(_text(document.get("message"))),
            name=_text(details.get("name")),
            causes=tuple(
                (_text(cause.get("reason")), redact(_text(cause.get("message"))))
                for cause in (causes if isinstance(causes, list) else [])
                if isinstance(cause, Mapping)
            ),
            code=code if isinstance(code := document.get("code"), int) else 0,
            genuine=True,
        )

    @property
    def names_an_absent_object(self) -> bool:
        """Whether it says that one named object does not exist, rather than that the path is unknown."""
        return self.genuine and self.reason == "NotFound" and self.name != ""


def kubeconfig(message: str) -> Refused:
    """How to reach the API server is not said, or not in a way that can be used."""
    return Refused("KubeconfigInvalid", message)


def credentials(message: str) -> Unavailable:
    """Whoever hands out our credentials did not do so."""
    return Unavailable("ApiCredentialsUnavailable", message)


def unnameable(what: str, name: str) -> Refused:
    """No object can have that name, so it is not asked for: it would change the path of the request."""
    return Refused("NameInvalid", f"{what} cannot be named {plain(name, 80)!r}: use a valid Kubernetes name")


def no_answer(what: str, error: Exception) -> NoAnswer:
    """The connection failed, ended early, or nothing came in time."""
    return NoAnswer("ApiServerUnavailable", f"{what}: {describe(error)}; it is tried again")


def no_json(what: str, status: int) -> Unavailable:
    """Something that is no Kubernetes answer came back, such as the page of a proxy."""
    return Unavailable(
        "ApiServerUnavailable",
        f"{what}: the answer (HTTP {status}) is no Kubernetes object: does a proxy stand before the API server?",
    )


def too_large(what: str, limit_bytes: int) -> TooLarge:
    """The answer goes on for longer than we are willing to read."""
    return TooLarge("ApiServerUnavailable", f"{what}: the answer is longer than {limit_bytes} bytes; it was dropped")


def expired(what: str) -> Expired:
    """The version that we knew is too old for the server."""
    return Expired("ApiServerUnavailable", f"{what}: the known resource version is no longer kept; listing again")


def never_sent(error: Exception) -> bool:
    """Whether the request certainly did not reach the server, so that even a create may be repeated."""
    return isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)


def hopeless(error: Exception) -> bool:
    """Whether the very next try will fail alike: the server's certificate is not trusted."""
    return isinstance(error, aiohttp.ClientSSLError)


def describe(error: BaseException) -> str:
    """A driver's error in words that hold no header, URL or content: those may hold secrets."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            refused = error.certificate_error
            detail = refused.verify_message if isinstance(refused, ssl.SSLCertVerificationError) else "not valid"
            return f"the API server's certificate is not trusted ({detail}): check the certificate authority"
        case aiohttp.ClientConnectorError():
            cause = os.strerror(error.os_error.errno) if error.os_error.errno else "failed"
            return f"no connection to {error.host}:{error.port} ({cause})"
        case aiohttp.ConnectionTimeoutError():
            return "no connection in time"
        case TimeoutError():
            return "no answer in time"
        case aiohttp.ClientConnectionError() | ConnectionError():
            return "the connection was closed before the answer"
        case aiohttp.ClientPayloadError():
            return "the connection was closed within the answer"
        case _:
            return f"no usable answer ({type(error).__name__})"


def refusal(what: str, status_code: int, status: Status, *, retry_after_s: float | None = None) -> KeepOperatorError:
    """An answer other than success, as the error that says what must happen next."""
    said = f": {plain(status.message)}" if status.message else f" (HTTP {status_code})"
    match status_code:
        case 401:
            return Unavailable(
                "ApiUnauthorized",
                f"{what}: the API server does not accept our credentials: renew them; `keep-operator doctor` tells more",
            )
        case 403 if any(reason == "NamespaceTerminating" for reason, _ in status.causes):
            return Unavailable("NamespaceTerminating", f"{what}: the namespace is being deleted")
        case 403:
            return Unavailable(
                "ApiAccessDenied", f"may not {what}{said}; `keep-operator doctor` lists the rights that are missing"
            )
        case 404 if status.names_an_absent_object:
            return Conflict("ObjectGone", f"{what}{said}")
        case 404:
            return Unavailable(
                "ApiResourceMissing",
                f"{what}: the API server does not serve this resource; `keep-operator crds apply` installs ours",
            )
        case 409 if any(reason == "FieldManagerConflict" for reason, _ in status.causes):
            owners = "; ".join(sorted({plain(message, 100) for _, message in status.causes})[:3])
            return Refused("FieldManagerConflict", f"{what}: others own the fields ({owners}): leave them to one side")
        case 409 if status.genuine:
            return Conflict("AlreadyExists" if status.reason == "AlreadyExists" else "ObjectChanged", f"{what}{said}")
        case 410:
            return expired(what)
        case _ if status.genuine and 400 <= status_code < 500 and status_code not in (408, 429):
            return Refused("ApiRejected", f"{what} was rejected{said}")
        case _:
            return Unavailable("ApiServerUnavailable", f"{what}{said}; it is tried again", retry_after_s=retry_after_s)


def plain(text: str, limit: int = MESSAGE_LIMIT_CHARACTERS) -> str:
    """Foreign text on one line, without control characters, at most ``limit`` characters long."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * limit]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
