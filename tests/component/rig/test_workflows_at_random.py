"""Whatever people do, in whatever order: when they stop, nothing is forgotten, and the history is whole.

Resyncs are switched off, so what nobody wakes stays as it is, and shows: a new process that looks at everything afresh finds
nothing to write.
"""

import random
from collections.abc import Callable
from datetime import timedelta

import pytest
import yaml

from component.rig.process import Operator
from component.rig.rig import Rig
from component.rig.user import User
from keep_operator.domain import revision
from keep_operator.resources.kinds import WORKFLOW_REVISIONS, WORKFLOWS
from manifests import Json, config_map, decision, definition, provider, querying, tenant, workflow

pytestmark = pytest.mark.component
NEVER = timedelta(days=1)
TEAM = tenant("team")
FILE: Json = {"configMapKeyRef": {"name": "files", "key": "flow"}}
DEFINITIONS: tuple[Json, ...] = (
    definition("one"),
    definition("two"),
    definition("one", description="For the night shift"),
    definition("one", disabled=True),
    querying("p1"),
    querying("p2"),
    querying("p1", type="prometheus"),
    {"steps": "none"},
)
TEXTS = ("actions: [", yaml.safe_dump({"workflow": definition("filed")}), "steps: none\n")
STEPS = 40


class People:
    """Some people with one cluster and little discipline."""

    def __init__(self, user: User, seed: int) -> None:
        self._user = user
        self._random = random.Random(seed)  # noqa: S311 - no secret
        self._deeds: tuple[Callable[[], None], ...] = (
            *(self._workflow for _ in range(4)),
            self._another_workflow,
            *(self._provider for _ in range(2)),
            self._file,
            self._version,
            self._tenant,
            self._delete,
            *(self._decide for _ in range(3)),
            self._annotate,
        )
        self._decisions = 0

    def act(self) -> float:
        """Do something; how long they then wait, in seconds."""
        self._random.choice(self._deeds)()
        return self._random.choice((0.0, 0.0, 0.01, 0.2, 3.0))

    def _apply(self, manifest: Json) -> None:
        """As a tool that replaces the spec."""
        old = self._user.get(manifest)
        if old and "deletionTimestamp" in old.raw["metadata"]:
            return
        if old:
            gone = {field: None for field in old.raw["spec"] if field not in manifest["spec"]}
            if "definition" in manifest["spec"] and (before := old.raw["spec"].get("definition")):
                spec = {**manifest["spec"], "definition": {**dict.fromkeys(before), **manifest["spec"]["definition"]}}
                manifest = {**manifest, "spec": spec}
            self._user.edit(manifest, **gone, **manifest["spec"])
        else:
            self._user.apply(manifest)

    def _workflow(self) -> None:
        does = self._random.choice(DEFINITIONS)
        suspend = self._random.random() < 0.15
        limit = self._random.choice((0, 10))
        short = {"sinceCreate": "1s", "sinceLastActive": "1s"}
        spec: Json = {"suspend": suspend, "revisionHistoryLimit": limit, "retention": short}
        if self._random.random() < 0.15:
            spec["release"] = {"pin": self._random.choice(({"revision": 1}, {"revision": 2}, {"tag": "good"}))}
        self._apply(workflow("flow", "default", "team", does, **spec))

    def _another_workflow(self) -> None:
        if self._random.random() < 0.5:
            self._apply(workflow("filed", "default", "team", definitionFrom=FILE))
        else:
            name = self._random.choice(("flow", "other"))
            self._apply(workflow("rival", "default", "team", querying("p1"), externalName=name))

    def _provider(self) -> None:
        name = self._random.choice(("p1", "p2"))
        if self._random.random() < 0.3:
            self._user.delete(provider(name, "default", "team"))
        else:
            external = self._random.choice(("p1", "p2", name))
            self._apply(provider(name, "default", "team", externalName=external))

    def _file(self) -> None:
        if self._random.random() < 0.3:
            self._user.delete(config_map("files", "default"))
        else:
            self._user.apply(config_map("files", "default", flow=self._random.choice(TEXTS)))

    def _version(self) -> None:
        shown = self._user.objects(WORKFLOW_REVISIONS)
        if not shown:
            return
        chosen = self._random.choice(shown).raw
        if self._random.random() < 0.5:
            self._user.delete(chosen)
        else:
            self._user.patch(chosen, {"spec": {"changeNote": "planted"}, "metadata": {"labels": {"planted": "x"}}})

    def _tenant(self) -> None:
        floor = self._random.choice((None, None, {"required": "Always"}))
        policy = None if floor is None else {"approvalFloor": floor}
        self._apply(tenant("team", suspend=self._random.random() < 0.2, **({"policy": policy} if policy else {})))

    def _decide(self) -> None:
        """Whatever comes to mind, about a version that may not be there; one in ten is a copy of an older decision."""
        self._decisions += 1
        number, copy = self._random.randint(1, 5), self._random.random() < 0.1
        request = f"request-{self._random.randint(1, self._decisions) if copy else self._decisions}"
        action = self._random.choice(
            ("Rollback", "Rollback", "Resume", "Deploy", "Reject", "Retry", "Tag", "Untag", "Note")
        )
        spec: Json = {"force": True} if self._random.random() < 0.2 else {}
        if action in ("Tag", "Untag"):
            spec["tag"] = self._random.choice(("good", "bad"))
        if action in ("Deploy", "Reject", "Tag") or (action == "Rollback" and self._random.random() < 0.5):
            spec["revision"] = {"number": number}
        about = workflow(self._random.choice(("flow", "flow", "filed", "rival")), "default")
        made = decision(action, about, request, **spec)
        self._user.apply(made | {"metadata": made["metadata"] | {"name": f"decision-{self._decisions}"}})

    def _annotate(self) -> None:
        """A rollback without a decision's object; now and then the same as before, or one that nobody can read."""
        about = workflow(self._random.choice(("flow", "rival")), "default")
        value = self._random.choice(("previous@1", "previous@2", "1@1", "good@1", "nonsense"))
        if self._user.get(about):
            self._user.patch(about, {"metadata": {"annotations": {"keep-operator.dev/rollback-to": value}}})

    def _delete(self) -> None:
        name = self._random.choice(("flow", "filed", "rival"))
        self._user.delete(workflow(name, "default"))


@pytest.mark.parametrize("seed", range(6))
async def test_nothing_is_forgotten(rig: Rig, seed: int) -> None:
    """What a fresh look at everything finds is what the last look at each has said."""
    operator = await _operate(rig)
    people = People(rig.user, seed)
    for _ in range(STEPS):
        await rig.rest(people.act())
    rig.user.apply(TEAM)
    rig.user.edit(TEAM, suspend=False)
    await rig.rest(90.0)
    assert not operator.ended
    await operator.stop()
    _check(rig)
    second = await _operate(rig)
    await rig.rest(90.0)
    assert rig.spent(second) == {"COMMIT update installation": 1}


async def _operate(rig: Rig) -> Operator:
    return await rig.operate(
        default_tenant="", resync_period=NEVER, sweep_interval=NEVER, decisions_unverified="Record"
    )


def _check(rig: Rig) -> None:
    """Numbers without gaps, hashes that are true, what is active may run, and the objects are those of the rows."""
    lineages = {str(row["id"]): row for row in rig.database.rows("SELECT * FROM keep_operator.workflow")}
    rows = rig.database.rows(
        "SELECT * FROM keep_operator.workflow_revision JOIN keep_operator.revision_state USING (workflow_id, number)"
        " ORDER BY workflow_id, number"
    )
    for lineage, row in lineages.items():
        own = [each for each in rows if str(each["workflow_id"]) == lineage]
        assert [each["number"] for each in own] == [*range(1, row["latest_revision"] + 1)]
        assert all(revision.content_hash(each["definition"]) == each["content_hash"] for each in own)
        if row["active_revision"] is not None:
            active = own[row["active_revision"] - 1]
            assert active["flaw_reason"] is None
            assert not any(each["rejected_reason"] for each in own if each["content_hash"] == active["content_hash"])
    entries = [
        entry["details"]
        for kind in ("WorkflowDecision", "Workflow")
        for entry in rig.database.ledger(kind)
        if entry["action"] == "Handled"
    ]
    handled = [(each["id"], each["requestId"]) for each in entries]
    assert len(handled) == len(set(handled)) == len(rig.database.rows("SELECT 1 FROM keep_operator.handled_decision"))
    synced = [thing for thing in rig.user.objects(WORKFLOWS) if (thing.condition("Synced") or ("",))[0] == "True"]
    living = {thing.status["workflowId"] for thing in synced}
    wanted = {
        (str(each["workflow_id"]), each["number"], each["content_hash"])
        for each in rows
        if each["archived_at"] is None and str(each["workflow_id"]) in living
    }
    shown = [
        spec for thing in rig.user.objects(WORKFLOW_REVISIONS) if (spec := thing.raw["spec"])["lineageId"] in living
    ]
    assert {(each["lineageId"], each["number"], each["contentHash"]) for each in shown} == wanted
    assert len(shown) == len(wanted)
