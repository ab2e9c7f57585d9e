"""The shipped protocol as a state machine: writers, readers, their processes, one key, one row, and all that may go wrong.

A state is a tuple; `World.steps` gives every state that one atomic step leads to. A step is one SQL statement, one Redis command
with its answer, or one thing that happens to them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from . import states
from .designs import Design
from .states import NOTHING, Key

NOBODY = -1
ENVIRONMENT = -1
READING, WRITING = 0, 1
CLOSED = (False, False)

LEASES = 100
"""Tokens of leases begin here; those of reservations are the numbers of the writers."""

Content = tuple[int, ...] | None
"""All messages of a conversation, the oldest first; None if there is no conversation."""

INNER: Content = (-1,)
"""A version within a transaction, which no other process may see."""

DONE = ("done",)

COMMAND_FAULTS = {
    "doubled": "(executed twice) ",
    "lost": "(time-out, not executed) ",
    "unanswered": "(time-out, executed) ",
    "late": "(time-out, executed later) ",
}


@dataclasses.dataclass(frozen=True)
class Reader:
    """A process that reads the newest messages."""

    name: str
    home: int = 0
    """Its process."""
    alone: bool = True
    """Whether the transaction that it reads in is its own: then the design's share lock is used."""
    snapshot: bool = False
    """Whether it reads in a transaction that sees one snapshot."""

    @property
    def start(self) -> tuple[Any, ...]:
        return ("snapshot",) if self.snapshot else ("begin", 0)


@dataclasses.dataclass(frozen=True)
class Writer:
    """A process that changes the conversation in one transaction, and perhaps reads it afterwards."""

    name: str
    does: str = "append"
    """`append`, `create` (with what it adds), `edit` or `delete`."""
    adds: tuple[int, ...] = ()
    """Messages; each is a step of the version."""
    home: int = 0
    peeks: bool = False
    """Whether it reads before it commits."""
    then_reads_at: int | None = None
    """The process where it reads what it wrote, naming the version it was given."""

    @property
    def start(self) -> tuple[Any, ...]:
        return ("row",)

    @property
    def steps(self) -> int:
        """How many versions it adds."""
        return {"append": len(self.adds), "create": 1 + len(self.adds)}.get(self.does, 1)


class State(NamedTuple):
    """Everything, at one moment."""

    locals: tuple[tuple[Any, ...], ...]
    """Where each process is."""
    history: tuple[tuple[int, Content], ...]
    """The committed versions: who wrote it (its `rev`), and what the conversation was then."""
    lock: int = NOBODY
    shares: int = 0
    key: Key = NOTHING
    copy: Key | None = None
    """What a replica or a dump has."""
    run: int = 0
    late: tuple[tuple[Any, ...], ...] = ()
    """Commands that are still on their way."""
    pending: tuple[int, ...] = ()
    """The number of the last pending invalidation of each process, 0 for none."""
    open: tuple[tuple[bool, bool], ...] = ()
    """Whether the circuit breakers of each process are open, that of readers and that of writers."""
    faults: tuple[str, ...] = ()
    """What may still go wrong."""


class Step(NamedTuple):
    who: int
    what: str
    state: State
    wrong: str | None = None
    """What was read, if it was wrong."""


@functools.cache
def view(content: Content) -> Content:
    """What a reader is to see of it: the newest messages, the newest first."""
    return None if content is None else tuple(reversed(content[-states.LIMIT :]))


def spend(state: State, fault: str) -> tuple[str, ...]:
    place = state.faults.index(fault)
    return state.faults[:place] + state.faults[place + 1 :]


class World:
    """One design, with these processes on this conversation."""

    nothing: Any = NOTHING

    def __init__(
        self,
        design: Design,
        processes: Sequence[Reader | Writer],
        history: Sequence[Content],
        *,
        warm: bool = False,
        faults: Sequence[str] = (),
        trusted: frozenset[int] | None = None,
    ) -> None:
        self.design, self.processes = design, tuple(processes)
        homes = 1 + max(max(one.home, getattr(one, "then_reads_at", None) or 0) for one in processes)
        self.homes = frozenset(range(homes)) if trusted is None else trusted
        """The processes whose reads are promised to be right; the others only keep their session's promise."""
        numbered = tuple((LEASES + version, content) for version, content in enumerate(history))
        base = states.Base(0, len(history) - 1, numbered[-1][0], view(history[-1])) if warm else None
        self.initial = State(
            tuple(one.start for one in processes),
            numbered,
            key=Key((), None, base),
            pending=(0,) * homes,
            open=(CLOSED,) * homes,
            faults=tuple(sorted(faults)),
        )
        self._answers: dict[Any, tuple[Key, Any]] = {}
        self._moves: dict[str, Any] = {}
        self._spans = {i: one.steps for i, one in enumerate(processes) if isinstance(one, Writer)}

    # -- what is promised

    def wrong(self, state: State) -> Iterator[tuple[str, str]]:
        """What this state breaks: `("commit", kind)` if an entry lags behind the commit, `("ack", kind)` behind the answer."""
        base = self.servable(state)
        if base is None:
            return
        last = len(state.history) - 1
        if base == view(state.history[last][1]):
            return
        kind = classified(base, state.history)
        yield "commit", kind
        if not self.matches(base, state, self.acknowledged(state)):
            yield "ack", kind

    def servable(self, state: State) -> Content:
        """Every answer that a process whose reads must be right might get from now on."""
        if self.design.strict or (self.design.keeps_pending and all(state.pending[home] for home in self.homes)):
            return None
        base = states.servable(state.key, state.run, self.design)
        return None if base is None else base.window

    def acknowledged(self, state: State) -> int:
        """The newest version whose writer has its reply: every read from now on has to show it, or a newer one."""
        version = len(state.history) - 1
        in_flight = {
            local[1] + self._spans[i]: local[1] for i, local in enumerate(state.locals) if local[0] == "settle"
        }
        while version in in_flight:
            version = in_flight[version]
        return version

    @staticmethod
    def matches(window: Content, state: State, since: int) -> bool:
        return any(window == view(content) for _, content in state.history[since:])

    # -- steps

    def steps(self, state: State) -> list[Step]:
        steps: list[Step] = []
        for i, local in enumerate(state.locals):
            if local is not DONE:
                move = self._moves.get(local[0])
                if move is None:
                    move = self._moves[local[0]] = getattr(self, f"_{local[0]}")
                steps += move(state, i, *local[1:])
                if "crash" in state.faults and local[0] not in ("row", "begin", "snapshot"):
                    steps.append(self._crashed(state, i))
        steps += self._environment(state)
        return steps

    def _to(self, state: State, i: int, *local: Any, **changes: Any) -> State:
        places = (*state.locals[:i], local if local != DONE else DONE, *state.locals[i + 1 :])
        return state._replace(locals=places, **changes)

    def _crashed(self, state: State, i: int) -> Step:
        lock = NOBODY if state.lock == i else state.lock
        return Step(
            i,
            "kill -9",
            self._to(state, i, "done", lock=lock, shares=state.shares & ~(1 << i), faults=spend(state, "crash")),
        )

    # -- Redis

    def execute(self, key: Key, run: int, command: tuple[Any, ...]) -> tuple[Key, Any]:
        found = self._answers.get((key, run, command))
        if found is None:
            name, *arguments = command
            found = self._answers[key, run, command] = states.SCRIPTS[name](key, run, *arguments, design=self.design)
        return found

    def sent(
        self, state: State, home: int, *command: Any, side: int = READING, opens: bool = True
    ) -> Iterator[tuple[str, State, Any]]:
        """Everything that may become of a command: what to call it, the state, and the answer, None for none.

        *opens* says whether its failure opens the circuit breaker of its *side*.
        """
        name = command[0].upper()
        if self._is_open(state, home, side):
            yield f"{name} skipped", state, None
            return
        key, answer = self.execute(state.key, state.run, command)
        well = self._breakers(state, home, CLOSED)
        yield name, state._replace(key=key, open=well), answer
        for fault in dict.fromkeys(state.faults):
            if fault not in COMMAND_FAULTS:
                continue
            what, left = COMMAND_FAULTS[fault] + name, spend(state, fault)
            if fault == "doubled":
                again, second = self.execute(key, state.run, command)
                yield what, state._replace(key=again, open=well, faults=left), second
                continue
            after = state._replace(open=self._opened(state, home, side, opens), faults=left)
            if fault == "unanswered":
                after = after._replace(key=key)
            elif fault == "late":
                after = after._replace(late=(*state.late, command))
            yield what, after, None

    def _is_open(self, state: State, home: int, side: int) -> bool:
        return state.open[home][side]

    def _opened(self, state: State, home: int, side: int, opens: bool) -> tuple[tuple[bool, bool], ...]:
        reading, writing = state.open[home]
        if not self.design.breakers_apart:
            return self._breakers(state, home, (True, True))
        if side == READING:
            return self._breakers(state, home, (True, writing))
        return self._breakers(state, home, (reading, writing or opens))

    def _breakers(self, state: State, home: int, both: tuple[bool, bool]) -> tuple[tuple[bool, bool], ...]:
        return (*state.open[:home], both, *state.open[home + 1 :])

    # -- a writer

    def _mark(self, i: int) -> int:
        return 0 if self.design.one_flag else i

    def _row(self, state: State, i: int) -> Iterator[Step]:
        """BEGIN; UPDATE ... RETURNING version."""
        writer, content, version = self.processes[i], state.history[-1][1], len(state.history) - 1
        if self.design.reserves and self.design.reserves_early:
            for what, after, answer in self.sent(
                state, writer.home, "reserve", self._mark(i), None, i, False, side=WRITING, opens=False
            ):
                yield Step(i, what, self._to(after, i, "early", answer is not None))
        elif writer.does == "create":
            if version == 0 and content is None:
                yield Step(i, "INSERT", self._to(state, i, "reserve", 0))
            else:
                yield Step(i, "exists", self._to(state, i, "done"))
        elif content is None:
            yield Step(i, "404", self._to(state, i, "done"))
        elif state.lock == NOBODY and not state.shares:
            goes_on = "peek" if writer.peeks else "reserve"
            yield Step(i, "ROW LOCK", self._to(state, i, goes_on, version, lock=i))

    def _early(self, state: State, i: int, confirmed: bool) -> Iterator[Step]:
        if state.history[-1][1] is None:
            yield Step(i, "404", self._to(state, i, "undo"))
        elif state.lock == NOBODY and not state.shares:
            settles = self._settlement(i, confirmed)
            yield Step(i, "ROW LOCK", self._to(state, i, "commit", len(state.history) - 1, settles, lock=i))

    def _peek(self, state: State, i: int, from_: int) -> Iterator[Step]:
        """It reads what it has not committed."""
        if self.design.bypasses:
            yield Step(i, "SELECT", self._to(state, i, "reserve", from_))
            return
        for what, after, answer in self.sent(state, self.processes[i].home, "read", LEASES + i, 0):
            granted = answer is not None and answer[0] == "lease"
            yield Step(i, what, self._to(after, i, *(("own", from_, answer[1]) if granted else ("reserve", from_))))

    def _own(self, state: State, i: int, from_: int, run: int) -> Iterator[Step]:
        window = view(self._changed(state.history[-1][1], i)[-1])
        command = ("populate", LEASES + i, run, from_ + self._spans[i], i, window)
        for what, after, _ in self.sent(state, self.processes[i].home, *command):
            yield Step(i, what, self._to(after, i, "reserve", from_))

    def _reserve(self, state: State, i: int, from_: int) -> Iterator[Step]:
        writer = self.processes[i]
        if not self.design.reserves:
            yield Step(i, "flush", self._to(state, i, "commit", from_, self._settlement(i, True)))
            return
        command = ("reserve", self._mark(i), from_, i, writer.does == "create")
        for what, after, answer in self.sent(state, writer.home, *command, side=WRITING, opens=False):
            settles = self._settlement(i, answer is not None, asked="skipped" not in what)
            yield Step(i, what, self._to(after, i, "commit", from_, settles))

    def _settlement(self, i: int, confirmed: bool, asked: bool = True) -> str:
        """How the writer will settle; `mark stale` without a command."""
        if confirmed or not self.design.unconfirmed_drops:
            if self.processes[i].does in ("append", "create"):
                return "apply"
            return "drop" if self.design.changes_drop else "unreserve"
        return "again drop" if asked else "mark stale"

    def _commit(self, state: State, i: int, from_: int, settles: str) -> Iterator[Step]:
        free = NOBODY if state.lock == i else state.lock
        written = state.history + tuple((i, content) for content in self._changed(state.history[-1][1], i))
        yield Step(i, "COMMIT", self._to(state, i, "settle", from_, settles, history=written, lock=free))
        if "rollback" in state.faults:
            left = spend(state, "rollback")
            yield Step(i, "ROLLBACK", self._to(state, i, "undo", settles, lock=free, faults=left))
        if "unknown" in state.faults:
            left, goes_on = spend(state, "unknown"), DONE if self.design.unknown_stays else ("undo", settles)
            undecided = "COMMIT, outcome unknown"
            yield Step(i, f"{undecided} (done)", self._to(state, i, *goes_on, history=written, lock=free, faults=left))
            yield Step(i, f"{undecided} (not done)", self._to(state, i, *goes_on, lock=free, faults=left))

    def _changed(self, content: Any, i: int) -> list[Content]:
        writer = self.processes[i]
        if writer.does == "delete":
            return [None]
        if writer.does == "edit":
            return [(*(-message for message in content[:1]), *content[1:])]
        return [INNER] * (writer.steps - 1) + [(*(content or ()), *writer.adds)]

    def _settle(self, state: State, i: int, from_: int, settles: str) -> Iterator[Step]:
        writer, to = self.processes[i], from_ + self._spans[i]
        then = ("begin", to) if writer.then_reads_at is not None else DONE
        if settles == "mark stale":
            yield Step(i, "marks stale", self._to(state, i, *then, pending=self._mark_stale(state, writer.home, i)))
            return
        arguments = (from_, to, i, writer.adds) if settles == "apply" else ()
        command = (settles.removeprefix("again "), self._mark(i), *arguments)
        opens = settles.startswith("again") or not self.design.breaker_patient
        for what, after, answer in self._final(state, writer.home, *command, opens=opens):
            pending = after.pending if answer is not None else self._mark_stale(after, writer.home, i)
            yield Step(i, what, self._to(after, i, *then, pending=pending))

    def _final(self, state: State, home: int, *command: Any, opens: bool) -> Iterator[tuple[str, State, Any]]:
        """What ends a write is sent whatever the circuit breaker says, if what began it was."""
        if not self.design.breakers_apart:
            yield from self.sent(state, home, *command, side=WRITING)
            return
        reading, _ = state.open[home]
        closed = state._replace(open=self._breakers(state, home, (reading, False)))
        for what, after, answer in self.sent(closed, home, *command, side=WRITING, opens=opens):
            if answer is None and state.open[home][WRITING]:
                after = after._replace(open=self._breakers(after, home, (after.open[home][READING], True)))
            yield what, after, answer

    @staticmethod
    def _mark_stale(state: State, home: int, i: int) -> tuple[int, ...]:
        return (*state.pending[:home], i + 1, *state.pending[home + 1 :])

    def _undo(self, state: State, i: int, settles: str = "apply") -> Iterator[Step]:
        if not self.design.reserves or settles == "mark stale":
            yield Step(i, "end", self._to(state, i, "done"))
            return
        opens = settles.startswith("again") or not self.design.breaker_patient
        for what, after, _ in self._final(state, self.processes[i].home, "unreserve", self._mark(i), opens=opens):
            yield Step(i, what, self._to(after, i, "done"))

    # -- a reader

    def _at(self, i: int) -> int:
        one = self.processes[i]
        return one.home if isinstance(one, Reader) else one.then_reads_at

    def _snapshot(self, state: State, i: int) -> Iterator[Step]:
        yield Step(i, "SNAPSHOT", self._to(state, i, "within", len(state.history) - 1))

    def _within(self, state: State, i: int, version: int) -> Iterator[Step]:
        if self.design.bypasses:
            yield Step(i, "SELECT", self._to(state, i, "done"))
            return
        for what, after, answer in self.sent(state, self._at(i), "read", LEASES + i, 0):
            granted = answer is not None and answer[0] == "lease"
            goes_on = ("fill", answer[1], version, version) if granted else DONE
            yield Step(i, what, self._to(after, i, *goes_on))

    def _begin(self, state: State, i: int, min_version: int) -> Iterator[Step]:
        home, since = self._at(i), self.acknowledged(state)
        number = state.pending[home] if self.design.keeps_pending else 0
        if not number:
            yield from self._ask(state, i, min_version, since)
            return
        for what, after, answer in self.sent(state, home, "drop", LEASES + i):
            goes_on = ("select", None) if answer is None else ("clear", min_version, since, number)
            yield Step(i, f"{what} (pending)", self._to(after, i, *goes_on))

    def _clear(self, state: State, i: int, min_version: int, since: int, number: int) -> Iterator[Step]:
        yield Step(
            i, "clear", self._to(state, i, "ask", min_version, since, pending=self._cleared(state, self._at(i), number))
        )

    def _cleared(self, state: State, home: int, number: int) -> tuple[int, ...]:
        if state.pending[home] != number and self.design.pending_numbered:
            return state.pending
        return (*state.pending[:home], 0, *state.pending[home + 1 :])

    def _ask(self, state: State, i: int, min_version: int, since: int) -> Iterator[Step]:
        for what, after, answer in self.sent(state, self._at(i), "read", LEASES + i, min_version):
            if answer is not None and answer[0] == "hit":
                base = answer[1]
                if self.design.strict:
                    yield Step(i, f"{what}: hit", self._to(after, i, "probe", base))
                else:
                    wrong = self._misread(state, i, base.window, min_version, since)
                    yield Step(i, f"{what}: hit", self._to(after, i, "done"), wrong)
            elif answer is not None and answer[0] == "lease":
                yield Step(i, f"{what}: lease", self._to(after, i, "select", answer[1]))
            else:
                yield Step(i, f"{what}: miss", self._to(after, i, "select", None))

    def _misread(self, state: State, i: int, window: Content, min_version: int, since: int) -> str | None:
        if not self.matches(window, state, max(min_version, since if self._at(i) in self.homes else 0)):
            return classified(window, state.history)
        return None

    def _probe(self, state: State, i: int, base: states.Base) -> Iterator[Step]:
        """SELECT version, rev: what is there now decides whether the entry is the answer."""
        version, (rev, content) = len(state.history) - 1, state.history[-1]
        if content is not None and base.version == version and (base.rev == rev or not self.design.probes_rev):
            wrong = None if base.window == view(content) else classified(base.window, state.history)
            yield Step(i, "PROBE: equal", self._to(state, i, "done"), wrong)
        elif content is None or version <= base.version:
            yield Step(i, "PROBE: disagrees", self._to(state, i, "forget"))
        else:
            yield Step(i, "PROBE: newer", self._to(state, i, "again", version))

    def _forget(self, state: State, i: int) -> Iterator[Step]:
        for what, after, answer in self.sent(state, self._at(i), "drop", LEASES + i):
            pending = after.pending if answer is not None else self._mark_stale(after, self._at(i), i)
            yield Step(i, what, self._to(after, i, "select", None, pending=pending))

    def _again(self, state: State, i: int, version: int) -> Iterator[Step]:
        for what, after, answer in self.sent(state, self._at(i), "read", 2 * LEASES + i, version):
            granted = answer is not None and answer[0] == "lease"
            yield Step(i, what, self._to(after, i, "select", answer[1] if granted else None))

    def _select(self, state: State, i: int, run: int | None) -> Iterator[Step]:
        """One statement with version and messages: right by itself. With a lease it goes on."""
        version, content, alone = (
            len(state.history) - 1,
            state.history[-1][1],
            getattr(self.processes[i], "alone", True),
        )
        if run is None:
            goes_on: tuple[Any, ...] = DONE
        elif content is None:
            goes_on = ("giveback",)
        elif not self.design.one_statement:
            goes_on = ("second", run, version)
        elif self.design.shared and alone:
            goes_on = ("share", run, version)
        else:
            goes_on = ("fill", run, version, version)
        yield Step(i, "SELECT", self._to(state, i, *goes_on))

    def _second(self, state: State, i: int, run: int, version: int) -> Iterator[Step]:
        now = len(state.history) - 1
        goes_on = ("fill", run, version, now) if state.history[-1][1] is not None else ("giveback",)
        yield Step(i, "SELECT messages", self._to(state, i, *goes_on))

    def _share(self, state: State, i: int, run: int, version: int) -> Iterator[Step]:
        """The same statement, a moment after it took its snapshot: FOR SHARE SKIP LOCKED finds the row as it is now."""
        if state.lock != NOBODY or state.history[-1][1] is None:
            yield Step(i, "SHARE: locked", self._to(state, i, "giveback"))
            return
        exact = len(state.history) - 1 == version or not self.design.compares
        goes_on = ("fill", run, len(state.history) - 1, version) if exact else ("giveback",)
        yield Step(i, "SHARE", self._to(state, i, *goes_on, shares=state.shares | 1 << i))

    def _fill(self, state: State, i: int, run: int, version: int, shown: int) -> Iterator[Step]:
        token = LEASES + i if state.key.lease is None or state.key.lease.token != 2 * LEASES + i else 2 * LEASES + i
        rev, content = state.history[version][0], state.history[shown][1]
        command = ("populate", token, run, version, rev, view(content))
        for what, after, _ in self.sent(state, self._at(i), *command):
            yield Step(i, what, self._to(after, i, "done", shares=state.shares & ~(1 << i)))

    def _giveback(self, state: State, i: int) -> Iterator[Step]:
        for what, after, _ in self.sent(state, self._at(i), "release", LEASES + i):
            yield Step(i, what, self._to(after, i, "done", shares=state.shares & ~(1 << i)))

    # -- what happens to them

    def _environment(self, state: State) -> Iterator[Step]:
        yield from self._of_redis(state)
        yield from self._of_reservations(state)
        for home, number in enumerate(state.pending):
            if state.open[home] != CLOSED:
                yield Step(
                    ENVIRONMENT, f"breaker of {home} closes", state._replace(open=self._breakers(state, home, CLOSED))
                )
            elif number:
                key, _ = self.execute(state.key, state.run, ("drop", NOBODY))
                pending = self._cleared(state, home, number)
                yield Step(ENVIRONMENT, f"{home} drops it meanwhile", state._replace(key=key, pending=pending))
        if "restore" in state.faults and self._is_at_rest(state):
            left = spend(state, "restore")
            yield Step(ENVIRONMENT, "database restored", state._replace(history=state.history[:-1], faults=left))

    @staticmethod
    def _is_at_rest(state: State) -> bool:
        """Whether a backup could be brought back: no process is in the middle of a transaction."""
        busy = ("commit", "settle", "share", "second", "fill")
        return state.lock == NOBODY and len(state.history) > 1 and not any(local[0] in busy for local in state.locals)

    def _of_redis(self, state: State) -> Iterator[Step]:
        for place, command in enumerate(state.late):
            key, _ = self.execute(state.key, state.run, command)
            rest = state.late[:place] + state.late[place + 1 :]
            yield Step(ENVIRONMENT, f"late {command[0].upper()} of {command[1]}", state._replace(key=key, late=rest))
        if "loss" in state.faults and state.key != self.nothing:
            yield Step(ENVIRONMENT, "key lost", state._replace(key=self.nothing, faults=spend(state, "loss")))
        for fault, runs_on in (("failover", 1), ("failback", 0)):
            if fault not in state.faults:
                continue
            if state.copy is None and state.key != self.nothing:
                yield Step(ENVIRONMENT, "copied", state._replace(copy=state.key))
            elif state.copy is not None and state.copy != state.key:
                back = state._replace(key=state.copy, copy=None, run=state.run + runs_on, faults=spend(state, fault))
                yield Step(ENVIRONMENT, fault, back)

    def _of_reservations(self, state: State) -> Iterator[Step]:
        for mark in state.key.marks:
            holders = [i for i in self._spans if self._mark(i) == mark]
            busy = [i for i in holders if state.locals[i][0] in ("early", "commit", "settle", "undo")]
            key = states.died(state.key, mark, design=self.design)
            if not busy:
                yield Step(ENVIRONMENT, f"reservation {mark} dies", state._replace(key=key))
            elif "slow" in state.faults and state.locals[busy[0]][0] in ("commit", "settle"):
                name, from_, settles = state.locals[busy[0]]
                slow = "drop" if self.design.late_drops and settles == "apply" else settles
                after = self._to(state, busy[0], name, from_, slow, key=key, faults=spend(state, "slow"))
                yield Step(ENVIRONMENT, f"reservation {mark} dies while its writer is at work", after)


def classified(window: Content, history: Sequence[tuple[int, Content]]) -> str:
    """What is wrong with messages that are not the newest ones."""
    now = view(history[-1][1])
    written = {message for _, content in history for message in content or ()}
    if any(message not in written for message in window or ()):
        return "phantom"
    if len(set(window or ())) < len(window or ()):
        return "duplicate"
    if now is None:
        return "resurrected" if any(content for _, content in history) else "phantom"
    if any(window == view(content) for _, content in history):
        return "stale"
    if list(window or ()) != sorted(window or (), key=abs, reverse=True):
        return "order"
    if window == now[: len(window or ())]:
        return "partial"
    return "hole"
