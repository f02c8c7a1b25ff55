"""Which code carries out which provider type, and the frame around every call: its time, its size, its secrets."""

import asyncio
import importlib
import json
import logging
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Final, TypeAlias

from keep_operator.domain import abilities
from keep_operator.domain.abilities import Kind, SideEffects
from keep_operator.runner.actions import redaction, transport
from keep_operator.runner.actions.call import ActionFailed, ActionNotSupported, Call, Outcome

LOG: Final = logging.getLogger(__name__)
Action: TypeAlias = Callable[[Call], Awaitable[Outcome]]

# By module and function: a runner loads the libraries of those alone that its workflows use.
ACTIONS: Final[Mapping[tuple[str, Kind], str]] = {
    ("clickhouse", "step"): "databases.clickhouse",
    ("clickhouse", "action"): "databases.clickhouse",
    ("console", "step"): "local.console",
    ("console", "action"): "local.console",
    ("discord", "action"): "chat.discord",
    ("elastic", "step"): "queries.elastic",
    ("google_chat", "action"): "apprised.google_chat",
    ("grafana_loki", "step"): "queries.grafana_loki",
    ("http", "step"): "web.http",
    ("http", "action"): "web.http",
    ("ilert", "step"): "paging.ilert_query",
    ("ilert", "action"): "paging.ilert",
    ("jira", "step"): "tickets.jira_query",
    ("jira", "action"): "tickets.jira",
    ("keep", "step"): "alerts.find",
    ("keep", "action"): "alerts.make",
    ("mattermost", "action"): "chat.mattermost",
    ("mock", "step"): "local.mock_query",
    ("mock", "action"): "local.mock_notify",
    ("mysql", "step"): "databases.mysql",
    ("mysql", "action"): "databases.mysql",
    ("ntfy", "action"): "push.ntfy",
    ("opsgenie", "step"): "paging.opsgenie_query",
    ("opsgenie", "action"): "paging.opsgenie",
    ("pagerduty", "step"): "paging.pagerduty_query",
    ("pagerduty", "action"): "paging.pagerduty",
    ("postgres", "step"): "databases.postgres_query",
    ("postgres", "action"): "databases.postgres_notify",
    ("prometheus", "step"): "queries.prometheus",
    ("pushover", "action"): "apprised.pushover",
    ("resend", "action"): "mail.resend",
    ("sendgrid", "action"): "mail.sendgrid",
    ("servicenow", "step"): "tickets.servicenow_query",
    ("servicenow", "action"): "tickets.servicenow",
    ("signl4", "action"): "apprised.signl4",
    ("slack", "action"): "chat.slack",
    ("smtp", "action"): "mail.smtp",
    ("squadcast", "action"): "paging.squadcast",
    ("teams", "action"): "chat.teams",
    ("telegram", "action"): "chat.telegram",
    ("twilio", "action"): "apprised.twilio",
    ("victorialogs", "step"): "queries.victorialogs",
    ("victoriametrics", "step"): "queries.victoriametrics",
    ("webhook", "step"): "web.webhook_query",
    ("webhook", "action"): "web.webhook_notify",
    ("zoom_chat", "action"): "chat.zoom_chat",
}

# Before the second try and before the third, unless the far side says when.
WAITS_S: tuple[float, ...] = (0.5, 2.0)
# How long a call that is out of time may take to let go of what it holds, before nobody waits for it any more.
_GRACE_S: Final = 0.5


@cache
def action(type_name: str, kind: Kind) -> Action:
    """The code behind a type that `abilities` has."""
    function = ACTIONS[type_name, kind].partition(".")[2]
    found: Action = getattr(importlib.import_module(_module(type_name, kind)), function)
    return found


def _module(type_name: str, kind: Kind) -> str:
    return f"{__package__}.{ACTIONS[type_name, kind].partition('.')[0]}"


async def perform(call: Call) -> Outcome:
    """Carry a call out, within its ``timeout_s`` and half a second. Raises ActionFailed, and nothing else but cancellation.

    What passes by itself is tried again while there is time, if that can do no harm. A result is plain JSON of at most a
    mebibyte; credentials that the far side repeats are taken out of it.
    """
    if (fault := abilities.fault(call.type, call.kind, call.subtype, call.parameters)) is not None:
        raise ActionNotSupported(fault)
    task = asyncio.create_task(_try(call))
    try:
        done, _ = await asyncio.wait({task}, timeout=call.timeout_s)
        if not done:
            task.cancel()
            await asyncio.wait({task}, timeout=_GRACE_S)
            raise ActionFailed(
                f"{call.type}{_at(call)} did not end within {call.timeout_s:g} s", True, may_have_acted=True
            )
        return task.result()
    finally:
        task.cancel()
        task.add_done_callback(lambda each: each.cancelled() or each.exception())


async def _try(call: Call) -> Outcome:
    """The first try that succeeds, else what ended the last one."""
    if _module(call.type, call.kind) not in sys.modules:
        # Libraries take half a second to load, in which others are not to stand still.
        await asyncio.to_thread(action, call.type, call.kind)
    carried_out = action(call.type, call.kind)
    clock = asyncio.get_running_loop().time
    end = clock() + call.timeout_s
    harmless = abilities.side_effects(call.type, call.kind, call.parameters) is not SideEffects.EFFECT
    for tried, usual_wait_s in enumerate((*WAITS_S, None), 1):
        try:
            outcome = await _carry_out(carried_out, call)
        except ActionFailed as failure:
            wait_s = usual_wait_s if failure.retry_after_s is None else failure.retry_after_s
            again = failure.retryable and usual_wait_s is not None and (harmless or not failure.may_have_acted)
            if not again or wait_s is None or clock() + wait_s >= end:
                failure.tell_tries(tried)
                raise
            await asyncio.sleep(wait_s)
        else:
            return outcome if tried == 1 else replace(outcome, message=_said(outcome.message, f"Tried {tried} times"))
    raise AssertionError("the last try ends the loop")


async def _carry_out(carried_out: Action, call: Call) -> Outcome:
    try:
        hidden = redaction.secrets(call)
        outcome = await carried_out(call)
        result = redaction.clean(outcome.result, hidden)
        size = len(json.dumps(result, allow_nan=False))
    except ActionFailed:
        raise
    except RecursionError:
        raise ActionFailed(f"{call.type}: the result is nested too deeply", may_have_acted=True) from None
    except Exception as error:
        # Not its words: they may hold what nobody is to read.
        where = "".join(traceback.format_tb(error.__traceback__))
        LOG.error("an action broke", extra={"type": call.type, "error": type(error).__name__, "where": where})
        raise ActionFailed(f"{call.type}: a fault of the runner ({type(error).__name__}); its log has more") from None
    if size > transport.MOST_BYTES:
        raise ActionFailed(
            f"{call.type}: the result has more than {transport.MOST_BYTES // 1024} KiB, which is all that is kept; ask for less",
            may_have_acted=True,
        )
    ignored = _ignored(call)
    aside = f"Parameters that have no effect: {', '.join(ignored)}" if ignored else ""
    return Outcome(result, _said(redaction.redact(outcome.message, hidden), aside))


def _ignored(call: Call) -> list[str]:
    """Parameters that nobody looks at: hardly what their author expects."""
    ability = abilities.ABILITIES[call.type]
    taken = ability.query_parameters if call.kind == "step" else ability.notify_parameters
    if abilities.ANY in taken:
        return []
    return sorted(name for name in call.parameters if name not in taken and not name.startswith("enrich_"))


def _said(*sentences: str) -> str:
    return "; ".join(each for each in sentences if each)


def _at(call: Call) -> str:
    """Where the call goes, by the fields that say so."""
    for values in (call.parameters, call.config):
        for name in _PLACES:
            if (host := transport.host_of(values.get(name))) is not None:
                return f" at {host}"
    return ""


_PLACES: Final = (
    "url",
    "webhook_url",
    "host",
    "host_url",
    "smtp_server",
    "VMBackendURL",
    "VMBackendHost",
    "ilert_host",
)
