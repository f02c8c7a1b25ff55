"""Each rule over several fields means the same to the API server (CEL) and to the operator (Python)."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from cel_expr_python import cel
from hypothesis import given
from hypothesis import strategies as st

from keep_operator.resources import crds, provider, tenant
from keep_operator.resources.provider import ProviderSpec
from keep_operator.resources.tenant import TenantSpec

pytestmark = pytest.mark.contract

Json = dict[str, Any]
SCHEMAS = {
    crd["spec"]["names"]["kind"]: crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"] for crd in crds.build_all()
}
ENVIRONMENT = cel.NewEnv(variables={"self": cel.Type.DYN, "oldSelf": cel.Type.DYN})
ABSENT = object()


@cache
def compiled(rule: str) -> Any:
    """The expression, type-checked as far as untyped data allows."""
    return ENVIRONMENT.compile(rule)


def holds(rule: str, value: object, old: object) -> bool:
    """What the API server concludes: a rule that ends in an error does not hold."""
    result = compiled(rule).eval(data={"self": value, "oldSelf": None if old is ABSENT else old})
    # A missing key is not raised but returned as a value of type ERROR.
    return bool(result.type() == cel.Type.BOOL and result.value())


def refused(schema: Json, value: Any, old: Any = ABSENT, path: str = "") -> Iterator[tuple[str, str]]:
    """Path and message of every rule in a schema that a value breaks, as the API server evaluates them.

    A rule on a change is skipped where there is no old value, and inside of lists that are replaced as a whole.
    """
    for entry in schema.get("x-kubernetes-validations", ()):
        change = "oldSelf" in entry["rule"]
        if (not change or old is not ABSENT) and not holds(entry["rule"], value, old):
            yield (path + entry.get("fieldPath", "")).lstrip("."), entry["message"]
    for name, field in schema.get("properties", {}).items():
        if name in value:
            before = ABSENT if old is ABSENT else old.get(name, ABSENT)
            yield from refused(field, value[name], before, f"{path}.{name}")
    if "items" in schema:
        for index, entry in enumerate(value):
            yield from refused(schema["items"], entry, path=f"{path}[{index}]")


def by_server(kind: str, name: str, new: Json, old: Json | None = None) -> set[tuple[str, str]]:
    """What a server with CEL says to an object, or to a change of it."""
    thing = {"metadata": {"name": name}, "spec": new}
    before = ABSENT if old is None else {"metadata": {"name": name}, "spec": old}
    return set(refused(SCHEMAS[kind], thing, before))


def by_operator(kind: str, name: str, new: Json, old: Json | None = None) -> set[tuple[str, str]]:
    """What the operator says to the same."""
    if kind == "Tenant":
        wished = tenant.parse_spec(new)
        assert isinstance(wished, TenantSpec), wished
        found = tenant.violations(wished, name)
        if old is not None:
            had = tenant.parse_spec(old)
            assert isinstance(had, TenantSpec), had
            found += tenant.forbidden_changes(had, wished, name)
    else:
        asked = provider.parse_spec(new)
        assert isinstance(asked, ProviderSpec), asked
        found = provider.violations(asked, name)
        if old is not None:
            was = provider.parse_spec(old)
            assert isinstance(was, ProviderSpec), was
            found += provider.forbidden_changes(was, asked)
    return {(violation.path, violation.message) for violation in found}


def selector(**requirement: object) -> Json:
    """A Tenant's spec with a selector of one requirement."""
    return {"allowedNamespaces": {"selector": {"matchExpressions": [{"key": "a", **requirement}]}}}


KEEP, OTHER = {"tenantRef": {"name": "keep"}}, {"tenantRef": {"name": "other"}}
SLACK, TEAMS = {"type": "slack"}, {"type": "teams"}
# kind, name, spec, earlier spec, the paths that are blamed
SAMPLES: list[tuple[str, str, Json, Json | None, set[str]]] = [
    ("Tenant", "keep", {}, None, set()),
    ("Tenant", "team.a", {}, None, {"spec.tenantId"}),
    ("Tenant", "a" * 63, {}, None, set()),
    ("Tenant", "a" * 64, {}, None, {"spec.tenantId"}),
    ("Tenant", "team.a", {"tenantId": "team-a"}, None, set()),
    ("Tenant", "keep", {}, {}, set()),
    ("Tenant", "keep", {"tenantId": "keep"}, {}, set()),
    ("Tenant", "keep", {}, {"tenantId": "keep"}, set()),
    ("Tenant", "keep", {"tenantId": "other"}, {}, {"spec.tenantId"}),
    ("Tenant", "keep", {}, {"tenantId": "other"}, {"spec.tenantId"}),
    ("Tenant", "keep", {"tenantId": "a"}, {"tenantId": "b"}, {"spec.tenantId"}),
    ("Tenant", "keep", {"allowedNamespaces": {}}, None, {"spec.allowedNamespaces"}),
    ("Tenant", "keep", {"allowedNamespaces": {"names": []}}, None, set()),
    ("Tenant", "keep", {"allowedNamespaces": {"selector": {}}}, None, set()),
    ("Tenant", "keep", {"allowedNamespaces": {"all": True}}, None, set()),
    ("Tenant", "keep", {"allowedNamespaces": {"all": True, "names": ["a"]}}, None, {"spec.allowedNamespaces"}),
    ("Tenant", "keep", selector(operator="In", values=["a"]), None, set()),
    ("Tenant", "keep", selector(operator="Exists"), None, set()),
    ("Tenant", "keep", selector(operator="DoesNotExist", values=[]), None, set()),
    (
        "Tenant",
        "keep",
        selector(operator="NotIn"),
        None,
        {"spec.allowedNamespaces.selector.matchExpressions[0].values"},
    ),
    (
        "Tenant",
        "keep",
        selector(operator="Exists", values=["a"]),
        None,
        {"spec.allowedNamespaces.selector.matchExpressions[0].values"},
    ),
    ("Provider", "vm", SLACK, None, set()),
    ("Provider", "vm.a", SLACK, None, {"spec.externalName"}),
    ("Provider", "vm.a", {**SLACK, "externalName": "VM_a"}, None, set()),
    ("Provider", "vm", {**SLACK, "resyncPeriod": "30s"}, None, set()),
    ("Provider", "vm", {**SLACK, "resyncPeriod": "1h30m"}, None, set()),
    ("Provider", "vm", {**SLACK, "resyncPeriod": "29.999s"}, None, {"spec.resyncPeriod"}),
    ("Provider", "vm", {**SLACK, "resyncPeriod": "0s"}, None, {"spec.resyncPeriod"}),
    ("Provider", "vm", TEAMS, SLACK, {"spec.type"}),
    ("Provider", "vm", SLACK | KEEP, SLACK, set()),
    ("Provider", "vm", SLACK | KEEP, SLACK | KEEP, set()),
    ("Provider", "vm", SLACK | OTHER, SLACK | KEEP, {"spec.tenantRef"}),
    ("Provider", "vm", SLACK, SLACK | KEEP, {"spec.tenantRef"}),
    (
        "Provider",
        "vm.a",
        TEAMS | {"resyncPeriod": "1s"},
        SLACK | KEEP,
        {"spec.externalName", "spec.resyncPeriod", "spec.type", "spec.tenantRef"},
    ),
]


@pytest.mark.parametrize(("kind", "name", "new", "old", "blamed"), SAMPLES)
def test_server_and_operator_say_the_same(kind: str, name: str, new: Json, old: Json | None, blamed: set[str]) -> None:
    """Whether a cluster knows CEL or not, a user gets the same answer about the same field."""
    assert {path for path, _ in by_server(kind, name, new, old)} == blamed
    assert by_operator(kind, name, new, old) == by_server(kind, name, new, old)


# kind, name, spec as it was before there was the rule, spec after an edit, the paths that are blamed
ELDERS: list[tuple[str, str, Json, Json, set[str]]] = [
    ("Tenant", "team.a", {}, {}, set()),
    ("Tenant", "team.a", {}, {"suspend": True}, set()),
    ("Tenant", "team.a", {"tenantId": "team-a"}, {}, {"spec.tenantId"}),
    ("Provider", "vm.a", SLACK, SLACK, set()),
    ("Provider", "vm.a", SLACK, SLACK | {"suspend": True}, set()),
    ("Provider", "vm.a", SLACK | {"externalName": "a"}, SLACK, {"spec.externalName"}),
]


@pytest.mark.parametrize(("kind", "name", "old", "new", "blamed"), ELDERS)
def test_an_object_that_is_older_than_a_rule_can_be_reported_on_and_go(
    kind: str, name: str, old: Json, new: Json, blamed: set[str]
) -> None:
    """Writes of status and finalizers are not refused for what was there before; who newly breaks a rule is."""
    state = {"metadata": {"name": name}, "status": {}}
    found = refused(SCHEMAS[kind], {**state, "spec": new}, {**state, "spec": old})
    assert {path for path, _ in found} == blamed


def rules_of(schema: Json) -> Iterator[tuple[Json, str]]:
    """Every rule below a schema, with the schema that it stands on."""
    for entry in schema.get("x-kubernetes-validations", ()):
        yield schema, entry["rule"]
    for field in schema.get("properties", {}).values():
        yield from rules_of(field)
    if "items" in schema:
        yield from rules_of(schema["items"])


RULES = [(kind, schema, rule) for kind, root in SCHEMAS.items() for schema, rule in rules_of(root)]


def test_every_rule_has_a_sample_that_breaks_it() -> None:
    """No rule is only believed to work."""
    messages = {entry["message"] for _, schema, _ in RULES for entry in schema["x-kubernetes-validations"]}
    broken = {message for kind, name, new, old, _ in SAMPLES for _, message in by_server(kind, name, new, old)}
    assert broken == messages


@pytest.mark.parametrize(("kind", "schema", "rule"), RULES)
def test_rules_speak_only_of_fields_that_exist(kind: str, schema: Json, rule: str) -> None:
    """The API server, which knows the types, refuses a definition whose rule has a slip in a field's name."""
    for path in re.findall(r"\b(?:self|oldSelf)((?:\.\w+)+)", rule):
        node = schema
        for part in path.strip(".").split("."):
            if part in {"matches", "exists_one"}:
                break
            if part == "metadata" and "spec" in node["properties"]:
                assert path.startswith(".metadata.name"), path
                break
            assert part in node["properties"], f"{kind}: {path}"
            node = node["properties"][part]
    assert compiled(rule).return_type() == cel.Type.BOOL or compiled(rule).return_type() == cel.Type.DYN


@pytest.mark.parametrize(("kind", "schema", "rule"), RULES)
def test_a_rule_blames_a_field_that_exists(kind: str, schema: Json, rule: str) -> None:
    """The API server refuses a definition whose `fieldPath` leads nowhere."""
    entry = next(entry for entry in schema["x-kubernetes-validations"] if entry["rule"] == rule)
    node = schema
    for part in entry.get("fieldPath", "").strip(".").split("."):
        node = node["properties"][part] if part else node
    assert not entry["message"].endswith(".")


def test_rules_about_changes_stand_where_they_cannot_be_avoided() -> None:
    """A client cannot skip such a rule by removing the value that it stands on."""
    for kind, schema, rule in RULES:
        if "oldSelf" in rule:
            assert schema is SCHEMAS[kind] or schema is SCHEMAS[kind]["properties"]["spec"], rule
            assert "spec" in SCHEMAS[kind]["required"]


names = st.one_of(
    st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,8}[a-z0-9])?", fullmatch=True),
    st.integers(60, 66).map(lambda length: "a" * length),
)
labels = st.sampled_from(["keep", "other", "a", "a-b", "x" * 63])
numbers = st.one_of(st.integers(0, 120).map(str), st.decimals(0, 120, places=3).map(str))
# Google's C++ evaluator allows 10,000 years, the API server's Go 292: stay below both.
durations = (
    st.lists(st.tuples(numbers, st.sampled_from(["ns", "us", "ms", "s", "m", "h"])), min_size=1, max_size=3)
    .map(lambda parts: "".join(number + unit for number, unit in parts))
    .filter(lambda text: len(text) <= 16)
)


# The evaluator refuses objects with wider ones; to the API server a rule does not even see `config`.
integers = st.integers(-(2**63), 2**63 - 1)


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    """Objects in which each of the fields may be absent."""
    return st.fixed_dictionaries({}, optional=fields)


requirements = st.fixed_dictionaries(
    {"key": labels, "operator": st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist"])},
    optional={"values": st.lists(labels, max_size=2)},
)
selectors = some(
    matchLabels=st.dictionaries(labels, labels, max_size=2), matchExpressions=st.lists(requirements, max_size=3)
)
tenants = some(
    tenantId=labels,
    runtime=st.sampled_from(["builtin", "keep"]),
    allowedNamespaces=some(names=st.lists(labels, max_size=3, unique=True), selector=selectors, all=st.just(True)),
    suspend=st.booleans(),
)
secrets = st.lists(
    st.fixed_dictionaries({"key": labels, "valueFrom": st.just({"secretKeyRef": {"name": "s", "key": "k"}})}),
    max_size=2,
    unique_by=lambda entry: str(entry["key"]),
)
providers = st.fixed_dictionaries(
    {"type": st.sampled_from(["slack", "teams"])},
    optional={
        "tenantRef": st.fixed_dictionaries({"name": labels}),
        "externalName": labels,
        "resyncPeriod": durations,
        "secrets": secrets,
        "config": st.dictionaries(labels, st.none() | integers | st.text(max_size=3), max_size=2),
    },
)


@given(names, tenants, st.none() | tenants)
def test_any_tenant_is_judged_alike(name: str, new: Json, old: Json | None) -> None:
    """No Tenant is accepted here and refused there."""
    assert by_operator("Tenant", name, new, old) == by_server("Tenant", name, new, old)


@given(names, providers, st.none() | providers)
def test_any_provider_is_judged_alike(name: str, new: Json, old: Json | None) -> None:
    """No Provider is accepted here and refused there."""
    assert by_operator("Provider", name, new, old) == by_server("Provider", name, new, old)


@given(durations)
def test_durations_are_as_long_to_us_as_to_the_server(text: str) -> None:
    """A period means the same on both sides, to the microsecond."""
    parsed = provider.parse_spec({"type": "slack", "resyncPeriod": text})
    assert isinstance(parsed, ProviderSpec)
    result = compiled("duration(self)").eval(data={"self": text})
    assert result.value() == parsed.resync_period
