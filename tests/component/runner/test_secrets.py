"""Credentials of a step are in nothing that anybody reads: planted, and looked for everywhere."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from apprise.plugins.google_chat import NotifyGoogleChat
from apprise.plugins.pushover import NotifyPushover
from apprise.plugins.signl4 import NotifySIGNL4
from apprise.plugins.twilio import NotifyTwilio

from component.runner import far_side, mysql_side
from component.runner.conftest import Make
from component.runner.far_side import FarSide
from keep_operator.domain.abilities import ABILITIES, Kind
from keep_operator.runner.actions import ActionFailed, chat, mail, paging, perform, push, transport
from keep_operator.runner.actions.call import Told

pytestmark = pytest.mark.component

CANARY = "canary8f3e17"
PARAMETERS: dict[str, Any] = {
    "_from": "f@example.com",
    "body": "b",
    "channel": "C1",
    "chat_id": "1",
    "content": "c",
    "description": "d",
    "from_email": "f@example.com",
    "html": "h",
    "incident_id": "1",
    "index": "i",
    "message": "m",
    "message_body": "m",
    "notify_type": "incident",
    "project_key": "P",
    "query": "select 1",
    "queryType": "query",
    "query_type": "alerts",
    "requester": "a@example.com",
    "subject": "s",
    "summary": "s",
    "table_name": "incident",
    "text": "t",
    "ticket_id": "1",
    "title": "t",
    "to": "a@example.com",
    "to_email": "a@example.com",
    "to_phone_number": "+15550000002",
    "topic": "ops",
}


def configs(there: FarSide) -> dict[str, dict[str, Any]]:
    """Providers whose every credential is a canary."""
    hook = f"{there.url}/services/{CANARY}?token={CANARY}"
    return {
        "slack": {"webhook_url": hook, "access_token": CANARY},
        "teams": {"webhook_url": hook},
        "discord": {"webhook_url": hook},
        "mattermost": {"webhook_url": hook},
        "google_chat": {"webhook_url": f"https://chat.googleapis.com/v1/spaces/A/messages?key={CANARY}&token={CANARY}"},
        "zoom_chat": {"webhook_url": hook, "authorization_token": CANARY},
        "telegram": {"bot_token": f"1:{CANARY}"},
        "pagerduty": {"routing_key": CANARY, "api_key": CANARY},
        "opsgenie": {"api_key": CANARY, "integration_name": "x"},
        "ilert": {"ilert_token": CANARY},
        "jira": {"host": there.url, "email": "a@example.com", "api_token": CANARY},
        "servicenow": {"service_now_base_url": there.url, "username": "u", "password": CANARY},
        "squadcast": {"service_region": "EU", "webhook_url": hook, "refresh_token": CANARY},
        "signl4": {"signl4_integration_secret": CANARY},
        "smtp": {
            "smtp_server": "127.0.0.1",
            "smtp_port": there.port,
            "encryption": "None",
            "smtp_username": "u",
            "smtp_password": CANARY,
        },
        "sendgrid": {"api_key": CANARY, "from_email": "f@example.com"},
        "resend": {"api_key": CANARY},
        "twilio": {"account_sid": "AC" + "a" * 32, "api_token": CANARY, "from_phone_number": "+15550000001"},
        "ntfy": {"access_token": CANARY, "host": there.url},
        "pushover": {"token": CANARY, "user_key": "u" * 30},
        "prometheus": {"url": there.url, "username": "u", "password": CANARY},
        "victoriametrics": {"VMBackendURL": there.url, "BasicAuthUsername": "u", "BasicAuthPassword": CANARY},
        "victorialogs": {"host_url": there.url, "authentication_type": "Bearer", "bearer_token": CANARY},
        "grafana_loki": {"host_url": there.url, "authentication_type": "Basic", "username": "u", "password": CANARY},
        "elastic": {"host": there.url, "api_key": CANARY},
        "clickhouse": {
            "host": "127.0.0.1",
            "port": there.port,
            "protocol": "http",
            "username": "u",
            "password": CANARY,
        },
        "postgres": {"host": "127.0.0.1", "port": there.port, "username": "u", "password": CANARY, "database": "d"},
        "mysql": {"host": "127.0.0.1", "port": there.port, "username": "u", "password": CANARY, "database": "d"},
        "webhook": {"url": f"http://u:{CANARY}@127.0.0.1:{there.port}/x{CANARY}", "api_key": CANARY},
        "http": {},
        "console": {"token": CANARY},
        "mock": {"token": CANARY},
        "keep": {"token": CANARY},
    }


class Repeating:
    """The alerts of a tenant in which somebody has written the credential; or their database fails with it in its words."""

    def __init__(self, behaviour: str) -> None:
        self._behaviour = behaviour

    def now(self) -> datetime:
        """The time of day."""
        return datetime(2026, 11, 29, tzinfo=UTC)

    async def heard(self, since: datetime, until: datetime, most: int) -> list[dict[str, Any]]:
        """One alert."""
        self._fail()
        return [{"name": CANARY, "note": f"{since} {until} {most}"}]

    async def take(self, wanted: Sequence[Any], waits: timedelta | None, *, resolves: bool) -> list[Told]:
        """All of them, and each has started something."""
        self._fail()
        return [Told({**each, "note": f"{waits} {resolves}"}, "created", (CANARY,), (CANARY,)) for each in wanted]

    def _fail(self) -> None:
        if self._behaviour in ("breaks", "drops"):
            raise RuntimeError(CANARY)


@pytest.fixture
def moved_here(there: FarSide, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in (
        (chat, "SLACK"),
        (chat, "TELEGRAM"),
        (paging, "PAGERDUTY_EVENTS"),
        (paging, "PAGERDUTY"),
        (paging, "OPSGENIE"),
        (paging, "ILERT"),
        (mail, "SENDGRID"),
        (mail, "RESEND"),
        (push, "NTFY"),
    ):
        monkeypatch.setattr(module, name, there.url)
    monkeypatch.setattr(NotifyPushover, "notify_url", f"{there.url}/pushover")
    monkeypatch.setattr(NotifySIGNL4, "notify_url", there.url + "/signl4/{secret}/")
    monkeypatch.setattr(NotifyGoogleChat, "notify_url", there.url + "/chat/{workspace}")
    monkeypatch.setattr(NotifyTwilio, "notify_sms_url", there.url + "/twilio/{sid}")
    monkeypatch.setattr(paging, "_ASK_AFTER_S", (0.0,))


async def echo_all(request: web.Request) -> web.StreamResponse:
    """The meanest of servers: it repeats all it was sent, credentials too."""
    body = (await request.read()).decode("utf-8", "replace")
    said = {"path": request.raw_path, "headers": dict(request.headers), "body": body, "ok": True, "error": body}
    return web.json_response(said, status=int(request.headers.get("X-Status", "200")))


def refuses(status: int) -> far_side.Answer:
    async def refuse(request: web.Request) -> web.StreamResponse:
        body = (await request.read()).decode("utf-8", "replace")
        return web.Response(
            text=f"no: {request.raw_path} {dict(request.headers)} {body}",
            status=status,
            reason="No",
            content_type="text/plain",
        )

    return refuse


async def drops(request: web.Request) -> web.StreamResponse:
    """It hangs up without a word."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


KINDS: list[Kind] = ["step", "action"]
ASKED = [
    (name, kind)
    for name, able in ABILITIES.items()
    for kind in KINDS
    if (able.query if kind == "step" else able.notify)
]


@pytest.mark.usefixtures("moved_here")
@pytest.mark.parametrize("behaviour", ["echoes", "refuses", "breaks", "drops"])
@pytest.mark.parametrize(("type_name", "kind"), ASKED)
async def test_a_canary(
    type_name: str, kind: Kind, behaviour: str, call: Make, there: FarSide, caplog: pytest.LogCaptureFixture
) -> None:
    """Of every type, whatever the far side does with a credential: no result, message, failure or log line has it."""
    caplog.set_level(logging.DEBUG)
    there.otherwise = {"echoes": echo_all, "refuses": refuses(403), "breaks": refuses(503), "drops": drops}[behaviour]
    asked = dict(PARAMETERS)
    if type_name in ("http", "webhook"):
        asked = {
            "url": f"http://u:{CANARY}@127.0.0.1:{there.port}/",
            "method": "POST",
            "headers": {"Authorization": f"Bearer {CANARY}"},
        }
    if type_name == "keep":
        made = [{"name": CANARY, "fingerprint": "f"}]
        asked = {"alert": made} if kind == "action" else {"version": 2, "filter": "name != ''"}
    asked = {**asked, **({"idempotency_key": True} if type_name == "http" else {})}
    told: list[object] = []
    try:
        # These two wait for the server's first word, which one of HTTP does not say.
        patience_s = 0.2 if type_name in ("mysql", "smtp") else 5
        made_call = call(type_name, configs(there)[type_name], kind=kind, timeout_s=patience_s, **asked)
        outcome = await perform(replace(made_call, alerts=Repeating(behaviour)))
        told += [outcome.result, outcome.message]
    except ActionFailed as failed:
        told += [
            str(failed),
            repr(failed),
            failed.__cause__,
            failed.__context__ if not failed.__suppress_context__ else None,
        ]
    lines = [record.getMessage() + str(vars(record)) for record in caplog.records if record.name != "asyncio"]
    for each in [*told, *lines]:
        assert CANARY not in repr(each), each


async def test_the_call_itself_does_not_show_them(call: Make, there: FarSide) -> None:
    """A call that turns up in a traceback or a log line shows neither parameters nor configuration."""
    made = call("slack", configs(there)["slack"], message=CANARY)
    assert CANARY not in repr(made)


async def test_mysql_repeats_it(call: Make) -> None:
    """A database that repeats the password in its refusal does not get it into the log of the run."""
    async with mysql_side.serve() as there:
        there.refuse = mysql_side.error(1045, "28000", f"denied: {CANARY}")
        config = {"host": "127.0.0.1", "port": there.port, "username": "u", "password": CANARY}
        with pytest.raises(ActionFailed) as failed:
            await perform(call("mysql", config, kind="step", query="select 1"))
    assert CANARY not in str(failed.value)


async def test_a_fault_of_our_own(
    call: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error that nobody thought of is told by its kind and its place; its words may hold anything."""

    async def breaks(*_: object) -> None:
        raise RuntimeError(f"unexpected {CANARY}")

    monkeypatch.setattr(transport, "exchange", breaks)
    with pytest.raises(ActionFailed, match=r"a fault of the runner \(RuntimeError\)"):
        await perform(call("teams", {"webhook_url": "http://127.0.0.1/"}, message="x"))
    assert "an action broke" in caplog.text
    assert CANARY not in str([vars(record) for record in caplog.records])


async def test_many_at_once(call: Make, there: FarSide) -> None:
    """Steps that run side by side name their own host each, whatever the others do."""
    async with far_side.serve(host="127.0.0.2") as other:
        there.otherwise = other.otherwise = far_side.answer("no", 404)
        done = await asyncio.gather(
            *(perform(call("http", url=each.url)) for each in (there, other) * 20), return_exceptions=True
        )
    for index, failed in enumerate(done):
        assert f"127.0.0.{1 + index % 2} answered 404" in str(failed)
