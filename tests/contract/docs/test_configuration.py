"""`docs/configuration.md` has every variable that is read, every command, and the rights as they are."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import click
import pytest
import yaml

from contract.docs import pages
from keep_operator.__main__ import cli
from keep_operator.cluster import access
from keep_operator.settings import PREFIX, SECRETS, Settings

pytestmark = pytest.mark.contract

PAGE = pages.read(pages.ROOT / "docs" / "configuration.md")
# How the code reads variables: by `env.get("X")` and its likes, by click's `envvar`, by a list of what is passed on.
READ = re.compile(r'(?:env|environ)(?:\.get\(|\[)"([A-Z_]+)"|envvar="([A-Z_]+)"|for key in \(((?:"[A-Z_]+",? ?)+)\)')


def _read() -> set[str]:
    """Every variable that the code reads or names."""
    found = {PREFIX + name.upper() for name in Settings.model_fields} | {f"{PREFIX}{name}_FILE" for name in SECRETS}
    for path in pages.SOURCE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        found |= set(re.findall(rf"{PREFIX}[A-Z][A-Z_]+[A-Z]", text))
        for one, other, several in READ.findall(text):
            found |= {one, other} | set(re.findall(r'"([A-Z_]+)"', several))
    return found - {""}


def _told() -> set[str]:
    return pages.documented(PAGE.about("Environment"))


def test_every_variable_is_documented() -> None:
    """What the program reads from its environment can be looked up."""
    assert _read() - _told() == set()


def test_no_variable_is_made_up() -> None:
    """Nobody sets a variable that nothing reads."""
    tests = {"CI", "KEEP_OPERATOR_SOAK"}  # read by the tests alone
    assert _told() - _read() - tests == set()


def test_defaults_are_the_real_ones() -> None:
    """A default in the page is what holds when the variable is not set."""
    rows = {name: row for row in PAGE.about("The operator") for name in row.names[:1]}
    for name, field in Settings.model_fields.items():
        default: Any = field.default
        told = rows[PREFIX + name.upper()].cells[1]
        match default:
            case timedelta():
                assert told == f"`{default.total_seconds() / 60:g}m`", name
            case () | "":
                assert told in ("empty", "generated"), name
            case float():
                assert told == f"`{default:g}`", name
            case tuple():
                assert told == f"`{','.join(default)}`", name
            case str() | int():
                assert told == f"`{default}`", name
            case _:
                assert told == "–", name


def _commands(command: click.Command, name: str) -> Iterator[tuple[str, set[str]]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            assert found is not None
            yield from _commands(found, f"{name} {below}")
    else:
        options = [param for param in command.params if isinstance(param, click.Option)]
        yield name, {option for param in options for option in param.opts if option not in ("--help", "-h")}


def test_every_command_and_option_is_documented() -> None:
    """What `--help` shows stands in the page, and the other way round."""
    told = {row.names[0]: set(pages.spans(row.cells[1])) for row in PAGE.about("Commands")}
    assert told == dict(_commands(cli, "keep-operator"))


def _roles() -> list[pages.Block]:
    return [block for block in PAGE.blocks if "ClusterRoleBinding" in block.text]


def test_the_rights_of_the_console_are_those_that_it_uses() -> None:
    """The console's role to be copied from the page grants what it asks for, and nothing that writes."""
    _, block = _roles()
    expected = [
        access.console_role(),
        access.console_binding(access.ServiceAccount("keep-operator", "keep-operator-console")),
    ]
    assert list(yaml.safe_load_all(block.text)) == expected, yaml.safe_dump_all(expected, sort_keys=False)
    rows = [(row.names[0], row.cells[1], row.cells[2]) for row in PAGE.about("Rights of the console")]
    assert rows == [(rule.target, ", ".join(rule.verbs), rule.why) for rule in access.CONSOLE_RULES]


def test_the_rights_are_those_that_the_code_uses() -> None:
    """The role to be copied from the page is the one that the operator needs, no more and no less."""
    block, _ = _roles()
    account = access.ServiceAccount("keep-operator", "keep-operator")
    expected = [access.cluster_role(), access.binding(account), *access.own_roles(account, account.namespace)]
    assert list(yaml.safe_load_all(block.text)) == expected, yaml.safe_dump_all(expected, sort_keys=False)
    rows = [(row.names[0], row.cells[1], row.cells[2].replace("`", "")) for row in PAGE.about("Rights")]
    assert rows == [(rule.target, ", ".join(rule.verbs), rule.why.replace("`", "")) for rule in access.RULES]
