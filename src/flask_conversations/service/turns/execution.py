"""The execution of one turn in a thread of this process. A lost connection or an ended request does not stop it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import logging
import sys
import threading
import time
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from ...errors import ConfigurationError, ConversationsError, StorageUnavailable, redacted_traceback
from ...ids import new_id
from ...schemas.types import Message
from ...store.rows import TurnRow
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
    """A turn that this process executes. Its thread adds to the answer; other threads read it, wait for it, or stop it."""

    def __init__(
        self, registry: Registry, units: Units, started: StartedTurn, token: str, responder: Responder
    ) -> None:
        self.registry, self.units, self.token, self.responder = registry, units, token, responder
        self._config = units.backend.config
        assert started.turn is not None, "only a turn is executed, not a question without one"
        self.turn: TurnRow = started.turn
        self.question = started.question
        self.message_id = started.turn.answer_id or new_id()
        parts = units.read(views.answer_parts, started.turn)
        self.answer = Answer(parts, max_length=self._config.max_content_length)
        self.stopping = threading.Event()
        """Set when the responder shall stop."""
        self.ended = threading.Event()
        """Set when the end of the turn is stored, or another worker has the turn."""
        self.answer_started = False
        self.outcome: TurnView | None = None
        """The turn and its answer as this worker has stored them at the end."""
        self.error: ConversationsError | None = None
        self._changed = threading.Condition()
        self._save_lock = threading.RLock()
        self._interrupt: Callable[[], object] = lambda: None
        self.last_event_at = self._saved_at = time.monotonic()
        self._saved = self.answer.additions
        self.pauses: Sequence[Pause] = pauses_of(started.turn.calls, self.answer.parts)
        """The waits for an approval before this worker resumed the turn."""
        self._relayed = last_position(self.answer.parts, self.pauses)
        self._is_relayed = False
        self._relay_lock = threading.Lock()
        self._stop_thread: threading.Thread | None = None

    # -- in its own thread

    def main(self) -> None:
        """Wait until the turn may begin, answer the question, and end the turn."""
        try:
            if self.turn.state == WAITING:
                self.wait_in_queue()
            self._execute()
        except LeaseLost:
            logger.debug("Turn %s was ended by another worker.", self.turn.id)
        except Exception as error:  # noqa: BLE001 - the end of a thread: there is no caller to raise to
            _log_failure(f"The end of turn {self.turn.id} could not be saved", error)
            self._end_unsaved(error)
        finally:
            self.end()

    def turn_for_responder(self) -> Turn:
        """The `Turn` for the responder."""
        context = self.units.read(views.turn_context, self.turn, self.question)
        return Turn(self.units, context, self.turn.calls or [], self.answer.parts, self.stopping)

    def end(self) -> None:
        """Stop the responder, wake all waiting threads, and close the relay."""
        self.stopping.set()
        first = not self.ended.is_set()
        self.ended.set()
        self._notify()
        self.registry.forget(self)
        with self._relay_lock:
            if first and self._is_relayed and self.registry.relay is not None:
                self.registry.relay.close(
                    self.turn.conversation_id, self.turn.id, self.registry.timing.closed_relay_ttl
                )

    def wait_in_queue(self) -> None:
        timing = self.registry.timing
        pause = timing.queue_poll_interval
        while not self.stopping.is_set():
            begun = self.persist(lambda: self.units.write(transitions.start_waiting, self.turn, self.token))
            if begun is not None and begun.turn is not None:
                self.turn, self.question = begun.turn, begun.question
                self.last_event_at = time.monotonic()
                self._notify()
                return
            self.registry.wait(pause)
            pause = min(pause * 1.5, timing.max_queue_poll_interval)
        raise LeaseLost

    def _execute(self) -> None:
        try:
            self._consume(self.responder(self.persist(self.turn_for_responder)))
            self.answer.finish()
        except _Cancelled:
            self.settle(CANCELLED)
        except LeaseLost:
            raise
        except ConversationsError as error:
            self._fail(error)
        except BaseException as error:  # noqa: BLE001 - host code: any error, SystemExit too, ends this turn only
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

    def _consume(self, result: Any) -> None:
        if inspect.isawaitable(result) or isinstance(result, AsyncIterable):
            self._consume_async(result)
        elif result is None or isinstance(result, (str, bytes, bytearray, Event)):
            self._add(result)
        elif isinstance(result, Iterable) and not isinstance(result, dict):
            self._consume_iterable(iter(result))
        else:
            raise ResponderError(
                f"The responder answered with a {type(result).__name__}, which is neither text nor events."
            )

    def _consume_iterable(self, pieces: Iterator[Any]) -> None:
        try:
            for piece in pieces:
                if self._handle(piece):
                    return
        finally:
            _close(pieces)

    def _consume_async(self, result: Any) -> None:
        if _is_gevent_patched():
            raise ConfigurationError(
                "Async responders need threads, which gevent replaces: use gthread, or a plain generator."
            )

        async def consume(result: Any) -> None:
            task, loop = asyncio.current_task(), asyncio.get_running_loop()
            assert task is not None
            self._interrupt = lambda: _cancel(task, loop)
            while inspect.isawaitable(result):
                result = await result
            if not isinstance(result, AsyncIterable):
                self._consume(result)
                return
            pieces = aiter(result)
            try:
                async for piece in pieces:
                    if self._handle(piece):
                        return
            finally:
                await _aclose(pieces)

        try:
            asyncio.run(consume(result))
        except asyncio.CancelledError:
            if self.stopping.is_set():
                raise _Cancelled from None
            raise  # the cancellation came from the responder's own tasks
        finally:
            self._interrupt = lambda: None

    def _handle(self, piece: Any) -> bool:
        """Add *piece* to the answer. True if the responder shall stop, because the user has to decide about a tool call first."""
        if self.stopping.is_set():
            raise _Cancelled
        if self.answer.is_pending and not isinstance(piece, ToolCall) and piece is not None:
            return True
        if self._add(piece) and not self.answer_started:
            self._begin()
        elif time.monotonic() - self._saved_at >= self.registry.timing.checkpoint_interval:
            self.save()
        return False

    def _add(self, piece: Any) -> bool:
        self.last_event_at = time.monotonic()
        added = piece is not None and self.answer.add(piece)
        if self.stopping.is_set():
            raise _Cancelled
        if added and self.answer_started:
            self._notify()
        return added

    # -- saving

    def _begin(self) -> None:
        with self._save_lock:
            additions = self.answer.additions
            columns = self.answer.columns()
            self.turn = self.persist(
                lambda: self.units.write(transitions.begin_answer, self.turn, self.token, self.message_id, columns)
            )
            self._saved, self._saved_at = additions, time.monotonic()
            if self.turn.state != STREAMING:
                raise LeaseLost  # its question, or its answer, was deleted
            self.answer_started = True
        self._notify()

    def save(self) -> None:
        """Save the additions since the last checkpoint. If the database is unavailable, a later checkpoint saves them."""
        with self._save_lock:
            additions = self.answer.additions
            if self.ended.is_set() or not self.answer_started or self.stopping.is_set():
                return
            self._saved_at = time.monotonic()
            if additions == self._saved:
                return
            try:
                columns = self.answer.columns()
                stop = self.units.write(transitions.checkpoint, self.turn, self.token, self.message_id, columns)
            except StorageUnavailable:
                logger.warning(
                    "The checkpoint of turn %s failed: the database is unavailable. It is tried again.", self.turn.id
                )
                return
            except LeaseLost:
                self.abandon()
                raise
            self._saved = additions
        if stop:
            self.stop()

    def settle(self, state: str, error: ConversationsError | None = None) -> None:
        """Save the answer as it is, and end the turn in *state*. Only the first call has an effect."""
        with self._save_lock:
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

    def _end_turn(
        self, columns: Mapping[str, Any] | None, state: str, error: Mapping[str, Any] | None
    ) -> tuple[TurnRow, Message] | None:
        return self.units.write(transitions.end_turn, self.turn, self.token, self.message_id, columns, state, error)

    def _pause(self) -> None:
        with self._save_lock:
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

    def _end_unsaved(self, error: Exception) -> None:
        """End a turn whose answer cannot be saved, so that the next turn can begin. The last checkpoint stays."""
        if self.ended.is_set():
            return
        self.error = (
            error if isinstance(error, ConversationsError) else ResponderError("The answer could not be saved.")
        )
        try:
            self._end_turn(None, FAILED, stored_error(self.error))
        except LeaseLost:
            pass  # another worker has ended it
        except Exception as again:  # noqa: BLE001 - its lease expires, and a reader recovers it
            _log_failure(f"Turn {self.turn.id} could not be ended", again)

    def persist(self, step: Callable[[], T]) -> T:
        """Call *step*, and retry while the database is unavailable, for a minute at most."""
        timing = self.registry.timing
        deadline, pause = time.monotonic() + timing.storage_timeout, timing.retry_delay
        while True:
            try:
                return step()
            except StorageUnavailable as error:
                if time.monotonic() > deadline or not error.retryable:
                    raise
            time.sleep(pause)
            pause = min(pause * 2, timing.max_retry_delay)

    # -- from other threads

    def stop(self, state: str = CANCELLED, error: ConversationsError | None = None) -> None:
        """End the turn now, and keep the answer so far. It does not wait for the responder."""
        self.stopping.set()
        self._interrupt()
        try:
            self.settle(state, error)
        except LeaseLost:
            self.end()

    def interrupt(self, reason: str) -> None:
        """End the turn as interrupted: the user has not cancelled it."""
        self.stop(INTERRUPTED, Interrupted(reason))

    def stop_in_background(self, end: Callable[[], object]) -> None:
        """Run *end* in its own thread: one turn must not delay the heartbeats of the others."""
        if self._stop_thread is None or not self._stop_thread.is_alive():
            self._stop_thread = threading.Thread(target=log_errors, args=[end], name=f"end-{self.turn.id}", daemon=True)
            self._stop_thread.start()

    def abandon(self) -> None:
        """Stop without saving: another worker has the turn."""
        self.stopping.set()
        self._interrupt()
        self.end()

    def poll(self) -> None:
        """Save a due checkpoint, relay new events, and end a turn whose responder was silent for too long."""
        now = time.monotonic()
        if self.turn.state != WAITING and now - self.last_event_at > self._config.turn_timeout:
            reason = f"The responder sent nothing for {self._config.turn_timeout:g} seconds."
            self.stop_in_background(functools.partial(self.interrupt, reason))
            return
        if now - self._saved_at >= self.registry.timing.checkpoint_interval and self._save_lock.acquire(blocking=False):
            try:
                self.save()
            finally:
                self._save_lock.release()
        self._relay_new()

    def _relay_new(self) -> None:
        relay = self.registry.relay
        if relay is None or not self.answer_started:
            return
        with self._relay_lock:
            if self.ended.is_set():
                return  # the relay of this turn is closed: another frame would extend its TTL
            events = list(part_events(self.answer.parts, self.pauses, self.message_id, self._relayed))
            self._is_relayed = self._is_relayed or bool(events)
            if events and relay.add(self.turn.conversation_id, self.turn.id, events, self.registry.timing.relay_ttl):
                self._relayed = events[-1].position

    @property
    def next_position(self) -> int:
        """The highest position that a reader of this turn can have reached."""
        return next_position(self.answer.parts, self.pauses)

    def wait_for_more(self, position: int, timeout: float) -> None:
        """Wait until the answer goes beyond *position*, or the turn has ended; at most *timeout* seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self.ended.is_set() or self._has_more(position), timeout)

    def _has_more(self, position: int) -> bool:
        parts = self.answer.parts
        return self.answer_started and bool(parts) and last_position(parts, self.pauses) > position

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
    except Exception as error:  # noqa: BLE001 - from a host's hook, for example: logged without its text
        logger.error("The heartbeat of a turn failed: %s", redacted_traceback(error))


class _Cancelled(Exception):
    """The turn was stopped: the rest of the answer is dropped."""


def _cancel(task: asyncio.Task[None], loop: asyncio.AbstractEventLoop) -> None:
    with contextlib.suppress(RuntimeError):  # the loop may have ended meanwhile
        loop.call_soon_threadsafe(task.cancel)


async def _aclose(pieces: Any) -> None:
    try:
        if hasattr(pieces, "aclose"):
            await pieces.aclose()
    except Exception as error:  # noqa: BLE001 - as below
        _log_failure("The responder failed while it was closed", error)


def _close(pieces: Any) -> None:
    try:
        if hasattr(pieces, "close"):
            pieces.close()
    except Exception as error:  # noqa: BLE001 - the turn has ended: an error of the responder changes nothing
        _log_failure("The responder failed while it was closed", error)


def _log_failure(message: str, error: BaseException) -> None:
    logger.error("%s: %s", message, redacted_traceback(error))


def _is_gevent_patched() -> bool:
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))
