"""What the operator may do in a cluster, and that its roles say no more and no less."""

import itertools

import pytest

from keep_operator.cluster import access

pytestmark = pytest.mark.unit


def granted(*roles: dict[str, object]) -> set[tuple[str, str, str]]:
    rights = set()
    for role in roles:
        for rule in role["rules"]:  # type: ignore[attr-defined]
            rights |= set(itertools.product(rule["apiGroups"], rule["resources"], rule["verbs"]))
    return rights


def test_the_role_grants_what_is_needed_and_nothing_else() -> None:
    """An administrator who reads the role reads exactly what the operator does."""
    needed = {(rule.group, rule.target, verb) for rule in access.RULES for verb in rule.verbs}
    assert granted(access.cluster_role(), *access.own_roles("operator", "here")[:1]) == needed


def test_no_right_is_wide() -> None:
    """No wildcard, no right to write Secrets, Roles or the spec of others, none to escalate."""
    for rule in access.RULES:
        assert "*" not in (rule.group, rule.resource, *rule.verbs)
        assert not {"escalate", "bind", "impersonate", "deletecollection"} & set(rule.verbs)
        if rule.resource == "secrets":
            assert set(rule.verbs) <= {"get", "list", "watch"}
        assert rule.why


def test_secrets_of_some_namespaces_only() -> None:
    """With listed namespaces nothing in the cluster-wide role touches a Secret elsewhere."""
    assert not [right for right in granted(access.cluster_role(["b", "a"])) if right[1] == "secrets"]
    manifests = access.secret_roles("operator", ["b", "a", "a"])
    assert [(m["kind"], m["metadata"]["namespace"]) for m in manifests] == [
        ("Role", "a"),
        ("RoleBinding", "a"),
        ("Role", "b"),
        ("RoleBinding", "b"),
    ]
    together = granted(access.cluster_role(["a"]), access.secret_roles("operator", ["a"])[0])
    assert together == granted(access.cluster_role())
    assert access.secret_roles("operator", []) == []


def test_some_namespaces_only() -> None:
    """With watched namespaces nothing in the cluster-wide role is about objects in a namespace; together it is the same."""
    narrow = access.cluster_role((), ["a"])
    assert {right[1] for right in granted(narrow)} == {
        "tenants",
        "tenants/status",
        "tenants/finalizers",
        "namespaces",
        "customresourcedefinitions",
        "selfsubjectaccessreviews",
        "subjectaccessreviews",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
    }
    roles = access.watched_roles("operator", ["b", "a", "a"])
    assert [(m["kind"], m["metadata"]["namespace"]) for m in roles] == [
        ("Role", "a"),
        ("RoleBinding", "a"),
        ("Role", "b"),
        ("RoleBinding", "b"),
        ("Role", "default"),
        ("RoleBinding", "default"),
    ]
    together = granted(narrow, roles[0], access.secret_roles("operator", ["a"])[0])
    assert together == granted(access.cluster_role())
    assert granted(roles[4]) == {("", "events", "create"), ("", "events", "patch")}
    assert access.watched_roles("operator", []) == []
    assert granted(access.console_role(["a"])) < granted(access.console_role())


def test_a_user_or_a_service_account_gets_the_role() -> None:
    """The sandbox binds a user, the chart a service account."""
    user = access.binding("keep-operator")
    assert user["subjects"] == [{"kind": "User", "name": "keep-operator", "apiGroup": "rbac.authorization.k8s.io"}]
    assert user["roleRef"]["name"] == access.cluster_role()["metadata"]["name"]
    account = access.binding(access.ServiceAccount("keep", "operator"))
    assert account["subjects"] == [{"kind": "ServiceAccount", "namespace": "keep", "name": "operator"}]


def test_the_console_may_ask_and_read_only() -> None:
    """Who takes over the console changes nothing with its rights, and reads no Secret."""
    rights = granted(access.console_role())
    assert rights == {(rule.group, rule.target, verb) for rule in access.CONSOLE_RULES for verb in rule.verbs}
    assert {(target, verb) for _, target, verb in rights if verb not in ("get", "list")} == {
        ("tokenreviews", "create"),
        ("subjectaccessreviews", "create"),
    }
    assert "secrets" not in {target for _, target, _ in rights}
    role, bound = access.console_role(), access.console_binding(access.ServiceAccount("keep", "console"))
    assert bound["roleRef"]["name"] == role["metadata"]["name"]
    assert bound["subjects"] == [{"kind": "ServiceAccount", "namespace": "keep", "name": "console"}]


def test_doctor_asks_for_each_right_where_it_is_needed() -> None:
    """A right that is needed in two namespaces is asked for in both."""
    everywhere = list(access.needed("here"))
    assert {rule.resource for rule, _, namespace in everywhere if namespace == "here"} == {"leases"}
    assert {namespace for _, _, namespace in everywhere} == {"", "here"}
    listed = {(rule.target, verb, namespace) for rule, verb, namespace in access.needed("here", ["b", "a"])}
    assert {("secrets", "list", "a"), ("secrets", "list", "b"), ("tenants", "list", "")} <= listed
    assert ("secrets", "list", "") not in listed
    watched = {(rule.target, verb, namespace) for rule, verb, namespace in access.needed("here", (), ["a"])}
    assert {("secrets", "list", "a"), ("providers", "list", "a"), ("tenants", "list", "")} <= watched
    assert {namespace for target, _, namespace in watched if target == "events"} == {"a", "default"}
    assert {target for target, _, namespace in watched if not namespace and "tenants" not in target} == {
        "namespaces",
        "customresourcedefinitions",
        "selfsubjectaccessreviews",
        "subjectaccessreviews",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
    }
