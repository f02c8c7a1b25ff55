"""The provider types that Keep knows, with their fields and what they can do, and what a Provider's fields lack.

The facts are shipped as ``catalogue.json``.
"""

import difflib
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any, Final

from keep_operator.resources import shapes
from keep_operator.resources.shapes import Violation

# Of two names that share fewer than seven characters in ten, one is hardly a slip of the other.
_LIKENESS: Final = 0.7
# Less for fields, of which a type has few, and some with three letters: one wrong letter of three leaves two thirds.
_FIELD_LIKENESS: Final = 0.6
# Marked as sensitive by Keep, but no secrets: they say who or where, and Keep does not mark the same names elsewhere
# (servicenow's client_id, newrelic's account_id, jira's email). Addresses of webhooks are no such case: who knows one
# can post to it.
_NO_SECRETS: Final = frozenset(
    {
        "accountId",
        "account_id",
        "ca_certificate",
        "client_id",
        "email",
        "resource_group_name",
        "resource_name",
        "subscription_id",
        "tenant_id",
        "username",
        "zohoClientId",
    }
)
# Credentials that Keep does not mark as such, though who has the value can act with it.
_UNMARKED_SECRETS: Final = frozenset(
    {
        ("amazonsqs", "secret_access_key"),
        ("appdynamics", "appDynamicsAccessToken"),
        ("grafana_oncall", "token"),
        ("pagerduty", "routing_key"),
    }
)
# Keep's form offers these options, but Keep itself takes any text: models come and go.
_OPEN_CHOICES: Final = frozenset({("anthropic", "model")})
# Keep renders a text of this form from its own environment before it looks at it (models/provider_config.py).
_TEMPLATE: Final = re.compile(r"\{\{.*\}\}", re.DOTALL)
# The only thing that such a text can name; narrower, so that nothing secret passes in these braces.
_FROM_ENVIRONMENT: Final = re.compile(r"\{\{[{&]?\s*env\.[A-Za-z_][A-Za-z0-9_]*\s*\}?\}\}")
# What Keep's checks of addresses have in common, without their finer points: Keep has the last word there.
_ADDRESSES: Final = {
    "any_http_url": (r"https?://[^\s/?#]+.*", "must be an address such as http://host:8080"),
    "https_url": (r"(https://)?(?!\w+://)[^\s/?#]+.*", "must be an address that begins with https://"),
    "no_scheme_url": (r"([a-z][a-z0-9+.-]*://)?[^\s/?#]+.*", "must be a host, such as db.example.com"),
    "no_scheme_multihost_url": (
        r"([a-z][a-z0-9+.-]*://)?[^\s/?#]+.*",
        "must be hosts with a comma between them, such as a:9092,b:9092",
    ),
    "multihost_url": (r"[a-z][a-z0-9+.-]*://[^\s/?#]+.*", "must be an address such as mongodb://a:27017,b:27017"),
    "tld": (r"\S+", "must be a top-level domain such as .com"),
}
# Spelt as pydantic 1 reads them, which Keep uses.
_BOOLEANS: Final = frozenset({"true", "false", "t", "f", "yes", "no", "y", "n", "on", "off", "1", "0"})
_LAST_PORT: Final = 65_535


@dataclass(frozen=True, slots=True)
class Field:
    """One setting or credential of a provider type.

    ``validation`` names the check that Keep makes (``any_http_url``, ``port``, ...), ``options`` are the values that a
    choice offers, ``default`` is what Keep assumes when the field is absent (None: nothing). ``widget`` is how Keep's
    form asks for it (``switch``: a boolean, ``form``: a map of strings, ``file``: the text of a file).
    """

    name: str
    required: bool
    sensitive: bool
    validation: str | None = None
    widget: str | None = None
    options: tuple[str, ...] = ()
    default: str | int | bool | None = None


@dataclass(frozen=True, slots=True)
class Scope:
    """A right that the credentials have, and whether the provider works without it."""

    name: str
    mandatory: bool


@dataclass(frozen=True, slots=True)
class ProviderType:
    """What a provider type needs and what workflows can do with it.

    ``query_params`` and ``notify_params`` are the parameters of a step and of an action; ``kwargs`` among them means
    that others are taken too. ``coming_soon``: listed by Keep, but without an implementation.
    """

    name: str
    display_name: str
    fields: Mapping[str, Field]
    scopes: tuple[Scope, ...]
    categories: tuple[str, ...]
    can_query: bool
    query_params: tuple[str, ...]
    can_notify: bool
    notify_params: tuple[str, ...]
    pulling: bool
    webhook_setup: bool
    coming_soon: bool


def known(name: str) -> bool:
    """True when Keep has a provider of this type."""
    return name in _types()


def find(name: str) -> ProviderType | None:
    """The provider type of this name, None where there is none."""
    return _types().get(name)


def names() -> tuple[str, ...]:
    """All type names, sorted."""
    return tuple(_types())


def suggest(name: str) -> str | None:
    """The type that was probably meant by an unknown name, for a message; None when none is near.

    A type or a display name of Keep, without regard to case, spaces, dashes and underscores; else the type that is
    spelt most alike.
    """
    wanted = _plain(name)
    if wanted in _spellings():
        return _spellings()[wanted]
    near = difflib.get_close_matches(name.casefold(), _types(), n=1, cutoff=_LIKENESS)
    return near[0] if near else None


def is_credential(kind: ProviderType, field: Field) -> bool:
    """True when the field's value must not stand in a manifest; Keep's mark, corrected where it is plainly wrong."""
    return (kind.name, field.name) in _UNMARKED_SECRETS or (field.sensitive and field.name not in _NO_SECRETS)


def faults(type_name: str, config: Mapping[str, Any], secret_keys: Sequence[str]) -> tuple[Violation, ...]:
    """All that is wrong with the fields of a Provider of a known type; no message holds a value.

    ``secret_keys`` are the keys of ``spec.secrets`` in their order; what the Secrets hold is not looked at. Keep's
    catalogue decides: a field that it requires and has no default for must be in one of the two, a field that it does
    not list is refused (Keep would find the record unusable), and a credential must not stand in ``config``.
    Values are checked no more strictly than Keep does, and not at all where Keep fills in ``{{ env.NAME }}``.
    Raises KeyError for an unknown type.
    """
    kind = _types()[type_name]
    given = config.keys() | set(secret_keys)
    unknown = {name: _meant(name, kind.fields, given) for name in given if name not in kind.fields}
    # A field whose misspelling has been told needs no second message.
    repaired = {near[0] for near in unknown.values() if len(near) == 1}
    return (
        *_config_faults(kind, config, unknown),
        *(
            Violation(f"spec.secrets[{index}].key", _not_a_field(kind, unknown[name]))
            for index, name in enumerate(secret_keys)
            if name in unknown
        ),
        *(
            Violation("spec.secrets", f"needs an entry with the key {field.name}, which is required")
            if is_credential(kind, field)
            else Violation(f"spec.config.{field.name}", "is required")
            for field in kind.fields.values()
            if field.required and field.default is None and field.name not in given | repaired
        ),
    )


def source() -> str:
    """The release of Keep that the facts are from."""
    return str(_content()["source"])


def _config_faults(
    kind: ProviderType, config: Mapping[str, Any], unknown: Mapping[str, Sequence[str]]
) -> Iterator[Violation]:
    for name, value in config.items():
        path = shapes.join_key("spec.config", name)
        if name in unknown:
            yield Violation(path, _not_a_field(kind, unknown[name], in_config=True))
        elif is_credential(kind, kind.fields[name]):
            if not (isinstance(value, str) and _FROM_ENVIRONMENT.fullmatch(value)):
                yield Violation(path, "is a credential; give it in spec.secrets")
        elif (fault := _value_fault(kind, kind.fields[name], value)) is not None:
            yield Violation(path, fault)


def _not_a_field(kind: ProviderType, near: Sequence[str], *, in_config: bool = False) -> str:
    said = f'is not a field of type "{kind.name}"'
    if near:
        misplaced = in_config and is_credential(kind, kind.fields[near[0]])
        hint = f"Did you mean {' or '.join(near)}?" + (" It belongs in spec.secrets" if misplaced else "")
    else:
        hint = f"It has {', '.join(kind.fields)}" if kind.fields else "It has no fields"
    return f"{said}. {hint}"


def _meant(name: str, fields: Mapping[str, Field], given: Collection[str]) -> tuple[str, ...]:
    """The fields that were probably meant by an unknown name: one, several that are equally near, or none.

    A field that is there already under its right name was hardly meant.
    """
    for candidates in ([field for field in fields if field not in given], list(fields)):
        spelt_alike = tuple(field for field in candidates if _plain(field) == _plain(name))
        if spelt_alike:
            return spelt_alike
        # Cut, since the comparison takes time in proportion to the length; fields are short.
        likeness = {field: _likeness(name[:100], field) for field in candidates}
        best = max(likeness.values(), default=0.0)
        if best >= _FIELD_LIKENESS:
            return tuple(field for field, found in likeness.items() if found == best)
    return ()


def _likeness(written: str, field: str) -> float:
    """From 0 to 1, without regard to case."""
    return difflib.SequenceMatcher(None, written.casefold(), field.casefold(), autojunk=False).ratio()


def _value_fault(kind: ProviderType, field: Field, value: object) -> str | None:
    """What is wrong with a value in ``config``, as the rest of a sentence that begins with its path."""
    required = field.required and field.default is None
    if value is None:
        return "is required" if required else None
    if isinstance(value, str) and _TEMPLATE.fullmatch(value):
        return None
    if field.widget == "form":
        return None if isinstance(value, list | dict) else "must be an object, or a list of objects"
    if field.widget == "switch" or isinstance(field.default, bool):
        spelt = isinstance(value, str | int) and str(value).casefold() in _BOOLEANS
        return None if spelt else "must be true or false"
    if field.validation == "port" or isinstance(field.default, int):
        return None if _is_port(value) else f"must be a port, 1 to {_LAST_PORT}"
    return _text_fault(kind, field, value)


def _is_port(value: object) -> bool:
    """A number of the right size; every whole number among Keep's fields is a port."""
    match value:
        case bool():
            return False
        case str():
            text = value.strip()
            return (
                text.isascii() and text.isdigit() and len(text) <= len(str(_LAST_PORT)) and 1 <= int(text) <= _LAST_PORT
            )
        case int() | float():
            return 1 <= value <= _LAST_PORT and value == int(value)
        case _:
            return False


def _text_fault(kind: ProviderType, field: Field, value: object) -> str | None:
    if field.options and (kind.name, field.name) not in _OPEN_CHOICES:
        return None if value in field.options else f"must be one of {', '.join(field.options)}"
    if field.validation in _ADDRESSES:
        pattern, fault = _ADDRESSES[field.validation]
        if not isinstance(value, str) or re.fullmatch(pattern, value.strip(), re.IGNORECASE | re.DOTALL) is None:
            return fault
        return None
    # A number is read as text; a boolean too, but there it is YAML's doing: `on` and `no` without quotes.
    if isinstance(value, bool):
        return "must be text; put it in quotes"
    return None if isinstance(value, str | int | float) else "must be text"


def _plain(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())


@cache
def _content() -> Mapping[str, Any]:
    """The package's own file; read once, when first asked for."""
    text = resources.files(__package__).joinpath("catalogue.json").read_text(encoding="utf-8")
    content: Mapping[str, Any] = json.loads(text)
    return content


@cache
def _types() -> Mapping[str, ProviderType]:
    return MappingProxyType({name: _provider_type(name, facts) for name, facts in sorted(_content()["types"].items())})


@cache
def _spellings() -> Mapping[str, str]:
    """Plain spellings and the types they mean; a type's own name goes before another's display name."""
    by_display_name = {_plain(known_type.display_name): name for name, known_type in _types().items()}
    return MappingProxyType(by_display_name | {_plain(name): name for name in _types()})


def _provider_type(name: str, facts: Mapping[str, Any]) -> ProviderType:
    return ProviderType(
        name=name,
        display_name=facts["displayName"],
        fields=MappingProxyType({field: _field(field, about) for field, about in facts["fields"].items()}),
        scopes=tuple(Scope(scope["name"], scope["mandatory"]) for scope in facts["scopes"]),
        categories=tuple(facts["categories"]),
        can_query=facts["canQuery"],
        query_params=tuple(facts["queryParams"]),
        can_notify=facts["canNotify"],
        notify_params=tuple(facts["notifyParams"]),
        pulling=facts["pulling"],
        webhook_setup=facts["webhookSetup"],
        coming_soon=facts["comingSoon"],
    )


def _field(name: str, about: Mapping[str, Any]) -> Field:
    return Field(
        name=name,
        required=about["required"],
        sensitive=about["sensitive"],
        validation=about.get("validation"),
        widget=about.get("widget"),
        options=tuple(about.get("options", ())),
        default=about.get("default"),
    )
