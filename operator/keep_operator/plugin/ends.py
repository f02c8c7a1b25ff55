"""How a command ends other than well: each way has its exit code, so that scripts can tell them apart."""

from typing import Final

import click

from keep_operator.plugin import output

# What the documentation says of each, in this order; click itself ends with 2.
CODES: Final = {
    0: "Done; of `diff`: nothing differs; of `plan --exit-code`: nothing would change; of `release --watch`: it is over, and well.",
    1: "The answer is no: a decision was not carried out, a run did not succeed, definitions differ, files have faults, a check "
    "failed, a release was taken back, denied or aborted.",
    2: "The command line, or a file that it names, cannot be used.",
    3: "The cluster, or the read API, could not be reached or asked.",
    4: "There is no such workflow or version.",
    5: "The decision was made, or the run asked for, or a release watched, and it has not come to an end within the time-out.",
    6: "The API server refused: a right is missing, or an admission rule says no.",
    10: "Of `plan --exit-code`: something would change, and no gate holds it.",
    11: "Of `plan --exit-code`: something would change, and a gate holds it.",
    130: "Interrupted.",
}


class Failure(click.ClickException):
    """A command that cannot do its work. The message names the object, the fact and the remedy."""

    def show(self, file: object = None) -> None:
        """Print the one line to stderr."""
        del file
        output.echo(f"{click.style('Error:', fg='red')} {self.message}", err=True)


class No(Failure):
    """The question was answered, and the answer is no."""

    exit_code = 1


class Unusable(Failure):
    """A file that was given is not what it should be."""

    exit_code = 2


class Unreachable(Failure):
    """Whoever should answer does not, or not so that it can be used."""

    exit_code = 3


class Missing(Failure):
    """The thing that was named is not there."""

    exit_code = 4


class Unanswered(Failure):
    """It was asked for, and nothing has come of it yet."""

    exit_code = 5


class Refused(Failure):
    """The API server says no."""

    exit_code = 6


class Exists(Refused):
    """An object of that name is there already."""
