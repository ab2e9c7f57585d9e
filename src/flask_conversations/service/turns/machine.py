"""The states of a turn. Each step is one transaction under the conversation's lock, and asks for the token of its worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import (
    ClientIdConflict,
    Conflict,
    IdempotencyKeyReused,
    NotFound,
    TurnInProgress,
)
from ...models import (
    AWAITING,
    LIVE_STATES,
    PROCESSING,
    STREAMING,
    WAITING,
    new_id,
    now,
)
from ...schemas import messages as schema
from ...schemas import rules
from ...schemas.common import iso
from ...store import conversations as conversation_rows
from ...store import messages as rows
from ...store import turns as turn_rows
from ..messages import Outcome
from ..units import writes
from .answers import decided_part
from .recovery import Recovery
from .shapes import HOST, SEND, Asked, Begun, Lost
from .steps import NOTHING_SAID


class Machine(Recovery):
    """The steps of a turn."""

    @writes
    def begin_turn(self, asked: Asked, token: str) -> Begun:
        """Store the question and begin to answer it, or line up behind the turn that is under way.

        A retry of a request finds the turn that the first one began. Raises `TurnInProgress` where nobody may wait.
        """
        row = self.prepared_message(asked.conversation_id, asked.message) if asked.message is not None else None
        conversation = self.store.lock(asked.conversation_id)
        known = self._known(conversation, asked, row)
        if known is not None:
            return known
        live = self._living(conversation)
        request = {"row": row, "message_id": asked.message_id}
        if live and not asked.only_question:
            self._refuse_to_wait(live)
            return Begun(self._line_up(conversation, asked, live, request, token), None)
        # a message that is appended reads the conversation as it is by now, and steps its version
        appends = asked.kind in (SEND, HOST)
        question = self._put_question(
            conversation if appends else self.store.lock(conversation.id), asked.kind, request
        )
        if asked.only_question:
            return Begun(None, question)
        values = {
            "state": PROCESSING,
            "question_id": question["id"] if question else None,
            "token": token,
            "started_at": now(),
        }
        turn = self._insert(conversation, asked, live, values, request)
        if not appends:
            self._step_once(conversation)
        self._moved(turn, None)
        return Begun(turn, question)

    def _known(self, conversation: Any, asked: Asked, row: dict[str, Any] | None) -> Begun | None:
        """The turn that an earlier, equal request has begun."""
        if asked.key is not None and (turn := turn_rows.find(self.store, conversation, "key", asked.key)):
            if turn.fingerprint != asked.fingerprint:
                raise IdempotencyKeyReused
            return Begun(turn, self._question_of(conversation, turn), True)
        client_id = row.get("client_id") if row else None
        if row is None or client_id is None:
            return None
        turn = turn_rows.find(self.store, conversation, "client_id", client_id)
        if turn is not None and turn.request is not None:
            if turn.request["row"]["fingerprint"] != row["fingerprint"]:
                raise ClientIdConflict
            return Begun(turn, None, True)
        if rows.by_client_id(self.store, conversation, client_id) is None:
            return None
        message = self.replayed_message(conversation.id, row)
        turn = turn or turn_rows.find(self.store, conversation, "question_id", message["id"])
        return Begun(turn, message, True)

    def _question_of(self, conversation: Any, turn: Any) -> Mapping[str, Any] | None:
        found = rows.one(self.store, conversation.id, turn.question_id) if turn.question_id else None
        return schema.dump(found) if found is not None else None

    def _refuse_to_wait(self, live: turn_rows.Live) -> None:
        active = live.active
        if active is not None and active.state == AWAITING:
            raise TurnInProgress("A tool call waits for your approval: decide it, or cancel the turn.")
        if sum(turn.state == WAITING for turn in live) >= self.config.turn_queue:
            raise TurnInProgress

    def _line_up(
        self, conversation: Any, asked: Asked, live: turn_rows.Live, request: dict[str, Any], token: str
    ) -> Any:
        row = request["row"]
        self._check_request(conversation, asked, row)
        kept = {**request, "row": {**row, "created_at": iso(row["created_at"])} if row else None}
        turn = self._insert(conversation, asked, live, {"state": WAITING, "token": token, "request": kept}, request)
        conversation_rows.change(self.store, conversation.id, {})
        self._moved(turn, None)
        return turn

    def _insert(
        self, conversation: Any, asked: Asked, live: turn_rows.Live, values: dict[str, Any], request: Mapping[str, Any]
    ) -> Any:
        row = {
            "conversation_id": conversation.id,
            "org_id": conversation.org_id,
            "user_id": conversation.user_id,
            "number": live.newest_number + 1,
            "id": new_id(),
            "kind": asked.kind,
            "protocol": asked.protocol,
            "client_id": (request["row"] or {}).get("client_id"),
            "key": asked.key,
            "fingerprint": asked.fingerprint,
            "question_id": None,
            "request": None,
            "started_at": None,
            **values,
        }
        return turn_rows.insert(self.store, row, lease=self.config.turn_lease)

    @writes
    def start_waiting(self, turn: Any, token: str) -> Begun | None:
        """Begin a turn that has waited, if it is its turn now; None if it is not. Raises `Lost` if it is no longer there."""
        conversation = self._hold(turn)
        live = self._living(conversation)
        mine = next((each for each in live if each.id == turn.id and each.token == token), None)
        if mine is not None and mine.state != WAITING:
            # it has begun: whoever does not know whether that was committed does it again
            return Begun(mine, self._question_of(conversation, mine))
        if mine is None or mine.cancelled:
            raise Lost
        if live.active is not None or live[0].number < mine.number:
            return None
        request = mine.request
        if request["row"]:
            request["row"]["created_at"] = rules.moment(request["row"]["created_at"])
        question = self._put_question(self.store.lock(conversation.id), mine.kind, request)
        values = {
            "state": PROCESSING,
            "request": None,
            "question_id": question["id"] if question else None,
            "started_at": now(),
        }
        moved = self._advance_turn(mine, values, token=token, states=(WAITING,), lease=self.config.turn_lease)
        self._step_once(conversation)
        return Begun(moved, question)

    @writes
    def begin_answer(self, turn: Any, token: str, message_id: str, columns: Mapping[str, Any]) -> Any:
        """The first words: the answer exists, and whoever reads the conversation sees it grow; the turn. Raises `Lost`."""
        conversation = self._hold(turn)
        # whoever does not know whether this was committed does it again
        moved = self._own(turn, {"state": STREAMING, "answer_id": message_id}, token, (PROCESSING, STREAMING))
        if self._renew_answer(conversation, message_id, columns, STREAMING) is None:
            began = turn.answer_id is None
            if not began or self._append_answer(conversation, moved, message_id, columns, STREAMING) is None:
                return self._drop_turn(conversation, moved)
        return moved

    @writes
    def checkpoint(self, turn: Any, token: str, message_id: str, columns: Mapping[str, Any]) -> bool:
        """What was said so far; whether somebody wants the turn to end. Raises `Lost`."""
        conversation = self._hold(turn)
        moved = self._own(turn, {}, token, (STREAMING,))
        if self._renew_answer(conversation, message_id, columns, STREAMING) is None:
            self._drop_turn(conversation, moved)
            return True
        return bool(moved.cancelled)

    @writes
    def await_approval(
        self, turn: Any, token: str, message_id: str, columns: Mapping[str, Any], calls: Sequence[Mapping[str, Any]]
    ) -> None:
        """The user has to decide about *calls* first; nobody is at work meanwhile. Raises `Lost`."""
        conversation = self._hold(turn)
        parts = len(columns["parts"])
        asked = [
            {"id": call["id"], "name": call["name"], "arguments": call["arguments"], "decision": None, "parts": parts}
            for call in calls
        ]
        values = {"state": AWAITING, "answer_id": message_id, "calls": [*(turn.calls or []), *asked], "token": None}
        moved = self._advance_turn(turn, values, token=token, states=(PROCESSING, STREAMING))
        if self._write_answer(conversation, turn, moved, columns) is None:
            self._drop_turn(conversation, moved)

    @writes
    def decide_calls(
        self,
        conversation_id: str,
        ids: Sequence[str],
        decision: str,
        token: str,
        *,
        key: str | None = None,
        answer_id: str | None = None,
    ) -> tuple[Any, bool, bool]:
        """Settle tool calls, those of *answer_id* if that is given. Once all are decided the turn goes on, with *token*.

        What comes back is the turn, whether it goes on now, and whether the same was decided before with *key*.

        Raises `NotFound` for a call that is unknown, `Conflict` for one that is settled, and changes nothing then.
        """
        conversation = self.store.lock(conversation_id)
        self._living(conversation)
        turn = turn_rows.newest(self.store, self.store.lock(conversation.id))
        calls = {call["id"]: call for call in (turn.calls or [])} if turn is not None else {}
        if unknown := [one for one in ids if one not in calls]:
            raise ToolCallNotFound(f"There is no tool call {unknown[0][:100]!r} to decide here.")
        known = {name for name, call in calls.items() if key is not None and call.get("key") == key}
        if known:
            if known != set(ids) or any(calls[one]["decision"] != decision for one in ids):
                raise IdempotencyKeyReused
            return turn, False, True
        if turn is None or any(calls[one]["decision"] for one in ids) or turn.state != AWAITING:
            raise ToolCallSettled
        if answer_id not in (None, turn.answer_id):
            raise ToolCallSettled  # another turn has calls by the same names
        for one in ids:
            calls[one].update(decision=decision, **({"key": key} if key else {}))
        if self._decide_in_answer(conversation, turn, calls) is None:
            return self._drop_turn(conversation, turn), False, False
        if any(call["decision"] is None for call in calls.values()):
            return self._advance_turn(turn, {"calls": list(calls.values())}, states=(AWAITING,)), False, False
        values = {"state": PROCESSING, "calls": list(calls.values()), "token": token}
        return self._advance_turn(turn, values, states=(AWAITING,), lease=self.config.turn_lease), True, False

    def _decide_in_answer(
        self, conversation: Any, turn: Any, calls: Mapping[str, Mapping[str, Any]]
    ) -> Mapping[str, Any] | None:
        message = rows.one(self.store, conversation.id, turn.answer_id)
        decided = {name: call["decision"] for name, call in calls.items()}
        parts = [decided_part(part, decided) for part in (message.parts or [])] if message is not None else None
        columns = {"parts": parts} if parts is not None else {}
        return self._renew_answer(conversation, turn.answer_id, columns, AWAITING)

    @writes
    def end_turn(
        self,
        turn: Any,
        token: str | None,
        message_id: str,
        columns: Mapping[str, Any] | None,
        state: str,
        error: Mapping[str, Any] | None = None,
    ) -> dict[str, Any] | None:
        """The answer as it is now for good, and the turn is over; without *token*, whoever is at work. Raises `Lost`.

        Without *columns* the answer stays as it was saved last. A turn that has not begun yet keeps its question. What comes
        back is the turn and its answer; None if that was deleted.
        """
        conversation = self._hold(turn)
        if token is None or turn.state == WAITING:
            conversation, turn = self._as_it_is(conversation, turn)
        if columns is None:
            columns = {} if turn.answer_id else NOTHING_SAID
        values = {"state": state, "token": None, "ended_at": now(), "error": error, "request": None}
        moved = self._advance_turn(
            turn, {**values, "answer_id": turn.answer_id or message_id}, token=token, states=LIVE_STATES
        )
        answer = self._write_answer(conversation, turn, moved, columns)
        if answer is None:
            self._step_once(conversation)
            return None
        return {"turn": moved, "answer": answer}

    def _as_it_is(self, conversation: Any, turn: Any) -> tuple[Any, Any]:
        """The conversation, and a turn that may have gone on since it was read: it has asked its question. Raises `Lost`."""
        live = turn_rows.live(self.store, conversation)
        turn = next((each for each in live if each.id == turn.id), None)
        if turn is None:
            raise Lost
        if turn.state != WAITING:
            return conversation, turn
        if live.active is not None or live[0].id != turn.id:
            raise Lost  # those before it have not ended: its lease will, and its question is stored then
        turn = self._ask_after_all(conversation, turn)
        return self.store.lock(conversation.id), turn

    @writes
    def ask_to_stop(self, conversation_id: str, key: tuple[str, str] | None = None) -> Outcome:
        """Tell the worker of the turn under way to end it; the turn, None if there is none.

        Under a *key* that was used before, the turn that was meant then: one that has begun since is not ended.
        """
        if key is None:
            return Outcome(self._told_to_stop(conversation_id), False)
        asked = self.answered_once("cancel_turn", *key, lambda: self._stop_of(self._told_to_stop(conversation_id)))
        if asked.result["turn_id"] is None:
            return Outcome(None, asked.replayed)
        conversation = self.store.get(conversation_id)
        return Outcome(turn_rows.find(self.store, conversation, "id", asked.result["turn_id"]), asked.replayed)

    def _stop_of(self, turn: Any | None) -> dict[str, Any]:
        """What is kept of a request to end a turn."""
        return {"turn_id": turn.id, "conversation_id": turn.conversation_id} if turn is not None else {"turn_id": None}

    def _told_to_stop(self, conversation_id: str) -> Any | None:
        conversation = self.store.lock(conversation_id)
        live = self._living(conversation)
        turn = live.active or (live[0] if live else None)
        if turn is not None and not turn.cancelled:
            turn_rows.stop(self.store, turn)
        return turn


class ToolCallNotFound(NotFound):
    """There is no such tool call in this conversation."""

    code = "tool_call_not_found"


class ToolCallSettled(Conflict):
    """This tool call was decided before."""

    code = "tool_call_settled"
