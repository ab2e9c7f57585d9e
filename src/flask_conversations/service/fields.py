"""The fields that a caller may set, as types for the keyword arguments of the service."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict


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
    """What a list of conversations may be narrowed to."""

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
