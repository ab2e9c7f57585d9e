"""marshmallow schemas of what comes over HTTP and, for the OpenAPI description, of what goes out.

Input fields apply the rules of `schemas.rules`, the ones the service applies: a value is judged once, whichever way it comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from marshmallow import RAISE, Schema, ValidationError, fields, validate

from . import conversations, messages, rules

AnyField: TypeAlias = "fields.Field[Any]"


def _ruled(base: type[AnyField], rule: rules.Rule, **options: Any) -> AnyField:
    """A field that is described like *base* and judged by *rule*."""

    class Ruled(base):  # type: ignore[misc, valid-type]
        def deserialize(self, value: Any, attr: Any = None, data: Any = None, **kwargs: Any) -> Any:
            if value is None and self.allow_none:
                return None
            return super().deserialize(value, attr, data, **kwargs)

        def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
            try:
                return rule(value)
            except rules.Invalid as problem:
                raise ValidationError(str(problem)) from None

        def _validate(self, value: Any) -> None:
            """The rule has judged; `validate` is for the description only."""

    Ruled.__name__ = base.__name__
    return Ruled(**options)


def _text(max_length: int | None = None, *, blank: bool = True, **options: Any) -> AnyField:
    length = [validate.Length(min=None if blank else 1, max=max_length)] if max_length or not blank else []
    return _ruled(fields.String, rules.text(max_length, blank=blank), validate=length, **options)


def _label(**options: Any) -> AnyField:
    return _text(255, allow_none=True, **options)


def _choice(*allowed: str, **options: Any) -> AnyField:
    return _ruled(fields.String, rules.one_of(allowed), validate=[validate.OneOf(allowed)], **options)


def _object(**options: Any) -> AnyField:
    return _ruled(fields.Dict, rules.json_object, allow_none=True, **options)


def _list(**options: Any) -> AnyField:
    return _ruled(
        fields.Raw, rules.json_list, allow_none=True, metadata={"type": ["array", "null"], "items": {}}, **options
    )


def _any(**options: Any) -> AnyField:
    return _ruled(fields.Raw, rules.json_value, allow_none=True, **options)


def _whole(least: int, most: int = rules.MAX_INTEGER, **options: Any) -> AnyField:
    bounds = [validate.Range(min=least, max=most)]
    return _ruled(fields.Integer, rules.integer(least, most), validate=bounds, **options)


class Form(Schema):
    """A JSON object in a request: unknown members are refused."""

    class Meta:
        unknown = RAISE


class _Fields(Form):
    starred = _ruled(fields.Boolean, rules.boolean)
    folder = _label()
    tags = _ruled(fields.List, rules.tag_list, cls_or_instance=fields.String())
    context_type = _label()
    context_id = _label()
    page_context = _text(allow_none=True)
    metadata = _object()


_title: dict[str, Any] = {
    "metadata": {"description": "None or 'New Conversation' is the default title, which the first message replaces."}
}
_id = {
    "metadata": {
        "description": "A UUID becomes the id; any other string of 1 to 128 of A-Za-z0-9._:- becomes the client_id."
    }
}


def _own_id(**options: Any) -> AnyField:
    def rule(value: Any) -> str:
        return rules.uuid_or_none(value) or rules.conversation_client_id(value)

    return _ruled(fields.String, rule, **options)


def _content(**options: Any) -> AnyField:
    described = {"oneOf": [{"type": "string"}, {"type": "array", "items": {"$ref": "#/components/schemas/Part"}}]}
    return _ruled(fields.Raw, messages.content_rule, metadata=described, **options)


class PartOut(Schema):
    """A part of a content: text, or anything else with a type."""

    type = fields.String(required=True)
    text = fields.String()


class MessageIn(Form):
    """A message to append."""

    role = _choice(*messages.ROLES, load_default="user")
    content = _content(required=True)
    client_id = _ruled(fields.String, rules.client_id, allow_none=True)
    parent_id = _text(
        128, allow_none=True, metadata={"description": "The message that this one answers, if not the newest."}
    )
    type = _text(32, blank=False)
    parts = _list()
    raw = _object()
    status = _choice(*messages.STATUSES)
    model = _label()
    tokens_used = _whole(0, allow_none=True)
    usage = _object()
    latency_ms = _ruled(fields.Float, rules.milliseconds, allow_none=True)
    action_type = _label()
    action_params = _any()
    action_result = _any()
    action_status = _label()
    component_type = _label()
    component_data = _any()
    attachments = _list()
    contexts = _list()
    metadata = _object()


class MessageOfSnapshot(MessageIn):
    """A message as a client holds it; what the server keeps itself may be sent back and is not taken."""

    role = _choice(*messages.ROLES, required=True)
    id = _text(128, allow_none=True)
    created_at = _ruled(fields.String, rules.moment, allow_none=True)
    conversation_id = _any()
    seq = _any()
    version = _any()
    rating = _any()
    feedback = _any()
    updated_at = _any()
    edited_at = _any()


class ConversationIn(_Fields):
    """A conversation to create."""

    title = _text(conversations.MAX_TITLE_LENGTH, allow_none=True, **_title)
    id = _own_id(allow_none=True, **_id)
    messages = fields.List(fields.Nested(MessageOfSnapshot))
    temporary = _ruled(fields.Boolean, rules.boolean)


class ConversationPatch(_Fields):
    """Fields of a conversation to change."""

    title = _text(conversations.MAX_TITLE_LENGTH, allow_none=True, **_title)
    status = _choice("active", "archived", "resolved")
    expected_version = _whole(0, allow_none=True)


class Snapshot(_Fields):
    """A client's copy of a conversation."""

    title = _text(conversations.MAX_TITLE_LENGTH, allow_none=True, **_title)
    status = _choice("active", "archived", "resolved")
    messages = fields.List(fields.Nested(MessageOfSnapshot))
    base_version = _whole(0, allow_none=True, metadata={"description": "The version that the copy was made from."})
    force_overwrite = _ruled(fields.Boolean, rules.boolean)


class MessagePatch(Form):
    """What of a message to change."""

    content = _content()
    metadata = _object()
    expected_version = _whole(0, allow_none=True)


class FeedbackIn(Form):
    """What the user thinks of a message."""

    rating = _ruled(
        fields.Raw,
        messages.rating_rule,
        required=True,
        allow_none=True,
        metadata={"oneOf": [{"enum": ["up", "down", None]}, {"type": "integer", "minimum": -10, "maximum": 10}]},
    )
    reason = _label()
    comment = _text(10_000, allow_none=True)


class Empty(Form):
    """No members."""


class Query(Form):
    """The query string of a read."""

    min_version = _ruled(fields.Integer, rules.offset, metadata={"description": "Be at least as new as this version."})


def _limit(default: int) -> AnyField:
    described = {"minimum": 1, "description": f"How many, {default} if not given; more than 100 means 100."}
    return _ruled(fields.Integer, rules.page_limit(100), metadata=described)


class ListQuery(Query):
    """Which conversations, and which page of them."""

    limit = _limit(20)
    cursor = _text(4096)
    offset = _ruled(fields.Integer, rules.offset, metadata={"minimum": 0})
    status = _choice("active", "archived", "resolved", "deleted", "all")
    starred = _ruled(fields.Boolean, lambda value: _truth(value))
    tag = _text(64)
    folder = _text(255)
    context_type = _text(255)
    context_id = _text(255)
    order = _choice(
        *(sign + name for name in ("last_activity_at", "updated_at", "created_at", "title") for sign in ("-", ""))
    )
    include = _choice("messages")


class ConversationQuery(Query):
    """How many of the newest messages come along."""

    limit = _limit(50)
    before = _text(4096)


class MessagesQuery(ConversationQuery):
    """Which page of the messages."""

    after = _text(4096)
    branch = _text(128)


class DeleteQuery(Form):
    """How to delete."""

    permanent = _ruled(fields.Boolean, lambda value: _truth(value))


def _truth(value: Any) -> bool:
    words: Mapping[str, bool] = {"true": True, "1": True, "false": False, "0": False}
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise rules.Invalid("Must be true or false.")


def _moment(**options: Any) -> AnyField:
    return fields.String(metadata={"format": "date-time"}, **options)


class ConversationOut(Schema):
    """One conversation, without its messages."""

    id = fields.UUID(required=True)
    client_id = fields.String(required=True, allow_none=True)
    org_id = fields.String(required=True, allow_none=True)
    user_id = fields.String(required=True)
    title = fields.String(required=True)
    title_source = fields.String(required=True, validate=validate.OneOf(("default", "auto", "user")))
    preview = fields.String(required=True, allow_none=True)
    status = fields.String(required=True, validate=validate.OneOf(("active", "archived", "resolved", "deleted")))
    starred = fields.Boolean(required=True)
    folder = fields.String(required=True, allow_none=True)
    tags = fields.List(fields.String(), required=True)
    context_type = fields.String(required=True, allow_none=True)
    context_id = fields.String(required=True, allow_none=True)
    page_context = fields.String(required=True, allow_none=True)
    metadata = fields.Dict(required=True, allow_none=True)
    temporary = fields.Boolean(required=True)
    message_count = fields.Integer(required=True)
    version = fields.Integer(required=True)
    checksum = fields.String(required=True)
    etag = fields.String(required=True)
    created_at = _moment(required=True)
    updated_at = _moment(required=True)
    last_message_at = _moment(required=True, allow_none=True)
    last_activity_at = _moment(required=True)
    archived_at = _moment(required=True, allow_none=True)
    resolved_at = _moment(required=True, allow_none=True)
    deleted_at = _moment(required=True, allow_none=True)


class FeedbackOut(Schema):
    """What the owner thinks of a message."""

    rating = fields.Raw(required=True)
    reason = fields.String(required=True, allow_none=True)
    comment = fields.String(required=True, allow_none=True)


def _json_out() -> AnyField:
    return fields.Raw(required=True, allow_none=True)


class MessageOut(Schema):
    """One message."""

    id = fields.UUID(required=True)
    conversation_id = fields.UUID(required=True)
    client_id = fields.String(required=True, allow_none=True)
    seq = fields.Integer(required=True, metadata={"minimum": 1})
    parent_id = fields.UUID(required=True, allow_none=True)
    version = fields.Integer(required=True)
    role = fields.String(required=True, validate=validate.OneOf(messages.ROLES))
    type = fields.String(required=True)
    content = fields.Raw(
        required=True,
        metadata={"oneOf": [{"type": "string"}, {"type": "array", "items": {"$ref": "#/components/schemas/Part"}}]},
    )
    parts = _json_out()
    raw = fields.Dict(required=True, allow_none=True)
    status = fields.String(required=True, validate=validate.OneOf(messages.STATUSES))
    action_type = fields.String(required=True, allow_none=True)
    action_params = _json_out()
    action_result = _json_out()
    action_status = fields.String(required=True, allow_none=True)
    component_type = fields.String(required=True, allow_none=True)
    component_data = _json_out()
    attachments = fields.List(fields.Raw(), required=True)
    contexts = fields.List(fields.Raw(), required=True)
    metadata = fields.Dict(required=True, allow_none=True)
    model = fields.String(required=True, allow_none=True)
    tokens_used = fields.Integer(required=True, allow_none=True)
    usage = fields.Dict(required=True, allow_none=True)
    latency_ms = fields.Float(required=True, allow_none=True)
    rating = _json_out()
    feedback = fields.Nested(FeedbackOut, required=True, allow_none=True)
    created_at = _moment(required=True)
    updated_at = _moment(required=True)
    edited_at = _moment(required=True, allow_none=True)


class _Page(Schema):
    next_cursor = fields.String(required=True, allow_none=True)
    has_more = fields.Boolean(required=True)


class ListedConversation(ConversationOut):
    """A conversation in a list, with its newest messages where the query asked for them."""

    messages = fields.List(fields.Nested(MessageOut))


class ConversationPage(_Page):
    """Some conversations, and where the next ones begin."""

    conversations = fields.List(fields.Nested(ListedConversation), required=True)


class MessagePage(_Page):
    """Some messages, oldest first, and where the next ones begin."""

    messages = fields.List(fields.Nested(MessageOut), required=True)
    version = fields.Integer(required=True)


class ConversationWithMessages(ConversationOut):
    """A conversation with its newest messages, oldest first."""

    messages = fields.List(fields.Nested(MessageOut), required=True)
    next_cursor = fields.String(required=True, allow_none=True)
    has_more = fields.Boolean(required=True)


class SavedSnapshot(ConversationWithMessages):
    """A conversation after its snapshot was saved."""

    outcome = fields.String(required=True, validate=validate.OneOf(("saved", "merged", "overwritten")))
    conflicts = fields.List(fields.Dict(), required=True)


class Deleted(Schema):
    """What was deleted."""

    success = fields.Boolean(required=True)
    id = fields.String(required=True)
    permanent = fields.Boolean(required=True)


class Claimed(Schema):
    """How many conversations moved."""

    claimed = fields.Integer(required=True)


class Problem(Schema):
    """An error, as RFC 9457 describes it."""

    type = fields.String(required=True)
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    detail = fields.String(required=True)
    code = fields.String(required=True)
    request_id = fields.String(required=True)
    retryable = fields.Boolean(required=True)
    errors = fields.Dict()
    current = fields.Nested(ConversationOut)
