"""What has become of the object that a record's marker names; asked before anything is taken from it."""

from keep_operator.cluster.client import Cluster
from keep_operator.domain.ownership import HolderState, Owner
from keep_operator.resources.kinds import Key, Resource
from keep_operator.runtime.cache import Cache


async def state_of(cluster: Cluster, cache: Cache, resource: Resource, owner: Owner) -> HolderState:
    """Live, deleting or gone; by a fresh read where the cache does not know the object.

    Identity is the uid: an object of the same name with another uid means that the owner is gone.
    Raises Unavailable when the API server does not answer.
    """
    known = cache.get(Key(resource.kind, owner.namespace, owner.name))
    if known is not None and known.uid == owner.uid:
        return HolderState.DELETING if known.deleting else HolderState.LIVE
    raw = await cluster.get(resource, owner.namespace or None, owner.name)
    if raw is None or raw["metadata"]["uid"] != owner.uid:
        return HolderState.GONE
    return HolderState.DELETING if "deletionTimestamp" in raw["metadata"] else HolderState.LIVE
