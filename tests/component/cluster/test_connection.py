"""However a user's kubeconfig says it, the operator reaches the API server or says what is wrong with it."""

import asyncio
import base64
import contextlib
import gc
import json
import os
import socket
import ssl
import stat
import sys
import threading
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
import yaml

from component.cluster import hostile
from component.cluster.hostile import BOUNDS, Hostile, absent, document, status, tenant, text
from keep_operator.cluster import connection
from keep_operator.cluster.client import Cluster
from keep_operator.cluster.connection import Connection, load
from keep_operator.cluster.credentials import Identity, Plugin
from keep_operator.errors import KeepOperatorError, Refused, Unavailable
from keep_operator.resources.kinds import SECRETS, TENANTS

pytestmark = pytest.mark.component

CANARY = "canary-4f1d9c"
NOW = datetime(2025, 1, 31, 12, 0, tzinfo=UTC)
EXEC_V1 = "client.authentication.k8s.io/v1"


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **amount: float) -> None:
        self.now += timedelta(**amount)


def b64(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def write(
    path: Path, server: str = "http://127.0.0.1:1", *, user: Any = None, cluster: Any = None, namespace: str = ""
) -> dict[str, str]:
    """A kubeconfig with one context, and the environment that names it."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "local", "cluster": {"server": server, **(cluster or {})}}],
        "users": [{"name": "me", "user": user or {}}],
        "contexts": [{"name": "here", "context": {"cluster": "local", "user": "me", "namespace": namespace}}],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content))
    return {"KUBECONFIG": str(path), "PATH": os.environ["PATH"]}


def plugin(path: Path, source: str) -> Path:
    """A credential plugin of a few lines of Python."""
    path.write_text(f"#!{sys.executable}\nimport json, os, sys, time\n{source}\n")
    path.chmod(stat.S_IRWXU)
    return path


def prints(credential: dict[str, Any], *, version: str = EXEC_V1) -> str:
    return f"print(json.dumps({{'apiVersion': {version!r}, 'kind': 'ExecCredential', 'status': {credential!r}}}))"


def executes(command: Path | str, **more: Any) -> dict[str, Any]:
    return {"exec": {"apiVersion": EXEC_V1, "command": str(command), "interactiveMode": "Never", **more}}


# -- where it is said -----------------------------------------------------------------------------------------------


async def test_the_current_context_is_used(tmp_path: Path) -> None:
    """What kubectl talks to, with the namespace that it would use."""
    env = write(tmp_path / "config", "http://10.0.0.1:6443/", user={"token": CANARY}, namespace="team")
    connection = load(env)
    assert (connection.server, connection.namespace) == ("http://10.0.0.1:6443", "team")
    assert await connection.headers() == {"Authorization": f"Bearer {CANARY}"}
    assert CANARY not in repr(connection)
    assert CANARY not in repr(await connection.identity())


async def test_several_files_are_merged_as_kubectl_does(tmp_path: Path) -> None:
    """The first file wins, entry by entry, and missing files are passed over."""
    first, second = tmp_path / "a" / "first", tmp_path / "b" / "second"
    write(first, "http://first", user={"token": "first"})
    document = yaml.safe_load(first.read_text())
    del document["current-context"], document["contexts"]
    first.write_text(yaml.safe_dump(document))
    write(second, "http://second", user={"username": "second", "password": "p"}, namespace="from-second")
    third = tmp_path / "third"
    third.write_text("current-context: elsewhere")
    connection = load({"KUBECONFIG": f"{tmp_path}/missing::{first}:{second}:{third}"})
    assert (connection.server, connection.namespace) == ("http://first", "from-second")
    assert await connection.headers() == {"Authorization": "Bearer first"}


async def test_paths_are_relative_to_their_own_file(tmp_path: Path) -> None:
    """A kubeconfig folder can be moved as a whole."""
    (tmp_path / "token").write_text(f"{CANARY}\n")
    write(tmp_path / "config", user={"tokenFile": "token"})
    assert await load({"KUBECONFIG": str(tmp_path / "config")}).headers() == {"Authorization": f"Bearer {CANARY}"}


async def test_a_pod_uses_its_service_account(tmp_path: Path) -> None:
    """In a cluster nothing needs to be configured; a rotated token is used within a minute."""
    authority = trustme.CA()
    for name, content in {"token": "one", "namespace": "keep", "ca.crt": authority.cert_pem.bytes().decode()}.items():
        (tmp_path / name).write_text(content)
    clock = Clock()
    env = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443", "HOME": str(tmp_path)}
    connection = load(env, service_account=tmp_path, clock=clock)
    assert (connection.server, connection.namespace) == ("https://[fd00::1]:6443", "keep")
    assert connection.trust.ca_pem == authority.cert_pem.bytes().decode()
    assert await connection.headers() == {"Authorization": "Bearer one"}
    (tmp_path / "token").write_text("two")
    assert await connection.headers() == {"Authorization": "Bearer one"}
    clock.forward(seconds=61)
    assert await connection.headers() == {"Authorization": "Bearer two"}


async def test_a_token_file_that_is_away_for_a_moment_does_no_harm(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """While the kubelet swaps the file the last token stays in use, and it is tried again."""
    (tmp_path / "token").write_text("one")
    clock = Clock()
    connection = load(write(tmp_path / "config", user={"tokenFile": "token"}), clock=clock)
    await connection.headers()
    (tmp_path / "token").unlink()
    clock.forward(seconds=61)
    assert await connection.headers() == {"Authorization": "Bearer one"}
    assert "were not refreshed" in caplog.text
    (tmp_path / "token").write_text("two")
    clock.forward(seconds=11)
    assert await connection.headers() == {"Authorization": "Bearer two"}


async def test_the_home_folder_s_kubeconfig_comes_last(tmp_path: Path) -> None:
    """Whoever uses kubectl on a laptop need not set anything."""
    write(tmp_path / ".kube" / "config", "http://home")
    assert load({"HOME": str(tmp_path), "KUBECONFIG": ""}).server == "http://home"


def test_no_cluster_at_all(tmp_path: Path) -> None:
    """A fresh machine is told the two ways to go on."""
    with pytest.raises(Refused, match=r"set KUBECONFIG, or start a local cluster with `keep-operator sandbox start`"):
        load({"HOME": str(tmp_path)})


def test_a_pod_without_a_token(tmp_path: Path) -> None:
    """A pod whose account is not mounted is told which field does it."""
    with pytest.raises(Refused, match="automountServiceAccountToken"):
        load({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, service_account=tmp_path)


# -- what is wrong with it ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "cluster", "fact"),
    [
        ({}, {"server": "tcp://x"}, "server is no http or https URL"),
        ({}, {"server": ""}, "server is no http or https URL"),
        ({}, {"proxy-url": f"socks5://u:{CANARY}@x"}, "SOCKS"),
        ({}, {"certificate-authority": "missing.crt"}, "missing.crt cannot be read: No such file"),
        ({}, {"certificate-authority-data": f"{CANARY}!"}, "certificate-authority-data is not base64"),
        ({}, {"certificate-authority": "x", "insecure-skip-tls-verify": True}, "exclude each other"),
        ({}, {"server": {"no": "text"}}, "server is not right"),
        ({"token": CANARY, "username": "u"}, {}, "a token and a password exclude each other"),
        ({"token": f"{CANARY}\n\r\nHost: evil"}, {}, "characters that no token has"),
        ({"token": [CANARY]}, {}, "token is not right"),
        ({"client-key-data": b64(CANARY)}, {}, "needs its key, and a key its certificate"),
        ({"client-certificate": "a.crt", "client-key-data": CANARY + "!"}, {}, "a.crt cannot be read"),
        ({"client-certificate-data": "YQ==", "client-key-data": CANARY + "!"}, {}, "client-key-data is not base64"),
        ({"client-certificate-data": "YQ==", "client-key": "a.key"}, {}, "a.key cannot be read"),
        ({"auth-provider": {"config": {"id-token": CANARY}}}, {}, "auth-provider is no longer supported"),
        ({"as": "admin", "token": CANARY}, {}, "impersonation"),
        (executes("x", apiVersion="client.authentication.k8s.io/v1alpha1"), {}, "exec.apiVersion is not"),
        (executes("x", interactiveMode="Always"), {}, "needs a terminal"),
        ({"exec": {"apiVersion": EXEC_V1}}, {}, "exec.command is not right (missing)"),
    ],
)
def test_a_kubeconfig_that_cannot_work(tmp_path: Path, user: Any, cluster: Any, fact: str) -> None:
    """The message names the file and the fact, and never the secret that stands beside it."""
    env = write(tmp_path / "config", "https://x", user=user, cluster=cluster)
    with pytest.raises(Refused) as caught:
        load(env)
    assert caught.value.reason == "KubeconfigInvalid"
    assert str(tmp_path / "config") in caught.value.message
    assert fact in caught.value.message
    assert_silent_about(CANARY, caught.value)


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        ("", "current-context is not set"),
        ("- a", "its top level is no mapping"),
        (f"token: [{CANARY}", "no YAML (line 1)"),
        (f"a: b\ntoken: {CANARY}: x", "no YAML (line 2)"),
        ("\x00", "no YAML"),
        ("[" * 5000, "no YAML"),
        ("current-context: nowhere", "context 'nowhere', which is not among contexts"),
        (
            "{current-context: a, contexts: [{name: a, context: {cluster: c}}]}",
            "cluster 'c', which is not among clusters",
        ),
        (
            "{current-context: a, contexts: [{name: a, context: {cluster: c, user: u}}], "
            "clusters: [{name: c, cluster: {server: 'http://x'}}]}",
            "user 'u', which is not among users",
        ),
        ("{current-context: a, contexts: {}, clusters: 7, users: [null, 8, {name: 9}]}", "context 'a'"),
        ("{current-context: a, contexts: [{name: a, context: 7}]}", "context is not right"),
    ],
)
def test_a_file_that_is_no_kubeconfig(tmp_path: Path, content: str, fact: str) -> None:
    """A broken file is named with the line, not quoted."""
    (tmp_path / "config").write_text(content)
    with pytest.raises(Refused) as caught:
        load({"KUBECONFIG": str(tmp_path / "config")})
    assert fact in caught.value.message
    assert str(tmp_path / "config") in caught.value.message
    assert_silent_about(CANARY, caught.value)


def test_a_kubeconfig_that_is_not_there(tmp_path: Path) -> None:
    """A mistyped path is shown."""
    with pytest.raises(Refused, match=f"KUBECONFIG names {tmp_path}/missing, which cannot be found"):
        load({"KUBECONFIG": str(tmp_path / "missing"), "KUBERNETES_SERVICE_HOST": "10.0.0.1"})


def test_a_broken_entry_of_another_context_is_of_no_importance(tmp_path: Path) -> None:
    """Twenty clusters in one file, one of them half deleted: the current one works."""
    env = write(tmp_path / "config")
    document = yaml.safe_load((tmp_path / "config").read_text())
    document["users"].append({"name": "other", "user": {"exec": 7}})
    (tmp_path / "config").write_text(yaml.safe_dump(document))
    load(env)


# -- TLS ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    """A server known as kubernetes.default only, that asks for client certificates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("kubernetes.default").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


@contextlib.contextmanager
def deaf_server(tls: ssl.SSLContext) -> Iterator[str]:
    """Begins an answer on each connection and then neither writes nor reads any more; in a thread of its own."""
    held: list[ssl.SSLSocket] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                peer = tls.wrap_socket(listener.accept()[0], server_side=True)
                peer.recv(65536)
                peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{")
                held.append(peer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for peer in held:
                peer.close()


def pair(authority: trustme.CA, name: str) -> tuple[bytes, bytes]:
    certificate = authority.issue_cert(f"{name}.example", common_name=name)
    return certificate.cert_chain_pems[0].bytes(), certificate.private_key_pem.bytes()


async def who(request: Any) -> Any:
    """Answers with the common name of the client's certificate."""
    subject = (request.get_extra_info("peercert") or {}).get("subject", ())
    names = [value for parts in subject for key, value in parts if key == "commonName"]
    return await document(tenant(names[0] if names else "nobody"))(request)


def name_of(answer: Any) -> str:
    return str(answer["metadata"]["name"])


async def test_a_client_certificate_in_the_kubeconfig(
    tmp_path: Path, authority: trustme.CA, server_tls: ssl.SSLContext
) -> None:
    """kind's and the sandbox's kubeconfigs work: a certificate, its key and the authority as data, under another name."""
    certificate, key = pair(authority, "admin")
    async with hostile.serve(server_tls) as api:
        api.otherwise = who
        user = {"client-certificate-data": b64(certificate), "client-key-data": b64(key)}
        ca = {"certificate-authority-data": b64(authority.cert_pem.bytes()), "tls-server-name": "kubernetes.default"}
        async with Cluster(load(write(tmp_path / "config", api.url, user=user, cluster=ca)), bounds=BOUNDS) as cluster:
            assert name_of(await cluster.get(TENANTS, None, "x")) == "admin"


@pytest.mark.parametrize("how", ["a watch that is left", "a call that is cancelled"])
def test_a_server_that_says_no_farewell_holds_no_socket(
    tmp_path: Path, authority: trustme.CA, server_tls: ssl.SSLContext, how: str
) -> None:
    """An operator whose API server hangs does not collect half-closed connections, and ends without one."""

    async def leave(url: str) -> None:
        ca = {"certificate-authority-data": b64(authority.cert_pem.bytes()), "tls-server-name": "kubernetes.default"}
        async with Cluster(load(write(tmp_path / "config", url, user={}, cluster=ca)), bounds=BOUNDS) as cluster:
            if how == "a watch that is left":
                async with cluster.watch(TENANTS, resource_version="1"):
                    pass
            else:
                with pytest.raises(Unavailable):
                    await cluster.get(TENANTS, None, "x")

    gc.collect()
    with deaf_server(server_tls) as url, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        asyncio.run(leave(url))
        gc.collect()
    assert [str(warning.message) for warning in caught] == []


async def test_a_renewed_certificate_is_used_at_once(
    tmp_path: Path, authority: trustme.CA, server_tls: ssl.SSLContext
) -> None:
    """A certificate file that was replaced is read again when the old one is refused; old connections are left."""
    for name, content in zip(("me.crt", "me.key"), pair(authority, "old"), strict=True):
        (tmp_path / name).write_bytes(content)
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    async with hostile.serve(server_tls) as api:
        user = {"client-certificate": "me.crt", "client-key": "me.key"}
        ca = {"certificate-authority": "ca.crt", "tls-server-name": "kubernetes.default"}
        async with Cluster(load(write(tmp_path / "config", api.url, user=user, cluster=ca)), bounds=BOUNDS) as cluster:
            api.answers(who, status(401, "Unauthorized"), who)
            assert name_of(await cluster.get(TENANTS, None, "x")) == "old"
            for name, content in zip(("me.crt", "me.key"), pair(authority, "new"), strict=True):
                (tmp_path / name).write_bytes(content)
            assert name_of(await cluster.get(TENANTS, None, "x")) == "new"


@pytest.mark.parametrize("known_as", ["kubernetes.default", "elsewhere"])
async def test_a_server_that_is_not_trusted(
    tmp_path: Path, authority: trustme.CA, server_tls: ssl.SSLContext, known_as: str
) -> None:
    """A stranger's certificate, or one for another name, is said to be that, and nothing is sent."""
    trusted = authority if known_as == "elsewhere" else trustme.CA()
    async with hostile.serve(server_tls) as api:
        ca = {"certificate-authority-data": b64(trusted.cert_pem.bytes()), "tls-server-name": known_as}
        env = write(tmp_path / "config", api.url, cluster=ca, user={"token": CANARY})
        async with Cluster(load(env), bounds=BOUNDS) as cluster:
            with pytest.raises(Unavailable, match=r"certificate is not trusted .* check the certificate authority"):
                await cluster.get(TENANTS, None, "x")
        assert api.asked == []


async def test_whoever_wants_may_trust_anyone(tmp_path: Path, server_tls: ssl.SSLContext) -> None:
    """insecure-skip-tls-verify does what it says."""
    async with hostile.serve(server_tls) as api:
        api.otherwise = who
        env = write(tmp_path / "config", api.url, cluster={"insecure-skip-tls-verify": True})
        async with Cluster(load(env), bounds=BOUNDS) as cluster:
            assert name_of(await cluster.get(TENANTS, None, "x")) == "nobody"


@pytest.mark.parametrize("case", ["authority", "empty-authority", "pair", "encrypted", "no-pem"])
async def test_certificates_that_cannot_be_used(tmp_path: Path, authority: trustme.CA, case: str) -> None:
    """The message names the context whose certificates are wrong; nobody is asked for a passphrase."""
    certificate, key = pair(authority, "admin")
    other, _ = pair(authority, "other")
    ca = {"authority": "nonsense", "empty-authority": ""}.get(case, authority.cert_pem.bytes().decode())
    (tmp_path / "ca.crt").write_text(ca)
    key = {"encrypted": b"-----BEGIN ENCRYPTED PRIVATE KEY-----", "no-pem": CANARY.encode()}.get(case, key)
    user = {"client-certificate-data": b64(other if case == "pair" else certificate), "client-key-data": b64(key)}
    env = write(tmp_path / "config", "https://127.0.0.1:1", user=user, cluster={"certificate-authority": "ca.crt"})
    connection = load(env)
    with pytest.raises(Refused, match="context 'here'") as caught:
        await connection.check()
    assert caught.value.reason == "KubeconfigInvalid"
    assert_silent_about(CANARY, caught.value)
    async with Cluster(connection) as cluster:
        with pytest.raises(Unavailable, match="context 'here'"):  # no tenant is to blame for it
            await cluster.get(TENANTS, None, "x")


# -- credential plugins ---------------------------------------------------------------------------------------------


async def test_a_plugin_gives_a_token(tmp_path: Path, api: Hostile) -> None:
    """A cloud's kubeconfig works: the plugin is told what it needs to know and its token is shown to the server."""
    source = "open('asked.json', 'w').write(json.dumps([os.environ['KUBERNETES_EXEC_INFO'], sys.argv[1:], os.environ['REGION']]))\n"
    source = source.replace("'asked.json'", repr(str(tmp_path / "asked.json")))
    plugin(tmp_path / "bin.py", source + prints({"token": CANARY}))
    user = executes("./bin.py", args=["get-token"], env=[{"name": "REGION", "value": "eu"}], provideClusterInfo=True)
    env = write(tmp_path / "config", api.url, user=user, cluster={"certificate-authority-data": b64("ca")})
    api.otherwise = document(tenant())
    async with Cluster(load(env), bounds=BOUNDS) as cluster:
        await asyncio.gather(*(cluster.get(TENANTS, None, "x") for _ in range(5)))
    assert {asked.headers["Authorization"] for asked in api.asked} == {f"Bearer {CANARY}"}
    told, arguments, region = json.loads((tmp_path / "asked.json").read_text())
    assert (arguments, region) == (["get-token"], "eu")
    assert json.loads(told) == {
        "apiVersion": EXEC_V1,
        "kind": "ExecCredential",
        "spec": {
            "interactive": False,
            "cluster": {"server": api.url, "certificate-authority-data": b64("ca")},
        },
    }


async def test_a_token_that_ends_is_replaced_in_time(tmp_path: Path) -> None:
    """A token of fifteen minutes is asked for every fifteen minutes, not for every call."""
    counter = tmp_path / "runs"
    counter.write_text("")
    credential = prints({"token": "TOKEN", "expirationTimestamp": "2025-01-31T12:15:00Z"})
    source = f"open({str(counter)!r}, 'a').write('x')\nn = len(open({str(counter)!r}).read())\n"
    script = plugin(tmp_path / "p.py", source + credential.replace("'TOKEN'", "'t%d' % n"))
    clock = Clock()
    connection = load(write(tmp_path / "config", user=executes(script)), clock=clock)
    for _ in range(3):
        assert await connection.headers() == {"Authorization": "Bearer t1"}
    clock.forward(minutes=14, seconds=51)
    assert await connection.headers() == {"Authorization": "Bearer t2"}
    assert await connection.headers() == {"Authorization": "Bearer t2"}, "a plugin that is late is not run in a loop"


async def test_a_plugin_that_fails_while_its_token_lasts(tmp_path: Path) -> None:
    """The sign-in service is down: the token serves until its end, then the failure is told."""
    credential = prints({"token": CANARY, "expirationTimestamp": "2025-01-31T12:15:00Z"})
    failing = tmp_path / "failing"
    script = plugin(tmp_path / "p.py", f"os.path.exists({str(failing)!r}) and sys.exit(1)\n{credential}")
    clock = Clock()
    connection = load(write(tmp_path / "config", user=executes(script)), clock=clock)
    await connection.headers()
    failing.touch()
    clock.forward(minutes=14, seconds=51)
    assert await connection.headers() == {"Authorization": f"Bearer {CANARY}"}
    clock.forward(seconds=10)
    with pytest.raises(Unavailable, match="run it by hand"):
        await connection.headers()


async def test_a_refused_token_is_replaced_once(tmp_path: Path, api: Hostile) -> None:
    """A revoked token costs one run of the plugin, however many calls it was refused for."""
    counter = tmp_path / "runs"
    counter.write_text("")
    source = f"open({str(counter)!r}, 'a').write('x')\nn = len(open({str(counter)!r}).read())\n"
    script = plugin(tmp_path / "p.py", source + prints({"token": "TOKEN"}).replace("'TOKEN'", "'t%d' % n"))

    async def answer(request: Any) -> Any:
        accepted = request.headers["Authorization"] == "Bearer t2"
        return await (document(tenant()) if accepted else status(401, "Unauthorized"))(request)

    api.otherwise = answer
    async with Cluster(load(write(tmp_path / "config", api.url, user=executes(script))), bounds=BOUNDS) as cluster:
        await asyncio.gather(*(cluster.get(TENANTS, None, "x") for _ in range(10)))
    assert counter.read_text() == "xx"


async def test_a_plugin_gives_a_certificate(tmp_path: Path, authority: trustme.CA, server_tls: ssl.SSLContext) -> None:
    """Clusters that hand out short-lived certificates work, too."""
    certificate, key = (part.decode() for part in pair(authority, "from-plugin"))
    script = plugin(
        tmp_path / "p.py",
        prints({"clientCertificateData": certificate, "clientKeyData": key}, version=EXEC_V1 + "beta1"),
    )
    ca = {"certificate-authority-data": b64(authority.cert_pem.bytes()), "tls-server-name": "kubernetes.default"}
    async with hostile.serve(server_tls) as api:
        api.otherwise = who
        env = write(tmp_path / "config", api.url, user=executes(script, apiVersion=EXEC_V1 + "beta1"), cluster=ca)
        async with Cluster(load(env), bounds=BOUNDS) as cluster:
            assert name_of(await cluster.get(TENANTS, None, "x")) == "from-plugin"


@pytest.mark.parametrize(
    ("source", "kind", "fact"),
    [
        (f"sys.stderr.write({CANARY!r}); sys.exit(1)", Unavailable, "failed"),
        (f"print({CANARY!r})", Refused, "no ExecCredential"),
        ("print('[' * 100000)", Refused, "no ExecCredential"),
        (prints({"token": CANARY}, version="v0"), Refused, "no ExecCredential"),
        (prints({}), Refused, "neither a token nor"),
        (prints({"clientCertificateData": CANARY}), Refused, "neither a token nor"),
        (prints({"token": 7}), Refused, "neither a token nor"),
        (prints({"token": f"{CANARY}\nX: y"}), Refused, "neither a token nor"),
        (prints({"token": CANARY, "expirationTimestamp": "soon"}), Refused, "neither a token nor"),
        (prints({"token": CANARY, "expirationTimestamp": "2025-01-31T12:00:00"}), Refused, "neither a token nor"),
        ('print(\'{"kind": "ExecCredential", "apiVersion": %r}\' % 0)', Refused, "no ExecCredential"),
        ("while True: print('x' * 100000)", Unavailable, "failed"),
    ],
)
async def test_a_plugin_that_does_not_deliver(
    tmp_path: Path, source: str, kind: type[KeepOperatorError], fact: str
) -> None:
    """The plugin is named, with what to do; what it printed is not repeated."""
    script = plugin(tmp_path / "p.py", source)
    connection = load(write(tmp_path / "config", user=executes(script, args=[CANARY])))
    with pytest.raises(kind, match=fact) as caught:
        await connection.headers()
    assert str(script) in caught.value.message
    assert_silent_about(CANARY, caught.value)


async def test_a_plugin_that_waits_for_somebody(tmp_path: Path) -> None:
    """A plugin that hangs is ended, and said to have hung."""
    script = plugin(tmp_path / "p.py", f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)")
    obtain = Plugin(str(script), (), EXEC_V1, dict(os.environ), "", limit=timedelta(seconds=0.7))
    with pytest.raises(Unavailable, match=r"did not end within 0\.7 s"):
        await obtain()
    pid = int((tmp_path / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_plugin_that_is_not_installed(tmp_path: Path) -> None:
    """The kubeconfig's own hint says how to get it."""
    env = write(tmp_path / "config", user=executes("no-such-plugin", installHint="see https://example.com"))
    with pytest.raises(Refused, match=r"'no-such-plugin' is not there .* \(see https://example.com\)"):
        await load(env).headers()


# -- what others see ------------------------------------------------------------------------------------------------


def everything_in(error: BaseException | None) -> str:
    """All that a traceback, a debugger or a careless log line could show of an error and what led to it."""
    shown = ""
    while error is not None:
        shown += f"{error}{error!r}{error.args}{vars(error)}"
        error = error.__cause__ or error.__context__
    return shown


def assert_silent_about(secret: str, error: BaseException) -> None:
    assert secret not in everything_in(error)


@pytest.mark.parametrize(
    "user",
    [{"token": CANARY}, {"username": "admin", "password": CANARY}, executes("./p.py")],
    ids=["token", "basic", "exec"],
)
async def test_our_secrets_stay_ours(tmp_path: Path, api: Hostile, user: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A server that repeats our credentials in its errors does not bring them into a condition or a log."""
    caplog.set_level("DEBUG")
    plugin(tmp_path / "p.py", prints({"token": CANARY}))

    def echo(code: int) -> hostile.Answer:
        async def answer(request: Any) -> Any:
            value = request.headers["Authorization"]
            decoded = base64.b64decode(value.removeprefix("Basic ")).decode() if value.startswith("Basic") else value
            return await status(code, "Odd", f"you sent {value}, which is {decoded}", X=value)(request)

        return answer

    async def nonsense(request: Any) -> Any:
        return await text(f"<html>{request.headers['Authorization']}", 200)(request)

    async with Cluster(load(write(tmp_path / "config", api.url, user=user)), bounds=BOUNDS) as cluster:
        for code in (400, 401, 403, 404, 409, 410, 418, 422, 429, 500, 302):
            api.otherwise = echo(code)
            with pytest.raises(KeepOperatorError) as caught:
                await cluster.create(TENANTS, None, {})
            secret = (await cluster.connection.headers())["Authorization"].partition(" ")[2]
            for hidden in (CANARY, secret):
                assert_silent_about(hidden, caught.value)
                assert hidden not in caplog.text
        for broken in (nonsense, hostile.no_answer, hostile.cut_body):
            api.otherwise = broken
            with pytest.raises(KeepOperatorError) as caught:
                await cluster.get(SECRETS, "team", "x")
            assert_silent_about(CANARY, caught.value)
        assert CANARY not in repr(cluster) + repr(cluster.connection) + repr(vars(cluster.connection))
    assert CANARY not in caplog.text


async def test_a_fixed_token_that_is_refused(tmp_path: Path, api: Hostile) -> None:
    """A wrong token is not shown twice, and the way out is named."""
    api.otherwise = status(401, "Unauthorized")
    async with Cluster(load(write(tmp_path / "config", api.url, user={"token": "t"})), bounds=BOUNDS) as cluster:
        with pytest.raises(Unavailable, match="does not accept our credentials: renew them") as caught:
            await cluster.get(TENANTS, None, "x")
    assert caught.value.reason == "ApiUnauthorized"
    assert len(api.asked) == 1


async def test_a_proxy_is_used(api: Hostile, tmp_path: Path) -> None:
    """A cluster behind a proxy is reached through it."""
    api.otherwise = document(tenant())
    env = write(tmp_path / "config", "http://cluster.invalid", cluster={"proxy-url": api.url})
    async with Cluster(load(env), bounds=BOUNDS) as cluster:
        await cluster.get(TENANTS, None, "x")
    assert api.asked[0].headers["Host"] == "cluster.invalid"


# -- sessions for others --------------------------------------------------------------------------------------------


async def test_a_library_s_session_is_signed_in_and_stays_so(api: Hostile) -> None:
    """kopf lists and watches with our identity, also after the token was rotated."""
    tokens = iter(["one", "two"])

    async def obtain() -> Identity:
        return Identity(f"Bearer {next(tokens)}")

    api.answers(document(tenant()), status(401, "Unauthorized"), document(tenant()))
    async with await Connection(api.url, obtain=obtain).open_session() as session:
        for _ in range(2):
            async with session.get(f"{api.url}/apis") as response:
                assert response.status == 200
    assert [asked.headers["Authorization"] for asked in api.asked] == ["Bearer one", "Bearer one", "Bearer two"]


async def test_a_library_s_session_tells_what_was_answered(api: Hostile) -> None:
    """Whether a watch of kopf's lives is known by the answers to its requests; what nobody answered tells nothing."""
    told: list[tuple[str, bool]] = []
    api.answers(document(tenant()), status(403, "Forbidden"), hostile.no_answer)
    async with await Connection(api.url).open_session(lambda *answer: told.append(answer)) as session:
        for path in ("/granted", "/refused"):
            async with session.get(api.url + path):
                pass
        with pytest.raises(aiohttp.ClientError):
            await session.post(f"{api.url}/unanswered")
    assert told == [("/granted", True), ("/refused", False)]


async def test_a_library_s_session_waits_for_a_server_that_has_just_started(
    api: Hostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An API server answers before it serves our kinds: that is no reason to end a watch. A missing object is told at once."""
    monkeypatch.setattr(connection, "UNKNOWN_PATH_WAIT_S", 0.0)
    unknown = hostile.text("404 page not found", 404, "text/plain")
    api.answers(unknown, unknown, document(tenant()), absent("x"), *[unknown] * (connection.UNKNOWN_PATH_TRIES + 1))
    async with await Connection(api.url).open_session() as session:
        for expected in (200, 404, 404):
            async with session.get(f"{api.url}/apis/keep-operator.dev/v1alpha1/tenants") as response:
                assert response.status == expected
    assert len(api.asked) == 3 + 1 + connection.UNKNOWN_PATH_TRIES + 1


async def test_a_library_s_session_is_signed_in_nowhere_else(api: Hostile) -> None:
    """A redirect to another host does not get our token."""
    api.otherwise = document({})
    async with hostile.serve() as server:
        server.otherwise = text("", 302, Location=f"{api.url}/elsewhere")
        connection = Connection(server.url, obtain=lambda: signed_in(CANARY))
        async with await connection.open_session() as session, session.get(f"{server.url}/apis") as response:
            await response.read()
    assert "Authorization" in server.asked[0].headers
    assert "Authorization" not in api.asked[0].headers


async def test_a_library_s_session_knows_the_server_by_its_name(
    tmp_path: Path, authority: trustme.CA, server_tls: ssl.SSLContext
) -> None:
    """tls-server-name and the client certificate hold for kopf as for ourselves."""
    certificate, key = pair(authority, "admin")
    user = {"client-certificate-data": b64(certificate), "client-key-data": b64(key)}
    ca = {"certificate-authority-data": b64(authority.cert_pem.bytes()), "tls-server-name": "kubernetes.default"}
    async with hostile.serve(server_tls) as api:
        api.otherwise = who
        connection = load(write(tmp_path / "config", api.url, user=user, cluster=ca))
        async with await connection.open_session() as session, session.get(f"{api.url}/apis") as response:
            assert name_of(await response.json()) == "admin"


async def signed_in(token: str) -> Identity:
    return Identity(f"Bearer {token}")
