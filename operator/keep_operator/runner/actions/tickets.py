"""Where work is written down: Jira, ServiceNow."""

from typing import Any, Final
from urllib.parse import quote

from keep_operator.runner.actions import parameters, transport
from keep_operator.runner.actions.call import ActionFailed, Call, Outcome
from keep_operator.runner.actions.transport import Request

# Parameters of an issue that are no fields of it.
_OF_JIRA: Final = frozenset(
    {
        "summary",
        "description",
        "issue_type",
        "issuetype",
        "project_key",
        "board_name",
        "issue_id",
        "labels",
        "components",
        "custom_fields",
        "transition_to",
    }
)
# Priorities that templates make of nothing.
_NO_PRIORITY: Final = frozenset({"", "none", "null"})


async def jira(call: Call) -> Outcome:
    """A new issue, or with ``issue_id`` a changed one; then ``transition_to`` a status. Other parameters are fields of the issue."""
    known = parameters.text(call, "issue_id")
    fields = {
        **(parameters.structure(call, "custom_fields", dict) or {}),
        **{
            name: value
            for name, value in call.parameters.items()
            if name not in _OF_JIRA and not name.startswith("enrich_")
        },
    }
    if parameters.as_text(fields.get("priority")).casefold() in _NO_PRIORITY:
        fields.pop("priority", None)
    labels = parameters.structure(call, "labels", list)
    components = [{"name": each} for each in parameters.structure(call, "components", list) or []]
    told = parameters.without_nothing(
        {
            "summary": parameters.text(call, "summary"),
            "description": parameters.text(call, "description"),
            "labels": labels,
            "components": components,
        }
    )
    if known:
        update = {name: [{"set": value}] for name, value in {**told, **fields}.items()}
        await _jira(call, "PUT", f"/rest/api/2/issue/{quote(known, safe='')}", {"update": update})
        issue = await _jira(call, "GET", f"/rest/api/2/issue/{quote(known, safe='')}?fields=summary")
    else:
        parameters.needed(call, "summary")
        kind = parameters.text(call, "issue_type") or parameters.text(call, "issuetype", "Task")
        project = parameters.text(call, "project_key") or await _project(call)
        new = {**told, "project": {"key": project}, "issuetype": {"name": kind}, **fields}
        issue = await _jira(call, "POST", "/rest/api/2/issue", {"fields": new})
    issue = {name: issue.get(name) for name in ("id", "key", "self")}
    result = {"issue": issue, "ticket_url": f"{_jira_host(call)}/browse/{issue['key']}"}
    if wanted := parameters.text(call, "transition_to"):
        try:
            result["transition"] = await _transition(call, str(issue["key"]), wanted)
        except ActionFailed as error:
            # The issue is there: a repetition would make a second one.
            error.may_have_acted = error.may_have_acted or not known
            raise
    return Outcome(result, f"{'Changed' if known else 'Made'} {issue['key']}")


async def _project(call: Call) -> str:
    """The key of the project that a board is of."""
    board = parameters.needed(call, "project_key", "board_name")
    said = await _jira(call, "GET", f"/rest/agile/1.0/board?name={quote(board, safe='')}")
    for each in said.get("values") or []:
        if str(each.get("name", "")).casefold() == board.casefold():
            return str((each.get("location") or {}).get("projectKey", ""))
    raise transport.failed(call, "has no board of that name; give project_key, or another board_name")


async def _transition(call: Call, issue: str, wanted: str) -> dict[str, str]:
    path = f"/rest/api/2/issue/{quote(issue, safe='')}/transitions"
    possible = (await _jira(call, "GET", path)).get("transitions") or []
    for each in possible:
        if str(each.get("name", "")).casefold() == wanted.casefold():
            await _jira(call, "POST", path, {"transition": {"id": each["id"]}})
            return {"issue_id": issue, "transition": wanted}
    names = ", ".join(str(each.get("name")) for each in possible)
    raise transport.failed(call, f"has no such transition for {issue}; there is {names or 'none'}")


async def jira_query(call: Call) -> Outcome:
    """An issue by its id or key, or how many a board has."""
    if ticket := parameters.text(call, "ticket_id"):
        return Outcome({"issue": await _jira(call, "GET", f"/rest/api/2/issue/{quote(ticket, safe='')}")})
    board = parameters.needed(call, "ticket_id", "board_id")
    said = await _jira(call, "GET", f"/rest/agile/1.0/board/{quote(board, safe='')}/issue?maxResults=0")
    return Outcome({"number_of_issues": said.get("total")})


def _jira_host(call: Call) -> str:
    host = parameters.needed_setting(call, "host").rstrip("/")
    return host if "://" in host else f"https://{host}"


async def _jira(call: Call, method: str, path: str, body: Any = None) -> dict[str, Any]:
    auth = parameters.needed_setting(call, "email"), parameters.needed_setting(call, "api_token")
    request = Request(method, f"{_jira_host(call)}{path}", headers={"Accept": "application/json"}, json=body, auth=auth)
    said = transport.expect(call, await transport.exchange(call, request)).content
    return said if isinstance(said, dict) else {}


async def servicenow(call: Call) -> Outcome:
    """A new record in a table; with ``ticket_id`` the record that there is, for its state."""
    table = parameters.needed(call, "table_name").lower()
    base = parameters.needed_setting(call, "service_now_base_url").rstrip("/")
    if ticket := parameters.text(call, "ticket_id"):
        found = await _servicenow(call, "GET", f"{base}/api/now/table/{quote(table, safe='')}/{quote(ticket, safe='')}")
        return Outcome({**found, "fingerprint": call.parameters.get("fingerprint")}, "Read")
    payload = parameters.structure(call, "payload", dict) or {}
    made = await _servicenow(call, "POST", f"{base}/api/now/table/{quote(table, safe='')}", body=payload)
    link = f"{base}/now/nav/ui/classic/params/target/{table}.do%3Fsys_id%3D{made.get('sys_id')}"
    return Outcome({**made, "link": link}, f"Made {made.get('number', made.get('sys_id'))}")


async def servicenow_query(call: Call) -> Outcome:
    """Records of a table, or one by its id."""
    table = parameters.needed(call, "table_name").lower()
    base = parameters.needed_setting(call, "service_now_base_url").rstrip("/")
    known = parameters.text(call, "incident_id")
    url = f"{base}/api/now/table/{quote(table, safe='')}" + (f"/{quote(known, safe='')}" if known else "")
    limits = {name: str(parameters.number(call, name, usual)) for name, usual in _LIMITS.items()}
    return Outcome(await _servicenow(call, "GET", url, params={} if known else limits))


_LIMITS: Final = {"sysparm_limit": 100, "sysparm_offset": 0}


async def _servicenow(
    call: Call, method: str, url: str, *, body: Any = None, params: dict[str, str] | None = None
) -> Any:
    name, password = parameters.needed_setting(call, "username"), parameters.needed_setting(call, "password")
    request = Request(
        method, url, headers={"Accept": "application/json"}, json=body, params=params or {}, auth=(name, password)
    )
    said = transport.expect(call, await transport.exchange(call, request)).content
    if not isinstance(said, dict) or "result" not in said:
        # An instance that sleeps answers with a page, and with success.
        raise transport.failed(call, "answered what is no answer of ServiceNow; is the instance asleep?", True)
    return said["result"]
