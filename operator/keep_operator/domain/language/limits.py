"""How much a text or an expression may do before it is given up: counted, so that each machine says the same."""

from dataclasses import dataclass
from typing import Final

# Names looked up, sections entered, parts of expressions evaluated, for all texts of one call of a provider. Real
# workflows need some hundreds; so many take about a second.
OPERATIONS: Final = 200_000
# Characters that one call of a provider may be filled in with, all texts together. A step's result may have as many.
OUTPUT: Final = 4 * 1024 * 1024
# Characters of one text while it is made.
TEXT: Final = 1024 * 1024
# Constants in constants, as many passes as Keep makes.
TEMPLATES: Final = 10
# Sections in sections, parentheses in parentheses, parts of an expression below each other.
DEPTH: Final = 50
# Characters of an expression or a call, names in braces not yet filled in.
CODE: Final = 50_000
# Bits of a whole number, about 1,200 digits.
NUMBER: Final = 4_096
# Characters looked at to find where calls of functions end, in one text.
SCANNED: Final = 4 * 1024 * 1024
# Characters of a text that is read as a number, list or object.
LITERAL: Final = 100_000
# Items of a foreach: each is a call of a provider and a row.
ITEMS: Final = 1_000


class Failed(Exception):
    """A text or an expression cannot be evaluated; the message is a sentence about it."""


class LimitExceeded(Failed):
    """It would do, or make, too much."""


@dataclass(slots=True)
class Budget:
    """What is left of the operations and the output of one call of a provider."""

    operations: int = OPERATIONS
    output: int = OUTPUT

    def spend(self, operations: int = 1) -> None:
        """Counts operations. Raises LimitExceeded."""
        self.operations -= operations
        if self.operations < 0:
            raise LimitExceeded(f"needs more than {OPERATIONS:,} operations; do less in one step")

    def write(self, characters: int) -> None:
        """Counts output. Raises LimitExceeded."""
        self.output -= characters
        if self.output < 0:
            raise LimitExceeded(f"makes more than {OUTPUT:,} characters; take less of the results")


def check_text(characters: int) -> None:
    """Raises LimitExceeded for a text that would be longer than any may be."""
    if characters > TEXT:
        raise LimitExceeded(f"makes a text of more than {TEXT:,} characters; take less of the results")


def check_number(bits: float) -> None:
    """Raises LimitExceeded for a whole number that would be larger than any may be."""
    if bits > NUMBER:
        raise LimitExceeded(f"makes a number of more than {NUMBER:,} bits")
