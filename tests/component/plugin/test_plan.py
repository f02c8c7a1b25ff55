"""`kubectl keep plan`: what people, pipelines and pull requests are told before anything is applied."""

import json
import re
from pathlib import Path

import pytest
import yaml

from keep_operator.domain import revision

from .conftest import HASHES, Json, Terminal, definition
from .test_read_api import ARCHIVED, Console, console  # noqa: F401 -- a fixture
from .test_terminal import on_a_terminal, plain

pytestmark = pytest.mark.component

META = {"uid": "t-1", "resourceVersion": "1", "creationTimestamp": "2026-11-01T00:00:00Z", "generation": 1}


def tenant(**spec: object) -> Json:
    """The default Tenant, Ready."""
    ready = {"type": "Ready", "status": "True", "reason": "Ready", "message": "It is so"}
    return {
        "apiVersion": "keep-operator.dev/v1alpha1",
        "kind": "Tenant",
        "metadata": {**META, "name": "keep"},
        "spec": spec,
        "status": {"tenantId": "keep", "observedGeneration": 1, "conditions": [ready]},
    }


def manifest(limit: int, name: str = "high-cpu", **spec: object) -> Json:
    """A Workflow as it stands in Git."""
    return {
        "apiVersion": "keep-operator.dev/v1alpha1",
        "kind": "Workflow",
        "metadata": {"name": name},
        "spec": {"definition": {**definition(limit), "description": "Tells the channel."}, **spec},
    }


@pytest.fixture
def settled(terminal: Terminal) -> Terminal:
    """v3 is active and asked for, after v1 and v2; the Tenant asks for nothing."""
    terminal.put(tenant())
    flow = terminal.objects["workflows.keep-operator.dev/high-cpu"]
    owner = {"apiVersion": flow["apiVersion"], "kind": "Tenant", "name": "keep", "uid": META["uid"]}
    flow["metadata"] |= {
        **META,
        "uid": "w-1",
        "generation": 3,
        "finalizers": ["keep-operator.dev/workflow"],
        "ownerReferences": [{**owner, "controller": False, "blockOwnerDeletion": True}],
    }
    status = flow["status"]
    del status["hold"]
    status["history"] = status["history"][1:]
    status |= {
        "tenantId": "keep",
        "observedGeneration": 3,
        "activeRevision": {"number": 3, "contentHash": HASHES[3]},
        "latestCreatedRevision": {"number": 3, "contentHash": HASHES[3]},
    }
    for number in (1, 2, 3):
        name = next(name for name in terminal.objects if f"-v{number}-" in name)
        terminal.objects[name]["status"]["firstActiveAt"] = f"2026-11-25T0{number}:00:00Z"
    return terminal


def write(tmp_path: Path, *things: Json) -> str:
    path = tmp_path / "flows.yaml"
    path.write_text("---\n".join(yaml.safe_dump(each, sort_keys=False) for each in things), encoding="utf-8")
    return str(path)


def planned(terminal: Terminal, path: str, *words: str) -> Json:
    """The one Workflow of the plan, as data."""
    result = terminal.keep("plan", "-f", path, "-o", "json", *words)
    (found,) = json.loads(result.stdout)["workflows"]
    assert isinstance(found, dict)
    return found


FLOOR = {
    "approvalFloor": {
        "required": "ImportantOnly",
        "importantPaths": ["consts"],
        "minApprovals": 2,
        "approvers": {"groups": ["sre"]},
    }
}
RELEASE = {
    "checklist": [
        {"id": "load", "title": "Load was looked at"},
        {"id": "dry", "title": "Ten dry runs", "auto": "runs.dryRun.succeeded >= 10"},
    ],
    "strategy": {
        "type": "Canary",
        "canary": {
            "steps": [
                {"setWeight": 10},
                {"pause": {"duration": "10m"}},
                {"analysis": {"minRuns": 5, "window": "90s", "maxFailureRatePercent": 10}},
                {"pause": {}},
            ]
        },
    },
    "autoRollback": {"enabled": True, "window": "1h", "minRuns": 5, "maxFailureRatePercent": 20},
}

TEXT = """\
monitoring/high-cpu  would change, and be held  (FILE)
  Changes definition, release.strategy, release.checklist, release.autoRollback
  New version v4 (199cf782)
  Against v3 (980dfc05), which is active:
    Settings
      changed  consts
        limit: 30 -> 50
  held     Approval: v4 (199cf782) needs approval, since it is important, 2 to come. Decide Approve or Deny.
  held     Checklist: Left to do or to be found true: load ("Load was looked at"), dry ("Ten dry runs")
  Approval: 2 approvals from group sre, not the author (ImportantOnly, by the Tenant's floor; importantPaths consts touched)
  Checklist [ ] load: Load was looked at, by a person
  Checklist [ ] dry: Ten dry runs, by itself, once runs.dryRun.succeeded >= 10
  Takes over as a canary: 10 % of the runs; wait 10m; go on if, of 5 runs or more within 1m30s, at most 10 % failed; \
wait for a person (promote or abort); then all runs
  Automatic rollback: within 1h, if of 5 runs or more over 20 % fail
  v3 (980dfc05) stays active

monitoring/other  would be created, and held  (FILE)
  Does: triggers interval; actions notify
  New version v1 (53b8387f)
  held     Approval: v1 (53b8387f) needs approval, since it is important, 2 to come. Decide Approve or Deny.
  Approval: 2 approvals from group sre, not the author (ImportantOnly, by the Tenant's floor; importantPaths consts touched)
  Takes over at once
  Nothing is active yet

Not planned: Provider slack
2 Workflows: 2 held.
"""

MARKDOWN = """\
<!-- kubectl-keep-plan -->
### kubectl keep plan: 1 Workflow: 1 held.

| Workflow | Outcome | Version | Held by |
|---|---|---|---|
| `monitoring/high-cpu` | would change, and be held | v4 (199cf782) | Approval |

<details open><summary><code>monitoring/high-cpu</code> would change, and be held</summary>

- Changes definition
- New version v4 (199cf782)
- **Held by Approval**: v4 (199cf782) needs approval, since it is important, 2 to come. Decide Approve or Deny.
- Approval: 2 approvals from group sre, not the author (ImportantOnly, by the Tenant's floor; importantPaths consts touched)
- Takes over at once
- v3 (980dfc05) stays active

Against v3 (980dfc05), which is active:

```text
Settings
  changed  consts
    limit: 30 -> 50
```
```diff
@@ -1,5 +1,5 @@
 consts:
-  limit: 30
+  limit: 50
 triggers:
 - type: interval
   value: 5m
```

</details>
"""


def gates(found: Json) -> list[str]:
    """The names of the gates that are shut."""
    return [each["gate"] for each in found["held"]]


def test_a_terminal_shows_what_would_hold_it(settled: Terminal, tmp_path: Path) -> None:
    """Before anything is merged one call says which version comes, what it changes, who must say yes, and how it would run."""
    settled.put(tenant(policy=FLOOR))
    slack = {"apiVersion": "keep-operator.dev/v1alpha1", "kind": "Provider", "metadata": {"name": "slack"}, "spec": {}}
    path = write(tmp_path, manifest(50, release=RELEASE), manifest(20, "other"), slack)
    result = settled.keep("plan", "-f", path)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.replace(path, "FILE") == TEXT


def test_a_pull_request_gets_a_comment(settled: Terminal, tmp_path: Path) -> None:
    """What the review must know stands on top, the difference below it, and nothing in it is markup of a stranger."""
    settled.put(tenant(policy=FLOOR))
    assert settled.keep("plan", "-f", write(tmp_path, manifest(50)), "-o", "markdown").stdout == MARKDOWN
    nasty = manifest(50)
    nasty["spec"]["definition"]["actions"][0]["provider"]["with"]["message"] = "```\n</details> @everybody \u202eelpoep"
    shown = settled.keep("plan", "-f", write(tmp_path, nasty), "-o", "markdown").stdout
    assert "````diff" in shown
    assert "@everybody \\u202eelpoep" in shown
    big = manifest(50)
    big["spec"]["definition"]["consts"]["text"] = "\n".join(f"line {each} of many" for each in range(6000))
    long = settled.keep("plan", "-f", write(tmp_path, big), "-o", "markdown").stdout
    assert len(long) < 65_536
    assert "What differs is too long for a comment" in long


@pytest.mark.parametrize(
    ("limit", "spec", "outcome", "code"),
    [
        (30, {}, "Unchanged", 0),
        (40, {}, "Changes", 10),
        (30, {"suspend": True}, "Changes", 10),
        (40, {"release": {"approval": {"required": "Always"}}}, "Held", 11),
        (40, {"release": {"strategy": {"type": "Manual"}}}, "Held", 11),
        (40, {"release": {"pin": {"revision": 3}}}, "Held", 11),
        (40, {"release": {"autoRollback": {"enabled": True}}}, "Faulty", 1),
        (40, {"nonsense": True}, "Faulty", 1),
    ],
)
def test_pipelines_tell_the_ends_apart(
    settled: Terminal, tmp_path: Path, limit: int, spec: Json, outcome: str, code: int
) -> None:
    """A pipeline lets through what nothing holds, asks people about the rest, and stops at faults, by the exit code alone."""
    path = write(tmp_path, manifest(limit, **spec))
    assert planned(settled, path)["outcome"] == outcome
    assert settled.keep("plan", "-f", path, "--exit-code").exit_code == code
    assert settled.keep("plan", "-f", path).exit_code == (1 if code == 1 else 0)


def test_a_description_makes_no_version(settled: Terminal, tmp_path: Path) -> None:
    """What people merely read changes the object, and nothing that runs."""
    said = manifest(30)
    said["spec"]["definition"]["description"] = "Tells everybody."
    found = planned(settled, write(tmp_path, said))
    assert (found["outcome"], found["revision"], found["differences"]) == ("Changes", None, [])
    assert "No new version" in settled.keep("plan", "-f", write(tmp_path, said)).stdout


def test_an_older_content_comes_back_as_a_version_of_its_own(settled: Terminal, tmp_path: Path) -> None:
    """Who reverts in Git sees that it is the content of before, and that the rollback window spares it the canary."""
    steps = {"steps": [{"setWeight": 10}, {"pause": {}}], "rollbackWindow": {"revisions": 2}}
    strategy = {"type": "Canary", "canary": steps}
    found = planned(settled, write(tmp_path, manifest(20, release={"strategy": strategy})))
    assert (found["revision"]["sameContentAs"], found["outcome"]) == (2, "Changes")
    assert "rollbackWindow" in found["release"]["skipsSteps"]
    assert found["then"]["active"]["number"] == 4
    other = planned(settled, write(tmp_path, manifest(40, release={"strategy": strategy})))
    assert (other["outcome"], other["release"]["skipsSteps"], other["then"]["active"]["number"]) == ("Changes", None, 3)


def test_what_runs_are_told_apart_by_is_told_beforehand(settled: Terminal, tmp_path: Path) -> None:
    """Who reviews a canary reads by which key it is split, and what becomes of runs for which the key has no answer."""
    canary = {"steps": [{"setWeight": 10}, {"pause": {}}], "stickyKey": "event.labels.host"}
    path = write(tmp_path, manifest(40, release={"strategy": {"type": "Canary", "canary": canary}}))
    assert planned(settled, path)["release"]["stickyKey"] == "event.labels.host"
    told = " ".join(settled.keep("plan", "-f", path).stdout.split())
    assert "told apart by event.labels.host, those for which it has no answer by their alert's fingerprint" in told


def test_a_hold_stays_until_the_content_changes(terminal: Terminal, settled: Terminal, tmp_path: Path) -> None:
    """Applying again what was rolled back does nothing; what is mended goes through and ends the hold."""
    flow = settled.objects["workflows.keep-operator.dev/high-cpu"]
    flow["status"]["activeRevision"] = {"number": 2, "contentHash": HASHES[2]}
    flow["status"]["hold"] = {
        "rejectedHash": HASHES[3],
        "target": 2,
        "actor": "bob",
        "reason": "",
        "since": META["creationTimestamp"],
    }
    back = {"revision": 2, "at": "2026-11-25T04:00:00Z", "reason": "Rollback", "actor": "bob"}
    flow["status"]["history"].insert(0, back)
    assert planned(settled, write(tmp_path, manifest(30)))["outcome"] == "Unchanged"
    held = planned(settled, write(tmp_path, manifest(30, suspend=True)))
    assert (held["outcome"], gates(held)) == ("Held", ["Hold"])
    mended = planned(settled, write(tmp_path, manifest(40)))
    assert (mended["outcome"], mended["release"]["endsHold"]) == ("Changes", True)
    assert [each["from"]["state"] for each in mended["differences"]] == ["active", "newest"]


def test_a_canary_under_way_begins_anew(settled: Terminal, tmp_path: Path) -> None:
    """Another content, or other steps, start the canary over: whoever merges now should know what is lost."""
    strategy = {"type": "Canary", "canary": {"steps": [{"setWeight": 10}, {"pause": {}}]}}
    flow = settled.objects["workflows.keep-operator.dev/high-cpu"]
    flow["spec"]["release"] = {"strategy": strategy}
    flow["status"] |= {
        "activeRevision": {"number": 2, "contentHash": HASHES[2]},
        "canary": {"revision": 3, "weight": 10, "stepIndex": 1, "stepStartedAt": "2026-11-25T05:00:00Z"},
    }
    flow["status"]["history"] = flow["status"]["history"][1:]
    third = next(each for name, each in settled.objects.items() if "-v3-" in name)
    del third["status"]["firstActiveAt"]
    same = planned(settled, write(tmp_path, manifest(30, release={"strategy": strategy})))
    assert (same["outcome"], same["release"]["canary"]["becomes"]) == ("Unchanged", "GoesOn")
    other = planned(settled, write(tmp_path, manifest(40, release={"strategy": strategy})))
    assert (other["outcome"], other["release"]["canary"]["becomes"]) == ("Changes", "Restarts")
    steps = {"type": "Canary", "canary": {"steps": [{"setWeight": 5}, {"pause": {}}]}}
    assert (
        planned(settled, write(tmp_path, manifest(30, release={"strategy": steps})))["release"]["canary"]["becomes"]
        == "Restarts"
    )
    at_once = planned(settled, write(tmp_path, manifest(30)))
    assert (at_once["release"]["canary"]["becomes"], at_once["then"]["active"]["number"]) == ("Ends", 3)


def test_what_was_denied_never_comes_back(settled: Terminal, tmp_path: Path) -> None:
    """A content that somebody denied is held for ever, under whatever number."""
    second = next(each for name, each in settled.objects.items() if "-v2-" in name)
    del second["status"]["firstActiveAt"]
    second["status"]["conditions"].append(
        {"type": "Denied", "status": "True", "reason": "DeniedByPeer", "message": "x"}
    )
    found = planned(settled, write(tmp_path, manifest(20)))
    assert (found["outcome"], gates(found), found["held"][0]["reason"]) == ("Held", ["Content"], "Denied")


def test_providers_are_looked_for(settled: Terminal, tmp_path: Path) -> None:
    """A missing Provider is told, as one of another type is; and if it comes with the same files, where it is."""
    flow = manifest(40)
    flow["spec"]["definition"]["actions"][0]["provider"] = {
        "type": "slack",
        "config": "{{ providers.chat }}",
        "with": {"message": "x"},
    }
    missing = planned(settled, write(tmp_path, flow))
    assert (missing["outcome"], gates(missing)) == ("Held", ["Providers"])
    chat = {
        "apiVersion": "keep-operator.dev/v1alpha1",
        "kind": "Provider",
        "metadata": {**META, "name": "chat", "namespace": "monitoring"},
        "spec": {"type": "slack"},
    }
    beside = planned(settled, write(tmp_path, flow, {**chat, "metadata": {"name": "chat"}}))
    assert any("Provider chat is not there yet, but in" in each for each in beside["warnings"])
    ready = tenant()["status"]["conditions"]
    settled.put(
        {
            **chat,
            "spec": {"type": "teams"},
            "status": {"externalName": "chat", "providerId": "p", "observedGeneration": 1, "conditions": ready},
        }
    )
    wrong = planned(settled, write(tmp_path, flow))
    assert (gates(wrong), wrong["held"][0]["reason"]) == (["Providers"], "ProviderTypeMismatch")


def test_a_floor_that_cannot_be_read_is_not_guessed(settled: Terminal, tmp_path: Path) -> None:
    """Who may not read the Tenant gets a plan that says what is missing from it."""
    settled.failures["get tenants"] = (
        'Error from server (Forbidden): tenants is forbidden: User "eve" cannot list resource'
    )
    found = planned(settled, write(tmp_path, manifest(40)))
    assert found["outcome"] == "Changes"
    assert any(
        "its approval floor, its checklist floor and its defaults are not in this plan" in each
        for each in found["warnings"]
    )


def test_who_may_not_write_still_gets_a_plan(settled: Terminal, tmp_path: Path) -> None:
    """A pipeline with rights to read sees the file as it is, and that the server was not asked."""
    settled.failures["dry-run"] = (
        'Error from server (Forbidden): workflows.keep-operator.dev "high-cpu" is forbidden: User "ci" cannot patch resource '
        '"workflows" in API group "keep-operator.dev" in the namespace "monitoring"'
    )
    found = planned(settled, write(tmp_path, manifest(40)))
    assert (found["outcome"], found["revision"]["number"]) == ("Changes", 4)
    assert found["warnings"][0].startswith("The API server was not asked what it would store")
    settled.failures["dry-run"] = 'The Workflow "high-cpu" is invalid: spec.suspend: Invalid value: "string"'
    refused = planned(settled, write(tmp_path, manifest(40)))
    assert (refused["outcome"], refused["faults"][0]["reason"]) == ("Faulty", "Refused")
    settled.failures["dry-run"] = "Unable to connect to the server: dial tcp 10.0.0.1:6443: connect: connection refused"
    assert settled.keep("plan", "-f", write(tmp_path, manifest(40))).exit_code == 3


def test_files_that_nobody_could_apply_are_told(settled: Terminal, tmp_path: Path) -> None:
    """One of Keep's own files, a Workflow twice, another namespace than -n says, a broken file: each is a fault with a remedy."""
    twice = settled.keep("plan", "-f", write(tmp_path, manifest(40), manifest(50)))
    assert (twice.exit_code, "stands in these files twice" in twice.stdout) == (1, True)
    elsewhere = manifest(40)
    elsewhere["metadata"]["namespace"] = "other"
    wrong = settled.keep("plan", "-f", write(tmp_path, elsewhere), "-n", "monitoring")
    assert (wrong.exit_code, "names namespace other, and -n says monitoring" in wrong.stdout) == (1, True)
    keeps = settled.keep("plan", "-f", write(tmp_path, {"workflow": definition(1)}))
    assert (keeps.exit_code, "kubectl keep import FILE | kubectl keep plan -f -" in keeps.stdout) == (1, True)
    broken = settled.keep("plan", "-f", "-", given="kind: [")
    assert (broken.exit_code, "standard input: line" in broken.stdout) == (1, True)
    strange = settled.keep("plan", "-f", write(tmp_path, manifest(40, "<img src=x>")))
    assert (strange.exit_code, "has characters that none has" in strange.stdout) == (1, True)
    argo = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": {"name": "build"}, "spec": {}}
    nothing = settled.keep("plan", "-f", write(tmp_path, argo))
    assert nothing.stdout == "Not planned: Workflow build\nThere is no Workflow in these files.\n"


def test_a_fault_names_its_line(settled: Terminal, tmp_path: Path) -> None:
    """Who reads the plan finds the fault in the file without counting."""
    flow = manifest(40)
    flow["spec"]["definition"]["actions"][0]["provider"]["type"] = "nonsense"
    path = write(tmp_path, manifest(50, "first"), flow)
    shown = settled.keep("plan", "-f", path).stdout
    found = next(line for line in shown.splitlines() if "nonsense" in line or "provider.type" in line)
    number = int(found.split("line ")[1].split(":")[0])
    assert "nonsense" in Path(path).read_text(encoding="utf-8").splitlines()[number - 1]
    assert "v3 (980dfc05) stays active" in shown


def test_a_config_map_changes_the_workflows_that_name_it(settled: Terminal, tmp_path: Path) -> None:
    """A folder of Keep's files in ConfigMaps is planned too, though no Workflow in it changes."""
    flow = settled.objects["workflows.keep-operator.dev/high-cpu"]
    flow["spec"] = {"definitionFrom": {"configMapKeyRef": {"name": "flows", "key": "high-cpu.yaml"}}}
    text = yaml.safe_dump({"workflow": definition(40)})
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "flows"},
        "data": {"high-cpu.yaml": text},
    }
    found = planned(settled, write(tmp_path, config_map))
    assert (found["name"], found["outcome"], found["revision"]["number"], found["changed"]) == (
        "high-cpu",
        "Changes",
        4,
        [],
    )
    in_the_file = planned(settled, write(tmp_path, {**manifest(1), "spec": flow["spec"]}, config_map))
    assert in_the_file["revision"]["number"] == 4
    gone = planned(
        settled,
        write(tmp_path, {**manifest(1), "spec": {"definitionFrom": {"configMapKeyRef": {"name": "no", "key": "x"}}}}),
    )
    assert (gone["outcome"], gates(gone), gone["held"][0]["reason"]) == ("Held", ["Definition"], "ConfigMapNotFound")


def test_the_plan_as_data_is_as_the_guide_has_it(settled: Terminal, tmp_path: Path) -> None:
    """A program that is written by the page finds every field, and no other."""
    page = (
        (Path(__file__).parents[3] / "docs" / "plan.md").read_text(encoding="utf-8").partition("## The plan as data")[2]
    )
    whole, _, each = page.partition("Each of `workflows`:")
    told = json.loads(settled.keep("plan", "-f", write(tmp_path, manifest(40, release=RELEASE)), "-o", "json").stdout)
    for text, found in ((whole, told), (each, told["workflows"][0])):
        first = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
        assert {name for cell in first for name in re.findall(r"`(\w+)`", cell)} == set(found)
    ways = next(line for line in each.splitlines() if line.startswith("| `release`"))
    assert set(re.findall(r"`(\w+)`", ways.split("|")[2])) - {"words"} == set(told["workflows"][0]["release"])


def test_a_name_that_another_workflow_has_is_told(settled: Terminal, tmp_path: Path) -> None:
    """Two objects cannot have one record: the plan says whose it is."""
    found = planned(settled, write(tmp_path, manifest(40, "second", externalName="high-cpu")))
    assert (found["outcome"], gates(found), found["held"][0]["reason"]) == ("Held", ["Record"], "ExternalNameConflict")
    assert (
        "No version is made yet"
        in settled.keep("plan", "-f", write(tmp_path, manifest(40, "second", externalName="high-cpu"))).stdout
    )


def test_what_waits_for_its_tenant_is_held(settled: Terminal, tmp_path: Path) -> None:
    """A team's first merge brings Tenant and Workflows together: the plan says that the one waits for the other."""
    team = {**tenant(), "metadata": {"name": "team"}}
    del team["status"]
    found = planned(settled, write(tmp_path, team, manifest(40, "new", tenantRef={"name": "team"})))
    assert (found["outcome"], gates(found), found["revision"]) == ("Held", ["Tenant"], None)
    assert any('Tenant "team" is not there yet, but in' in each for each in found["warnings"])


def test_what_is_suspended_is_not_written(settled: Terminal, tmp_path: Path) -> None:
    """Suspending and changing at once makes no version before the suspension ends."""
    found = planned(settled, write(tmp_path, manifest(40, suspend=True)))
    assert (found["outcome"], gates(found), found["revision"]) == ("Held", ["Record"], None)


def test_archived_versions_are_asked_of_the_read_api(
    settled: Terminal,
    console: Console,  # noqa: F811 -- the fixture
    tmp_path: Path,
) -> None:
    """A content that was denied long ago is still denied; where nobody can be asked the plan says what it may miss."""
    flow = settled.objects["workflows.keep-operator.dev/high-cpu"]
    flow["status"] |= {"revisionCount": 4, "latestCreatedRevision": {"number": 4, "contentHash": HASHES[3]}}
    denied = {**ARCHIVED, "number": 4, "contentHash": revision.content_hash(definition(40)), "denied": "DeniedByPeer"}
    console.answer = lambda path: (200, json.dumps({"items": [denied], "after": None}))
    api = ("--api-url", f"http://127.0.0.1:{console.port}", "--api-token", "x")
    found = planned(settled, write(tmp_path, manifest(40)), *api)
    assert (found["outcome"], gates(found), found["revision"]) == ("Held", ["Content"], None)
    missed = planned(settled, write(tmp_path, manifest(50)), "--api-url", "http://127.0.0.1:1", "--api-token", "x")
    assert (missed["outcome"], missed["revision"]["number"]) == ("Changes", 5)
    assert missed["warnings"][0].startswith("1 archived version(s) are not known here")


def test_what_is_suspended_already_plans_nothing(settled: Terminal, tmp_path: Path) -> None:
    """The same manifest again says what the operator says, also of a Workflow that stands still."""
    settled.objects["workflows.keep-operator.dev/high-cpu"]["spec"]["suspend"] = True
    found = planned(settled, write(tmp_path, manifest(30, suspend=True)))
    assert (found["outcome"], found["held"]) == ("Unchanged", [])
    told = {each["type"]: (each["status"], each["reason"]) for each in found["then"]["conditions"]}
    assert told["Available"] == ("False", "Suspended")
    assert told["Synced"] == ("True", "InSync")


def test_a_plan_fits_the_terminal(settled: Terminal, tmp_path: Path) -> None:
    """Sentences are broken within their column, and outcomes have colours."""
    settled.put(tenant(policy=FLOOR))
    path = write(tmp_path, manifest(50, release=RELEASE))
    shown = on_a_terminal(settled, "plan", "-f", path)
    assert "\x1b[33mwould change, and be held" in shown
    lines = [line for line in plain(shown) if path not in line]
    assert max(map(len, lines)) <= 80
    gate = next(place for place, line in enumerate(lines) if line.startswith("  held     Approval: "))
    assert lines[gate + 1].startswith(" " * 11)
    assert lines[gate + 1][11] != " "
