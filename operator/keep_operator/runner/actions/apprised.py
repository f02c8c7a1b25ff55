"""What Apprise does for us: services with one fixed address, to which a message is all there is to say.

It blocks, keeps quiet about what went wrong but in its log, and would log what is nobody's business: so it runs in a thread
that is guarded, and its log is heard here and goes nowhere else.
"""

import logging
import re
from contextvars import ContextVar
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import requests
from apprise import AppriseAsset, PersistentStoreMode
from apprise.exception import AppriseException
from apprise.plugins import google_chat as google_chat_plugin
from apprise.plugins import pushover as pushover_plugin
from apprise.plugins import signl4 as signl4_plugin
from apprise.plugins import twilio as twilio_plugin

from keep_operator.runner import egress
from keep_operator.runner.actions import parameters, transport
from keep_operator.runner.actions.call import ActionFailed, Call, Outcome
from keep_operator.runner.egress import OffLimits

# Of an answer that says "taken".
_MOST_BYTES: Final = 1024 * 1024
_STATUS: Final = re.compile(r"error=(\d{3})\b")
_GOOGLE: Final = "chat.googleapis.com"
_SPACE: Final = re.compile(r"/v1/spaces/([^/]+)/messages")
_TELEPHONE: Final = re.compile(r"\+?[0-9]([ ().-]*[0-9]){6,14}")
_HEARD: Final[ContextVar[list[str] | None]] = ContextVar("heard", default=None)


class _Ear(logging.Handler):
    """Apprise says in its log alone how a service answered, beside tokens and texts: only the number is kept."""

    def emit(self, record: logging.LogRecord) -> None:
        heard = _HEARD.get()
        if heard is not None:
            heard.extend(_STATUS.findall(record.getMessage()))


def _deafen() -> None:
    logger = logging.getLogger("apprise")
    if not any(isinstance(each, _Ear) for each in logger.handlers):
        logger.handlers[:] = [_Ear()]
        logger.setLevel(logging.WARNING)
    logger.propagate = False
    # It tells each path that is asked for, and these have tokens.
    logging.getLogger("urllib3").setLevel(logging.ERROR)


async def pushover(call: Call) -> Outcome:
    """A message for the Provider's user or group; ``priority: 2`` is repeated until somebody acknowledges it."""
    message = parameters.needed(call, "message").replace("<p>", "").replace("</p>", "")
    priority = parameters.number(call, "priority", 0)

    settings = {
        "user_key": parameters.needed_setting(call, "user_key"),
        "token": parameters.needed_setting(call, "token"),
        "priority": str(priority),
        "sound": parameters.text(call, "sound", "pushover"),
        "interval": parameters.number(call, "retry", 60),
        "expire": parameters.number(call, "expire", 3600),
    }

    await _notify(call, pushover_plugin.NotifyPushover, settings, message, parameters.text(call, "title"))
    return Outcome(None, "Sent")


async def google_chat(call: Call) -> Outcome:
    """A message by the Provider's webhook."""
    message = parameters.needed(call, "message")
    space, key, token = _google_parts(parameters.needed_setting(call, "webhook_url"))

    settings = {
        "workspace": space,
        "webhook_key": key,
        "webhook_token": token,
    }

    await _notify(call, google_chat_plugin.NotifyGoogleChat, settings, message)
    return Outcome("Alert message sent to Google Chat successfully", "Sent")


def _google_parts(url: str) -> tuple[str, str, str]:
    try:
        parts = urlsplit(url)
        space = _SPACE.fullmatch(parts.path)
        query = parse_qs(parts.query)
        if parts.hostname == _GOOGLE and space is not None:
            return space[1], query["key"][0], query["token"][0]
    except (ValueError, KeyError):
        pass
    raise ActionFailed(
        f"google_chat: the Provider's webhook_url must be https://{_GOOGLE}/v1/spaces/.../messages?key=...&token=..., as Google "
        "Chat shows it"
    )


async def twilio(call: Call) -> Outcome:
    """A short message from the Provider's number to another one."""
    message, to = parameters.needed(call, "message_body"), parameters.needed(call, "to_phone_number")
    if _TELEPHONE.fullmatch(to) is None:
        # Apprise would drop it, and write to the number that it writes from.
        raise ActionFailed("twilio: the parameter to_phone_number must be a telephone number such as +15550000002")

    settings = {
        "account_sid": parameters.needed_setting(call, "account_sid"),
        "auth_token": parameters.needed_setting(call, "api_token"),
        "source": parameters.needed_setting(call, "from_phone_number"),
        "targets": [to],
    }

    await _notify(call, twilio_plugin.NotifyTwilio, settings, message)
    return Outcome(None, "Sent")


async def signl4(call: Call) -> Outcome:
    """An alert for the Provider's team; ``s4_external_id`` with ``s4_status`` changes one."""
    message, title = parameters.needed(call, "message", "title"), parameters.text(call, "title")

    settings = {
        "secret": parameters.needed_setting(call, "signl4_integration_secret"),
        "service": parameters.text(call, "s4_service") or None,
        "location": parameters.text(call, "s4_location") or None,
        "alerting_scenario": parameters.text(call, "s4_alerting_scenario") or None,
        "filtering": parameters.flag(call, call.parameters.get("s4_filtering"), "s4_filtering", False),
        "external_id": parameters.text(call, "s4_external_id") or None,
        "status": parameters.text(call, "s4_status") or None,
    }

    await _notify(call, signl4_plugin.NotifySIGNL4, settings, message, title)
    return Outcome(None, "Sent")


def _options(call: Call) -> dict[str, Any]:
    return {
        "asset": AppriseAsset(
            app_id="Keep", app_desc="Keep", async_mode=False, storage_mode=PersistentStoreMode.MEMORY
        ),
        "cto": call.timeout_s,
        "rto": call.timeout_s,
        "redirect": "no",
        "overflow": "truncate",
    }


async def _notify(call: Call, service: Any, settings: dict[str, Any], body: str, title: str = "") -> None:
    heard: list[str] = []

    def work() -> bool:
        _deafen()
        _HEARD.set(heard)
        try:
            plugin = service(**settings, **_options(call))
        except (AppriseException, TypeError, ValueError):
            # Its own words hold what is wrong, credentials too.
            raise ActionFailed(
                f"{call.type}: the Provider's fields are not as this service gives them; check each"
            ) from None
        # One message alone is not held back for the sake of others.
        plugin.request_rate_per_sec = 0
        return bool(plugin.notify(body=body, title=title))

    try:
        done = await egress.in_thread(call.egress, work, most=_MOST_BYTES)
    except OffLimits as error:
        raise ActionFailed(f"{call.type}: {error}") from None
    except egress.TooMuch:
        raise transport.failed(
            call, "sent more than 1024 KiB, which is all that is taken", may_have_acted=True
        ) from None
    except (requests.RequestException, OSError):
        done = False
    if done:
        return
    if not heard:
        raise transport.failed(call, "could not be told: no connection, or it broke off", True, may_have_acted=True)
    status = int(heard[-1])
    raise transport.failed(call, f"answered {status}", status in transport.WAIT_AND_RETRY, may_have_acted=status >= 500)
