"""The question of a turn: a new one, an edited one, or one that is answered again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import ClientIdConflict, ValidationFailed
from ...schemas import messages as schema
from ...schemas.common import preview_of
from ...schemas.types import Message
from ...store import conversations as conversation_rows
from ...store import messages as rows
from ...store.rows import ConversationRow, MessageRow
from .. import edits
from .. import messages as message_rules
from ..unit_of_work import UnitOfWork
from .types import EDIT, HOST, RECORD, SEND, TurnRequest


def put(work: UnitOfWork, conversation: ConversationRow, kind: str, stored: Mapping[str, Any]) -> Message | None:
    """Make the question the newest message of the active branch."""
    row, message_id = stored["row"], stored["message_id"]
    if kind in (SEND, HOST) and row is not None:
        return message_rules.append(work, conversation.id, dict(row))
    if kind == EDIT:
        return _put_edited(work, conversation, edits.get(work, conversation, message_id), dict(row))
    if kind == RECORD:
        newest = rows.newest(work.store, conversation.id, limit=1)
        return schema.dump(newest.rows[0]) if newest and newest.rows else None
    question = _question_before(work, conversation, message_id)
    if question.id != conversation.head_id:
        _move_head(work, conversation, question.id, question.content)
    return schema.dump(question)


def check(work: UnitOfWork, conversation: ConversationRow, request: TurnRequest, row: Mapping[str, Any] | None) -> None:
    """Check a queued request early. Raises the error that `put` would raise later."""
    if request.kind == EDIT:
        _check_is_question(edits.get(work, conversation, request.message_id))
    elif request.message_id is not None:
        _question_before(work, conversation, request.message_id)
    if row is None:
        return
    if row.get("parent_id") and rows.one(work.store, conversation.id, row["parent_id"]) is None:
        raise ValidationFailed({"parent_id": ["There is no such message in this conversation."]})
    if rows.one(work.store, conversation.id, row["id"]) is not None:
        raise ClientIdConflict("This id is taken.")


def _put_edited(work: UnitOfWork, conversation: ConversationRow, original: MessageRow, row: dict[str, Any]) -> Message:
    """Store the edited question as a sibling of *original*, which keeps its own branch."""
    _check_is_question(original)
    version = conversation.version + 1
    _move_head(work, conversation, original.parent_id, None)
    message = message_rules.append(work, conversation.id, row)
    conversation_rows.set_version(work.store, conversation, version)
    rows.set_version(work.store, conversation, version)
    message["version"] = version
    return message


def _move_head(work: UnitOfWork, conversation: ConversationRow, head_id: str | None, content: str | None) -> None:
    preview = preview_of(content) if content is not None else conversation.preview
    values = {"head_id": head_id, "branched": True, "preview": preview}
    conversation_rows.change(work.store, conversation.id, values)


def _question_before(work: UnitOfWork, conversation: ConversationRow, message_id: str | None) -> MessageRow:
    """The message itself if it is a question, else the question that it answers."""
    found = edits.get(work, conversation, message_id or conversation.head_id)
    while found.role != "user":
        if found.parent_id is None:
            raise ValidationFailed({"message_id": ["There is no question before this message."]})
        found = edits.get(work, conversation, found.parent_id)
    return found


def _check_is_question(message: MessageRow) -> None:
    if message.role != "user":
        raise ValidationFailed({"message_id": ["Only a question can be edited: this is an answer."]})
