"""snake_case and camelCase for the names of JSON members. Values of users stay unchanged."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..errors import ValidationFailed
from ..schemas.fields import CONVERSATION, MESSAGE

OPAQUE = frozenset(
    {
        *("arguments", "data", "yours"),
        *(
            name
            for noun in (MESSAGE, CONVERSATION)
            for name, field in noun.items()
            if field.rule is not None and field.rule.schema.get("type") in (None, "object", "array")
        ),
    }
)
"""Members with values of the user, in which no name is converted."""


def camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


def snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()


def to_camel(value: Any) -> Any:
    """A payload with camelCase names."""
    if isinstance(value, Mapping):
        return {camel(name): one if name in OPAQUE else to_camel(one) for name, one in value.items()}
    return [to_camel(one) for one in value] if isinstance(value, (list, tuple)) else value


def to_snake(value: Any) -> Any:
    """A camelCase body with snake_case names. Any other name stays; the schema refuses unknown ones."""
    if isinstance(value, Mapping):
        return {name: one if name in OPAQUE else to_snake(one) for name, one in renamed(value).items()}
    return [to_snake(one) for one in value] if isinstance(value, list) else value


def renamed(members: Mapping[str, Any]) -> dict[str, Any]:
    """*members* with snake_case names. Raises `ValidationFailed` for a name that is given in both cases."""
    found: dict[str, Any] = {}
    for given, value in members.items():
        name = snake(given) if given.isascii() else given
        if name in found:
            raise ValidationFailed({name: ["Given twice."]})
        found[name] = value
    return found
