"""The JSON of every noun as types, and the keyword arguments of the service.

The OpenAPI description of answers follows from these types: `Keywords` in `Annotated` adds to them.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeAlias, TypedDict

from . import fields, rules


class Keywords:
    """Keywords of JSON Schema for the annotated type."""

    def __init__(self, **keywords: Any) -> None:
        self.keywords = keywords


Id: TypeAlias = Annotated[str, Keywords(format="uuid")]
Moment: TypeAlias = Annotated[str, Keywords(format="date-time")]
Count: TypeAlias = Annotated[int, Keywords(minimum=0)]
Number: TypeAlias = Annotated[int, Keywords(minimum=1)]
Checksum: TypeAlias = Annotated[str, Keywords(pattern="^[0-9a-f]{16}$")]
Content: TypeAlias = Annotated[Any, Keywords(**rules.content().schema)]
Rating: TypeAlias = Annotated[
    str | int | None,
    Keywords(oneOf=[{"enum": ["up", "down", None]}, {"type": "integer", "minimum": -10, "maximum": 10}]),
]
Role: TypeAlias = Annotated[str, Keywords(enum=[*fields.ROLES])]
TurnState: TypeAlias = Annotated[
    str, Keywords(enum=["idle", "processing", "streaming", "awaiting_approval", "failed", "cancelled"])
]


class Conversation(TypedDict):
    """One conversation, without its messages."""

    id: Id
    client_id: str | None
    org_id: str | None
    user_id: str
    title: str
    title_source: Annotated[str, Keywords(enum=["default", "auto", "user"])]
    preview: str | None
    status: Annotated[str, Keywords(enum=[*fields.STATUSES, "deleted"])]
    starred: bool
    folder: str | None
    tags: list[str]
    context_type: str | None
    context_id: str | None
    page_context: str | None
    metadata: dict[str, Any] | None
    temporary: bool
    message_count: Count
    version: Number
    checksum: Checksum
    etag: str
    created_at: Moment
    updated_at: Moment
    last_message_at: Moment | None
    last_activity_at: Moment
    archived_at: Moment | None
    resolved_at: Moment | None
    deleted_at: Moment | None


class Feedback(TypedDict):
    """The owner's rating of a message."""

    rating: Rating
    reason: str | None
    comment: str | None


class Message(TypedDict):
    """One message."""

    id: Id
    conversation_id: Id
    client_id: str | None
    seq: Number
    parent_id: Id | None
    version: Number
    role: Role
    type: str
    content: Content
    parts: list[Any] | None
    raw: dict[str, Any] | None
    status: Annotated[str, Keywords(enum=[*fields.MESSAGE_STATUSES])]
    action_type: str | None
    action_params: Any
    action_result: Any
    action_status: str | None
    component_type: str | None
    component_data: Any
    attachments: list[Any]
    contexts: list[Any]
    metadata: dict[str, Any] | None
    model: str | None
    tokens_used: int | None
    usage: dict[str, Any] | None
    latency_ms: float | None
    rating: Rating
    created_at: Moment
    updated_at: Moment
    edited_at: Moment | None
    feedback: Feedback | None


class Siblings(TypedDict):
    """The place of a message among those that answer the same one: the 2 and the 3 of "2/3", and the ids of all three."""

    index: Number
    count: Annotated[int, Keywords(minimum=2)]
    ids: list[Id]


SiblingsOfPage: TypeAlias = Annotated[
    dict[Id, Siblings],
    Keywords(description="By message id, where asked for: messages that are one of several answers to the same one."),
]


class Page(TypedDict):
    """Where the next page begins."""

    next_cursor: str | None
    has_more: bool


class ConversationPage(Page):
    """Some conversations, and where the next ones begin."""

    conversations: list[Conversation]


class Branch(TypedDict):
    """One branch: a name for where a path through the messages ends."""

    conversation_id: Id
    name: str
    head_id: Id | None
    active: bool
    created_at: Moment
    preview: str | None


class BranchList(TypedDict):
    """All branches of a conversation, `main` first."""

    branches: list[Branch]


class _MessagePage(Page):
    messages: list[Message]
    version: Number


class MessagePage(_MessagePage, total=False):
    """Some messages of one conversation, oldest first, and where the next ones begin."""

    siblings: SiblingsOfPage


class SaveOutcome(TypedDict):
    """The result of saving a snapshot."""

    conversation: Conversation
    outcome: str
    conflicts: list[dict[str, Any]]


class ConversationWithMessages(Conversation):
    """A conversation and its newest messages, oldest first."""

    messages: list[Message]


class ConversationsWithMessages(Page):
    """Some conversations with their newest messages, and where the next ones begin."""

    conversations: list[ConversationWithMessages]


class Turn(TypedDict):
    """One turn: a question, and the state of its answer."""

    id: Id
    conversation_id: Id
    kind: str
    protocol: str | None
    state: Annotated[
        str, Keywords(enum=["idle", "processing", "streaming", "awaiting_approval", "failed", "cancelled", "waiting"])
    ]
    outcome: Annotated[str | None, Keywords(enum=["completed", "failed", "cancelled", "interrupted", None])]
    question_id: Id | None
    answer_id: Id | None
    error: dict[str, Any] | None
    created_at: Moment
    started_at: Moment | None
    updated_at: Moment
    ended_at: Moment | None


class TurnOutcome(TypedDict):
    """A question, its answer, and the state of the turn."""

    question: Message | None
    answer: Message | None
    state: str
    turn: Turn | None
    replayed: bool
    """Whether an earlier, equal request has begun this turn."""


class State(Page):
    """All that a page needs to show a conversation."""

    conversation: Conversation
    messages: list[Message]
    siblings: SiblingsOfPage
    state: TurnState
    turn: Turn | None
    pending_actions: list[dict[str, Any]]
    waiting: list[dict[str, Any]]
    branches: list[Branch]
    version: Number
    checksum: Checksum


class ConversationFields(TypedDict, total=False):
    """The fields of a conversation that its owner may set, besides the title."""

    starred: bool
    folder: str | None
    tags: Sequence[str]
    context_type: str | None
    context_id: str | None
    page_context: str | None
    metadata: Mapping[str, Any] | None
    status: str


class ConversationChanges(ConversationFields, total=False):
    """The fields of a conversation that its owner may change."""

    title: str | None


class ConversationQuery(TypedDict, total=False):
    """The filters of a list of conversations."""

    status: str
    starred: bool | None
    tag: str | None
    folder: str | None
    context_type: str | None
    context_id: str | None


class MessageFields(TypedDict, total=False):
    """The fields of a message besides role, content and ids."""

    type: str
    parts: Sequence[Any] | None
    raw: Mapping[str, Any] | None
    status: str
    model: str | None
    tokens_used: int | None
    usage: Mapping[str, Any] | None
    latency_ms: float | None
    action_type: str | None
    action_params: Any
    action_result: Any
    action_status: str | None
    component_type: str | None
    component_data: Any
    attachments: Sequence[Any] | None
    contexts: Sequence[Any] | None
    metadata: Mapping[str, Any] | None
    created_at: dt.datetime | str | None
