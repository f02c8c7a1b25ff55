"""A far side on loopback, and a tenant that may reach it."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from component.runner import far_side
from component.runner.far_side import FarSide
from keep_operator.domain.abilities import Kind
from keep_operator.runner.actions import Call, Egress, registry

Make = Callable[..., Call]
LOOPBACK = Egress.of(["127.0.0.0/8", "::1/128"])


@pytest.fixture(autouse=True)
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call is tried once, where the test is not about tries."""
    monkeypatch.setattr(registry, "WAITS_S", ())


@pytest.fixture
async def there() -> AsyncIterator[FarSide]:
    async with far_side.serve() as server:
        yield server


@pytest.fixture
def call() -> Make:
    def make(
        type_name: str,
        config: dict[str, Any] | None = None,
        /,
        *,
        kind: Kind = "action",
        timeout_s: float = 10.0,
        egress: Egress = LOOPBACK,
        **parameters: Any,
    ) -> Call:
        return Call(
            kind,
            type_name,
            parameters=parameters,
            config=config or {},
            idempotency_key="run-1/2/-1",
            timeout_s=timeout_s,
            egress=egress,
        )

    return make
