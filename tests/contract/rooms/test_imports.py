"""What each process loads; the layers themselves are import-linter's."""

import subprocess
import sys

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
    assert loaded & {"kopf", "kubernetes", "sqlalchemy", "psycopg", "aiohttp", "rich", "alembic"} == set()


def test_operator_is_no_package() -> None:
    """The folder `operator/` does not hide the standard library's module of that name."""
    import operator
    from pathlib import Path

    import keep_operator

    assert operator.itemgetter("a")({"a": 1}) == 1
    assert not (Path(keep_operator.__file__).parents[1] / "__init__.py").exists()
