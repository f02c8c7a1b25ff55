"""What objects cannot tell: archived versions, the ledger, retention; asked of `keep-operator console` with the user's token.

::

    --api-url ──────────────────────────────────────────────────────┐
    kubectl port-forward to the Service, on a port of this machine ─┴──► GET /api/v1/…, Authorization: Bearer

The token is the one that kubectl would show the API server: from the kubeconfig, or from its credential plugin.
"""

import asyncio
import contextlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import client
from pathlib import Path
from typing import Any, Final
from urllib import parse

from keep_operator.plugin import ends
from keep_operator.plugin.kubectl import Json, Kubectl, in_a_pod
from keep_operator.plugin.reach import Reach
from keep_operator.plugin.view import Version, View

# Seconds; a page is there within a tenth of one.
_PATIENCE: Final = 20
_FORWARDED: Final = re.compile(rb"Forwarding from (127\.0\.0\.1:[0-9]+) ")
_PAGE: Final = 200


@dataclass(frozen=True, slots=True)
class ReadApi:
    """The API at an address, for one user."""

    url: str
    token: str = field(repr=False)

    def get(self, path: str, **asked: str | int | None) -> Json:
        """An answer. Raises Missing, Refused, Unreachable."""
        query = parse.urlencode({name: value for name, value in asked.items() if value is not None})
        at = parse.urlsplit(self.url)
        secure = at.scheme == "https"
        kind = client.HTTPSConnection if secure else client.HTTPConnection
        headers = {"Authorization": f"Bearer {self.token}", "Accept": "application/json"}
        try:
            # No redirects are followed: the token goes to whom it was meant for.
            with contextlib.closing(kind(at.netloc, timeout=_PATIENCE)) as connection:
                connection.request("GET", f"{at.path.rstrip('/')}/api/v1/{path}?{query}", headers=headers)
                answer = connection.getresponse()
                found = json.loads(answer.read())
        except (OSError, ValueError, client.HTTPException) as failure:
            cause = str(failure) or type(failure).__name__
            raise ends.Unreachable(f"the read API at {self.url} does not answer ({cause}): {_REMEDY}") from None
        if answer.status != 200 or not isinstance(found, dict):
            raise _refusal(answer.status, found)
        return found

    def items(self, path: str, limit: int | None = None, **asked: str | int | None) -> Iterator[Json]:
        """The items of all pages, or the first so many of them."""
        after: str | None = None
        left = limit
        while left is None or left > 0:
            page = self.get(path, limit=min(_PAGE, left or _PAGE), after=after, **asked)
            yield from page["items"]
            after = page.get("after")
            left = None if left is None else left - len(page["items"])
            if after is None:
                return


_REMEDY: Final = "is `keep-operator console` running? --api-url or --api-service say where; --help says more"


def version(kubectl: Kubectl, seen: View, reach: Reach, reference: str) -> Version:
    """The version that somebody means, which has no object: an archived one. Raises Missing."""
    try:
        with opened(kubectl, reach) as api:
            path = f"revisions/{parse.quote(reference, safe='')}"
            told = api.get(path, namespace=seen.namespace, workflow=seen.name)
    except ends.Missing as failure:
        raise ends.Missing(failure.message) from None
    except ends.Failure as failure:
        raise ends.Missing(
            f'{seen.name} has no version "{reference}" with an object: {seen.told_numbers()}. Of archived ones only the '
            f"read API knows: {failure.message}"
        ) from None
    return _as_version(told)


def archived(api: ReadApi, seen: View) -> tuple[Version, ...]:
    """The versions that have no object, without what they do."""
    known = {each.number for each in seen.versions}
    every = api.items("revisions", namespace=seen.namespace, workflow=seen.name)
    return tuple(_as_version(each) for each in every if each["number"] not in known)


def _as_version(told: Json) -> Version:
    conditions = [
        {"type": kind, "status": "True", "reason": told[field]}
        for kind, field in (("Rejected", "rejected"), ("Denied", "denied"))
        if told.get(field)
    ]
    if told.get("flaw"):
        conditions.append({"type": "Valid", "status": "False", **told["flaw"]})
    return Version(
        {
            "metadata": {"creationTimestamp": told["createdAt"]},
            "spec": told,
            "status": {**told, "conditions": conditions},
        }
    )


@contextlib.contextmanager
def opened(kubectl: Kubectl, reach: Reach) -> Iterator[ReadApi]:
    """The read API, as long as it is needed. Raises Unreachable."""
    token = reach.token or _token(kubectl)
    if reach.url:
        if not reach.url.startswith(("http://", "https://")):
            raise ends.Unusable(f"--api-url {reach.url} is no http or https URL")
        yield ReadApi(reach.url, token)
        return
    namespace, _, name = reach.service.rpartition("/")
    with _forwarded(kubectl, namespace, name) as address:
        yield ReadApi(f"http://{address}", token)


@contextlib.contextmanager
def _forwarded(kubectl: Kubectl, namespace: str, name: str) -> Iterator[str]:
    flags = [each for each in kubectl.flags if not each.startswith("--namespace=")]
    if namespace:
        flags.append(f"--namespace={namespace}")
    arguments = ("port-forward", f"service/{name}", ":http", "--address=127.0.0.1")
    with Kubectl(tuple(flags)).start(arguments) as process:
        try:
            assert process.stdout is not None
            found = _FORWARDED.match(process.stdout.readline())
            if found is None:
                _, complaint = process.communicate()
                words = complaint.decode(errors="replace").strip() or "kubectl port-forward says nothing"
                raise ends.Unreachable(f"Service {namespace}/{name} cannot be forwarded to: {words}\n{_REMEDY}")
            yield found[1].decode()
        finally:
            process.terminate()


def _token(kubectl: Kubectl) -> str:
    """The bearer token of the user whom the kubeconfig's context names. Raises Unreachable."""
    from datetime import UTC, datetime  # noqa: PLC0415

    # What reads kubeconfigs for the operator reads this one too; it takes a quarter of a second to load.
    from keep_operator.cluster import kubeconfig  # noqa: PLC0415
    from keep_operator.errors import KeepOperatorError  # noqa: PLC0415

    if any(flag.startswith("--as") for flag in kubectl.flags):
        raise ends.Unusable("the read API knows no --as: leave it out, or give that user's --api-token")
    text = kubectl.text("config", "view", "--minify", "--raw", "--flatten", "--output=json")
    if not json.loads(text).get("current-context") and (token := in_a_pod("token")):
        return token
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:  # readable by its owner only
        file.write(text)
        file.flush()
        try:
            chosen = kubeconfig.choose([Path(file.name)], os.environ, lambda: datetime.now(UTC))
            identity = asyncio.run(_obtain(chosen.obtain))
        except KeepOperatorError as problem:
            words = problem.message.replace(file.name, "the kubeconfig")
            raise ends.Unreachable(f"no token for the read API: {words}") from None
    scheme, _, token = (identity.authorization or "").partition(" ")
    if scheme != "Bearer":
        raise ends.Unreachable(
            "the read API takes bearer tokens, and your kubeconfig has none (a certificate proves you to the API server "
            'only): give one with --api-token, such as "$(kubectl create token NAME)"'
        )
    return token


async def _obtain(source: Any) -> Any:
    return await source()


def _refusal(status: int, answer: Any) -> ends.Failure:
    told = answer.get("detail") if isinstance(answer, dict) else None
    message = told if isinstance(told, str) else f"HTTP {status}"
    match status:
        case 404:
            return ends.Missing(message)
        case 401:
            return ends.Refused(f"the read API does not take your token: {message}")
        case code if 400 <= code < 500:
            return ends.Refused(f"the read API refuses: {message}")
        case _:
            return ends.Unreachable(f"the read API does not answer as it should: {message}")
