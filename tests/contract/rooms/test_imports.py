"""What each process loads; the layers themselves are import-linter's."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.contract


def _loaded(statement: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{statement}; import sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_operate_never_loads_the_official_client() -> None:
    """The operator's memory is not spent on a client library that it does not use."""
    assert "kubernetes" not in _loaded("import keep_operator.operate")


def test_the_command_line_starts_light() -> None:
    """`keep-operator --help` loads neither kopf nor a database driver nor an HTTP client."""
    loaded = _loaded("import keep_operator.__main__")
    assert (
        loaded & {"kopf", "kubernetes", "sqlalchemy", "psycopg", "aiohttp", "rich", "alembic", "starlette", "uvicorn"}
        == set()
    )


def test_operator_is_no_package() -> None:
    """The folder `operator/` does not hide the standard library's module of that name."""
    import operator

    import keep_operator

    assert operator.itemgetter("a")({"a": 1}) == 1
    assert not (Path(keep_operator.__file__).parents[1] / "__init__.py").exists()


# What takes longer to load than all of `kubectl keep`, and what only rare commands need.
HEAVY = {
    "kopf", "kubernetes", "sqlalchemy", "psycopg", "aiohttp", "alembic", "pydantic", "celpy", "cryptography", "yaml",
    "asyncio", "uvloop", "rfc8785",
}  # fmt: skip


def test_kubectl_keep_starts_light() -> None:
    """`kubectl keep --help` waits for nothing but the command line's own library."""
    assert _loaded("import keep_operator.plugin.main") & (HEAVY | {"rich"}) == set()


def test_kubectl_keep_history_stays_light(tmp_path: Path) -> None:
    """The first question of an incident is answered before most libraries would be loaded; tables come from rich."""
    program = tmp_path / "kubectl"
    spec = {"workflowRef": {"name": "a"}, "lineageId": "x", "number": 1, "contentHash": "0" * 64}
    version = {"metadata": {"name": "a-v1", "creationTimestamp": "2026-11-25T00:00:00Z"}, "spec": spec}
    answer = {"metadata": {"name": "a", "namespace": "b"}, "spec": {}, "items": [version]}
    program.write_text(f"#!/bin/sh\necho '{json.dumps(answer)}'\n", encoding="utf-8")
    program.chmod(0o755)
    statement = (
        f"import os; os.environ['PATH'] = {str(tmp_path)!r} + ':/bin'; from keep_operator.plugin.main import keep; "
        "keep(['history', 'a'], standalone_mode=False)"
    )
    assert _loaded(statement) & HEAVY == set()


def test_the_console_loads_what_it_serves_with_and_no_more() -> None:
    """Its memory is not spent on kopf, and what reconciles is not in a process that only reads."""
    loaded = _loaded("import keep_operator.console.process")
    assert {"starlette", "uvicorn"} <= loaded
    assert loaded & {"kopf", "kubernetes", "rich"} == set()
    assert not [name for name in loaded if name.startswith(("keep_operator.reconcile", "keep_operator.handlers"))]
