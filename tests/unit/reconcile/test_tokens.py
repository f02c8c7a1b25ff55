"""Secrets with tokens of machines: read when they have changed, and no oftener."""

import base64
from typing import Any, cast

import pytest

from keep_operator.domain.tenant import Token, Tokens
from keep_operator.errors import Unavailable
from keep_operator.reconcile.tokens import TokenReader
from keep_operator.resources.kinds import SECRETS, Resource
from keep_operator.store import tokens
from unit.builders import settled_tenant

pytestmark = pytest.mark.unit

NAME = "monitoring/am/token"
VALUE = "canary-of-a-token-0123456789"


class Cluster:
    """Secrets by place, each with its version; counts what is read."""

    def __init__(self) -> None:
        self.secrets: dict[tuple[str, str], dict[str, Any]] = {}
        self.reads = 0
        self.away = False

    def have(self, version: int, namespace: str = "monitoring", name: str = "am", **data: str) -> None:
        """The Secret is like that now."""
        told = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
        self.secrets[namespace, name] = {"metadata": {"resourceVersion": str(version)}, "data": told}

    def version(self, namespace: str, name: str) -> str | None:
        found = self.secrets.get((namespace, name))
        return None if found is None else str(found["metadata"]["resourceVersion"])

    async def get(self, resource: Resource, namespace: str, name: str) -> dict[str, Any] | None:
        assert resource == SECRETS
        self.reads += 1
        if self.away:
            raise Unavailable("ApiServerUnavailable", "no answer")
        return self.secrets.get((namespace, name))


def reader(cluster: Cluster, *namespaces: str) -> TokenReader:
    return TokenReader(cast(Any, cluster), cast(Any, cluster), namespaces)


def naming(*refs: tuple[str, str, str], **more: Any) -> Any:
    """A Tenant that names these."""
    spec = {
        "ingestTokens": [
            {"secretRef": {"namespace": namespace, "name": name, "key": key}} for namespace, name, key in refs
        ]
    }
    return settled_tenant(spec=spec, **more)


ONE = naming(("monitoring", "am", "token"))


async def test_a_token_is_hashed_once() -> None:
    """Looks at a Secret that has not changed read nothing; another one reads it anew, and keeps what still fits."""
    cluster = Cluster()
    cluster.have(1, token=VALUE + "\n")
    read = reader(cluster)
    found = await read.resolve(ONE, ())
    (token,) = found.accepted
    assert token.name == NAME
    assert tokens.fits(token, VALUE)
    for _ in range(3):
        assert await read.resolve(ONE, (token,)) == Tokens(accepted=(token,))
    assert cluster.reads == 1
    cluster.have(2, token=VALUE)
    assert await read.resolve(ONE, (token,)) == Tokens(accepted=(token,))
    assert await reader(cluster).resolve(ONE, (token,)) == Tokens(accepted=(token,))  # the operator restarted
    assert cluster.reads == 3


async def test_an_edited_secret_is_another_token() -> None:
    """The old one is not accepted any more."""
    cluster = Cluster()
    cluster.have(1, token=VALUE)
    read = reader(cluster)
    (before,) = (await read.resolve(ONE, ())).accepted
    cluster.have(2, token="another-token-0123456789")
    (after,) = (await read.resolve(ONE, (before,))).accepted
    assert not tokens.fits(after, VALUE)


async def test_a_row_that_others_changed_is_read_again() -> None:
    """What stands in the database is what counts, not what was remembered."""
    cluster = Cluster()
    cluster.have(1, token=VALUE)
    read = reader(cluster)
    await read.resolve(ONE, ())
    foreign = Token(NAME, b"salt", b"digest")
    (mended,) = (await read.resolve(ONE, (foreign,))).accepted
    assert tokens.fits(mended, VALUE)


async def test_whatever_is_wrong_with_one_hinders_no_other() -> None:
    """Each token has its own fate."""
    cluster = Cluster()
    cluster.have(1, token=VALUE, short="short", other="with a space in between")
    cluster.secrets["monitoring", "odd"] = {"metadata": {"resourceVersion": "1"}, "data": {"token": "%%%"}}
    obj = naming(
        ("monitoring", "am", "token"),
        ("monitoring", "am", "nothing"),
        ("monitoring", "am", "short"),
        ("monitoring", "am", "other"),
        ("monitoring", "odd", "token"),
        ("monitoring", "gone", "token"),
        ("elsewhere", "am", "token"),
    )
    found = await reader(cluster, "monitoring").resolve(obj, ())
    assert [each.name for each in found.accepted] == [NAME]
    assert found.without_key == ("monitoring/am/nothing",)
    assert found.unusable == ("monitoring/am/short", "monitoring/am/other", "monitoring/odd/token")
    assert found.without_secret == ("monitoring/gone/token",)
    assert found.out_of_reach == ("elsewhere/am/token",)


async def test_what_cannot_be_read_stays_as_it_was(caplog: pytest.LogCaptureFixture) -> None:
    """An API server that does not answer, or a right that is missing, revokes nothing."""
    cluster = Cluster()
    cluster.have(1, token=VALUE)
    cluster.away = True
    stored = tokens.hashed(NAME, VALUE)
    assert await reader(cluster).resolve(ONE, (stored,)) == Tokens(accepted=(stored,), unread=(NAME,))
    assert await reader(cluster).resolve(ONE, ()) == Tokens(unread=(NAME,))
    assert "canary" not in caplog.text


async def test_a_secret_that_goes_takes_its_token_along() -> None:
    """Between the watch and the read, too."""
    cluster = Cluster()
    cluster.have(1, token=VALUE)
    stored = tokens.hashed(NAME, VALUE)

    async def gone(*_: object) -> None:
        return None

    cluster.get = gone  # type: ignore[assignment,method-assign]
    assert await reader(cluster).resolve(ONE, (stored,)) == Tokens(without_secret=(NAME,))


async def test_a_tenant_that_goes_names_none() -> None:
    """Its tokens end before its record does."""
    cluster = Cluster()
    cluster.have(1, token=VALUE)
    leaving = naming(("monitoring", "am", "token"), deleting=True)
    assert await reader(cluster).resolve(leaving, (tokens.hashed(NAME, VALUE),)) == Tokens()
    assert cluster.reads == 0
