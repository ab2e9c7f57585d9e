"""Automatic titles: the first question becomes the title; the host's titler may improve it after the commit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .. import signals, transaction
from ..schemas import conversations as schema
from ..schemas.common import title_from
from ..store import conversations as rows
from ..store.rows import ConversationRow
from .unit_of_work import UnitOfWork, Units


def improve_later(work: UnitOfWork, batch: Sequence[Mapping[str, Any]]) -> None:
    """Call the host's titler after the commit, because it may be slow and must not hold a lock."""
    titler = work.backend.titler
    if titler is None:
        return
    first = next((row for row in batch if row["role"] == "user" and row["content"].strip()), None)
    if first is not None:
        conversation_id, text, units = first["conversation_id"], first["content"], work.units.own
        transaction.after_commit(work.session, lambda: _improve(units, titler, conversation_id, text))


def _improve(units: Units, titler: Callable[[str], str | None], conversation_id: str, text: str) -> None:
    """Replace a title that was made from *text* by the title of the host's titler."""
    if not units.read(_is_titled_by, conversation_id, text):
        return
    title = schema.RULES["title"](titler(text))
    if title and title.strip():
        units.write(_set_title, conversation_id, text, title)


def _is_titled_by(work: UnitOfWork, conversation_id: str, text: str) -> bool:
    return _was_made_from(work.store.get(conversation_id), text)


def _set_title(work: UnitOfWork, conversation_id: str, text: str, title: str) -> None:
    """Set a title if it is still the one that was made from *text*."""
    conversation = work.store.lock(conversation_id)
    if _was_made_from(conversation, text):
        row = rows.change(work.store, conversation.id, {"title": title})
        work.announce(signals.conversation_updated, conversation=schema.dump(row))


def _was_made_from(conversation: ConversationRow, text: str) -> bool:
    return conversation.title_source == "auto" and conversation.title == title_from(text)
