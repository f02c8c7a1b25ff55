"""Any HTTP server: `http` asks where the step says, `webhook` where the Provider says."""

import base64
from typing import Any, Final

from keep_operator.runner.actions import parameters, transport
from keep_operator.runner.actions.call import ActionFailed, Call, Outcome
from keep_operator.runner.actions.transport import Request

METHODS: Final = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD")
# As many as browsers and clients follow without asking is far more than anybody needs.
_REDIRECTS: Final = 5
_BODILESS: Final = frozenset({"GET", "HEAD"})


async def http(call: Call) -> Outcome:
    """A request as the parameters describe it."""
    given = call.parameters
    if given.get("proxies"):
        raise ActionFailed("http: proxies are not supported, since nobody could say what they reach; leave it out")
    return await _ask(
        call,
        parameters.needed(call, "url"),
        _method(call, parameters.text(call, "method", "GET")),
        parameters.headers(call, given.get("headers")),
        verify=parameters.flag(call, given.get("verify"), "verify", True),
    )


async def webhook_query(call: Call) -> Outcome:
    """A request to the address in the parameters, else to the Provider's own; credentials only to the latter's host."""
    given = call.parameters
    own = parameters.setting(call, "url")
    url = parameters.text(call, "url") or own
    if not url:
        raise ActionFailed("webhook: the Provider has no url, and no parameter url is given")
    headers = parameters.headers(call, given.get("headers"))
    config = call.config if transport.same_origin(url, own) else {}
    headers |= _authorization(
        *(
            parameters.as_text(given.get(name) or config.get(name))
            for name in ("http_basic_authentication_username", "http_basic_authentication_password", "api_key")
        )
    )
    verify = given.get("verify", call.config.get("verify"))
    return await _ask(
        call,
        url,
        _method(call, parameters.text(call, "method", "POST")),
        headers,
        verify=parameters.flag(call, verify, "verify", True),
    )


async def webhook_notify(call: Call) -> Outcome:
    """A request to the Provider's address, by its method and with its headers."""
    config = call.config
    url = parameters.needed_setting(call, "url")
    headers = parameters.headers(call, config.get("headers")) | _authorization(
        parameters.setting(call, "http_basic_authentication_username"),
        parameters.setting(call, "http_basic_authentication_password"),
        parameters.setting(call, "api_key"),
    )
    verify = parameters.flag(call, config.get("verify"), "verify", True)
    return await _ask(call, url, _method(call, parameters.setting(call, "method", "POST")), headers, verify=verify)


async def _ask(call: Call, url: str, method: str, headers: dict[str, str], *, verify: bool) -> Outcome:
    key = call.parameters.get("idempotency_key")
    if key not in (None, False, ""):
        headers["Idempotency-Key"] = call.idempotency_key if key is True else parameters.as_text(key)
    body, plain = _body(call, headers) if method not in _BODILESS else (None, None)
    answer = await transport.exchange(
        call,
        Request(
            method,
            url,
            headers=headers,
            params=parameters.query(call, "params"),
            json=body,
            body=plain,
            verify=verify,
            redirects=_REDIRECTS,
        ),
    )
    fine = 200 <= answer.status < 400
    if not fine and parameters.flag(call, call.parameters.get("fail_on_error"), "fail_on_error", True):
        transport.expect(call, answer)
    said = f"{method} to {transport.TALKING_TO.get()} answered {answer.status}"
    return Outcome({"status": fine, "status_code": answer.status, "body": answer.content}, said)


def _body(call: Call, headers: dict[str, str]) -> tuple[Any, bytes | None]:
    """JSON, unless the body is text and a header says that it is something else."""
    body = call.parameters.get("body")
    kind = next((value for name, value in headers.items() if name.casefold() == "content-type"), "application/json")
    if isinstance(body, str) and "json" not in kind.casefold():
        return None, body.encode()
    if isinstance(body, str):
        # A template has made text of an object, perhaps; text that is none goes as a text of JSON.
        body = parameters.parse(body)
    return {} if body is None else body, None


def _method(call: Call, given: str) -> str:
    method = given.strip().upper()
    if method not in METHODS:
        raise ActionFailed(f"{call.type}: the method must be one of {', '.join(METHODS)}")
    return method


def _authorization(username: str, password: str, api_key: str) -> dict[str, str]:
    if api_key:
        return {"Authorization": f"Bearer {api_key}"}
    if username and password:
        return {"Authorization": "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()}
    return {}
