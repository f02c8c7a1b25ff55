"""What the built-in runtime can do with a provider type: ask it in a step, tell it in an action, and what a repetition does.

The contract with `runner/actions`: what stands here is implemented there, and nothing else is.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, Literal

Kind = Literal["step", "action"]


class SideEffects(StrEnum):
    """What it means to do the same once more, when nobody knows whether it was done."""

    NONE = "None"
    """It only reads: nobody notices a repetition."""
    IDEMPOTENT = "Idempotent"
    """The far side is given a key, or the state to have, and does nothing more when it comes again."""
    EFFECT = "Effect"
    """A repetition is a second message, a second row."""


@dataclass(frozen=True, slots=True)
class Ability:
    """One provider type. ``query`` is what a step does, ``notify`` what an action does; None: not possible.

    Where the parameters decide, the worst is told here, and ``depends`` says on what; `side_effects` knows. ``key`` says how
    the far side is given the idempotency key, empty where it takes none. Parameters are those that have an effect; ``ANY``
    among them: all have. ``through_apprise``: the library Apprise does the talking.
    """

    query: SideEffects | None = None
    notify: SideEffects | None = None
    query_parameters: tuple[str, ...] = ()
    notify_parameters: tuple[str, ...] = ()
    depends: str = ""
    key: str = ""
    through_apprise: bool = False


ANY: Final = "..."
NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
_NONE, _IDEMPOTENT, _EFFECT = SideEffects.NONE, SideEffects.IDEMPOTENT, SideEffects.EFFECT


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_HTTP: Final = _words("url method headers params body verify fail_on_error idempotency_key")
_WEBHOOK: Final = (
    *_HTTP,
    *_words("http_basic_authentication_username http_basic_authentication_password api_key"),
)
_ASKED_FOR: Final = "header `Idempotency-Key`, with `idempotency_key: true`"
_BY_METHOD: Final = "None with the methods GET and HEAD, Idempotent with `idempotency_key`"
_BY_STATEMENT: Final = (
    "a step whose query begins with SELECT, SHOW, DESCRIBE, EXPLAIN, WITH, TABLE or VALUES reads: None"
)

ABILITIES: Final[Mapping[str, Ability]] = MappingProxyType(
    {
        "clickhouse": Ability(
            query=_EFFECT,
            notify=_EFFECT,
            query_parameters=("query", "single_row", ANY),
            notify_parameters=("query", "single_row", ANY),
            depends=_BY_STATEMENT,
        ),
        "console": Ability(
            query=_NONE,
            notify=_NONE,
            query_parameters=("message", "severity", "logger"),
            notify_parameters=("message", "severity", "logger"),
        ),
        "discord": Ability(notify=_EFFECT, notify_parameters=("content", "components")),
        "elastic": Ability(query=_NONE, query_parameters=("query", "index")),
        "google_chat": Ability(notify=_EFFECT, notify_parameters=("message",), through_apprise=True),
        "grafana_loki": Ability(
            query=_NONE,
            query_parameters=_words("queryType query limit time start end since step interval direction"),
        ),
        "http": Ability(
            query=_EFFECT,
            notify=_EFFECT,
            query_parameters=_HTTP,
            notify_parameters=_HTTP,
            depends=_BY_METHOD,
            key=_ASKED_FOR,
        ),
        "ilert": Ability(
            query=_NONE,
            notify=_EFFECT,
            query_parameters=("incident_id",),
            notify_parameters=_words(
                "_type summary status message affectedServices id event_type details alert_key priority images links "
                "custom_details"
            ),
            depends="Idempotent as an event",
            key="`alertKey`, where `alert_key` is not given",
        ),
        "jira": Ability(
            query=_NONE,
            notify=_EFFECT,
            query_parameters=("ticket_id", "board_id"),
            notify_parameters=(
                *_words(
                    "summary description issue_type project_key board_name issue_id labels components custom_fields"
                ),
                "transition_to",
                ANY,
            ),
            depends="Idempotent with `issue_id`",
        ),
        "keep": Ability(
            query=_NONE,
            notify=_IDEMPOTENT,
            query_parameters=_words("filters version distinct time_delta timerange filter limit"),
            notify_parameters=_words("alert if for fingerprint fingerprint_fields override_source_with read_only"),
            key="the alert's fingerprint",
        ),
        "mattermost": Ability(notify=_EFFECT, notify_parameters=("message", "attachments", "channel", ANY)),
        "mock": Ability(query=_NONE, notify=_NONE, query_parameters=("command_output", ANY), notify_parameters=(ANY,)),
        "mysql": Ability(
            query=_EFFECT,
            notify=_EFFECT,
            query_parameters=("query", "as_dict", "single_row", ANY),
            notify_parameters=("query", "as_dict", "single_row", ANY),
            depends=_BY_STATEMENT,
        ),
        "ntfy": Ability(notify=_EFFECT, notify_parameters=("message", "topic")),
        "opsgenie": Ability(
            query=_NONE,
            notify=_IDEMPOTENT,
            query_parameters=("query_type", "query"),
            notify_parameters=_words(
                "message alias description responders visible_to actions tags details entity priority user note source type "
                "alert_id"
            ),
            key="`alias`, where it is not given",
        ),
        "pagerduty": Ability(
            query=_NONE,
            notify=_IDEMPOTENT,
            query_parameters=("incident_id", "incident_key"),
            notify_parameters=_words(
                "title dedup event_type severity source routing_key client client_url custom_details alert_body timestamp "
                "component group class class_ images links service_id requester incident_id priority status resolution"
            ),
            key="`dedup_key`, where `dedup` is not given; of an incident `incident_key`",
        ),
        "postgres": Ability(query=_NONE, notify=_EFFECT, query_parameters=("query",), notify_parameters=("query",)),
        "prometheus": Ability(query=_NONE, query_parameters=("query",)),
        "pushover": Ability(
            notify=_EFFECT,
            notify_parameters=_words("message title priority sound retry expire"),
            through_apprise=True,
        ),
        "resend": Ability(
            notify=_IDEMPOTENT,
            notify_parameters=("_from", "to", "subject", "html", ANY),
            key="header `Idempotency-Key`, always",
        ),
        "sendgrid": Ability(notify=_EFFECT, notify_parameters=("to", "subject", "html")),
        "servicenow": Ability(
            query=_NONE,
            notify=_EFFECT,
            query_parameters=_words("table_name incident_id sysparm_limit sysparm_offset"),
            notify_parameters=_words("table_name payload ticket_id fingerprint"),
            depends="None with `ticket_id`, which reads",
        ),
        "signl4": Ability(
            notify=_EFFECT,
            notify_parameters=_words(
                "title message s4_external_id s4_status s4_service s4_location s4_alerting_scenario s4_filtering"
            ),
            through_apprise=True,
        ),
        "slack": Ability(
            notify=_EFFECT,
            notify_parameters=_words(
                "message blocks channel slack_timestamp thread_timestamp attachments username notification_type"
            ),
            depends="Idempotent with `slack_timestamp`, and as a reaction",
        ),
        "smtp": Ability(notify=_EFFECT, notify_parameters=_words("from_email from_name to_email subject body html")),
        "squadcast": Ability(
            notify=_EFFECT,
            notify_parameters=_words(
                "notify_type message description incident_id priority tags status event_id attachments additional_json"
            ),
        ),
        "teams": Ability(
            notify=_EFFECT,
            notify_parameters=_words("message typeCard themeColor sections schema attachments mentions"),
        ),
        "telegram": Ability(
            notify=_EFFECT,
            notify_parameters=_words(
                "chat_id topic_id message reply_markup reply_markup_layout parse_mode image_url caption_on_image"
            ),
        ),
        "twilio": Ability(notify=_EFFECT, notify_parameters=("message_body", "to_phone_number"), through_apprise=True),
        "victorialogs": Ability(
            query=_NONE,
            query_parameters=_words("queryType query limit timeout time start end step account_id project_id"),
        ),
        "victoriametrics": Ability(query=_NONE, query_parameters=_words("query queryType start end step")),
        "webhook": Ability(
            query=_EFFECT,
            notify=_EFFECT,
            query_parameters=_WEBHOOK,
            notify_parameters=_words("body params fail_on_error idempotency_key"),
            depends=_BY_METHOD + "; an action has the Provider's method, and is Effect without the key",
            key=_ASKED_FOR,
        ),
        "zoom_chat": Ability(notify=_EFFECT, notify_parameters=_words("message title severity details_url")),
    }
)

# Parameters by which an action would change workflows, where they are given.
OF_WORKFLOWS: Final = MappingProxyType(
    {"keep": ("workflow_to_update_yaml", "workflow_full_sync", "delete_all_other_workflows")}
)
# They run whatever they are given, in the process or on the machine that runs the workflow.
NEVER: Final = frozenset({"bash", "python", "ssh"})

_READING: Final = re.compile(r"(select|show|describe|desc|explain|with|table|values)\b", re.IGNORECASE)
# What may stand before the first word of a statement.
_BEFORE: Final = re.compile(r"\s+|\(|--[^\n]*(\n|$)|#[^\n]*(\n|$)|/\*.*?\*/", re.DOTALL)


def side_effects(type_name: str, kind: Kind, parameters: Mapping[str, Any]) -> SideEffects | None:
    """What this call does, by its parameters as they are sent; None where the type cannot do it."""
    ability = ABILITIES.get(type_name)
    if ability is None:
        return None
    declared = ability.query if kind == "step" else ability.notify
    if declared is not SideEffects.EFFECT:
        return declared
    match type_name:
        case "http" | "webhook":
            method = parameters.get("method") or ("GET" if type_name == "http" else "POST")
            # The method of a webhook's action is the Provider's.
            if (type_name, kind) != ("webhook", "action") and str(method).strip().upper() in ("GET", "HEAD"):
                return SideEffects.NONE
            idempotent = parameters.get("idempotency_key") not in (None, False, "")
        case "mysql" | "clickhouse":
            return SideEffects.NONE if kind == "step" and reads(parameters.get("query")) else declared
        case "ilert":
            kind_of = parameters.get("_type") or ("event" if parameters.get("event_type") else "incident")
            idempotent = kind_of == "event" or parameters.get("id") not in (None, "", "0", 0)
        case "jira":
            idempotent = bool(parameters.get("issue_id"))
        case "servicenow":
            if parameters.get("ticket_id"):
                return SideEffects.NONE
            idempotent = False
        case "slack":
            idempotent = bool(parameters.get("slack_timestamp")) or parameters.get("notification_type") == "reaction"
        case _:
            idempotent = False
    return SideEffects.IDEMPOTENT if idempotent else declared


def reads(query: object) -> bool:
    """Whether a statement begins as those do that only read; whoever runs it sees to it that it does not write."""
    if not isinstance(query, str):
        return False
    at = 0
    while (skipped := _BEFORE.match(query, at)) is not None:
        at = skipped.end()
    return _READING.match(query, at) is not None


def fault(type_name: str, kind: Kind, subtype: str = "", parameters: Mapping[str, Any] = NOTHING) -> str | None:
    """Why a step or an action cannot be carried out, as a sentence without an end; None: it can."""
    ability = ABILITIES.get(type_name)
    if ability is None:
        why = ", and never will be: it runs code where the runner is" if type_name in NEVER else ""
        return f'"{type_name}" is not supported by the built-in runtime{why}'
    if subtype:
        return f'"{type_name}.{subtype}" is not supported by the built-in runtime, only "{type_name}" is'
    if (ability.query if kind == "step" else ability.notify) is None:
        verb, other = ("queried", "an action") if kind == "step" else ("notified", "a step")
        return f'"{type_name}" cannot be {verb} by the built-in runtime; use it in {other}'
    if kind == "action" and (named := [name for name in OF_WORKFLOWS.get(type_name, ()) if parameters.get(name)]):
        return f'"{type_name}" with {named[0]} is not supported by the built-in runtime: workflows are made by their objects'
    return None
