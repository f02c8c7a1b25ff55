"""Letters: by SMTP, by SendGrid, by Resend."""

import hashlib
import smtplib
import socket
import ssl
from contextlib import suppress
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import formatdate, getaddresses
from typing import Any, Final

from keep_operator.runner import egress
from keep_operator.runner.actions import parameters, transport
from keep_operator.runner.actions.call import ActionFailed, Call, Outcome
from keep_operator.runner.actions.transport import Request
from keep_operator.runner.egress import OffLimits

SENDGRID: Final = "https://api.sendgrid.com/v3/mail/send"
RESEND: Final = "https://api.resend.com/emails"
_ENCRYPTIONS: Final = ("SSL", "TLS", "None")
# What a mail server says in one conversation.
_MOST_BYTES: Final = 1024 * 1024
# How the server is greeted with STARTTLS and for its certificate: as for any other.
_PORT: Final = 587


async def smtp(call: Call) -> Outcome:
    """A letter by the Provider's server; with TLS its certificate must be one that the machine trusts."""
    encryption = parameters.setting(call, "encryption", "TLS")
    if encryption not in _ENCRYPTIONS:
        raise ActionFailed(f"smtp: encryption must be one of {', '.join(_ENCRYPTIONS)}")
    host = parameters.needed_setting(call, "smtp_server")
    transport.TALKING_TO.set(host)
    letter, recipients = _letter(call)
    try:
        port = int(parameters.setting(call, "smtp_port", str(_PORT)))
    except ValueError:
        raise ActionFailed("smtp: smtp_port must be a port") from None
    try:
        refused = await egress.in_thread(
            call.egress, lambda: _send(call, host, port, encryption, letter, recipients), most=_MOST_BYTES
        )
    except (smtplib.SMTPException, OSError, ValueError, egress.TooMuch) as error:
        raise _failure(call, error) from None
    told = {name: call.parameters.get(name) for name in ("html", "body") if call.parameters.get(name)}
    result = {"from": parameters.text(call, "from_email"), "to": call.parameters.get("to_email")}
    missed = f"; not taken for {', '.join(refused)}" if refused else ""
    return Outcome(
        {**result, "subject": parameters.text(call, "subject"), **told}, f"Sent to {len(recipients)}{missed}"
    )


def _letter(call: Call) -> tuple[EmailMessage, list[str]]:
    sender = parameters.needed(call, "from_email")
    recipients = _recipients(call, "to_email")
    body, html = parameters.text(call, "body"), parameters.text(call, "html")
    if not body and not html:
        raise ActionFailed("smtp: one of the parameters body and html is needed")
    letter = EmailMessage()
    try:
        letter["From"] = Address(parameters.text(call, "from_name"), addr_spec=sender)
        letter["To"] = ", ".join(recipients)
        letter["Subject"] = " ".join(parameters.text(call, "subject").split())
        letter["Date"] = formatdate()
        # The same for a repetition: servers and readers that look at it know the letter again.
        known = hashlib.sha256(call.idempotency_key.encode()).hexdigest()[:32]
        letter["Message-ID"] = f"<{known}@keep-operator>"
    except (ValueError, IndexError):
        raise ActionFailed(
            "smtp: from_email, from_name or to_email is no address, or has characters of no address"
        ) from None
    if html:
        letter.set_content(html, subtype="html")
    else:
        letter.set_content(body)
    return letter, recipients


def _recipients(call: Call, name: str) -> list[str]:
    value = call.parameters.get(name)
    if isinstance(value, str):
        value = parameters.parse(value)
    entries = [parameters.as_text(each) for each in value] if isinstance(value, list) else [parameters.as_text(value)]
    found = [address for _, address in getaddresses(entries) if "@" in address]
    if not found:
        raise ActionFailed(f"{call.type}: the parameter {name} is needed: an address, or a list of them")
    return found


def _send(
    call: Call, host: str, port: int, encryption: str, letter: EmailMessage, recipients: list[str]
) -> dict[str, Any]:
    """Speak with the server; blocks. The recipients that it did not take, by address."""
    context = ssl.create_default_context()
    name = socket.gethostname()
    server: smtplib.SMTP
    if encryption == "SSL":
        server = smtplib.SMTP_SSL(host, port, local_hostname=name, timeout=call.timeout_s, context=context)
    else:
        server = smtplib.SMTP(host, port, local_hostname=name, timeout=call.timeout_s)
    try:
        if encryption == "TLS":
            server.starttls(context=context)
        user, password = parameters.setting(call, "smtp_username"), parameters.setting(call, "smtp_password")
        if user and password:
            server.login(user, password)
        return server.send_message(letter, parameters.needed(call, "from_email"), recipients)
    finally:
        # The letter is taken or it is not; how the server takes leave changes nothing.
        with suppress(smtplib.SMTPException, OSError):
            server.quit()
        server.close()


def _failure(call: Call, error: Exception) -> ActionFailed:
    """SMTP's own division: codes of 400 pass, those of 500 do not."""
    match error:
        case OffLimits():
            return ActionFailed(f"{call.type}: {error}")
        case egress.TooMuch():
            return transport.failed(call, "says more than any mail server does", may_have_acted=True)
        case smtplib.SMTPRecipientsRefused():
            codes = {code for code, _ in error.recipients.values()}
            return transport.failed(
                call, f"takes letters to none of the recipients: {_said(error.recipients)}", max(codes) < 500
            )
        case smtplib.SMTPAuthenticationError():
            return transport.failed(call, f"does not accept the credentials: {error.smtp_code}", error.smtp_code < 500)
        case smtplib.SMTPResponseException():
            said = (
                error.smtp_error.decode("utf-8", "replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
            )
            return transport.failed(call, f"answered {error.smtp_code} {said}"[:300], error.smtp_code < 500)
        case smtplib.SMTPNotSupportedError():
            return transport.failed(
                call, "cannot do what is asked: STARTTLS, or a login. See encryption of the Provider"
            )
        case ssl.SSLCertVerificationError():
            return transport.failed(call, f"has a certificate that is not accepted: {error.verify_message}")
        case ssl.SSLError():
            return transport.failed(call, "does not speak TLS as it should. See encryption of the Provider")
        case TimeoutError():
            return transport.timed_out(call)
        case smtplib.SMTPServerDisconnected():
            return transport.failed(call, "closed the connection", True, may_have_acted=True)
        case socket.gaierror():
            return transport.failed(call, "cannot be found: its name has no address", True)
        case OSError():
            return transport.unreachable(call, error)
    return transport.failed(call, "cannot be sent such a letter")


def _said(recipients: dict[str, tuple[int, bytes]]) -> str:
    code, text = next(iter(recipients.values()))
    return f"{code} {text.decode('utf-8', 'replace')}"[:200]


async def sendgrid(call: Call) -> Outcome:
    """A letter by SendGrid, from the Provider's address."""
    payload = {
        "personalizations": [{"to": [{"email": each} for each in _recipients(call, "to")]}],
        "from": {"email": parameters.needed_setting(call, "from_email")},
        "subject": parameters.text(call, "subject"),
        "content": [{"type": "text/html", "value": parameters.needed(call, "html")}],
    }
    headers = {"Authorization": f"Bearer {parameters.needed_setting(call, 'api_key')}"}
    request = Request("POST", SENDGRID, headers=headers, json=payload)
    answer = transport.expect(call, await transport.exchange(call, request))
    return Outcome({"status_code": answer.status, "body": answer.text, "headers": dict(answer.headers)}, "Sent")


async def resend(call: Call) -> Outcome:
    """A letter by Resend, which knows a repetition by its key for a day."""
    extra = {
        name: value
        for name, value in call.parameters.items()
        if name not in ("_from", "from", "from_", "to", "subject", "html") and not name.startswith("enrich_")
    }
    payload = {
        **extra,
        "from": parameters.needed(call, "_from", "from", "from_"),
        "to": _recipients(call, "to"),
        "subject": parameters.text(call, "subject"),
        "html": parameters.needed(call, "html"),
    }
    headers = {
        "Authorization": f"Bearer {parameters.needed_setting(call, 'api_key')}",
        "Idempotency-Key": call.idempotency_key,
    }
    request = Request("POST", RESEND, headers=headers, json=payload)
    return Outcome(transport.expect(call, await transport.exchange(call, request)).content, "Sent")
