"""Waits until the operator has said what becomes of an object that was made."""

import time
from collections.abc import Callable
from contextlib import closing

from keep_operator.plugin import ends
from keep_operator.plugin.kubectl import Json, Kubectl
from keep_operator.resources.kinds import Resource


def until(
    kubectl: Kubectl,
    resource: Resource,
    made: Json,
    timeout_s: float,
    done: Callable[[Json], bool],
    seen: Callable[[Json], None] = lambda _: None,
) -> Json:
    """The object once it is ``done``, else as it was when the time was over; ``seen`` gets each state on the way.

    That the server is away for a while is no reason to give up. Raises Refused where it cannot be watched.
    """
    end = time.monotonic() + timeout_s
    name = made["metadata"]["name"]
    while (left := end - time.monotonic()) > 0 and not done(made):
        try:
            with closing(kubectl.watch(resource, name, left)) as watched:
                for newest in watched:
                    made = newest
                    seen(made)
                    if done(made):
                        return made
        except ends.Unreachable:
            pass
        except ends.Failure as failure:
            what = resource.kind.removeprefix("Workflow").lower()
            raise ends.Refused(f"{what} {name} is made, but cannot be watched: {failure.message}") from None
        time.sleep(min(1, max(end - time.monotonic(), 0)))
    return made
