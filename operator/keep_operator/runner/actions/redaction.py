"""Secrets of a call, taken out of whatever is told about it."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from keep_operator.domain import catalogue
from keep_operator.runner.actions.call import Call

HIDDEN: Final = "***"
# Shorter ones would hide ordinary words.
_SHORTEST: Final = 6
# Names of parameters and headers whose values are nobody's business.
_TELLING: Final = (
    "authorization",
    "cookie",
    "token",
    "secret",
    "password",
    "api_key",
    "api-key",
    "apikey",
    "routing_key",
)


def secrets(call: Call) -> tuple[str, ...]:
    """Everything that must not be told: the longest first, so that no half of one is left over.

    Credentials of the Provider as a whole and in their parts, as an address with a token in its path has them; of the
    parameters those whose names say so, and what addresses have before the @.
    """
    kind = catalogue.find(call.type)
    found: set[str] = set()
    for name, value in call.config.items():
        field = None if kind is None else kind.fields.get(name)
        if field is None or kind is None or catalogue.is_credential(kind, field):
            found.update(part for text in _texts(value) for part in _parts(text))
        else:
            found.update(part for text in _texts(value) for part in _before_at(text))
    for name, value in call.parameters.items():
        found.update(_of_parameter(name, value))
    spellings = {form for each in found for form in (each, quote(each, safe=""), unquote(each))}
    return tuple(sorted((each for each in spellings if len(each) >= _SHORTEST), key=len, reverse=True))


def redact(text: str, hidden: Collection[str]) -> str:
    """The text without them."""
    for each in hidden:
        text = text.replace(each, HIDDEN)
    return text


def clean(value: Any, hidden: Collection[str]) -> Any:
    """JSON without them, in keys and in values."""
    match value:
        case str():
            return redact(value, hidden)
        case list():
            return [clean(each, hidden) for each in value]
        case dict():
            return {redact(str(key), hidden): clean(each, hidden) for key, each in value.items()}
        case _:
            return value


def is_telling(name: str) -> bool:
    """Whether a parameter or a header of that name holds a credential, as names go."""
    return any(part in name.casefold() for part in _TELLING)


def _of_parameter(name: str, value: Any) -> Iterator[str]:
    if is_telling(name):
        for text in _texts(value):
            yield from _parts(text)
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _of_parameter(str(key), each)
    elif isinstance(value, list):
        for each in value:
            # Headers come as a list of {key, value} too.
            entry = (
                {str(each["key"]): each["value"]}
                if isinstance(each, dict) and {"key", "value"} <= each.keys()
                else each
            )
            if isinstance(entry, Mapping):
                yield from _of_parameter("", entry)
    elif isinstance(value, str):
        yield from _before_at(value)


def _parts(text: str) -> Iterator[str]:
    yield text
    # "Bearer abc": the word is none.
    yield from (word for word in text.split() if word.casefold() not in ("bearer", "basic", "token"))
    if "://" in text:
        yield from _before_at(text)
        try:
            url = urlsplit(text)
        except ValueError:
            return
        yield from (part for part in url.path.split("/") if any(map(str.isdigit, part)))
        yield from (value for _, value in parse_qsl(url.query))


def _before_at(text: str) -> Iterator[str]:
    if "://" not in text:
        return
    try:
        url = urlsplit(text)
    except ValueError:
        return
    if url.password:
        yield url.password
        yield url.netloc.rpartition("@")[0]


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case Mapping():
            for each in value.values():
                yield from _texts(each)
        case list() | tuple():
            for each in value:
                yield from _texts(each)
