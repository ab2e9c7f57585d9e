"""Every order of steps of the shipped protocol: no reader gets an older state than was acknowledged before it asked.

Every scenario is explored here, with `--form=long` each with more designs and faults. `python -m tests.protocol` prints a table.
"""

from __future__ import annotations

import pytest

from .checker import Report, explore
from .designs import SHARED, SHIPPED, STRICT, Design
from .scenarios import (
    ANYTHING,
    CLOSED_AT_COMMIT,
    CUT_OFF,
    EACH_HARMLESS,
    FOUR_FAULTS,
    HARMLESS_TOGETHER,
    LARGE,
    LOST_AND_LEFT,
    ONE_FAULT,
    ONE_PROCESS,
    ONE_SESSION,
    SHARED_CLOSED_AT_COMMIT,
    SMALL,
    TIMED_OUT,
    UNHOSTED,
    UNKNOWABLE,
    Scenario,
)

DESIGNS = {"default": SHIPPED, "share lock": SHARED, "strict": STRICT}
COLD, WARM = "two writers, a cold reader", "two writers, two readers"


@pytest.fixture
def explored(record_property):
    """Explores a scenario with each of several sets of faults, and says how much that was."""

    def exploring(
        design: Design, scenario: Scenario, many: tuple[tuple[str, ...], ...]
    ) -> dict[tuple[str, ...], Report]:
        found = {faults: explore(scenario.world(design, *faults)) for faults in many}
        record_property("states", sum(report.states for report in found.values()))
        record_property("interleavings", sum(report.interleavings for report in found.values()))
        return found

    return exploring


def broken(reports: dict[tuple[str, ...], Report], *promises: str) -> dict[tuple[str, ...], object]:
    return {faults: found for faults, report in reports.items() if (found := report.broken(*promises))}


@pytest.mark.parametrize(
    ("design", "scenario"),
    [
        *(("default", name) for name in SMALL),
        *(("share lock", name) for name in (COLD, WARM)),
        ("strict", COLD),
        *(pytest.param("share lock", name, marks=pytest.mark.long) for name in SMALL if name not in (COLD, WARM)),
        *(pytest.param("strict", name, marks=pytest.mark.long) for name in SMALL if name != COLD),
    ],
)
def test_no_single_fault_shows_anybody_an_older_state(design, scenario, explored, long):
    """Linearizable from the acknowledgement, and from the commit where no key is lost and no command late."""
    many = ONE_FAULT if long or scenario in (COLD, WARM) else FOUR_FAULTS
    found = explored(DESIGNS[design], SMALL[scenario], many)
    assert not broken(found, "ack", "read")
    closed = SHARED_CLOSED_AT_COMMIT if design == "share lock" and scenario in UNHOSTED else CLOSED_AT_COMMIT
    assert not broken({faults: report for faults, report in found.items() if faults in closed}, "commit")


@pytest.mark.parametrize("scenario", SMALL)
@pytest.mark.parametrize("design", ["default", pytest.param("share lock", marks=pytest.mark.long)])
def test_crashes_rollbacks_and_repetitions_add_up_to_nothing(design, scenario, explored, long):
    """Two of them in one run are as harmless as one."""
    many = HARMLESS_TOGETHER if long or scenario == COLD else EACH_HARMLESS
    assert not broken(explored(DESIGNS[design], SMALL[scenario], many), "ack", "read")


@pytest.mark.parametrize("scenario", UNHOSTED)
def test_with_the_share_lock_a_reservation_may_be_lost_together_with_its_writer(scenario, explored, long):
    """A reader that holds the row while it fills the key needs no reservation to keep writers out."""
    many = LOST_AND_LEFT if long or scenario == COLD else LOST_AND_LEFT[:1]
    assert not broken(explored(SHARED, SMALL[scenario], many), "ack", "read")


def test_strict_reads_are_right_whatever_happens(explored, long):
    """A database restored from a backup and a Redis that returns to an old copy, twice or both; in the long form any two faults."""
    assert not broken(explored(STRICT, SMALL[COLD], ANYTHING if long else UNKNOWABLE), "read")


@pytest.mark.parametrize("scenario", ONE_PROCESS)
def test_a_process_that_is_cut_off_never_reads_what_it_has_overwritten_itself(scenario, explored, long):
    """An invalidation that did not reach Redis stays pending, and the key is dropped before it is read."""
    while_it_lives = tuple(faults for faults in CUT_OFF if "crash" not in faults)
    for design in (SHIPPED, SHARED) if long else (SHIPPED,):
        found = explored(design, ONE_PROCESS[scenario], while_it_lives if long else TIMED_OUT)
        assert not broken(found, "ack", "read")


@pytest.mark.parametrize("scenario", ONE_SESSION)
def test_a_session_that_names_its_version_never_goes_back(scenario, explored, long):
    """Whichever process answers, and although its writer and Redis were cut off from each other."""
    many = CUT_OFF + LOST_AND_LEFT if long else TIMED_OUT + LOST_AND_LEFT[:1]
    assert not broken(explored(SHIPPED, ONE_SESSION[scenario], many), "read")


def test_three_at_once(explored, long):
    """Three writers or three readers: ten million orders of steps, and a hundred million with a crash or a lost key."""
    reports: list[Report] = []
    for scenario in LARGE.values():
        found = explored(SHIPPED, scenario, ((), ("crash",), ("loss",)) if long else ((),))
        assert not broken(found, "ack", "read")
        reports.extend(found.values())
    assert sum(report.interleavings for report in reports) >= (10**8 if long else 10**7)


@pytest.mark.parametrize(
    ("design", "scenario", "faults"),
    [
        (SHIPPED, COLD, ("crash", "loss")),
        (SHIPPED, COLD, ("failover", "unknown")),
        (SHIPPED, WARM, ("crash", "lost")),
        (SHIPPED, WARM, ("lost", "lost")),
        (SHIPPED, WARM, ("failback",)),
        (SHIPPED, WARM, ("restore",)),
        (SHARED, WARM, ("crash", "lost")),
        (SHARED, WARM, ("lost", "lost")),
        (SHARED, WARM, ("failback",)),
    ],
)
def test_the_limits_are_where_the_documentation_says(design, scenario, faults):
    """What only the horizon bounds: the checker sees it, so that its silence elsewhere counts."""
    assert explore(SMALL[scenario].world(design, *faults), until=("ack", "read")).broken("ack", "read")


@pytest.mark.parametrize(
    ("scenario", "faults"),
    [
        (COLD, ("crash", "loss")),
        (COLD, ("failover", "unknown")),
        pytest.param(WARM, ("crash", "lost"), marks=pytest.mark.long),
        pytest.param(WARM, ("lost", "lost"), marks=pytest.mark.long),
        (WARM, ("failback",)),
        (WARM, ("restore",)),
    ],
)
def test_strict_mode_rules_out_what_only_the_horizon_bounds(scenario, faults):
    """The same, where every hit is asked of the database first: no reader gets an old state."""
    assert not explore(SMALL[scenario].world(STRICT, *faults)).broken("read")
