"""Times of several programs in one run, call by call in turn, so that what slows the machine down slows them all."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

WARM_UP = 30
"""Calls of each program that are not counted: the first ones fill caches and prepare statements."""


@dataclasses.dataclass(frozen=True)
class Times:
    """How long the calls of one program took, in milliseconds."""

    all: list[float]

    @property
    def p50(self) -> float:
        return statistics.median(self.all)

    @property
    def p95(self) -> float:
        return sorted(self.all)[int(len(self.all) * 0.95)]


def in_turn(
    calls: Mapping[str, Callable[[int], object]], rounds: int, contexts: Mapping[str, Any] | None = None
) -> dict[str, Times]:
    """The times of *rounds* calls of each; a call is told which round it is. Each begins as many rounds as the others.

    *contexts* are entered around the calls, and not measured.
    """
    names = list(calls)
    taken: dict[str, list[float]] = {name: [] for name in names}
    gc.collect()
    warm_up = min(WARM_UP, rounds)
    for number in range(warm_up + rounds):
        for place in range(len(names)):
            name = names[(number + place) % len(names)]
            with (contexts or {}).get(name, contextlib.nullcontext()):
                started = time.perf_counter_ns()
                calls[name](number)
                took = time.perf_counter_ns() - started
            if number >= warm_up:
                taken[name].append(took / 1e6)
    return {name: Times(times) for name, times in taken.items()}
