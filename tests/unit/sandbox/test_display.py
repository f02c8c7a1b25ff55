import io
from datetime import timedelta

import pytest

from keep_operator.sandbox import display

pytestmark = pytest.mark.unit


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Closed(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(5, "Input/output error")


def test_a_log_shows_each_step_its_usual_and_its_true_time() -> None:
    """A CI log tells what was done and how long it should have taken."""
    stream = io.StringIO()
    with display.opened(stream) as shown, shown.step("compile", timedelta(seconds=126)) as step:
        step.tick("1 of 2 packages")
    lines = [line.partition("] ")[2] for line in stream.getvalue().splitlines()]
    assert lines[0] == "compile ... usually 2 min 6 s"
    assert lines[1].startswith("compile: done in 0.")
    assert len(lines) == 2, "a short step needs no sign of life"


def test_a_long_step_gives_signs_of_life_in_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some CI systems kill a job that says nothing for minutes."""
    monkeypatch.setattr(display, "HEARTBEAT_S", 0)
    stream = io.StringIO()
    with display.opened(stream) as shown, shown.step("compile") as step:
        step.tick("812 of about 1,400 packages")
    assert "compile: 0 s so far 812 of about 1,400 packages" in stream.getvalue()


def test_a_step_that_fails_is_not_called_done() -> None:
    """The last line before the error is not a success."""
    stream = io.StringIO()
    with pytest.raises(ValueError, match="broken"), display.opened(stream) as shown, shown.step("compile"):
        raise ValueError("broken")
    assert "done" not in stream.getvalue()


def test_a_terminal_shows_elapsed_against_usual() -> None:
    """Somebody who waits sees for what and how long it usually takes, and a line remains."""
    stream = Terminal()
    with display.opened(stream) as shown:
        shown.say("a [remark]")
        with shown.step("compile", timedelta(seconds=126)) as step:
            step.tick("812 of about 1,400 packages")
        with shown.step("wait") as step:
            step.tick()
    text = stream.getvalue()
    assert "a [remark]" in text
    assert "usually 2 min 6 s" in text
    assert "✓" in text


def test_a_closed_terminal_does_not_stop_the_work() -> None:
    """When the window is closed in the middle, the servers must still be stopped in order."""
    with display.opened(Closed()) as shown:
        shown.say("hello")
        with shown.step("stop the sandbox") as step:
            step.tick()


@pytest.mark.parametrize(
    ("usual", "text"),
    [(None, ""), (timedelta(seconds=11), "usually 11 s"), (timedelta(seconds=150), "usually 2 min 30 s")],
)
def test_usual_times_read_well(usual: timedelta | None, text: str) -> None:
    """Minutes as minutes."""
    assert display.usually(usual) == text
