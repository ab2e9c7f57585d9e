"""The checker finds what is wrong with other designs: the naive ones, and the shipped one without any of its ingredients."""

from __future__ import annotations

from typing import Any

import pytest

from . import naive
from .checker import explore, play
from .designs import SHARED, SHIPPED, STRICT, Design
from .scenarios import (
    CREATOR,
    FIRST,
    HARMLESS_TOGETHER,
    LOST_AND_LEFT,
    NEW,
    ONE_FAULT,
    ONE_PROCESS,
    ONE_SESSION,
    R2,
    SMALL,
    W3,
    W4,
    Scenario,
)
from .world import Reader, Writer

THE_USUAL = ("two writers, a cold reader", "two writers, two readers", "append and delete")

WRONG = {
    "seed: COMMIT, LPUSH, LTRIM; LRANGE or SELECT, RPUSH": {"partial", "duplicate", "hole", "order", "resurrected"},
    "MULTI around LPUSH, LTRIM and DEL, RPUSH": {"partial", "duplicate", "hole", "order", "resurrected", "stale"},
    "LPUSHX, and populate where nothing is": {"duplicate", "hole", "order", "resurrected", "stale"},
    "push before COMMIT": {"phantom", "partial", "hole", "order", "resurrected", "stale"},
    "cache-aside: COMMIT, DEL": {"resurrected", "stale"},
    "double delete: DEL, COMMIT, DEL": {"resurrected", "stale"},
}
"""What people see of the naive designs without any fault at all."""


@pytest.mark.parametrize("design", naive.NAIVE)
def test_a_naive_design_is_wrong_without_any_fault(design):
    """With the same people, on the same conversation, where the shipped one is right."""
    seen = set()
    for name in THE_USUAL:
        seen |= {kind for _, kind in explore(SMALL[name].naive(naive.NAIVE[design])).broken("ack", "read")}
    assert seen == WRONG[design]


def without(design: Design = SHIPPED, **changes: bool) -> tuple[Design, Design]:
    return design.without(**changes), design


COLD, WARM = SMALL["two writers, a cold reader"], SMALL["two writers, two readers"]
BORN = SMALL["a new conversation"]

Mutation = tuple[tuple[Design, Design], Scenario, tuple[str, ...], str, int]

MUTATIONS: dict[str, Mutation] = {
    "a reservation does not close the key": (without(marks_close=False), BORN, (), "phantom", 2),
    "nothing is reserved": (without(reserves=False), WARM, ("unknown",), "stale", 3),
    "one flag for all reservations": (without(one_flag=True), WARM, ("unknown",), "stale", 7),
    "the dead leave the entry": (without(dead_takes_base=False), WARM, ("crash",), "stale", 5),
    "an unknown commit is opened": (without(unknown_stays=False), WARM, ("unknown",), "stale", 4),
    "a rolled back creation leaves its entry": (without(unborn_forgotten=False), BORN, ("rollback",), "phantom", 4),
    "the first APPLY makes the entry": (without(apply_creates=True), BORN, (), "stale", 8),
    "APPLY appends to anything": (without(apply_blind=True), COLD, (), "partial", 4),
    "APPLY leaves what it cannot continue": (without(gap_stays=True), COLD, ("loss",), "stale", 8),
    "APPLY leaves a lease": (without(apply_ends_lease=False), COLD, ("loss",), "stale", 8),
    "RESERVE leaves a lease": (without(reserve_ends_lease=False), COLD, ("unknown",), "stale", 7),
    "DROP leaves a lease": (without(drop_ends_lease=False), COLD, ("lost",), "stale", 7),
    "an unconfirmed RESERVE is settled with APPLY": (without(unconfirmed_drops=False), BORN, ("late",), "stale", 9),
    "an edit only opens the key": (without(changes_drop=False), SMALL["append and edit"], (), "stale", 4),
    "the key is filled without a lease": (without(leased=False), COLD, (), "stale", 7),
    "a lease counts on another run": (without(leases_bound=False), COLD, ("failover",), "stale", 9),
    "an entry counts on another run": (without(entries_bound=False), WARM, ("failover",), "stale", 6),
    "a transaction fills with what it has not committed": (
        without(bypasses=False),
        SMALL["reads inside a transaction that writes"],
        (),
        "phantom",
        3,
    ),
    "a snapshot fills with what is old": (
        without(bypasses=False),
        SMALL["a reader with a snapshot"],
        (),
        "stale",
        7,
    ),
    "one circuit breaker for all": (without(breakers_apart=False), WARM, ("lost",), "stale", 4),
    "a breaker that opens at one failed APPLY": (
        without(breaker_patient=False),
        SMALL["two writers in one process"],
        ("unanswered",),
        "stale",
        8,
    ),
    "the version a session has seen is not asked for": (
        without(min_version_asked=False),
        ONE_SESSION["reads elsewhere"],
        ("lost", "lost"),
        "stale",
        5,
    ),
    "nothing is pending": (without(keeps_pending=False), ONE_PROCESS["its own writes"], ("lost", "lost"), "stale", 4),
    "a drop clears later invalidations": (
        without(pending_numbered=False),
        Scenario((W3, Writer("W4", adds=(4,)), Reader("R1"), Reader("R2", home=1)), warm=True, trusted=frozenset({0})),
        ("lost", "lost"),
        "stale",
        13,
    ),
    "the share lock without comparing": (without(SHARED, compares=False), COLD, ("loss",), "stale", 9),
    "the share lock without a lease": (without(SHARED, leased=False), COLD, ("late",), "stale", 9),
    "the share lock, version and messages apart": (
        without(SHARED, one_statement=False),
        COLD,
        ("loss", "unknown"),
        "stale",
        8,
    ),
    "version and messages apart, and APPLY without its reservation": (
        without(one_statement=False, apply_needs_mark=False),
        COLD,
        ("loss",),
        "duplicate",
        9,
    ),
    "strict, by the version alone": (without(STRICT, probes_rev=False), WARM, ("restore",), "phantom", 6),
}
"""What is changed, where it shows, what is seen, and after how many steps at the earliest."""


@pytest.mark.parametrize("name", MUTATIONS)
def test_no_ingredient_can_be_left_out(name):
    """Without it something wrong is found; with it nothing, on the same ground."""
    (mutant, whole), scenario, faults, kind, steps = MUTATIONS[name]
    found = explore(scenario.world(mutant, *faults), until=("ack", "read")).broken("ack", "read")
    trace = min(found.values(), key=len, default=[])
    assert (min(found, key=lambda what: len(found[what]), default=("", ""))[1], len(trace)) == (kind, steps), found
    assert not explore(scenario.world(whole, *faults)).broken("ack", "read")


SECOND_WALLS = {
    "RESERVE before the row lock": without(reserves_early=True),
    "RESERVE heals nothing": without(reserve_heals=False),
    "APPLY without its own reservation": without(apply_needs_mark=False),
    "a late commit is settled with APPLY": without(late_drops=False),
    "version and messages apart": without(one_statement=False),
}
"""Safe by themselves, as far as the model goes. One statement and APPLY's own reservation stand in for each other; RESERVE heals
what the horizon would end later, and APPLY finds its reservation gone if it comes too late."""


@pytest.mark.parametrize("name", SECOND_WALLS)
def test_some_ingredients_are_second_walls(name, long):
    """No single fault gets past what stands behind them: should this fail, they have become necessary."""
    mutant, _ = SECOND_WALLS[name]
    for scenario in (COLD, BORN) if long else (COLD,):
        for faults in ONE_FAULT + HARMLESS_TOGETHER if long else ONE_FAULT:
            assert not explore(scenario.world(mutant, *faults)).broken("ack", "read")


def test_reserve_heals_an_entry_from_a_future_that_was_undone():
    """After the database was restored, the first write makes an end of entries that are ahead of it."""
    late = Scenario((W3, R2), warm=True)
    schedule = [("-", "database restored"), ("W3", "end"), ("R2", "end")]
    assert ends_wrong(late.world(SHIPPED.without(reserve_heals=False), "restore"), schedule)
    assert not ends_wrong(late.world(SHIPPED, "restore"), schedule)


def ends_wrong(world: Any, schedule: list[tuple[str, str]]) -> list[str]:
    """What the last reader was shown that is not so."""
    return [kind for promise, kind in play(world, schedule).violations if promise == "read"]


DELETER = Writer("D", "delete", home=1)

NAMED: dict[str, tuple[Any, Scenario, tuple[str, ...], list[tuple[str, str]], str]] = {
    "partial list that looks complete": (naive.SEED, Scenario((W3, R2)), (), [("W3", "end"), ("R2", "end")], "partial"),
    "duplicate": (
        naive.SEED,
        Scenario((W3, R2)),
        (),
        [("W3", "COMMIT"), ("R2", "READ"), ("W3", "end"), ("R2", "end")],
        "duplicate",
    ),
    "wrong order": (
        naive.MULTI,
        Scenario((W3, W4, R2), warm=True),
        (),
        [("W3", "COMMIT"), ("W4", "COMMIT"), ("W4", "end"), ("W3", "end"), ("R2", "end")],
        "order",
    ),
    "hole": (
        naive.MULTI,
        Scenario((W3, W4, R2), warm=True),
        (),
        [("W3", "COMMIT"), ("W4", "end"), ("R2", "end")],
        "hole",
    ),
    "resurrection by a writer": (
        naive.SEED,
        Scenario((W3, DELETER, R2)),
        (),
        [("W3", "COMMIT"), ("D", "end"), ("W3", "end"), ("R2", "end")],
        "resurrected",
    ),
    "resurrection by a reader": (
        naive.CACHE_ASIDE,
        Scenario((DELETER, R2)),
        (),
        [("R2", "SELECT"), ("D", "end"), ("R2", "end")],
        "resurrected",
    ),
    "stale populate": (
        naive.CACHE_ASIDE,
        Scenario((W3, R2)),
        (),
        [("R2", "SELECT"), ("W3", "end"), ("R2", "end")],
        "stale",
    ),
    "phantom": (
        naive.PUSH_FIRST,
        Scenario((W3, R2), warm=True),
        ("rollback",),
        [("W3", "ROLLBACK"), ("R2", "end")],
        "phantom",
    ),
    "crash window": (
        naive.MULTI,
        Scenario((W3, R2), warm=True),
        ("crash",),
        [("W3", "COMMIT"), ("W3", "kill -9"), ("R2", "end")],
        "stale",
    ),
    "automatic retry": (
        naive.MULTI,
        Scenario((W3, R2), warm=True),
        ("doubled",),
        [("W3", "COMMIT"), ("W3", "(executed twice)"), ("R2", "end")],
        "duplicate",
    ),
    "late execution": (
        naive.CACHE_ASIDE,
        Scenario((W3, R2)),
        ("late",),
        [("R2", "SELECT"), ("R2", "(time-out, executed later)"), ("W3", "end"), ("-", "late")],
        "stale",
    ),
    "old copy": (
        naive.MULTI,
        Scenario((W3, R2), warm=True),
        ("failover",),
        [("-", "copied"), ("W3", "end"), ("-", "failover"), ("R2", "end")],
        "stale",
    ),
    "lease survives fail-over": (
        SHIPPED.without(leases_bound=False),
        Scenario((W3, R2)),
        ("failover",),
        [("R2", "SELECT"), ("-", "copied"), ("W3", "end"), ("-", "failover"), ("R2", "end")],
        "stale",
    ),
    "first-message race": (
        SHIPPED.without(apply_creates=True),
        Scenario((CREATOR, FIRST, R2), NEW),
        (),
        [("C", "COMMIT"), ("W2", "end"), ("C", "end"), ("R2", "end")],
        "stale",
    ),
    "shared lock flag": (
        SHIPPED.without(one_flag=True),
        Scenario((W3, W4, R2), warm=True),
        ("crash",),
        [("W3", "COMMIT"), ("W4", "RESERVE"), ("W3", "end"), ("W4", "COMMIT"), ("W4", "kill -9"), ("R2", "end")],
        "stale",
    ),
    "torn read": (
        SHIPPED.without(one_statement=False, apply_needs_mark=False),
        Scenario((W3, R2)),
        ("loss",),
        [("W3", "RESERVE"), ("-", "key lost"), ("R2", "SELECT"), ("W3", "COMMIT"), ("R2", "end"), ("W3", "end")],
        "duplicate",
    ),
    "unknown COMMIT": (
        SHIPPED.without(unknown_stays=False),
        Scenario((W3, R2), warm=True),
        ("unknown",),
        [("W3", "COMMIT, outcome unknown (done)"), ("W3", "end"), ("R2", "end")],
        "stale",
    ),
}
"""A design that shows it, who takes part, what goes wrong, in which order, and what is seen."""


@pytest.mark.parametrize("name", NAMED)
def test_a_named_interleaving_hurts_another_design_and_not_ours(name):
    """The same schedule, step for step as far as both have the step."""
    design, scenario, faults, schedule, kind = NAMED[name]
    theirs = (
        scenario.naive(design, *faults) if isinstance(design, naive.NaiveDesign) else scenario.world(design, *faults)
    )
    assert kind in {what for _, what in play(theirs, schedule).broken("ack", "read")}
    for whole in (SHIPPED, SHARED, STRICT):
        assert not play(scenario.world(whole, *faults), schedule).broken("ack", "read")


NEEDED_FOR = (("failover",), ("loss",), ("unknown",))
"""The faults that show why the shipped protocol needs these ingredients where there is no share lock: see `MUTATIONS`."""


@pytest.mark.parametrize(
    "change", ["leases_bound", "apply_ends_lease", "reserve_ends_lease", "apply_needs_mark", "reserve_heals"]
)
def test_behind_the_share_lock_more_are_second_walls(change, long):
    """No reader fills the key while a writer is at work. They are there for SQLite, and for reads in a host's transaction."""
    for faults in ONE_FAULT + LOST_AND_LEFT if long else NEEDED_FOR:
        assert not explore(COLD.world(SHARED.without(**{change: False}), *faults)).broken("ack", "read")
