"""Who we are to the API server: one identity at a time, obtained anew when it grows old or is refused.

::

    token, password, certificate data ──► fixed
    token file, certificate files     ──► read again after a minute        ──► Identity ──► Connection
    exec plugin                       ──► run again shortly before it ends
"""

import asyncio
import base64
import contextlib
import json
import os
import shutil
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from keep_operator.cluster import failures
from keep_operator.errors import Refused, Unavailable

REREAD_AFTER: Final = timedelta(minutes=1)
"""A rotating token file is read again this often, as client-go does; kubelet rotates at 80 % of an hour."""
EXPIRY_MARGIN: Final = timedelta(seconds=10)
"""A credential this close to its end is replaced first, so that it does not expire on the wire."""
EXEC_LIMIT: Final = timedelta(seconds=60)
"""How long a credential plugin may run: cloud command lines take seconds, a forgotten prompt takes for ever."""
EXEC_OUTPUT_LIMIT_BYTES: Final = 1 << 20
"""More than any ExecCredential holds; a plugin that prints without end is stopped here."""
EXEC_VERSIONS: Final = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """A certificate chain and its private key, both PEM."""

    certificate_pem: bytes = field(repr=False)
    key_pem: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Identity:
    """What we show the server: the value of ``Authorization``, a TLS client certificate, both or neither.

    After ``refresh_at`` a newer one is asked for, and this one still serves when there is none;
    after ``expires_at`` it does not.
    """

    authorization: str | None = field(default=None, repr=False)
    certificate: ClientCertificate | None = None
    refresh_at: datetime | None = None
    expires_at: datetime | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The request headers that carry it."""
        return {} if self.authorization is None else {"Authorization": self.authorization}

    def shows_the_same(self, other: "Identity") -> bool:
        """Whether a server could not tell the two apart."""
        return (self.authorization, self.certificate) == (other.authorization, other.certificate)

    def redact(self, text: str) -> str:
        """The text without our secrets, should a server or a proxy send them back to us."""
        for secret in self._secrets():
            text = text.replace(secret, "***")
        return text

    def _secrets(self) -> list[str]:
        scheme, _, value = (self.authorization or "").partition(" ")
        if not value:
            return []
        found = [value]
        if scheme == "Basic":
            with contextlib.suppress(ValueError):
                found.append(base64.b64decode(value).decode().partition(":")[2])
        return [secret for secret in found if secret]


Source = Callable[[], Awaitable[Identity]]
"""Obtains an identity anew; raises Refused or Unavailable."""


def utc_now() -> datetime:
    """The wall clock, for expiry times that others wrote."""
    return datetime.now(UTC)


async def anonymous() -> Identity:
    """The identity of those who show none."""
    return Identity()


def bearer(token: str) -> str:
    """The ``Authorization`` of a token."""
    return f"Bearer {token}"


def basic(username: str, password: str) -> str:
    """The ``Authorization`` of a name and a password (RFC 7617, UTF-8)."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


@dataclass(frozen=True, slots=True)
class Fixed:
    """An identity that stands in the configuration itself."""

    identity: Identity

    async def __call__(self) -> Identity:
        """Give it."""
        return self.identity


@dataclass(frozen=True, slots=True)
class Files:
    """An identity in files that others replace: a service account's token, a certificate that is renewed."""

    token_path: Path | None = None
    certificate_path: Path | None = None
    key_path: Path | None = None
    fixed: Identity = Identity()
    clock: Callable[[], datetime] = utc_now

    async def __call__(self) -> Identity:
        """Read the files as they are now; raises Refused that names the file."""
        identity = replace(self.fixed, refresh_at=self.clock() + REREAD_AFTER)
        if self.token_path is not None:
            token = read(self.token_path, "the token file").decode(errors="replace").strip()
            if not token or not token.isascii() or not token.isprintable():
                raise failures.kubeconfig(f"the token file {self.token_path} holds no token: write one into it")
            identity = replace(identity, authorization=bearer(token))
        if self.certificate_path is not None and self.key_path is not None:
            certificate = read(self.certificate_path, "the client certificate")
            key = read(self.key_path, "the client certificate's key")
            identity = replace(identity, certificate=ClientCertificate(certificate, key))
        return identity


@dataclass(frozen=True, slots=True)
class Plugin:
    """An identity from a credential plugin: ``exec`` of a kubeconfig (ExecCredential v1 and v1beta1).

    What the plugin prints to stderr and what it is called with stay out of our messages: both may hold secrets.
    """

    command: str
    arguments: tuple[str, ...] = field(repr=False)
    api_version: str
    environment: Mapping[str, str] = field(repr=False)
    install_hint: str
    cluster: Mapping[str, Any] | None = None
    fixed: Identity = Identity()
    limit: timedelta = EXEC_LIMIT

    async def __call__(self) -> Identity:
        """Run the plugin; raises Refused when it is missing or misconfigured, Unavailable when it fails."""
        printed = await self._run()
        credential = _credential(printed)
        if credential is None or credential.get("apiVersion") != self.api_version:
            raise failures.kubeconfig(
                f"the credential plugin {self.command!r} printed no ExecCredential of {self.api_version}: "
                "make the kubeconfig's exec.apiVersion one that the plugin speaks, or update the plugin"
            )
        try:
            return self._identity(credential.get("status"))
        except (AttributeError, KeyError, TypeError, ValueError):
            problem = failures.kubeconfig(
                f"the credential plugin {self.command!r} printed neither a token nor a client certificate with its "
                "key that can be used: run it by hand and sign in again"
            )
        raise problem

    def _identity(self, status: Any) -> Identity:
        token, certificate, key = (
            status.get(name) or None for name in ("token", "clientCertificateData", "clientKeyData")
        )
        if token is None and (certificate is None or key is None):
            raise KeyError
        if token is not None and not (token.isascii() and token.isprintable()):
            raise ValueError
        expires_at = _time(status.get("expirationTimestamp"))
        return Identity(
            # A token of the kubeconfig's own goes before the plugin's, as in client-go.
            authorization=self.fixed.authorization or (None if token is None else bearer(token)),
            certificate=ClientCertificate(certificate.encode(), key.encode())
            if certificate and key
            else self.fixed.certificate,
            refresh_at=None if expires_at is None else expires_at - EXPIRY_MARGIN,
            expires_at=expires_at,
        )

    async def _run(self) -> bytes:
        program = shutil.which(self.command, path=self.environment.get("PATH"))
        if program is None:
            hint = f" ({failures.plain(self.install_hint)})" if self.install_hint else ""
            raise failures.kubeconfig(
                f"the credential plugin {self.command!r} is not there or cannot be executed: install it, or put its "
                f"folder on PATH{hint}"
            )
        spec: dict[str, Any] = {"interactive": False}
        if self.cluster is not None:
            spec["cluster"] = self.cluster
        request = {"apiVersion": self.api_version, "kind": "ExecCredential", "spec": spec}
        environment = {**self.environment, "KUBERNETES_EXEC_INFO": json.dumps(request)}
        problem: Refused | Unavailable
        try:
            process = await asyncio.create_subprocess_exec(
                program,
                *self.arguments,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            problem = failures.kubeconfig(f"the credential plugin {self.command!r} cannot be run: {_cause(error)}")
        else:
            try:
                async with asyncio.timeout(self.limit.total_seconds()):
                    assert process.stdout is not None  # PIPE above
                    printed = await _read_at_most(process.stdout, EXEC_OUTPUT_LIMIT_BYTES)
                    if len(printed) <= EXEC_OUTPUT_LIMIT_BYTES and await process.wait() == 0:
                        return printed
                problem = failures.credentials(
                    f"the credential plugin {self.command!r} failed: run it by hand to see why, or sign in again"
                )
            except TimeoutError:
                problem = failures.credentials(
                    f"the credential plugin {self.command!r} did not end within {self.limit.total_seconds():g} s: "
                    "run it by hand to see what it waits for"
                )
            finally:
                if process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)  # with what it has started itself
                    await process.wait()
        raise problem


def read(path: Path, what: str) -> bytes:
    """A file's content; raises Refused that names the file and says what it is for."""
    try:
        return path.read_bytes()
    except OSError as error:
        problem = failures.kubeconfig(f"{what} {path} cannot be read: {_cause(error)}")
    raise problem


async def _read_at_most(stream: asyncio.StreamReader, limit: int) -> bytes:
    """Everything up to the end, or a little more than ``limit`` bytes."""
    parts: list[bytes] = []
    length = 0
    while length <= limit and (part := await stream.read(1 << 16)):
        parts.append(part)
        length += len(part)
    return b"".join(parts)


def _credential(printed: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(printed)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) and document.get("kind") == "ExecCredential" else None


def _time(text: str | None) -> datetime | None:
    """An RFC 3339 time; without a zone it is no time."""
    if text is None:
        return None
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError
    return time


def _cause(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or "not possible"
