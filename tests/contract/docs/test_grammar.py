"""The page about the grammar says what is executed, and how much of it."""

import re
from typing import Final

import pytest

from contract.docs import pages
from keep_operator.domain.language import limits
from unit.domain import keep_runs
from unit.domain.grammar import corpus

pytestmark = pytest.mark.contract

PAGE: Final = pages.ROOT / "docs" / "grammar.md"


@corpus.needs_keep
def test_the_coverage_of_keeps_examples_is_current() -> None:
    """Feature, files, executed; ``python -m unit.domain.keep_runs`` prints the table."""
    rows = [row.cells for row in pages.read(PAGE).about("What Keep's examples use")]
    assert rows == [(feature, str(files), str(ended)) for feature, files, ended in keep_runs.coverage()]


def test_every_limit_is_told() -> None:
    """Whoever runs into one finds it on the page."""
    told = " ".join(row.cells[1] for row in pages.read(PAGE).about("Limits"))
    for name in (name for name in vars(limits) if re.fullmatch("[A-Z]+", name)):
        most = getattr(limits, name)
        written = f"{most >> 20} MiB" if most % (1 << 20) == 0 else f"{most:,}"
        assert re.search(rf"(?<![\d,]){re.escape(written)}(?!,?\d)", told), name
