"""The texts that Keep fills in before it uses them: Mustache with the names of a run, and ``keep.functions()``.

Keep counts braces and parentheses, fills in ``{{ names }}``, then calls the functions that it finds. In a step's
parameters a name that is not there ends the run; everywhere else it stands for nothing.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from keep_operator.domain.grammar import faults
from keep_operator.domain.grammar.faults import Findings

_FUNCTIONS: Final = """
    add sub mul div mod exp fdiv eq all diff len uppercase lowercase capitalize title split index strip
    remove_newlines first last utcnow utcnowtimestamp utcnowiso substract_minutes timestamp_delta to_utc
    from_timestamp to_timestamp datetime_compare json_dumps json_loads replace encode dict_to_key_value_list slice
    join dict_pop dict_pop_prefix dict_filter_by_prefix add_time_to_date get_firing_time is_first_time
    is_business_hours dictget dict_set dict_merge
"""
FUNCTIONS: Final = frozenset(_FUNCTIONS.split())
# What each run knows; aliases of conditions come on top.
_ROOTS: Final = """
    steps actions foreach event alert incident consts vars aliases secrets inputs providers
    last_workflow_results last_workflow_run_time
"""
ROOTS: Final = frozenset(_ROOTS.split())
_HELPERS: Final = frozenset({"default", "na", "upper", "lower", "strip"})
_CALL: Final = re.compile(r"(?<![\w.])keep\.([A-Za-z_]\w*)\s*\(")
_NOT_EXECUTED: Final = "raw_render_without_execution("
# What Mustache has no operators for, but Jinja and Go templates do.
_NO_NAME: Final = re.compile(r"[\s|=<>!()'\"$,]")
# Characters of what follows a root; a longer name is not looked for.
_NAME_LIMIT: Final = 500
_SIGILS: Final = "#^/!>=&{"


@dataclass(frozen=True, slots=True)
class Tag:
    """One ``{{ … }}``: ``sigil`` is its first character where it has a meaning, ``name`` the rest."""

    sigil: str
    name: str


@dataclass(frozen=True, slots=True)
class Scope:
    """The names that a text may use: those of the workflow, and how far the run has come.

    ``roots`` has the aliases of conditions on top. ``steps`` gives the name of each step and action its place in the
    run: Keep keeps the results of both in one map, which is ``steps`` and ``actions`` alike. ``open``: the provider
    fills the text in again with names of its own, so unknown roots are none of our business.
    """

    steps: Mapping[str, int] = field(default_factory=dict)
    consts: frozenset[str] = frozenset()
    inputs: frozenset[str] = frozenset()
    vars: frozenset[str] = frozenset()
    roots: frozenset[str] = ROOTS
    position: int | None = None
    foreach: bool = False
    open: bool = False


class Broken(ValueError):
    """The text is no Mustache; the message is the rest of a sentence."""


def scan(text: str) -> Iterator[Tag]:
    """The tags of a text in their order. Raises Broken for one that does not end."""
    at = 0
    while (start := text.find("{{", at)) >= 0:
        triple = text.startswith("{{{", start)
        close = "}}}" if triple else "}}"
        end = text.find(close, start + len(close))
        if end < 0:
            raise Broken(f"has a {'{' * len(close)} without {close}")
        inner = text[start + len(close) : end].strip()
        at = end + len(close)
        if triple:
            yield Tag("{", inner)
        elif inner[:1] and inner[0] in _SIGILS:
            yield Tag(inner[0], inner[1:].strip())
        else:
            yield Tag("", inner)


def examine(text: str, path: str, scope: Scope, findings: Findings, *, strict: bool) -> None:
    """What is wrong with one text; ``strict``: it is a step's parameter, where names must be there."""
    if not _balanced(text, path, findings):
        return
    if not text.lstrip().startswith(_NOT_EXECUTED):
        for name in dict.fromkeys(_CALL.findall(text)):
            if name not in FUNCTIONS:
                findings.fault(path, f"calls keep.{name[:63]}, which does not exist", meant=(name, FUNCTIONS))
    if "{{" in text:
        _examine_tags(text, path, scope, findings, strict=strict)


def examine_all(value: object, path: str, scope: Scope, findings: Findings, *, strict: bool) -> None:
    """The same for every text in ``value``, which is not nested without bounds."""
    match value:
        case str():
            examine(value, path, scope, findings, strict=strict)
        case dict():
            for key, below in value.items():
                examine_all(below, faults.join(path, key), scope, findings, strict=strict)
        case list():
            for index, below in enumerate(value):
                examine_all(below, f"{path}[{index}]", scope, findings, strict=strict)


def _balanced(text: str, path: str, findings: Findings) -> bool:
    """Keep's own test, which counts and looks no further: text that is no template has to pass it too."""
    fine = True
    for opening, closing in (("{{", "}}"), ("(", ")")):
        there, back = text.count(opening), text.count(closing)
        if there != back:
            findings.fault(path, f"has {there} {opening} and {back} {closing}; Keep refuses texts where these differ")
            fine = False
    return fine


def _examine_tags(text: str, path: str, scope: Scope, findings: Findings, *, strict: bool) -> None:
    sections: list[str] = []
    try:
        for tag in scan(text):
            match tag.sigil:
                case "!":
                    pass
                case "=":
                    findings.warn(path, "changes the delimiters of Mustache; what follows is not checked")
                    return
                case ">":
                    findings.fault(path, f"includes the partial {faults.quoted(tag.name)}; there are none")
                case "/":
                    if not sections or sections.pop() != tag.name:
                        raise Broken(f"closes the section {faults.quoted(tag.name)}, which is not the open one")
                case "#" | "^":
                    if not sections:
                        _examine_name(tag.name, path, scope, findings, strict=False)
                    sections.append(tag.name)
                case _:
                    _examine_name(tag.name, path, scope, findings, strict=strict, inside=bool(sections))
        if sections:
            raise Broken(f"does not close the section {faults.quoted(sections[-1])}")
    except Broken as fault:
        findings.fault(path, str(fault))


def _examine_name(
    name: str, path: str, scope: Scope, findings: Findings, *, strict: bool, inside: bool = False
) -> None:
    """One name; ``inside`` a section names may be those of its entries."""
    if name == "." and inside:
        return
    if not name or _NO_NAME.search(name):
        told = "is empty" if not name else "is no name"
        findings.warn(
            path,
            f"{faults.quoted('{{ ' + name + ' }}')} {told}, and Mustache has no operators or filters: it stands for "
            "nothing",
        )
        return
    root, _, rest = name.partition(".")
    root = root.partition("[")[0]
    if root == "fn":
        if rest not in _HELPERS:
            findings.warn(path, f"uses fn.{rest[:63]}, which does not exist", meant=(rest, _HELPERS))
    elif root in ROOTS:
        _examine_member(root, rest, path, scope, findings, strict=strict)
    elif not inside and not scope.open and root not in scope.roots:
        _unknown_root(root, path, scope, findings)


def _unknown_root(root: str, path: str, scope: Scope, findings: Findings) -> None:
    meant = None
    if root in FUNCTIONS or root == "keep":
        hint = "; a function is called outside of braces: keep.name(…)"
    elif root == "env":
        hint = "; the environment is there for the credentials of providers only"
    else:
        hint, meant = "", (root, scope.roots)
    findings.warn(path, f"uses {faults.quoted(root)}, which runs do not know{hint}", meant=meant)


def _examine_member(root: str, rest: str, path: str, scope: Scope, findings: Findings, *, strict: bool) -> None:
    """Whether a run has what is named below ``root``."""
    if root == "foreach" and not scope.foreach:
        findings.warn(path, "uses foreach, but this step has none")
    known: Mapping[str, Any] | frozenset[str]
    match root:
        case "steps" | "actions":
            known = scope.steps
        case "consts" | "inputs" | "vars":
            known = getattr(scope, root)
        case _:
            return
    if not rest or (known is scope.steps and re.match(r"this\b", rest)):
        return
    found = _longest(rest, known)
    if found is None:
        first = re.split(r"[.\[]", rest, maxsplit=1)[0]
        say = findings.fault if strict and root != "vars" else findings.warn
        say(path, f"uses {root}.{first[:63]}, which does not exist", meant=(first, known))
    elif isinstance(known, Mapping) and scope.position is not None and known[found] > scope.position:
        findings.warn(path, f"uses {root}.{found}, which runs later and has no results yet")


def _longest(rest: str, known: Mapping[str, Any] | frozenset[str]) -> str | None:
    """The known name with which ``rest`` begins; names may have dots themselves."""
    rest = rest[:_NAME_LIMIT]
    for end in [len(rest), *(match.start() for match in reversed(list(re.finditer(r"[.\[]", rest))))]:
        if rest[:end] in known:
            return rest[:end]
    return None
