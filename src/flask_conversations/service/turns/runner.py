"""All turns that one app has under way in one process, and the thread that keeps them alive."""

from __future__ import annotations

import atexit
import functools
import logging
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from ...counters import Counters
from ...errors import ConversationsError, StorageUnavailable
from ...models import CANCELLED, COMPLETED, FAILED, INTERRUPTED, LIVE_STATES
from ...streams import Relay
from .running import Responder, Work, carefully
from .shapes import Begun
from .timing import Timing

if TYPE_CHECKING:
    from .verbs import TurnVerbs

logger = logging.getLogger("flask_conversations")


class Runner:
    """Starts turns, finds them, and renews their leases while there are any."""

    def __init__(
        self, system: Callable[[], TurnVerbs], relay: Relay | None = None, responder: Responder | None = None
    ) -> None:
        self._system = system
        self.relay = relay
        self.responder = responder
        """Who answers; None if the host's own routes do."""
        self.timing = Timing()
        self.streams = 0
        """Streams of events that this process keeps open."""
        self.counters = Counters(*LIVE_STATES, COMPLETED, FAILED, CANCELLED, INTERRUPTED)
        """How often a turn has reached each state, by the doing of this process."""
        self._works: dict[str, Work] = {}
        self._lock = threading.Lock()
        self._ended = threading.Condition()
        self._keepers: dict[str, threading.Thread] = {}
        self._renewed_at = self._listened_at = time.monotonic()
        self._recovered = False
        _runners.add(self)

    def start(self, service: TurnVerbs, begun: Begun, token: str, responder: Responder) -> Work:
        """Answer a turn in a thread of its own."""
        work = self.adopt(service, begun, token, responder)
        try:
            threading.Thread(target=work.main, name=f"turn-{begun.turn.id}", daemon=True).start()
        except RuntimeError as error:
            work.interrupt("This server cannot start another turn at the moment.")
            raise StorageUnavailable("No thread could be started for the turn.") from error
        return work

    def adopt(self, service: TurnVerbs, begun: Begun, token: str, responder: Responder) -> Work:
        """Keep a turn alive that somebody else answers."""
        work = Work(self, service, begun, token, responder)
        with self._lock:
            self._works[begun.turn.id] = work
            self._keep_alive("turn-keeper", self._look_after)
            self._keep_alive("turn-leases", self._look_after_leases)
        return work

    def stats(self) -> dict[str, int]:
        """What has become of turns in this process, and what is going on in it."""
        return {**self.counters.all(), "running": len(self._works), "streams": self.streams}

    def open_stream(self, by: int = 1) -> None:
        """One stream of events more; with -1 one less."""
        with self._lock:
            self.streams += by

    def find(self, turn_id: str) -> Work | None:
        """The turn, if this process is answering it."""
        return self._works.get(turn_id)

    def forget(self, work: Work) -> None:
        """A turn has ended: those that wait for it may look."""
        with self._lock:
            self._works.pop(work.turn.id, None)
        with self._ended:
            self._ended.notify_all()

    def nap(self, conversation_id: str, seconds: float) -> None:
        """Wait until a turn of this process has ended, at most *seconds*."""
        with self._ended:
            self._ended.wait(seconds)

    def recover_once(self) -> None:
        """The first time that turns matter to this process, end those that a dead one has left behind."""
        if self._recovered:
            return
        self._recovered = True
        try:
            self._system().recover()
        except ConversationsError as error:
            logger.warning("Turns that a dead worker has left behind could not be looked for: %s", error.detail)

    def _keep_alive(self, name: str, target: Callable[[], None]) -> None:
        """Have that thread, under the lock."""
        thread = self._keepers.get(name)
        if thread is None or not thread.is_alive():
            self._keepers[name] = threading.Thread(target=self._keep, args=[name, target], name=name, daemon=True)
            self._keepers[name].start()

    def _keep(self, name: str, target: Callable[[], None]) -> None:
        """Look after the turns until there are none left."""
        while True:
            time.sleep(self.timing.tick)
            if self._works:
                carefully(target)
                continue
            with self._lock:
                if not self._works:
                    self._keepers.pop(name, None)
                    return

    def _look_after(self) -> None:
        for work in list(self._works.values()):
            carefully(work.tick)

    def _look_after_leases(self) -> None:
        # in a thread apart: a save that has to wait for a lock or a connection must cost no other turn its lease
        system = self._system()
        if system.shares_one_connection:
            return  # a database in memory: there is no other process that could ask for anything
        now, works = time.monotonic(), list(self._works.values())
        if now - self._renewed_at >= system.config.turn_lease / 3:
            self._renewed_at = self._listened_at = now
            carefully(lambda: self._renew(system, works))
        elif now - self._listened_at >= self.timing.listen:
            self._listened_at = now
            carefully(lambda: self._listen(system, works))

    def _renew(self, system: TurnVerbs, works: list[Work]) -> None:
        kept = system.renew_leases([work.token for work in works])
        for work in works:
            if work.token not in kept:
                if not work.ended.is_set() and self.find(work.turn.id) is work:
                    work.lose()
            elif kept[work.token]:
                work.end_apart(work.stop)

    def _listen(self, system: TurnVerbs, works: list[Work]) -> None:
        asked = system.asked_to_stop([work.token for work in works])
        for work in works:
            if work.token in asked:
                work.end_apart(work.stop)

    def shut_down(self) -> None:
        """The process ends: what was said so far is saved and marked."""
        for work in list(self._works.values()):
            carefully(functools.partial(work.interrupt, "The server was stopped."))


_runners: weakref.WeakSet[Runner] = weakref.WeakSet()


@atexit.register
def _shut_down() -> None:
    for runner in list(_runners):
        runner.shut_down()
