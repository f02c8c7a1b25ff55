"""Which rights the operator really uses, counted at the API server while it does all that it can do."""

import json
from datetime import timedelta
from typing import Final

import pytest

from component.apiserver.server import Exchange
from component.apiserver.state import Name
from component.rig.rig import Rig
from keep_operator.cluster.access import RULES, Reach
from keep_operator.domain.decision import KEPT
from keep_operator.resources.kinds import NAMESPACES, WORKFLOW_DECISIONS, WORKFLOW_REVISIONS
from manifests import config_map, credential, decision, definition, provider, run, secret, tenant, workflow

pytestmark = pytest.mark.component

OWN: Final = "default"  # the namespace of the rig's operators
WATCHED: Final = "monitoring"
TEAM = tenant("team")
PASSWORD = secret("password", WATCHED, password="one")
VM = provider("vm", WATCHED, "team", secrets=[credential("BasicAuthPassword", "password", "password")])
HELLO = workflow("hello", WATCHED, "team", definition("one"))
TEXT = config_map("text", WATCHED, definition=json.dumps(definition("read")))
READING = workflow(
    "reading", WATCHED, "team", definitionFrom={"configMapKeyRef": {"name": "text", "key": "definition"}}
)
AGING = workflow("aging", WATCHED, "team", definition("one"), retention={"sinceCreate": "1m", "sinceLastActive": "1m"})
BACK = decision("Rollback", HELLO, actor="system:serviceaccount:argocd:argocd-server")
RUN = run(HELLO, ttlSecondsAfterFinished=1)
VERBS: Final = {"GET": "get", "LIST": "list", "WATCH": "watch", "POST": "create", "PATCH": "patch", "APPLY": "patch"}
Used = set[tuple[str, str, str]]


async def _live(rig: Rig) -> None:
    """Everything that an operator does for its users, once."""
    rig.server.state.create(NAMESPACES, Name("", WATCHED), {})
    rig.user.apply(TEXT, VM, HELLO, READING)
    await rig.user.condition(VM, "Ready", ("Unknown", "TenantNotFound"))
    rig.user.apply(TEAM, PASSWORD)
    await rig.user.ready(TEAM, VM, HELLO, READING)
    for _ in range(2):  # the second time counts the Event of the first one up
        rig.user.edit(VM, config={"NoSuchField": "x"})
        await rig.user.condition(VM, "Synced", ("False", "InvalidConfig"))
        rig.user.edit(VM, config={"NoSuchField": None})
        await rig.user.ready(VM)
    rig.user.edit(HELLO, definition=definition("two"))
    await rig.user.ready(HELLO)
    await rig.rest()
    rig.user.apply(BACK)
    await rig.user.condition(BACK, "Handled", ("True", "Done"))
    rig.user.apply(RUN)
    await rig.user.condition(RUN, "Succeeded", ("Unknown", "Queued"))
    rig.user.edit(RUN, cancel=True)
    await rig.user.gone(RUN)
    _tamper(rig)
    await rig.rest()
    await _archive(rig)
    _age(rig)
    await rig.user.gone(BACK)
    await rig.rest(25 * 60.0)  # sweeps, resyncs
    rig.user.delete(READING, HELLO, VM, TEAM)
    await rig.user.gone(READING, HELLO, VM, TEAM)


async def _archive(rig: Rig) -> None:
    """A version is old enough to be cleaned up."""
    rig.user.apply(AGING)
    await rig.user.ready(AGING)
    rig.user.edit(AGING, definition=definition("two"))
    await rig.user.ready(AGING)
    before = len(rig.user.objects(WORKFLOW_REVISIONS))
    await rig.rest(120.0)
    rig.user.edit(AGING, revisionHistoryLimit=0)
    await rig.user.eventually(
        lambda: rig.user.objects(WORKFLOW_REVISIONS), lambda left: len(left) < before, "an archive"
    )
    rig.user.delete(AGING)
    await rig.user.gone(AGING)


def _tamper(rig: Rig) -> None:
    """Somebody takes the labels off a version."""
    for name, obj in list(rig.server.state.all(WORKFLOW_REVISIONS).items()):
        bare = {**obj, "metadata": {key: value for key, value in obj["metadata"].items() if key != "labels"}}
        rig.server.state.change(WORKFLOW_REVISIONS, name, bare, manager="somebody")


def _age(rig: Rig) -> None:
    """The decision was handled long ago."""
    for name, obj in list(rig.server.state.all(WORKFLOW_DECISIONS).items()):
        long_ago = rig.server.state.now() - KEPT - timedelta(days=1)
        status = {**obj["status"], "handledAt": long_ago.strftime("%Y-%m-%dT%H:%M:%SZ")}
        rig.server.state.change(
            WORKFLOW_DECISIONS, name, {**obj, "status": status}, manager="time", subresource="status"
        )


def _used(exchanges: list[Exchange], client: str) -> Used:
    """Verb, resource and namespace of each request; a server-side apply that made the object has created it."""
    used: Used = set()
    for each in exchanges:
        if each.client == client:
            used.add((VERBS.get(each.verb, each.verb.lower()), each.target, each.name.namespace))
            if each.verb == "APPLY" and each.code == 201:
                used.add(("create", each.target, each.name.namespace))
    return used


def _granted(reaches: set[Reach] | None = None, *, asked: bool | None = None) -> set[tuple[str, str]]:
    return {
        (verb, rule.target)
        for rule in RULES
        for verb in rule.verbs
        if (reaches is None or rule.reach in reaches) and asked in (None, rule.asked)
    }


@pytest.mark.parametrize("watched", [(), (WATCHED,)], ids=["all namespaces", "one namespace"])
async def test_what_is_granted_is_what_is_used(rig: Rig, watched: tuple[str, ...]) -> None:
    """A right that is taken away would be missed, and nobody is asked for one that is not used."""
    operator = await rig.operate(default_tenant="keep", watch_namespaces=watched, decisions_unverified="Record")
    await _live(rig)
    used = _used(rig.server.exchanges, operator.name)
    plain = {(verb, target) for verb, target, _ in used}
    by_doctor = {("create", "selfsubjectaccessreviews")}
    missing = sorted(plain - _granted())
    assert missing == [], f"used, but not granted by cluster/access.py: {missing}"
    unused = sorted(_granted(asked=True) - plain - by_doctor)
    assert unused == [], f"granted by cluster/access.py, but not used: {unused}"
    if not watched:
        return
    places = {Reach.WATCHED: {WATCHED}, Reach.SECRETS: {WATCHED}, Reach.EVENTS: {"default"}, Reach.OWN: {OWN}}
    for verb, target, namespace in sorted(used):
        allowed = (verb, target) in _granted({Reach.CLUSTER}) or any(
            namespace in where and (verb, target) in _granted({reach}) for reach, where in places.items()
        )
        assert allowed, f"{verb} {target} in namespace {namespace or 'all'} is not granted in namespaced mode"


def test_the_rest_of_the_rights_is_for_admission_plugins() -> None:
    """What is granted without being asked for is what OwnerReferencesPermissionEnforcement wants to see, and no more."""
    assert _granted(asked=False) == {
        ("delete", "providers"),
        ("delete", "workflows"),
        ("update", "tenants/finalizers"),
        ("update", "workflows/finalizers"),
    }
