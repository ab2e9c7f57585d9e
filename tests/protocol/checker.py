"""Every order of steps: breadth first, so that the first trace to something wrong is a shortest one."""

from __future__ import annotations

import collections
import dataclasses
import gc
import time
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from .world import ENVIRONMENT, State, Step


class Machine(Protocol):
    """What can be explored."""

    initial: State
    processes: tuple[Any, ...]

    def steps(self, state: State) -> list[Step]: ...

    def wrong(self, state: State) -> Iterator[tuple[str, str]]: ...


@dataclasses.dataclass
class Report:
    """What an exploration has seen."""

    states: int = 0
    interleavings: int = 0
    """Different complete orders of steps: the paths from the first state to those where nothing can happen any more."""
    seconds: float = 0.0
    violations: dict[tuple[str, str], list[str]] = dataclasses.field(default_factory=dict)
    """The shortest trace to each kind of violation: `read`, `ack` or `commit`, and what is wrong."""

    def broken(self, *promises: str) -> dict[tuple[str, str], list[str]]:
        """Violations of these promises."""
        return {what: trace for what, trace in self.violations.items() if what[0] in promises}

    @property
    def shortest(self) -> tuple[tuple[str, str], list[str]] | None:
        return min(self.violations.items(), key=lambda found: len(found[1]), default=None)


def explore(world: Machine, *, until: Sequence[str] = (), most: int = 5_000_000) -> Report:
    """All that can happen in *world*; with *until* only as far as the first violation of one of these promises."""
    # nothing here is a cycle, and looking for some among a million tuples takes longer than the rest
    collecting = gc.isenabled()
    gc.disable()
    try:
        return _explored(world, until, most)
    finally:
        if collecting:
            gc.enable()


def _explored(world: Machine, until: Sequence[str], most: int) -> Report:
    began = time.perf_counter()
    report = Report()
    numbers = {world.initial: 0}
    states, parents, edges = [world.initial], [(0, "")], []
    steps_of, wrong_in = world.steps, world.wrong

    def note(promise: str, kind: str, number: int, *last: str) -> bool:
        if (promise, kind) not in report.violations:
            report.violations[promise, kind] = [*_trace(parents, number), *last]
        return promise in until

    done = False
    for number, state in enumerate(states):  # grows
        for promise, kind in wrong_in(state):
            done = note(promise, kind, number) or done
        following = []
        for who, what, after, wrong in steps_of(state):
            if wrong is not None:
                done = note("read", wrong, number, _named(world, who, what)) or done
            known = numbers.get(after)
            if known is None:
                known = numbers[after] = len(states)
                states.append(after)
                parents.append((number, _named(world, who, what)))
            following.append(known)
        edges.append(following)
        if done:
            break
        if len(states) > most:
            raise MemoryError(f"More than {most} states.")
    report.states = len(states)
    report.interleavings = 0 if done else _paths(edges)
    report.seconds = time.perf_counter() - began
    return report


def _named(world: Machine, who: int, what: str) -> str:
    return f"{'-' if who == ENVIRONMENT else world.processes[who].name}: {what}"


def _trace(parents: list[tuple[int, str]], number: int) -> list[str]:
    trace = []
    while number:
        number, what = parents[number]
        trace.append(what)
    return trace[::-1]


def _paths(edges: list[list[int]]) -> int:
    """How many paths lead from the first state to one without a step; the graph has no cycles, or this raises."""
    waiting = [0] * len(edges)
    for following in edges:
        for after in following:
            waiting[after] += 1
    ways = [0] * len(edges)
    ways[0] = 1
    ready, total, seen = collections.deque([0]), 0, 0
    while ready:
        number = ready.popleft()
        seen += 1
        if not edges[number]:
            total += ways[number]
        for after in edges[number]:
            ways[after] += ways[number]
            waiting[after] -= 1
            if not waiting[after]:
                ready.append(after)
    if seen < len(edges):
        raise ValueError("The steps go round in circles.")
    return total


def play(world: Machine, schedule: Sequence[tuple[str, str]]) -> Report:
    """One order of steps: each of *schedule* is a process and the step up to which it goes on alone, or `end`.

    What happens to all of them belongs to `-`. Steps are named by how they begin.
    """
    report = Report(states=1, interleavings=1)
    state = world.initial
    trace: list[str] = []

    def note() -> None:
        for found in world.wrong(state):
            report.violations.setdefault(found, list(trace))

    for name, until in schedule:
        while True:
            mine = [step for step in world.steps(state) if _named(world, step.who, "").startswith(f"{name}:")]
            if not mine and until == "end":
                break
            step = next((step for step in mine if step.what.startswith(until)), mine[0] if mine else None)
            if step is None:
                raise LookupError(f"{name} never comes to {until!r}: {trace}")
            state = step.state
            trace.append(_named(world, step.who, step.what))
            report.states += 1
            if step.wrong is not None:
                report.violations.setdefault(("read", step.wrong), list(trace))
            note()
            if step.what.startswith(until):
                break
    return report
