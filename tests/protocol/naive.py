"""The usual first designs, as controls: the checker has to find each of them wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from . import states
from .world import DONE, WRITING, Content, Reader, State, Step, World, Writer, classified, view


@dataclasses.dataclass(frozen=True)
class NaiveDesign:
    """A list of messages in Redis, kept up by plain commands."""

    write: str = "push"
    """`push` after the commit, `push first` before it, `delete` after it, `delete twice`."""
    atomic: bool = True
    """LPUSH and LTRIM in one MULTI."""
    only_if_there: bool = False
    """LPUSHX: a list that is not there is not begun."""
    populate: str = "replace"
    """`append` (RPUSH), `replace` (DEL and RPUSH in one MULTI), `absent` (only where nothing is)."""


NAIVE = {
    "seed: COMMIT, LPUSH, LTRIM; LRANGE or SELECT, RPUSH": NaiveDesign(atomic=False, populate="append"),
    "MULTI around LPUSH, LTRIM and DEL, RPUSH": NaiveDesign(),
    "LPUSHX, and populate where nothing is": NaiveDesign(only_if_there=True, populate="absent"),
    "push before COMMIT": NaiveDesign(write="push first"),
    "cache-aside: COMMIT, DEL": NaiveDesign(write="delete"),
    "double delete: DEL, COMMIT, DEL": NaiveDesign(write="delete twice"),
}

SEED, MULTI, _PUSHX, PUSH_FIRST, CACHE_ASIDE, _TWICE = NAIVE.values()


class NaiveWorld(World):
    """The same people and the same faults; the key is a tuple of messages, the newest first, and empty if there is none."""

    nothing = ()

    def __init__(
        self,
        design: NaiveDesign,
        processes: Sequence[Reader | Writer],
        history: Sequence[Content],
        *,
        warm: bool = False,
        faults: Sequence[str] = (),
    ) -> None:
        from .designs import SHIPPED

        super().__init__(SHIPPED, processes, history, faults=faults)
        self.naive = design
        self.initial = self.initial._replace(key=(view(history[-1]) or ()) if warm else ())

    def servable(self, state: State) -> Content:
        return state.key[: states.LIMIT] or None

    def execute(self, key: Any, run: int, command: tuple[Any, ...]) -> tuple[Any, Any]:
        name, _, *arguments = command
        if name == "lrange":
            return key, key[: states.LIMIT]
        if name == "del":
            return (), True
        if name == "ltrim":
            return key[: states.LIMIT], True
        if name == "populate":
            (window,) = arguments
            return {"append": key + window, "replace": window, "absent": key or window}[self.naive.populate], True
        if self.naive.only_if_there and not key:
            return key, True
        pushed = (*reversed(arguments[0]), *key)
        return (pushed[: states.LIMIT] if self.naive.atomic else pushed), True

    def _is_open(self, state: State, home: int, side: int) -> bool:
        return False

    def _breakers(self, state: State, home: int, both: tuple[bool, bool]) -> tuple[tuple[bool, bool], ...]:
        return state.open

    def _of_reservations(self, state: State) -> Iterator[Step]:
        return iter(())

    # -- a writer

    def _row(self, state: State, i: int) -> Iterator[Step]:
        writer = self.processes[i]
        first = {"delete twice": ("del", i), "push first": ("push", i, writer.adds)}.get(self.naive.write)
        if first is None or (first[0] == "push" and writer.does not in ("append", "create")):
            yield from self._commit(state, i, 0, "")
            return
        for what, after, _ in self.sent(state, writer.home, *first, side=WRITING):
            yield Step(i, what, self._to(after, i, "commit", 0, ""))

    def _commit(self, state: State, i: int, from_: int, settles: str) -> Iterator[Step]:
        if state.history[-1][1] is None and self.processes[i].does != "create":
            yield Step(i, "404", self._to(state, i, "done"))
            return
        for step in super()._commit(state, i, len(state.history) - 1, ""):
            yield step._replace(state=self._after_commit(step.state, i))

    def _after_commit(self, state: State, i: int) -> State:
        """What is left to do once it has committed, or has been rolled back."""
        local = state.locals[i]
        if local[0] == "undo":
            return self._to(state, i, *DONE)
        if local[0] != "settle":
            return state
        appends = self.processes[i].does in ("append", "create")
        if appends and self.naive.write == "push first":
            return self._to(state, i, *DONE)
        return self._to(state, i, "settle", local[1], "push" if appends and self.naive.write == "push" else "del")

    def _settle(self, state: State, i: int, from_: int, settles: str) -> Iterator[Step]:
        writer = self.processes[i]
        arguments = (writer.adds,) if settles == "push" else ()
        then = ("settle", from_, "ltrim") if settles == "push" and not self.naive.atomic else DONE
        for what, after, _ in self.sent(state, writer.home, settles, i, *arguments, side=WRITING):
            yield Step(i, what, self._to(after, i, *then))

    # -- a reader

    def _begin(self, state: State, i: int, min_version: int) -> Iterator[Step]:
        since = self.acknowledged(state)
        for what, after, answer in self.sent(state, self._at(i), "lrange", i):
            label = what.replace("LRANGE", "READ")
            if answer:
                wrong = None if self.matches(answer, state, since) else classified(answer, state.history)
                yield Step(i, f"{label}: hit", self._to(after, i, "done"), wrong)
            else:
                yield Step(i, f"{label}: miss", self._to(after, i, "select", answer))

    def _select(self, state: State, i: int, answer: Any) -> Iterator[Step]:
        window = view(state.history[-1][1])
        goes_on = ("fill", window) if window and answer is not None else DONE
        yield Step(i, "SELECT", self._to(state, i, *goes_on))

    def _fill(self, state: State, i: int, window: Content) -> Iterator[Step]:  # type: ignore[override]
        for what, after, _ in self.sent(state, self._at(i), "populate", i, window):
            yield Step(i, what, self._to(after, i, "done"))
