"""The rule of summing up: a summary is a message like any other, and the messages it sums up stay where they are."""

from __future__ import annotations

from typing import Any

from ..errors import ValidationFailed
from ..schemas import rules
from ..schemas.shapes import Message
from ..store import messages as rows
from .history_reading import UNSETTLED
from .history_summaries import SUMMARY
from .messages import MessageVerbs
from .units import writes

_LOOKED_AT = ("id", "seq", "type", "status")
_HANDFUL = 20


class SummaryVerbs(MessageVerbs):
    """How an identity sums its conversations up."""

    @writes
    def summarize(self, conversation_id: str, text: str, *, up_to_message_id: str | None = None) -> Message:
        """Save *text* as what was said up to a message: a history has it instead of the messages, which pages go on showing.

        Without *up_to_message_id* that is the newest message that is finished and no summary. Whoever needs a while to write the
        text names the message, since others may come meanwhile. Raises `ConversationNotFound`, `ValidationFailed`.
        """
        conversation = self.store.lock(conversation_id)
        rules.check("text", rules.text(blank=False), text)
        last = self._summed_up(conversation, up_to_message_id)
        about = {"until_seq": last.seq, "until_message_id": last.id}
        item = {"role": "system", "content": text, "type": SUMMARY, "metadata": {"summary": about}}
        return self.append_prepared(conversation.id, self.prepared_message(conversation.id, item))

    def _summed_up(self, conversation: Any, message_id: Any) -> Any:
        """The last message that the summary is about, which is on the active branch."""
        if message_id is None:
            return self._newest_finished(conversation)
        message = rows.one(self.store, conversation.id, message_id)
        if message is not None:
            # the first message of the path from there on is that very one, unless it is on another branch
            found = rows.newest(self.store, conversation.id, limit=1, after=message.seq - 1, columns=_LOOKED_AT)
            if found and found.rows and found.rows[0].id == message.id:
                return message
        raise ValidationFailed({"up_to_message_id": ["There is no such message in the active branch."]})

    def _newest_finished(self, conversation: Any) -> Any:
        before = None
        while True:
            found = rows.newest(self.store, conversation.id, limit=_HANDFUL, before=before, columns=_LOOKED_AT)
            messages = found.rows if found else []
            for message in messages:
                if message.type != SUMMARY and message.status not in UNSETTLED:
                    return message
            if len(messages) < _HANDFUL:
                raise ValidationFailed({"up_to_message_id": ["There is no message yet that could be summed up."]})
            before = messages[-1].seq
