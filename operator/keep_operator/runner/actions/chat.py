"""Rooms where people talk: Slack, Teams, Discord, Telegram, Mattermost, Zoom."""

import time
from typing import Any, Final

from keep_operator.runner.actions import parameters, transport
from keep_operator.runner.actions.call import ActionFailed, Call, Outcome
from keep_operator.runner.actions.transport import Request

SLACK: Final = "https://slack.com/api"
TELEGRAM: Final = "https://api.telegram.org"
_CARDS: Final = "application/vnd.microsoft.card.adaptive"
_ADAPTIVE: Final = "http://adaptivecards.io/schemas/adaptive-card.json"
_PARSE_MODES: Final = {"markdown": "MarkdownV2", "html": "HTML"}
_ZOOM_COLOURS: Final = {"critical": "#EF4444", "high": "#F97316", "warning": "#EAB308", "low": "#10B981"}
_ZOOM_COLOUR: Final = "#3B82F6"
# What Slack's API says with status 200, and what is over by itself.
_SLACK_PASSES: Final = frozenset(
    {"ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable"}
)


async def slack(call: Call) -> Outcome:
    """A message by the Provider's webhook, else by its token: there a new one, a changed one, a reply or a reaction."""
    webhook, token = parameters.setting(call, "webhook_url"), parameters.setting(call, "access_token")
    channel = parameters.text(call, "channel")
    if parameters.text(call, "notification_type", "message") == "reaction":
        return await _slack_reaction(call, token, channel)
    payload = parameters.without_nothing(
        {
            "channel": channel,
            "text": parameters.text(call, "message"),
            "blocks": parameters.structure(call, "blocks", list),
            "attachments": parameters.structure(call, "attachments", list),
            "username": parameters.text(call, "username"),
        }
    )
    if not payload.keys() & {"text", "blocks", "attachments"}:
        raise ActionFailed("slack: one of the parameters message, blocks and attachments is needed")
    changed, thread = parameters.text(call, "slack_timestamp"), parameters.text(call, "thread_timestamp")
    if changed and not token:
        raise ActionFailed("slack: a message is changed with an access_token only, and the Provider has none")
    if changed:
        payload["ts"] = changed
    elif thread:
        payload["thread_ts"] = thread
    if webhook and not changed:
        transport.expect(call, await transport.exchange(call, Request("POST", webhook, json=payload)))
        return Outcome({"slack_timestamp": int(time.time())}, "Sent by the webhook")
    if not token:
        parameters.needed_setting(call, "webhook_url")
    if not channel:
        raise ActionFailed("slack: with an access token the parameter channel is needed, such as C12345")
    said = await _slack_api(call, token, "chat.update" if changed else "chat.postMessage", payload)
    return Outcome({"slack_timestamp": said.get("ts"), "channel": said.get("channel", channel)}, "Sent")


async def _slack_reaction(call: Call, token: str, channel: str) -> Outcome:
    if not token:
        raise ActionFailed("slack: a reaction needs a Provider with an access_token")
    emoji, on = parameters.needed(call, "message").strip(":"), parameters.needed(call, "thread_timestamp")
    payload = {"channel": channel, "name": emoji, "timestamp": on}
    said = await _slack_api(call, token, "reactions.add", payload, fine=("already_reacted",))
    return Outcome(said, "Reacted")


async def _slack_api(
    call: Call, token: str, method: str, payload: dict[str, Any], fine: tuple[str, ...] = ()
) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {token}"}
    request = Request("POST", f"{SLACK}/{method}", headers=headers, json=payload)
    said = transport.expect(call, await transport.exchange(call, request)).content
    if not isinstance(said, dict):
        raise transport.failed(call, "answered what is no answer of Slack", may_have_acted=True)
    error = parameters.as_text(said.get("error"), "no reason")
    if not said.get("ok") and error not in fine:
        raise transport.failed(call, f"refused: {error}", error in _SLACK_PASSES)
    return said


async def teams(call: Call) -> Outcome:
    """A card by the Provider's webhook: an adaptive one, or by ``typeCard: MessageCard`` one of the older kind."""
    message = parameters.text(call, "message")
    kind = parameters.text(call, "typeCard", "message")
    sections, attachments = (parameters.structure(call, name, list) for name in ("sections", "attachments"))
    if kind == "message":
        payload: dict[str, Any] = {
            "type": "message",
            "attachments": attachments
            or [{"contentType": _CARDS, "contentUrl": None, "content": _card(call, message, sections)}],
        }
    else:
        payload = {
            "@type": kind,
            "themeColor": call.parameters.get("themeColor"),
            "text": message,
            "sections": sections or [],
        }
    url = parameters.needed_setting(call, "webhook_url")
    answer = transport.expect(call, await transport.exchange(call, Request("POST", url, json=payload)))
    return Outcome({"response_text": answer.text}, "Sent")


def _card(call: Call, message: str, sections: list[Any] | None) -> dict[str, Any]:
    card: dict[str, Any] = {
        "$schema": parameters.text(call, "schema", _ADAPTIVE),
        "type": "AdaptiveCard",
        "version": "1.2",
        "body": sections or [{"type": "TextBlock", "text": message}],
    }
    mentions = parameters.structure(call, "mentions", list) or []
    if any(not isinstance(each, dict) or not {"id", "name"} <= each.keys() for each in mentions):
        raise ActionFailed("teams: every entry of the parameter mentions must have id and name")
    if mentions:
        card["msteams"] = {
            "entities": [
                {
                    "type": "mention",
                    "text": f"<at>{each['name']}</at>",
                    "mentioned": {"id": each["id"], "name": each["name"]},
                }
                for each in mentions
            ]
        }
    return card


async def discord(call: Call) -> Outcome:
    """A message by the Provider's webhook."""
    content, components = parameters.text(call, "content"), parameters.structure(call, "components", list)
    if not content and not components:
        raise ActionFailed("discord: one of the parameters content and components is needed")
    payload = {"content": content, "components": components or []}
    request = Request("POST", parameters.needed_setting(call, "webhook_url"), json=payload)
    transport.expect(call, await transport.exchange(call, request))
    return Outcome(None, "Sent")


async def mattermost(call: Call) -> Outcome:
    """A message by the Provider's webhook; further parameters go into it as they are, such as ``username``."""
    attachments = parameters.structure(call, "attachments", list)
    extra = {
        name: value
        for name, value in call.parameters.items()
        if name not in ("message", "attachments", "channel") and not name.startswith("enrich_")
    }
    payload = parameters.without_nothing(
        {
            "text": parameters.text(call, "message"),
            "attachments": attachments,
            "channel": parameters.text(call, "channel"),
            **extra,
        }
    )
    if not payload.keys() & {"text", "attachments"}:
        raise ActionFailed("mattermost: one of the parameters message and attachments is needed")
    url = parameters.needed_setting(call, "webhook_url")
    transport.expect(call, await transport.exchange(call, Request("POST", url, json=payload)))
    return Outcome(None, "Sent")


async def telegram(call: Call) -> Outcome:
    """A message of the Provider's bot, or an image with the message before it or as its caption."""
    message, image = parameters.text(call, "message"), parameters.text(call, "image_url")
    whole = parameters.flag(call, call.parameters.get("caption_on_image"), "caption_on_image", False)
    told = parameters.without_nothing(
        {
            "chat_id": parameters.needed(call, "chat_id"),
            "message_thread_id": call.parameters.get("topic_id"),
        }
    )
    mode = parameters.without_nothing({"parse_mode": _PARSE_MODES.get(parameters.text(call, "parse_mode").casefold())})
    markup = parameters.without_nothing({"reply_markup": _keyboard(call)})
    if not image:
        said = await _telegram_api(call, "sendMessage", {**told, **mode, **markup, "text": message})
    elif whole:
        said = await _telegram_api(call, "sendPhoto", {**told, **mode, **markup, "photo": image, "caption": message})
    else:
        if message:
            await _telegram_api(call, "sendMessage", {**told, **mode, "text": message})
        try:
            said = await _telegram_api(call, "sendPhoto", {**told, **markup, "photo": image})
        except ActionFailed as error:
            # The message is out: a repetition would send it twice.
            error.may_have_acted = error.may_have_acted or bool(message)
            raise
    return Outcome({"message_id": said.get("message_id")}, "Sent")


def _keyboard(call: Call) -> dict[str, Any] | None:
    buttons = parameters.structure(call, "reply_markup", dict)
    if buttons is None:
        return None
    if any(not isinstance(each, dict) for each in buttons.values()):
        raise ActionFailed("telegram: every entry of the parameter reply_markup must be an object, such as {url: ...}")
    row = [{"text": text, **each} for text, each in buttons.items()]
    layout = parameters.text(call, "reply_markup_layout", "horizontal")
    if layout not in ("horizontal", "vertical"):
        raise ActionFailed("telegram: the parameter reply_markup_layout must be horizontal or vertical")
    return {"inline_keyboard": [row] if layout == "horizontal" else [[each] for each in row]}


async def _telegram_api(call: Call, method: str, payload: dict[str, Any]) -> dict[str, Any]:
    url = f"{TELEGRAM}/bot{parameters.needed_setting(call, 'bot_token')}/{method}"
    answer = await transport.exchange(call, Request("POST", url, json=payload))
    said = answer.content if isinstance(answer.content, dict) else {}
    wait = (said.get("parameters") or {}).get("retry_after")
    try:
        transport.expect(call, answer, told=parameters.as_text(said.get("description")))
    except ActionFailed as error:
        error.retry_after_s = error.retry_after_s or (float(wait) if isinstance(wait, int) else None)
        raise
    result = said.get("result")
    return result if isinstance(result, dict) else {}


async def zoom_chat(call: Call) -> Outcome:
    """A message by the Provider's webhook, with a colour by ``severity``. Nobody is tagged."""
    body: list[dict[str, Any]] = [
        {"type": "message", "is_markdown_support": "true", "text": parameters.needed(call, "message")}
    ]
    if link := parameters.text(call, "details_url"):
        body.append({"type": "message", "text": "View More Details", "link": link})
    colour = _ZOOM_COLOURS.get(parameters.text(call, "severity"), _ZOOM_COLOUR)
    content: dict[str, Any] = {"settings": {"default_sidebar_color": colour}, "body": body}
    if title := parameters.text(call, "title"):
        content["head"] = {"text": title, "style": {"bold": "true"}}
    headers = {"Authorization": parameters.needed_setting(call, "authorization_token")}
    url = parameters.needed_setting(call, "webhook_url")
    request = Request("POST", url, headers=headers, json={"content": content})
    transport.expect(call, await transport.exchange(call, request))
    return Outcome("Alert message sent to Zoom Chat successfully", "Sent")
