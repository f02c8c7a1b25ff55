"""Makes the tables in `docs/actions.md` from `domain/abilities`: `make generate`; a test holds the page to it."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from keep_operator.domain import abilities, catalogue
from keep_operator.domain.abilities import ABILITIES, ANY, Ability

BEGIN: Final = "<!-- Made by `make generate` from domain/abilities.py; change that. -->"
END: Final = "<!-- Up to here. -->"


def page(text: str) -> str:
    """The page with its tables made anew. Raises ValueError where it does not say between which lines they stand."""
    before, begun, rest = text.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not begun or not ended:
        raise ValueError(f"the page must have {BEGIN} and {END}")
    return "".join((before, BEGIN, "\n\n", *(f"{line}\n" for line in tables()), "\n", END, after))


def tables() -> Iterator[str]:
    """What each type does, then what each takes."""
    yield "| Type | A step | An action | A repetition | Key |"
    yield "|---|---|---|---|---|"
    for name, ability in ABILITIES.items():
        library = ", through Apprise" if ability.through_apprise else ""
        depends = ability.depends or "–"
        step, action = (str(each) if each else "–" for each in (ability.query, ability.notify))
        yield f"| `{name}`{library} | {step} | {action} | {depends} | {ability.key or '–'} |"
    yield ""
    yield "| Type | Parameters of a step | Parameters of an action | Without effect, other than in Keep |"
    yield "|---|---|---|---|"
    for name, ability in ABILITIES.items():
        step, action = _listed(ability.query_parameters), _listed(ability.notify_parameters)
        yield f"| `{name}` | {step} | {action} | {_listed(_missing(name, ability))} |"
    yield ""
    others = [name for name in catalogue.names() if name not in ABILITIES and name not in abilities.NEVER]
    yield f"Not supported: {', '.join(f'`{name}`' for name in others)}."
    yield ""
    yield (
        f"Never: {', '.join(f'`{name}`' for name in sorted(abilities.NEVER))}. They run what a definition says where the "
        "runner is, with whatever the runner may do."
    )


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join("any" if name == ANY else f"`{name}`" for name in names) or "–"


def _missing(name: str, ability: Ability) -> tuple[str, ...]:
    """Parameters that Keep's provider takes, and we do not."""
    kind = catalogue.find(name)
    if kind is None:
        return ()
    found = []
    for able, taken, theirs in (
        (ability.query, ability.query_parameters, kind.query_params),
        (ability.notify, ability.notify_parameters, kind.notify_params),
    ):
        if able is not None and ANY not in taken:
            found += [each for each in theirs if each not in (*taken, "kwargs")]
    return tuple(dict.fromkeys(found))


def main() -> None:
    """Write the page whose path is the argument."""
    path = Path(sys.argv[1])
    path.write_text(page(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
