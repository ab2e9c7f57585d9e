"""marshmallow schemas of what comes over HTTP and, for the OpenAPI description, of what goes out.

Input fields apply the rules of `schemas.rules`, the ones the service applies: a value is judged by one rule on every path.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import EXCLUDE, INCLUDE, RAISE, Schema, fields, post_load, validate

from . import conversations, kinds, messages, rules


class Form(Schema):
    """A JSON object in a request: unknown members are refused."""

    class Meta:
        unknown = RAISE


class _Fields(Form):
    starred = kinds.ruled(fields.Boolean, rules.boolean)
    folder = kinds.label()
    tags = kinds.ruled(
        fields.List,
        rules.tag_list,
        cls_or_instance=fields.String(validate=validate.Length(min=1, max=64)),
        validate=validate.Length(max=50),
        metadata={"description": "Up to 50 different tags."},
    )
    context_type = kinds.label()
    context_id = kinds.label()
    page_context = kinds.text(allow_none=True)
    metadata = kinds.json_object()


_title: dict[str, Any] = {
    "metadata": {
        "description": "None or 'New Conversation' is the default title, which the first user message replaces."
    }
}
_id = {
    "metadata": {
        "description": "A UUID becomes the id; any other string becomes the `client_id`.",
        **kinds.CLIENT_ID,
    }
}


class PartOut(Schema):
    """A part of a content: text, or anything else with a type, which is kept as it is."""

    class Meta:
        unknown = INCLUDE

    type = fields.String(required=True)
    text = fields.String(metadata={"description": "The text of a part of type `text`, which must have one."})


class MessageIn(Form):
    """A message to append."""

    role = kinds.choice(*messages.ROLES, load_default="user")
    content = kinds.content(required=True)
    client_id = kinds.ruled(
        fields.String,
        rules.client_id,
        allow_none=True,
        metadata={
            "description": "Makes a retry safe: the same message with the same id is saved once.",
            **kinds.CLIENT_ID,
        },
    )
    parent_id = kinds.text(
        128, allow_none=True, metadata={"description": "The message that this one answers, if not the newest."}
    )
    type = kinds.text(
        32, blank=False, metadata={"description": "What kind of message this is to the app, `text` if not given."}
    )
    parts = kinds.json_list()
    raw = kinds.json_object(metadata={"description": "A framework's own item, given back equal."})
    status = kinds.choice(*messages.STATUSES, metadata={"description": "`delivered` if not given."})
    model = kinds.label()
    tokens_used = kinds.whole(0, allow_none=True)
    usage = kinds.json_object()
    latency_ms = kinds.ruled(
        fields.Float, rules.milliseconds, allow_none=True, validate=validate.Range(min=0, max=10**15)
    )
    action_type = kinds.label()
    action_params = kinds.json()
    action_result = kinds.json()
    action_status = kinds.label()
    component_type = kinds.label()
    component_data = kinds.json()
    attachments = kinds.json_list()
    contexts = kinds.json_list()
    metadata = kinds.json_object()


class MessageOfSnapshot(MessageIn):
    """A message as a client holds it; what the server keeps itself may be sent back and is not taken."""

    role = kinds.choice(*messages.ROLES, required=True)
    id = kinds.text(128, allow_none=True, metadata={"description": "The message's id, or a client id."})
    created_at = kinds.ruled(fields.String, rules.moment, allow_none=True, metadata={"format": "date-time"})
    conversation_id = kinds.echo()
    seq = kinds.echo()
    version = kinds.echo()
    rating = kinds.echo()
    feedback = kinds.echo()
    updated_at = kinds.echo()
    edited_at = kinds.echo()


class ConversationIn(_Fields):
    """A conversation to create."""

    title = kinds.text(conversations.MAX_TITLE_LENGTH, allow_none=True, **_title)
    id = kinds.own_id(allow_none=True, **_id)
    messages = fields.List(fields.Nested(MessageOfSnapshot))
    temporary = kinds.ruled(fields.Boolean, rules.boolean)


class ConversationPatch(_Fields):
    """Fields of a conversation to change."""

    title = kinds.text(conversations.MAX_TITLE_LENGTH, allow_none=True, **_title)
    status = kinds.choice("active", "archived", "resolved")
    expected_version = kinds.whole(
        0, allow_none=True, metadata={"description": "Change nothing, and answer 409, if this is not the version."}
    )


class Snapshot(_Fields):
    """A client's copy of a conversation; what the server keeps itself may be sent back and is not taken."""

    title = kinds.text(conversations.MAX_TITLE_LENGTH, allow_none=True, **_title)
    status = kinds.choice("active", "archived", "resolved")
    messages = fields.List(fields.Nested(MessageOfSnapshot))
    base_version = kinds.whole(0, allow_none=True, metadata={"description": "The version that the copy was made from."})
    force_overwrite = kinds.ruled(
        fields.Boolean, rules.boolean, metadata={"description": "Make the copy the truth, whatever others have saved."}
    )
    id = kinds.echo()
    client_id = kinds.echo()
    org_id = kinds.echo()
    user_id = kinds.echo()
    title_source = kinds.echo()
    preview = kinds.echo()
    temporary = kinds.echo()
    message_count = kinds.echo()
    version = kinds.echo()
    checksum = kinds.echo()
    etag = kinds.echo()
    created_at = kinds.echo()
    updated_at = kinds.echo()
    last_message_at = kinds.echo()
    last_activity_at = kinds.echo()
    archived_at = kinds.echo()
    resolved_at = kinds.echo()
    deleted_at = kinds.echo()
    next_cursor = kinds.echo()
    has_more = kinds.echo()
    outcome = kinds.echo()
    conflicts = kinds.echo()

    @post_load
    def taken(self, body: dict[str, Any], **_: Any) -> dict[str, Any]:
        """The members that a client may set."""
        return {name: value for name, value in body.items() if name not in _KEPT_BY_SERVER}


_KEPT_BY_SERVER = frozenset(Snapshot._declared_fields) - frozenset(
    [*conversations.RULES, "messages", "base_version", "force_overwrite"]
)


class MessagePatch(Form):
    """What of a message to change."""

    content = kinds.content()
    metadata = kinds.json_object()
    expected_version = kinds.whole(
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

    rating = kinds.ruled(
        fields.Raw,
        _rating,
        required=True,
        allow_none=True,
        metadata={"description": "None takes it back.", **_RATING},
    )
    reason = kinds.label()
    comment = kinds.text(10_000, allow_none=True)


class BranchIn(Form):
    """A branch to create."""

    from_message_id = kinds.text(
        128, blank=False, required=True, metadata={"description": "The message that the branch ends with for now."}
    )
    name = kinds.ruled(
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

    at_message_id = kinds.text(
        128,
        blank=False,
        allow_none=True,
        metadata={"description": "The last message that is copied, the newest of the active branch if not given."},
    )
    title = kinds.text(
        conversations.MAX_TITLE_LENGTH, allow_none=True, metadata={"description": "That of the original if not given."}
    )


class Empty(Form):
    """No members."""


class Query(Form):
    """The query string of a read."""

    min_version = kinds.ruled(
        fields.Integer, rules.offset, metadata={"minimum": 0, "description": "Be at least as new as this version."}
    )


class ListQuery(Query):
    """Which conversations, and which page of them."""

    limit = kinds.limit(20)
    cursor = kinds.text(
        4096, metadata={"description": "The `next_cursor` of the page before, with the same filters and order."}
    )
    offset = kinds.ruled(fields.Integer, rules.offset, metadata={"minimum": 0, "description": "How many to skip."})
    status = kinds.choice(
        "active",
        "archived",
        "resolved",
        "deleted",
        "all",
        metadata={"default": "active", "description": "`deleted` is the trash, `all` is all but the trash."},
    )
    starred = kinds.ruled(fields.Boolean, lambda value: _truth(value))
    tag = kinds.text(64)
    folder = kinds.text(255)
    context_type = kinds.text(255)
    context_id = kinds.text(255)
    order = kinds.choice(
        *(sign + name for name in ("last_activity_at", "updated_at", "created_at", "title") for sign in ("-", "")),
        metadata={"default": "-last_activity_at", "description": "`-` is descending."},
    )
    include = kinds.choice("messages", metadata={"description": "Each conversation with its newest 50 messages."})


class ConversationQuery(Query):
    """How many of the newest messages come along."""

    limit = kinds.limit(50)
    before = kinds.text(4096, metadata={"description": "The messages before this `next_cursor`, message id or seq."})
    include = kinds.choice(
        "siblings", metadata={"description": "Which of several answers to the same message a message is, as 2 of 3."}
    )


class MessagesQuery(ConversationQuery):
    """Which page of the messages."""

    after = kinds.text(4096, metadata={"description": "The messages after this `next_cursor`, message id or seq."})
    branch = kinds.text(
        rules.MAX_BRANCH_NAME, metadata={"description": "The name of a branch, that of the active one if not given."}
    )


class DeleteQuery(Form):
    """How to delete."""

    permanent = kinds.ruled(
        fields.Boolean, lambda value: _truth(value), metadata={"description": "For good, past the trash or out of it."}
    )


def _truth(value: Any) -> bool:
    words: Mapping[str, bool] = {"true": True, "1": True, "false": False, "0": False}
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise rules.Invalid("Must be true or false.")


class Answer(Schema):
    """A JSON object in an answer: later versions may add members."""

    class Meta:
        unknown = EXCLUDE


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
    message_count = kinds.count()
    version = kinds.count(1)
    checksum = fields.String(required=True, metadata={"pattern": "^[0-9a-f]{16}$"})
    etag = fields.String(required=True)
    created_at = kinds.moment(required=True)
    updated_at = kinds.moment(required=True)
    last_message_at = kinds.moment(required=True, allow_none=True)
    last_activity_at = kinds.moment(required=True)
    archived_at = kinds.moment(required=True, allow_none=True)
    resolved_at = kinds.moment(required=True, allow_none=True)
    deleted_at = kinds.moment(required=True, allow_none=True)


class FeedbackOut(Answer):
    """What the owner thinks of a message."""

    rating = fields.Raw(required=True, metadata=_RATING)
    reason = fields.String(required=True, allow_none=True)
    comment = fields.String(required=True, allow_none=True)


def _json_out() -> kinds.AnyField:
    return fields.Raw(required=True, allow_none=True)


class MessageOut(Answer):
    """One message."""

    id = fields.UUID(required=True)
    conversation_id = fields.UUID(required=True)
    client_id = fields.String(required=True, allow_none=True)
    seq = kinds.count(1)
    parent_id = fields.UUID(required=True, allow_none=True)
    version = kinds.count(1)
    role = fields.String(required=True, validate=validate.OneOf(messages.ROLES))
    type = fields.String(required=True)
    content = fields.Raw(required=True, metadata=kinds.CONTENT)
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
    created_at = kinds.moment(required=True)
    updated_at = kinds.moment(required=True)
    edited_at = kinds.moment(required=True, allow_none=True)


class BranchOut(Answer):
    """One branch: a name for where a path through the messages ends."""

    conversation_id = fields.UUID(required=True)
    name = fields.String(required=True)
    head_id = fields.UUID(required=True, allow_none=True)
    active = fields.Boolean(required=True)
    created_at = kinds.moment(required=True)
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

    index = kinds.count(1)
    count = kinds.count(2)
    ids = fields.List(fields.UUID(), required=True)


def siblings_of_page() -> kinds.AnyField:
    described = {
        "description": "By message id, where asked for: those that are one of several answers to the same one."
    }
    return fields.Dict(keys=fields.UUID(), values=fields.Nested(SiblingsOut), metadata=described)


class PagedAnswer(Answer):
    next_cursor = fields.String(required=True, allow_none=True)
    has_more = fields.Boolean(required=True)


class ListedConversation(ConversationOut):
    """A conversation in a list, with its newest messages where the query asked for them."""

    messages = fields.List(fields.Nested(MessageOut))


class ConversationPage(PagedAnswer):
    """Some conversations, and where the next ones begin."""

    conversations = fields.List(fields.Nested(ListedConversation), required=True)


class MessagePage(PagedAnswer):
    """Some messages, oldest first, and where the next ones begin."""

    messages = fields.List(fields.Nested(MessageOut), required=True)
    version = kinds.count(1)
    siblings = siblings_of_page()


class ConversationWithMessages(ConversationOut):
    """A conversation with its newest messages, oldest first."""

    messages = fields.List(fields.Nested(MessageOut), required=True)
    next_cursor = fields.String(required=True, allow_none=True)
    has_more = fields.Boolean(required=True)
    siblings = siblings_of_page()


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

    claimed = kinds.count()


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
