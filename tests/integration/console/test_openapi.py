"""The API's own description is true: programs that are made from it get what it says, whatever they send."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from integration.console import started
from integration.console.test_runs import RUNNER
from integration.console.visit import Console
from keep_operator.console import endpoints, schemas

pytestmark = pytest.mark.integration

PLACES = ("query", "path")


def refs(value: Any) -> Iterator[str]:
    """The references in a document."""
    match value:
        case {"$ref": str(target)}:
            yield target
        case dict():
            for each in value.values():
                yield from refs(each)
        case list():
            for each in value:
                yield from refs(each)


def test_the_document_holds_together() -> None:
    """Every reference leads somewhere, every schema is one, every operation has a name of its own."""
    document = endpoints.document()
    assert document["openapi"].startswith("3.1")
    for target in refs(document):
        found: Any = document
        for step in target.removeprefix("#/").split("/"):
            found = found[step]
    for schema in schemas.SCHEMAS.values():
        Draft202012Validator.check_schema(schema)
    operations = [each for path in document["paths"].values() for each in path.values()]
    assert len({each["operationId"] for each in operations}) == len(operations) == len(endpoints.ENDPOINTS)
    for each in operations:
        names = [(one["in"], one["name"]) for one in each.get("parameters", ())]
        assert len(set(names)) == len(names)
        assert {place for place, _ in names} <= set(PLACES)
        for one in each.get("parameters", ()):
            Draft202012Validator.check_schema(one["schema"])


async def test_it_is_served_to_anybody(console: Console) -> None:
    """Whoever writes a client needs no token to read it; it is what requests are routed by."""
    answer = await console.ask("/openapi.json", token=None)
    assert answer.body == endpoints.document()
    paths = (await console.ask("")).body["paths"]
    assert {*paths, "/api/v1"} == set(answer.body["paths"])
    assert (
        await console.ask("/openapi.json", token=None, headers={"If-None-Match": answer.headers["etag"]})
    ).status == 304
    await console.problem("/openapi.json", 400, "ParameterInvalid", token=None, params={"a": "b"})


CONFIG = """
[parameters]
"path.tenant" = "keep"
"path.run" = "{run}"
"path.revision" = "active"
"query.tenant" = "keep"
"query.namespace" = "monitoring"
"query.workflow" = "high-cpu"

[phases.stateful]
enabled = false

[checks]
# A cursor, a version's name or a draft can be of the right form and still mean nothing: that is a 400, too.
positive_data_acceptance.expected-statuses = ["2xx", 400, 401, 403, 404, 409, 413, 422, 429]
# Too many events are refused like a body that is too long.
negative_data_rejection.expected-statuses = [400, 401, 403, 404, 405, 406, 409, 413, 415, 422, 429]
"""


def examined(url: str, token: str, run: str, log: Path, *more: str) -> subprocess.CompletedProcess[bytes]:
    """schemathesis has looked at some of the endpoints."""
    config = log / "schemathesis.toml"
    config.write_text(CONFIG.format(run=run), encoding="utf-8")
    return subprocess.run(
        [
            *(str(Path(sys.executable).parent / "schemathesis"), f"--config-file={config}", "run"),
            *(f"{url}/api/v1/openapi.json", f"--header=Authorization: Bearer {token}"),
            *("--max-examples=25", "--seed=4", "--suppress-health-check=all", "--no-color", *more),
        ],
        cwd=log,
        env={**os.environ, "HYPOTHESIS_STORAGE_DIRECTORY": str(log)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )


def told(output: str) -> str:
    """What was found, without the long bodies."""
    return "\n".join(line[:600] for line in output.splitlines())[-8_000:]


@pytest.mark.parametrize("door", ["users", "machines"])
async def test_schemathesis_finds_nothing(console: Console, door: str, tmp_path: Path) -> None:
    """Thousands of requests made from the document, good and bad: each is answered as the document says."""
    console.token = console.played.give("ann", *RUNNER, "get tenants ")
    await started.have(console.engine, "high-cpu", {"type": "manual"})
    await started.have(console.engine, "every", {"type": "alert", "cel": "severity > 'low'"})
    await started.have_token(console.engine)
    made = await console.ask("/runs", method="POST", json={"namespace": "monitoring", "workflow": "high-cpu"})
    run = str(made.body["id"])
    token = console.token if door == "users" else started.TOKEN
    chosen = "--exclude-path-regex=events" if door == "users" else "--include-path-regex=events"
    done = await asyncio.to_thread(examined, console.url, token, run, tmp_path, chosen)
    assert done.returncode == 0, told(done.stdout.decode())
