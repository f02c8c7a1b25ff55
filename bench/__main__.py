"""The command behind `make bench`: runs the chosen measurement, writes bench/out/<name>.json and prints tables."""

import argparse
import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from bench import console as pages
from bench import definitions, read_api, ready, runs, workflows
from bench.harness import staged

OUT: Final = Path(__file__).parent / "out"
MEASUREMENTS: Final = {
    "ready": ready,
    "workflows": workflows,
    "definitions": definitions,
    "read_api": read_api,
    "console": pages,
    "runs": runs,
}


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", choices=MEASUREMENTS, default="ready", help="which measurement (%(default)s)")
    parser.add_argument("--objects", type=int, default=2000, help="how many Providers, Workflows or runs (%(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="of each contestant (%(default)s)")
    given = parser.parse_args()
    if min(given.objects, given.rounds) < 1:
        parser.error("--objects and --rounds must be at least 1")
    measurement = MEASUREMENTS[given.only]
    said = Console(stderr=True)
    result = asyncio.run(_measure(given, lambda line: said.print(line, highlight=False)))
    OUT.mkdir(exist_ok=True)
    target = OUT / f"{given.only}.json"
    target.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    console = Console(width=120)
    for table in measurement.tables(result):
        console.print(table)
    console.print(measurement.verdict(result), highlight=False, soft_wrap=True)
    console.print(f"written to {target.relative_to(Path.cwd()) if target.is_relative_to(Path.cwd()) else target}")


async def _measure(given: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    match given.only:
        case "definitions":
            return definitions.measure(say)
        case "read_api":
            return await read_api.measure(say)
        case "console":
            return await pages.measure(say)
        case "runs":
            return await runs.measure(given.objects, given.rounds, say)
    async with staged() as stage:
        measure = workflows.measure if given.only == "workflows" else ready.measure
        return await measure(stage, given.objects, given.rounds, say)


if __name__ == "__main__":
    main()
