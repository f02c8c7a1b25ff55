"""The floor of Workflows: the operator's writes for a new one, by a client that looks at nothing, decides and checks nothing.

For each Workflow a metadata patch, its row, its first version's row and what is active, each with a ledger entry, then the
version's object, that object's status and the Workflow's own. As in `bare`, 32 at a time, beside a client that creates 64 at
a time, with the bodies of what the operator made.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from bench import rows
from bench.api import APPLY_IN_FLIGHT, Api, Json, in_flight
from bench.bare import at_work
from keep_operator.resources.kinds import TENANTS, WORKFLOW_REVISIONS, WORKFLOWS


@dataclass(frozen=True, slots=True)
class Sample:
    """What the operator wrote for one Workflow: into it, and as the object of its version."""

    workflow: Json
    revision: Json


async def run(api: Api, pool: rows.Pool, sample: Sample, manifests: Sequence[Json]) -> None:
    """Create the Workflows and make each of them Ready. Their Tenants must be there: the server asks for owners."""
    tenants = {each["metadata"]["name"]: each["metadata"]["uid"] for each in await _items(api)}

    async def finish(manifest: Json, uid: str) -> None:
        metadata, tenant = manifest["metadata"], manifest["spec"]["tenantRef"]["name"]
        path = WORKFLOWS.path(metadata["namespace"], metadata["name"])
        made = sample.workflow["metadata"]
        owners = [{**each, "name": tenant, "uid": tenants[tenant]} for each in made["ownerReferences"]]
        await api.send("PATCH", path, {"metadata": {"finalizers": made["finalizers"], "ownerReferences": owners}})
        await rows.add_workflow(pool, manifest, uid, sample.revision["spec"]["contentHash"])
        revision = _revision(sample.revision, manifest, uid)
        shown = await api.create(WORKFLOW_REVISIONS, revision)
        at = WORKFLOW_REVISIONS.path(metadata["namespace"], shown["metadata"]["name"], "status")
        await api.send("PATCH", at, {"status": sample.revision["status"]})
        await api.send("PATCH", f"{path}/status", {"status": sample.workflow["status"]})

    async with at_work() as give:

        async def create(manifest: Json) -> None:
            made = await api.create(WORKFLOWS, manifest)
            give(partial(finish, manifest, made["metadata"]["uid"]))

        await in_flight(manifests, create, APPLY_IN_FLIGHT)


async def _items(api: Api) -> list[Json]:
    found: list[Json] = (await api.send("GET", TENANTS.path()))["items"]
    return found


def _revision(sample: Json, manifest: Json, uid: str) -> Json:
    metadata, made = manifest["metadata"], sample["metadata"]
    return {
        "apiVersion": WORKFLOW_REVISIONS.api_version,
        "kind": WORKFLOW_REVISIONS.kind,
        "metadata": {
            "name": f"{metadata['name']}-v1-{sample['spec']['contentHash'][:8]}",
            "namespace": metadata["namespace"],
            "labels": made["labels"],
            "ownerReferences": [{**each, "name": metadata["name"], "uid": uid} for each in made["ownerReferences"]],
        },
        "spec": {
            **sample["spec"],
            "workflowRef": {"name": metadata["name"]},
            "definition": manifest["spec"]["definition"],
        },
    }
