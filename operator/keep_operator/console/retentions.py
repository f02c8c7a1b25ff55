"""`retention`: which versions of a workflow would be archived now, and why each other one stays. Nothing is changed."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from keep_operator.console import answers, asked, problems, room
from keep_operator.console.asked import Place
from keep_operator.console.problems import Problem
from keep_operator.console.room import Room
from keep_operator.domain import mirror, release, retention
from keep_operator.domain.history import Lineage
from keep_operator.domain.retention import Policy, Uses
from keep_operator.errors import KeepOperatorError
from keep_operator.resources import tenant, workflow
from keep_operator.resources.kinds import GROUP, TENANTS, WORKFLOW_REVISIONS, WORKFLOWS, Resource
from keep_operator.resources.objects import NO_COLLECTION
from keep_operator.resources.parts import Retention
from keep_operator.resources.shapes import Invalid
from keep_operator.store import lineages, tenants

_NUMBER: Final = f"{GROUP}/revision"
_WORKFLOW: Final = f"{GROUP}/workflow"


async def of_workflow(here: Room, request: Request) -> Response:
    """What the operator would archive, judged by the same rule on the same facts."""
    where = asked.place(room.parameters(request))
    await here.admit_to(request, where, WORKFLOWS)
    found = await _get(here, WORKFLOWS, where.namespace, where.name)
    if found is None:
        raise problems.missing("WorkflowNotFound", f"{where} does not exist.")
    spec = workflow.parse_spec(found.get("spec") or {})
    if isinstance(spec, Invalid):
        raise Problem(HTTPStatus.CONFLICT, "SpecRefused", f"The spec of {where} is refused; see its conditions.")
    uid = str(found["metadata"]["uid"])
    async with here.look() as conn:
        lineage, _ = await lineages.observe(conn, here.cluster_id, uid, None, None)
        if lineage is None:
            raise room.no_line(where)
        record = await tenants.find(conn, lineage.tenant_id)
    owner = None if record is None else record.owner
    policy = retention.policy(
        spec.revision_history_limit, spec.retention, None if owner is None else await _default(here, owner.name)
    )
    uses = Uses(release.reference(spec.release.pin), await _spared(here, where, uid, lineage))
    judged = retention.judge(lineage, policy, uses, here.now())
    return answers.answer(
        request,
        {
            "workflowId": str(lineage.id),
            "policy": _policy(policy),
            "archive": list(judged.archive),
            "kept": [
                {"number": each.number, "why": each.why, "until": answers.moment(each.until)} for each in judged.kept
            ],
        },
    )


async def _default(here: Room, name: str) -> Retention | None:
    found = await _get(here, TENANTS, None, name)
    spec = None if found is None else tenant.parse_spec(found.get("spec") or {})
    return None if spec is None or isinstance(spec, Invalid) or spec.defaults is None else spec.defaults.retention


async def _spared(here: Room, where: Place, uid: str, lineage: Lineage) -> list[int]:
    """The numbers of the versions whose objects are exempt by their annotation."""
    if lineage.latest is None:
        return []
    label = mirror.labels(where.name, lineage, lineage.latest)[_WORKFLOW]
    try:
        listed = await here.cluster.list(
            WORKFLOW_REVISIONS, where.namespace, metadata_only=True, label_selector=f"{_WORKFLOW}={label}"
        )
    except KeepOperatorError as failure:
        raise room.cluster_failed(failure) from None
    return [number for each in listed.items if (number := _number_if_spared(each["metadata"], uid)) is not None]


def _number_if_spared(metadata: Mapping[str, Any], uid: str) -> int | None:
    spared = (metadata.get("annotations") or {}).get(NO_COLLECTION, "false") != "false"
    ours = any(each.get("uid") == uid for each in metadata.get("ownerReferences") or ())
    number = str((metadata.get("labels") or {}).get(_NUMBER, ""))
    return int(number) if spared and ours and number.isascii() and number.isdigit() else None


async def _get(here: Room, resource: Resource, namespace: str | None, name: str) -> dict[str, Any] | None:
    try:
        return await here.cluster.get(resource, namespace, name)
    except KeepOperatorError as failure:
        raise room.cluster_failed(failure) from None


def _policy(policy: Policy) -> dict[str, Any]:
    return {
        "revisionHistoryLimit": policy.limit,
        "sinceCreateSeconds": round(policy.since_create.total_seconds()),
        "sinceLastActiveSeconds": round(policy.since_last_active.total_seconds()),
        "max": policy.maximum,
    }
