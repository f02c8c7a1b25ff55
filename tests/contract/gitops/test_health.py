"""Health in Argo CD and Flux: every state that a user can meet shows as what it is (A-GO-2, A-GO-4)."""

import re
from collections.abc import Iterator
from typing import Any, Final

import pytest

from contract.docs import pages
from gitops import kstatus, lua
from keep_operator.domain import reasons, workflow
from keep_operator.resources.kinds import OURS

pytestmark = pytest.mark.contract

KINDS: Final = [resource.kind for resource in OURS]
# Which kinds have a condition.
CONDITIONS: Final = {
    "Synced": ("Tenant", "Provider", "Workflow"),
    "Suspended": ("Tenant", "Provider", "Workflow"),
    "Deleting": ("Tenant", "Provider", "Workflow", "WorkflowRun"),
    "TenantReady": ("Provider", "Workflow"),
    "CredentialsResolved": ("Provider",),
    "TokensResolved": ("Tenant",),
    **dict.fromkeys(set(workflow.LIVING) - {"Synced", "TenantReady"}, ("Workflow",)),
    **dict.fromkeys(("Valid", "Active", "Rejected"), ("WorkflowRevision",)),
    **dict.fromkeys(("Accepted", "Succeeded", "Archived"), ("WorkflowRun",)),
    "Handled": ("WorkflowDecision",),
}
# What only one of several kinds that have the condition can say.
ONLY: Final = {
    ("Synced", "False", "UnknownProviderType"): ("Provider",),
    ("Synced", "False", "InvalidConfig"): ("Provider",),
    ("Synced", "False", "EncryptionKeyMismatch"): ("Provider",),
    ("Synced", "False", "DatabaseBehind"): ("Provider", "Workflow"),
    ("Synced", "Unknown", "ExternalNameConflict"): ("Provider", "Workflow"),
    ("Synced", "True", "Archived"): ("Workflow",),
    ("Deleting", "True", "Finalizing"): ("Tenant", "Provider", "Workflow"),
    ("Deleting", "True", "DependentsExist"): ("Tenant",),
    ("Deleting", "True", "DrainingRuns"): ("Workflow",),
    ("Deleting", "True", "InUseByWorkflows"): ("Provider",),
}
# What kstatus says of what Argo CD shows; it knows nothing of waiting for a person.
AGREEING: Final = {
    "Healthy": {"Current"},
    "Suspended": {"Current", "InProgress"},
    "Progressing": {"InProgress", "Terminating"},
    "Degraded": {"Failed"},
}


def table(kind: str) -> Iterator[tuple[str, dict[str, Any], dict[str, str]]]:
    """The rows: the name of the sample, the object, and what shall be shown for it."""
    folder = lua.SCRIPTS / kind
    for row in lua.read(folder / "health_test.yaml")["tests"]:
        yield row["inputPath"], lua.read(folder / row["inputPath"]), {"message": "", **row["healthStatus"]}


ROWS: Final = [
    pytest.param(kind, *row, id=f"{kind}/{row[0].removeprefix('testdata/').removesuffix('.yaml')}")
    for kind in KINDS
    for row in table(kind)
]


def told(kind: str) -> set[tuple[str, str, str]]:
    """What the samples of a kind say in their conditions: type, status, reason."""
    return {
        (each["type"], each["status"], each["reason"])
        for _, obj, _ in table(kind)
        for each in (obj.get("status") or {}).get("conditions", ())
    }


def documented() -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    """What can be said: reason, condition, status, and the kinds that can say it; as `docs/operations.md` has it."""
    for row in pages.read(pages.ROOT / "docs" / "operations.md").about("Every reason"):
        for part in row.cells[1].split(";"):
            for condition, truth in places(part):
                kinds = ("WorkflowRevision",) if "of a revision" in part else CONDITIONS.get(condition, ())
                for reason in row.names:
                    yield reason, condition, truth, ONLY.get((condition, truth, reason), kinds)


def places(text: str) -> Iterator[tuple[str, str]]:
    """Conditions and their status, as in "`Synced` Unknown, then False" and "`DefinitionValid`, `Deployed` False"."""
    named: list[str] = []
    closed = False
    for condition, truth in re.findall(r"`(\w+)`|\b(True|False|Unknown)\b", text):
        if truth:
            yield from ((each, truth) for each in named)
            closed = True
        else:
            named = [condition] if closed else [*named, condition]
            closed = False


def test_there_is_a_script_for_every_kind() -> None:
    """No kind of ours is left to Argo CD's guess, which is Healthy."""
    assert sorted(path.name for path in lua.SCRIPTS.iterdir() if path.is_dir()) == sorted(KINDS)


@pytest.mark.parametrize(("kind", "sample", "obj", "expected"), ROWS)
def test_argo_cd_shows_what_is_so(kind: str, sample: str, obj: dict[str, Any], expected: dict[str, str]) -> None:
    """Each sample is a status that the operator writes; the table says what people then see."""
    assert obj["kind"] == kind, sample
    assert lua.health(lua.of(kind, "health.lua"), obj) == expected


@pytest.mark.parametrize(("kind", "sample", "obj", "expected"), ROWS)
def test_nobody_is_waited_for_where_that_is_wished(
    kind: str, sample: str, obj: dict[str, Any], expected: dict[str, str]
) -> None:
    """With the relaxed scripts a sync with waves goes on over what waits for a person, and nothing else changes."""
    relaxed = lua.of(kind, "health.lua").replace(*lua.RELAXED)
    shown = {**expected, "status": expected["status"].replace("Suspended", "Healthy")}
    assert lua.health(relaxed, obj) == shown, sample


@pytest.mark.parametrize(
    ("kind", "sample", "obj", "expected"), [row for row in ROWS if row.values[0] in ("Tenant", "Provider", "Workflow")]
)
def test_flux_sees_the_same_as_argo_cd(kind: str, sample: str, obj: dict[str, Any], expected: dict[str, str]) -> None:
    """What is well here is well there. Only what has no status yet kstatus takes for done: it gets one within a second."""
    told_nothing = not (obj.get("status") or {}).get("conditions")
    agreeing = {"Current"} if told_nothing else AGREEING[expected["status"]]
    assert kstatus.status(obj) in agreeing, (kind, sample)


@pytest.mark.parametrize("kind", KINDS)
def test_every_state_has_a_row(kind: str) -> None:
    """A reason that is new shows up here, so that somebody decides what Argo CD shall show for it."""
    shall = {(type_, truth, reason) for reason, type_, truth, kinds in documented() if kind in kinds}
    assert len(shall) >= 8
    assert shall - told(kind) == set()


def test_no_reason_is_left_out() -> None:
    """Whatever reason a condition can have stands in at least one row."""
    rows = {reason for kind in KINDS for _, _, reason in told(kind)}
    of_no_object = {"NamespaceTerminating", "DatabaseUnsupported", "RevisionTampered"}
    assert reasons.MEANINGS.keys() - rows == of_no_object


@pytest.mark.parametrize("kind", KINDS)
def test_each_sample_is_used_and_shown_once(kind: str) -> None:
    """The table can be handed to Argo CD as it is: no sample lies about unused."""
    used = [sample for sample, _, _ in table(kind)]
    assert len(used) == len(set(used))
    assert {f"testdata/{path.name}" for path in (lua.SCRIPTS / kind / "testdata").iterdir()} == set(used)


@pytest.mark.parametrize("call", ['("x"):upper()', "string.upper('x')", "math.floor(1)", "os.time()", "io.open('x')"])
def test_the_tests_give_scripts_no_more_than_argo_cd_does(call: str) -> None:
    """A script that leans on a library would fail at a user's, so it fails here."""
    with pytest.raises(Exception, match="attempt to"):
        lua.health(f"return {{ status = {call} }}", {})


def test_a_word_that_argo_cd_does_not_know_is_no_health() -> None:
    """A typing error in a script shows as Unknown."""
    assert lua.health('return { status = "Fine" }', {})["status"] == "Unknown"
