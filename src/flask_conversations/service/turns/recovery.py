"""Turns whose worker is gone: their answers so far are kept and marked, and what they asked is not lost with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.exc import IntegrityError

from ...errors import (
    ClientIdConflict,
    MessageNotFound,
    ValidationFailed,
)
from ...models import (
    AWAITING,
    INTERRUPTED,
    LIVE_STATES,
    WAITING,
    new_id,
    now,
)
from ...schemas import rules
from ...store import faults
from ...store import messages as rows
from ...store import turns as turn_rows
from ..savepoints import savepoint
from ..units import reads, writes
from .questions import Questions
from .shapes import SEND
from .steps import NOTHING_SAID

WENT_AWAY = {"code": "interrupted", "detail": "The worker that was answering went away."}


class Recovery(Questions):
    """How turns end that nobody ends."""

    @writes
    def recover_turn(self, conversation_id: str, turn_id: str) -> bool:
        """End a turn whose worker is gone, if it is still so; whether it was."""
        conversation = self.store.lock(conversation_id, trash=True)
        live = turn_rows.live(self.store, conversation)
        turn = next((each for each in live.dead if each.id == turn_id), None)
        return turn is not None and self._bury_turn(conversation.id, turn, live)

    @writes
    def end_orphan(self, conversation_id: str) -> None:
        """End a turn that waits for a decision about an answer that was deleted, if there is one."""
        self._living(self.store.lock(conversation_id))

    @reads
    def dead_turns(self, limit: int = 100) -> list[tuple[str, str]]:
        """The conversation and the id of turns whose worker is gone."""
        return [(turn.conversation_id, turn.id) for turn in turn_rows.dead(self.store, limit=limit)]

    @writes
    def renew_leases(self, tokens: Sequence[str]) -> dict[str, bool]:
        """Give the workers with *tokens* their time again; whether each is asked to stop. One that is missing has lost its turn."""
        return turn_rows.renew(self.store, tokens, lease=self.config.turn_lease)

    @reads
    def asked_to_stop(self, tokens: Sequence[str]) -> set[str]:
        """Those of *tokens* whose turn somebody wants to end."""
        return turn_rows.asked_to_stop(self.store, tokens)

    def _living(self, conversation: Any) -> turn_rows.Live:
        """The live turns of a locked conversation; those whose worker is gone are ended first."""
        live = turn_rows.live(self.store, conversation)
        orphan = live.active if live.active is not None and live.active.state == AWAITING else None
        if orphan is not None and rows.one(self.store, conversation.id, orphan.answer_id) is None:
            self._drop_turn(self.store.lock(conversation.id), orphan)
        elif not live.dead:
            return live
        for turn in live.dead:
            self._bury_turn(conversation.id, turn, live)
        return turn_rows.live(self.store, conversation)

    def _bury_turn(self, conversation_id: str, turn: Any, live: turn_rows.Live) -> bool:
        conversation = self.store.lock(conversation_id, trash=True)
        if turn.state == WAITING:
            if any(each.state != WAITING and not each.dead for each in live):
                return False  # what it asked is stored once the turn before it has ended
            turn = self._ask_after_all(conversation, turn)
            conversation = self.store.lock(conversation_id, trash=True)
        message_id = turn.answer_id or new_id()
        values = {"state": INTERRUPTED, "token": None, "ended_at": now(), "error": WENT_AWAY, "answer_id": message_id}
        moved = self._advance_turn(turn, values, states=LIVE_STATES)
        error = {"metadata": {"error": WENT_AWAY}}
        written = self._renew_answer(conversation, message_id, error, INTERRUPTED)
        if written is None and turn.answer_id is None:
            written = self._append_answer(conversation, moved, message_id, {**NOTHING_SAID, **error}, INTERRUPTED)
        if written is None:
            self._step_once(conversation)
        return True

    def _ask_after_all(self, conversation: Any, turn: Any) -> Any:
        """Store the question of a turn that never began: what somebody has sent is not lost with a worker."""
        request = dict(turn.request or {"row": None, "message_id": None})
        if request["row"]:
            request["row"]["created_at"] = rules.moment(request["row"]["created_at"])
        try:
            question = self._put_if_possible(conversation, turn.kind, request)
        except (MessageNotFound, ValidationFailed):
            # what it referred to was deleted: what was asked is kept all the same
            row = request["row"] and {name: value for name, value in request["row"].items() if name != "parent_id"}
            question = self._put_if_possible(conversation, SEND, {**request, "row": row}) if row else None
        values = {"request": None, "question_id": question["id"] if question else None}
        return turn_rows.move(self.store, turn, values) or turn

    def _put_if_possible(self, conversation: Any, kind: str, request: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The question, stored; None where another message has its name by now: its sender is told. What fails leaves nothing."""
        try:
            with savepoint(self.session):
                return self._put_question(conversation, kind, request)
        except ClientIdConflict:
            return None
        except IntegrityError as error:
            if not faults.is_duplicate(error):
                raise
            return None
