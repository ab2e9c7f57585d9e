"""Turns under way in this process: each has a thread of its own, which no connection and no request can take down with it."""

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
from typing import TYPE_CHECKING, Any, TypeVar

from ...errors import ConfigurationError, ConversationsError, StorageUnavailable, without_words
from ...models import CANCELLED, COMPLETED, FAILED, INTERRUPTED, STREAMING, WAITING, new_id
from ...streams import Pause, last_position, next_position, part_events, pauses_of
from ...turns import Event, ResponderError, ToolCall
from .answers import Answer
from .shapes import Begun, Interrupted, Lost, problem
from .turn import Turn

if TYPE_CHECKING:
    from .runner import Runner
    from .verbs import TurnVerbs

logger = logging.getLogger("flask_conversations")

T = TypeVar("T")
Responder = Callable[[Turn], Any]


class Work:
    """A turn that this process is answering. Its thread adds to it; others look, wait, and may end it."""

    def __init__(self, runner: Runner, service: TurnVerbs, begun: Begun, token: str, responder: Responder) -> None:
        self.runner, self.service, self.token, self.responder = runner, service, token, responder
        self.turn, self.question = begun.turn, begun.question
        self.message_id = begun.turn.answer_id or new_id()
        self.answer = Answer(service.parts_said(begun.turn), max_length=service.config.max_content_length)
        self.stopping = threading.Event()
        """Set as soon as nobody wants the rest."""
        self.ended = threading.Event()
        """Set when what became of the turn is in the database, or is no longer this worker's to say."""
        self.begun_answer = False
        self.outcome: dict[str, Any] | None = None
        """The turn and its answer as they were stored in the end, if it was here that they were."""
        self.error: ConversationsError | None = None
        self._changed = threading.Condition()
        self._saving = threading.RLock()
        self._interrupt: Callable[[], object] = lambda: None
        self.heard_at = self._saved_at = time.monotonic()
        self._saved = self.answer.additions
        self.pauses: Sequence[Pause] = pauses_of(begun.turn.calls)
        """The waits for an approval before this worker took the turn up."""
        self._relayed = last_position(self.answer.parts, self.pauses)
        self._is_passed_on = False
        self._ending: threading.Thread | None = None

    # -- in its own thread

    def main(self) -> None:
        """Wait for its turn, answer, and leave nothing half done."""
        try:
            if self.turn.state == WAITING:
                self._wait_in_line()
            self._speak()
        except Lost:
            logger.debug("Turn %s was ended by somebody else.", self.turn.id)
        except Exception as error:  # noqa: BLE001 - the end of a thread: nobody else is there to tell
            _log_failure(f"Turn {self.turn.id} could not be saved to its end", error)
            self._give_up(error)
        finally:
            self.end()

    def end(self) -> None:
        """Nothing more comes from this worker."""
        self.stopping.set()
        first = not self.ended.is_set()
        self.ended.set()
        self._notify()
        self.runner.forget(self)
        if first and self._is_passed_on and self.runner.relay is not None:
            self.runner.relay.close(self.turn.conversation_id, self.turn.id, self.runner.timing.lingers)

    def _wait_in_line(self) -> None:
        timing = self.runner.timing
        pause = timing.line
        while not self.stopping.is_set():
            begun = self.persist(lambda: self.service.start_waiting(self.turn, self.token))
            if begun is not None:
                self.turn, self.question = begun.turn, begun.question
                self.heard_at = time.monotonic()
                self._notify()
                return
            self.runner.nap(self.turn.conversation_id, pause)
            pause = min(pause * 1.5, timing.line_at_most)
        raise Lost

    def _speak(self) -> None:
        try:
            self._take_all(self.responder(self.persist(lambda: Turn(self))))
            self.answer.finish()
        except _Enough:
            self.settle(CANCELLED)
        except Lost:
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
                raise _Enough from None
            raise  # not by us: something that the responder waits for was cancelled
        finally:
            self._interrupt = lambda: None

    def _take(self, piece: Any) -> bool:
        """Add what was said; whether that is enough, since the user has to decide first."""
        if self.stopping.is_set():
            raise _Enough
        if self.answer.is_pending and not isinstance(piece, ToolCall) and piece is not None:
            return True
        if self._add(piece) and not self.begun_answer:
            self._begin()
        elif time.monotonic() - self._saved_at >= self.runner.timing.checkpoint:
            self.save()
        return False

    def _add(self, piece: Any) -> bool:
        self.heard_at = time.monotonic()
        added = piece is not None and self.answer.add(piece)
        if self.stopping.is_set():
            raise _Enough
        if added and self.begun_answer:
            self._notify()
        return added

    # -- what is saved

    def _begin(self) -> None:
        with self._saving:
            additions = self.answer.additions
            columns = self.answer.columns()
            self.turn = self.persist(lambda: self.service.begin_answer(self.turn, self.token, self.message_id, columns))
            self._saved, self._saved_at = additions, time.monotonic()
            if self.turn.state != STREAMING:
                raise Lost  # its question, or its answer, was deleted
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
                stop = self.service.checkpoint(self.turn, self.token, self.message_id, self.answer.columns())
            except StorageUnavailable:
                logger.warning("The database does not answer: turn %s goes on, and is saved later.", self.turn.id)
                return
            except Lost:
                self.lose()
                raise
            self._saved = additions
        if stop:
            self.stop()

    def settle(self, state: str, error: ConversationsError | None = None) -> None:
        """Save the answer as it is, and how the turn has ended; whoever comes first decides."""
        with self._saving:
            if self.ended.is_set():
                return
            self.error = error
            told = problem(error) if error is not None else None
            columns = self.answer.columns()
            self.outcome = self.persist(lambda: self._ended(columns, state, told))
            self.end()

    def _ended(self, columns: Any, state: str, told: Any) -> dict[str, Any] | None:
        return self.service.end_turn(self.turn, self.token, self.message_id, columns, state, told)

    def _pause(self) -> None:
        with self._saving:
            if self.ended.is_set():
                return
            columns, calls = self.answer.columns(), self.answer.pending
            self.persist(lambda: self.service.await_approval(self.turn, self.token, self.message_id, columns, calls))
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
            self.service.end_turn(self.turn, self.token, self.message_id, None, FAILED, problem(self.error))
        except Lost:
            pass
        except Exception as again:  # noqa: BLE001 - its lease will end, and somebody will find it
            _log_failure(f"Turn {self.turn.id} could not be ended", again)

    def persist(self, step: Callable[[], T]) -> T:
        """Take a step; while the database is out, again and again for a minute."""
        timing = self.runner.timing
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
        except Lost:
            self.end()

    def interrupt(self, why: str) -> None:
        """End the turn although nobody has asked for that."""
        self.stop(INTERRUPTED, Interrupted(why))

    def end_apart(self, end: Callable[[], object]) -> None:
        """Have it ended in a thread of its own: whoever looks after many turns must not wait for the database for one of them."""
        if self._ending is None or not self._ending.is_alive():
            self._ending = threading.Thread(target=carefully, args=[end], name=f"end-{self.turn.id}", daemon=True)
            self._ending.start()

    def lose(self) -> None:
        """The turn belongs to somebody else, or to nobody: nothing of it is saved here any more."""
        self.stopping.set()
        self._interrupt()
        self.end()

    def tick(self) -> None:
        """Some time has passed: save what waits for that, pass on what is new, and look whether it has stalled."""
        now = time.monotonic()
        if self.turn.state != WAITING and now - self.heard_at > self.service.config.turn_timeout:
            why = f"The responder said nothing for {self.service.config.turn_timeout:g} seconds."
            self.end_apart(functools.partial(self.interrupt, why))
            return
        if now - self._saved_at >= self.runner.timing.checkpoint and self._saving.acquire(blocking=False):
            try:
                self.save()
            finally:
                self._saving.release()
        self._pass_on()

    def _pass_on(self) -> None:
        relay = self.runner.relay
        if relay is None or not self.begun_answer:
            return
        said = list(part_events(self.answer.parts, self.pauses, self.message_id, self._relayed))
        self._is_passed_on = self._is_passed_on or bool(said)
        if said and relay.tell(self.turn.conversation_id, self.turn.id, said, self.runner.timing.kept):
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
        return self.begun_answer and last_position(self.answer.parts, self.pauses) > position

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()


def carefully(call: Callable[[], Any]) -> None:
    """What fails for one turn must not end the others."""
    try:
        call()
    except Lost:
        pass
    except ConversationsError as error:
        logger.warning("A turn could not be looked after (%s).", type(error).__name__)
    except Exception as error:  # noqa: BLE001 - of the host's hooks, say: told without what it says
        logger.error("A turn could not be looked after: %s", without_words(error))


class _Enough(Exception):
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
    logger.error("%s: %s", what, without_words(error))


def _is_green() -> bool:
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))
