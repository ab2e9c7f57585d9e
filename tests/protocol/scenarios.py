"""Who does what to one conversation, and what goes wrong meanwhile: what is explored, and what is promised of it."""

from __future__ import annotations

import dataclasses
import itertools

from . import naive
from .designs import Design
from .world import Content, Reader, World, Writer

OLD: tuple[Content, ...] = (None, (), (1,), (1, 2))
"""A conversation with two messages, at version 3."""

NEW: tuple[Content, ...] = (None,)
"""No conversation yet."""


@dataclasses.dataclass(frozen=True)
class Scenario:
    """Some processes on one conversation."""

    processes: tuple[Reader | Writer, ...]
    history: tuple[Content, ...] = OLD
    warm: bool = False
    trusted: frozenset[int] | None = None
    """The processes that are promised to read right; None for all."""

    def world(self, design: Design, *faults: str) -> World:
        return World(design, self.processes, self.history, warm=self.warm, faults=faults, trusted=self.trusted)

    def naive(self, design: naive.NaiveDesign, *faults: str) -> naive.NaiveWorld:
        return naive.NaiveWorld(design, self.processes, self.history, warm=self.warm, faults=faults)


W3, W4 = Writer("W3", adds=(3,)), Writer("W4", adds=(4,), home=1)
TWO = Writer("W34", adds=(3, 4))
EDITOR, DELETER = Writer("E", "edit", home=1), Writer("D", "delete", home=1)
CREATOR = Writer("C", "create", adds=(1,))
FIRST = Writer("W2", adds=(2,), home=1)
R1, R2 = Reader("R1", home=1), Reader("R2", home=2)
HOSTED = Reader("RH", home=2, alone=False)
"""It reads within a transaction of the host's."""

SMALL = {
    "two writers, a cold reader": Scenario((W3, W4, R2)),
    "two writers, two readers": Scenario((W3, W4, R1, R2), warm=True),
    "two messages in one transaction": Scenario((TWO, Writer("W5", adds=(5,), home=1), R1, R2), warm=True),
    "two writers in one process": Scenario((W3, Writer("W4", adds=(4,)), R1, HOSTED), warm=True),
    "append and edit": Scenario((W3, EDITOR, R1, R2), warm=True),
    "append and delete": Scenario((W3, DELETER, R1, R2)),
    "append, edit and delete": Scenario((W3, EDITOR, Writer("D", "delete", home=2), R2), warm=True),
    "a new conversation": Scenario((CREATOR, FIRST, R1, R2), NEW),
    "a new conversation, created empty": Scenario((Writer("C", "create"), FIRST, R1, R2), NEW),
    "reads inside a transaction that writes": Scenario((Writer("W3", adds=(3,), peeks=True), W4, R2)),
    "a reader with a snapshot": Scenario((W3, Reader("RS", home=1, snapshot=True), R2, HOSTED)),
    "reads its own write elsewhere": Scenario((Writer("W3", adds=(3,), then_reads_at=2), W4, R1), warm=True),
}
"""What is explored with every fault."""

LARGE = {
    "three writers, two readers": Scenario((W3, W4, Writer("W5", adds=(5,), home=2), R1, R2), warm=True),
    "three readers": Scenario((W3, W4, R1, R2, Reader("R3", home=0)), warm=False),
}
"""What is explored without a fault, and longer with one."""

ONE_PROCESS = {
    "its own writes": Scenario((W3, Reader("R1"), Reader("R2", home=1)), warm=True, trusted=frozenset({0})),
    "its own writes, twice": Scenario((W3, Writer("W4", adds=(4,)), Reader("R1")), warm=True, trusted=frozenset({0})),
    "its own deletion": Scenario((Writer("D", "delete"), Reader("R1"), R2), trusted=frozenset({0})),
}
"""A process that is cut off from Redis knows its pending invalidations, and reads right."""

ONE_SESSION = {
    "reads elsewhere": Scenario(
        (Writer("W3", adds=(3,), then_reads_at=1), R1, Reader("R2", home=2)), warm=True, trusted=frozenset()
    ),
    "reads elsewhere, another writes": Scenario(
        (Writer("W3", adds=(3,), then_reads_at=1), W4), warm=True, trusted=frozenset()
    ),
}
"""A session that names the version it has seen is never shown an older one, by any worker."""

ONE_FAULT = (
    (),
    ("rollback",),
    ("crash",),
    ("loss",),
    ("failover",),
    ("doubled",),
    ("lost",),
    ("unanswered",),
    ("late",),
    ("unknown",),
    ("slow",),
)
"""No fault, and every fault that must not cause a wrong read."""

FOUR_FAULTS = (("crash",), ("loss",), ("failover",), ("late",))
"""One of each kind: of a process, of a key, of the server, of a command. Where a fault may happen, it may also not."""

HARMLESS_TOGETHER = (
    ("crash", "crash"),
    ("crash", "rollback"),
    ("crash", "unknown"),
    ("crash", "doubled"),
    ("rollback", "rollback"),
    ("doubled", "rollback"),
    ("rollback", "unknown"),
    ("unknown", "unknown"),
)
"""Any number of crashes, rollbacks and repetitions."""

EACH_HARMLESS = (("crash", "unknown"), ("doubled", "rollback"))
"""Each of them once."""

LOST_AND_LEFT = (
    ("crash", "loss"),
    ("loss", "unknown"),
    ("crash", "failover"),
    ("failover", "unknown"),
    ("crash", "slow"),
)
"""A reservation is lost, and its writer too: harmless where readers hold the row while they fill the key."""

TIMEOUTS = ("lost", "unanswered", "late")

TIMED_OUT = tuple(itertools.combinations_with_replacement(TIMEOUTS, 2))
"""Two commands without a reply."""

CUT_OFF = (
    *TIMED_OUT,
    *(("crash", one) for one in TIMEOUTS),
    *(("rollback", one) for one in TIMEOUTS),
    *(("loss", one) for one in TIMEOUTS),
    *(("failover", one) for one in TIMEOUTS),
)
"""A process does not reach Redis when it matters: what it has written others may miss for a while, but not itself."""

ANYTHING = tuple(
    itertools.combinations_with_replacement(sorted({*itertools.chain(*ONE_FAULT), "failback", "restore"}), 2)
)
"""Any two of all faults, those that no cache can know of among them."""

UNKNOWABLE = tuple(itertools.combinations_with_replacement(("failback", "restore"), 2))
"""Any two of those that no cache can know of."""

CLOSED_AT_COMMIT = {(), ("rollback",), ("crash",), ("doubled",), ("unanswered",), ("unknown",)}
"""Where not even a reader between the commit and its acknowledgement sees an older state."""

SHARED_CLOSED_AT_COMMIT = CLOSED_AT_COMMIT | {("loss",), ("failover",), ("slow",)}
"""The same with the share lock."""

UNHOSTED = {
    name: one
    for name, one in SMALL.items()
    if not any(isinstance(who, Reader) and not who.alone for who in one.processes)
}
"""Scenarios where every reader has a transaction of its own."""
