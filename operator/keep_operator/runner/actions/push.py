"""To a telephone, by a server of one's own: ntfy."""

from typing import Final
from urllib.parse import quote

from keep_operator.runner.actions import parameters, transport
from keep_operator.runner.actions.call import ActionFailed, Call, Outcome
from keep_operator.runner.actions.transport import Request

NTFY: Final = "https://ntfy.sh"


async def ntfy(call: Call) -> Outcome:
    """A message for a topic: at the Provider's host, else at ntfy's own."""
    host, token = parameters.setting(call, "host", NTFY), parameters.setting(call, "access_token")
    name, password = parameters.setting(call, "username"), parameters.setting(call, "password")
    if not (token or call.config.get("host")):
        raise ActionFailed("ntfy: the Provider has neither an access_token nor a host; it needs one of the two")
    if "://" not in host:
        host = f"https://{host}"
    answer = await transport.exchange(
        call,
        Request(
            "POST",
            f"{host.rstrip('/')}/{quote(parameters.needed(call, 'topic'), safe='')}",
            headers={"Authorization": f"Bearer {token}"} if token else {},
            auth=(name, password) if name and password and not token else None,
            body=parameters.needed(call, "message").encode(),
        ),
    )
    return Outcome(transport.expect(call, answer).content, "Sent")
