"""Reads the documentation as its tests need it: headings, tables, links and code blocks of a Markdown page."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[3]
SOURCE: Final = ROOT / "operator" / "keep_operator"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table: its cells, and the headings that it stands under, the nearest last."""

    cells: tuple[str, ...]
    under: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """What the first cell sets in code: the things that the row is about."""
        return spans(self.cells[0])


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of code and its language."""

    language: str
    text: str


@dataclass(frozen=True, slots=True)
class Page:
    """One page; lines of code blocks are in ``blocks`` only."""

    path: Path
    headings: tuple[str, ...]
    rows: tuple[Row, ...]
    links: tuple[str, ...]
    blocks: tuple[Block, ...]

    def about(self, heading: str) -> list[Row]:
        """The rows of all tables below a heading."""
        found = [row for row in self.rows if heading in row.under]
        assert found, f"{self.path.name} has no table under {heading!r}"
        return found

    @property
    def anchors(self) -> set[str]:
        """What a link may point to, as GitHub and GitLab make it from headings."""
        return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in self.headings}


def all_pages() -> list[Path]:
    """Every page that is written by hand."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def read(path: Path) -> Page:
    """The page at ``path``."""
    headings: list[str] = []
    under: list[tuple[int, str]] = []
    rows: list[Row] = []
    links: list[str] = []
    blocks: list[Block] = []
    fence: tuple[str, list[str]] | None = None
    in_table = False
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            if fence is None:
                fence = (line[3:].strip(), [])
            else:
                blocks.append(Block(fence[0], "\n".join(fence[1]) + "\n"))
                fence = None
            continue
        if fence is not None:
            fence[1].append(line)
            continue
        if found := re.match(r"(#+) (.*)", line):
            depth, heading = len(found[1]), found[2].replace("`", "")
            headings.append(heading)
            under = [*(each for each in under if each[0] < depth), (depth, heading)]
        links += re.findall(r"\]\(([^)\s]+)\)", line)
        if line.startswith("|"):
            if in_table and not re.fullmatch(r"[|\-: ]+", line):
                cells = tuple(cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1])
                rows.append(Row(cells, tuple(heading for _, heading in under)))
            in_table = True
        else:
            in_table = False
    assert fence is None, f"{path}: a code block does not end"
    return Page(path, tuple(headings), tuple(rows), tuple(links), tuple(blocks))


def spans(text: str) -> list[str]:
    """Everything set in code within a text."""
    return re.findall(r"`([^`]+)`", text)


def documented(rows: list[Row]) -> set[str]:
    """The names of all rows; a name that stands twice is an error."""
    names = [name for row in rows for name in row.names]
    twice = {name for name in names if names.count(name) > 1}
    assert not twice, f"documented twice: {sorted(twice)}"
    return set(names)
