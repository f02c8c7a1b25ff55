"""What the API server says about others is believed only where it says it clearly."""

from typing import Any

import pytest

from keep_operator.cluster import reviews
from keep_operator.cluster.reviews import Right, User
from keep_operator.resources.kinds import TENANTS, WORKFLOWS

pytestmark = pytest.mark.unit


def saying(status: object) -> Any:
    """A cluster whose reviews have this status."""

    class Saying:
        async def create(self, resource: object, namespace: object, body: dict[str, Any], **_: object) -> Any:
            return {**body, "status": status}

    return Saying()


@pytest.mark.parametrize(
    "status",
    [
        None,
        {},
        [],
        "authenticated",
        {"authenticated": False, "user": {"username": "ann"}},
        {"authenticated": "true", "user": {"username": "ann"}},
        {"user": {"username": "ann"}},
        {"authenticated": True},
        {"authenticated": True, "user": {}},
        {"authenticated": True, "user": {"username": ""}},
        {"authenticated": True, "user": "ann"},
    ],
)
async def test_a_token_that_is_not_clearly_somebodys_is_nobodys(status: object) -> None:
    """Half an answer lets nobody in."""
    assert await reviews.user_of(saying(status), "token") is None


async def test_a_user_is_taken_over_whole() -> None:
    """Authorizers may decide by any of it."""
    told = {"username": "ann", "uid": "7", "groups": ["a", "b"], "extra": {"scopes": ["x"]}}
    found = await reviews.user_of(saying({"authenticated": True, "user": told}), "token")
    assert found == User("ann", "7", ("a", "b"), {"scopes": ["x"]})


@pytest.mark.parametrize("status", [None, {}, [], {"allowed": False}, {"allowed": "true"}, {"denied": False}])
async def test_what_is_not_clearly_allowed_is_not(status: object) -> None:
    """An authorizer that fails, or says nothing, allows nothing."""
    assert not await reviews.allowed(saying(status), User("ann"), Right("get", TENANTS))


def test_a_right_is_told_as_people_know_it() -> None:
    """The message of a refusal can be handed to whoever writes roles."""
    assert (
        str(Right("get", WORKFLOWS, "monitoring", "a")) == 'get workflows.keep-operator.dev "a" in namespace monitoring'
    )
    assert str(Right("get", TENANTS)) == "get tenants.keep-operator.dev"
