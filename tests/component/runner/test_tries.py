"""What passes by itself is tried again, if that can do no harm and there is time."""

import pytest

from component.runner import far_side
from component.runner.conftest import Make
from component.runner.far_side import FarSide, answer
from keep_operator.runner.actions import ActionFailed, chat, perform, registry

pytestmark = pytest.mark.component


@pytest.fixture(autouse=True)
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries without a wait."""
    monkeypatch.setattr(registry, "WAITS_S", (0.0, 0.0))


async def test_the_third_succeeds(call: Make, there: FarSide) -> None:
    """A server that is busy twice costs a step two more tries, of which the log of the run tells."""
    there.answers(answer("busy", 503), answer("busy", 502))
    done = await perform(call("http", kind="step", url=there.url))
    assert done.result["status_code"] == 200
    assert done.message.endswith("Tried 3 times")
    assert len(there.sent) == 3


async def test_all_three_fail(call: Make, there: FarSide) -> None:
    """After three tries the step has failed, and says how often it was tried."""
    there.otherwise = answer("busy", 503)
    with pytest.raises(ActionFailed, match=r"answered 503 .*; tried 3 times") as failed:
        await perform(call("http", kind="step", url=there.url))
    assert failed.value.message == str(failed.value)
    assert len(there.sent) == 3


@pytest.mark.parametrize(("key", "tries"), [(False, 1), (True, 3)])
async def test_a_message_that_may_have_arrived(key: bool, tries: int, call: Make, there: FarSide) -> None:
    """What has an effect is not sent again when it may have arrived, unless the far side knows it by its key."""
    there.otherwise = answer("busy", 503)
    with pytest.raises(ActionFailed):
        await perform(call("http", url=there.url, method="POST", idempotency_key=key))
    assert len(there.sent) == tries
    assert {each.headers.get("Idempotency-Key") for each in there.sent} == {"run-1/2/-1" if key else None}


async def test_a_message_that_did_not_arrive(call: Make, there: FarSide, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is told to slow down was not heard, so a message is sent again; likewise where nobody was there."""
    monkeypatch.setattr(chat, "SLACK", there.url)
    there.answers(answer("slow down", 429, {"Retry-After": "0"}), answer({"ok": False, "error": "ratelimited"}))
    await perform(call("slack", {"access_token": "xoxb-1"}, message="x", channel="C1"))
    assert len(there.sent) == 3
    async with far_side.serve() as gone:
        port = gone.port
    with pytest.raises(ActionFailed, match="tried 3 times"):
        await perform(call("teams", {"webhook_url": f"http://127.0.0.1:{port}/"}, message="x"))


async def test_what_does_not_pass(call: Make, there: FarSide) -> None:
    """A refusal is not asked for twice."""
    there.otherwise = answer("no", 404)
    with pytest.raises(ActionFailed) as failed:
        await perform(call("http", kind="step", url=there.url))
    assert "tried" not in str(failed.value)
    assert len(there.sent) == 1


async def test_no_time_to_wait(call: Make, there: FarSide) -> None:
    """A server that wants more patience than the step has time for is not waited for."""
    there.otherwise = answer("later", 503, {"Retry-After": "3600"})
    with pytest.raises(ActionFailed) as failed:
        await perform(call("http", kind="step", url=there.url))
    assert failed.value.retry_after_s == 3600
    assert len(there.sent) == 1


async def test_time_is_for_all_tries(call: Make) -> None:
    """Three tries of a server that says nothing do not take three times as long."""
    import asyncio

    came = 0

    async def say_nothing(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        nonlocal came
        came += 1
        await reader.read(-1)

    async with far_side.raw(say_nothing) as port:
        with pytest.raises(ActionFailed, match=r"within 0\.3 s"):
            await perform(call("http", kind="step", url=f"http://127.0.0.1:{port}/", timeout_s=0.3))
    assert came == 1
