"""What the API server in memory says of itself: its version, and which kinds it serves."""

from collections.abc import Sequence
from typing import Final

from component.apiserver.patches import Json
from component.apiserver.state import ours
from keep_operator.resources.kinds import ACCESS_REVIEWS, Resource

REVIEWS: Final = (
    Resource("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced=False),
    ACCESS_REVIEWS,
)
"""Asked, never stored: everybody may do everything here."""


def find(served: Sequence[Resource], path: list[str]) -> tuple[Resource, str, list[str]] | None:
    """The resource that a path is about, the namespace in it, and what follows; None where nothing is served."""
    match path:
        case ["api", version, *rest] if rest:
            group = ""
        case ["apis", group, version, *rest] if rest:
            pass
        case _:
            return None
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    for resource in (*served, *REVIEWS):
        if (resource.group, resource.version, resource.plural) == (group, version, rest[0]):
            return resource, namespace, rest[1:]
    return None


def describe(served: Sequence[Resource], path: list[str]) -> Json | None:
    """The answer to a question about the server itself; None for every other path."""
    match path:
        case ["version"]:
            return {"major": "1", "minor": "31", "gitVersion": "v1.31.0-in-memory"}
        case ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"]}
        case ["apis"]:
            groups = sorted({(each.group, each.version) for each in served if each.group})
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(*each) for each in groups]}
        case ["api", version]:
            return _resources(served, "", version)
        case ["apis", group, version] if any(each.group == group for each in served):
            return _resources(served, group, version)
    return None


def _group(name: str, version: str) -> Json:
    offered = {"groupVersion": f"{name}/{version}", "version": version}
    return {"name": name, "versions": [offered], "preferredVersion": offered}


def _resources(served: Sequence[Resource], group: str, version: str) -> Json:
    entries = []
    for each in served:
        if (each.group, each.version) == (group, version):
            entry = {"kind": each.kind, "singularName": each.kind.lower(), "namespaced": each.namespaced}
            verbs = ["create", "delete", "get", "list", "patch", "watch"]
            entries.append(entry | {"name": each.plural, "verbs": verbs})
            if ours(each):
                entries.append(entry | {"name": f"{each.plural}/status", "verbs": ["get", "patch"]})
    name = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": entries}
