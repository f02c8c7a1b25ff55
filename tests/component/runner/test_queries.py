"""What is asked of databases of measurements and logs, of MySQL and ClickHouse, and how their rows come back."""

from typing import Any

import pytest

from component.runner import mysql_side
from component.runner.conftest import Make
from component.runner.far_side import FarSide, answer
from keep_operator.domain.abilities import Kind
from keep_operator.runner.actions import ActionFailed, perform

pytestmark = pytest.mark.component

MEASURED = {
    "status": "success",
    "data": {"resultType": "vector", "result": [{"metric": {}, "value": [1700000000, "0.0051"]}]},
}


async def test_prometheus(call: Make, there: FarSide) -> None:
    """A step reads a value as `results.data.result.0.value.1`, with the Provider's credentials."""
    there.otherwise = answer(MEASURED)
    config = {"url": f"{there.url}/", "username": "u", "password": "p"}
    done = await perform(call("prometheus", config, kind="step", query='up{job="x"}'))
    assert done.result["data"]["result"][0]["value"][1] == "0.0051"
    assert (there.last.path, there.last.headers["Authorization"]) == ("/api/v1/query", "Basic dTpw")
    assert there.last.body == "query=up%7Bjob%3D%22x%22%7D"


async def test_prometheus_that_refuses(call: Make, there: FarSide) -> None:
    """What is wrong with a query is said in Prometheus' words; an answer of something else is told as that."""
    there.answers(
        answer({"status": "error", "errorType": "bad_data", "error": "parse error at char 3"}, 400), answer("<html>")
    )
    with pytest.raises(ActionFailed, match="answered 400 Bad Request: parse error at char 3"):
        await perform(call("prometheus", {"url": there.url}, kind="step", query="up{"))
    with pytest.raises(ActionFailed, match="answered what is no JSON"):
        await perform(call("prometheus", {"url": there.url}, kind="step", query="up"))


async def test_victoriametrics(call: Make, there: FarSide) -> None:
    """VictoriaMetrics is asked for an instant and for a range, by its address or by host and port."""
    there.otherwise = answer(MEASURED)
    config = {"VMBackendHost": "http://127.0.0.1", "VMBackendPort": there.port}
    done = await perform(call("victoriametrics", config, kind="step", query="up", queryType="query", start="now-5m"))
    assert done.result["data"]["result"][0]["value"][1] == "0.0051"
    assert (there.last.path, there.last.body) == ("/api/v1/query", "query=up&time=now-5m")
    config = {"VMBackendURL": there.url}
    await perform(
        call("victoriametrics", config, kind="step", query="up", queryType="query_range", start="1", end="2", step="5m")
    )
    assert (there.last.path, there.last.body) == ("/api/v1/query_range", "query=up&start=1&end=2&step=5m")
    with pytest.raises(ActionFailed, match="must be query or query_range"):
        await perform(call("victoriametrics", config, kind="step", query="up", queryType="x"))


async def test_victorialogs(call: Make, there: FarSide) -> None:
    """Entries of the log come as a list, one per line; one answer as itself."""
    config = {"host_url": there.url, "authentication_type": "Bearer", "bearer_token": "tok-1", "x_scope_orgid": "o"}
    there.answers(answer('{"_msg": "a"}\n{"_msg": "b"}\n'), answer('{"hits": []}'))
    done = await perform(
        call("victorialogs", config, kind="step", queryType="query", query="error", limit=2, account_id=7)
    )
    assert done.result == [{"_msg": "a"}, {"_msg": "b"}]
    assert (there.last.path, there.last.body) == ("/select/logsql/query", "query=error&limit=2")
    sent = there.last.headers
    assert (sent["Authorization"], sent["X-Scope-OrgID"], sent["AccountID"]) == ("Bearer tok-1", "o", "7")
    done = await perform(call("victorialogs", config, kind="step", queryType="hits", query="error", step="1h"))
    assert done.result == {"hits": []}


async def test_loki_and_elastic(call: Make, there: FarSide) -> None:
    """Loki is asked for a range, Elasticsearch for hits or by SQL."""
    there.answers(
        answer(MEASURED), answer({"hits": {"hits": [{"_id": 1}]}}), answer({"columns": [{"name": "a"}], "rows": [[1]]})
    )
    config = {"host_url": there.url, "authentication_type": "X-Scope-OrgID", "x_scope_orgid": "o"}
    await perform(call("grafana_loki", config, kind="step", queryType="query_range", query='{a="b"}', since="1h"))
    assert (there.last.path, there.last.query) == ("/loki/api/v1/query_range", {"query": '{a="b"}', "since": "1h"})
    assert there.last.headers["X-Scope-OrgID"] == "o"
    config = {"host": there.url, "api_key": "ek-1"}
    done = await perform(
        call("elastic", config, kind="step", index="alerts-*", query='{"query_string": {"query": "firing"}}')
    )
    assert (there.last.path, there.last.json) == (
        "/alerts-*/_search",
        {"query": {"query_string": {"query": "firing"}}, "size": 10},
    )
    assert done.result == [{"_id": 1}]
    done = await perform(call("elastic", config, kind="step", query="select a from b"))
    assert (there.last.path, done.result) == ("/_sql", [{"a": 1}])


CLICKHOUSE = {"username": "u", "password": "p", "protocol": "http", "host": "127.0.0.1", "database": "d"}


async def test_clickhouse(call: Make, there: FarSide) -> None:
    """A step that reads uses the method with which ClickHouse does not write; an action writes."""
    there.otherwise = answer('{"a": 1}\n{"a": 2}\n')
    config = {**CLICKHOUSE, "port": there.port}
    done = await perform(call("clickhouse", config, kind="step", query="SELECT * FROM t WHERE a > {least}", least=0))
    assert (there.last.method, there.last.query) == (
        "GET",
        {"query": "SELECT * FROM t WHERE a > 0", "default_format": "JSONEachRow", "database": "d"},
    )
    assert done.result == [{"a": 1}, {"a": 2}]
    assert there.last.headers["Authorization"] == "Basic dTpw"
    done = await perform(call("clickhouse", config, kind="step", query="SELECT 1", single_row=True))
    assert done.result == {"a": 1}
    there.otherwise = answer("")
    await perform(call("clickhouse", config, query="INSERT INTO t VALUES (1)"))
    assert (there.last.method, there.last.body) == ("POST", "INSERT INTO t VALUES (1)")
    with pytest.raises(ActionFailed, match="give the Provider protocol http or https"):
        await perform(call("clickhouse", {**config, "protocol": "clickhouse"}, kind="step", query="SELECT 1"))


MYSQL = {"username": "keep", "password": "mysql-password", "host": "127.0.0.1", "database": "books"}
FOUND = mysql_side.rows(
    {"id": "int", "price": "decimal", "at": "datetime", "title": "text"},
    ("1", "9.90", "2026-11-29 12:00:00", "ä"),
    ("2", "10", None, None),
)


async def test_mysql_reads(call: Make) -> None:
    """Rows come as lists, as objects, or one alone; numbers as numbers, times as they are read."""
    async with mysql_side.serve() as there:
        there.answers["SELECT * FROM book WHERE id > 0"] = FOUND
        config = {**MYSQL, "port": there.port}
        asked: dict[str, Any] = {"query": "SELECT * FROM book WHERE id > {least}", "least": 0}
        done = await perform(call("mysql", config, kind="step", **asked))
        assert done.result == [[1, 9.9, "2026-11-29 12:00:00", "ä"], [2, 10, None, None]]
        assert there.database.endswith("books")
        assert there.asked[-2:] == ["START TRANSACTION READ ONLY", "SELECT * FROM book WHERE id > 0"]
        assert "max_statement_time = 10.0" in there.asked[-3] and "max_execution_time = 10000 " in there.asked[-3]
        done = await perform(call("mysql", config, kind="step", as_dict=True, single_row="true", **asked))
        assert done.result == {"id": 1, "price": 9.9, "at": "2026-11-29 12:00:00", "title": "ä"}
        there.answers["SELECT 1"] = mysql_side.rows({"a": "int"})
        with pytest.raises(ActionFailed, match="returned no row, and single_row wants one"):
            await perform(call("mysql", config, kind="step", query="SELECT 1", single_row=True))


@pytest.mark.parametrize(("kind", "statement"), [("step", "DELETE FROM cache"), ("action", "DELETE FROM cache")])
async def test_mysql_writes(kind: Kind, statement: str, call: Make) -> None:
    """What says that it writes is committed, in a step as in an action, as Keep does it."""
    async with mysql_side.serve() as there:
        await perform(call("mysql", {**MYSQL, "port": there.port}, kind=kind, query=statement))
        assert there.asked[-3:] == ["START TRANSACTION", statement, "COMMIT"]


async def test_mysql_that_refuses(call: Make) -> None:
    """What MySQL says is told with its number, without the password; what passes can be tried again."""
    async with mysql_side.serve() as there:
        config = {**MYSQL, "port": there.port}
        there.answers["SELECT 0"] = mysql_side.error(4166, "HY000", "not allowed")
        with pytest.raises(ActionFailed, match="says 4166") as failed:
            await perform(call("mysql", config, kind="action", query="SELECT 0"))
        assert not failed.value.may_have_acted
        there.answers["SELECT 1"] = mysql_side.error(1213, "40001", "Deadlock found")
        with pytest.raises(ActionFailed, match="says 1213: Deadlock found") as failed:
            await perform(call("mysql", config, kind="step", query="SELECT 1"))
        assert failed.value.retryable
        there.answers["WITH a AS (SELECT 1) DELETE FROM b"] = mysql_side.error(1792, "25006", "read only")
        with pytest.raises(ActionFailed, match="was asked by a step to write"):
            await perform(call("mysql", config, kind="step", query="WITH a AS (SELECT 1) DELETE FROM b"))
        there.refuse = mysql_side.error(1045, "28000", "Access denied for keep with mysql-password")
        with pytest.raises(ActionFailed, match=r"says 1045: Access denied for keep with \*\*\*") as failed:
            await perform(call("mysql", config, kind="step", query="SELECT 1"))
        assert not failed.value.retryable


async def test_mysql_without_end(call: Make) -> None:
    """A table of many megabytes is not read to its end, nor is a single huge field."""
    async with mysql_side.serve() as there:
        config = {**MYSQL, "port": there.port}
        there.answers["SELECT 1"] = mysql_side.rows({"a": "text"}, *[("x" * 1000,)] * 40_000)
        there.answers["SELECT 2"] = mysql_side.rows({"a": "text"}, ("x" * 15_000_000,))
        for query in ("SELECT 1", "SELECT 2"):
            with pytest.raises(ActionFailed, match="more than 1024 KiB of rows"):
                await perform(call("mysql", config, kind="step", query=query))


async def test_mysql_that_asks_for_a_file(call: Make, tmp_path: Any) -> None:
    """A server that answers a query with the wish for a file of the runner does not get it."""
    secret = tmp_path / "secret"
    secret.write_text("canary-of-the-runner")
    async with mysql_side.serve() as there:
        there.answers["SELECT 1"] = b"\xfb" + str(secret).encode()
        with pytest.raises(ActionFailed):
            await perform(call("mysql", {**MYSQL, "port": there.port}, kind="step", query="SELECT 1"))
        assert not any("canary-of-the-runner" in each for each in there.asked)


@pytest.mark.parametrize("query", ["{a.__class__}", "{a[0]}", "{a:>99999999999}", "{a!r:x}", "{}", "{0}", "{b}", "{"])
async def test_a_query_that_wants_more_than_names(query: str, call: Make) -> None:
    """Braces in a query are filled in with parameters, and reach nothing of the runner."""
    for type_name, config in (("mysql", MYSQL), ("clickhouse", CLICKHOUSE)):
        with pytest.raises(ActionFailed, match="the query cannot be filled in"):
            await perform(call(type_name, {**config, "port": 1}, kind="step", query=f"SELECT {query}", a="x"))
