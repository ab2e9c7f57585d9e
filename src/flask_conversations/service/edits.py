"""The rules of changing stored messages: edit, rate, delete, pop, clear."""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping, Sequence
from typing import Any

from .. import signals
from ..errors import MessageNotFound, TurnInProgress, VersionConflict
from ..ids import now
from ..schemas import conversations as conversation_schema
from ..schemas import messages as schema
from ..schemas import rules
from ..schemas.common import preview_of
from ..schemas.types import Message
from ..store import branches as branch_rows
from ..store import conversations as conversation_rows
from ..store import messages as rows
from ..store import turns as turn_rows
from ..store.rows import ConversationRow, MessageRow
from ..tables import LIVE_STATES, MAIN
from .guards import GuardContext, guarded
from .unit_of_work import UnitOfWork

UNCHANGED: Any = object()
"""The value of a field that an edit does not change; None clears it."""


def update(
    work: UnitOfWork,
    conversation_id: str,
    message_id: str,
    *,
    content: str | Sequence[Any] | None,
    metadata: Mapping[str, Any] | None,
    expected_version: int | None,
) -> Message:
    """Edit a message's content or metadata in place."""
    expected = conversation_schema.expected(expected_version)
    values = _columns(work, content, metadata)
    if content is not None and (guards := work.backend.guards()):
        role = get(work, work.store.lock(conversation_id), message_id).role
        item = {"role": role, "content": content, **({} if metadata is UNCHANGED else {"metadata": metadata})}
        item = guarded(guards, item, GuardContext(conversation_id, work.identity))
        values = _columns(work, item.get("content"), item.get("metadata", UNCHANGED))
    return _edit(work, conversation_id, message_id, values, expected, edited=content is not None)


def _columns(work: UnitOfWork, content: Any, metadata: Any) -> dict[str, Any]:
    """The columns that an edit sets."""
    problems = rules.Problems()
    values: dict[str, Any] = {}
    if content is not None:
        max_length = work.config.max_content_length
        problems.errors.update(schema.too_many({"content": content}, work.config.max_parts))
        checked = problems.take("content", rules.content(max_length), content)
        if not problems.errors:
            values.update({"parts": None, **schema.content_columns(checked)})
    if metadata is not UNCHANGED:
        values["metadata"] = problems.take("metadata", rules.optional(rules.json_object), metadata)
    problems.raise_any()
    return values


def rate(
    work: UnitOfWork,
    conversation_id: str,
    message_id: str,
    rating: str | int | None,
    reason: str | None,
    comment: str | None,
) -> Message:
    """Store the owner's rating of a message."""
    problems = rules.Problems()
    values = {
        "rating": problems.take("rating", rules.optional(rules.rating), rating),
        "rating_reason": problems.take("reason", rules.optional(rules.text(rules.MAX_LABEL)), reason),
        "rating_comment": problems.take("comment", rules.optional(rules.text(rules.MAX_COMMENT)), comment),
    }
    problems.raise_any()
    return _edit(work, conversation_id, message_id, values, None, edited=False)


def _edit(
    work: UnitOfWork,
    conversation_id: str,
    message_id: str,
    values: dict[str, Any],
    expected: int | None,
    *,
    edited: bool,
) -> Message:
    conversation = work.store.lock(conversation_id)
    message = get(work, conversation, message_id)
    if expected is not None and not message.version <= expected <= conversation.version:
        raise VersionConflict(current=conversation_schema.dump(conversation))
    if not values:
        return schema.dump(message)
    if edited and message.status in ("streaming", "pending"):
        turn = turn_rows.find(work.store, conversation, "answer_id", message.id)
        if turn is not None and turn.state in LIVE_STATES:
            raise TurnInProgress("This answer is still being written: wait for its end, or cancel the turn.")
    return change(work, conversation, message, values, edited=edited)


def change(
    work: UnitOfWork, conversation: ConversationRow, message: MessageRow, values: Mapping[str, Any], *, edited: bool
) -> Message:
    """Set columns of one message of a locked conversation, update its totals, and increment its version."""
    at = now()
    columns = {**values, "version": conversation.version + 1, "updated_at": at}
    totals: dict[str, Any] = {}
    if edited:
        columns["edited_at"] = at
        # the stored item of a framework would still have the old text
        columns["raw"] = None
        if not (values["content_is_parts"] or message.content_is_parts):
            # parts beside a text, tool calls for example, were not edited
            columns.pop("parts", None)
        columns["digest"] = schema.digest_of({**values, "role": message.role}, message.id)
        totals["checksum"] = conversation.checksum ^ message.digest ^ columns["digest"]
        if message.id == conversation.head_id:
            totals["preview"] = preview_of(values["content"])
    rows.change(work.store, conversation, message, columns)
    conversation_rows.change(work.store, conversation.id, totals)
    stored = rows.one(work.store, conversation.id, message.id)
    assert stored is not None, "the conversation is locked"
    changed = schema.dump(stored)
    work.announce(signals.message_updated, message=changed)
    return changed


def get(work: UnitOfWork, conversation: ConversationRow, message_id: Any) -> MessageRow:
    """The row of a message in *conversation*. Raises `MessageNotFound`."""
    message = rows.one(work.store, conversation.id, message_id)
    if message is None:
        raise MessageNotFound
    return message


def delete_one(work: UnitOfWork, conversation_id: str, message_id: str) -> Message:
    """Remove a message permanently and return it as it was."""
    conversation = work.store.lock(conversation_id)
    return delete(work, conversation, [get(work, conversation, message_id)])[0]


def pop(work: UnitOfWork, conversation_id: str) -> Message | None:
    """Remove the newest message and return it; None if the conversation is empty."""
    conversation = work.store.lock(conversation_id)
    newest = rows.newest(work.store, conversation.id, limit=1)
    return delete(work, conversation, newest.rows)[0] if newest and newest.rows else None


def delete(work: UnitOfWork, conversation: ConversationRow, messages: Sequence[MessageRow]) -> list[Message]:
    """Delete messages of a locked conversation as one step of its version."""
    parents = {message.id: message.parent_id for message in messages}
    new_parents = {message_id: _remaining_ancestor(message_id, parents) for message_id in parents}
    rows.soft_delete(work.store, conversation, messages, new_parents, version=conversation.version + 1, at=now())
    checksum = functools.reduce(operator.xor, (message.digest for message in messages), conversation.checksum)
    head_id = _remaining_ancestor(conversation.head_id, parents)
    if conversation.branched:
        branch_rows.follow(work.store, conversation, new_parents)
    _update_totals(work, conversation, head_id, checksum, conversation.message_count - len(messages))
    deleted = [schema.dump(message) for message in messages]
    for message in deleted:
        work.announce(signals.message_deleted, message=message)
    return deleted


def _update_totals(
    work: UnitOfWork, conversation: ConversationRow, head_id: str | None, checksum: int, count: int, **also: Any
) -> ConversationRow:
    """Update a conversation's counters, head and preview after a deletion, and increment its version."""
    newest = rows.one(work.store, conversation.id, head_id) if head_id else None
    totals = {
        "head_id": head_id,
        "message_count": count,
        "checksum": checksum,
        "preview": preview_of(newest.content) if newest else None,
        "last_message_at": newest.created_at if newest else None,
        **also,
    }
    return conversation_rows.change(work.store, conversation.id, totals)


def clear(work: UnitOfWork, conversation_id: str) -> int:
    """Remove all messages and all branches but `main`, keep the conversation, and return the number of messages."""
    conversation = work.store.lock(conversation_id)
    count = rows.soft_delete_all(work.store, conversation, version=conversation.version + 1, at=now())
    if conversation.branched:
        branch_rows.forget_all(work.store, conversation)
    if count or conversation.branched:
        # announced as an update of the conversation: a signal for each message would have to read them all
        cleared = _update_totals(work, conversation, None, 0, 0, branched=False, branch=MAIN)
        work.announce(signals.conversation_updated, conversation=conversation_schema.dump(cleared))
    return count


def _remaining_ancestor(message_id: str | None, parents: Mapping[str, str | None]) -> str | None:
    """The nearest ancestor that is not deleted."""
    while message_id is not None and message_id in parents:
        message_id = parents[message_id]
    return message_id
