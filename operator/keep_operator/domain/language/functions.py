"""The functions that texts may call as ``keep.name(…)``: Keep's 47, by what they answer.

Arguments are texts, objects, lists, or what a function within has answered; a number that is written out comes as text.
Time is that of the moment at which the text is filled in, which is an argument here.
"""

import ast
import copy
import itertools
import json
import math
import re
import urllib.parse
import warnings
import zoneinfo
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from email.utils import parsedate_to_datetime
from typing import Any, Final

from keep_operator.domain.language import limits
from keep_operator.domain.language.limits import Failed

# Characters of a date, a format, or a span of time.
_SHORT: Final = 128
_SHOWN: Final = 160
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SPANS: Final = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
_ZONES: Final = re.compile(r"\s?(UTC|GMT|Z)$")
_DATES: Final = (
    "%Y/%m/%d %H:%M:%S",
    "%Y/%m/%d",
    "%d %b %Y",
    "%b %d, %Y",
)


@dataclass(frozen=True, slots=True)
class Moment:
    """When a text is filled in, and what is known of the run's alert at that time."""

    now: datetime
    fingerprint: str | None = None
    firing_since: datetime | None = None
    fired_before: datetime | None = None


def call(name: str, arguments: list[Any], named: Mapping[str, Any], moment: Moment) -> Any:
    """What ``keep.<name>`` answers. Raises Failed, with the function's name, for what it does not take."""
    function = FUNCTIONS.get(name)
    if function is None:
        raise Failed(f"keep.{name[:63]} does not exist")
    try:
        return function.of(moment, *arguments, **named) if function.timely else function.of(*arguments, **named)
    except Failed as error:
        raise type(error)(f"keep.{name} {error}") from None
    except TypeError as error:
        told = re.sub(r"^_?\w+\(\) ", "", str(error)) if "argument" in str(error) else f"cannot work with this: {error}"
        raise Failed(f"keep.{name} {told[:_SHOWN]}") from None
    except (ValueError, ArithmeticError, LookupError, AttributeError, RecursionError) as error:
        raise Failed(f"keep.{name} failed: {str(error)[:_SHOWN] or type(error).__name__}") from None


# ── numbers: whole ones, as Keep reads them ──


def _whole(value: Any) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError):
        raise Failed(f"counts in whole numbers, and {_quoted(value)} is none") from None
    limits.check_number(number.bit_length())
    return number


def _fold(step: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def folded(*numbers: Any) -> Any:
        if not numbers:
            raise Failed("needs numbers")
        first, *rest = map(_whole, numbers)
        result: Any = first
        for each in rest:
            result = step(result, each)
            if isinstance(result, int):
                limits.check_number(result.bit_length())
        return result

    return folded


def _power(base: Any, exponent: int) -> Any:
    limits.check_number(math.log2(max(abs(base), 1)) * abs(exponent))
    return base**exponent


def _divide(*numbers: Any) -> Any:
    result = _fold(lambda a, b: a / b)(*numbers)
    return int(result) if result == int(result) else result


# ── lists, and what has a length ──


def _alike(items: Any) -> bool:
    groups = itertools.groupby(items)
    return bool(next(groups, True)) and not next(groups, False)


def _length(iterable: Any = "") -> int:
    return len(iterable)


def _index(iterable: Any, index: Any) -> Any:
    if isinstance(iterable, Mapping) and index in iterable:
        return iterable[index]
    return iterable[int(index)]


def _split(string: Any, delimiter: Any) -> list[str]:
    return _text(string).strip().split(_text(delimiter))


def _join(iterable: Any, delimiter: Any = ",", prefix: Any = None) -> str:
    items = _structure(iterable) if isinstance(iterable, str) else iterable
    before = _text(prefix) if prefix else ""
    parts = (
        [f"{key}={value}" for key, value in items.items()] if isinstance(items, Mapping) else list(map(_text, items))
    )
    between = _text(delimiter)
    limits.check_text(sum(map(len, parts)) + len(parts) * (len(between) + len(before)))
    return between.join(before + part for part in parts)


def _slice(str_to_slice: Any, start: Any = 0, end: Any = 0) -> Any:
    return str_to_slice[int(start) :] if int(end) == 0 else str_to_slice[int(start) : int(end)]


# ── texts ──


def _text(value: Any) -> str:
    return value if isinstance(value, str) else str(value)


def _replace(string: Any, old: Any, new: Any) -> str:
    whole, part, other = _text(string), _text(old), _text(new)
    limits.check_text(len(whole) + whole.count(part) * max(len(other) - len(part), 0))
    return whole.replace(part, other)


def _remove_newlines(string: Any = "") -> str:
    return _text(string).replace("\r\n", "").replace("\n", "").replace("\t", "")


# ── JSON and objects ──


def _structure(written: str) -> Any:
    """A list or object out of a text: JSON, or as Python writes it."""
    try:
        return json.loads(written)
    except ValueError:
        found = literal(written)
        if found is None:
            raise Failed(f"needs JSON, and {_quoted(written)} is none") from None
        return found


def literal(written: str) -> Any:
    """The list or object that a text is, as Python writes it; None if it is something else."""
    written = written.strip()
    if not written[:1] or written[0] not in "[{(" or len(written) > limits.LITERAL:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = ast.literal_eval(written)
            return found if isinstance(found, list | tuple | dict | set) else None
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None


def _json_dumps(data: Any) -> str:
    return json.dumps(_structure(data) if isinstance(data, str) else data, indent=4, default=str)


def _json_loads(data: Any) -> Any:
    if not isinstance(data, str):
        return data if isinstance(data, dict | list) else {}
    for candidate in (data, _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", data)):
        try:
            return json.loads(candidate)
        except (ValueError, RecursionError):
            continue
    found = literal(data)
    return {} if found is None else found


def _object(data: Any) -> dict[str, Any]:
    data = _structure(data) if isinstance(data, str) else data
    if not isinstance(data, dict):
        raise Failed(f"needs an object, not {_quoted(data)}")
    return data


def _lenient(data: Any) -> dict[str, Any]:
    try:
        return _object(data)
    except Failed:
        return {}


def _dict_pop(data: Any, *keys: Any) -> dict[str, Any]:
    return {key: value for key, value in _object(data).items() if key not in keys}


def _dict_pop_prefix(data: Any, prefix: Any) -> dict[str, Any]:
    return {key: value for key, value in _object(data).items() if not str(key).startswith(_text(prefix))}


def _dict_filter_by_prefix(data: Any, prefix: Any) -> dict[str, Any]:
    return {key: value for key, value in _object(data).items() if str(key).startswith(_text(prefix))}


def _dictget(data: Any, key: Any, default: Any = None) -> Any:
    data = _json_loads(data) if isinstance(data, str) else data
    return data.get(key, default) if isinstance(data, dict) else default


def _dict_set(data: Any, key: Any, value: Any) -> dict[str, Any]:
    return {**_lenient(data), key: copy.deepcopy(value)}


def _dict_merge(*objects: Any) -> dict[str, Any]:
    return {key: value for each in objects for key, value in _lenient(each).items()}


def _key_value_list(data: Any) -> list[str]:
    return [f"{key}:{value}" for key, value in _object(data).items()]


# ── dates and times; one without a zone is taken for UTC ──


def _date(value: Any) -> datetime | None:
    """A date out of a text: ISO 8601, RFC 2822, or one of few others; None if it is none."""
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    written = _text(value).strip()
    if not written or len(written) > _SHORT:
        return None
    plain = _ZONES.sub("", written)
    found = None
    try:
        found = datetime.fromisoformat(plain)
    except ValueError:
        for pattern in _DATES:
            try:
                found = datetime.strptime(plain, pattern)
                break
            except ValueError:
                continue
        else:
            try:
                found = parsedate_to_datetime(written)
            except (ValueError, TypeError, IndexError, OverflowError):
                return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _given_date(value: Any) -> datetime:
    found = _date(value)
    if found is None:
        raise Failed(f"needs a date, such as 2024-06-01T12:00:00Z, not {_quoted(value)}")
    return found


def _zone(name: Any) -> tzinfo:
    try:
        return zoneinfo.ZoneInfo(_text(name))
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise Failed(f"does not know the time zone {_quoted(name)}; say one such as Europe/Berlin") from None


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise Failed(f"needs a number, not {_quoted(value)}")
    return number


def _to_utc(dt: Any = "") -> Any:
    found = _date(dt)
    return "" if found is None else found.astimezone(UTC)


def _to_timestamp(dt: Any = "") -> int:
    found = _date(dt)
    return 0 if found is None else int(found.timestamp())


def _from_timestamp(timestamp: Any, timezone: Any = "UTC") -> Any:
    try:
        return datetime.fromtimestamp(_number(timestamp), tz=_zone(timezone))
    except (Failed, ValueError, TypeError, OverflowError, OSError):
        return ""


def _timestamp_delta(dt: Any, amount: Any, timestamp_unit: Any) -> datetime:
    if timestamp_unit not in _SPANS.values():
        raise Failed(f"counts in {', '.join(_SPANS.values())}, not in {_quoted(timestamp_unit)}")
    return _given_date(dt) + timedelta(**{timestamp_unit: _number(amount)})


def _datetime_compare(t1: Any = None, t2: Any = None) -> float:
    if not t1 or not t2:
        return 0
    return (_given_date(t1) - _given_date(t2)).total_seconds() / 3600


def _add_time_to_date(date: Any, date_format: Any, time_str: Any) -> datetime:
    if not isinstance(date, datetime):
        if max(len(_text(date)), len(_text(date_format))) > _SHORT:
            raise Failed(f"takes dates and formats of at most {_SHORT} characters")
        date = datetime.strptime(_text(date), _text(date_format))
    spans = dict.fromkeys(_SPANS.values(), 0)
    for amount, unit in re.findall(r"(\d{1,9})([wdhms])", _text(time_str)[:_SHORT]):
        spans[_SPANS[unit]] += int(amount)
    moved: datetime = date + timedelta(**spans)
    return moved


def _is_business_hours(
    moment: Moment,
    time_to_check: Any = None,
    start_hour: Any = 8,
    end_hour: Any = 20,
    business_days: Any = (0, 1, 2, 3, 4),
    timezone: Any = "UTC",
) -> bool:
    start, end = int(start_hour), int(end_hour)
    if not (0 <= start <= 23 and 0 <= end <= 23):
        raise Failed("takes hours from 0 to 23")
    days = list(business_days) if isinstance(business_days, list | tuple | set) else None
    if days is None or not all(isinstance(day, int) and 0 <= day <= 6 for day in days):
        raise Failed("takes business_days as a list of numbers from 0 (Monday) to 6 (Sunday)")
    zone = _zone(timezone)
    at = moment.now if time_to_check is None else _date(time_to_check)
    if at is None:
        return False
    at = at.astimezone(zone)
    return at.weekday() in days and start <= at.hour < end


# ── the alert of the run ──


def _get_firing_time(moment: Moment, alert: Any, time_unit: Any) -> str:
    if isinstance(alert, str):
        alert = _structure(alert)
    fingerprint = alert.get("fingerprint") if isinstance(alert, Mapping) else None
    if not fingerprint:
        raise Failed("needs an alert with a fingerprint, such as '{{ alert }}'")
    seconds = {"s": 1, "seconds": 1, "m": 60, "minutes": 60, "h": 3600, "hours": 3600}.get(time_unit)
    if seconds is None:
        raise Failed(f"counts in s, m, h, seconds, minutes or hours, not in {_quoted(time_unit)}")
    if fingerprint == moment.fingerprint:
        since = moment.firing_since
    else:
        since = _date(alert.get("firingStartTime") or "") if alert.get("status") == "firing" else None
    passed = 0.0 if since is None else (moment.now - since).total_seconds()
    return f"{passed / seconds:.2f}"


def _is_first_time(moment: Moment, fingerprint: Any, since: Any = None) -> bool:
    if not fingerprint:
        raise Failed("needs the fingerprint of an alert")
    if fingerprint != moment.fingerprint:
        raise Failed("knows only the alert that started the run: give it {{ alert.fingerprint }}")
    if moment.fired_before is None:
        return True
    if not since:
        return False
    span = re.fullmatch(r"(\d{1,9})([mhdw])", _text(since))
    if span is None:
        raise Failed(f"takes a span such as 30m, 24h, 7d or 2w, not {_quoted(since)}")
    return moment.now - moment.fired_before > timedelta(**{_SPANS[span[2]]: int(span[1])})


def _quoted(value: Any) -> str:
    shown = _text(value)
    return ascii(shown if len(shown) <= 40 else f"{shown[:40]}...")


@dataclass(frozen=True, slots=True)
class Function:
    """``of`` answers; with ``timely`` the moment is its first argument."""

    of: Callable[..., Any]
    timely: bool = field(default=False)


_PLAIN: Final[Mapping[str, Callable[..., Any]]] = {
    "add": _fold(lambda a, b: a + b),
    "sub": _fold(lambda a, b: a - b),
    "mul": _fold(lambda a, b: a * b),
    "div": _divide,
    "mod": _fold(lambda a, b: a % b),
    "exp": _fold(_power),
    "fdiv": _fold(lambda a, b: a // b),
    "eq": lambda a, b: a == b,
    "all": _alike,
    "diff": lambda iterable: not _alike(iterable),
    "len": _length,
    "uppercase": lambda string: _text(string).upper(),
    "lowercase": lambda string: _text(string).lower(),
    "capitalize": lambda string: _text(string).capitalize(),
    "title": lambda string: _text(string).title(),
    "split": _split,
    "index": _index,
    "strip": lambda string: _text(string).strip(),
    "remove_newlines": _remove_newlines,
    "first": lambda iterable: iterable[0],
    "last": lambda iterable: iterable[-1],
    "substract_minutes": lambda dt, minutes: _given_date(dt) - timedelta(minutes=_number(minutes)),
    "timestamp_delta": _timestamp_delta,
    "to_utc": _to_utc,
    "from_timestamp": _from_timestamp,
    "to_timestamp": _to_timestamp,
    "datetime_compare": _datetime_compare,
    "json_dumps": _json_dumps,
    "json_loads": _json_loads,
    "replace": _replace,
    "encode": lambda string: urllib.parse.quote(_text(string)),
    "dict_to_key_value_list": _key_value_list,
    "slice": _slice,
    "join": _join,
    "dict_pop": _dict_pop,
    "dict_pop_prefix": _dict_pop_prefix,
    "dict_filter_by_prefix": _dict_filter_by_prefix,
    "add_time_to_date": _add_time_to_date,
    "dictget": _dictget,
    "dict_set": _dict_set,
    "dict_merge": _dict_merge,
}
_TIMELY: Final[Mapping[str, Callable[..., Any]]] = {
    "utcnow": lambda moment: moment.now.astimezone(UTC),
    "utcnowtimestamp": lambda moment: int(moment.now.timestamp()),
    "utcnowiso": lambda moment: moment.now.astimezone(UTC).isoformat(),
    "get_firing_time": _get_firing_time,
    "is_first_time": _is_first_time,
    "is_business_hours": _is_business_hours,
}
FUNCTIONS: Final[Mapping[str, Function]] = {
    **{name: Function(of) for name, of in _PLAIN.items()},
    **{name: Function(of, timely=True) for name, of in _TIMELY.items()},
}
