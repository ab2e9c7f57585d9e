"""A conversation in and out: the fields a caller may set, and the JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from ..errors import ValidationFailed
from . import fields, rules
from .canonical import checksum_text
from .common import Row, iso
from .types import Conversation

RULES = fields.settable(fields.CONVERSATION, fields.CLIENT)
"""The rules of the fields that its owner may set."""


def changes(given: Mapping[str, Any]) -> dict[str, Any]:
    """The column values for *given*. Raises `ValidationFailed` for unknown fields and refused values."""
    problems = rules.Problems()
    values: dict[str, Any] = {}
    for name, value in given.items():
        if name not in RULES:
            problems.errors[name] = ["Unknown field."]
        else:
            values[name] = problems.take(name, RULES[name], value)
    problems.raise_any()
    if "title" in values:
        values["title"], values["title_source"] = titled(values["title"])
    return values


def titled(title: str | None) -> tuple[str | None, str]:
    """The stored title and where it comes from: none and the default one may still be replaced."""
    if title is None or not title.strip() or title.strip() == fields.DEFAULT_TITLE:
        return None, "default"
    return title, "user"


def own_id(value: Any) -> tuple[str | None, str | None]:
    """(id, client id) of an id that a client chose: a UUID is taken as the id, other text as the client id."""
    if value is None:
        return None, None
    as_uuid = rules.uuid_or_none(value)
    return (as_uuid, None) if as_uuid else (None, rules.check("id", rules.conversation_client_id, value))


STORED = fields.stored(fields.CONVERSATION)
"""The columns that the store reads of a conversation."""

COLUMNS = tuple(name for name in STORED if fields.CONVERSATION[name].shown)
"""The columns among them that are members of its JSON, which come first."""

LISTED = (*COLUMNS, "rev", "branched")
"""The columns that a list reads."""

_REV = STORED.index("rev")
_MOMENTS = [name for name in COLUMNS if name.endswith("_at")]


def dump(row: Row) -> Conversation:
    """The JSON of a stored conversation; *row* begins with `COLUMNS`."""
    found = dict(zip(COLUMNS, row, strict=False))
    for name in _MOMENTS:
        if found[name] is not None:
            found[name] = iso(found[name])
    found["org_id"] = found["org_id"] or None
    found["title"] = found["title"] or fields.DEFAULT_TITLE
    found["tags"] = found["tags"] if isinstance(found["tags"], list) else []
    found["checksum"] = checksum_text(_whole(found["checksum"]))
    found["etag"] = f"{found['version']}-{_whole(row[_REV]):x}"
    return cast("Conversation", found)


def field_versions(row: Any) -> dict[str, int]:
    """The versions at which the fields of a conversation were last set; *row* has this column, and `store` the type of it."""
    marks = row.field_versions if isinstance(row.field_versions, dict) else {}
    return {name: version for name, version in marks.items() if isinstance(version, int)}


def _whole(value: Any) -> int:
    """A number as it is stored; SQLite keeps any value in a column of numbers, and a value that is no number counts as 0."""
    return value if isinstance(value, int) else 0


_version = rules.integer(0)


def expected(version: Any, field: str = "expected_version") -> int | None:
    """A version that a caller has seen; None if it named none."""
    return None if version is None else rules.check(field, _version, version)


def refuse_unknown(names: Mapping[str, Any], allowed: frozenset[str]) -> None:
    """Raise `ValidationFailed` for every name that is not *allowed*."""
    unknown = {name: ["Unknown field."] for name in names if name not in allowed}
    if unknown:
        raise ValidationFailed(unknown)
