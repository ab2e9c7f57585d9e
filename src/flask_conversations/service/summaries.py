"""The rule of summing up: a summary is a message like any other, and the messages it sums up stay where they are."""

from __future__ import annotations

from typing import Any

from ..errors import ValidationFailed
from ..history import SUMMARY, UNSETTLED
from ..schemas import rules
from ..schemas.types import Message
from ..store import messages as rows
from . import messages as message_rules
from .unit_of_work import UnitOfWork

_LOOKED_AT = ("id", "seq", "type", "status")
_BATCH_SIZE = 20


def summarize(work: UnitOfWork, conversation_id: str, text: str, *, up_to_message_id: str | None) -> Message:
    """Save *text* as what was said up to a message, the newest finished one if none is named."""
    conversation = work.store.lock(conversation_id)
    rules.check("text", rules.text(blank=False), text)
    last = _summed_up(work, conversation, up_to_message_id)
    about = {"until_seq": last.seq, "until_message_id": last.id}
    item = {"role": "system", "content": text, "type": SUMMARY, "metadata": {"summary": about}}
    return message_rules.append(work, conversation.id, message_rules.prepared(work, conversation.id, item))


def _summed_up(work: UnitOfWork, conversation: Any, message_id: Any) -> Any:
    """The last message that the summary is about, which is on the active branch."""
    if message_id is None:
        return _newest_finished(work, conversation)
    message = rows.one(work.store, conversation.id, message_id)
    if message is not None:
        # the first message of the path from there on is that very one, unless it is on another branch
        found = rows.newest(work.store, conversation.id, limit=1, after=message.seq - 1, columns=_LOOKED_AT)
        if found and found.rows and found.rows[0].id == message.id:
            return message
    raise ValidationFailed({"up_to_message_id": ["There is no such message in the active branch."]})


def _newest_finished(work: UnitOfWork, conversation: Any) -> Any:
    before = None
    while True:
        found = rows.newest(work.store, conversation.id, limit=_BATCH_SIZE, before=before, columns=_LOOKED_AT)
        messages = found.rows if found else []
        for message in messages:
            if message.type != SUMMARY and message.status not in UNSETTLED:
                return message
        if len(messages) < _BATCH_SIZE:
            raise ValidationFailed({"up_to_message_id": ["There is no message yet that could be summed up."]})
        before = messages[-1].seq
