"""Who is woken at night: PagerDuty, Opsgenie, Squadcast, ilert. Most take a key by which they know a repetition."""

import asyncio
from typing import Any, Final
from urllib.parse import quote

from keep_operator.runner.actions import parameters, transport
from keep_operator.runner.actions.call import ActionFailed, Call, Outcome
from keep_operator.runner.actions.transport import Request

PAGERDUTY_EVENTS: Final = "https://events.pagerduty.com/v2/enqueue"
PAGERDUTY: Final = "https://api.pagerduty.com"
OPSGENIE: Final = "https://api.opsgenie.com/v2/alerts"
SQUADCAST: Final = "https://{}{}.squadcast.com"
ILERT: Final = "https://api.ilert.com/api"
_SEVERITIES: Final = ("critical", "error", "warning", "info")
# Severities of alerts, as PagerDuty calls them.
_MEANT: Final = {"high": "error", "low": "info"}
_EVENTS: Final = ("trigger", "acknowledge", "resolve")
_DETAILS: Final = ("timestamp", "component", "group", "class")
# What PagerDuty says of an incident whose key it has.
_ALREADY_OPEN: Final = "matching dedup key already exists"
# Of PagerDuty's dedup_key and Opsgenie's alias.
_LONGEST_KEY: Final = 255
_LONGEST_ALIAS: Final = 512
# Opsgenie makes an alert a moment after it took it; then its id is known.
_ASK_AFTER_S: Final = (0.2, 0.5, 1.0)


async def pagerduty(call: Call) -> Outcome:
    """An event for the routing key, else an incident by the API key.

    Without ``dedup`` the event has the idempotency key, so that a repetition changes nothing.
    """
    routing_key = parameters.text(call, "routing_key") or parameters.setting(call, "routing_key")
    if not routing_key:
        return await _incident(call)
    event = parameters.text(call, "event_type", "trigger")
    severity = parameters.text(call, "severity", "critical").casefold()
    severity = _MEANT.get(severity, severity)
    if event not in _EVENTS:
        raise ActionFailed(f"pagerduty: the parameter event_type must be one of {', '.join(_EVENTS)}")
    if severity not in _SEVERITIES:
        raise ActionFailed(f"pagerduty: the parameter severity must be one of {', '.join(_SEVERITIES)}")
    details = parameters.structure(call, "custom_details", dict)
    if not details and (body := call.parameters.get("alert_body")):
        details = {"alert_body": body}
    payload = {
        "summary": parameters.text(call, "title"),
        "source": parameters.text(call, "source") or "custom_event",
        "severity": severity,
        **parameters.without_nothing(
            {
                "custom_details": details,
                **{name: call.parameters.get(name, call.parameters.get(f"{name}_")) for name in _DETAILS},
                **{name: parameters.structure(call, name, list) for name in ("images", "links")},
            }
        ),
    }
    key = (parameters.text(call, "dedup") or call.idempotency_key)[:_LONGEST_KEY]
    asked = {"routing_key": routing_key, "event_action": event, "dedup_key": key, "payload": payload}
    asked |= parameters.without_nothing({name: parameters.text(call, name) for name in ("client", "client_url")})
    answer = transport.expect(call, await transport.exchange(call, Request("POST", PAGERDUTY_EVENTS, json=asked)))
    return Outcome(answer.content, f"Sent as {key}")


async def _incident(call: Call) -> Outcome:
    known = parameters.text(call, "incident_id")
    body = parameters.structure(call, "alert_body", dict)
    if body is not None and "details" in body:
        body.setdefault("type", "incident_body")
    status = parameters.text(call, "status")
    priority = parameters.text(call, "priority")
    incident = {
        "type": "incident",
        "title": parameters.text(call, "title"),
        "service": {
            "id": parameters.text(call, "service_id") or parameters.setting(call, "service_id"),
            "type": "service_reference",
        },
        "incident_key": known or call.idempotency_key,
        **parameters.without_nothing(
            {
                "body": body,
                "status": status,
                "resolution": parameters.text(call, "resolution") if status == "resolved" else "",
                "priority": {"id": priority, "type": "priority_reference"} if priority else None,
            }
        ),
    }
    url = f"{PAGERDUTY}/incidents" + (f"/{quote(known, safe='')}" if known else "")
    headers = {**_pagerduty_headers(call), "From": parameters.text(call, "requester")}
    request = Request("PUT" if known else "POST", url, headers=headers, json={"incident": incident})
    answer = await transport.exchange(call, request)
    if not known and answer.status == 400 and _ALREADY_OPEN in answer.text:
        # By our own key: it is the one that was made before somebody asked again.
        return Outcome({"incident": incident}, "There already")
    return Outcome(transport.expect(call, answer).content, "Sent")


async def pagerduty_query(call: Call) -> Outcome:
    """One incident by ``incident_id``, those of an ``incident_key``, or a page of them."""
    known, key = parameters.text(call, "incident_id"), parameters.text(call, "incident_key")
    url = f"{PAGERDUTY}/incidents" + (f"/{quote(known, safe='')}" if known else "")
    params = {"incident_key": key} if key and not known else {}
    request = Request("GET", url, headers=_pagerduty_headers(call), params=params)
    return Outcome(transport.expect(call, await transport.exchange(call, request)).content)


def _pagerduty_headers(call: Call) -> dict[str, str]:
    if key := parameters.setting(call, "api_key"):
        token = f"Token token={key}"
    elif isinstance(granted := call.config.get("oauth_data"), dict) and (access := granted.get("access_token")):
        token = f"Bearer {access}"
    else:
        raise ActionFailed("pagerduty: the Provider has neither a routing_key nor an api_key; it needs one of the two")
    return {"Authorization": token, "Accept": "application/vnd.pagerduty+json;version=2"}


async def opsgenie(call: Call) -> Outcome:
    """An alert; with ``type: close_alert`` one is closed. Without ``alias`` the alert has the idempotency key."""
    headers = {"Authorization": f"GenieKey {parameters.needed_setting(call, 'api_key')}"}
    if parameters.text(call, "type") == "close_alert":
        known = parameters.needed(call, "alert_id")
        request = Request("POST", f"{OPSGENIE}/{quote(known, safe='')}/close", headers=headers, json={})
        return Outcome(transport.expect(call, await transport.exchange(call, request)).content, "Closed")
    alias = (parameters.text(call, "alias") or call.idempotency_key)[:_LONGEST_ALIAS]
    payload = parameters.without_nothing(
        {
            "message": parameters.needed(call, "message"),
            "alias": alias,
            **{
                name: parameters.text(call, name)
                for name in ("user", "note", "source", "description", "entity", "priority")
            },
            **{name: parameters.structure(call, name, list) for name in ("responders", "actions", "tags")},
            "visibleTo": parameters.structure(call, "visible_to", list),
            "details": parameters.structure(call, "details", dict),
        }
    )
    request = Request("POST", OPSGENIE, headers=headers, json=payload)
    said = transport.expect(call, await transport.exchange(call, request)).content
    asked = said.get("requestId") if isinstance(said, dict) else None
    found = await _made(call, headers, str(asked)) if asked else {}
    return Outcome({"requestId": asked, "alias": alias, **found}, f"Sent as {alias}")


async def _made(call: Call, headers: dict[str, str], asked: str) -> dict[str, Any]:
    """What became of a request, with the alert's id; nothing where that is not known soon: the alert is taken all the same."""
    for wait_s in _ASK_AFTER_S:
        await asyncio.sleep(wait_s)
        try:
            answer = await transport.exchange(
                call, Request("GET", f"{OPSGENIE}/requests/{quote(asked, safe='')}", headers=headers)
            )
        except ActionFailed:
            return {}
        if answer.status == 200 and isinstance(answer.content, dict):
            made = answer.content.get("data")
            return made if isinstance(made, dict) else {}
    return {}


async def ilert_query(call: Call) -> Outcome:
    """An incident by its id."""
    host = parameters.setting(call, "ilert_host", ILERT).rstrip("/")
    url = f"{host}/incidents/{quote(parameters.needed(call, 'incident_id'), safe='')}"
    headers = {"Authorization": parameters.needed_setting(call, "ilert_token")}
    return Outcome(transport.expect(call, await transport.exchange(call, Request("GET", url, headers=headers))).content)


async def opsgenie_query(call: Call) -> Outcome:
    """Alerts by a query of Opsgenie's own language."""
    kind = parameters.text(call, "query_type")
    if kind != "alerts":
        raise ActionFailed("opsgenie: the parameter query_type must be alerts")
    headers = {"Authorization": f"GenieKey {parameters.needed_setting(call, 'api_key')}"}
    params = parameters.without_nothing({"query": parameters.text(call, "query")})
    answer = transport.expect(
        call, await transport.exchange(call, Request("GET", OPSGENIE, headers=headers, params=params))
    )
    found = answer.content.get("data", []) if isinstance(answer.content, dict) else []
    return Outcome({"alerts": found, "alerts_count": len(found)})


async def squadcast(call: Call) -> Outcome:
    """An incident by the Provider's webhook (``notify_type: incident``), or a note in one (``notes``) by its token."""
    kind, message = parameters.text(call, "notify_type"), parameters.needed(call, "message")
    if kind == "incident":
        own = parameters.without_nothing(
            {
                "message": message,
                "description": parameters.needed(call, "description"),
                "tags": parameters.structure(call, "tags", dict),
                **{name: parameters.text(call, name) for name in ("priority", "status")},
                "event_id": parameters.text(call, "event_id") or call.idempotency_key,
            }
        )
        payload = {**(parameters.structure(call, "additional_json", dict) or {}), **own}
        request = Request("POST", parameters.needed_setting(call, "webhook_url"), json=payload)
        return Outcome(transport.expect(call, await transport.exchange(call, request)).content, "Sent")
    if kind != "notes":
        raise ActionFailed("squadcast: the parameter notify_type must be incident or notes")
    region = "" if parameters.setting(call, "service_region") == "US" else ".eu"
    refresh = {"X-Refresh-Token": parameters.needed_setting(call, "refresh_token")}
    request = Request("GET", f"{SQUADCAST.format('auth', region)}/oauth/access-token", headers=refresh)
    said = transport.expect(call, await transport.exchange(call, request)).content
    try:
        token = said["data"]["access_token"]
    except (KeyError, TypeError):
        raise transport.failed(call, "gave no access token") from None
    incident = quote(parameters.needed(call, "incident_id"), safe="")
    request = Request(
        "POST",
        f"{SQUADCAST.format('api', region)}/v3/incidents/{incident}/warroom",
        headers={"Authorization": f"Bearer {token}"},
        json={"message": message, "attachments": parameters.structure(call, "attachments", list) or []},
    )
    return Outcome(transport.expect(call, await transport.exchange(call, request)).content, "Noted")


async def ilert(call: Call) -> Outcome:
    """An event for an alert source (``_type: event``), else an incident."""
    token = parameters.needed_setting(call, "ilert_token")
    host = parameters.setting(call, "ilert_host", ILERT).rstrip("/")
    if parameters.text(call, "_type", "event" if call.parameters.get("event_type") else "incident") == "event":
        key = parameters.text(call, "alert_key") or call.idempotency_key
        payload: dict[str, Any] = {
            "eventType": parameters.text(call, "event_type", "ALERT"),
            "summary": parameters.text(call, "summary"),
            "details": parameters.text(call, "details"),
            "alertKey": key,
            "priority": parameters.text(call, "priority", "HIGH"),
            "images": parameters.structure(call, "images", list) or [],
            "links": parameters.structure(call, "links", list) or [],
            "customDetails": parameters.structure(call, "custom_details", dict) or {},
        }
        request = Request("POST", f"{host}/events/keep/{quote(token, safe='')}", json=payload)
        answer = transport.expect(call, await transport.exchange(call, request))
        return Outcome(answer.content, f"Sent as {key}")
    known = parameters.text(call, "id")
    update = known not in ("", "0")
    payload = {"status": parameters.text(call, "status"), "message": parameters.text(call, "message")}
    url = f"{host}/incidents" + (f"/{quote(known, safe='')}" if update else "")
    headers = {"Authorization": token}
    if update:
        # ilert replaces an incident as a whole.
        before = transport.expect(call, await transport.exchange(call, Request("GET", url, headers=headers))).content
        payload = {**(before if isinstance(before, dict) else {}), **payload, "id": known}
    else:
        payload["summary"] = parameters.needed(call, "summary")
        payload["affectedServices"] = parameters.structure(call, "affectedServices", list) or []
    request = Request("PUT" if update else "POST", url, headers=headers, json=payload)
    return Outcome(transport.expect(call, await transport.exchange(call, request)).content, "Sent")
