"""Who made a decision, as far as the cluster can tell: by its admission policy, else by a second look at the rights.

A look at the policy is good for moments: for decisions that were made before it, so that the policy was there before and after
them; a lack of it for whatever was made since, as a new policy proves nothing in its first minute anyway.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from keep_operator.cluster import reviews
from keep_operator.cluster.client import Cluster
from keep_operator.cluster.reviews import Right, User
from keep_operator.domain import proof
from keep_operator.domain.proof import Standing
from keep_operator.errors import Unavailable
from keep_operator.resources.decision import WorkflowDecisionSpec
from keep_operator.resources.kinds import ADMISSION_POLICIES, ADMISSION_POLICY_BINDINGS, WORKFLOWS
from keep_operator.resources.objects import Object

log = logging.getLogger(__name__)

# Hundreds of decisions at once cost one look, and a policy that was deleted proves nothing after so long.
LOOK_LASTS: Final = timedelta(seconds=5)
# The API server tells times in whole seconds.
_GRAIN: Final = timedelta(seconds=1)
_NO_RIGHT, _NOT_SERVED = "ApiAccessDenied", "ApiResourceMissing"


async def look(cluster: Cluster) -> Standing:
    """How things are with the policy at this moment. Raises Unavailable where the API server does not answer."""
    try:
        policy = await cluster.get(ADMISSION_POLICIES, None, proof.POLICY)
        binding = await cluster.get(ADMISSION_POLICY_BINDINGS, None, proof.POLICY)
    except Unavailable as failure:
        if failure.reason == _NO_RIGHT:
            return Standing(None, failure.message)
        if failure.reason == _NOT_SERVED:
            return Standing(None, "it serves no ValidatingAdmissionPolicy, which Kubernetes has from 1.30 on")
        raise
    return proof.standing(policy, binding)


class Witness:
    """Looks at the cluster for the proof of who decides; ``now`` is the time in UTC."""

    def __init__(self, cluster: Cluster, now: Callable[[], datetime]) -> None:
        self._cluster = cluster
        self._now = now
        self._lock = asyncio.Lock()
        self._looked_at = datetime.min.replace(tzinfo=UTC)
        self._seen = Standing(None)

    async def lack(self, obj: Object[WorkflowDecisionSpec]) -> str | None:
        """Why it is not proven that its actor made this decision, as the rest of a sentence; None: it is proven.

        Raises Unavailable where the API server does not answer.
        """
        async with self._lock:
            if not self._lasts_for(obj):
                at = self._now()
                self._seen = await look(self._cluster)
                self._looked_at = at
            return proof.lack(self._seen, obj)

    def _lasts_for(self, obj: Object[WorkflowDecisionSpec]) -> bool:
        age = self._now() - self._looked_at
        fresh = timedelta() <= age < LOOK_LASTS
        return fresh and (self._seen.since is None or obj.created_at + _GRAIN < self._looked_at)

    async def missing_verb(self, obj: Object[WorkflowDecisionSpec]) -> str | None:
        """The verb on the Workflow that the actor certainly does not have, though the decision needs it; None: none.

        Only of service accounts is anything certain (`proof.known_groups`). Raises Unavailable where the API server does not
        answer.
        """
        assert isinstance(obj.spec, WorkflowDecisionSpec)
        groups = proof.known_groups(obj.spec.actor)
        if groups is None:
            return None
        actor = User(obj.spec.actor, groups=groups)
        for verb in proof.verbs(obj.spec):
            right = Right(verb, WORKFLOWS, obj.key.namespace, obj.spec.workflow_ref.name)
            try:
                if await reviews.denied(self._cluster, actor, right):
                    return verb
            except Unavailable as failure:
                if failure.reason != _NO_RIGHT:
                    raise
                log.warning("whether %s may %s is not asked: %s", actor.name, right, failure)
        return None
