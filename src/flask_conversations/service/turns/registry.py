"""All turns that one app executes in one process, and the heartbeats that renew their leases."""

from __future__ import annotations

import atexit
import functools
import logging
import threading
import time
import weakref
from collections.abc import Callable

from ...counters import Counters
from ...errors import ConversationsError, StorageUnavailable
from ...streams import Relay
from ...tables import CANCELLED, COMPLETED, FAILED, INTERRUPTED, LIVE_STATES
from ..unit_of_work import Units
from . import recovery
from .execution import Responder, TurnExecution, log_errors
from .timing import Timing
from .types import StartedTurn

logger = logging.getLogger("flask_conversations")


class TurnRegistry:
    """Starts and finds turns, and renews their leases."""

    def __init__(
        self, system: Callable[[], Units], relay: Relay | None = None, responder: Responder | None = None
    ) -> None:
        self._system = system
        self.relay = relay
        self.responder = responder
        """The host's responder; None if the host answers in its own routes."""
        self.timing = Timing()
        self.streams = 0
        """The number of open event streams in this process."""
        self.counters = Counters(*LIVE_STATES, COMPLETED, FAILED, CANCELLED, INTERRUPTED)
        """How often this process has moved a turn to each state."""
        self._executions: dict[str, TurnExecution] = {}
        self._lock = threading.Lock()
        self._ended = threading.Condition()
        self._heartbeats: dict[str, threading.Thread] = {}
        self._renewed_at = self._stops_polled_at = time.monotonic()
        self._recovered = False
        _registries.add(self)

    def start(self, units: Units, started: StartedTurn, token: str, responder: Responder) -> TurnExecution:
        """Execute a turn in its own thread."""
        execution = self.adopt(units, started, token, responder)
        try:
            threading.Thread(target=execution.main, name=f"turn-{execution.turn.id}", daemon=True).start()
        except RuntimeError as error:
            execution.interrupt("This server cannot start another turn at the moment.")
            raise StorageUnavailable("No thread could be started for the turn.") from error
        return execution

    def adopt(self, units: Units, started: StartedTurn, token: str, responder: Responder) -> TurnExecution:
        """Renew the lease of a turn that the caller answers."""
        execution = TurnExecution(self, units, started, token, responder)
        with self._lock:
            self._executions[execution.turn.id] = execution
            self._ensure_heartbeat("turn-heartbeat", self._poll)
            self._ensure_heartbeat("turn-leases", self._poll_leases)
        return execution

    def stats(self) -> dict[str, int]:
        """The counters of this process: turns by state, running turns and open streams."""
        return {**self.counters.all(), "running": len(self._executions), "streams": self.streams}

    def open_stream(self, by: int = 1) -> None:
        """Count one more open stream; with *by* = -1 one less."""
        with self._lock:
            self.streams += by

    def find(self, turn_id: str) -> TurnExecution | None:
        """The execution of a turn; None if this process does not execute it."""
        return self._executions.get(turn_id)

    def forget(self, execution: TurnExecution) -> None:
        """Remove an ended turn, and wake the threads in `wait`."""
        with self._lock:
            self._executions.pop(execution.turn.id, None)
        with self._ended:
            self._ended.notify_all()

    def wait(self, seconds: float) -> None:
        """Wait until a turn of this process has ended, at most *seconds*."""
        with self._ended:
            self._ended.wait(seconds)

    def recover_once(self) -> None:
        """Recover the turns of dead workers, once in this process."""
        if self._recovered:
            return
        self._recovered = True
        try:
            recovery.recover(self._system())
        except ConversationsError as error:
            logger.warning("The recovery of turns failed: %s", error.detail)

    def _ensure_heartbeat(self, name: str, target: Callable[[], None]) -> None:
        """Start the thread unless it is alive. The caller holds the lock."""
        thread = self._heartbeats.get(name)
        if thread is None or not thread.is_alive():
            self._heartbeats[name] = threading.Thread(
                target=self._run_heartbeat, args=[name, target], name=name, daemon=True
            )
            self._heartbeats[name].start()

    def _run_heartbeat(self, name: str, target: Callable[[], None]) -> None:
        """Call *target* periodically until there are no turns."""
        while True:
            time.sleep(self.timing.poll_interval)
            if self._executions:
                log_errors(target)
                continue
            with self._lock:
                if not self._executions:
                    self._heartbeats.pop(name, None)
                    return

    def _poll(self) -> None:
        for execution in list(self._executions.values()):
            log_errors(execution.poll)

    def _poll_leases(self) -> None:
        # in its own thread: a checkpoint that waits for a lock or a connection must not delay the leases of other turns
        system = self._system()
        if system.backend.shares_one_connection:
            return  # a database in memory has no other process
        now, executions = time.monotonic(), list(self._executions.values())
        if now - self._renewed_at >= system.backend.config.turn_lease / 3:
            self._renewed_at = self._stops_polled_at = now
            log_errors(lambda: self._renew(system, executions))
        elif now - self._stops_polled_at >= self.timing.stop_poll_interval:
            self._stops_polled_at = now
            log_errors(lambda: self._poll_stops(system, executions))

    def _renew(self, system: Units, executions: list[TurnExecution]) -> None:
        kept = system.write(recovery.renew_leases, [execution.token for execution in executions])
        for execution in executions:
            if execution.token not in kept:
                if not execution.ended.is_set() and self.find(execution.turn.id) is execution:
                    execution.abandon()
            elif kept[execution.token]:
                execution.stop_in_background(execution.stop)

    def _poll_stops(self, system: Units, executions: list[TurnExecution]) -> None:
        cancelled = system.read(recovery.stop_requests, [execution.token for execution in executions])
        for execution in executions:
            if execution.token in cancelled:
                execution.stop_in_background(execution.stop)

    def shut_down(self) -> None:
        """Save the answers so far, and end their turns as interrupted, when the process ends."""
        for execution in list(self._executions.values()):
            log_errors(functools.partial(execution.interrupt, "The server was stopped."))


_registries: weakref.WeakSet[TurnRegistry] = weakref.WeakSet()


@atexit.register
def _shut_down() -> None:
    for registry in list(_registries):
        registry.shut_down()
