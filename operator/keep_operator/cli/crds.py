"""`keep-operator crds`: prints the CustomResourceDefinitions, and applies them to a server of any version.

    version ──► leave out what it does not know ──► create or replace (again on conflict) ──► Established ──► served

Whole objects are created and replaced, as no other way works with every server: old ones refuse a server-side apply
that holds fields they do not know. A replace that changes nothing keeps the object's generation.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import click

from keep_operator.resources import crds, kinds

Say = Callable[[str], None]

# One request; a healthy server answers within milliseconds.
_REQUEST_TIMEOUT_S: Final = 15.0
# Between two looks while waiting. A definition is served about a second after it was created.
_PAUSE_S: Final = 0.2
_RETRIED: Final = frozenset({HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS, *range(500, 600)})


@click.group("crds")
def group() -> None:
    """Print or apply the CustomResourceDefinitions."""


@group.command("print")
@click.option(
    "--output-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write one file for each kind into this folder instead of printing.",
)
def print_command(output_dir: Path | None) -> None:
    """Print the CustomResourceDefinitions as YAML, as current servers know them."""
    files = {crds.file_name(crd): crds.render(crd) for crd in crds.build_all()}
    if output_dir is None:
        click.echo("---\n".join(files.values()), nl=False)
        return
    output_dir.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        path = output_dir / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            click.echo(f"{path}: written")


@group.command("apply")
@click.option(
    "--kubeconfig",
    envvar="KUBECONFIG",
    show_envvar=True,
    help="Where the cluster is. Unset: ~/.kube/config, else the pod's service account.",
)
@click.option("--context", help="Context of the kubeconfig. Unset: the current one.")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(min=1), default=60, show_default=True, help="Longest wait, seconds."
)
def apply_command(kubeconfig: str | None, context: str | None, timeout_s: float) -> None:
    """Create or upgrade the CustomResourceDefinitions, and wait until they are served.

    Works with servers of any version: what a server does not know is left out and named. Safe to repeat.
    """
    apply(Server.connect(kubeconfig, context), timedelta(seconds=timeout_s), click.echo)


def apply(server: "Server", timeout: timedelta, say: Say) -> None:
    """Brings the definitions of all kinds to the state of this release; returns when all are served.

    ``say`` gets one line for each definition and for each thing that had to be left out. Raises ClickException with
    the remedy when the server cannot be reached, refuses, or is not done within ``timeout``. Safe to repeat.
    """
    deadline = Deadline(timeout)
    version = str(server.read("/version", deadline)["gitVersion"])
    say(f"{server.url} is Kubernetes {version}")
    features = crds.features_of(version)
    for crd in crds.build_all():
        wanted, left_out = crds.without_unknown(crd, features)
        outcome, stored = _put(server, wanted, deadline)
        say(f"{crd['metadata']['name']} {outcome}")
        for part in (*left_out, *_dropped(wanted, stored)):
            say(f"  left out, since this server does not know it: {part}")
    for definition in crds.DEFINITIONS:
        _wait_until_served(server, definition.resource, deadline)


@dataclass(frozen=True, slots=True)
class Deadline:
    """The end of the time that a command may take."""

    timeout: timedelta
    began: float = field(default_factory=time.monotonic)

    def looks(self) -> Iterator[None]:
        """Yields at once and then after each pause, until the time is over."""
        yield
        while time.monotonic() - self.began < self.timeout.total_seconds():
            time.sleep(_PAUSE_S)
            yield

    def exceeded(self, what: str) -> click.ClickException:
        """The error for when nothing came of it in time."""
        return click.ClickException(f"{what} (waited {self.timeout.total_seconds():g} s; see --timeout)")


@dataclass(frozen=True, slots=True)
class Server:
    """An API server as the official client reaches it; speaks plain JSON, since typed models lose unknown fields."""

    client: Any

    @classmethod
    def connect(cls, kubeconfig: str | None, context: str | None) -> "Server":
        """The server of a kubeconfig (several paths as in KUBECONFIG), or the one that runs this pod.

        Nothing is sent yet. Raises ClickException when there is no usable configuration.
        """
        try:
            import kubernetes  # noqa: PLC0415 -- takes a second; `operate` must not load it
        except ImportError:
            raise click.ClickException("this needs the official client: pip install 'keep-operator[admin]'") from None
        client: Any = kubernetes.client
        config: Any = kubernetes.config
        configuration = client.Configuration()
        configuration.retries = 1
        try:
            try:
                config.load_kube_config(config_file=kubeconfig, context=context, client_configuration=configuration)
            except config.ConfigException:
                if kubeconfig or context:
                    raise
                config.load_incluster_config(client_configuration=configuration)
        except Exception as error:  # a kubeconfig can be wrong in any way, and the client lets most of them through
            reason = " ".join(str(error).split())
            raise click.ClickException(
                f"no cluster is configured ({reason}); set KUBECONFIG, or run this in a pod"
            ) from None
        return cls(client.ApiClient(configuration))

    @property
    def url(self) -> str:
        """Where the server is."""
        return str(self.client.configuration.host)

    def send(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
        """One request; the status code and the JSON object of the answer, whatever the status.

        Raises ClickException when no server answers, and when it does not accept the credentials.
        """
        from kubernetes.client import ApiException  # noqa: PLC0415
        from urllib3.exceptions import HTTPError  # noqa: PLC0415

        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        try:
            request = self.client.param_serialize(
                method, path, header_params=headers, body=body, auth_settings=["BearerToken"]
            )
            response = self.client.call_api(*request, _request_timeout=_REQUEST_TIMEOUT_S)
            response.read()
        except (HTTPError, ApiException, OSError) as error:
            raise click.ClickException(
                f"no Kubernetes API server answers at {self.url} ({_cause(error)}); is KUBECONFIG that of the cluster?"
            ) from None
        if response.status == HTTPStatus.UNAUTHORIZED:
            raise click.ClickException(f"{self.url} does not accept the credentials of the kubeconfig; log in again")
        try:
            answer = json.loads(response.data)
        except ValueError:
            answer = None
        return response.status, answer if isinstance(answer, dict) else {"message": "the answer is not JSON"}

    def read(self, path: str, deadline: Deadline) -> dict[str, Any]:
        """The object at ``path``; waits while the server is busy or starting, raises ClickException if it refuses."""
        for _ in deadline.looks():
            status, answer = self.send("GET", path)
            if status == HTTPStatus.OK:
                return answer
            if status not in _RETRIED:
                raise _refusal("read", path, answer)
        raise deadline.exceeded(f"{self.url} does not answer {path}: {answer.get('message')}")


def _put(server: Server, wanted: dict[str, Any], deadline: Deadline) -> tuple[str, dict[str, Any]]:
    """Creates or replaces one definition; what was done, and what the server stored.

    Whatever else stands in the metadata (labels of Helm, annotations) stays. A definition under deletion is waited for:
    it would go away with all that is written into it.
    """
    name = wanted["metadata"]["name"]
    path = kinds.CUSTOM_RESOURCE_DEFINITIONS.path(name=name)
    manager = f"?fieldManager={kinds.FIELD_MANAGER}"
    obstacle = ""
    for _ in deadline.looks():
        status, live = server.send("GET", path)
        if status == HTTPStatus.NOT_FOUND:
            verb, outcome = "create", "created"
            status, answer = server.send("POST", kinds.CUSTOM_RESOURCE_DEFINITIONS.path() + manager, wanted)
        elif status == HTTPStatus.OK and "deletionTimestamp" in live["metadata"]:
            obstacle = "it is being deleted, and objects of the kind still hold it"
            continue
        elif status == HTTPStatus.OK:
            verb, outcome = "update", "upgraded"
            status, answer = server.send("PUT", path + manager, {**wanted, "metadata": live["metadata"]})
        else:
            verb, outcome, answer = "get", "", live
        if status in (HTTPStatus.OK, HTTPStatus.CREATED):
            same = answer["metadata"]["generation"] == live.get("metadata", {}).get("generation")
            return ("unchanged" if same else outcome), answer
        if status not in _RETRIED:
            raise _refusal(verb, f"CustomResourceDefinition {name}", answer)
        obstacle = str(answer.get("message"))
    raise deadline.exceeded(f"CustomResourceDefinition {name} could not be applied: {obstacle}")


def _wait_until_served(server: Server, resource: kinds.Resource, deadline: Deadline) -> None:
    """Returns when objects of the kind can be read and written; listing them may be forbidden to this user."""
    name = f"{resource.plural}.{resource.group}"
    obstacle = "it is not established yet"
    for _ in deadline.looks():
        _, live = server.send("GET", kinds.CUSTOM_RESOURCE_DEFINITIONS.path(name=name))
        conditions = {condition["type"]: condition for condition in live.get("status", {}).get("conditions") or ()}
        if conditions.get("NamesAccepted", {}).get("status") == "False":
            obstacle = f"its names are taken: {conditions['NamesAccepted'].get('message')}"
        elif conditions.get("Established", {}).get("status") == "True":
            obstacle = "it is established but not served yet"
            _, found = server.send("GET", f"/apis/{resource.group}/{resource.version}")
            discovered = resource.plural in {entry["name"] for entry in found.get("resources") or ()}
            status, _ = server.send("GET", f"{resource.path()}?limit=1")
            if discovered and status in (HTTPStatus.OK, HTTPStatus.FORBIDDEN):
                return
    raise deadline.exceeded(f"CustomResourceDefinition {name} is stored, but {obstacle}")


def _dropped(wanted: object, stored: object) -> tuple[str, ...]:
    """What a server silently ignored although its version is new enough: its feature gate is off."""
    parts = ("x-kubernetes-validations", "selectableFields")
    return tuple(part for part in parts if part in json.dumps(wanted) and part not in json.dumps(stored))


def _refusal(verb: str, what: str, answer: dict[str, Any]) -> click.ClickException:
    message = answer.get("message", "no reason given")
    if answer.get("code") == HTTPStatus.FORBIDDEN:
        return click.ClickException(
            f"not allowed to {verb} {what}: {message}; a cluster administrator has to run this, once for each upgrade"
        )
    return click.ClickException(f"the API server refused to {verb} {what}: {message}")


def _cause(error: BaseException) -> str:
    """The innermost reason, without the client's wrapping."""
    inner = getattr(error, "reason", None)
    return _cause(inner) if isinstance(inner, BaseException) else str(inner or error)
