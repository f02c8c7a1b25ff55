"""`docs/cli.md` is what the commands say of themselves, and what it tells people to type is taken."""

import re
import shlex
from pathlib import Path

import click
import pytest

from contract.docs import pages
from keep_operator.plugin import ends, reference
from keep_operator.plugin.main import keep

pytestmark = pytest.mark.contract

PATH = pages.ROOT / "docs" / "cli.md"


def test_the_page_is_current() -> None:
    """Whoever reads the page reads of the program that they have."""
    assert PATH.read_text(encoding="utf-8") == reference.page(), "run `make generate`"


@pytest.mark.parametrize("path", pages.all_pages(), ids=lambda path: path.name)
def test_commands_in_the_documents_are_taken(path: Path) -> None:
    """No page tells to type a command or an option of `kubectl keep` that is not there."""
    context = click.Context(keep)
    for page_line in re.findall(r"(?m)^(?:\$ )?kubectl keep ([^\n]*)", path.read_text(encoding="utf-8")):
        name, *words = shlex.split(page_line, comments=True)
        command = keep.get_command(context, name)
        assert command is not None, name
        known = {each for param in (*command.params, *keep.params) for each in (*param.opts, *param.secondary_opts)}
        assert {word for word in words if word.startswith("-") and word != "-"} <= known | {"-h", "--help"}, page_line


def test_every_end_has_one_exit_code() -> None:
    """What a script sees is told in the page, and no two kinds of ends share a code by accident."""
    kinds = {kind.exit_code for kind in ends.Failure.__subclasses__()}
    assert kinds <= set(ends.CODES)
    assert len(kinds) == len(ends.Failure.__subclasses__())
