"""Rules for values: the same checks for the service, for REST and on every database.

A rule takes a value and returns it as it is stored, or raises `Invalid`. It carries the JSON Schema that describes its values
in OpenAPI, so a limit is written once.
"""

from __future__ import annotations

import datetime as dt
import functools
import json
import math
import re
import unicodedata
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, cast

from ..errors import ValidationFailed
from .common import text_of

MAX_DEPTH = 64
MAX_INTEGER = 2**63 - 1
RESERVED_WORDS = frozenset(
    [
        "search",
        "sync",
        "events",
        "export",
        "import",
        "bulk",
        "tags",
        "stats",
        "claim",
        "openapi.json",
        "docs",
        "static",
        "shared",
        "actions",
        "state",
        "stream",
        "messages",
        "branches",
        "shares",
        "attachments",
        "archive",
        "unarchive",
        "resolve",
        "restore",
        "fork",
    ]
)
"""Words that are paths of their own under the collection, and so no client ids."""

MAX_LABEL = 255
MAX_COMMENT = 10_000
MAX_CLIENT_ID = 128
_CLIENT_ID = re.compile(rf"[A-Za-z0-9._:-]{{1,{MAX_CLIENT_ID}}}", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_DIGITS = re.compile(r"[0-9]{1,400}", re.ASCII)


class Invalid(ValueError):
    """One value breaks one rule; the message is for the sender of the value."""


class Rule(Protocol):
    """Checks one value, and describes the values that it accepts."""

    schema: Mapping[str, Any]
    """JSON Schema of the accepted values, without null."""
    nullable: bool
    """Whether None is accepted too."""

    def __call__(self, value: Any, /) -> Any:
        """*value* as it is stored. Raises `Invalid`."""

    def __hash__(self) -> int: ...


def rule(schema: Mapping[str, Any], *, nullable: bool = False) -> Callable[[Callable[[Any], Any]], Rule]:
    """Decorate a function as a `Rule` for values of *schema*."""

    def decorate(judge: Callable[[Any], Any]) -> Rule:
        found = cast("Rule", judge)
        found.schema, found.nullable = schema, nullable
        return found

    return decorate


class Problems:
    """Collects the broken rules of one input, field by field, and raises them together."""

    def __init__(self) -> None:
        self.errors: dict[str, Any] = {}

    def take(self, field: str, rule: Callable[[Any], Any], value: Any) -> Any:
        """*value* as *rule* returns it; None, with the error recorded, if it is refused."""
        try:
            return rule(value)
        except Invalid as problem:
            self.errors.setdefault(field, []).append(str(problem))
        except ValidationFailed as nested:
            self.errors[field] = nested.errors
        return None

    def raise_any(self) -> None:
        if self.errors:
            raise ValidationFailed(self.errors)


def check(field: str, rule: Callable[[Any], Any], value: Any) -> Any:
    """*value* as *rule* returns it. Raises `ValidationFailed` naming *field*."""
    try:
        return rule(value)
    except Invalid as problem:
        raise ValidationFailed({field: [str(problem)]}) from None


@functools.cache
def text(max_length: int | None = None, *, blank: bool = True) -> Rule:
    """Text that every database stores unchanged: no NUL, no lone surrogates, not too long."""
    least = {} if blank else {"minLength": 1}
    most = {} if max_length is None else {"maxLength": max_length}

    @rule({"type": "string", **least, **most})
    def judge(value: Any) -> str:
        if not isinstance(value, str):
            raise Invalid("Not a valid string.")
        if max_length is not None and len(value) > max_length:
            raise Invalid(f"Longer than {max_length} characters.")
        if not blank and not value.strip():
            raise Invalid("May not be blank.")
        return _storable(value)

    return judge


@rule({}, nullable=True)
def anything(value: Any) -> Any:
    """Any value, for a member that is ignored."""
    return value


@functools.cache
def optional(inner: Rule) -> Rule:
    """A rule for None and the values that *inner* accepts."""
    return rule(inner.schema, nullable=True)(lambda value: None if value is None else inner(value))


def _storable(value: str) -> str:
    if "\x00" in value:
        raise Invalid("May not contain NUL characters.")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Invalid("May not contain lone surrogates.") from None
    return value


@rule({})
def json_value(value: Any) -> Any:
    """Any JSON value that comes back equal, as a copy of plain types: finite numbers, text keys, bounded depth, storable text."""
    return _plain(value, 0)


@rule({"type": "object", "additionalProperties": True})
def json_object(value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise Invalid("Not a valid object.")
    return _plain(value, 0)


@rule({"type": "array", "items": {}})
def json_list(value: Any) -> Any:
    if not isinstance(value, (list, tuple)):
        raise Invalid("Not a valid list.")
    return _plain(value, 0)


def _plain(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _storable(value)
    if isinstance(value, (int, float)):
        return _number(value)
    if depth >= MAX_DEPTH:
        raise Invalid(f"Nested deeper than {MAX_DEPTH} levels.")
    if isinstance(value, Mapping):
        return {_key(key): _plain(one, depth + 1) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one, depth + 1) for one in value]
    raise Invalid(f"{type(value).__name__} is not a JSON type.")


@functools.cache
def content(max_length: int | None = None) -> Rule:
    """Text, or a list of parts: objects with a `type`, text parts with a `text`; other types are kept as they are."""
    plain = text(max_length)

    @rule({"oneOf": [{"type": "string"}, {"type": "array", "items": {"$ref": "#/components/schemas/Part"}}]})
    def judge(value: Any) -> str | list[Any]:
        if isinstance(value, str):
            return cast("str", plain(value))
        if not isinstance(value, (list, tuple)):
            raise Invalid("Must be text or a list of parts.")
        parts: list[Any] = json_list(value)
        for part in parts:
            if not isinstance(part, Mapping) or not isinstance(part.get("type"), str):
                raise Invalid("Each part must be an object with a type.")
            if part["type"] == "text" and not isinstance(part.get("text"), str):
                raise Invalid("A text part must have a text.")
        if max_length is not None and len(text_of(parts)) > max_length:
            raise Invalid(f"Longer than {max_length} characters.")
        return parts

    return judge


@rule({"oneOf": [{"enum": ["up", "down"]}, {"type": "integer", "minimum": -10, "maximum": 10}]})
def rating(value: Any) -> str:
    """`up`, `down`, or a whole number from -10 to 10, as it is stored."""
    if value in ("up", "down") and isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and -10 <= value <= 10:
        return str(value)
    raise Invalid("Must be 'up', 'down' or a whole number from -10 to 10.")


def is_deeper(value: Any, depth: int) -> bool:
    """Whether a JSON value nests deeper than *depth* levels; found without recursion."""
    level = [value]
    for _ in range(depth + 1):
        level = [
            one
            for each in level
            if isinstance(each, (dict, list))
            for one in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return False
    return True


def _number(value: int | float) -> int | float:
    # beyond a double's range JavaScript reads Infinity; Python itself refuses to write more than 4,300 digits
    if isinstance(value, int) and value.bit_length() > 1023:
        raise Invalid("A number is too large.")
    if isinstance(value, float) and not math.isfinite(value):
        raise Invalid("NaN and Infinity are not JSON.")
    return value


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise Invalid("Keys must be strings.")
    return _storable(key)


def one_of(allowed: Iterable[str]) -> Rule:
    choices = tuple(allowed)

    @rule({"type": "string", "enum": list(choices)})
    def judge(value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            raise Invalid(f"Must be one of: {', '.join(choices)}.")
        return value

    return judge


@rule({"type": "boolean"})
def boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Invalid("Not a valid boolean.")
    return value


@functools.cache
def integer(least: int, most: int = MAX_INTEGER) -> Rule:
    @rule({"type": "integer", "minimum": least, "maximum": most})
    def judge(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise Invalid("Not a valid integer.")
        if not least <= value <= most:
            raise Invalid(f"Must be between {least} and {most}.")
        return value

    return judge


@rule({"type": "number", "minimum": 0, "maximum": 10**15})
def milliseconds(value: Any) -> float:
    """A duration: a finite number of milliseconds, not negative."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Invalid("Not a valid number.")
    if not 0 <= value <= 1e15:
        raise Invalid("Must be between 0 and 10^15.")
    return float(value)


def digits(value: Any) -> int:
    """A whole number from a query string: ASCII digits and nothing else."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not _DIGITS.fullmatch(value):
        raise Invalid("Not a valid integer.")
    return int(value)


@functools.cache
def page_limit(most: int) -> Rule:
    """How many of a page: at least 1; more than *most* means *most*."""

    @rule({"type": "integer", "minimum": 1})
    def judge(value: Any) -> int:
        number = digits(value)
        if number < 1:
            raise Invalid("Must be at least 1.")
        return min(number, most)

    return judge


@rule({"type": "integer", "minimum": 0})
def offset(value: Any) -> int:
    """A whole number from a query string that fits into 64 bits."""
    number = digits(value)
    if number > MAX_INTEGER:
        raise Invalid(f"Must be at most {MAX_INTEGER}.")
    return number


@rule({"type": "string", "format": "date-time"})
def moment(value: Any) -> dt.datetime:
    """A time from 1970 to 9000, given as a datetime or as ISO 8601 text; without an offset it is taken as UTC.

    Far from there PostgreSQL answers with times that Python cannot hold, depending on the time zone of the session.
    """
    if isinstance(value, str):
        value = _parsed_moment(value)
    if not isinstance(value, dt.datetime):
        raise Invalid("Not a valid ISO 8601 time.")
    try:
        utc = value.replace(tzinfo=dt.timezone.utc) if value.tzinfo is None else value.astimezone(dt.timezone.utc)
    except (OverflowError, ValueError):
        raise Invalid("Not a valid ISO 8601 time.") from None
    if not 1970 <= utc.year <= 9000:
        raise Invalid("Must be between the years 1970 and 9000.")
    return utc


def _parsed_moment(value: str) -> dt.datetime:
    # Python 3.10 knows neither "Z" nor other fractions than 3 or 6 digits
    match = re.fullmatch(
        r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,9}))?(Z|z|[+-]\d\d:?\d\d)?", value, re.ASCII
    )
    if not match:
        raise Invalid("Not a valid ISO 8601 time.")
    base, fraction, zone = match.groups()
    zone = "+00:00" if not zone or zone in "Zz" else zone if ":" in zone else f"{zone[:3]}:{zone[3:]}"
    if fraction and base.count(":") < 2:
        raise Invalid("Not a valid ISO 8601 time.")
    try:
        return dt.datetime.fromisoformat(base + (f".{fraction[:6]:0<6}" if fraction else "") + zone)
    except ValueError:
        raise Invalid("Not a valid ISO 8601 time.") from None


def uuid_or_none(value: Any) -> str | None:
    """The canonical text of a UUID in its usual form with dashes; None for anything else."""
    if isinstance(value, uuid.UUID):
        return str(value)
    return value.lower() if isinstance(value, str) and _UUID.fullmatch(value) else None


def is_client_id(value: Any) -> bool:
    return isinstance(value, str) and _CLIENT_ID.fullmatch(value) is not None


CLIENT_ID = {
    "type": "string",
    "pattern": f"^(?!\\.+$)[A-Za-z0-9._:-]{{1,{MAX_CLIENT_ID}}}$",
    "maxLength": MAX_CLIENT_ID,
}
"""JSON Schema of a client id."""


@rule(CLIENT_ID)
def client_id(value: Any) -> str:
    """A client's own string for a thing: 1 to 128 of `A-Za-z0-9._:-`, not only dots, which a URL would swallow."""
    if isinstance(value, str) and _CLIENT_ID.fullmatch(value) and value.strip("."):
        return value
    raise Invalid("Must be 1 to 128 characters of A-Z, a-z, 0-9, '.', '_', ':' and '-'.")


@rule(CLIENT_ID)
def conversation_client_id(value: Any) -> str:
    """A client id that is not one of the paths under the collection."""
    if isinstance(value, str) and value.lower() in RESERVED_WORDS:
        raise Invalid("This word is reserved.")
    return str(client_id(value))


MAX_BRANCH_NAME = 128
_UNPRINTABLE = ("Cc", "Zl", "Zp")


@rule({"type": "string", "minLength": 1, "maxLength": MAX_BRANCH_NAME})
def branch_name(value: Any) -> str:
    """A name that can stand in a URL and is no message id: 1 to 128 characters, not blank, not a dot or two."""
    name: str = text(MAX_BRANCH_NAME, blank=False)(value)
    if name in (".", "..") or "/" in name:
        raise Invalid("May not be '.' or '..', or contain '/'.")
    if any(unicodedata.category(character) in _UNPRINTABLE for character in name):
        raise Invalid("May not contain control characters.")
    if uuid_or_none(name):
        raise Invalid("May not look like an id.")
    return name


@rule({"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": 64}, "maxItems": 50})
def tag_list(value: Any) -> list[str]:
    """Up to 50 different tags of 1 to 64 characters, in the order given."""
    if not isinstance(value, (list, tuple)):
        raise Invalid("Not a valid list.")
    one_tag = text(64, blank=False)
    found = list(dict.fromkeys(one_tag(tag) for tag in value))
    if len(found) > 50:
        raise Invalid("At most 50 tags.")
    return found


@rule({"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": 255}, "minItems": 1, "maxItems": 100})
def tool_call_ids(value: Any) -> list[str]:
    """The ids of 1 to 100 tool calls, each once."""
    if not isinstance(value, (list, tuple)) or not 0 < len(value) <= 100:
        raise Invalid("Must be a list of 1 to 100 ids.")
    name = text(255, blank=False)
    return list(dict.fromkeys(name(one) for one in value))


def parse_json(body: bytes) -> Any:
    """The JSON value of a request body.

    Raises `ValueError` for anything RFC 8259 does not allow, and `ValidationFailed` for a member that is given twice:
    other parsers may read the first where Python reads the last.
    """
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_members)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        given = Counter(name for name, _ in pairs)
        raise ValidationFailed({name: ["Given twice."] for name, times in given.items() if times > 1})
    return members


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
