"""The JSON of every noun as types: what the service returns, and what REST, cache and export carry."""

from __future__ import annotations

from typing import Any, TypedDict


class Conversation(TypedDict):
    """One conversation, without its messages."""

    id: str
    client_id: str | None
    org_id: str | None
    user_id: str
    title: str
    title_source: str
    preview: str | None
    status: str
    starred: bool
    folder: str | None
    tags: list[str]
    context_type: str | None
    context_id: str | None
    page_context: str | None
    metadata: dict[str, Any] | None
    temporary: bool
    message_count: int
    version: int
    checksum: str
    etag: str
    created_at: str
    updated_at: str
    last_message_at: str | None
    last_activity_at: str
    archived_at: str | None
    resolved_at: str | None
    deleted_at: str | None


class Feedback(TypedDict):
    """What the owner thinks of a message."""

    rating: str | int
    reason: str | None
    comment: str | None


class Message(TypedDict):
    """One message of a conversation."""

    id: str
    conversation_id: str
    client_id: str | None
    seq: int
    parent_id: str | None
    version: int
    role: str
    type: str
    content: Any
    parts: list[Any] | None
    raw: Any
    status: str
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
    rating: str | int | None
    feedback: Feedback | None
    created_at: str
    updated_at: str
    edited_at: str | None


class ConversationPage(TypedDict):
    """Some conversations, and where the next ones begin."""

    conversations: list[Conversation]
    next_cursor: str | None
    has_more: bool


class Branch(TypedDict):
    """One branch of a conversation: a name for where a path through its messages ends."""

    conversation_id: str
    name: str
    head_id: str | None
    active: bool
    created_at: str
    preview: str | None


class BranchList(TypedDict):
    """All branches of a conversation, `main` first."""

    branches: list[Branch]


class Siblings(TypedDict):
    """Which of the messages that answer the same one this is: the 2 and the 3 of "2/3", and the ids of all three."""

    index: int
    count: int
    ids: list[str]


class _MessagePage(TypedDict):
    messages: list[Message]
    next_cursor: str | None
    has_more: bool
    version: int


class MessagePage(_MessagePage, total=False):
    """Some messages of one conversation, oldest first, and where the next ones begin."""

    siblings: dict[str, Siblings]
    """By message id, where they were asked for."""


class SaveOutcome(TypedDict):
    """What became of a saved snapshot."""

    conversation: Conversation
    outcome: str
    conflicts: list[dict[str, Any]]


class ConversationWithMessages(Conversation):
    """A conversation and its newest messages, oldest first."""

    messages: list[Message]


class ConversationsWithMessages(TypedDict):
    """Some conversations with their newest messages, and where the next ones begin."""

    conversations: list[ConversationWithMessages]
    next_cursor: str | None
    has_more: bool


class Turn(TypedDict):
    """One turn: a question, and what became of answering it."""

    id: str
    conversation_id: str
    kind: str
    protocol: str | None
    state: str
    outcome: str | None
    question_id: str | None
    answer_id: str | None
    error: dict[str, Any] | None
    created_at: str
    started_at: str | None
    updated_at: str
    ended_at: str | None


class TurnOutcome(TypedDict):
    """What has become of a question by now."""

    question: Message | None
    answer: Message | None
    state: str
    turn: Turn | None
    replayed: bool
    """Whether an earlier, equal request has begun this turn."""


class State(TypedDict):
    """The newest messages of a conversation, what goes on in it, and what is waited for."""

    conversation: Conversation
    messages: list[Message]
    next_cursor: str | None
    has_more: bool
    siblings: dict[str, Siblings]
    state: str
    turn: Turn | None
    pending_actions: list[dict[str, Any]]
    waiting: list[dict[str, Any]]
    branches: list[Branch]
    version: int
    checksum: str
