"""The rows of the store as types: their attributes are the columns that are read, under the names of the catalogue.

A JSON column that users or other programs fill is `Any`: what it holds is checked where it is used.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias

import sqlalchemy as sa

from ..schemas.common import Row

Columns: TypeAlias = "sa.ColumnCollection[str, sa.Column[Any]]"
"""The columns of a table of ours, or of an alias of one."""


class ConversationRow(Row, Protocol):
    """A conversation: all columns that the store reads of one."""

    id: str
    client_id: str | None
    org_id: str
    user_id: str
    title: str | None
    title_source: str
    preview: str | None
    status: str
    starred: bool
    folder: str | None
    tags: Any
    context_type: str | None
    context_id: str | None
    page_context: str | None
    metadata: Any
    temporary: bool
    message_count: int
    version: int
    checksum: int
    created_at: dt.datetime
    updated_at: dt.datetime
    last_message_at: dt.datetime | None
    last_activity_at: dt.datetime
    archived_at: dt.datetime | None
    resolved_at: dt.datetime | None
    deleted_at: dt.datetime | None
    rev: int
    field_versions: Any
    last_seq: int
    head_id: str | None
    branched: bool
    branch: str


class IdentifiedRow(Protocol):
    """The id of a row."""

    id: str


class AdvancedRow(Protocol):
    """The place that `advance` has made for messages, and their owner."""

    id: str
    version: int
    last_seq: int
    previous_head_id: str | None
    org_id: str
    user_id: str


class MessageRow(Row, Protocol):
    """A message: all columns that the store reads of one."""

    id: str
    conversation_id: str
    client_id: str | None
    seq: int
    parent_id: str | None
    version: int
    role: str
    type: str
    content: str
    parts: Any
    raw: Any
    status: str
    action_type: str | None
    action_params: Any
    action_result: Any
    action_status: str | None
    component_type: str | None
    component_data: Any
    attachments: Any
    contexts: Any
    metadata: Any
    model: str | None
    tokens_used: int | None
    usage: Any
    latency_ms: float | None
    rating: str | None
    created_at: dt.datetime
    updated_at: dt.datetime
    edited_at: dt.datetime | None
    rating_reason: str | None
    rating_comment: str | None
    content_is_parts: bool
    digest: int
    fingerprint: str | None

    @property
    def _mapping(self) -> Mapping[Any, Any]:
        """The values by column, as SQLAlchemy has them."""


class Placed(Protocol):
    """A row with the id of a message and its place in the conversation, whatever else was read."""

    id: str
    seq: int


class SavedMessageRow(MessageRow, Protocol):
    """A message that may have been deleted since."""

    deleted_at: dt.datetime | None


class TurnRow(Row, Protocol):
    """A turn: all columns that the store reads of one."""

    id: str
    conversation_id: str
    kind: str
    protocol: str | None
    state: str
    question_id: str | None
    answer_id: str | None
    error: dict[str, Any] | None
    created_at: dt.datetime
    started_at: dt.datetime | None
    updated_at: dt.datetime
    ended_at: dt.datetime | None
    number: int
    request: dict[str, Any] | None
    client_id: str | None
    key: str | None
    fingerprint: str | None
    token: str | None
    cancelled: bool
    calls: list[dict[str, Any]] | None
    dead: bool
    """Whether its lease has ended."""


class BranchRow(Protocol):
    """A branch that is not the active one, or was not."""

    name: str
    head_id: str | None
    created_at: dt.datetime


class ListedBranchRow(BranchRow, Protocol):
    """A branch with the beginning of the text of its tip."""

    text: str | None


class TipRow(Protocol):
    """A conversation and the tip of one of its branches."""

    id: str
    version: int
    branched: bool
    active: bool
    """Whether it is the active branch."""
    known: bool
    """Whether there is such a branch."""
    tip_id: str | None


class SiblingRow(Protocol):
    """A message that answers *parent_id*."""

    id: str
    parent_id: str | None


class PollRow(Protocol):
    """The version of a conversation, and whether one of its turns is dead."""

    id: str
    version: int
    rev: int
    dead: bool


class DeadTurnRow(Protocol):
    """A turn whose lease has ended."""

    id: str
    conversation_id: str


class AnswerRow(Protocol):
    """The answer that was kept for an Idempotency-Key; None as long as the request is at work."""

    fingerprint: str
    answer: Any
