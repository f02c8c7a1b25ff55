"""A connection that is out of the pool: SQLAlchemy writes the statements, the driver runs them.

SQLAlchemy's own way from a statement to its rows costs several times the processor time of the driver's, and a reconcile
consists of little else (docs/performance.md). So a statement becomes text here, once where it is a constant (`prepared`),
and psycopg does the rest. Values and rows are what psycopg makes of them: uuid, json, timestamps; no types of SQLAlchemy's
that convert in Python.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg
from psycopg.rows import namedtuple_row
from sqlalchemy import Executable
from sqlalchemy.dialects.postgresql.psycopg import dialect

from keep_operator.store import failures

Row = Any  # a named tuple; its fields are the columns of the statement
_DIALECT: Final = dialect()  # type: ignore[no-untyped-call]


@dataclass(slots=True)
class Queries:
    """How much an engine has said to the database since it was made; begin and commit are no statements here."""

    statements: int = 0
    transactions: int = 0


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement as the driver takes it. ``values`` are those that stand in the statement itself."""

    text: str
    values: Mapping[str, Any] = field(repr=False)


def prepared(statement: Executable) -> Prepared:
    """The statement's text; building it costs more than running it, so constants are prepared once."""
    compiled = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})  # type: ignore[attr-defined]
    return Prepared(compiled.string, dict(compiled.params))


class Result:
    """The rows that a statement has brought, all of them; ``rowcount`` is how many it has touched."""

    def __init__(self, rows: Sequence[Row], rowcount: int) -> None:
        self._rows = rows
        self.rowcount = rowcount

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    def all(self) -> Sequence[Row]:
        """Every row."""
        return self._rows

    def first(self) -> Row | None:
        """The first row, None where there is none."""
        return self._rows[0] if self._rows else None

    def one_or_none(self) -> Row | None:
        """The only row, None where there is none."""
        assert len(self._rows) <= 1, "one row at most was expected"
        return self.first()

    def one(self) -> Row:
        """The only row."""
        (row,) = self._rows
        return row

    def scalar_one(self) -> Any:
        """The first value of the only row."""
        return self.one()[0]

    def scalars(self) -> Iterator[Any]:
        """The first value of each row."""
        return (row[0] for row in self._rows)


class Connection:
    """What `engine.look` and `engine.transaction` lend; not to be kept. ``driver`` is psycopg's own."""

    def __init__(self, driver: psycopg.AsyncConnection[Any], counted: Queries) -> None:
        self.driver = driver
        self._counted = counted

    async def execute(self, statement: Executable | Prepared, values: Mapping[str, Any] | None = None) -> Result:
        """Run one statement; raises our errors only."""
        known = statement if isinstance(statement, Prepared) else prepared(statement)
        self._counted.statements += 1
        try:
            cursor = self.driver.cursor(row_factory=namedtuple_row)
            await cursor.execute(known.text, {**known.values, **(values or {})})
            # Not `cursor.description`, which describes each column only to be asked whether there is one.
            rows = await cursor.fetchall() if cursor.pgresult is not None and cursor.pgresult.nfields else []
        except (psycopg.Error, UnicodeEncodeError) as error:
            failure = failures.translate(error, known.text)
            if failure is None:
                raise
            raise failure from None
        return Result(rows, cursor.rowcount)

    async def scalar(self, statement: Executable | Prepared, values: Mapping[str, Any] | None = None) -> Any:
        """The first value of the first row, None where there is none."""
        row = (await self.execute(statement, values)).first()
        return None if row is None else row[0]
