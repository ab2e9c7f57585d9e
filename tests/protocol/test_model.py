"""Every order of steps of the shipped protocol: nobody is ever shown an older state than was acknowledged before they asked.

`python -m tests.protocol` explores more, and prints a table.
"""

from __future__ import annotations

import pytest

from .checker import Report, explore
from .designs import SHARED, SHIPPED, STRICT, Design
from .scenarios import (
    ANYTHING,
    CLOSED_AT_COMMIT,
    CUT_OFF,
    HARMLESS_TOGETHER,
    LARGE,
    LOST_AND_LEFT,
    ONE_FAULT,
    ONE_PROCESS,
    ONE_SESSION,
    SHARED_CLOSED_AT_COMMIT,
    SMALL,
    UNHOSTED,
    Scenario,
)

DESIGNS = {"default": SHIPPED, "share lock": SHARED, "strict": STRICT}


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


@pytest.mark.parametrize("scenario", SMALL)
@pytest.mark.parametrize("design", DESIGNS)
def test_no_single_fault_shows_anybody_an_older_state(design, scenario, explored):
    """Linearizable from the acknowledgement, and from the commit where no key is lost and no command late."""
    found = explored(DESIGNS[design], SMALL[scenario], ONE_FAULT)
    assert not broken(found, "ack", "read")
    closed = SHARED_CLOSED_AT_COMMIT if design == "share lock" and scenario in UNHOSTED else CLOSED_AT_COMMIT
    assert not broken({faults: report for faults, report in found.items() if faults in closed}, "commit")


@pytest.mark.parametrize("scenario", SMALL)
@pytest.mark.parametrize("design", ["default", pytest.param("share lock", marks=pytest.mark.slow)])
def test_crashes_rollbacks_and_repetitions_add_up_to_nothing(design, scenario, explored):
    """Two of them in one run are as harmless as one."""
    assert not broken(explored(DESIGNS[design], SMALL[scenario], HARMLESS_TOGETHER), "ack", "read")


@pytest.mark.parametrize("scenario", UNHOSTED)
def test_with_the_share_lock_a_reservation_may_be_lost_together_with_its_writer(scenario, explored):
    """A reader that holds the row while it fills the key needs no reservation to keep writers out."""
    assert not broken(explored(SHARED, SMALL[scenario], LOST_AND_LEFT), "ack", "read")


def test_strict_reads_are_right_whatever_happens(explored):
    """Any two faults, a database restored from a backup and a Redis that returns to an old copy among them."""
    assert not broken(explored(STRICT, SMALL["two writers, a cold reader"], ANYTHING), "read")


@pytest.mark.parametrize("scenario", ONE_PROCESS)
def test_a_process_that_is_cut_off_never_reads_what_it_has_overwritten_itself(scenario, explored):
    """What it could not tell Redis it owes, and drops before it reads."""
    while_it_lives = tuple(faults for faults in CUT_OFF if "crash" not in faults)
    for design in (SHIPPED, SHARED):
        assert not broken(explored(design, ONE_PROCESS[scenario], while_it_lives), "ack", "read")


@pytest.mark.parametrize("scenario", ONE_SESSION)
def test_a_session_that_names_its_version_never_goes_back(scenario, explored):
    """Whichever process answers, and although its writer and Redis were cut off from each other."""
    assert not broken(explored(SHIPPED, ONE_SESSION[scenario], CUT_OFF + LOST_AND_LEFT), "read")


def test_a_hundred_million_interleavings(explored):
    """Three writers or three readers at once."""
    reports: list[Report] = []
    for scenario in LARGE.values():
        found = explored(SHIPPED, scenario, ((), ("crash",), ("loss",)))
        assert not broken(found, "ack", "read")
        reports.extend(found.values())
    assert sum(report.interleavings for report in reports) >= 10**8


@pytest.mark.parametrize(
    ("design", "scenario", "faults"),
    [
        (SHIPPED, SMALL["two writers, a cold reader"], ("crash", "loss")),
        (SHIPPED, SMALL["two writers, a cold reader"], ("failover", "unknown")),
        (SHIPPED, SMALL["two writers, two readers"], ("crash", "lost")),
        (SHIPPED, SMALL["two writers, two readers"], ("lost", "lost")),
        (SHIPPED, SMALL["two writers, two readers"], ("failback",)),
        (SHIPPED, SMALL["two writers, two readers"], ("restore",)),
        (SHARED, SMALL["two writers, two readers"], ("crash", "lost")),
        (SHARED, SMALL["two writers, two readers"], ("lost", "lost")),
        (SHARED, SMALL["two writers, two readers"], ("failback",)),
    ],
)
def test_the_limits_are_where_the_documentation_says(design, scenario, faults):
    """What only the horizon bounds, and strict mode rules out: the checker sees that, so that its silence elsewhere counts."""
    assert explore(scenario.world(design, *faults), until=("ack", "read")).broken("ack", "read")
    strict = scenario.world(STRICT, *faults)
    assert not explore(strict).broken("read")
