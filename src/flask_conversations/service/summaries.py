"""The rules of summaries: a summary is a message, and the summarized messages stay stored."""

from __future__ import annotations

from typing import Any

from ..errors import ValidationFailed
from ..history import SUMMARY, UNSETTLED
from ..schemas import rules
from ..schemas.types import Message
from ..store import messages as rows
from ..store.rows import ConversationRow, Placed
from . import messages as message_rules
from .unit_of_work import UnitOfWork

_COLUMNS = ("id", "seq", "type", "status")
_BATCH_SIZE = 20


def summarize(work: UnitOfWork, conversation_id: str, text: str, *, up_to_message_id: str | None) -> Message:
    """Save *text* as the summary up to a message, by default the newest finished one."""
    conversation = work.store.lock(conversation_id)
    rules.check("text", rules.text(blank=False), text)
    last = _last_summarized(work, conversation, up_to_message_id)
    about = {"until_seq": last.seq, "until_message_id": last.id}
    item = {"role": "system", "content": text, "type": SUMMARY, "metadata": {"summary": about}}
    return message_rules.append(work, conversation.id, message_rules.prepared(work, conversation.id, item))


def _last_summarized(work: UnitOfWork, conversation: ConversationRow, message_id: Any) -> Placed:
    """The last message of the summary, which must be on the active branch."""
    if message_id is None:
        return _newest_finished(work, conversation)
    message = rows.one(work.store, conversation.id, message_id)
    if message is not None:
        # on the active branch, the first message of the path from its seq on is that message
        found = rows.newest(work.store, conversation.id, limit=1, after=message.seq - 1, columns=_COLUMNS)
        if found and found.rows and found.rows[0].id == message.id:
            return message
    raise ValidationFailed({"up_to_message_id": ["There is no such message in the active branch."]})


def _newest_finished(work: UnitOfWork, conversation: ConversationRow) -> Placed:
    before = None
    while True:
        found = rows.newest(work.store, conversation.id, limit=_BATCH_SIZE, before=before, columns=_COLUMNS)
        messages = found.rows if found else []
        for message in messages:
            if message.type != SUMMARY and message.status not in UNSETTLED:
                last: Placed = message
                return last
        if len(messages) < _BATCH_SIZE:
            raise ValidationFailed({"up_to_message_id": ["There is no message to summarize yet."]})
        before = messages[-1].seq
