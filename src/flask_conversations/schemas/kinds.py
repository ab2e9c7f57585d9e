"""The kinds of fields that forms are made of: described for OpenAPI, judged by `schemas.rules`."""

from __future__ import annotations

from typing import Any, TypeAlias

from marshmallow import ValidationError, fields, validate

from . import messages, rules

AnyField: TypeAlias = "fields.Field[Any]"


def ruled(base: type[AnyField], rule: rules.Rule, **options: Any) -> AnyField:
    """A field that is described like *base* and judged by *rule*."""

    class Ruled(base):  # type: ignore[misc, valid-type]
        def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
            try:
                return rule(value)
            except rules.Invalid as problem:
                raise ValidationError(str(problem)) from None

        def _validate(self, value: Any) -> None:
            """The rule has judged; `validate` is for the description only."""

    Ruled.__name__ = base.__name__
    return Ruled(**options)


def text(max_length: int | None = None, *, blank: bool = True, **options: Any) -> AnyField:
    length = [validate.Length(min=None if blank else 1, max=max_length)] if max_length or not blank else []
    return ruled(fields.String, rules.text(max_length, blank=blank), validate=length, **options)


def label(**options: Any) -> AnyField:
    return text(255, allow_none=True, **options)


def choice(*allowed: str, **options: Any) -> AnyField:
    return ruled(fields.String, rules.one_of(allowed), validate=[validate.OneOf(allowed)], **options)


def json_object(**options: Any) -> AnyField:
    return ruled(fields.Dict, rules.json_object, allow_none=True, **options)


def json_list(**options: Any) -> AnyField:
    return ruled(fields.Raw, rules.json_list, allow_none=True, metadata={"type": "array", "items": {}}, **options)


def json(**options: Any) -> AnyField:
    return ruled(fields.Raw, rules.json_value, allow_none=True, **options)


def whole(least: int, most: int = rules.MAX_INTEGER, **options: Any) -> AnyField:
    bounds = [validate.Range(min=least, max=most)]
    return ruled(fields.Integer, rules.integer(least, most), validate=bounds, **options)


def echo() -> AnyField:
    return json(metadata={"description": "Kept by the server: may be sent back, is not taken."})


CLIENT_ID = {"pattern": "^(?!\\.+$)[A-Za-z0-9._:-]{1,128}$", "maxLength": 128}
"""How a client's own string for a thing looks, for the description."""


def own_id(**options: Any) -> AnyField:
    def rule(value: Any) -> str:
        return rules.uuid_or_none(value) or rules.conversation_client_id(value)

    return ruled(fields.String, rule, **options)


CONTENT = {"oneOf": [{"type": "string"}, {"type": "array", "items": {"$ref": "#/components/schemas/Part"}}]}


def content(**options: Any) -> AnyField:
    return ruled(fields.Raw, messages.content_rule, metadata=CONTENT, **options)


def limit(default: int) -> AnyField:
    described = {"minimum": 1, "default": default, "description": "How many; more than 100 means 100."}
    return ruled(fields.Integer, rules.page_limit(100), metadata=described)


def moment(**options: Any) -> AnyField:
    return fields.String(metadata={"format": "date-time"}, **options)


def count(least: int = 0) -> AnyField:
    return fields.Integer(required=True, metadata={"minimum": least})
