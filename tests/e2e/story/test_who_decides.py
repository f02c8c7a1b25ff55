"""Who may decide what: each of the chart's roles for people, each action, by every way that leads to a decision.

The people are service accounts with real tokens. On servers without admission policies the operator's second look refuses what
they may not; on others the API server itself does, and the operator takes that for a proof.
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from charts import helm, of_kind, one
from e2e import accounts
from e2e.cluster import Database, Json, Kube, as_yaml, at_once, eventually, tenant
from e2e.conftest import Operate
from e2e.operators import Operator
from e2e.story.test_events import Console
from keep_operator.domain import proof
from keep_operator.plugin.main import keep
from keep_operator.resources.decision import ACTIONS, NEED_NO_REVISION
from keep_operator.resources.kinds import (
    ACCESS_REVIEWS,
    ADMISSION_POLICIES,
    ADMISSION_POLICY_BINDINGS,
    WORKFLOW_DECISIONS,
)
from keep_operator.sandbox.instance import Sandbox
from manifests import decision, definition, workflow

pytestmark = pytest.mark.e2e

RBAC: Final = "/apis/rbac.authorization.k8s.io/v1"
SELF: Final = "system:serviceaccount:{namespace}:{name}"
HARMLESS: Final = ("Rollback", "Abort", "Pause", "Resume", "Note")
PEERS: Final = ("Approve", "Deny", "CheckItem")
# Each role of the chart, and the actions that it is for.
MAY: Final[dict[str, tuple[str, ...]]] = {"view": (), "edit": HARMLESS, "approver": PEERS, "admin": ACTIONS}
MORE: Final[dict[str, tuple[str, ...]]] = {"admin": ("force", "editapproval")}
RECORD: Final = {"KEEP_OPERATOR_DECISIONS_UNVERIFIED": "Record"}
# How each action is said on the command line.
WORDS: Final[dict[str, tuple[str, ...]]] = {
    "Approve": ("approve", "hello"),
    "Deny": ("deny", "hello", "--reason=tried"),
    "Deploy": ("deploy", "hello"),
    "Rollback": ("rollback", "hello", "--reason=tried"),
    "Promote": ("promote", "hello"),
    "Abort": ("abort", "hello"),
    "Pause": ("pause", "hello"),
    "Resume": ("resume", "hello"),
    "Retry": ("retry", "hello"),
    "Reject": ("reject", "hello", "v1", "--reason=tried"),
    "Tag": ("tag", "hello", "golden"),
    "Untag": ("untag", "hello", "golden"),
    "CheckItem": ("check", "hello", "read"),
    "Note": ("note", "hello", "tried"),
}


@dataclass(frozen=True)
class Person:
    """Somebody with a role, and a kubeconfig that shows his token."""

    role: str
    name: str
    kube: Kube = field(repr=False)
    token: str = field(repr=False)

    def may(self, action: str) -> bool:
        return action in MAY.get(self.role, ())


@pytest.fixture
def people(kube: Kube, namespace: str, tmp_path: Path) -> Iterator[dict[str, Person]]:
    """One for each role, and a stranger. The roles have names of their own, so that they are part of no role of the cluster."""
    found: dict[str, Person] = {}
    for role in (*MAY, "none"):
        post(kube, f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": role}})
        if role != "none":
            rendered = one(helm().render({}), "ClusterRole", f"keep-operator-{role}")
            named = {"name": f"{namespace}-{role}"}
            post(kube, f"{RBAC}/clusterroles", {"metadata": named, "rules": rendered["rules"]})
            ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", **named}
            subject = {"kind": "ServiceAccount", "namespace": namespace, "name": role}
            binding = {"metadata": named, "roleRef": ref, "subjects": [subject]}
            post(kube, f"{RBAC}/namespaces/{namespace}/rolebindings", binding)
        shown = accounts.kubeconfig(kube, namespace, role, tmp_path / f"{role}.kubeconfig")
        token = accounts.token(kube, namespace, role)
        found[role] = Person(role, SELF.format(namespace=namespace, name=role), Kube(shown, kube.tools), token)
    yield found
    for role in MAY:
        kube.send("DELETE", f"{RBAC}/clusterroles/{namespace}-{role}")


def post(kube: Kube, path: str, body: Json) -> None:
    status, answer = kube.send("POST", path, body)
    assert status == 201, answer


def two_versions(kube: Kube, namespace: str) -> Json:
    """A Workflow that has said one, and says two now."""
    hello = workflow("hello", namespace, "team", definition("one"))
    kube.create(tenant("team"), hello)
    kube.await_ready(hello)
    kube.edit(hello, definition=definition("two"))
    kube.await_state(hello, lambda it: (it.status.get("activeRevision") or {}).get("number") == 2, "the second version")
    return hello


def decides(who: Person, hello: Json, action: str, **spec: object) -> Json:
    """A decision, complete for whatever action."""
    more: Json = {} if action in NEED_NO_REVISION else {"revision": {"number": 1}}
    more |= {"Tag": {"tag": "golden"}, "Untag": {"tag": "golden"}, "CheckItem": {"item": "read"}}.get(action, {})
    return decision(action, hello, f"{who.role}-{action.lower()}", **{"actor": who.name, **more, **spec})


def reasons(kube: Kube, namespace: str) -> dict[str, str]:
    """How each decision of the namespace ended, once all have; by name."""
    things = eventually(
        lambda: kube.objects(WORKFLOW_DECISIONS, namespace),
        lambda seen: all((each.condition("Handled") or ("Unknown",))[0] != "Unknown" for each in seen),
        "the verdicts",
    )
    return {each.raw["metadata"]["name"]: (each.condition("Handled") or ("", ""))[1] for each in things}


def test_each_role_has_the_verbs_that_it_is_for(kube: Kube, namespace: str, people: dict[str, Person]) -> None:
    """What the policy and the operator ask about a decision, the API server answers as the table has it."""

    def allowed(who: Person, verb: str, resource: str = "workflows", name: str = "hello") -> bool:
        attributes = {"group": "keep-operator.dev", "resource": resource, "verb": verb, "namespace": namespace}
        groups = proof.known_groups(who.name)
        assert groups is not None
        spec = {"user": who.name, "groups": list(groups), "resourceAttributes": {**attributes, "name": name}}
        status, answer = kube.send("POST", ACCESS_REVIEWS.path(), {"spec": spec})
        assert status == 201, answer
        return bool(answer["status"]["allowed"])

    def check(who: Person) -> None:
        for action in ACTIONS:
            assert allowed(who, action.lower()) is who.may(action), (who.role, action)
        for verb in ("force", "editapproval", "onbehalfof"):
            assert allowed(who, verb) is (verb in MORE.get(who.role, ())), (who.role, verb)
        assert allowed(who, "create", "workflowdecisions", "") is bool(MAY.get(who.role)), who.role
        assert allowed(who, "get", "workflowdecisions", "x") is (who.role in MAY), who.role
        for verb in ("update", "patch"):
            assert not allowed(who, verb, "workflowdecisions", "x"), who.role
        assert allowed(who, "delete", "workflowdecisions", "x") is (who.role == "admin"), who.role

    at_once(check, people.values())


def test_nobody_decides_what_his_role_is_not_for(
    operate: Operate, kube: Kube, namespace: str, people: dict[str, Person], tmp_path: Path
) -> None:
    """By kubectl and by `kubectl keep`, with real tokens: who may create no decision is told so by the API server, and what a
    role is not for ends Forbidden where nothing proves who decides."""
    operate(**RECORD)
    hello = two_versions(kube, namespace)

    def by_kubectl(who: Person) -> None:
        wanted = "\n---\n".join(as_yaml(decides(who, hello, action)) for action in ACTIONS)
        told = who.kube.kubectl("create", "-f-", stdin=wanted, check=False)
        created, refused = told.count(" created"), told.count("cannot create resource")
        assert (created, refused) == ((len(ACTIONS), 0) if MAY.get(who.role) else (0, len(ACTIONS))), told

    at_once(by_kubectl, people.values())
    ended = reasons(kube, namespace)
    assert len(ended) == len(ACTIONS) * 3
    for role in ("edit", "approver", "admin"):
        for action in ACTIONS:
            name = f"{role}-{action.lower()}"
            assert (ended[name] == "Forbidden") is not people[role].may(action), (name, ended[name])

    said = {action: words for action, words in WORDS.items() if _known(words[0])}
    assert len(said) >= 8
    with ThreadPoolExecutor() as pool:
        told = dict(zip(MAY, pool.map(lambda role: _keep(people[role], said.values(), tmp_path), MAY), strict=True))
    ended = reasons(kube, namespace)
    for role, answers in told.items():
        for action, (code, out, err) in zip(said, answers, strict=True):
            if not MAY[role]:
                assert (code, "cannot create resource" in err) == (6, True), (role, action, err)
                continue
            assert code == 0, (role, action, err)
            name = out.strip().rpartition("/")[2]
            assert (ended[name] == "Forbidden") is not people[role].may(action), (name, ended[name])


def _known(command: str) -> bool:
    return keep.get_command(None, command) is not None  # type: ignore[arg-type]


# All commands of one person in one process, which need not be started anew for each of them.
_SESSION: Final = """
import json, sys
from click.testing import CliRunner
from keep_operator.plugin.main import keep
for words in json.load(sys.stdin):
    done = CliRunner().invoke(keep, words, prog_name="kubectl keep")
    print(json.dumps([done.exit_code, done.stdout, done.stderr]))
"""


def _keep(who: Person, said: Iterable[Sequence[str]], home: Path) -> list[tuple[int, str, str]]:
    """How each of these commands of `kubectl keep` ends for somebody who does not wait for the verdict."""
    given = {"PATH": f"{who.kube.tools}:/usr/bin:/bin", "HOME": str(home), "KUBECONFIG": str(who.kube.kubeconfig)}
    asked = json.dumps([[*words, "--no-wait", "--output=name"] for words in said])
    argv = [sys.executable, "-c", _SESSION]
    done = subprocess.run(argv, input=asked, env=given, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def test_the_api_shows_and_takes_what_the_role_is_for(
    operate: Operate,
    kube: Kube,
    namespace: str,
    people: dict[str, Person],
    sandbox: Sandbox,
    database: Database,
    tmp_path: Path,
) -> None:
    """It makes no decisions. The past is read by every role and by no stranger; runs are asked for by who may make them."""
    operate()
    two_versions(kube, namespace)
    given = {
        "KUBECONFIG": str(sandbox.kubeconfig("console")),
        "KEEP_OPERATOR_DATABASE_URL": database.url,
        "KEEP_OPERATOR_CONSOLE_PORT": "0",
    }
    process = Operator(given, tmp_path / "console.log", "console")
    try:
        console = Console(process.await_ready())
        where = f"namespace={namespace}&workflow=hello"
        for who in people.values():
            shown = 200 if who.role in MAY else 403
            for path in ("revisions", "history", "retention", "runs"):
                assert console.ask(f"/api/v1/{path}?{where}", who.token)[0] == shown, (who.role, path)
            assert console.ask(f"/api/v1/diff?{where}&before=1&after=2", who.token)[0] == shown, who.role
            run = {"namespace": namespace, "workflow": "hello", "requestId": who.role}
            taken = 201 if who.role in ("edit", "admin") else 403
            assert console.ask("/api/v1/runs", who.token, run)[0] == taken, who.role
    finally:
        assert process.stop() == 0


@pytest.fixture
def policy(kube: Kube) -> Iterator[None]:
    """The chart's policy about decisions, in force."""
    version = kube.send("GET", "/version")[1]["gitVersion"].removeprefix("v")
    objects = helm().render({}, version)
    both = (ADMISSION_POLICIES, ADMISSION_POLICY_BINDINGS)
    for resource in both:
        (found,) = of_kind(objects, resource.kind, proof.POLICY)
        post(kube, resource.path(), found)
    yield
    for resource in both:
        kube.send("DELETE", resource.path(name=proof.POLICY))


def handled(database: Database) -> list[Json]:
    """What the ledger says of decisions."""
    return [each for each in database.ledger("WorkflowDecision") if each["action"] == "Handled"]


@pytest.mark.needs_admission_policy(
    "it is the API server that compares the actor with the user, from Kubernetes 1.30 on"
)
def test_where_the_policy_is_nobody_decides_what_he_may_not_and_the_rest_is_proven(
    operate: Operate, kube: Kube, namespace: str, database: Database, people: dict[str, Person], policy: None
) -> None:
    """The API server refuses each cell of the table that is empty, names of others and groups of others; what it lets through is
    carried out without any setting, and the ledger does not doubt who decided."""
    del policy
    operate()
    hello = two_versions(kube, namespace)

    def told(who: Person, what: Json) -> str:
        return who.kube.kubectl("create", "-f-", stdin=as_yaml(what), check=False)

    admin = people["admin"]
    forged = decides(admin, hello, "Note", actor="ann@example.com", requestId="forged")
    eventually(lambda: told(admin, forged), lambda answer: "nobody decides in the name of others" in answer)
    early = decides(admin, hello, "Tag", requestId="early")
    early["metadata"]["name"] = "early"
    assert " created" in told(admin, early)
    assert reasons(kube, namespace) == {"early": "ActorUnverified"}
    first = kube.get(early).raw["metadata"]["creationTimestamp"]
    group = decides(admin, hello, "Approve", actorGroups=["system:serviceaccounts", "board"])
    assert "is not in all of the groups that spec.actorGroups names: not in board" in told(admin, group)
    for more, verb in (({"force": True}, "force"), ({"onBehalfOf": "ann"}, "onbehalfof")):
        assert f"needs the verb '{verb}'" in told(people["edit"], decides(people["edit"], hello, "Rollback", **more))

    # Nothing is proven in the policy's first minute.
    probe = iter(range(1000))

    def settled() -> str:
        note = decides(admin, hello, "Note", requestId=f"probe-{next(probe)}")
        note["metadata"]["name"] = note["spec"]["requestId"]
        assert " created" in told(admin, note)
        reasons(kube, namespace)
        (entry,) = [each for each in handled(database) if each["name"] == note["metadata"]["name"]]
        return json.dumps(entry["details"])

    eventually(settled, lambda entry: '"verified": false' not in entry, f"a proof after {first}", 120.0)

    def decide(who: Person) -> None:
        for action in ACTIONS:
            groups = list(proof.known_groups(who.name) or ())
            answer = told(who, decides(who, hello, action, actorGroups=groups))
            if not MAY.get(who.role):
                assert "cannot create resource" in answer, answer
            elif who.may(action):
                assert " created" in answer, answer
            else:
                assert f"lacks the verb '{action.lower()}' on workflows.keep-operator.dev 'hello'" in answer, answer

    at_once(decide, people.values())
    ended = reasons(kube, namespace)
    made = {f"{who.role}-{action.lower()}" for who in people.values() for action in ACTIONS if who.may(action)}
    assert made <= set(ended)
    assert not {ended[name] for name in made} & {"ActorUnverified", "Forbidden"}
    assert made <= {each["name"] for each in handled(database) if "verified" not in each["details"]}
