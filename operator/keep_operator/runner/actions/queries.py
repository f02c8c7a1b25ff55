"""What is measured and logged: Prometheus, VictoriaMetrics, VictoriaLogs, Loki, Elasticsearch."""

from typing import Any
from urllib.parse import quote

from keep_operator.runner.actions import parameters, transport
from keep_operator.runner.actions.call import ActionFailed, Call, Outcome
from keep_operator.runner.actions.transport import Answer, Request


async def prometheus(call: Call) -> Outcome:
    """Prometheus' answer as a whole: ``results.data.result``."""
    url = f"{parameters.needed_setting(call, 'url').rstrip('/')}/api/v1/query"
    return await _metrics(call, url, {"query": parameters.needed(call, "query")})


async def victoriametrics(call: Call) -> Outcome:
    """VictoriaMetrics' answer as a whole, of an instant (``queryType: query``) or of a range (``query_range``)."""
    kind = parameters.text(call, "queryType", "query")
    asked = {"query": parameters.needed(call, "query")}
    if kind == "query":
        asked |= {"time": parameters.text(call, "start")}
    elif kind == "query_range":
        asked |= {name: parameters.text(call, name) for name in ("start", "end", "step")}
    else:
        raise ActionFailed("victoriametrics: the parameter queryType must be query or query_range")
    host = parameters.setting(call, "VMBackendURL")
    if not host:
        host = f"{parameters.needed_setting(call, 'VMBackendHost')}:{parameters.setting(call, 'VMBackendPort', '8428')}"
    if "://" not in host:
        host = f"http://{host}"
    return await _metrics(call, f"{host.rstrip('/')}/api/v1/{kind}", asked)


async def _metrics(call: Call, url: str, asked: dict[str, str]) -> Outcome:
    config = call.config
    user, password = (
        parameters.setting(call, one) or parameters.setting(call, other)
        for one, other in (("username", "BasicAuthUsername"), ("password", "BasicAuthPassword"))
    )
    verify = parameters.flag(call, config.get("verify"), "verify", True)
    insecure = parameters.flag(call, config.get("insecure"), "insecure", False)
    answer = await transport.exchange(
        call,
        Request(
            "POST",
            url,
            form=parameters.without_nothing(asked),
            auth=(user, password) if user and password else None,
            verify=verify and not insecure,
        ),
    )
    said = answer.content if isinstance(answer.content, dict) else {}
    transport.expect(call, answer, told=parameters.as_text(said.get("error")))
    return Outcome(_json(call, answer))


async def victorialogs(call: Call) -> Outcome:
    """Entries of the log (``queryType: query``), or what is counted of them: ``hits``, ``stats_query``, ``stats_query_range``."""
    kind = parameters.needed(call, "queryType")
    names = {
        "query": ("limit", "timeout"),
        "hits": ("start", "end", "step"),
        "stats_query": ("time",),
        "stats_query_range": ("start", "end", "step"),
    }.get(kind)
    if names is None:
        raise ActionFailed(
            "victorialogs: the parameter queryType must be query, hits, stats_query or stats_query_range"
        )
    asked = {name: parameters.text(call, name) for name in ("query", *names)}
    headers = parameters.without_nothing(
        {"AccountID": parameters.text(call, "account_id"), "ProjectID": parameters.text(call, "project_id")}
    )
    insecure = parameters.flag(call, call.config.get("insecure"), "insecure", False)
    answer = await transport.exchange(
        call,
        Request(
            "POST",
            f"{parameters.needed_setting(call, 'host_url').rstrip('/')}/select/logsql/{kind}",
            headers={**headers, **_logs_authorization(call)},
            form=parameters.without_nothing(asked),
            auth=_basic(call),
            verify=not insecure,
        ),
    )
    transport.expect(call, answer)
    # Each entry is a line of its own. One line alone is an answer by itself, as it is for Keep.
    lines = [line for line in answer.text.splitlines() if line.strip()]
    try:
        found = [transport.read_json(line) for line in lines]
    except ValueError:
        raise transport.failed(call, "answered what is no JSON") from None
    return Outcome(found[0] if len(found) == 1 and "\n" not in answer.text else found)


async def grafana_loki(call: Call) -> Outcome:
    """Loki's answer as a whole, of an instant (``queryType: query``) or of a range (``query_range``)."""
    kind = parameters.needed(call, "queryType")
    names = {
        "query": ("query", "limit", "time", "direction"),
        "query_range": ("query", "limit", "start", "end", "since", "step", "interval", "direction"),
    }.get(kind)
    if names is None:
        raise ActionFailed("grafana_loki: the parameter queryType must be query or query_range")
    answer = await transport.exchange(
        call,
        Request(
            "GET",
            f"{parameters.needed_setting(call, 'host_url').rstrip('/')}/loki/api/v1/{kind}",
            headers=_logs_authorization(call),
            params=parameters.without_nothing({name: parameters.text(call, name) for name in names}),
            auth=_basic(call),
            verify=parameters.flag(call, call.config.get("verify"), "verify", True),
        ),
    )
    return Outcome(_json(call, transport.expect(call, answer)))


def _basic(call: Call) -> tuple[str, str] | None:
    if parameters.setting(call, "authentication_type", "NoAuth") != "Basic":
        return None
    return parameters.setting(call, "username"), parameters.setting(call, "password")


def _logs_authorization(call: Call) -> dict[str, str]:
    kind, headers = parameters.setting(call, "authentication_type", "NoAuth"), {}
    if kind == "Bearer" and (token := parameters.setting(call, "bearer_token")):
        headers["Authorization"] = f"Bearer {token}"
    if kind in ("Bearer", "X-Scope-OrgID") and (scope := parameters.setting(call, "x_scope_orgid")):
        headers["X-Scope-OrgID"] = scope
    return headers


async def elastic(call: Call) -> Outcome:
    """With ``index`` the hits of a query, else the rows of an SQL query as objects."""
    host = parameters.needed_setting(call, "host").rstrip("/")
    if "://" not in host:
        host = f"https://{host}"
    index = parameters.text(call, "index")
    key, user = parameters.setting(call, "api_key"), parameters.setting(call, "username")
    if index:
        query = parameters.structure(call, "query", dict) or {"match_all": {}}
        asked: dict[str, Any] = {"query": query.get("query", query), "size": query.get("size", 10)}
        if "query" not in query:
            asked["query"] = {name: each for name, each in query.items() if name != "size"}
        url = f"{host}/{quote(index, safe=',*-_.')}/_search"
    else:
        asked, url = {"query": parameters.needed(call, "query")}, f"{host}/_sql?format=json"
    answer = await transport.exchange(
        call,
        Request(
            "POST",
            url,
            headers={"Authorization": f"ApiKey {key}"} if key else {},
            json=asked,
            auth=(user, parameters.setting(call, "password")) if user and not key else None,
            verify=parameters.flag(call, call.config.get("verify"), "verify", True),
        ),
    )
    said = _json(call, transport.expect(call, answer))
    try:
        if index:
            return Outcome(said["hits"]["hits"])
        columns = [each["name"] for each in said["columns"]]
        return Outcome([dict(zip(columns, row, strict=True)) for row in said["rows"]])
    except (KeyError, TypeError, ValueError):
        raise transport.failed(call, "answered what is no answer of Elasticsearch") from None


def _json(call: Call, answer: Answer) -> Any:
    try:
        return answer.json()
    except ValueError:
        raise transport.failed(call, "answered what is no JSON") from None
