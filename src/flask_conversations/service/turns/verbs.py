"""What an identity can do with turns: send, regenerate, edit, approve, cancel, look, follow."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from sqlalchemy.pool import StaticPool

from ... import transaction
from ...errors import (
    ConfigurationError,
    Conflict,
    ConversationNotFound,
    MalformedRequest,
    StorageUnavailable,
    without_words,
)
from ...models import AWAITING, CANCELLED, COMPLETED, FAILED, LIVE_STATES, WAITING, new_id
from ...schemas import canonical, rules
from ...schemas import conversations as conversation_schema
from ...schemas import messages as schema
from ...store import messages as rows
from ...store import turns as turn_rows
from ...turns import ResponderError
from .. import history
from ..messages import Outcome
from ..reading import ReadingVerbs
from ..units import reads
from .following import Follower
from .hosting import HostTurn, in_thread, texts, wait_in_line
from .machine import Machine
from .shapes import EDIT, HOST, RECORD, REGENERATE, SEND, Asked, Begun, Lost, dump, timeline_of, told

if TYPE_CHECKING:
    from .running import Work

logger = logging.getLogger("flask_conversations")

T = TypeVar("T")


class NoResponder(Conflict):
    """This app has nobody who answers: register a responder, or answer in a route of your own."""

    code = "no_responder"


class TurnVerbs(Machine, ReadingVerbs):
    """Turns of an identity's conversations."""

    def send_message(
        self,
        conversation_id: str,
        content: str | Sequence[Any],
        *,
        client_id: str | None = None,
        parent_id: str | None = None,
        idempotency_key: str | None = None,
        wait: bool = True,
        **fields: Any,
    ) -> dict[str, Any]:
        """Store a question and have the responder answer it: `{"question", "answer", "state", "turn", "replayed"}`.

        The question is committed before the responder begins; nothing that happens to the caller ends the turn. With *wait* the
        call returns when it has ended, or waits for an approval; without, at once. The same *client_id* or *idempotency_key*
        returns the first turn. Without a responder only the question is stored. Raises `TurnInProgress`, `ClientIdConflict`.
        """
        message = {"role": "user", "content": content, "client_id": client_id, "parent_id": parent_id, **fields}
        asked = Asked(conversation_id, SEND, message, key=idempotency_key)
        return self.run_turn(asked, wait=wait)

    def regenerate(
        self,
        conversation_id: str,
        message_id: str | None = None,
        *,
        idempotency_key: str | None = None,
        wait: bool = True,
    ) -> dict[str, Any]:
        """Have a question answered again, beside the answers that there are. *message_id* is an answer, or the question.

        The newest message of the active branch if it is not given. Raises `MessageNotFound`, `NoResponder`.
        """
        asked = Asked(conversation_id, REGENERATE, message_id=message_id, key=idempotency_key)
        return self.run_turn(asked, wait=wait)

    def edit_question(
        self,
        conversation_id: str,
        message_id: str,
        content: str | Sequence[Any],
        *,
        client_id: str | None = None,
        idempotency_key: str | None = None,
        wait: bool = True,
        **fields: Any,
    ) -> dict[str, Any]:
        """Ask a question differently, beside the first one, and have it answered. What was there stays, on its own branch."""
        message = {"role": "user", "content": content, "client_id": client_id, **fields}
        asked = Asked(conversation_id, EDIT, message, message_id=message_id, key=idempotency_key)
        return self.run_turn(asked, wait=wait)

    def run_turn(self, asked: Asked, *, wait: bool = True) -> dict[str, Any]:
        """Begin a turn, and perhaps wait for its end."""
        if asked.key is not None and asked.fingerprint is None:
            mark = canonical.fingerprint({"kind": asked.kind, "message": asked.message, "message_id": asked.message_id})
            asked = dataclasses.replace(asked, fingerprint=mark)
        begun = self.start_turn(asked)
        if begun.turn is not None and wait:
            return self._turn_outcome(begun, self._await(begun.turn))
        return self._turn_outcome(begun)

    def ask(
        self,
        conversation_id: str,
        kind: str,
        *,
        message: Mapping[str, Any] | None = None,
        message_id: str | None = None,
        key: tuple[str, str] | None = None,
        protocol: str | None = None,
        wait: bool = True,
    ) -> dict[str, Any]:
        """What the REST API asks of turns: `send`, `regenerate` or `edit`.

        *key* is the Idempotency-Key of its request, and what tells that from another one with the same key.
        """
        named, fingerprint = key or (None, None)
        asked = Asked(conversation_id, kind, message, message_id, named, fingerprint, protocol)
        return self.run_turn(asked, wait=wait)

    def start_turn(self, asked: Asked) -> Begun:
        """Begin a turn, which goes on whatever becomes of the caller."""
        runner = self.backend_in_context.runner
        if runner.responder is None and asked.kind == REGENERATE:
            self.glance(asked.conversation_id)
            raise NoResponder
        if runner.responder is None:
            asked = dataclasses.replace(asked, only_question=True)
        token = new_id()
        begun = self._begun(asked, token)
        if begun.turn is not None and not begun.replayed and runner.responder is not None:
            runner.start(self.own, begun, token, runner.responder)
        return begun

    def _begun(self, asked: Asked, token: str) -> Begun:
        if asked.only_question:
            return self.begin_turn(asked, token)
        with self.context():
            self._refuse_in_transaction()  # before anything looks for dead turns, which could wait for the caller's own locks
            self.backend.runner.recover_once()
        return self._committed(lambda service: service.begin_turn(asked, token))

    def _committed(self, step: Callable[[TurnVerbs], T]) -> T:
        """Take a step of its own, after which the caller's session holds no connection either: somebody may wait now."""
        with self.context():
            self._refuse_in_transaction()
            if self.leaves_commit_to_host:
                self.session.commit()
                return step(self.own)
            return step(self)

    def _refuse_in_transaction(self) -> None:
        if transaction.is_grouped(self.session) or transaction.is_joined(self.session):
            raise ConfigurationError("A turn is committed as it goes: it cannot be a part of a transaction.")

    @property
    def backend_in_context(self) -> Any:
        with self.context():
            return self.backend

    @property
    def own(self) -> Any:
        """The same service with a context and a session of its own for each call, for use in any thread."""
        with self.context():
            return type(self)(self._backend_of_app(), self.identity, self.backend.app)

    def _backend_of_app(self) -> Any:
        backend = self.backend
        return lambda: backend

    @property
    def shares_one_connection(self) -> bool:
        """Whether all threads use the same connection, as with SQLite in memory."""
        with self.context():
            return isinstance(self.session.get_bind(self.backend.models.Conversation).pool, StaticPool)  # type: ignore[union-attr]

    def _await(self, turn: Any) -> dict[str, Any]:
        """The view of a turn once it has ended, or waits for an approval."""
        runner = self.backend_in_context.runner
        work, timing = runner.find(turn.id), runner.timing
        if work is not None:
            work.ended.wait(self._longest_turn)
            if work.outcome is not None and work.question is not None:
                return {**work.outcome, "question": work.question}
        deadline, pause = time.monotonic() + self._longest_turn, timing.end
        while True:
            view: dict[str, Any] = self.own.turn_view(turn.conversation_id, turn.id)
            if (
                view["turn"].state not in (*LIVE_STATES,)
                or view["turn"].state == AWAITING
                or time.monotonic() > deadline
            ):
                return view
            time.sleep(pause)
            pause = min(pause * 1.5, timing.end_at_most)

    @property
    def _longest_turn(self) -> float:
        """Seconds that a caller waits for the end of a turn."""
        with self.context():
            return self.config.turn_timeout * 4

    def _turn_outcome(self, begun: Begun, view: Mapping[str, Any] | None = None) -> dict[str, Any]:
        if begun.turn is None:
            return {
                "question": begun.question,
                "answer": None,
                "state": "idle",
                "turn": None,
                "replayed": begun.replayed,
            }
        if view is None:
            view = self.own.turn_view(begun.turn.conversation_id, begun.turn.id)
        return {
            "question": view["question"],
            "answer": view["answer"],
            "state": told(view["turn"].state),
            "turn": dump(view["turn"]),
            "replayed": begun.replayed,
        }

    def approve_tools(
        self,
        conversation_id: str,
        tool_call_ids: Sequence[str],
        approved: bool = True,
        *,
        message_id: str | None = None,
        idempotency_key: str | None = None,
        wait: bool = True,
    ) -> dict[str, Any]:
        """Allow tool calls, or refuse them. Once all that were asked for are decided, the responder goes on, once.

        With *message_id* only those of that answer: a model may give the calls of another one the same ids. Raises
        `ToolCallNotFound`, and `ToolCallSettled` for one that was decided before; then nothing is changed.
        """
        problems = rules.Problems()
        ids = problems.take("tool_call_ids", rules.tool_call_ids, tool_call_ids)
        decision = "approved" if problems.take("approved", rules.boolean, approved) else "denied"
        problems.raise_any()
        token = new_id()
        turn, resumed, replayed = self._committed(
            lambda service: service.decide_calls(
                conversation_id, ids, decision, token, key=idempotency_key, answer_id=message_id
            )
        )
        runner = self.backend_in_context.runner
        if resumed and runner.responder is not None:
            runner.start(self.own, Begun(turn, None), token, runner.responder)
        elif resumed:
            self.own.end_turn(turn, token, turn.answer_id, {}, COMPLETED)
        view = self._await(turn) if wait and turn.state != AWAITING else None
        return self._turn_outcome(Begun(turn, None, replayed), view)

    def cancel(self, conversation_id: str) -> dict[str, Any] | None:
        """End the turn under way and keep what was said; the turn, None if there is none."""
        found: dict[str, Any] | None = self.cancel_or_replay(conversation_id).result
        return found

    def cancel_or_replay(self, conversation_id: str, key: tuple[str, str] | None = None) -> Outcome:
        """Like `cancel`, and says whether that was asked for before with *key*: then it is the turn of that time.

        *key* is the Idempotency-Key of a request, and what tells that from another one with the same key.
        """
        asked: Outcome = self._committed(lambda service: service.ask_to_stop(conversation_id, key))
        return Outcome(self._ended_turn(asked.result) if asked.result is not None else None, asked.replayed)

    def _ended_turn(self, turn: Any) -> dict[str, Any]:
        """End a turn that was asked to stop."""
        work = self.backend_in_context.runner.find(turn.id)
        if work is not None:
            work.stop()
        elif turn.state in LIVE_STATES and (turn.state == AWAITING or not self._stopped_elsewhere(turn)):
            with contextlib.suppress(Lost):  # it may have ended by itself just now
                self.own.end_turn(turn, None, turn.answer_id or new_id(), None, CANCELLED)
        return dump(self.own.turn_view(turn.conversation_id, turn.id)["turn"])

    def _stopped_elsewhere(self, turn: Any) -> bool:
        timing = self.backend_in_context.runner.timing
        deadline = time.monotonic() + timing.cancel_patience
        while time.monotonic() < deadline:
            if self.own.turn_view(turn.conversation_id, turn.id)["turn"].state not in LIVE_STATES:
                return True
            time.sleep(timing.cancel_look)
        return False

    def recover(self, limit: int = 100) -> int:
        """End the turns whose worker is gone; how many they were. As the system it covers all users."""
        ended = 0
        for conversation_id, turn_id in self.dead_turns(limit):
            try:
                ended += self.recover_turn(conversation_id, turn_id)
            except ConversationNotFound:
                continue  # deleted for good meanwhile
            except StorageUnavailable:
                raise
            except Exception as error:  # noqa: BLE001 - one that cannot be ended must not keep the others from it
                logger.error("Turn %s could not be ended: %s", turn_id, without_words(error))
        return ended

    def ended_dead_turn(self, conversation_id: str) -> bool:
        """Whether a turn of the conversation has been ended just now whose worker is gone."""
        with self.context():
            if not transaction.is_outermost(self.session) or not self.glance(conversation_id).dead:
                return False
            try:
                return bool(self.own.recover())
            except StorageUnavailable:
                return False  # the caller's own transaction may hold the conversation: the next read sees to it

    def recover_conversation(self, conversation_id: str) -> None:
        """End the turns of one conversation whose worker is gone, if there are any."""
        glance = self.glance(conversation_id)
        if glance.dead:
            self.own.recover()

    # -- looking

    @reads
    def glance(self, conversation_id: str) -> Any:
        """Id, version and `rev` of a conversation, and whether a turn of it is dead: one statement."""
        found = turn_rows.glance(self.store, conversation_id)
        if found is None:
            raise self.store.missing(conversation_id)
        return found

    def state_etag(self, conversation_id: str) -> str:
        """The entity tag of `get_state`: as long as it is the same, so is the state."""
        glance = self.glance(conversation_id)
        if glance.dead:
            self.own.recover()
            glance = self.glance(conversation_id)
        return f"{glance.version}-{glance.rev:x}"

    def get_state(self, conversation_id: str, *, limit: int = 50) -> dict[str, Any]:
        """All that a page needs to show a conversation: its newest messages, what is going on, and what is waited for."""
        self.recover_conversation(conversation_id)
        found = self._state(conversation_id, limit)
        if found is None:
            self.own.end_orphan(conversation_id)
            found = self._state(conversation_id, limit, orphaned=True)
        return cast("dict[str, Any]", found)

    @reads
    def _state(self, conversation_id: str, limit: int, *, orphaned: bool = False) -> dict[str, Any] | None:
        """None if a turn waits for a decision about an answer that was deleted, unless that is known."""
        conversation = self.store.get(conversation_id)
        page = self.get_messages(conversation.id, limit=limit)
        turn = turn_rows.newest(self.store, conversation)
        awaiting = turn if turn is not None and turn.state == AWAITING and not orphaned else None
        if awaiting is not None and rows.one(self.store, conversation.id, awaiting.answer_id) is None:
            return None
        waiting = [each for each in turn_rows.live(self.store, conversation) if each.state == WAITING]
        shown = conversation_schema.dump(conversation)
        return {
            "conversation": shown,
            "messages": page["messages"],
            "next_cursor": page["next_cursor"],
            "has_more": page["has_more"],
            "state": told(turn.state if turn is not None else None),
            "turn": dump(turn) if turn is not None else None,
            "pending_actions": _pending(turn),
            "waiting": [_waiting(each) for each in waiting],
            "siblings": self.siblings_of(conversation.id, page["messages"]) if conversation.branched else {},
            "branches": self.branches_of(conversation),
            "version": shown["version"],
            "checksum": shown["checksum"],
        }

    @reads
    def _turn_view(self, conversation_id: str, turn_id: str) -> dict[str, Any]:
        conversation = self.store.get(conversation_id)
        turn = turn_rows.find(self.store, conversation, "id", turn_id)
        if turn is None:
            raise MalformedRequest("There is no such turn in this conversation.")
        question, answer = (
            rows.one(self.store, conversation.id, one) if one else None for one in (turn.question_id, turn.answer_id)
        )
        return {
            "turn": turn,
            "question": schema.dump(question) if question is not None else None,
            "answer": schema.dump(answer) if answer is not None else None,
        }

    def turn_view(self, conversation_id: str, turn_id: str) -> dict[str, Any]:
        """A turn with its question and answer; one whose worker is gone is ended first."""
        view = self._turn_view(conversation_id, turn_id)
        if (
            view["turn"].dead
            and view["turn"].state in LIVE_STATES
            and self.backend_in_context.runner.find(turn_id) is None
        ):
            self.recover_turn(view["turn"].conversation_id, turn_id)
            view = self._turn_view(conversation_id, turn_id)
        if view["turn"].state == AWAITING and view["answer"] is None:
            self.own.end_orphan(conversation_id)
            view = self._turn_view(conversation_id, turn_id)
        return view

    @reads
    def running(self, conversation_id: str) -> dict[str, Any] | None:
        """The turn that is under way or waits to be, as JSON; None if there is none."""
        conversation = self.store.get(conversation_id)
        live = turn_rows.live(self.store, conversation)
        turn = live.active or (live[0] if live else None)
        return dump(turn) if turn is not None else None

    @reads
    def turn_context(self, turn: Any, question: Mapping[str, Any] | None) -> dict[str, Any]:
        """What a responder is told: the conversation, the question, and the messages up to it. *question* may be known."""
        conversation = self.store.get(turn.conversation_id)
        if question is None and turn.question_id is not None:
            row = rows.one(self.store, conversation.id, turn.question_id)
            question = schema.dump(row) if row is not None else None
        place = (question["id"], question["seq"]) if question is not None else None
        found = rows.up_to(self.store, conversation, place, limit=self.config.history_limit)
        return {
            "conversation": conversation_schema.dump(conversation),
            "question": question,
            "messages": [schema.dump(row) for row in reversed(found)],
        }

    @reads
    def parts_said(self, turn: Any) -> list[dict[str, Any]]:
        """What a turn has said before it was taken up again."""
        answer = rows.one(self.store, turn.conversation_id, turn.answer_id) if turn.answer_id else None
        if answer is None:
            return []
        message = schema.dump(answer)
        return list(message["parts"] or ([{"type": "text", "text": message["content"]}] if message["content"] else []))

    # -- following

    def turn_to_resume(self, conversation_id: str, turn_id: str, position: int) -> dict[str, Any] | None:
        """The turn that a reader has followed up to *position*; None if there is nothing more to tell of it."""
        view = self.turn_view(conversation_id, turn_id)
        turn, timeline = view["turn"], timeline_of(view)
        if timeline.last:
            return dump(turn) if position < timeline.last else None
        work = self.backend_in_context.runner.find(turn_id)
        if work is not None and not work.ended.is_set() and position > work.next_position:
            raise MalformedRequest("Last-Event-ID is ahead of what was told.")
        return dump(turn)

    def follow(self, conversation_id: str, turn_id: str, position: int = 0, *, calls: Collection[str] = ()) -> Follower:
        """The events of a turn behind *position*, until it ends or waits for an approval; None for a while of silence.

        With *calls*, the ids of tool calls, the events from where the turn goes on once they are decided.
        """
        return Follower(self.own, conversation_id, turn_id, position, calls)

    # -- hosts that call their model themselves

    def turn(
        self, conversation_id: str, content: str | Sequence[Any], *, client_id: str | None = None, **fields: Any
    ) -> HostTurn:
        """A turn that the caller answers: `with service.turn(id, question) as turn: turn.reply(ask(turn.history))`.

        The question is committed now, and nobody else's turn runs in this conversation until the block is left.
        """
        message = {"role": "user", "content": content, "client_id": client_id, **fields}
        token = new_id()
        begun = self._begun(Asked(conversation_id, HOST, message), token)
        if begun.replayed:
            outcome = self._turn_outcome(begun)
            return HostTurn(None, outcome["question"], outcome["answer"])
        with self._adopted(begun, token, lambda turn: None) as work:
            return HostTurn(work, work.question or {})

    @contextlib.contextmanager
    def _adopted(self, begun: Begun, token: str, responder: Any) -> Iterator[Work]:
        """The turn of a host once it has begun; ended if the host cannot be given it."""
        runner = self.backend_in_context.runner
        work: Work = runner.adopt(self.own, begun, token, responder)
        wait_in_line(work)
        try:
            yield work
        except BaseException:
            with contextlib.suppress(Lost):
                work.settle(FAILED, ResponderError("The question was not answered."))
            raise

    def record_stream(self, conversation_id: str, chunks: Any, **fields: Any) -> Iterator[str]:
        """Store an answer that the caller's model streams: give *chunks* in, hand what comes out to the client.

        *chunks* are texts and events of `flask_conversations.turns`, from an iterable or an async one. They are read in a thread
        of their own, without the caller's contexts: a client that goes away does not end the answer. *fields*
        describe it, as `model` and `usage` do. Raises `ValidationFailed` before the turn begins.
        """
        schema.described(fields)
        token = new_id()
        begun = self._begun(Asked(conversation_id, RECORD), token)
        with self._adopted(begun, token, lambda turn: chunks) as work:
            work.answer.describe(fields)
            follower = self.follow(work.turn.conversation_id, work.turn.id)
            in_thread(work)
        return texts(follower, work)

    @reads
    def rendered(
        self, messages: Sequence[Mapping[str, Any]], *, format: str, max_tokens: int | None
    ) -> list[dict[str, Any]]:
        """Messages as a provider takes them."""
        return history.render(messages, format=format, max_tokens=max_tokens, count_tokens=self.backend.token_counter)


def _pending(turn: Any) -> list[dict[str, Any]]:
    if turn is None or turn.state != AWAITING:
        return []
    return [
        {
            "type": "approve_tool",
            "tool_call_id": call["id"],
            "name": call["name"],
            "arguments": call["arguments"],
            "message_id": turn.answer_id,
        }
        for call in turn.calls or []
        if call["decision"] is None
    ]


def _waiting(turn: Any) -> dict[str, Any]:
    row = (turn.request or {}).get("row") or {}
    content = schema.content_of(row.get("content", ""), row.get("content_is_parts", False), row.get("parts"))
    return {"turn_id": turn.id, "kind": turn.kind, "client_id": turn.client_id, "content": content}
