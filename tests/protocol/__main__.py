"""`python -m tests.protocol [--long]`: what the model explores, as a table."""

from __future__ import annotations

import sys

from .checker import explore
from .designs import SHARED, SHIPPED, STRICT, Design
from .naive import NAIVE
from .scenarios import (
    ANYTHING,
    CUT_OFF,
    HARMLESS_TOGETHER,
    LARGE,
    LOST_AND_LEFT,
    ONE_FAULT,
    ONE_PROCESS,
    ONE_SESSION,
    SMALL,
    UNHOSTED,
    Scenario,
)

Faults = tuple[tuple[str, ...], ...]


def main(long: bool) -> int:
    while_it_lives = tuple(faults for faults in CUT_OFF if "crash" not in faults)
    rows: list[tuple[str, Design, dict[str, Scenario], Faults]] = [
        ("default, one fault", SHIPPED, SMALL, ONE_FAULT),
        ("default, harmless together", SHIPPED, SMALL, HARMLESS_TOGETHER),
        ("default, one process cut off", SHIPPED, ONE_PROCESS, while_it_lives),
        ("default, one session", SHIPPED, ONE_SESSION, CUT_OFF + LOST_AND_LEFT),
        ("share lock, one fault", SHARED, SMALL, ONE_FAULT),
        ("share lock, harmless together", SHARED, SMALL, HARMLESS_TOGETHER),
        ("share lock, lost and left", SHARED, UNHOSTED, LOST_AND_LEFT),
        ("strict, one fault", STRICT, SMALL, ONE_FAULT),
        ("three at once", SHIPPED, LARGE, ((), ("crash",), ("loss",))),
    ]
    if long:
        rows += [
            ("three at once, one fault", SHIPPED, LARGE, ONE_FAULT),
            ("three at once, one fault, share lock", SHARED, LARGE, ONE_FAULT),
            ("strict, any two faults", STRICT, {name: SMALL[name] for name in list(SMALL)[:3]}, ANYTHING),
        ]
    wrong = 0
    print(f"{'':40}{'runs':>6}{'states':>12}{'interleavings':>16}{'seconds':>9}  wrong")
    for name, design, scenarios, many in rows:
        wrong += _row(name, [explore(one.world(design, *faults)) for one in scenarios.values() for faults in many])
    for name, naive in NAIVE.items():
        usual = [*list(SMALL.values())[:2], SMALL["append and delete"]]
        _row(name[:38], [explore(one.naive(naive, *faults)) for one in usual for faults in ONE_FAULT[:-1]])
    return wrong


def _row(name, reports) -> int:
    kinds = sorted({kind for report in reports for _, kind in report.broken("ack", "read")})
    states, ways = sum(report.states for report in reports), sum(report.interleavings for report in reports)
    seconds = sum(report.seconds for report in reports)
    print(
        f"{name:40}{len(reports):>6}{states:>12,}{ways:>16.2e}{seconds:>9.1f}  {', '.join(kinds) or 'nothing'}",
        flush=True,
    )
    return len(kinds)


if __name__ == "__main__":
    sys.exit(bool(main("--long" in sys.argv)))
