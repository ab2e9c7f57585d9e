"""Forms of what is asked of turns, and of what is told of them."""

from __future__ import annotations

from marshmallow import fields, validate

from . import kinds, rules
from .forms import Answer, BranchOut, ConversationOut, Empty, Form, MessageIn, MessageOut, Query, siblings_of_page

__all__ = ["ApproveIn", "EditIn", "Empty", "RegenerateIn", "SendIn", "StateOut", "StateQuery", "StreamQuery"]

STATES = ("idle", "processing", "streaming", "awaiting_approval", "failed", "cancelled")
PROTOCOLS = ("events", "ui")


class StreamQuery(Form):
    """How a stream of events is spelled."""

    protocol = kinds.choice(
        *PROTOCOLS,
        metadata={"description": "`ui` is the AI SDK's UI message stream; else that which the turn began with."},
    )


class StateQuery(Query):
    """How much of a conversation's state is wanted."""

    limit = kinds.limit(50)


class SendIn(MessageIn):
    """A question to be answered."""

    role = kinds.choice("user", load_default="user")


class EditIn(Form):
    """A question put differently."""

    message_id = kinds.text(
        128, blank=False, required=True, metadata={"description": "The question as it was asked first."}
    )
    content = kinds.content(required=True)
    client_id = MessageIn._declared_fields["client_id"]
    attachments = MessageIn._declared_fields["attachments"]
    metadata = MessageIn._declared_fields["metadata"]


class RegenerateIn(Form):
    """What is to be answered again."""

    message_id = kinds.text(
        128,
        blank=False,
        allow_none=True,
        metadata={"description": "An answer or its question; the newest if not given."},
    )


class ApproveIn(Form):
    """What the user has decided of tool calls."""

    tool_call_ids = kinds.ruled(
        fields.List,
        rules.tool_call_ids,
        cls_or_instance=fields.String(validate=validate.Length(min=1, max=255)),
        required=True,
        validate=validate.Length(min=1, max=100),
    )
    approved = kinds.ruled(fields.Boolean, rules.boolean, load_default=True)


class TurnOut(Answer):
    """A turn."""

    id = fields.UUID(required=True)
    conversation_id = fields.UUID(required=True)
    kind = fields.String(required=True)
    protocol = fields.String(required=True, allow_none=True)
    state = fields.String(required=True, validate=validate.OneOf((*STATES, "waiting")))
    outcome = fields.String(
        required=True,
        allow_none=True,
        validate=validate.OneOf(("completed", "failed", "cancelled", "interrupted", None)),
    )
    question_id = fields.UUID(required=True, allow_none=True)
    answer_id = fields.UUID(required=True, allow_none=True)
    error = fields.Dict(required=True, allow_none=True)
    created_at = kinds.moment(required=True)
    started_at = kinds.moment(required=True, allow_none=True)
    updated_at = kinds.moment(required=True)
    ended_at = kinds.moment(required=True, allow_none=True)


class StateOut(Answer):
    """All that a page needs to show a conversation."""

    conversation = fields.Nested(ConversationOut, required=True)
    messages = fields.List(fields.Nested(MessageOut), required=True)
    next_cursor = fields.String(required=True, allow_none=True)
    has_more = fields.Boolean(required=True)
    siblings: kinds.AnyField = siblings_of_page()
    state = fields.String(required=True, validate=validate.OneOf(STATES))
    turn = fields.Nested(TurnOut, required=True, allow_none=True)
    pending_actions = fields.List(fields.Dict(), required=True)
    waiting = fields.List(fields.Dict(), required=True)
    branches = fields.List(fields.Nested(BranchOut), required=True)
    version = kinds.count(1)
    checksum = fields.String(required=True, metadata={"pattern": "^[0-9a-f]{16}$"})
