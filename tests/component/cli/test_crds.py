"""`keep-operator crds` against servers that are busy, old, hostile, forbidden or not there."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import pytest
from click.testing import CliRunner, Result

from keep_operator.cli import crds as commands
from keep_operator.resources import crds

pytestmark = pytest.mark.component

Json = dict[str, Any]
Answer = tuple[int, object]
ROOT = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
TENANTS = "tenants.keep-operator.dev"
PROVIDERS = "providers.keep-operator.dev"


@dataclass
class FakeServer:
    """As much of an API server as serves definitions; ``interfere`` may answer in its place."""

    version: str = "v1.36.2"
    stored: dict[str, Json] = field(default_factory=dict)
    interfere: Callable[[str, str], Answer | None] = lambda method, path: None
    keep: Callable[[Json], Json] = lambda crd: crd
    log: list[tuple[str, str]] = field(default_factory=list)
    revision: int = 0

    def answer(self, method: str, path: str, body: Json | None) -> Answer:
        """Status and JSON of the answer to one request."""
        self.log.append((method, path))
        if (other := self.interfere(method, path)) is not None:
            return other
        name = path.removeprefix(f"{ROOT}/")
        if path == "/version":
            return 200, {"gitVersion": self.version}
        if path == "/apis/keep-operator.dev/v1alpha1":
            return 200, {"resources": [{"name": stored.partition(".")[0]} for stored in self.stored]}
        if not path.startswith(ROOT):
            return 200, {"items": []}
        if method == "GET":
            return (200, self.stored[name]) if name in self.stored else failure(404, "not found")
        assert body is not None
        return self.write(body["metadata"]["name"], body)

    def write(self, name: str, body: Json) -> Answer:
        """Stores a definition as an API server does: versions checked, generation counted."""
        old = self.stored.get(name)
        given = body["metadata"].get("resourceVersion")
        if (old is None) != (given is None):
            return failure(409, "already exists")
        if old is not None and given != old["metadata"]["resourceVersion"]:
            return failure(409, "the object has been modified")
        body = self.keep(json.loads(json.dumps(body)))
        self.revision += 1
        generation = 1 if old is None else old["metadata"]["generation"] + (old["spec"] != body["spec"])
        body["metadata"] |= {"resourceVersion": str(self.revision), "generation": generation}
        body["status"] = {"conditions": [{"type": "Established", "status": "True"}]}
        self.stored[name] = body
        return 200 if old else 201, body


def failure(code: int, message: str) -> Answer:
    """A Status object."""
    return code, {"kind": "Status", "code": code, "message": message}


class QuietServer(ThreadingHTTPServer):
    """Says nothing about clients that went away."""

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that gave up is what some tests are about."""


@pytest.fixture
def fake() -> FakeServer:
    """A server without our definitions."""
    return FakeServer()


@pytest.fixture
def kubeconfig(fake: FakeServer, tmp_path: Path) -> Iterator[Path]:
    """A kubeconfig for the fake server."""

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            status, answer = fake.answer(self.command, urlsplit(self.path).path, body)
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = handle_any  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            """Nothing on stderr."""

    server = QuietServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield write_kubeconfig(tmp_path / "kubeconfig", f"http://127.0.0.1:{server.server_address[1]}")
    server.shutdown()
    thread.join()
    server.server_close()


def write_kubeconfig(path: Path, url: str) -> Path:
    """A kubeconfig with one context."""
    entry = {"cluster": {"server": url}, "user": {"token": "canary-token"}}
    config = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "here"}}],
        "clusters": [{"name": "here", "cluster": entry["cluster"]}],
        "users": [{"name": "here", "user": entry["user"]}],
    }
    path.write_text(json.dumps(config))
    return path


def run(kubeconfig: Path, *more: str) -> Result:
    """`keep-operator crds apply`."""
    return CliRunner().invoke(commands.group, ["apply", "--kubeconfig", str(kubeconfig), *more])


def once(method: str, path: str, answer: Answer) -> Callable[[str, str], Answer | None]:
    """Interference with the first such request only."""
    left = [answer]
    return lambda m, p: left.pop() if left and (m, p) == (method, path) else None


def test_a_first_install_and_a_second_run(fake: FakeServer, kubeconfig: Path) -> None:
    """The definitions are made once, and a repetition says that there was nothing to do."""
    first, second = run(kubeconfig), run(kubeconfig)
    assert first.exit_code == 0, first.output
    assert f"{TENANTS} created\n{PROVIDERS} created\n" in first.output
    assert second.exit_code == 0, second.output
    assert f"{TENANTS} unchanged\n{PROVIDERS} unchanged\n" in second.output
    assert "left out" not in first.output + second.output


def test_an_upgrade_keeps_what_others_wrote(fake: FakeServer, kubeconfig: Path) -> None:
    """Helm's labels stay on a definition that is upgraded by hand."""
    run(kubeconfig)
    fake.stored[TENANTS]["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "Helm"}
    fake.stored[TENANTS]["spec"]["versions"][0]["additionalPrinterColumns"] = []
    result = run(kubeconfig)
    assert f"{TENANTS} upgraded\n{PROVIDERS} unchanged\n" in result.output
    assert fake.stored[TENANTS]["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "Helm"}
    assert fake.stored[TENANTS]["spec"]["versions"][0]["additionalPrinterColumns"]


def test_an_old_server_gets_what_it_knows(fake: FakeServer, kubeconfig: Path) -> None:
    """What was left out is said by name, for each definition."""
    fake.version = "v1.20.2"
    result = run(kubeconfig)
    assert result.exit_code == 0, result.output
    assert "x-kubernetes-validations" not in json.dumps(fake.stored)
    assert result.output.count("left out, since this server does not know it: x-kubernetes-validations") == len(
        crds.DEFINITIONS
    )


def test_a_server_that_drops_rules_in_silence_is_found_out(fake: FakeServer, kubeconfig: Path) -> None:
    """A switched-off feature gate is told, though the version promises more."""

    def drop(node: Any) -> Any:
        match node:
            case dict():
                return {key: drop(value) for key, value in node.items() if key != "x-kubernetes-validations"}
            case list():
                return [drop(value) for value in node]
            case _:
                return node

    fake.keep = drop
    result = run(kubeconfig)
    assert result.exit_code == 0, result.output
    assert result.output.count("left out, since this server does not know it: x-kubernetes-validations") == len(
        crds.DEFINITIONS
    )


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/version"), ("GET", f"{ROOT}/{TENANTS}"), ("POST", ROOT), ("GET", f"{ROOT}/{PROVIDERS}")],
)
@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(fake: FakeServer, kubeconfig: Path, method: str, path: str, status: int) -> None:
    """An API server that is just starting does not fail an installation."""
    fake.interfere = once(method, path, failure(status, "try again later"))
    result = run(kubeconfig)
    assert result.exit_code == 0, result.output
    assert set(fake.stored) == {crd["metadata"]["name"] for crd in crds.build_all()}


def test_two_that_install_at_once_do_not_fail_each_other(fake: FakeServer, kubeconfig: Path) -> None:
    """Whoever is second finds the definition there, or changed, and looks again."""
    run(kubeconfig)
    existing = fake.stored.pop(TENANTS)

    def other_was_faster(method: str, path: str) -> Answer | None:
        if (method, path) == ("POST", ROOT):
            fake.stored[TENANTS] = existing
        if (method, path) == ("PUT", f"{ROOT}/{TENANTS}") and fake.revision < 10:
            fake.revision = 10
            existing["metadata"]["resourceVersion"] = "10"
        return None

    fake.interfere = other_was_faster
    result = run(kubeconfig)
    assert result.exit_code == 0, result.output
    assert f"{TENANTS} unchanged" in result.output


def test_a_definition_that_is_being_deleted_is_waited_for(fake: FakeServer, kubeconfig: Path) -> None:
    """What is written into a dying definition would die with it."""
    run(kubeconfig)
    fake.stored[TENANTS]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    looks = iter(range(3))

    def dies(method: str, path: str) -> Answer | None:
        if (
            path.endswith(TENANTS)
            and next(looks, None) is None
            and "deletionTimestamp" in str(fake.stored.get(TENANTS))
        ):
            del fake.stored[TENANTS]
        return None

    fake.interfere = dies
    result = run(kubeconfig)
    assert f"{TENANTS} created" in result.output
    assert result.exit_code == 0, result.output


def test_a_deletion_that_does_not_end_is_named(fake: FakeServer, kubeconfig: Path) -> None:
    """The wait has an end, and says what holds it up."""
    run(kubeconfig)
    fake.stored[TENANTS]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    result = run(kubeconfig, "--timeout", "1")
    assert result.exit_code == 1
    assert "is being deleted, and objects of the kind still hold it (waited 1 s; see --timeout)" in result.output


def test_it_returns_only_when_objects_can_be_written(fake: FakeServer, kubeconfig: Path) -> None:
    """The next command of a script may apply a Tenant at once."""
    looks = iter(range(3))

    def not_yet(method: str, path: str) -> Answer | None:
        return failure(404, "page not found") if "/v1alpha1/tenants" in path and next(looks, None) is not None else None

    fake.interfere = not_yet
    assert run(kubeconfig).exit_code == 0
    assert next(looks, None) is None


def test_who_may_not_list_objects_may_still_install(fake: FakeServer, kubeconfig: Path) -> None:
    """Installing needs no right to read tenants."""
    fake.interfere = lambda method, path: failure(403, "no") if path.endswith("/tenants") else None
    assert run(kubeconfig).exit_code == 0


def test_names_that_are_taken_are_told(fake: FakeServer, kubeconfig: Path) -> None:
    """A clash with another product is explained, not waited out in silence."""
    run(kubeconfig)
    refused = {"type": "NamesAccepted", "status": "False", "message": '"Tenant" is already in use'}

    def clash(method: str, path: str) -> Answer | None:
        fake.stored[TENANTS]["status"] = {"conditions": [refused]}
        return None

    fake.interfere = clash
    result = run(kubeconfig, "--timeout", "1")
    assert result.exit_code == 1
    assert 'its names are taken: "Tenant" is already in use' in result.output


@pytest.mark.parametrize(("method", "path", "verb"), [("GET", f"{ROOT}/{TENANTS}", "get"), ("POST", ROOT, "create")])
def test_a_missing_right_is_explained(fake: FakeServer, kubeconfig: Path, method: str, path: str, verb: str) -> None:
    """The error says which right is missing and who has it."""
    fake.interfere = lambda m, p: failure(403, 'User "ann" cannot') if (m, p) == (method, path) else None
    result = run(kubeconfig)
    assert result.exit_code == 1
    assert f'not allowed to {verb} CustomResourceDefinition {TENANTS}: User "ann" cannot' in result.output
    assert "cluster administrator" in result.output


def test_what_the_server_refuses_is_told_in_its_words(fake: FakeServer, kubeconfig: Path) -> None:
    """A downgrade that would lose a stored version is refused by the server, with its reason."""
    run(kubeconfig)
    fake.interfere = lambda m, p: (
        failure(422, "status.storedVersions[0]: must appear in versions") if m == "PUT" else None
    )
    result = run(kubeconfig)
    assert result.exit_code == 1
    assert "status.storedVersions[0]: must appear in versions" in result.output


@pytest.mark.parametrize("answer", [b"<html>login</html>", b"[]", b"", b"\xff\xfe"])
def test_something_that_is_no_api_server_is_told(fake: FakeServer, kubeconfig: Path, answer: bytes) -> None:
    """A proxy's login page ends in a sentence, not in a traceback."""
    fake.interfere = lambda method, path: (403, answer)
    result = run(kubeconfig)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert result.output.startswith("Error: the API server refused to read /version: the answer is not JSON")


def test_wrong_credentials_are_told_without_showing_them(fake: FakeServer, kubeconfig: Path) -> None:
    """The token of a kubeconfig stands in no message."""
    fake.interfere = lambda method, path: failure(401, "Unauthorized")
    result = run(kubeconfig)
    assert result.exit_code == 1
    assert "does not accept the credentials" in result.output
    assert "canary-token" not in result.output


def test_no_server_is_told(tmp_path: Path) -> None:
    """Whoever forgot to start or choose a cluster is told where nobody answered."""
    result = run(write_kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:9"))
    assert result.exit_code == 1
    assert "no Kubernetes API server answers at http://127.0.0.1:9" in result.output
    assert "Traceback" not in result.output


def test_a_server_that_hangs_is_given_up(fake: FakeServer, kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes the request and never answers does not hang an installation."""
    release = threading.Event()
    monkeypatch.setattr(commands, "_REQUEST_TIMEOUT_S", 0.2)

    def hang(method: str, path: str) -> Answer | None:
        release.wait(30)
        return failure(500, "late")

    fake.interfere = hang
    try:
        result = run(kubeconfig)
    finally:
        release.set()
    assert result.exit_code == 1
    assert "no Kubernetes API server answers" in result.output


@pytest.mark.parametrize("text", [None, "", "a: [", "[]", '{"current-context": "x"}'])
def test_a_broken_kubeconfig_is_told(tmp_path: Path, text: str | None) -> None:
    """Whatever is wrong with it, the remedy is named."""
    path = tmp_path / "kubeconfig"
    if text is not None:
        path.write_text(text)
    result = run(path)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert "no cluster is configured" in result.output
    assert "KUBECONFIG" in result.output


def test_a_context_can_be_chosen(fake: FakeServer, kubeconfig: Path) -> None:
    """The current context is not the only one; an unknown one is told."""
    assert run(kubeconfig, "--context", "here").exit_code == 0
    result = run(kubeconfig, "--context", "elsewhere")
    assert result.exit_code == 1
    assert "elsewhere" in result.output


def test_printing_is_what_stands_in_the_files(tmp_path: Path) -> None:
    """`crds print` can be piped to any tool, or written to a folder; written again, nothing changes."""
    runner = CliRunner()
    printed = runner.invoke(commands.group, ["print"])
    assert printed.output == "---\n".join(crds.render(crd) for crd in crds.build_all())
    first = runner.invoke(commands.group, ["print", "--output-dir", str(tmp_path / "crds")])
    assert first.output.count("written") == len(crds.DEFINITIONS)
    assert runner.invoke(commands.group, ["print", "--output-dir", str(tmp_path / "crds")]).output == ""
    texts = [path.read_text() for path in sorted((tmp_path / "crds").iterdir())]
    assert sorted(texts) == sorted(crds.render(crd) for crd in crds.build_all())


def test_the_sandbox_gets_an_error_to_show(fake: FakeServer, kubeconfig: Path) -> None:
    """Called from code, failures are the same sentences."""
    fake.interfere = lambda method, path: failure(503, "etcd is away")
    server = commands.Server.connect(str(kubeconfig), None)
    with pytest.raises(click.ClickException, match="etcd is away"):
        commands.apply(server, timedelta(seconds=0.5), lambda line: None)
