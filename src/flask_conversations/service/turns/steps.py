"""What every step of a turn is made of: hold the conversation, move the turn, write the answer."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from typing import Any

from ... import signals, transaction
from ...counters import Counters
from ...errors import (
    ConversationNotFound,
)
from ...identity.base import Identity
from ...models import (
    AWAITING,
    CANCELLED,
    FAILED,
    INTERRUPTED,
    LIVE_STATES,
    STREAMING,
    WAITING,
    now,
)
from ...schemas import messages as schema
from ...schemas.common import preview_of
from ...store import branches, requests
from ...store import conversations as conversation_rows
from ...store import messages as rows
from ...store import turns as turn_rows
from ..snapshots import SnapshotVerbs
from .shapes import RECORD, Lost, dump, told

logger = logging.getLogger("flask_conversations")

_STATUS = {
    FAILED: "failed",
    CANCELLED: "interrupted",
    INTERRUPTED: "interrupted",
    AWAITING: "pending",
    STREAMING: "streaming",
}
"""The status of an answer by the state of its turn; `delivered` in any other."""

NOTHING_SAID: dict[str, Any] = {"content": "", "content_is_parts": False, "parts": None}


class Steps(SnapshotVerbs):
    """The pieces of a step. Each of them belongs to a transaction that holds the conversation."""

    def _hold(self, turn: Any) -> Any:
        """The conversation of a turn, locked. Raises `Lost` if it was deleted.

        A guest who has logged in meanwhile goes on as who they are now: whoever holds the token was asked by them.
        """
        try:
            return self.store.lock(turn.conversation_id)
        except ConversationNotFound:
            if self.identity is None or not self.identity.anonymous:
                raise Lost from None
        try:
            conversation = type(self)(self._backend, None, self._app).store.lock(turn.conversation_id)
        except ConversationNotFound:
            raise Lost from None
        self.identity = Identity(conversation.user_id, conversation.org_id or None)
        return conversation

    def _own(self, turn: Any, values: Mapping[str, Any], token: str, states: tuple[str, ...]) -> Any:
        return self._advance_turn(turn, values, token=token, states=states, lease=self.config.turn_lease)

    def _advance_turn(self, turn: Any, values: Mapping[str, Any], **conditions: Any) -> Any:
        """Set columns of a turn; logged and announced if its state is another. Raises `Lost`."""
        moved = turn_rows.move(self.store, turn, values, **conditions)
        if moved is None:
            raise Lost
        if "state" in values:
            self._moved(moved, turn)
        return moved

    def _moved(self, turn: Any, before: Any | None) -> None:
        """Write, log and tell, once, that a turn has reached another state."""
        was = before.state if before is not None else None
        seconds = (turn.updated_at - before.updated_at).total_seconds() if before is not None else 0.0
        if self.config.audit:
            requests.log(self.store, f"turn {turn.state}", turn.conversation_id, seconds * 1000)
        transaction.after_commit(self.session, functools.partial(_log, turn, was, self.backend.runner.counters))
        previous = None if was is None else was if was == WAITING else told(was)
        self.announce(signals.turn_state_changed, turn=dump(turn), previous_state=previous)

    def _step_once(self, conversation: Any) -> None:
        """Step the version of a locked conversation unless something has done so since: a new state is a new version."""
        if self.store.get(conversation.id).version == conversation.version:
            conversation_rows.change(self.store, conversation.id, {})

    def _drop_turn(self, conversation: Any, turn: Any) -> Any:
        """Somebody has deleted the answer, or the question of one that has not begun: it does not come back, the turn is over."""
        values = {"state": CANCELLED, "token": None, "ended_at": now(), "request": None}
        moved = self._advance_turn(turn, values)
        self._step_once(conversation)
        return moved

    def _write_answer(
        self, conversation: Any, turn: Any, moved: Any, columns: Mapping[str, Any]
    ) -> Mapping[str, Any] | None:
        """Store the answer in the status that goes with the state that the turn has reached; None if it was deleted."""
        if moved.error:
            columns = {**columns, "metadata": {"error": moved.error}}
        message = self._renew_answer(conversation, moved.answer_id, columns, moved.state)
        if message is not None or turn.answer_id is not None:
            return message
        return self._append_answer(conversation, turn, moved.answer_id, columns, moved.state)

    def _append_answer(
        self, conversation: Any, turn: Any, message_id: str, columns: Mapping[str, Any], state: str
    ) -> Mapping[str, Any] | None:
        """Store an answer below its question; None if there is none, or none any more: nobody waits for one."""
        row = {
            "role": "assistant",
            "type": "text",
            **columns,
            "id": message_id,
            "status": _STATUS.get(state, "delivered"),
            "created_at": now(),
        }
        row["digest"] = schema.digest_of(row, message_id)
        if turn.question_id is None and turn.kind != RECORD:
            return None
        if turn.question_id in (None, conversation.head_id):
            return self.append_prepared(conversation.id, row)
        question = rows.one(self.store, conversation.id, turn.question_id)
        if question is None:
            return None
        if self._leads_to(conversation, question):
            return self.append_prepared(conversation.id, row)
        # somebody has turned to another branch meanwhile: the answer stays below its question, and they stay where they are
        return self._append_aside(conversation, turn.question_id, row)

    def _leads_to(self, conversation: Any, question: Any) -> bool:
        """Whether the question is on the active branch."""
        path = rows.newest(self.store, conversation.id, limit=None, after=question.seq - 1, columns=("id", "seq"))
        return path is not None and bool(path.rows) and path.rows[0].id == question.id

    def _append_aside(self, conversation: Any, parent_id: str, row: dict[str, Any]) -> Mapping[str, Any]:
        row["updated_at"] = row["created_at"]
        values = {
            "last_seq": conversation.last_seq + 1,
            "message_count": conversation.message_count + 1,
            "checksum": conversation.checksum ^ row["digest"],
            "branched": True,
        }
        changed = conversation_rows.change(self.store, conversation.id, values)
        branches.follow(self.store, conversation, {parent_id: row["id"]})
        return self.store_messages([row], changed, first_seq=changed.last_seq, parent_id=parent_id)[0]

    def _renew_answer(
        self, conversation: Any, message_id: str | None, columns: Mapping[str, Any], state: str
    ) -> Mapping[str, Any] | None:
        """Bring an answer to what was said by now; None if it is not there."""
        message = rows.one(self.store, conversation.id, message_id) if message_id else None
        if message is None:
            return None
        status = _STATUS.get(state, "delivered")
        values = {**columns, "status": status, "version": conversation.version + 1, "updated_at": now()}
        totals: dict[str, Any] = {}
        if "content" in columns:
            values["digest"] = schema.digest_of({**columns, "role": message.role}, message.id)
            totals["checksum"] = conversation.checksum ^ message.digest ^ values["digest"]
            if message.id == conversation.head_id:
                totals["preview"] = preview_of(columns["content"])
        rows.change(self.store, conversation, message, values)
        conversation_rows.change(self.store, conversation.id, totals)
        stored = {**message._mapping, **values}
        written = schema.dump([stored[name] for name in schema.STORED])
        if status != "streaming":
            self.announce(signals.message_updated, message=written)
        return written


def _log(turn: Any, was: str | None, counters: Counters) -> None:
    counters.add(turn.state)
    before = was if was == WAITING else told(was)
    after = turn.state if turn.state == WAITING else told(turn.state)
    how = "" if turn.state in LIVE_STATES else f" ({turn.state})"
    logger.info("Conversation %s: %s -> %s%s, turn %s.", turn.conversation_id, before, after, how, turn.id)
