"""Every API right that a process uses, once, with the reason; roles are made from it, and checked by it.

kopf needs nothing beyond discovery, which every account may do, and the list and watch of our own kinds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from keep_operator.resources.kinds import GROUP

ROLE_NAME: Final = "keep-operator"
CONSOLE_ROLE_NAME: Final = "keep-operator-console"
WATCHED_ROLE_NAME: Final = "keep-operator-watched"
EVENTS_ROLE_NAME: Final = "keep-operator-events"
SECRETS_ROLE_NAME: Final = "keep-operator-secrets"
LEADER_ROLE_NAME: Final = "keep-operator-leader"
RBAC_GROUP: Final = "rbac.authorization.k8s.io"


class Reach(StrEnum):
    """Where a right is needed."""

    CLUSTER = "Cluster"
    """On kinds without a namespace."""
    WATCHED = "Watched"
    """In the namespaces that are watched, if they are listed; else in every namespace."""
    EVENTS = "Events"
    """In the namespace `default`, where Events about kinds without a namespace go, if namespaces are listed."""
    SECRETS = "Secrets"
    """In the namespaces that hold credentials, if they are listed; else where objects are watched."""
    OWN = "Own"
    """In the operator's own namespace."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Verbs on one resource; ``subresource`` is empty for the resource itself.

    ``asked`` is whether we ask for it ourselves; if not, an admission plugin looks whether we might.
    """

    group: str
    resource: str
    verbs: tuple[str, ...]
    why: str
    subresource: str = ""
    reach: Reach = Reach.WATCHED
    asked: bool = True

    @property
    def target(self) -> str:
        """The resource as a role names it: ``tenants/status``."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


_NEVER_USED: Final = (
    "never used: OwnerReferencesPermissionEnforcement lets only who may delete an object give it an owner"
)
_BLOCKS: Final = "owner references that block deletion, where OwnerReferencesPermissionEnforcement is on"
RULES: Final = (
    Rule(
        GROUP,
        "tenants",
        ("get", "list", "watch"),
        "follow the objects; a fresh look before anything is deleted",
        reach=Reach.CLUSTER,
    ),
    Rule(GROUP, "providers", ("get", "list", "watch"), "follow the objects; a fresh look before anything is deleted"),
    Rule(GROUP, "workflows", ("get", "list", "watch"), "follow the objects; a fresh look before a version is made"),
    Rule(GROUP, "workflowrevisions", ("get", "list", "watch"), "whether they are as the database says"),
    Rule(GROUP, "workflowruns", ("get", "list", "watch"), "follow the objects; a fresh look before one is started"),
    Rule(
        GROUP,
        "workflowdecisions",
        ("get", "list", "watch"),
        "follow the objects; a fresh look before one is carried out",
    ),
    Rule(GROUP, "tenants", ("patch",), "finalizer; the default tenant, by server-side apply", reach=Reach.CLUSTER),
    Rule(GROUP, "providers", ("patch",), "finalizer and owner reference"),
    Rule(GROUP, "workflows", ("patch",), "finalizer and owner reference"),
    Rule(GROUP, "workflowruns", ("patch",), "finalizer, and the Workflow as their owner"),
    Rule(GROUP, "workflowdecisions", ("patch",), "the Workflow as their owner"),
    Rule(GROUP, "providers", ("delete",), _NEVER_USED, asked=False),
    Rule(GROUP, "workflows", ("delete",), _NEVER_USED, asked=False),
    Rule(GROUP, "tenants", ("create",), "the default tenant", reach=Reach.CLUSTER),
    Rule(GROUP, "workflowrevisions", ("create",), "the object of a version"),
    Rule(GROUP, "workflowrevisions", ("patch",), "its labels"),
    Rule(GROUP, "workflowruns", ("delete",), "those that ended long enough ago"),
    Rule(GROUP, "workflowdecisions", ("delete",), "those that were handled 30 days ago"),
    Rule(GROUP, "workflowrevisions", ("delete",), "versions that are cleaned up, or do not say what the database says"),
    Rule(GROUP, "tenants", ("patch",), "conditions", subresource="status", reach=Reach.CLUSTER),
    Rule(GROUP, "providers", ("patch",), "conditions", subresource="status"),
    Rule(GROUP, "workflows", ("patch",), "conditions, and which version is active", subresource="status"),
    Rule(GROUP, "workflowrevisions", ("patch",), "what has become of a version", subresource="status"),
    Rule(GROUP, "workflowruns", ("patch",), "what has become of a run", subresource="status"),
    Rule(GROUP, "workflowdecisions", ("patch",), "what came of a decision", subresource="status"),
    Rule(GROUP, "tenants", ("update",), _BLOCKS, subresource="finalizers", reach=Reach.CLUSTER, asked=False),
    Rule(GROUP, "workflows", ("update",), _BLOCKS, subresource="finalizers", asked=False),
    Rule("", "secrets", ("list", "watch"), "which credentials changed, as metadata only", reach=Reach.SECRETS),
    Rule("", "secrets", ("get",), "the credentials that a provider refers to", reach=Reach.SECRETS),
    Rule("", "configmaps", ("list", "watch"), "which definitions changed, as metadata only"),
    Rule("", "configmaps", ("get",), "the definition that a workflow refers to"),
    Rule(
        "",
        "namespaces",
        ("list", "watch"),
        "the labels that a tenant's allowedNamespaces selects by",
        reach=Reach.CLUSTER,
    ),
    Rule(
        "", "events", ("create", "patch"), "what happened to a Tenant; the same again is counted up", reach=Reach.EVENTS
    ),
    Rule("", "events", ("create", "patch"), "what happened to an object; the same again is counted up"),
    Rule("coordination.k8s.io", "leases", ("get", "create", "patch"), "which replica leads", reach=Reach.OWN),
    Rule(
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        ("get",),
        "whether our kinds are served, at start; whether they were defined anew between two sweeps",
        reach=Reach.CLUSTER,
    ),
    *(
        Rule(
            "admissionregistration.k8s.io",
            plural,
            ("get",),
            "whether the chart's policy proves who makes decisions",
            reach=Reach.CLUSTER,
        )
        for plural in ("validatingadmissionpolicies", "validatingadmissionpolicybindings")
    ),
    Rule(
        "authorization.k8s.io",
        "subjectaccessreviews",
        ("create",),
        "whether a service account may decide so, where nothing proves who decides",
        reach=Reach.CLUSTER,
    ),
    Rule(
        "authorization.k8s.io",
        "selfsubjectaccessreviews",
        ("create",),
        "which rights are missing, for `doctor`",
        reach=Reach.CLUSTER,
    ),
)


# What the console uses. It writes nothing: reviews are questions that are asked by `create`, and decisions are made with the
# token of whoever decides. What it lists it shows to those whom a review allows it.
CONSOLE_RULES: Final = (
    Rule("authentication.k8s.io", "tokenreviews", ("create",), "whose token came with a request", reach=Reach.CLUSTER),
    Rule(
        "authorization.k8s.io",
        "subjectaccessreviews",
        ("create",),
        "whether that user may read what was asked for",
        reach=Reach.CLUSTER,
    ),
    Rule(GROUP, "workflows", ("get", "list"), "its pages; what retention depends on: limits, pin"),
    Rule(GROUP, "providers", ("get", "list"), "its pages"),
    Rule(GROUP, "workflowdecisions", ("get",), "what came of a decision"),
    Rule(GROUP, "workflowrevisions", ("list",), "which versions are spared by an annotation, as metadata only"),
    Rule(
        GROUP,
        "tenants",
        ("get", "list"),
        "its pages; the retention that a tenant sets for its workflows",
        reach=Reach.CLUSTER,
    ),
)


# What `keep-operator uninstall` needs: of a person, or of a job that a chart runs.
UNINSTALL_RULES: Final = (
    *(
        Rule(
            GROUP, kind, ("get", "list", "patch", "delete"), "every object goes; with `--orphan` without its finalizer"
        )
        for kind in ("tenants", "providers", "workflows", "workflowruns")
    ),
    *(
        Rule(GROUP, kind, ("get", "list", "delete"), "what no Workflow takes along goes too")
        for kind in ("workflowrevisions", "workflowdecisions")
    ),
    Rule("coordination.k8s.io", "leases", ("get", "list"), "whether an operator leads"),
    Rule("apiextensions.k8s.io", "customresourcedefinitions", ("get",), "whether a kind is defined at all"),
)


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """An account of a pod."""

    namespace: str
    name: str


def cluster_role(secret_namespaces: Sequence[str] = (), watch_namespaces: Sequence[str] = ()) -> dict[str, Any]:
    """The ClusterRole ``keep-operator``; without what is given in listed namespaces (``watched_roles``, ``secret_roles``)."""
    return _role("ClusterRole", {"name": ROLE_NAME}, _everywhere(secret_namespaces, watch_namespaces))


def binding(subject: str | ServiceAccount) -> dict[str, Any]:
    """The ClusterRoleBinding that gives the ClusterRole to a user (by name) or to a service account."""
    return _binding("ClusterRoleBinding", {"name": ROLE_NAME}, "ClusterRole", subject)


def console_role(watch_namespaces: Sequence[str] = ()) -> dict[str, Any]:
    """The ClusterRole ``keep-operator-console``."""
    return _role("ClusterRole", {"name": CONSOLE_ROLE_NAME}, _everywhere((), watch_namespaces), CONSOLE_RULES)


def console_binding(subject: str | ServiceAccount) -> dict[str, Any]:
    """The ClusterRoleBinding that gives it to a user (by name) or to a service account."""
    return _binding("ClusterRoleBinding", {"name": CONSOLE_ROLE_NAME}, "ClusterRole", subject)


def secret_roles(subject: str | ServiceAccount, secret_namespaces: Sequence[str]) -> list[dict[str, Any]]:
    """A Role for Secrets and its RoleBinding in each listed namespace; none are needed if none is listed."""
    manifests = []
    for namespace in sorted(set(secret_namespaces)):
        metadata = {"name": SECRETS_ROLE_NAME, "namespace": namespace}
        manifests.append(_role("Role", metadata, {Reach.SECRETS}))
        manifests.append(_binding("RoleBinding", metadata, "Role", subject))
    return manifests


def watched_roles(subject: str | ServiceAccount, watch_namespaces: Sequence[str]) -> list[dict[str, Any]]:
    """A Role and its RoleBinding in each listed namespace, and those for Events about Tenants; none if none is listed."""
    places = [(WATCHED_ROLE_NAME, namespace, Reach.WATCHED) for namespace in sorted(set(watch_namespaces))]
    manifests = []
    for name, namespace, reach in [*places, (EVENTS_ROLE_NAME, "default", Reach.EVENTS)] if places else []:
        metadata = {"name": name, "namespace": namespace}
        manifests.append(_role("Role", metadata, {reach}))
        manifests.append(_binding("RoleBinding", metadata, "Role", subject))
    return manifests


def own_roles(subject: str | ServiceAccount, namespace: str) -> list[dict[str, Any]]:
    """The Role and its RoleBinding for what the operator keeps in its own namespace."""
    metadata = {"name": LEADER_ROLE_NAME, "namespace": namespace}
    return [_role("Role", metadata, {Reach.OWN}), _binding("RoleBinding", metadata, "Role", subject)]


def needed(
    own: str, secret_namespaces: Sequence[str] = (), watch_namespaces: Sequence[str] = ()
) -> Iterator[tuple[Rule, str, str]]:
    """Each right to ask for, one by one: the rule, the verb and the namespace (empty = all of them).

    ``own`` is the operator's own namespace.
    """
    everywhere = _everywhere(secret_namespaces, watch_namespaces)
    watched = sorted(set(watch_namespaces))
    listed = {
        Reach.OWN: [own],
        Reach.WATCHED: watched,
        Reach.EVENTS: ["default"] if watched else [],
        Reach.SECRETS: sorted(set(secret_namespaces)) or watched,
    }
    for rule in RULES:
        if rule.reach == Reach.EVENTS and not watched:
            continue  # the same right is asked for in every namespace
        for namespace in [""] if rule.reach in everywhere else listed[rule.reach]:
            for verb in rule.verbs:
                yield rule, verb, namespace


def _everywhere(secret_namespaces: Sequence[str], watch_namespaces: Sequence[str]) -> set[Reach]:
    """What reaches over the whole cluster."""
    reaches = {Reach.CLUSTER}
    if not watch_namespaces:
        reaches |= {Reach.WATCHED, Reach.EVENTS}
        if not secret_namespaces:
            reaches.add(Reach.SECRETS)
    return reaches


def granted(rules: Sequence[Rule], reaches: set[Reach]) -> list[dict[str, Any]]:
    """The rules of a role that grants these rights as far as they reach so, one for each resource."""
    verbs: dict[tuple[str, str], list[str]] = {}
    for rule in rules:
        if rule.reach in reaches:
            verbs.setdefault((rule.group, rule.target), []).extend(rule.verbs)
    return [
        {"apiGroups": [group], "resources": [target], "verbs": list(dict.fromkeys(each))}
        for (group, target), each in verbs.items()
    ]


def _role(kind: str, metadata: dict[str, str], reaches: set[Reach], rules: Sequence[Rule] = RULES) -> dict[str, Any]:
    return {
        "apiVersion": f"{RBAC_GROUP}/v1",
        "kind": kind,
        "metadata": metadata,
        "rules": granted(rules, reaches),
    }


def _binding(kind: str, metadata: dict[str, str], role_kind: str, subject: str | ServiceAccount) -> dict[str, Any]:
    match subject:
        case ServiceAccount(namespace, name):
            bound = {"kind": "ServiceAccount", "namespace": namespace, "name": name}
        case str():
            bound = {"kind": "User", "name": subject, "apiGroup": RBAC_GROUP}
    return {
        "apiVersion": f"{RBAC_GROUP}/v1",
        "kind": kind,
        "metadata": metadata,
        "roleRef": {"apiGroup": RBAC_GROUP, "kind": role_kind, "name": metadata["name"]},
        "subjects": [bound],
    }
