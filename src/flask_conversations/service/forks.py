"""The rules of forks: a new conversation that begins with copies of another one's messages."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from .. import signals
from ..errors import ValidationFailed
from ..history import SUMMARY
from ..ids import new_id
from ..schemas import conversations as schema
from ..schemas import messages as message_schema
from ..schemas.common import preview_of, title_from
from ..schemas.types import Conversation
from ..store import branches as branch_rows
from ..store import conversations as rows
from ..store import messages as message_rows
from ..store.rows import ConversationRow, MessageRow
from .conversations import initial_columns
from .unit_of_work import UnitOfWork

_COPIED_COLUMNS = ("folder", "tags", "context_type", "context_id", "page_context", "temporary", "title", "title_source")


def fork(work: UnitOfWork, conversation_id: str, at_message_id: str | None, *, title: str | None) -> Conversation:
    """Create a conversation with copies of the messages up to and including one, by default the newest."""
    given = schema.changes({} if title is None else {"title": title})
    last = _last_of_fork(work, conversation_id, at_message_id)
    # read after the message: a conversation without branches then has no other path to that message
    source = work.store.get(conversation_id)
    if last is None and at_message_id is not None:
        raise ValidationFailed({"at_message_id": ["There is no such message in this conversation."]})
    created = rows.insert(work.store, _fork_of(source, last, given))
    assert created is not None, "the id is new"
    if isinstance(created.tags, list) and created.tags:
        rows.set_tags(work.store, created, created.tags)
    copies = _Copies(created)
    for batch in branch_rows.path(work.store, source, last) if last is not None else ():
        _insert_copies(work, copies.of(batch))
    forked = schema.dump(rows.complete(work.store, created, copies.totals()))
    work.announce(signals.conversation_created, conversation=forked)
    return forked


def _last_of_fork(work: UnitOfWork, conversation_id: str, message_id: str | None) -> MessageRow | None:
    if message_id is not None:
        return message_rows.one(work.store, conversation_id, message_id)
    newest = message_rows.newest(work.store, conversation_id, limit=1)
    return newest.rows[0] if newest is not None and newest.rows else None


def _fork_of(source: ConversationRow, last: MessageRow | None, given: Mapping[str, Any]) -> dict[str, Any]:
    metadata = source.metadata if isinstance(source.metadata, dict) else {}
    origin = {"conversation_id": source.id, "message_id": last.id if last is not None else None}
    kept = {name: getattr(source, name) for name in _COPIED_COLUMNS}
    values = {**kept, **given, "metadata": {**metadata, "forked_from": origin}}
    return {**initial_columns(values), "id": new_id(), "org_id": source.org_id, "user_id": source.user_id}


def _insert_copies(work: UnitOfWork, copies: list[dict[str, Any]]) -> None:
    message_rows.insert(work.store, copies)
    if signals.message_saved.receivers:
        for row in copies:
            message = message_schema.dump([row.get(name) for name in message_schema.STORED])
            work.announce(signals.message_saved, message=message)


class _Copies:
    """Copies of message rows for a new conversation, and its totals."""

    def __init__(self, conversation: ConversationRow) -> None:
        self._conversation = conversation
        self._count = self._checksum = 0
        self._last: dict[str, Any] | None = None
        self._title: str | None = None
        self._seqs: list[int] = []
        """The seqs of the originals, in order: the seq of a copy is its index from 1."""
        self._ids: dict[str, str] = {}

    def of(self, messages: Sequence[MessageRow]) -> list[dict[str, Any]]:
        return [self._copy(message) for message in messages]

    def _copy(self, message: MessageRow) -> dict[str, Any]:
        row: dict[str, Any] = dict(zip(message_schema.STORED, message, strict=True))
        self._seqs.append(row["seq"])
        self._count += 1
        row.update(
            id=self._ids.setdefault(row["id"], new_id()),
            conversation_id=self._conversation.id,
            org_id=self._conversation.org_id,
            user_id=self._conversation.user_id,
            seq=self._count,
            parent_id=self._last["id"] if self._last else None,
            version=self._conversation.version,
            client_id=None,
            fingerprint=None,
            content=message_schema.decode_text(row["content"]),
            metadata=self._summary_metadata(row["metadata"]) if row["type"] == SUMMARY else row["metadata"],
            status="interrupted" if row["status"] in ("streaming", "pending") else row["status"],
        )
        row["digest"] = message_schema.digest_of(row, row["id"])
        self._checksum ^= row["digest"]
        if self._title is None and row["role"] == "user":
            self._title = title_from(row["content"])
        self._last = row
        return row

    def _summary_metadata(self, metadata: Any) -> Any:
        """The metadata of a summary, with references to the copies instead of the originals."""
        about = metadata.get("summary") if isinstance(metadata, dict) else None
        if not isinstance(about, dict) or not isinstance(about.get("until_seq"), int):
            return metadata
        until = {
            "until_seq": bisect_right(self._seqs, about["until_seq"]),
            "until_message_id": self._ids.get(about.get("until_message_id", "")),
        }
        return {**metadata, "summary": {**about, **until}}

    def totals(self) -> dict[str, Any]:
        """The columns of the conversation that follow from its messages."""
        last = self._last
        found = {
            "last_seq": self._count,
            "message_count": self._count,
            "checksum": self._checksum,
            "head_id": last["id"] if last else None,
            "preview": preview_of(last["content"]) if last else None,
            "last_message_at": last["created_at"] if last else None,
        }
        if self._conversation.title_source == "default" and self._title:
            found.update(title=self._title, title_source="auto")
        return found
