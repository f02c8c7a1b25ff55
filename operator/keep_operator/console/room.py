"""What every endpoint needs, and the way that each request takes: who asks, may they, what is there."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime

from starlette.requests import Request

from keep_operator.cluster.client import Cluster
from keep_operator.cluster.reviews import Right
from keep_operator.console import problems
from keep_operator.console.asked import Place
from keep_operator.console.comparisons import Comparisons
from keep_operator.console.described import Given
from keep_operator.console.doorkeeper import Doorkeeper
from keep_operator.console.ingest import Ingest
from keep_operator.errors import KeepOperatorError
from keep_operator.resources.kinds import Resource
from keep_operator.store import engine as database
from keep_operator.store import history
from keep_operator.store.connection import Connection
from keep_operator.store.engine import Engine
from keep_operator.store.history import Line

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Room:
    """The console's means; ``cluster_id`` marks the rows that this cluster owns."""

    engine: Engine
    cluster: Cluster
    cluster_id: str
    doorkeeper: Doorkeeper
    now: Callable[[], datetime]
    ingest: Ingest
    comparisons: Comparisons = field(default_factory=Comparisons)

    async def admit(self, request: Request, right: Right, told: str = "") -> None:
        """Returns if the user may do that, as `Doorkeeper.admit`."""
        request.state.told["right"] = str(right)
        await self.doorkeeper.admit(request.state.visitor, right, told)

    async def admit_to(self, request: Request, where: Place, resource: Resource) -> None:
        """Returns if the user may read these objects of the workflow's namespace; of Workflows that one only."""
        name = where.name if resource.plural == "workflows" else ""
        await self.admit(request, Right("get", resource, where.namespace, name))

    @asynccontextmanager
    async def look(self) -> AsyncIterator[Connection]:
        """A connection that can only read. Raises Problem 503 where the database does not answer."""
        try:
            async with database.look(self.engine) as conn:
                yield conn
        except KeepOperatorError as failure:
            log.warning("the control database was asked in vain: %s", failure)
            raise problems.unavailable("The control database", failure) from None

    async def line(self, conn: Connection, where: Place) -> Line:
        """The workflow's line of versions. Raises Problem 404."""
        found = await history.line(conn, self.cluster_id, where.namespace, where.name, where.id)
        if found is None:
            raise no_line(where)
        return found


def cluster_failed(failure: KeepOperatorError) -> problems.Problem:
    """The API server could not be asked for an object."""
    log.warning("the API server was asked for an object in vain: %s", failure)
    return problems.unavailable("The API server", failure)


def no_line(where: Place) -> problems.Problem:
    """The database does not know the workflow."""
    if where.id is not None:
        return problems.missing("WorkflowNotFound", f"{where} never had the id {where.id}.")
    return problems.missing(
        "WorkflowNotFound",
        f"{where} has no record: it does not exist, or the operator has not looked at it yet. Of one that is deleted the "
        "history is found by its workflowId.",
    )


def parameters(request: Request) -> Given:
    """The query, noted for the access log as far as it names objects."""
    asked = Given(request, request.state.endpoint)
    for name in ("namespace", "workflow", "tenant"):
        if asked.has(name) and (text := asked.text(name)) is not None:
            request.state.told[name] = text[:253]
    return asked
