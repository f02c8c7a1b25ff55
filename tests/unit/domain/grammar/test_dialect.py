"""One YAML dialect: what is read, what is refused, and that nothing gets lost on the way."""

import json
import math
import re
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from keep_operator.domain.grammar import dialect, scalars, values
from keep_operator.domain.grammar.faults import Reason
from unit.domain.grammar import corpus

pytestmark = pytest.mark.unit

NUMBERS = st.integers(-scalars.MAX_NUMBER, scalars.MAX_NUMBER) | st.floats(
    -scalars.MAX_NUMBER, scalars.MAX_NUMBER, allow_nan=False
).filter(lambda number: number != int(number))
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=40)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda below: st.lists(below, max_size=4) | st.dictionaries(TEXTS, below, max_size=4),
    max_leaves=15,
)
# What numbers, dates, booleans and merges are written with.
HARD_ONES = """
    yes Yes NO on OFF y N true False null ~ 0o17 0x1f 0b11 1_000 1:30 12:30:45 2024-01-01 .inf -.INF .NaN 1e3 1.5e+3 << =
"""
SCALARS = st.text("0123456789+-._:eExXobTZ afntyrusNY~=<", min_size=1, max_size=8) | st.sampled_from(HARD_ONES.split())


def refused(text: str) -> list[str]:
    """The faults of a text, as a person reads them."""
    with pytest.raises(dialect.Malformed) as raised:
        dialect.load(text)
    return [str(fault) for fault in raised.value.faults]


@pytest.mark.parametrize("path", corpus.ALL, ids=lambda path: path.name)
def test_real_files_are_read_as_keep_reads_them(path: Any) -> None:
    """Nobody has to change a workflow file that is clear."""
    text = corpus.text(path)
    assert dialect.load(text).value == yaml.safe_load(f"{text}\n")


def test_a_file_without_a_line_break_at_its_end_is_read_as_kubectl_reads_it() -> None:
    """An editor that leaves the last line break out makes no other workflow."""
    assert dialect.load("a: |\n  x").value == dialect.load("a: |\n  x\n").value == {"a": "x\n"}


@given(JSON)
def test_what_is_written_is_read_back(value: object) -> None:
    """An exported file means what the object in the cluster means, whatever texts are in it."""
    if value is not None:
        read = dialect.load(dialect.dump(value)).value
        assert json.dumps(read) == json.dumps(value)


@given(JSON)
def test_json_is_yaml(value: object) -> None:
    """A definition that a program wrote as JSON is read like any other file.

    But for characters that JSON escapes as a surrogate pair, which YAML does not have, and for exponents.
    """
    text = json.dumps(value)
    if value is not None and not re.search(r"\d[eE]|\\ud", text):
        assert dialect.load(text).value == value


@given(SCALARS)
def test_an_unquoted_word_means_the_same_for_every_reader_or_is_refused(text: str) -> None:
    """kubectl, Keep and tools that read YAML 1.2 agree on what a file says."""
    try:
        value = scalars.plain(text)
    except ValueError:
        return
    assert _plain_numbers(_read_1_1(text)) == value
    assert type(_plain_numbers(_read_1_1(text))) is type(value)
    assert _plain_numbers(_read_1_2(text)) == value


def _plain_numbers(value: object) -> object:
    return int(value) if isinstance(value, float) and math.isfinite(value) and value == int(value) else value


def _read_1_1(text: str) -> object:
    """As Keep's reader takes an unquoted scalar, plus the one-letter booleans that kubectl's takes."""
    loader = yaml.SafeLoader("")
    tag = loader.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    if text in ("y", "Y", "n", "N"):
        return text in ("y", "Y")
    return loader.construct_object(yaml.ScalarNode(tag, text))


def _read_1_2(text: str) -> object:
    """The core schema of YAML 1.2, chapter 10.3.2."""
    if re.fullmatch(r"null|Null|NULL|~|", text):
        return None
    if re.fullmatch(r"true|True|TRUE|false|False|FALSE", text):
        return text.lower() == "true"
    if re.fullmatch(r"[-+]?[0-9]+", text):
        return int(text)
    if re.fullmatch(r"0o[0-7]+", text):
        return int(text, 8)
    if re.fullmatch(r"0x[0-9a-fA-F]+", text):
        return int(text, 16)
    if re.fullmatch(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", text):
        return float(text)
    return text


@pytest.mark.parametrize(
    ("scalar", "told"),
    [
        ("yes", "boolean in YAML 1.1"),
        ("Off", "boolean in YAML 1.1"),
        ("y", "boolean in YAML 1.1"),
        ("010", "octal in YAML 1.1"),
        ("0o10", "a number for some readers"),
        ("0b11", "a number for some readers"),
        ("0X1F", "a number for some readers"),
        ("-_3", "a number for some readers"),
        ("1_000", "a number for some readers"),
        ("1e3", "a number for some readers"),
        ("-.5", "a number for some readers"),
        ("1:30", "counts in sixties"),
        ("2024-01-01", "a date in YAML 1.1"),
        ("2024-01-01 10:00:00", "a date in YAML 1.1"),
        (".nan", "JSON does not have"),
        ("-.Inf", "JSON does not have"),
        ("9007199254740993", "above 2^53"),
        ("1.0e+400", "above 2^53"),
        ("=", "meaning of its own"),
    ],
)
def test_ambiguous_scalars_are_refused(scalar: str, told: str) -> None:
    """A value that tools read differently is refused with the line and the way out, and is fine in quotes."""
    (fault,) = refused(f"steps:\n- value: {scalar}")
    assert fault.startswith("line 2: steps[0].value: ")
    assert told in fault
    assert dialect.load(f"a: '{scalar}'").value == {"a": scalar}


def test_numbers_are_as_the_api_server_stores_them() -> None:
    """`1.0` in a file and `1` in the cluster are one workflow."""
    read = dialect.load("[1, 1.0, -0.0, 0x10, +3, .5, 1.5e+3, 2024]").value
    assert json.dumps(read) == "[1, 1, 0, 16, 3, 0.5, 1500, 2024]"


def test_all_faults_are_told_at_once() -> None:
    """Who mends a file does not have to run the check again after each fault."""
    assert refused("a: yes\non: 1\na: 2\n1: x\nb: !!set {c}\n") == [
        'line 1: a: "yes" is a boolean in YAML 1.1 and text in 1.2; write true or false, or put it in quotes',
        'line 2: "on" is a boolean in YAML 1.1 and text in 1.2; write true or false, or put it in quotes',
        "line 3: a: stands there twice",
        'line 4: has the key "1", which is no text; put it in quotes',
        'line 5: b: has the tag "tag:yaml.org,2002:set"; tags are not supported',
    ]


def test_of_thousands_of_faults_the_first_hundred_are_told() -> None:
    """A file that is wrong throughout is not read to its end for nothing."""
    assert len(refused("[" + "yes, " * 50_000 + "]")) == 100


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "has no YAML document"),
        ("# nothing\n", "has no YAML document"),
        ("a: 1\n---\nb: 2", "holds 2 YAML documents"),
        ("a: [1", "is not YAML"),
        ("a:\n\tb: 1", "is not YAML"),
        ("- *x", "is not YAML|not complete before it"),
        ("&x [*x]", "not complete before it"),
        ("? [a]\n: 1", "has a key that is no text"),
        ("&a [1]: 2\n*a : 3", "has a key that is no text"),
        ("a: \x07", "a character that YAML does not allow"),
        ("a: \ud800", "broken Unicode"),
        ('a: "\\ud800"', "is not YAML"),
        ("!!python/object/apply:os.system [x]", "tags are not supported"),
        ('! "true"', "tags are not supported"),
        ("<<: {a: 1}", "meaning of its own"),
    ],
)
def test_what_is_no_workflow_file_is_refused(text: str, told: str) -> None:
    """A broken file says what is wrong with it, and runs nothing."""
    assert re.search(told, "; ".join(refused(text)))


def test_aliases_are_what_they_stand_for() -> None:
    """Files that repeat a part by its anchor are read; each place is its own."""
    read = dialect.load("a: &part {x: [1, 2]}\nb: *part\nc: [*part, &text hi, *text]").value
    assert read == {"a": {"x": [1, 2]}, "b": {"x": [1, 2]}, "c": [{"x": [1, 2]}, "hi", "hi"]}


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "{a: " * 100_000,
        "- " * 100_000 + "x",
        "".join(f"a{n}: &a{n} {{b: *a{n - 1}}}\n" if n else "a0: &a0 {}\n" for n in range(200)),
        "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" if n else "a0: &a0 [x]\n" for n in range(30)),
        "x" * (dialect.MAX_TEXT_BYTES + 1),
    ],
    ids=["lists", "objects", "blocks", "aliases of aliases", "alias bomb", "size"],
)
def test_bombs_do_not_explode(text: str) -> None:
    """A file that is made to eat memory or stack is refused while it is read."""
    with pytest.raises(dialect.Malformed) as raised:
        dialect.load(text)
    assert raised.value.faults[-1].reason is Reason.TOO_LARGE


def test_lines_lead_to_the_place() -> None:
    """A fault in a part that is missing points to what lacks it."""
    document = dialect.load("# first\nsteps:\n- name: a\n  provider:\n    type: x\n- {name: b}\n")
    assert document.line("steps[0].provider.type") == 5
    assert document.line("steps[0].provider.with.message") == 4
    assert document.line("steps[1].provider") == 6
    assert document.line("actions") == 2


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"a": math.nan}, "a: is not a number"),
        ({"a": math.inf}, "a: is a number above 2^53"),
        ({"a": 2**53}, "a: is a number above 2^53"),
        ({"a": [10**400]}, "a[0]: is a number above 2^53"),
        ({"a": "x\x00"}, "a: holds a NUL"),
        ({"a": "\ud800"}, "a: holds half a surrogate pair"),
        ({1: 2}, "has a key that is no text"),
        ({"a": {1, 2}}, "a: is a set, which JSON does not have"),
    ],
)
def test_json_has_its_traps_too(value: object, told: str) -> None:
    """What comes from the API server is looked at as well: not every client is kubectl."""
    (fault,) = [f"{path}: {message}" if path else message for path, message, reason in values.check(value) if reason]
    assert fault.startswith(told)


def test_files_and_objects_may_be_nested_alike() -> None:
    """What a file may hold an object may hold, to the last level: both hold 50."""
    for levels, fine in ((values.MAX_DEPTH, True), (values.MAX_DEPTH + 1, False)):
        text = "[" * (levels - 1) + "1" + "]" * (levels - 1)
        assert (list(values.check(json.loads(text))) == []) is fine
        if fine:
            assert dialect.load(text).value == json.loads(text)
        else:
            assert "more than 50 levels" in refused(text)[0]


def test_deep_and_wide_json_ends() -> None:
    """An object that is nested or filled without end costs no more than reading its beginning."""
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert [message for _, message, _ in values.check(deep)] == ["is nested more than 50 levels deep"]
    assert [message for _, message, _ in values.check([0] * 200_000)] == ["has more than 100,000 values"]


def test_of_thousands_of_warnings_no_fault_is_hidden() -> None:
    """What is refused is told however much is doubtful before it."""
    told = list(values.check({"a": dict.fromkeys(map(str, range(1_000))), "b": [math.nan] * 1_000}))
    assert [sum(reason is None for *_, reason in told), sum(reason is not None for *_, reason in told)] == [100, 100]


def test_a_place_too_deep_to_be_noted_has_the_line_of_what_holds_it() -> None:
    """Long paths cost no memory, and lead near enough."""
    text = "".join(f"{'  ' * depth}{'k' * 60}:\n" for depth in range(8)) + "  " * 8 + "end: [1,\n 2]\n"
    document = dialect.load(text)
    path = ".".join(["k" * 60] * 8)
    assert document.line(f"{path}.end[1]") == 4


def test_what_hides_in_a_text_is_warned_about() -> None:
    """Characters that make a reviewer see something else than what runs are told, and do not forbid the text."""
    found = list(values.check({"a": "x\u202ey", "b": None, "c\u200b": "\u00e4 \u2013 \U0001f6a8"}))
    assert sorted((path, reason) for path, _, reason in found) == [("['c\\u200b']", None), ("a", None), ("b", None)]
