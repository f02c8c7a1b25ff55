"""`doctor`: whether everything that kubectl keep needs is there, seen with the user's own eyes, and what to do if not."""

import shutil
import sys
from collections.abc import Iterator
from typing import Final, NamedTuple

import click

from keep_operator.plugin import actor, ends, options, output
from keep_operator.plugin.kubectl import Kubectl
from keep_operator.plugin.reach import Reach
from keep_operator.resources import kinds

# What the commands do, and what somebody misses who may not.
_RIGHTS: Final = (
    ("get", kinds.WORKFLOWS, "see which version runs"),
    ("list", kinds.WORKFLOW_REVISIONS, "see versions"),
    ("create", kinds.WORKFLOW_DECISIONS, "roll back, tag, note"),
    ("watch", kinds.WORKFLOW_DECISIONS, "see what came of a decision"),
)


class Check(NamedTuple):
    """One line of the report; ``remedy`` is empty where nothing needs to be done."""

    verdict: str
    subject: str
    fact: str
    remedy: str = ""


@click.command("doctor")
@options.output("json", "yaml")
@options.read_api
@options.cluster
def doctor(form: str, reach: Reach) -> None:
    """Check what these commands need, and say what to do.

    kubectl, the cluster, the kinds, your rights, the read API. Changes nothing. What the operator itself needs is checked
    by `keep-operator doctor`.
    """
    checks = []
    for check in _examine(options.kubectl(), reach):
        checks.append(check)
        if form == "table":
            mark = f"{output.coloured(check.verdict)}{'':{4 - len(check.verdict)}}"
            output.prose(check.fact, first=f"{mark}  {check.subject:<10}", indent=16)
            if check.remedy:
                output.prose(check.remedy, first=f"{'':16}-> ", indent=19)
    if form != "table":
        output.data([check._asdict() for check in checks], form)
    sys.exit(1 if any(check.verdict == "FAIL" for check in checks) else 0)


def _examine(kubectl: Kubectl, reach: Reach) -> Iterator[Check]:
    """Every check; what cannot be asked because of an earlier failure is left out."""
    program = shutil.which("kubectl")
    if program is None:
        yield Check("FAIL", "kubectl", "is not on PATH", "install it, or put its folder on PATH")
        return
    yield Check("ok", "kubectl", program)
    version, who = kubectl.tries(("version", "--output=json"), actor.QUESTION)
    server = None if isinstance(version, ends.Failure) else (version.get("serverVersion") or {}).get("gitVersion")
    if server is None:
        words = version.message if isinstance(version, ends.Failure) else "the server does not answer"
        yield Check("FAIL", "cluster", words, "check the kubeconfig and its context: kubectl config get-contexts")
        return
    yield Check("ok", "cluster", f"Kubernetes {server}, namespace {kubectl.namespace()}")
    try:
        yield Check("ok", "you", actor.settle(kubectl, who, None))
    except ends.Failure:
        yield Check(
            "warn", "you", "neither the server nor your credentials say who you are", "give --actor with decisions"
        )
    installed = True
    for verb, resource, use in _RIGHTS:
        kind = f"{resource.plural}.{resource.group}"
        allowed = kubectl.allowed(verb, kind)
        if allowed is None:
            installed = False
            yield Check(
                "FAIL", "kinds", f"{kind} is not installed", "keep-operator crds apply, or ask who runs the cluster"
            )
        elif allowed:
            yield Check("ok", "rights", f"you may {verb} {kind}: {use}")
        else:
            yield Check("FAIL", "rights", f"you may not {verb} {kind}: {use}", "ask for ClusterRole keep-operator-edit")
    if installed:
        yield _read_api(kubectl, reach)


def _read_api(kubectl: Kubectl, reach: Reach) -> Check:
    from keep_operator.plugin import read_api  # noqa: PLC0415

    try:
        with read_api.opened(kubectl, reach) as api:
            user = api.get("").get("user")
            return Check("ok", "read API", f"at {reach.url or f'Service {reach.service}'}, where you are {user}")
    except ends.Failure as failure:
        return Check("warn", "read API", failure.message, "needed for ledger, retention and archived versions only")
