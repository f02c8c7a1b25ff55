"""P-7: what working with a definition of nearly 200 KiB costs.

No cluster and no database: all of it is pure. Milliseconds of processor time, so that a busy machine does not count.
"""

import copy
import json
import statistics
import time
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, Final

from rich.table import Table

from bench.api import Json
from keep_operator.domain import comparison, patch, revision
from keep_operator.domain.grammar import dialect, workflow

ROUNDS: Final = 15
STEPS: Final = 1_900


def measure(say: Callable[[str], None]) -> Json:
    """The document that becomes definitions.json."""
    before = _definition()
    works: dict[str, Json] = {}
    for what, work in _works(before):
        work()
        times = [_time(work) for _ in range(ROUNDS)]
        works[what] = {"median_ms": round(statistics.median(times), 1), "worst_ms": round(max(times), 1)}
        say(f"{what}: {works[what]['median_ms']:.0f} ms")
    kib = len(json.dumps(before, separators=(",", ":"))) / 1024
    return {"kib": round(kib, 1), "steps": STEPS, "rounds": ROUNDS, "works": works}


def tables(result: Json) -> list[Table]:
    """What costs how much."""
    table = Table(title=f"a definition of {result['kib']:.0f} KiB, {result['steps']} steps")
    for title in ("what", "median ms", "worst ms"):
        table.add_column(title, justify="left" if title == "what" else "right")
    for what, taken in result["works"].items():
        table.add_row(what, f"{taken['median_ms']:.0f}", f"{taken['worst_ms']:.0f}")
    return [table]


def verdict(result: Json) -> str:
    """Beside the target."""
    worst = max(taken["worst_ms"] for what, taken in result["works"].items() if what.startswith("diff"))
    return f"diff of two definitions: at worst {worst:.0f} ms (P-7: at most 300 ms)"


def _works(before: dict[str, Any]) -> Iterator[tuple[str, Callable[[], object]]]:
    text = dialect.dump(before)
    edited, moved = copy.deepcopy(before), copy.deepcopy(before)
    for step in edited["steps"][::7]:
        step["provider"]["with"]["message"] = "something else"
    Random(1).shuffle(moved["steps"])  # noqa: S311 - an order, no secret
    yield "read the text", lambda: dialect.load(text)
    yield "judge", lambda: workflow.judge(before)
    yield "hash", lambda: revision.content_hash(before)
    for name, after in (("every seventh step edited", edited), ("all steps in another order", moved)):
        yield f"compare, {name}", lambda after=after: comparison.compare(before, after)  # type: ignore[misc]
        yield f"diff, {name}", lambda after=after: patch.unified(before, after)  # type: ignore[misc]


def _definition() -> dict[str, Any]:
    steps = [
        {
            "name": f"step-{n}",
            "provider": {"type": "console", "with": {"message": f"{{{{ steps.step-{n // 2}.results }}}}"}},
        }
        for n in range(STEPS)
    ]
    return {"id": "large", "triggers": [{"type": "interval", "value": "5m"}], "steps": steps}


def _time(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return (time.process_time() - began) * 1000
