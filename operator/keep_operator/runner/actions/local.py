"""What goes nowhere: a line in the log of the run, and the provider that only says what it was told."""

from keep_operator.runner.actions import parameters
from keep_operator.runner.actions.call import Call, Outcome


async def console(call: Call) -> Outcome:
    """The message, as result and into the log of the run."""
    message = call.parameters.get("message", "")
    severity = parameters.text(call, "severity")
    said = parameters.as_text(message)
    return Outcome(message, f"{severity}: {said}" if severity else said)


async def mock_query(call: Call) -> Outcome:
    """``command_output``, whatever the command is."""
    return Outcome(call.parameters.get("command_output"))


async def mock_notify(call: Call) -> Outcome:
    """All parameters."""
    return Outcome(dict(call.parameters))
