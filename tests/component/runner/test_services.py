"""What each service is sent for the parameters that Keep's provider of that name takes, and what comes back of it."""

from typing import Any

import pytest
from apprise.plugins.google_chat import NotifyGoogleChat
from apprise.plugins.pushover import NotifyPushover
from apprise.plugins.signl4 import NotifySIGNL4
from apprise.plugins.twilio import NotifyTwilio

from component.runner.conftest import Make
from component.runner.far_side import FarSide, answer
from keep_operator.runner.actions import ActionFailed, ActionNotSupported, chat, mail, paging, perform, push

pytestmark = pytest.mark.component

KEY = "run-1/2/-1"


@pytest.fixture(autouse=True)
def moved_here(there: FarSide, monkeypatch: pytest.MonkeyPatch) -> None:
    """The services with an address of their own are played by the far side."""
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
        monkeypatch.setattr(module, name, f"{there.url}/{name.lower()}")
    monkeypatch.setattr(NotifyPushover, "notify_url", f"{there.url}/pushover")
    monkeypatch.setattr(NotifySIGNL4, "notify_url", there.url + "/signl4/{secret}/")
    monkeypatch.setattr(NotifyGoogleChat, "notify_url", there.url + "/chat/{workspace}")
    monkeypatch.setattr(NotifyTwilio, "notify_sms_url", there.url + "/twilio/{sid}")
    monkeypatch.setattr(paging, "_ASK_AFTER_S", (0.0, 0.0))


async def test_console(call: Make) -> None:
    """The message is the result, and stands in the log of the run."""
    done = await perform(call("console", severity="high", message="disk is full"))
    assert (done.result, done.message) == ("disk is full", "high: disk is full")
    assert (await perform(call("console", kind="step", message={"a": 1}))).result == {"a": 1}


async def test_mock(call: Make) -> None:
    """A mock answers what it was told to, so that a workflow can be tried before there is anything to ask."""
    assert (await perform(call("mock", kind="step", command="df", command_output="91%"))).result == "91%"
    assert (await perform(call("mock", kind="step", command="df"))).result is None
    assert (await perform(call("mock", a=1, b=[2]))).result == {"a": 1, "b": [2]}


async def test_http_reads(call: Make, there: FarSide) -> None:
    """A step reads a page of the web, and finds its JSON in `body`."""
    there.answers(answer({"name": "x"}))
    done = await perform(
        call("http", kind="step", url=f"{there.url}/a", method="get", params={"q": "ä b", "n": 3}, headers='{"X": "1"}')
    )
    assert done.result == {"status": True, "status_code": 200, "body": {"name": "x"}}
    assert (there.last.method, there.last.path, there.last.query) == ("GET", "/a", {"q": "ä b", "n": "3"})
    assert there.last.headers["X"] == "1"
    assert "Idempotency-Key" not in there.last.headers


async def test_http_writes(call: Make, there: FarSide) -> None:
    """An action posts JSON, whether the body is an object or was made text by a template; other texts as they are."""
    for body, kind, sent in (
        ({"a": 1}, None, '{"a": 1}'),
        ('{"a": 1}', None, '{"a": 1}'),
        ("{'a': True, 'b': None}", None, '{"a": true, "b": null}'),
        ("plain", None, '"plain"'),
        ("plain", "text/plain", "plain"),
        ("a=1&b=2", "application/x-www-form-urlencoded", "a=1&b=2"),
        (None, None, "{}"),
    ):
        headers = {"Content-Type": kind} if kind else {}
        await perform(call("http", url=there.url, method="POST", body=body, headers=headers))
        assert there.last.body == sent
        assert there.last.headers["Content-Type"] == (kind or "application/json")


async def test_http_with_a_key(call: Make, there: FarSide) -> None:
    """A definition that asks for it gives the far side the key by which it knows a repetition, or a key of its own."""
    for given, sent in ((True, KEY), ("mine", "mine")):
        await perform(call("http", url=there.url, method="PUT", idempotency_key=given))
        assert there.last.headers["Idempotency-Key"] == sent


async def test_http_that_fails(call: Make, there: FarSide) -> None:
    """With `fail_on_error: false` a step goes on with what a server says that refuses."""
    there.otherwise = answer({"why": "no"}, 404)
    done = await perform(call("http", kind="step", url=there.url, fail_on_error="false"))
    assert done.result == {"status": False, "status_code": 404, "body": {"why": "no"}}
    for wrong in ({"method": "BREW"}, {"proxies": {"http": "x"}}, {"headers": "x"}, {"url": ""}, {"verify": "perhaps"}):
        with pytest.raises(ActionFailed):
            await perform(call("http", **{"url": there.url, **wrong}))


async def test_webhook(call: Make, there: FarSide) -> None:
    """An action posts to the Provider's address by its method, with its headers and credentials."""
    config = {
        "url": f"{there.url}/hook",
        "method": "PUT",
        "headers": [{"key": "X-Team", "value": "a"}],
        "api_key": "k1k2k3",
    }
    done = await perform(call("webhook", config, body={"text": "x"}, params={"a": "1"}))
    assert done.result["status_code"] == 200
    assert (there.last.method, there.last.path, there.last.json) == ("PUT", "/hook", {"text": "x"})
    assert (there.last.headers["X-Team"], there.last.headers["Authorization"]) == ("a", "Bearer k1k2k3")
    basic = {"url": there.url, "http_basic_authentication_username": "u", "http_basic_authentication_password": "p"}
    await perform(call("webhook", basic))
    assert (there.last.method, there.last.headers["Authorization"]) == ("POST", "Basic dTpw")


async def test_webhook_credentials_go_nowhere_else(call: Make, there: FarSide) -> None:
    """A step that names another address than the Provider's does not take the Provider's credentials there."""
    config = {"url": "https://team.example/hook", "api_key": "k1k2k3"}
    await perform(call("webhook", config, kind="step", url=there.url, method="GET"))
    assert "Authorization" not in there.last.headers
    await perform(call("webhook", {**config, "url": f"{there.url}/hook"}, kind="step", url=f"{there.url}/other"))
    assert there.last.headers["Authorization"] == "Bearer k1k2k3"


BLOCKS = [{"type": "section", "text": {"type": "plain_text", "text": "x"}}]


async def test_slack_by_webhook(call: Make, there: FarSide) -> None:
    """Slack gets text, blocks and attachments as the definition has them, also where a template made text of them."""
    there.otherwise = answer("ok")
    config = {"webhook_url": f"{there.url}/services/T000/B000"}
    done = await perform(call("slack", config, message="hi", channel="ops", blocks=BLOCKS, username="keep"))
    assert there.last.json == {"text": "hi", "channel": "ops", "blocks": BLOCKS, "username": "keep"}
    assert isinstance(done.result["slack_timestamp"], int)
    await perform(call("slack", config, attachments=str(BLOCKS)))
    assert there.last.json == {"attachments": BLOCKS}
    with pytest.raises(ActionFailed, match="one of the parameters message, blocks and attachments"):
        await perform(call("slack", config))


async def test_slack_by_token(call: Make, there: FarSide) -> None:
    """With a token a message can be answered, and changed later by its timestamp."""
    config = {"webhook_url": "", "access_token": "xoxb-1"}
    there.otherwise = answer({"ok": True, "ts": "17.5", "channel": "C1"})
    done = await perform(call("slack", config, message="hi", channel="C1", thread_timestamp="16.1"))
    assert done.result == {"slack_timestamp": "17.5", "channel": "C1"}
    assert (there.last.path, there.last.json) == (
        "/slack/chat.postMessage",
        {"text": "hi", "channel": "C1", "thread_ts": "16.1"},
    )
    assert there.last.headers["Authorization"] == "Bearer xoxb-1"
    await perform(
        call("slack", {**config, "webhook_url": "http://x"}, message="over", channel="C1", slack_timestamp="17.5")
    )
    assert (there.last.path, there.last.json["ts"]) == ("/slack/chat.update", "17.5")
    there.answers(answer({"ok": False, "error": "already_reacted"}))
    await perform(
        call("slack", config, message=":eyes:", channel="C1", thread_timestamp="1", notification_type="reaction")
    )
    assert there.last.json == {"channel": "C1", "name": "eyes", "timestamp": "1"}


async def test_slack_that_refuses(call: Make, there: FarSide) -> None:
    """Slack says no with status 200; what passes is told apart from what does not."""
    config = {"access_token": "xoxb-1"}
    there.answers(answer({"ok": False, "error": "channel_not_found"}), answer({"ok": False, "error": "ratelimited"}))
    with pytest.raises(ActionFailed, match="refused: channel_not_found") as never:
        await perform(call("slack", config, message="hi", channel="C1"))
    with pytest.raises(ActionFailed, match="ratelimited") as later:
        await perform(call("slack", config, message="hi", channel="C1"))
    assert (never.value.retryable, later.value.retryable) == (False, True)
    with pytest.raises(ActionFailed, match="parameter channel is needed"):
        await perform(call("slack", config, message="hi"))
    with pytest.raises(ActionFailed, match=r"no Provider is named; add config"):
        await perform(call("slack", message="hi"))
    with pytest.raises(ActionFailed, match="with an access_token only"):
        await perform(call("slack", {"webhook_url": there.url}, message="hi", slack_timestamp="1"))


async def test_teams(call: Make, there: FarSide) -> None:
    """Teams gets an adaptive card with mentions, or the older card."""
    there.otherwise = answer("1")
    config = {"webhook_url": there.url}
    done = await perform(call("teams", config, message="hi", mentions=[{"id": "a@b", "name": "A"}]))
    content = there.last.json["attachments"][0]["content"]
    assert content["body"] == [{"type": "TextBlock", "text": "hi"}]
    assert content["msteams"]["entities"][0] == {
        "type": "mention",
        "text": "<at>A</at>",
        "mentioned": {"id": "a@b", "name": "A"},
    }
    assert done.result == {"response_text": "1"}
    await perform(
        call("teams", config, message="hi", typeCard="MessageCard", themeColor="FF0000", sections='[{"a": 1}]')
    )
    assert there.last.json == {"@type": "MessageCard", "themeColor": "FF0000", "text": "hi", "sections": [{"a": 1}]}
    await perform(call("teams", config, attachments=[{"b": 2}]))
    assert there.last.json == {"type": "message", "attachments": [{"b": 2}]}


async def test_discord_and_mattermost(call: Make, there: FarSide) -> None:
    """Discord gets content and components, Mattermost text, attachments and whatever else is given."""
    there.otherwise = answer("", 204)
    config = {"webhook_url": there.url}
    await perform(call("discord", config, content="hi", components=[{"type": 1}]))
    assert there.last.json == {"content": "hi", "components": [{"type": 1}]}
    await perform(call("mattermost", config, message="hi", channel="ops", username="keep", enrich_alert=[{}]))
    assert there.last.json == {"text": "hi", "channel": "ops", "username": "keep"}


async def test_telegram(call: Make, there: FarSide) -> None:
    """Telegram gets a message with buttons, or an image after it or with it as caption."""
    there.otherwise = answer({"ok": True, "result": {"message_id": 5}})
    config = {"bot_token": "1:abc"}
    buttons = {"A": {"url": "http://a"}, "B": {"url": "http://b"}}
    done = await perform(
        call("telegram", config, chat_id=7, topic_id=2, message="*hi*", parse_mode="markdown", reply_markup=buttons)
    )
    assert (there.last.path, there.last.json) == (
        "/telegram/bot1:abc/sendMessage",
        {
            "chat_id": "7",
            "message_thread_id": 2,
            "text": "*hi*",
            "parse_mode": "MarkdownV2",
            "reply_markup": {"inline_keyboard": [[{"text": "A", "url": "http://a"}, {"text": "B", "url": "http://b"}]]},
        },
    )
    assert done.result == {"message_id": 5}
    await perform(call("telegram", config, chat_id="7", message="hi", image_url="http://i", caption_on_image=True))
    assert there.last.json == {"chat_id": "7", "photo": "http://i", "caption": "hi"}
    there.sent.clear()
    await perform(call("telegram", config, chat_id="7", message="hi", image_url="http://i"))
    assert [each.path.rpartition("/")[2] for each in there.sent] == ["sendMessage", "sendPhoto"]


async def test_telegram_that_waits(call: Make, there: FarSide) -> None:
    """Telegram says in its answer how long to wait; an image that fails after its message is told as half done."""
    said = {"ok": False, "description": "Too Many Requests: retry after 9", "parameters": {"retry_after": 9}}
    there.answers(answer(said, 429))
    with pytest.raises(ActionFailed, match="Too Many Requests") as failed:
        await perform(call("telegram", {"bot_token": "1:abc"}, chat_id="7", message="hi"))
    assert (failed.value.retryable, failed.value.retry_after_s, failed.value.may_have_acted) == (True, 9, False)
    there.answers(answer({"ok": True, "result": {}}), answer({"ok": False, "description": "bad photo"}, 400))
    with pytest.raises(ActionFailed, match="bad photo") as failed:
        await perform(call("telegram", {"bot_token": "1:abc"}, chat_id="7", message="hi", image_url="http://i"))
    assert failed.value.may_have_acted


async def test_zoom_chat(call: Make, there: FarSide) -> None:
    """Zoom gets text, title and a colour by severity; a parameter without effect is told in the log of the run."""
    config = {"webhook_url": there.url, "authorization_token": "zoom-1"}
    done = await perform(call("zoom_chat", config, message="hi", title="T", severity="critical", tagged_users="a@b"))
    content = there.last.json["content"]
    assert content["settings"] == {"default_sidebar_color": "#EF4444"}
    assert (content["head"]["text"], content["body"][0]["text"]) == ("T", "hi")
    assert "have no effect: tagged_users" in done.message


async def test_pagerduty_events(call: Make, there: FarSide) -> None:
    """An event has the key of the definition, else that of the step: sent twice it is one alert."""
    there.otherwise = answer({"status": "success", "dedup_key": "x"}, 202)
    config = {"routing_key": "R" * 32}
    done = await perform(call("pagerduty", config, title="disk", alert_body="b", severity="high", component="db"))
    assert there.last.json == {
        "routing_key": "R" * 32,
        "event_action": "trigger",
        "dedup_key": KEY,
        "payload": {
            "summary": "disk",
            "source": "custom_event",
            "severity": "error",
            "custom_details": {"alert_body": "b"},
            "component": "db",
        },
    }
    assert done.result == {"status": "success", "dedup_key": "x"}
    await perform(call("pagerduty", config, title="disk", dedup="fp-1", event_type="resolve", client="keep"))
    assert (there.last.json["dedup_key"], there.last.json["event_action"]) == ("fp-1", "resolve")
    for wrong in ({"severity": "bad"}, {"event_type": "bad"}):
        with pytest.raises(ActionFailed, match="must be one of"):
            await perform(call("pagerduty", config, title="x", **wrong))


async def test_pagerduty_incidents(call: Make, there: FarSide) -> None:
    """By the API key an incident is made once, whoever asks for it how often; by its id it is changed."""
    config = {"api_key": "secret-key", "service_id": "P1"}
    asked: dict[str, Any] = {"title": "disk", "requester": "a@b", "alert_body": '{"details": "x"}', "priority": "P9"}
    await perform(call("pagerduty", config, **asked))
    incident = there.last.json["incident"]
    assert (incident["incident_key"], incident["service"]["id"], incident["priority"]["id"]) == (KEY, "P1", "P9")
    assert incident["body"] == {"details": "x", "type": "incident_body"}
    assert (there.last.headers["Authorization"], there.last.headers["From"]) == ("Token token=secret-key", "a@b")
    said = {"error": {"errors": ["Open incident with matching dedup key already exists on this service"]}}
    there.answers(answer(said, 400))
    assert (await perform(call("pagerduty", config, **asked))).message == "There already"
    await perform(call("pagerduty", config, incident_id="Q/1", status="resolved", resolution="done"))
    assert (there.last.method, there.last.path) == ("PUT", "/pagerduty/incidents/Q%2F1")
    assert there.last.json["incident"]["resolution"] == "done"
    await perform(call("pagerduty", config, kind="step", incident_key="k"))
    assert (there.last.method, there.last.query) == ("GET", {"incident_key": "k"})
    with pytest.raises(ActionFailed, match="neither a routing_key nor an api_key"):
        await perform(call("pagerduty", {"service_id": "x"}, title="x"))


async def test_opsgenie(call: Make, there: FarSide) -> None:
    """An alert has the alias of the definition, else the key of the step; its id comes when Opsgenie has made it."""
    config = {"api_key": "genie-key", "integration_name": "keep"}
    made = answer({"data": {"alertId": "a-1", "alias": KEY, "isSuccess": True}})
    there.answers(answer({"requestId": "r-1", "result": "Request will be processed"}, 202), answer({}, 404), made)
    done = await perform(call("opsgenie", config, message="disk", tags="['a', 'b']", details={"x": "1"}, priority="P1"))
    assert there.sent[0].json == {
        "message": "disk",
        "alias": KEY,
        "priority": "P1",
        "tags": ["a", "b"],
        "details": {"x": "1"},
    }
    assert there.sent[0].headers["Authorization"] == "GenieKey genie-key"
    assert there.last.path == "/opsgenie/requests/r-1"
    assert done.result["alertId"] == "a-1"
    there.answers(answer({"requestId": "r-2"}, 202), answer("broken", 500))
    assert (await perform(call("opsgenie", config, message="x", alias="fp"))).result == {
        "requestId": "r-2",
        "alias": "fp",
    }
    await perform(call("opsgenie", config, type="close_alert", alert_id="a-1"))
    assert there.last.path == "/opsgenie/a-1/close"
    there.answers(answer({"data": [{"id": 1}]}))
    found = await perform(call("opsgenie", config, kind="step", query_type="alerts", query="status:open"))
    assert found.result == {"alerts": [{"id": 1}], "alerts_count": 1}


async def test_ilert(call: Make, there: FarSide) -> None:
    """An event has the key of the step; a change of an incident keeps what it does not name."""
    config = {"ilert_token": "il1"}
    await perform(call("ilert", config, _type="event", summary="disk"))
    assert (there.last.path, there.last.json["alertKey"]) == ("/ilert/events/keep/il1", KEY)
    await perform(call("ilert", config, summary="disk", status="INVESTIGATING", affectedServices=[{"impact": "X"}]))
    assert (there.last.method, there.last.json["affectedServices"]) == ("POST", [{"impact": "X"}])
    there.answers(answer({"id": "5", "summary": "disk", "message": "old"}))
    await perform(call("ilert", config, id="5", status="RESOLVED", message="new"))
    assert (there.last.method, there.last.json) == (
        "PUT",
        {"id": "5", "summary": "disk", "message": "new", "status": "RESOLVED"},
    )


async def test_squadcast(call: Make, there: FarSide, monkeypatch: pytest.MonkeyPatch) -> None:
    """An incident has what the definition adds, and our own fields before that; a note needs a token first."""
    monkeypatch.setattr(paging, "SQUADCAST", there.url + "/{}{}")
    config = {"service_region": "EU", "webhook_url": f"{there.url}/hook", "refresh_token": "refresh-1"}
    more = "{'message': 'other', 'alert': {'a': None}}"
    await perform(call("squadcast", config, notify_type="incident", message="m", description="d", additional_json=more))
    assert there.last.json == {"message": "m", "description": "d", "event_id": KEY, "alert": {"a": None}}
    there.answers(answer({"data": {"access_token": "access-1"}}))
    await perform(call("squadcast", config, notify_type="notes", message="m", incident_id="5"))
    assert there.sent[-2].path == "/auth.eu/oauth/access-token"
    assert (there.last.path, there.last.headers["Authorization"]) == (
        "/api.eu/v3/incidents/5/warroom",
        "Bearer access-1",
    )
    with pytest.raises(ActionFailed, match="must be incident or notes"):
        await perform(call("squadcast", config, notify_type="x", message="m"))


JIRA = {"email": "a@example.com", "api_token": "jira-token"}


async def test_jira_makes_an_issue(call: Make, there: FarSide) -> None:
    """An issue comes into the project of the board, with labels, components and whatever else is a field of it."""
    boards = {"values": [{"name": "oncall board", "location": {"projectKey": "ONC"}}]}
    there.answers(answer(boards), answer({"id": "1", "key": "ONC-1", "self": "x"}, 201))
    config = {**JIRA, "host": f"{there.url}/"}
    done = await perform(
        call(
            "jira",
            config,
            board_name="Oncall Board",
            issuetype="Bug",
            summary="disk",
            description="full",
            labels="['a']",
            components=["db"],
            custom_fields={"customfield_1": "x"},
            priority="None",
            enrich_alert=[{"key": "a", "value": "b"}],
        )
    )
    assert there.last.json["fields"] == {
        "summary": "disk",
        "description": "full",
        "project": {"key": "ONC"},
        "issuetype": {"name": "Bug"},
        "labels": ["a"],
        "components": [{"name": "db"}],
        "customfield_1": "x",
    }
    assert done.result["issue"]["key"] == "ONC-1"
    assert done.result["ticket_url"] == f"{there.url}/browse/ONC-1"
    there.answers(answer({"values": []}))
    with pytest.raises(ActionFailed, match="no board of that name"):
        await perform(call("jira", config, board_name="x", summary="y"))


async def test_jira_changes_an_issue(call: Make, there: FarSide) -> None:
    """An issue is changed by its id and moved on by the name of a transition; one that cannot be is told."""
    moves = answer({"transitions": [{"id": "31", "name": "Done"}]})
    there.answers(answer("", 204), answer({"id": "1", "key": "ONC-1"}), moves, answer("", 204))
    config = {**JIRA, "host": there.url}
    done = await perform(call("jira", config, issue_id="1", summary="disk", transition_to="done"))
    assert [each.method for each in there.sent] == ["PUT", "GET", "GET", "POST"]
    assert there.sent[0].json == {"update": {"summary": [{"set": "disk"}]}}
    assert there.last.json == {"transition": {"id": "31"}}
    assert done.result["issue"]["key"] == "ONC-1"
    there.answers(answer({"key": "ONC-2"}, 201), moves)
    with pytest.raises(ActionFailed, match="no such transition for ONC-2; there is Done") as failed:
        await perform(call("jira", config, project_key="ONC", summary="x", transition_to="Nowhere"))
    assert failed.value.may_have_acted
    there.answers(answer({"key": "ONC-1"}), answer({"total": 7}))
    assert (await perform(call("jira", config, kind="step", ticket_id="ONC-1"))).result == {"issue": {"key": "ONC-1"}}
    assert (await perform(call("jira", config, kind="step", board_id=5))).result == {"number_of_issues": 7}


async def test_servicenow(call: Make, there: FarSide) -> None:
    """A record is made and linked, or read for its state; a sleeping instance is no success."""
    config = {"service_now_base_url": f"{there.url}/", "username": "u", "password": "p"}
    there.answers(answer({"result": {"sys_id": "s1", "number": "INC1"}}, 201))
    done = await perform(call("servicenow", config, table_name="Incident", payload='{"short_description": "disk"}'))
    assert (there.last.path, there.last.json) == ("/api/now/table/incident", {"short_description": "disk"})
    assert done.result["link"] == f"{there.url}/now/nav/ui/classic/params/target/incident.do%3Fsys_id%3Ds1"
    there.answers(answer({"result": {"state": "2"}}))
    done = await perform(call("servicenow", config, table_name="incident", ticket_id="s1", fingerprint="fp"))
    assert (there.last.method, done.result) == ("GET", {"state": "2", "fingerprint": "fp"})
    there.answers(answer({"result": [{"a": 1}]}))
    done = await perform(call("servicenow", config, kind="step", table_name="incident", sysparm_limit=5))
    assert (there.last.query, done.result) == ({"sysparm_limit": "5", "sysparm_offset": "0"}, [{"a": 1}])
    there.answers(answer("<html>Hibernating"))
    with pytest.raises(ActionFailed, match="is the instance asleep"):
        await perform(call("servicenow", config, table_name="incident"))


async def test_ntfy(call: Make, there: FarSide) -> None:
    """A message goes to the topic, at a host of one's own or at ntfy's."""
    await perform(call("ntfy", {"access_token": "tk_1"}, message="hällo", topic="ops/1"))
    assert (there.last.path, there.last.body) == ("/ntfy/ops%2F1", "hällo")
    assert there.last.headers["Authorization"] == "Bearer tk_1"
    await perform(call("ntfy", {"host": f"{there.url}/", "username": "u", "password": "p"}, message="x", topic="ops"))
    assert (there.last.path, there.last.headers["Authorization"]) == ("/ops", "Basic dTpw")
    with pytest.raises(ActionFailed, match="neither an access_token nor a host"):
        await perform(call("ntfy", {}, message="x", topic="ops"))


async def test_sendgrid_and_resend(call: Make, there: FarSide) -> None:
    """Letters by services: one request for all recipients, and with Resend the key by which it knows a repetition."""
    there.answers(answer("", 202))
    config = {"api_key": "SG.1", "from_email": "keep@example.com"}
    done = await perform(call("sendgrid", config, to=["a@b.c", "d@e.f"], subject="S", html="<b>x</b>"))
    assert there.last.json == {
        "personalizations": [{"to": [{"email": "a@b.c"}, {"email": "d@e.f"}]}],
        "from": {"email": "keep@example.com"},
        "subject": "S",
        "content": [{"type": "text/html", "value": "<b>x</b>"}],
    }
    assert done.result["status_code"] == 202
    there.answers(answer({"id": "m-1"}))
    done = await perform(
        call("resend", {"api_key": "re_1"}, _from="k@example.com", to="a@b.c, d@e.f", subject="S", html="x")
    )
    assert there.last.json == {"from": "k@example.com", "to": ["a@b.c", "d@e.f"], "subject": "S", "html": "x"}
    assert there.last.headers["Idempotency-Key"] == KEY
    assert done.result == {"id": "m-1"}


async def test_pushover_by_apprise(call: Make, there: FarSide) -> None:
    """Pushover gets message, title and priority, with the times of an emergency."""
    config = {"token": "t" * 30, "user_key": "u" * 30}
    await perform(
        call("pushover", config, message="<p>disk_is *full*</p>", title="DB", priority="2", retry=90, expire=600)
    )
    form = dict(pair.split("=", 1) for pair in there.last.body.split("&"))
    assert (form["token"], form["user"], form["title"], form["priority"]) == ("t" * 30, "u" * 30, "DB", "2")
    assert (form["message"], form["retry"], form["expire"]) == ("disk_is+%2Afull%2A", "90", "600")
    await perform(call("pushover", config, message="x", priority=-2))
    assert "priority=-2" in there.last.body


async def test_google_chat_by_apprise(call: Make, there: FarSide) -> None:
    """Google Chat gets the text as it is; a webhook of another host is no webhook of Google Chat."""
    url = "https://chat.googleapis.com/v1/spaces/AAA/messages?key=k-1&token=t%2F1"
    done = await perform(call("google_chat", {"webhook_url": url}, message="*disk* <http://a|b> is_full_now"))
    assert (there.last.path, there.last.query) == ("/chat/AAA", {"key": "k-1", "token": "t/1"})
    assert there.last.json == {"text": "*disk* <http://a|b> is_full_now"}
    assert done.result == "Alert message sent to Google Chat successfully"
    with pytest.raises(ActionFailed, match=r"must be https://chat\.googleapis\.com"):
        await perform(
            call("google_chat", {"webhook_url": "https://evil.example/v1/spaces/A/messages?key=1&token=2"}, message="x")
        )


async def test_twilio_and_signl4_by_apprise(call: Make, there: FarSide) -> None:
    """A short message, and an alert that can be changed by its id."""
    there.otherwise = answer({}, 201)
    config = {"account_sid": "AC" + "a" * 32, "api_token": "b" * 32, "from_phone_number": "+15550000001"}
    await perform(call("twilio", config, message_body="disk full", to_phone_number="+15550000002"))
    assert there.last.path == "/twilio/AC" + "a" * 32
    assert "To=%2B15550000002" in there.last.body and "Body=disk+full" in there.last.body
    await perform(
        call(
            "signl4",
            {"signl4_integration_secret": "s3cret"},
            title="T",
            message="M",
            s4_external_id="e1",
            s4_status="resolved",
        )
    )
    sent = there.last.json
    assert (there.last.path, sent["title"], sent["body"]) == ("/signl4/s3cret/", "T", "M")
    assert (sent["X-S4-ExternalID"], sent["X-S4-Status"]) == ("e1", "resolved")


@pytest.mark.parametrize("number", ["nobody", "12", "+1 555", "", "+15550000001,+15550000002"])
async def test_no_number(number: str, call: Make, there: FarSide) -> None:
    """A message to what is no number is sent to nobody; least of all to the number that it is sent from."""
    config = {"account_sid": "AC" + "a" * 32, "api_token": "b" * 32, "from_phone_number": "+15550000001"}
    with pytest.raises(ActionFailed, match="to_phone_number"):
        await perform(call("twilio", config, message_body="x", to_phone_number=number))
    assert there.sent == []


@pytest.mark.parametrize(("status", "retryable"), [(400, False), (401, False), (429, True), (503, True)])
async def test_apprise_that_fails(status: int, retryable: bool, call: Make, there: FarSide) -> None:
    """What Apprise only logs is known all the same: which answer it was, and whether it passes."""
    there.otherwise = answer({"status": 0}, status)
    with pytest.raises(ActionFailed, match=f"answered {status}") as failed:
        await perform(call("pushover", {"token": "t" * 30, "user_key": "u" * 30}, message="x"))
    assert failed.value.retryable is retryable
    with pytest.raises(ActionFailed, match="the Provider's fields are not as this service gives them"):
        await perform(
            call(
                "twilio",
                {"account_sid": "x", "api_token": "y", "from_phone_number": "z"},
                message_body="a",
                to_phone_number="+15550000002",
            )
        )


@pytest.mark.parametrize(
    ("type_name", "kind", "told"),
    [
        ("openshift", "step", '"openshift" is not supported by the built-in runtime'),
        ("python", "step", "never will be"),
        ("slack", "step", "cannot be queried by the built-in runtime; use it in an action"),
        ("prometheus", "action", "cannot be notified by the built-in runtime; use it in a step"),
        ("no such\ntype", "action", "is not supported"),
    ],
)
async def test_what_is_not_supported(type_name: str, kind: Any, told: str, call: Make) -> None:
    """A type that the runtime does not have fails at once and for good, and says so."""
    with pytest.raises(ActionNotSupported, match=told) as failed:
        await perform(call(type_name, kind=kind))
    assert not failed.value.retryable
