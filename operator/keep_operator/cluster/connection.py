"""Where the API server is and how to reach it, from a kubeconfig or from inside the cluster."""

import asyncio
import contextlib
import logging
import os
import ssl
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import aiohttp
from aiohttp.connector import NEEDS_CLEANUP_CLOSED
from yarl import URL

from keep_operator.cluster import credentials, failures, kubeconfig
from keep_operator.cluster.credentials import ClientCertificate, Identity
from keep_operator.errors import KeepOperatorError

log = logging.getLogger(__name__)

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where the kubelet puts the token, the certificate authority and the namespace of a pod."""
RENEWAL_PAUSE: Final = timedelta(seconds=5)
"""Refused credentials are renewed at most this often: 64 calls refused at once are no reason for 64 plugin runs."""
RETRY_REFRESH_AFTER: Final = timedelta(seconds=10)
"""When a still valid identity could not be refreshed, it is tried again after this."""
UNKNOWN_PATH_TRIES: Final = 10
UNKNOWN_PATH_WAIT_S: Final = 0.5
"""How often, and how long apart, a server is asked again that does not know a path of ours."""


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose certificates we believe: ``ca_pem`` (None = the system's), under which name, or anyone's."""

    ca_pem: str | None = field(default=None, repr=False)
    server_name: str | None = None
    insecure: bool = False


class Connection:
    """One API server and our way to it; safe to share, made once per process.

    ``server`` is a URL without a slash at its end, ``namespace`` the default one of the context, ``source`` names
    the file or place that it was read from. ``trust`` and ``proxy_url`` are public for others who build clients.
    """

    def __init__(
        self,
        server: str,
        *,
        source: str = "given",
        namespace: str = "default",
        trust: Trust = Trust(),  # frozen
        proxy_url: str | None = None,
        obtain: credentials.Source = credentials.anonymous,
        clock: Callable[[], datetime] = credentials.utc_now,
    ) -> None:
        self.server = server.rstrip("/")
        self.source = source
        self.namespace = namespace
        self.trust = trust
        self.proxy_url = proxy_url
        self._obtain = obtain
        self._clock = clock
        self._identity: Identity | None = None
        self._renewed_at: datetime | None = None
        self._lock = asyncio.Lock()
        # Ours as it is now, and that of those who show a token and no certificate.
        self._tls: dict[ClientCertificate | None, ssl.SSLContext] = {}

    def __repr__(self) -> str:
        return f"Connection({self.server!r}, source={self.source!r})"

    async def identity(self, refused: Identity | None = None) -> Identity:
        """Who we are now; with ``refused`` a newer identity than that one, if there is one to be had.

        Raises Refused or Unavailable when there is none. One caller at a time asks for a new one, the others wait.
        """
        if (known := self._usable(refused)) is not None:
            return known
        async with self._lock:
            if (known := self._usable(refused)) is not None:
                return known
            known, now = self._identity, self._clock()
            if known is not None:
                if self._renewed_at is not None and now - self._renewed_at < RENEWAL_PAUSE:
                    return known
                self._renewed_at = now
            try:
                self._identity = await self._obtain()
            except KeepOperatorError as problem:
                if known is None or known is refused or (known.expires_at is not None and known.expires_at <= now):
                    raise
                log.warning("credentials were not refreshed, the present ones stay in use: %s", problem)
                self._identity = replace(known, refresh_at=now + RETRY_REFRESH_AFTER)
            return self._identity

    def _usable(self, refused: Identity | None) -> Identity | None:
        known = self._identity
        if known is None or known is refused:
            return None
        return known if known.refresh_at is None or self._clock() < known.refresh_at else None

    async def check(self) -> None:
        """Obtain an identity and the TLS settings, so that what is wrong with them is known at the start.

        Raises Refused (a person must change the configuration) or Unavailable (a plugin failed); contacts no server.
        """
        self.tls(await self.identity())

    async def headers(self) -> dict[str, str]:
        """The request headers that show who we are now; ask again for each request."""
        return (await self.identity()).headers

    def tls(self, identity: Identity) -> ssl.SSLContext | None:
        """The TLS settings to use with that identity, None for plain HTTP; a new one only for a new certificate.

        A pool keyed by them never sends a request over a connection that was opened with an older certificate.
        """
        if not self.server.startswith("https:"):
            return None
        if identity.certificate not in self._tls:
            self._tls = {shown: kept for shown, kept in self._tls.items() if shown is None}
            self._tls[identity.certificate] = _context(self.trust, identity.certificate, self.source)
        return self._tls[identity.certificate]

    async def open_session(
        self, answered: Callable[[str, bool], None] = lambda path, granted: None
    ) -> aiohttp.ClientSession:
        """A new HTTP session that shows our identity by itself and renews it once when it is refused.

        For libraries with a client of their own; whoever asks for it closes it. An API server that has just started answers
        before it serves what is defined by CRDs: for some seconds such an answer is not believed. The identity is shown to the API
        server only, never to where a redirect points. ``answered`` is told the path of each request that was answered, and
        whether it was granted.
        """
        tls = self.tls(await self.identity())
        ours = URL(self.server).origin()

        async def authorize(
            request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
        ) -> aiohttp.ClientResponse:
            if request.url.origin() != ours:
                return await handler(request)
            identity = await self.identity()
            request.headers.update(identity.headers)
            request.server_hostname = self.trust.server_name
            response = await handler(request)
            if response.status == 401:
                newer = await self.identity(refused=identity)
                if not newer.shows_the_same(identity):
                    response.close()
                    request.headers.update(newer.headers)
                    response = await handler(request)
            for _ in range(UNKNOWN_PATH_TRIES):
                if not _knows_no_such_path(response):
                    break
                response.close()
                await asyncio.sleep(UNKNOWN_PATH_WAIT_S)
                response = await handler(request)
            answered(request.url.path, response.ok)
            return response

        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, ssl=tls if tls is not None else True, enable_cleanup_closed=NEEDS_CLEANUP_CLOSED
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=self.proxy_url,
            middlewares=(authorize,),
        )


def _knows_no_such_path(response: aiohttp.ClientResponse) -> bool:
    """Whether it is no word about an object, which would be a Status in JSON."""
    return response.status == 404 and response.content_type != "application/json"


def load(
    env: Mapping[str, str],
    *,
    service_account: Path = SERVICE_ACCOUNT,
    clock: Callable[[], datetime] = credentials.utc_now,
) -> Connection:
    """The connection that the environment describes: KUBECONFIG, else the pod's service account, else ~/.kube/config.

    Reads files, runs nothing. Raises Refused (KubeconfigInvalid) that names the file, the fact and the remedy.
    """
    if listed := [Path(name) for name in env.get("KUBECONFIG", "").split(os.pathsep) if name]:
        return _from_kubeconfig(listed, env, clock)
    if host := env.get("KUBERNETES_SERVICE_HOST"):
        return _in_cluster(host, env.get("KUBERNETES_SERVICE_PORT") or "443", service_account, clock)
    usual = Path(env.get("HOME") or "~").expanduser() / ".kube" / "config"
    if os.path.exists(usual):  # False where we may not look
        return _from_kubeconfig([usual], env, clock)
    raise failures.kubeconfig(
        f"no Kubernetes cluster is named: KUBECONFIG is not set, this is no pod, and {usual} does not exist; "
        "set KUBECONFIG, or start a local cluster with `keep-operator sandbox start`"
    )


def _from_kubeconfig(files: list[Path], env: Mapping[str, str], clock: Callable[[], datetime]) -> Connection:
    chosen = kubeconfig.choose(files, env, clock)
    return Connection(
        chosen.server,
        source=chosen.source,
        namespace=chosen.namespace,
        trust=Trust(chosen.ca_pem, chosen.tls_server_name, chosen.insecure),
        proxy_url=chosen.proxy_url,
        obtain=chosen.obtain,
        clock=clock,
    )


def _in_cluster(host: str, port: str, folder: Path, clock: Callable[[], datetime]) -> Connection:
    token, authority, namespace = folder / "token", folder / "ca.crt", folder / "namespace"
    if not os.path.exists(token):
        raise failures.kubeconfig(
            f"this is a pod (KUBERNETES_SERVICE_HOST is set) without a service account's token at {token}: "
            "set automountServiceAccountToken, or set KUBECONFIG"
        )
    return Connection(
        f"https://{f'[{host}]' if ':' in host else host}:{port}",
        source="the pod's service account",
        namespace=(namespace.read_text().strip() if os.path.exists(namespace) else "") or "default",
        trust=Trust(
            ca_pem=credentials.read(authority, "the cluster's certificate authority").decode("ascii", "replace")
        ),
        obtain=credentials.Files(token_path=token, clock=clock),
        clock=clock,
    )


def _context(trust: Trust, certificate: ClientCertificate | None, source: str) -> ssl.SSLContext:
    try:
        if trust.ca_pem is not None and "-----BEGIN" not in trust.ca_pem:
            raise ValueError  # an empty text would mean the system's authorities
        context = ssl.create_default_context(cadata=trust.ca_pem)
        # From Python 3.13 on, strict checks refuse certificate authorities that Kubernetes tools make and Go accepts.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    except (ssl.SSLError, ValueError):
        problem = failures.kubeconfig(
            f"{source}: the cluster's certificate authority is no PEM certificate: copy it again from the cluster"
        )
        raise problem from None
    if trust.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate is not None:
        if b"ENCRYPTED" in certificate.key_pem:
            raise failures.kubeconfig(
                f"{source}: the client certificate's key is encrypted: give the key without a passphrase"
            )
        try:
            with _as_file(certificate.certificate_pem + b"\n" + certificate.key_pem) as path:
                context.load_cert_chain(path, password="")  # never ask on the terminal
        except (ssl.SSLError, OSError, ValueError):
            problem = failures.kubeconfig(
                f"{source}: the client certificate and its key are no PEM pair: get a new pair for the user"
            )
            raise problem from None
    return context


@contextlib.contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """The bytes under a path, in memory where the system can: OpenSSL reads keys from files only."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("keep-operator")
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(content)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
    else:
        with tempfile.NamedTemporaryFile() as file:  # readable by us only
            file.write(content)
            file.flush()
            yield file.name
