"""The execution of one turn in this process, in a thread of its own: no connection and no request can take it down."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import logging
import sys
import threading
import time
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from ...errors import ConfigurationError, ConversationsError, StorageUnavailable, redacted_traceback
from ...ids import new_id
from ...schemas.types import Message
from ...streams import Pause, last_position, next_position, part_events, pauses_of
from ...tables import CANCELLED, COMPLETED, FAILED, INTERRUPTED, STREAMING, WAITING
from ...turns import Event, ResponderError, ToolCall
from ..unit_of_work import Units
from . import transitions, views
from .answers import Answer
from .ports import Registry
from .turn import Turn
from .types import Interrupted, LeaseLost, StartedTurn, TurnView, stored_error

logger = logging.getLogger("flask_conversations")

T = TypeVar("T")
Responder = Callable[[Turn], Any]


class TurnExecution:
    """A turn that this process executes. Its thread adds to the answer; others look, wait, and may stop it."""

    def __init__(
        self, registry: Registry, units: Units, started: StartedTurn, token: str, responder: Responder
    ) -> None:
        self.registry, self.units, self.token, self.responder = registry, units, token, responder
        self._config = units.backend.config
        self.turn, self.question = started.turn, started.question
        self.message_id = started.turn.answer_id or new_id()
        said = units.read(views.answer_parts, started.turn)
        self.answer = Answer(said, max_length=self._config.max_content_length)
        self.stopping = threading.Event()
        """Set as soon as the rest of the answer is not wanted."""
        self.ended = threading.Event()
        """Set when the end of the turn is in the database, or belongs to another worker."""
        self.begun_answer = False
        self.outcome: TurnView | None = None
        """The turn and its answer as this worker has stored them at the end."""
        self.error: ConversationsError | None = None
        self._changed = threading.Condition()
        self._saving = threading.RLock()
        self._interrupt: Callable[[], object] = lambda: None
        self.heard_at = self._saved_at = time.monotonic()
        self._saved = self.answer.additions
        self.pauses: Sequence[Pause] = pauses_of(started.turn.calls, self.answer.parts)
        """The waits for an approval before this worker took the turn up."""
        self._relayed = last_position(self.answer.parts, self.pauses)
        self._is_relayed = False
        self._relaying = threading.Lock()
        self._ending: threading.Thread | None = None

    # -- in its own thread

    def main(self) -> None:
        """Wait until the turn may begin, answer the question, and leave nothing half done."""
        try:
            if self.turn.state == WAITING:
                self.wait_in_queue()
            self._execute()
        except LeaseLost:
            logger.debug("Turn %s was ended by another worker.", self.turn.id)
        except Exception as error:  # noqa: BLE001 - the end of a thread: no caller is left to tell
            _log_failure(f"Turn {self.turn.id} could not be saved to its end", error)
            self._give_up(error)
        finally:
            self.end()

    def turn_for_responder(self) -> Turn:
        """What the responder is given."""
        context = self.units.read(views.turn_context, self.turn, self.question)
        return Turn(self.units, context, self.turn.calls or [], self.answer.parts, self.stopping)

    def end(self) -> None:
        """Nothing more comes from this worker."""
        self.stopping.set()
        first = not self.ended.is_set()
        self.ended.set()
        self._notify()
        self.registry.forget(self)
        with self._relaying:
            if first and self._is_relayed and self.registry.relay is not None:
                self.registry.relay.close(self.turn.conversation_id, self.turn.id, self.registry.timing.lingers)

    def wait_in_queue(self) -> None:
        timing = self.registry.timing
        pause = timing.line
        while not self.stopping.is_set():
            begun = self.persist(lambda: self.units.write(transitions.start_waiting, self.turn, self.token))
            if begun is not None:
                self.turn, self.question = begun.turn, begun.question
                self.heard_at = time.monotonic()
                self._notify()
                return
            self.registry.wait(pause)
            pause = min(pause * 1.5, timing.line_at_most)
        raise LeaseLost

    def _execute(self) -> None:
        try:
            self._take_all(self.responder(self.persist(self.turn_for_responder)))
            self.answer.finish()
        except _Cancelled:
            self.settle(CANCELLED)
        except LeaseLost:
            raise
        except ConversationsError as error:
            self._fail(error)
        except BaseException as error:  # noqa: BLE001 - a host's: whatever it raises, sys.exit too, ends this turn only
            _log_failure(f"The responder failed in turn {self.turn.id}", error)
            failed = ResponderError("The responder failed.")
            failed.__cause__ = error
            self._fail(failed)
        else:
            if self.answer.pending:
                self._pause()
            elif self.answer.is_empty:
                self._fail(ResponderError("The responder gave no answer."))
            else:
                self.settle(COMPLETED)

    def _take_all(self, said: Any) -> None:
        if inspect.isawaitable(said) or isinstance(said, AsyncIterable):
            self._take_async(said)
        elif said is None or isinstance(said, (str, bytes, bytearray, Event)):
            self._add(said)
        elif isinstance(said, Iterable) and not isinstance(said, dict):
            self._take_each(iter(said))
        else:
            raise ResponderError(
                f"The responder answered with a {type(said).__name__}, which is neither text nor events."
            )

    def _take_each(self, pieces: Iterator[Any]) -> None:
        try:
            for piece in pieces:
                if self._take(piece):
                    return
        finally:
            _close(pieces)

    def _take_async(self, said: Any) -> None:
        if _is_green():
            raise ConfigurationError(
                "Async responders need threads, which gevent replaces: use gthread, or a plain generator."
            )

        async def take(said: Any) -> None:
            task, loop = asyncio.current_task(), asyncio.get_running_loop()
            assert task is not None
            self._interrupt = lambda: _cancel(task, loop)
            while inspect.isawaitable(said):
                said = await said
            if not isinstance(said, AsyncIterable):
                self._take_all(said)
                return
            pieces = aiter(said)
            try:
                async for piece in pieces:
                    if self._take(piece):
                        return
            finally:
                await _aclose(pieces)

        try:
            asyncio.run(take(said))
        except asyncio.CancelledError:
            if self.stopping.is_set():
                raise _Cancelled from None
            raise  # not by us: something that the responder waits for was cancelled
        finally:
            self._interrupt = lambda: None

    def _take(self, piece: Any) -> bool:
        """Add what was said; whether that is enough, since the user has to decide first."""
        if self.stopping.is_set():
            raise _Cancelled
        if self.answer.is_pending and not isinstance(piece, ToolCall) and piece is not None:
            return True
        if self._add(piece) and not self.begun_answer:
            self._begin()
        elif time.monotonic() - self._saved_at >= self.registry.timing.checkpoint:
            self.save()
        return False

    def _add(self, piece: Any) -> bool:
        self.heard_at = time.monotonic()
        added = piece is not None and self.answer.add(piece)
        if self.stopping.is_set():
            raise _Cancelled
        if added and self.begun_answer:
            self._notify()
        return added

    # -- what is saved

    def _begin(self) -> None:
        with self._saving:
            additions = self.answer.additions
            columns = self.answer.columns()
            self.turn = self.persist(
                lambda: self.units.write(transitions.begin_answer, self.turn, self.token, self.message_id, columns)
            )
            self._saved, self._saved_at = additions, time.monotonic()
            if self.turn.state != STREAMING:
                raise LeaseLost  # its question, or its answer, was deleted
            self.begun_answer = True
        self._notify()

    def save(self) -> None:
        """Save what was said since the last time. A database that is out gets another chance later."""
        with self._saving:
            additions = self.answer.additions
            if self.ended.is_set() or not self.begun_answer or self.stopping.is_set():
                return
            self._saved_at = time.monotonic()
            if additions == self._saved:
                return
            try:
                columns = self.answer.columns()
                stop = self.units.write(transitions.checkpoint, self.turn, self.token, self.message_id, columns)
            except StorageUnavailable:
                logger.warning("The database does not answer: turn %s goes on, and is saved later.", self.turn.id)
                return
            except LeaseLost:
                self.abandon()
                raise
            self._saved = additions
        if stop:
            self.stop()

    def settle(self, state: str, error: ConversationsError | None = None) -> None:
        """Save the answer as it is, and how the turn has ended; the first caller decides."""
        with self._saving:
            if self.ended.is_set():
                return
            self.error = error
            stored = stored_error(error) if error is not None else None
            columns = self.answer.columns()
            ended = self.persist(lambda: self._end_turn(columns, state, stored))
            if ended is not None:
                turn, answer = ended
                self.outcome = {"turn": turn, "question": self.question, "answer": answer}
            self.end()

    def _end_turn(self, columns: Any, state: str, error: Any) -> tuple[Any, Message] | None:
        return self.units.write(transitions.end_turn, self.turn, self.token, self.message_id, columns, state, error)

    def _pause(self) -> None:
        with self._saving:
            if self.ended.is_set():
                return
            columns, calls = self.answer.columns(), self.answer.pending
            self.persist(
                lambda: self.units.write(
                    transitions.await_approval, self.turn, self.token, self.message_id, columns, calls
                )
            )
            self.end()

    def _fail(self, error: ConversationsError) -> None:
        self.settle(FAILED, error)

    def _give_up(self, error: Exception) -> None:
        """The answer cannot be saved as it is: what was saved of it stays, and the turn is over, so that others can begin."""
        if self.ended.is_set():
            return
        self.error = (
            error if isinstance(error, ConversationsError) else ResponderError("The answer could not be saved.")
        )
        try:
            self._end_turn(None, FAILED, stored_error(self.error))
        except LeaseLost:
            pass  # another worker has ended it
        except Exception as again:  # noqa: BLE001 - its lease will expire, and a reader will recover it
            _log_failure(f"Turn {self.turn.id} could not be ended", again)

    def persist(self, step: Callable[[], T]) -> T:
        """Take a step; while the database is out, again and again for a minute."""
        timing = self.registry.timing
        deadline, pause = time.monotonic() + timing.patience, timing.retry
        while True:
            try:
                return step()
            except StorageUnavailable as error:
                if time.monotonic() > deadline or not error.retryable:
                    raise
            time.sleep(pause)
            pause = min(pause * 2, timing.retry_at_most)

    # -- from other threads

    def stop(self, state: str = CANCELLED, error: ConversationsError | None = None) -> None:
        """End the turn now, and keep what was said; a responder that says nothing more is not waited for."""
        self.stopping.set()
        self._interrupt()
        try:
            self.settle(state, error)
        except LeaseLost:
            self.end()

    def interrupt(self, why: str) -> None:
        """End the turn without a request to cancel it."""
        self.stop(INTERRUPTED, Interrupted(why))

    def stop_in_background(self, end: Callable[[], object]) -> None:
        """Run *end* in a thread of its own: a heartbeat of many turns must not wait for the database because of one."""
        if self._ending is None or not self._ending.is_alive():
            self._ending = threading.Thread(target=log_errors, args=[end], name=f"end-{self.turn.id}", daemon=True)
            self._ending.start()

    def abandon(self) -> None:
        """The turn does not belong to this worker any more: nothing of it is saved here."""
        self.stopping.set()
        self._interrupt()
        self.end()

    def poll(self) -> None:
        """Save what is due, relay what is new, and end a turn whose responder is silent for too long."""
        now = time.monotonic()
        if self.turn.state != WAITING and now - self.heard_at > self._config.turn_timeout:
            why = f"The responder said nothing for {self._config.turn_timeout:g} seconds."
            self.stop_in_background(functools.partial(self.interrupt, why))
            return
        if now - self._saved_at >= self.registry.timing.checkpoint and self._saving.acquire(blocking=False):
            try:
                self.save()
            finally:
                self._saving.release()
        self._relay_new()

    def _relay_new(self) -> None:
        relay = self.registry.relay
        if relay is None or not self.begun_answer:
            return
        with self._relaying:
            if self.ended.is_set():
                return  # the relay of this turn is closed: another frame would keep it in Redis for longer
            said = list(part_events(self.answer.parts, self.pauses, self.message_id, self._relayed))
            self._is_relayed = self._is_relayed or bool(said)
            if said and relay.add(self.turn.conversation_id, self.turn.id, said, self.registry.timing.kept):
                self._relayed = said[-1].position

    @property
    def next_position(self) -> int:
        """The highest position that a reader of this turn can have reached."""
        return next_position(self.answer.parts, self.pauses)

    def wait_for_more(self, position: int, patience: float) -> None:
        """Wait until something was said beyond *position*, or the turn has ended; at most *patience* seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self.ended.is_set() or self._has_more(position), patience)

    def _has_more(self, position: int) -> bool:
        parts = self.answer.parts
        return self.begun_answer and bool(parts) and last_position(parts, self.pauses) > position

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()


def log_errors(call: Callable[[], Any]) -> None:
    """Run *call* for one turn, and log its errors: they must not end the other turns."""
    try:
        call()
    except LeaseLost:
        pass  # another worker has the turn now
    except ConversationsError as error:
        logger.warning("The heartbeat of a turn failed (%s).", type(error).__name__)
    except Exception as error:  # noqa: BLE001 - of the host's hooks, say: logged without its text
        logger.error("The heartbeat of a turn failed: %s", redacted_traceback(error))


class _Cancelled(Exception):
    """The rest of the answer is not wanted."""


def _cancel(task: asyncio.Task[None], loop: asyncio.AbstractEventLoop) -> None:
    with contextlib.suppress(RuntimeError):  # it may have ended by itself just now
        loop.call_soon_threadsafe(task.cancel)


async def _aclose(pieces: Any) -> None:
    try:
        if hasattr(pieces, "aclose"):
            await pieces.aclose()
    except Exception as error:  # noqa: BLE001 - as below
        _log_failure("The responder failed while it was being ended", error)


def _close(pieces: Any) -> None:
    try:
        if hasattr(pieces, "close"):
            pieces.close()
    except Exception as error:  # noqa: BLE001 - the turn has ended: what its responder makes of that is its own
        _log_failure("The responder failed while it was being ended", error)


def _log_failure(what: str, error: BaseException) -> None:
    logger.error("%s: %s", what, redacted_traceback(error))


def _is_green() -> bool:
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))
