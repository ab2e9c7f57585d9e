"""Judges what was read under chaos: it must be what the database had at one moment between the beginning and the end of the read.

A write counts from the moment it was acknowledged; it may be seen from the moment its COMMIT was sent. What no protocol without a
look at the database can do is counted apart, see `Judge`.
"""

from __future__ import annotations

import bisect
import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from .event_log import Message, State

LATE = 0.5
"""Seconds by which a machine with two cores may be late between looking at the clock and acting."""


@dataclasses.dataclass
class Written:
    """One acknowledged or failed write, as its worker saw it."""

    worker: int
    conversation_id: str
    change: tuple[str, str | None] | None
    """One change that it made, which the event log has if it was committed."""
    committing: float | None
    """When its COMMIT was sent; None if it never was."""
    acknowledged: float | None
    """When the call returned without an error."""
    reserving: float | None = None
    """When the cache was closed before the commit."""
    reserved: bool = False
    settled: bool = False
    """Whether Redis has answered before and after the commit."""


@dataclasses.dataclass
class Read:
    """One answer, as its reader saw it."""

    worker: int
    conversation_id: str
    began: float
    ended: float
    limit: int
    messages: list[Any]
    """Contents, or pairs of id and content, the oldest first."""
    version: int | None = None
    min_version: int = 0


class Judge:
    """Judges the reads of one run.

    With *max_staleness* a worker may miss what another one wrote without reaching Redis, neither before nor after its commit,
    for so many seconds: that is documented. *losses* are the moments at which Redis lost what it had, reservations too.
    """

    def __init__(
        self,
        states: dict[str, list[State]],
        written: Iterable[Written],
        *,
        max_staleness: float | None = None,
        losses: Sequence[float] = (),
    ) -> None:
        self._states = states
        self._versions = {conversation: [state.version for state in some] for conversation, some in states.items()}
        self._max_staleness = max_staleness
        self._losses = sorted(losses)
        self.lost: list[Written] = []
        """Acknowledged, and not in the database."""
        self.phantoms: list[Written] = []
        """In the database although its COMMIT was never sent."""
        self.verdicts: Counter[str] = Counter()
        self.wrong: list[tuple[str, Read]] = []
        self._begun: dict[str, dict[int, float]] = {}
        # per conversation: moments, and the newest version acknowledged until then; all of them, and those sure to be seen
        self._acknowledged = {conversation: _Rising() for conversation in states}
        self._sure = {conversation: _Rising() for conversation in states}
        self._own: dict[tuple[str, int], _Rising] = {}
        self.written = list(written)
        self._place(self.written)

    def _place(self, written: list[Written]) -> None:
        where: dict[Any, int] = {}
        for conversation, some in self._states.items():
            for state in some:
                for change in state.changes:
                    # a later change of a neighbour may write the same content again
                    where.setdefault((conversation, change), state.version)
        for each in sorted(written, key=lambda one: one.acknowledged or 0):
            version = where.get((each.conversation_id, each.change)) if each.change else None
            if version is None:
                if each.change and each.acknowledged is not None:
                    self.lost.append(each)
                continue
            if each.committing is None:
                self.phantoms.append(each)
                continue
            self._begun.setdefault(each.conversation_id, {})[version] = each.committing
            if each.acknowledged is None:
                continue
            self._acknowledged[each.conversation_id].add(each.acknowledged, version)
            own = self._own.setdefault((each.conversation_id, each.worker), _Rising())
            own.add(each.acknowledged, version)
            if not self._is_out_of_reach(each):
                self._sure[each.conversation_id].add(each.acknowledged, version)

    def _is_out_of_reach(self, each: Written) -> bool:
        if each.settled:
            return False
        if each.reserving is None or not each.reserved:
            return True
        # the reservation stands in the way of all readers, unless it was lost as well
        return bisect.bisect_left(self._losses, each.reserving - LATE) < len(self._losses)

    def judge(self, read: Read) -> str:
        """`right`, `older` (the documented limit), or what is wrong with it."""
        states = self._states[read.conversation_id]
        versions = self._versions[read.conversation_id]
        floor = max(read.min_version, self._acknowledged[read.conversation_id].at(read.began))
        verdict = self._match(read, states[bisect.bisect_left(versions, floor) :])
        if verdict != "right" and self._max_staleness is not None:
            own = self._own.get((read.conversation_id, read.worker))
            floor = max(
                read.min_version,
                own.at(read.began) if own else 0,
                self._sure[read.conversation_id].at(read.began),
                self._acknowledged[read.conversation_id].at(read.began - self._max_staleness - LATE),
            )
            if self._match(read, states[bisect.bisect_left(versions, floor) :]) == "right":
                verdict = "older"
        if verdict not in ("right", "older"):
            verdict = self._kind(read)
            self.wrong.append((verdict, read))
        self.verdicts[verdict] += 1
        return verdict

    def explain(self, read: Read) -> str:
        """The read and the states around it, for debugging."""
        began = read.began
        lines = [
            f"{read.worker} read {read.limit} in {read.ended - began:.3f} s: {read.messages}, version {read.version}"
        ]
        lines[0] += f", min_version {read.min_version}"
        written = {each.committing: each for each in self.written if each.conversation_id == read.conversation_id}
        begun = self._begun.get(read.conversation_id, {})
        for state in self._states[read.conversation_id]:
            one = written.get(begun.get(state.version))
            if one is None or -0.7 < (one.committing or 0) - began < 0.2:
                description = one and (
                    f"by {one.worker}, committing {(one.committing or 0) - began:+.3f}, "
                    f"acknowledged {(one.acknowledged or 0) - began:+.3f}, reserving {(one.reserving or 0) - began:+.3f}, "
                    f"reserved {one.reserved}, settled {one.settled}"
                )
                lines.append(f"  {state.version}: {[text for _, text in state.newest[: read.limit]]} {description}")
        lines.append(f"  losses {[round(loss - began, 3) for loss in self._losses if -1 < loss - began < 0.3]}")
        return "\n".join(line[:300] for line in lines[:24])

    def _match(self, read: Read, states: Sequence[State]) -> str:
        begun = self._begun.get(read.conversation_id, {})
        for state in states:
            if begun.get(state.version, 0) > read.ended:
                break
            if (read.version is None or read.version == state.version) and _shows(read, state):
                return "right"
        return "wrong"

    def _kind(self, read: Read) -> str:
        """What is wrong with a read, for debugging."""
        if len(set(map(str, read.messages))) < len(read.messages):
            return "doubled"
        states = self._states[read.conversation_id]
        if any(_shows(read, state) for state in states):
            if read.version is not None and not any(
                state.version == read.version and _shows(read, state) for state in states
            ):
                return "labelled with another version"
            return "stale or early"
        known = {one for state in states for message in state.newest for one in (message, message[1])}
        if any((tuple(one) if isinstance(one, list) else one) not in known for one in read.messages):
            return "never committed"
        return "never so"


def _shows(read: Read, state: State) -> bool:
    wanted: tuple[Message, ...] = state.newest[: read.limit]
    if len(read.messages) != len(wanted):
        return False
    shown = reversed(read.messages)
    if read.version is None:
        return all(content == message[1] for content, message in zip(shown, wanted, strict=True))
    return all(tuple(one) == message for one, message in zip(shown, wanted, strict=True))


class _Rising:
    """The largest number given until a moment; moments come in order."""

    def __init__(self) -> None:
        self._moments: list[float] = []
        self._numbers: list[int] = []

    def add(self, moment: float, number: int) -> None:
        self._moments.append(moment)
        self._numbers.append(max(number, self._numbers[-1] if self._numbers else 0))

    def at(self, moment: float) -> int:
        place = bisect.bisect_left(self._moments, moment)
        return self._numbers[place - 1] if place else 0
