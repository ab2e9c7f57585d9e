"""marshmallow schemas of what comes over HTTP and, for the OpenAPI description, of what goes out.

Input fields apply the rules of `schemas.rules`, the ones the service applies: a value is judged once, whichever way it comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from marshmallow import EXCLUDE, INCLUDE, RAISE, Schema, ValidationError, fields, post_load, validate

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
    return _ruled(fields.Raw, rules.json_list, allow_none=True, metadata={"type": "array", "items": {}}, **options)


def _any(**options: Any) -> AnyField:
    return _ruled(fields.Raw, rules.json_value, allow_none=True, **options)


def _whole(least: int, most: int = rules.MAX_INTEGER, **options: Any) -> AnyField:
    bounds = [validate.Range(min=least, max=most)]
    return _ruled(fields.Integer, rules.integer(least, most), validate=bounds, **options)


def _echo() -> AnyField:
    return _any(metadata={"description": "Kept by the server: may be sent back, is not taken."})


class Form(Schema):
    """A JSON object in a request: unknown members are refused."""

    class Meta:
        unknown = RAISE


class _Fields(Form):
    starred = _ruled(fields.Boolean, rules.boolean)
    folder = _label()
    tags = _ruled(
        fields.List,
        rules.tag_list,
        cls_or_instance=fields.String(validate=validate.Length(min=1, max=64)),
        validate=validate.Length(max=50),
        metadata={"description": "Up to 50 different tags."},
    )
    context_type = _label()
    context_id = _label()
    page_context = _text(allow_none=True)
    metadata = _object()


_CLIENT_ID = {"pattern": "^(?!\\.+$)[A-Za-z0-9._:-]{1,128}$", "maxLength": 128}
"""How a client's own string for a thing looks, for the description."""

_title: dict[str, Any] = {
    "metadata": {
        "description": "None or 'New Conversation' is the default title, which the first user message replaces."
    }
}
_id = {
    "metadata": {
        "description": "A UUID becomes the id; any other string becomes the `client_id`.",
        **_CLIENT_ID,
    }
}


def _own_id(**options: Any) -> AnyField:
    def rule(value: Any) -> str:
        return rules.uuid_or_none(value) or rules.conversation_client_id(value)

    return _ruled(fields.String, rule, **options)


_CONTENT = {"oneOf": [{"type": "string"}, {"type": "array", "items": {"$ref": "#/components/schemas/Part"}}]}


def _content(**options: Any) -> AnyField:
    return _ruled(fields.Raw, messages.content_rule, metadata=_CONTENT, **options)


class PartOut(Schema):
    """A part of a content: text, or anything else with a type, which is kept as it is."""

    class Meta:
        unknown = INCLUDE

    type = fields.String(required=True)
    text = fields.String(metadata={"description": "The text of a part of type `text`, which must have one."})


class MessageIn(Form):
    """A message to append."""

    role = _choice(*messages.ROLES, load_default="user")
    content = _content(required=True)
    client_id = _ruled(
        fields.String,
        rules.client_id,
        allow_none=True,
        metadata={"description": "Makes a retry safe: the same message with the same id is saved once.", **_CLIENT_ID},
    )
    parent_id = _text(
        128, allow_none=True, metadata={"description": "The message that this one answers, if not the newest."}
    )
    type = _text(
        32, blank=False, metadata={"description": "What kind of message this is to the app, `text` if not given."}
    )
    parts = _list()
    raw = _object(metadata={"description": "A framework's own item, given back equal."})
    status = _choice(*messages.STATUSES, metadata={"description": "`delivered` if not given."})
    model = _label()
    tokens_used = _whole(0, allow_none=True)
    usage = _object()
    latency_ms = _ruled(fields.Float, rules.milliseconds, allow_none=True, validate=validate.Range(min=0, max=10**15))
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
    id = _text(128, allow_none=True, metadata={"description": "The message's id, or a client id."})
    created_at = _ruled(fields.String, rules.moment, allow_none=True, metadata={"format": "date-time"})
    conversation_id = _echo()
    seq = _echo()
    version = _echo()
    rating = _echo()
    feedback = _echo()
    updated_at = _echo()
    edited_at = _echo()


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
    expected_version = _whole(
        0, allow_none=True, metadata={"description": "Change nothing, and answer 409, if this is not the version."}
    )


class Snapshot(_Fields):
    """A client's copy of a conversation; what the server keeps itself may be sent back and is not taken."""

    title = _text(conversations.MAX_TITLE_LENGTH, allow_none=True, **_title)
    status = _choice("active", "archived", "resolved")
    messages = fields.List(fields.Nested(MessageOfSnapshot))
    base_version = _whole(0, allow_none=True, metadata={"description": "The version that the copy was made from."})
    force_overwrite = _ruled(
        fields.Boolean, rules.boolean, metadata={"description": "Make the copy the truth, whatever others have saved."}
    )
    id = _echo()
    client_id = _echo()
    org_id = _echo()
    user_id = _echo()
    title_source = _echo()
    preview = _echo()
    temporary = _echo()
    message_count = _echo()
    version = _echo()
    checksum = _echo()
    etag = _echo()
    created_at = _echo()
    updated_at = _echo()
    last_message_at = _echo()
    last_activity_at = _echo()
    archived_at = _echo()
    resolved_at = _echo()
    deleted_at = _echo()
    next_cursor = _echo()
    has_more = _echo()
    outcome = _echo()
    conflicts = _echo()

    @post_load
    def taken(self, body: dict[str, Any], **_: Any) -> dict[str, Any]:
        """The members that a client may set."""
        return {name: value for name, value in body.items() if name not in _KEPT_BY_SERVER}


_KEPT_BY_SERVER = frozenset(Snapshot._declared_fields) - frozenset(
    [*conversations.RULES, "messages", "base_version", "force_overwrite"]
)


class MessagePatch(Form):
    """What of a message to change."""

    content = _content()
    metadata = _object()
    expected_version = _whole(
        0,
        allow_none=True,
        metadata={"description": "A version at which the message was seen: 409 if it was changed after that."},
    )


_RATING = {"oneOf": [{"enum": ["up", "down", None]}, {"type": "integer", "minimum": -10, "maximum": 10}]}


def _rating(value: Any) -> Any:
    """The rating as it was given: the service judges it again."""
    messages.rating_rule(value)
    return value


class FeedbackIn(Form):
    """What the user thinks of a message."""

    rating = _ruled(
        fields.Raw,
        _rating,
        required=True,
        allow_none=True,
        metadata={"description": "None takes it back.", **_RATING},
    )
    reason = _label()
    comment = _text(10_000, allow_none=True)


class BranchIn(Form):
    """A branch to create."""

    from_message_id = _text(
        128, blank=False, required=True, metadata={"description": "The message that the branch ends with for now."}
    )
    name = _ruled(
        fields.String,
        rules.branch_name,
        allow_none=True,
        validate=validate.Length(min=1, max=rules.MAX_BRANCH_NAME),
        metadata={
            "description": "`branch-2`, `branch-3`, ... if not given. No control characters, no `/`, no id of a message."
        },
    )


class ForkIn(Form):
    """Where a fork begins, and how it is called."""

    at_message_id = _text(
        128,
        blank=False,
        allow_none=True,
        metadata={"description": "The last message that is copied, the newest of the active branch if not given."},
    )
    title = _text(
        conversations.MAX_TITLE_LENGTH, allow_none=True, metadata={"description": "That of the original if not given."}
    )


class Empty(Form):
    """No members."""


class Query(Form):
    """The query string of a read."""

    min_version = _ruled(
        fields.Integer, rules.offset, metadata={"minimum": 0, "description": "Be at least as new as this version."}
    )


def _limit(default: int) -> AnyField:
    described = {"minimum": 1, "default": default, "description": "How many; more than 100 means 100."}
    return _ruled(fields.Integer, rules.page_limit(100), metadata=described)


class ListQuery(Query):
    """Which conversations, and which page of them."""

    limit = _limit(20)
    cursor = _text(
        4096, metadata={"description": "The `next_cursor` of the page before, with the same filters and order."}
    )
    offset = _ruled(fields.Integer, rules.offset, metadata={"minimum": 0, "description": "How many to skip."})
    status = _choice(
        "active",
        "archived",
        "resolved",
        "deleted",
        "all",
        metadata={"default": "active", "description": "`deleted` is the trash, `all` is all but the trash."},
    )
    starred = _ruled(fields.Boolean, lambda value: _truth(value))
    tag = _text(64)
    folder = _text(255)
    context_type = _text(255)
    context_id = _text(255)
    order = _choice(
        *(sign + name for name in ("last_activity_at", "updated_at", "created_at", "title") for sign in ("-", "")),
        metadata={"default": "-last_activity_at", "description": "`-` is descending."},
    )
    include = _choice("messages", metadata={"description": "Each conversation with its newest 50 messages."})


class ConversationQuery(Query):
    """How many of the newest messages come along."""

    limit = _limit(50)
    before = _text(4096, metadata={"description": "The messages before this `next_cursor`, message id or seq."})
    include = _choice(
        "siblings", metadata={"description": "Which of several answers to the same message a message is, as 2 of 3."}
    )


class MessagesQuery(ConversationQuery):
    """Which page of the messages."""

    after = _text(4096, metadata={"description": "The messages after this `next_cursor`, message id or seq."})
    branch = _text(
        rules.MAX_BRANCH_NAME, metadata={"description": "The name of a branch, that of the active one if not given."}
    )


class DeleteQuery(Form):
    """How to delete."""

    permanent = _ruled(
        fields.Boolean, lambda value: _truth(value), metadata={"description": "For good, past the trash or out of it."}
    )


def _truth(value: Any) -> bool:
    words: Mapping[str, bool] = {"true": True, "1": True, "false": False, "0": False}
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise rules.Invalid("Must be true or false.")


def _moment(**options: Any) -> AnyField:
    return fields.String(metadata={"format": "date-time"}, **options)


class Answer(Schema):
    """A JSON object in an answer: later versions may add members."""

    class Meta:
        unknown = EXCLUDE


def _count(least: int = 0) -> AnyField:
    return fields.Integer(required=True, metadata={"minimum": least})


class ConversationOut(Answer):
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
    message_count = _count()
    version = _count(1)
    checksum = fields.String(required=True, metadata={"pattern": "^[0-9a-f]{16}$"})
    etag = fields.String(required=True)
    created_at = _moment(required=True)
    updated_at = _moment(required=True)
    last_message_at = _moment(required=True, allow_none=True)
    last_activity_at = _moment(required=True)
    archived_at = _moment(required=True, allow_none=True)
    resolved_at = _moment(required=True, allow_none=True)
    deleted_at = _moment(required=True, allow_none=True)


class FeedbackOut(Answer):
    """What the owner thinks of a message."""

    rating = fields.Raw(required=True, metadata=_RATING)
    reason = fields.String(required=True, allow_none=True)
    comment = fields.String(required=True, allow_none=True)


def _json_out() -> AnyField:
    return fields.Raw(required=True, allow_none=True)


class MessageOut(Answer):
    """One message."""

    id = fields.UUID(required=True)
    conversation_id = fields.UUID(required=True)
    client_id = fields.String(required=True, allow_none=True)
    seq = _count(1)
    parent_id = fields.UUID(required=True, allow_none=True)
    version = _count(1)
    role = fields.String(required=True, validate=validate.OneOf(messages.ROLES))
    type = fields.String(required=True)
    content = fields.Raw(required=True, metadata=_CONTENT)
    parts = fields.Raw(required=True, allow_none=True, metadata={"type": "array", "items": {}})
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
    rating = fields.Raw(required=True, metadata=_RATING)
    feedback = fields.Nested(FeedbackOut, required=True, allow_none=True)
    created_at = _moment(required=True)
    updated_at = _moment(required=True)
    edited_at = _moment(required=True, allow_none=True)


class BranchOut(Answer):
    """One branch: a name for where a path through the messages ends."""

    conversation_id = fields.UUID(required=True)
    name = fields.String(required=True)
    head_id = fields.UUID(required=True, allow_none=True)
    active = fields.Boolean(required=True)
    created_at = _moment(required=True)
    preview = fields.String(required=True, allow_none=True)


class BranchList(Answer):
    """All branches of a conversation, `main` first."""

    branches = fields.List(fields.Nested(BranchOut), required=True)


class BranchDeleted(Answer):
    """Which branch was forgotten."""

    success = fields.Boolean(required=True)
    conversation_id = fields.UUID(required=True)
    name = fields.String(required=True)


class SiblingsOut(Answer):
    """Which of the messages that answer the same one a message is."""

    index = _count(1)
    count = _count(2)
    ids = fields.List(fields.UUID(), required=True)


def _siblings() -> AnyField:
    described = {
        "description": "By message id, where asked for: those that are one of several answers to the same one."
    }
    return fields.Dict(keys=fields.UUID(), values=fields.Nested(SiblingsOut), metadata=described)


class _Page(Answer):
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
    version = _count(1)
    siblings = _siblings()


class ConversationWithMessages(ConversationOut):
    """A conversation with its newest messages, oldest first."""

    messages = fields.List(fields.Nested(MessageOut), required=True)
    next_cursor = fields.String(required=True, allow_none=True)
    has_more = fields.Boolean(required=True)
    siblings = _siblings()


class SavedSnapshot(ConversationWithMessages):
    """A conversation after its snapshot was saved."""

    outcome = fields.String(required=True, validate=validate.OneOf(("saved", "merged", "overwritten")))
    conflicts = fields.List(
        fields.Dict(), required=True, metadata={"description": "Empty: what conflicts is answered with 409."}
    )


class Deleted(Answer):
    """What was deleted."""

    success = fields.Boolean(required=True)
    id = fields.String(required=True)
    permanent = fields.Boolean(required=True)


class Claimed(Answer):
    """How many conversations moved."""

    claimed = _count()


class Problem(Answer):
    """An error, as RFC 9457 describes it."""

    type = fields.String(required=True)
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    detail = fields.String(required=True)
    code = fields.String(required=True)
    request_id = fields.String(required=True)
    retryable = fields.Boolean(required=True)
    errors = fields.Dict(metadata={"description": "What is wrong, by field, nested the way the input was nested."})
    current = fields.Nested(
        ConversationOut, metadata={"description": "The conversation as it is now, with 409 and 412."}
    )
