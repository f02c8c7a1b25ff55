"""The objects of revisions in the cluster: made from rows, told what the rows say, and taken away.

The server refuses what is planned on an old view of them (uid and resourceVersion stand in each request); what is there in its
place is then read, and looked at anew.
"""

import logging
from collections.abc import Mapping
from typing import Any, Final

from keep_operator.cluster.client import Cluster
from keep_operator.cluster.events import Recorder, Subject
from keep_operator.domain import image
from keep_operator.domain.history import Lineage, Revision
from keep_operator.domain.image import Said
from keep_operator.domain.mirror import CreateImage, DeleteImage, PatchImage
from keep_operator.errors import Conflict, Unavailable
from keep_operator.reconcile.database import Database
from keep_operator.reconcile.world import World
from keep_operator.resources import objects
from keep_operator.resources.kinds import API_VERSION, WORKFLOW_REVISIONS, WORKFLOWS, Key
from keep_operator.resources.objects import Object
from keep_operator.store import revisions, workflows

log = logging.getLogger(__name__)
EXISTS: Final = "AlreadyExists"
# The reason of the Event; it stands in no condition, since all is well again a moment later.
TAMPERED: Final = "RevisionTampered"


class Images:
    """Writes WorkflowRevisions; the world learns of it by the answers."""

    def __init__(self, world: World, cluster: Cluster, database: Database, recorder: Recorder) -> None:
        self._world = world
        self._cluster = cluster
        self._database = database
        self._recorder = recorder

    async def create(self, action: CreateImage) -> None:
        """Make the object and tell it its status; done if it is there, made by a predecessor whose view was newer."""
        owner = workflows.owner_of(action.lineage)
        content = await self._content(action) if action.content is None else action.content
        try:
            raw = await self._cluster.create(WORKFLOW_REVISIONS, owner.namespace, _manifest(action, content))
        except Conflict as conflict:
            if conflict.reason != EXISTS:
                raise
            self._learn(await self._met(action, owner.namespace))
            return
        made = image.of(self._learn(raw), owner.name, owner.uid)
        await self.patch(PatchImage(made, {}, action.status))

    async def delete(self, action: DeleteImage) -> None:
        """Delete this very object; done if it is gone. What is wrong about it is told in an Event about the Workflow."""
        found = action.image
        if action.wrong and action.lineage is not None:
            log.warning(
                "a revision's object does not say what the database says, and is made again"
                if found.owned
                else "an object that is no revision of its workflow is deleted",
                extra={"kind": WORKFLOW_REVISIONS.kind, "object": f"{found.namespace}/{found.name}", "uid": found.uid},
            )
            owner = workflows.owner_of(action.lineage)
            await self._recorder.record(
                Subject(WORKFLOWS, owner.namespace, owner.name, owner.uid),
                "Warning",
                TAMPERED,
                f"WorkflowRevision {found.name} is not as the operator made it, or not made by it. It is deleted, and what the "
                "database has is made again.",
            )
        try:
            await self._cluster.delete(WORKFLOW_REVISIONS, found.namespace, found.name, uid=found.uid)
        except Conflict:
            await self._read_again(found.namespace, found.name)
            raise
        await self._read_again(found.namespace, found.name)

    async def patch(self, action: PatchImage) -> None:
        """Bring labels and status up to date, each only where they are not."""
        found = action.image
        version = found.resource_version
        try:
            if action.labels:
                body: dict[str, Any] = {"metadata": {"resourceVersion": version, "labels": dict(action.labels)}}
                raw = await self._cluster.patch(WORKFLOW_REVISIONS, found.namespace, found.name, body)
                self._learn(raw)
                version = raw["metadata"]["resourceVersion"]
            if action.status:
                names = [*action.status, *(name for name in found.status if name not in action.status)]
                told = {name: action.status.get(name) for name in names}
                changes = {name: value for name, value in told.items() if value != found.status.get(name)}
                body = {"metadata": {"resourceVersion": version}, "status": changes}
                self._learn(await self._cluster.patch(WORKFLOW_REVISIONS, found.namespace, found.name, body, "status"))
        except Conflict:
            await self._read_again(found.namespace, found.name)
            raise

    async def _content(self, action: CreateImage) -> Mapping[str, Any]:
        lineage, revision = action.lineage, action.revision
        async with self._database.look() as conn:
            content = (await revisions.definitions(conn, lineage.id, [revision.number])).get(revision.number)
        if content is None:
            raise Conflict("SyncFailed", f"{lineage.external_name} has no revision {revision} any more")
        return content

    async def _met(self, action: CreateImage, namespace: str) -> dict[str, Any]:
        """What has the name already, if it is the revision; else it goes, if it can, and Conflict is raised."""
        lineage, revision = action.lineage, action.revision
        owner = workflows.owner_of(lineage)
        raw = await self._cluster.get(WORKFLOW_REVISIONS, namespace, action.name)
        if raw is None:
            raise Conflict("SyncFailed", f"{namespace}/{action.name} was there, and is gone")
        obj = objects.parse(WORKFLOW_REVISIONS.kind, raw, image)
        if obj.deleting:
            raise Unavailable("SyncFailed", f"WorkflowRevision {action.name} is being deleted, and will be made again")
        found = image.of(obj, owner.name, owner.uid)
        if found.true and found.owned and _says(found.lineage_id, found.number, found.content_hash, lineage, revision):
            return raw
        await self.delete(DeleteImage(lineage, found, wrong=not found.left))
        raise Conflict("SyncFailed", f"{namespace}/{action.name} was something else, and is deleted")

    async def _read_again(self, namespace: str, name: str) -> None:
        raw = await self._cluster.get(WORKFLOW_REVISIONS, namespace, name)
        if raw is None:
            self._world.forget(Key(WORKFLOW_REVISIONS.kind, namespace, name))
        else:
            self._learn(raw)

    def _learn(self, raw: Mapping[str, Any]) -> Object[Said]:
        metadata = raw["metadata"]
        key = Key(WORKFLOW_REVISIONS.kind, metadata["namespace"], metadata["name"])
        obj = objects.parse(key.kind, raw, image, known=self._world.cache.get(key))
        self._world.wrote(obj)
        return obj


def _says(lineage_id: str, number: int, content_hash: str, lineage: Lineage, revision: Revision) -> bool:
    return (lineage_id, number, content_hash) == (str(lineage.id), revision.number, revision.content_hash)


def _manifest(action: CreateImage, content: Mapping[str, Any]) -> dict[str, Any]:
    lineage, revision = action.lineage, action.revision
    owner = workflows.owner_of(lineage)
    spec = {
        "workflowRef": {"name": owner.name},
        "lineageId": str(lineage.id),
        "number": revision.number,
        "contentHash": revision.content_hash,
        "hashVersion": revision.hash_version,
        "definition": dict(content),
        "changeNote": revision.change_note,
        "author": None
        if revision.author is None
        else {"username": revision.author.username, "source": revision.author.source},
        "parentNumber": revision.parent_number,
        "createdFromGeneration": revision.created_from_generation,
    }
    return {
        "apiVersion": API_VERSION,
        "kind": WORKFLOW_REVISIONS.kind,
        "metadata": {
            "name": action.name,
            "namespace": owner.namespace,
            "labels": dict(action.labels),
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": WORKFLOWS.kind,
                    "name": owner.name,
                    "uid": owner.uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {name: value for name, value in spec.items() if value is not None},
    }
