"""A real API server that serves our definitions, and a small way to talk to it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol
from uuid import uuid4

import pytest

from keep_operator.cli import crds
from keep_operator.resources import kinds

Json = dict[str, Any]
DRY_RUN = "?dryRun=All"


class Kube(Protocol):
    """A running cluster."""

    @property
    def kubeconfig(self) -> Any:
        """Path of a kubeconfig whose user may do everything."""


@dataclass(frozen=True, slots=True)
class Api:
    """Requests as different clients send them; remembers what was made, to remove it."""

    server: crds.Server
    made: list[str] = field(default_factory=list)

    def path(self, resource: kinds.Resource, name: str | None = None) -> str:
        """The path of a kind or an object, in namespace `default` if it has one."""
        return resource.path("default" if resource.namespaced else None, name)

    def thing(self, resource: kinds.Resource, spec: object, name: str) -> Json:
        """An object of a kind."""
        return {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {"name": name},
            "spec": spec,
        }

    def try_create(self, resource: kinds.Resource, spec: object, name: str | None = None) -> tuple[int, Json]:
        """What the server would answer to a create; nothing is stored."""
        body = self.thing(resource, spec, name or new_name())
        return self.server.send("POST", self.path(resource) + DRY_RUN, body)

    def apply(
        self, resource: kinds.Resource, spec: object, name: str, manager: str, labels: dict[str, str] | None = None
    ) -> tuple[int, Json]:
        """A server-side apply that does not force."""
        self.made.append(path := self.path(resource, name))
        body = self.thing(resource, spec, name)
        if labels:
            body["metadata"]["labels"] = labels
        return self.patch(f"{path}?fieldManager={manager}", "apply-patch+yaml", body)

    def client_side_apply(self, resource: kinds.Resource, spec: object, name: str) -> tuple[int, Json]:
        """What `kubectl apply` sends for an object that exists: a merge patch with the annotation."""
        body = self.thing(resource, spec, name)
        body["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps(body)}
        path = f"{self.path(resource, name)}?fieldManager=kubectl-client-side-apply"
        return self.patch(path, "merge-patch+json", body)

    def patch(self, path: str, kind: str, body: Json) -> tuple[int, Json]:
        """A patch of one of the kinds that Kubernetes knows."""
        headers = {"Accept": "application/json", "Content-Type": f"application/{kind}"}
        request = self.server.client.param_serialize(
            "PATCH", path, header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        response = self.server.client.call_api(*request)
        response.read()
        return response.status, json.loads(response.data)


def new_name() -> str:
    """A name that no other test uses."""
    return f"t-{uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def server(kube: Kube) -> crds.Server:
    """The API server, with our definitions applied and served."""
    server = crds.Server.connect(str(kube.kubeconfig), None)
    crds.apply(server, timedelta(seconds=60), lambda line: None)
    return server


@pytest.fixture
def api(server: crds.Server) -> Iterator[Api]:
    """A client whose objects are gone after the test, also where an operator runs and holds them."""
    api = Api(server)
    yield api
    for path in dict.fromkeys(api.made):
        api.patch(path, "merge-patch+json", {"metadata": {"finalizers": None}})
        server.send("DELETE", path)
