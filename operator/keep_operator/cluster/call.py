"""One request to the API server, before it is sent."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from keep_operator.cluster import failures
from keep_operator.resources.kinds import Resource

JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"
APPLY_PATCH: Final = "application/apply-patch+yaml"
METADATA_LIST: Final = f"{JSON};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,{JSON}"
TABLE: Final = f"{JSON};as=Table;g=meta.k8s.io;v=v1,{JSON}"
METADATA_WATCH: Final = f"{JSON};as=PartialObjectMetadata;g=meta.k8s.io;v=v1,{JSON}"


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked, in HTTP's terms and in ours.

    ``verb`` is Kubernetes' word (``apply`` for server-side apply), ``target`` the plural with its subresource,
    ``repeatable`` says that sending it twice does no more than sending it once, ``absence_is_answer`` that a
    missing object is an answer and no failure. ``token``: it is asked as whom that belongs to, and not as ourselves.
    """

    verb: str
    target: str
    method: str
    path: str
    object: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = field(default=None, repr=False)
    content_type: str = JSON
    accept: str = JSON
    repeatable: bool = False
    absence_is_answer: bool = False
    token: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return " ".join(part for part in (self.verb, self.target, self.object) if part)


def on_object(  # the coordinates of one object are what they are
    verb: str,
    method: str,
    resource: Resource,
    namespace: str | None,
    name: str,
    subresource: str | None = None,
    **more: Any,
) -> Call:
    """A call on one object; raises Refused if no object can be named so."""
    namespace = _scope(resource, namespace)
    if resource.namespaced and namespace is None:
        raise failures.unnameable(f"the namespace of {resource.kind} {failures.plain(name, 80)}", "")
    _check(resource.kind, name)
    target = resource.plural if subresource is None else f"{resource.plural}/{subresource}"
    path = resource.path(namespace, name, subresource)
    return Call(verb, target, method, path, f"{namespace}/{name}" if namespace else name, **more)


def on_collection(verb: str, method: str, resource: Resource, namespace: str | None, **more: Any) -> Call:
    """A call on all objects of a resource, of one namespace if it is given."""
    namespace = _scope(resource, namespace)
    where = f"in namespace {namespace}" if namespace else ""
    return Call(verb, resource.plural, method, resource.path(namespace), where, **more)


def encode(body: Mapping[str, Any]) -> bytes:
    """JSON as it is sent; lone surrogates are escaped, so that any text of ours can be sent."""
    return json.dumps(body, separators=(",", ":")).encode()


def _scope(resource: Resource, namespace: str | None) -> str | None:
    if not resource.namespaced or not namespace:
        return None
    _check("a namespace", namespace)
    return namespace


def _check(what: str, name: str) -> None:
    # As the API server's own check of path segments; anything else would be another path or another host's.
    if not name or name in (".", "..") or not name.isascii() or not name.isprintable() or set(name) & set("/%?#\\ "):
        raise failures.unnameable(what, name)
