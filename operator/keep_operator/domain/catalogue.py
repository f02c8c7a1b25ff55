"""The provider types that Keep knows, with their fields and what they can do: facts, shipped as ``catalogue.json``."""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any, Final

# Of two names that share fewer than seven characters in ten, one is hardly a slip of the other.
_LIKENESS: Final = 0.7


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


def source() -> str:
    """The release of Keep that the facts are from."""
    return str(_content()["source"])


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
