"""The command behind `make bench`: runs the chosen measurement, writes bench/out/<name>.json and prints a table."""

import argparse
import asyncio
import json
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from bench import ready
from bench.harness import staged

OUT: Final = Path(__file__).parent / "out"
CONTESTANTS: Final = {"ours": "keep-operator", "floor": "bare client", "kopf": "plain kopf"}


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", choices=["ready"], default="ready", help="which measurement")
    parser.add_argument("--objects", type=int, default=2000, help="how many Providers (default: %(default)s)")
    parser.add_argument("--kopf-objects", type=int, default=500, help="for plain kopf, scaled up (%(default)s)")
    given = parser.parse_args()
    if min(given.objects, given.kopf_objects) < 1:
        parser.error("--objects and --kopf-objects must be at least 1")
    result = asyncio.run(_measure(given.objects, given.kopf_objects))
    OUT.mkdir(exist_ok=True)
    target = OUT / f"{given.only}.json"
    target.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    console = Console(width=110)
    console.print(_table(result))
    console.print(
        f"worst order {result['order']}: {result['ours_to_floor']} x the floor (P-1: at most 1.5); "
        f"Tenants first {result['kopf_to_ours']} x faster than plain kopf (P-1: at least 3)",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"written to {target.relative_to(Path.cwd()) if target.is_relative_to(Path.cwd()) else target}")


async def _measure(objects: int, kopf_objects: int) -> dict[str, Any]:
    console = Console(stderr=True)
    async with staged() as stage:
        return await ready.measure(stage, objects, kopf_objects, lambda line: console.print(line, highlight=False))


def _table(result: dict[str, Any]) -> Table:
    table = Table(title=f"{result['objects']} Providers, cold apply: first create to last Ready")
    for title in ("order", "who", "seconds", "objects measured", "writes", "ms per write", "peak MB", "CPU s"):
        table.add_column(title, justify="left" if title in ("order", "who") else "right")
    for order, runs in result["orders"].items():
        for name, run in runs.items():
            process = [f"{run['rss_mb']:.0f}", f"{run['cpu_s']:.1f}"] if run["rss_mb"] else ["", ""]
            cells = [
                f"{run['seconds']:.1f}",
                str(run["measured"]),
                str(run["writes_seen"]),
                f"{run['ms_per_write']:.2f}",
            ]
            table.add_row(order.replace("_", " "), CONTESTANTS[name], *cells, *process)
    return table


if __name__ == "__main__":
    main()
