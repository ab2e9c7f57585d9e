"""The numbers of `conversations.get_stats()` for Prometheus and OpenTelemetry, if their packages are installed.

They count the work of this process since it began; for several workers see docs/howto/metrics.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from flask import Flask

    from .. import Conversations

PREFIX = "flask_conversations"

BREAKER = {"closed": 0, "half-open": 1, "open": 2}
"""States of a circuit breaker as numbers."""

HELP = {
    "calls.reads": "Calls of the service that read",
    "calls.writes": "Calls of the service that write",
    "calls.retries": "Calls tried again after a conflict or a lost race",
    "calls.conflicts": "Serialization failures and deadlocks met",
    "calls.unavailable": "Calls that ended with StorageUnavailable",
    "calls.signals": "Signals sent after a commit",
    "turns.waiting": "Turns that were queued behind another",
    "turns.processing": "Turns that have begun, or gone on after an approval",
    "turns.streaming": "Answers whose first output has arrived",
    "turns.awaiting_approval": "Turns that have asked for an approval",
    "turns.completed": "Turns that have ended with an answer",
    "turns.failed": "Turns whose responder has failed",
    "turns.cancelled": "Turns that a user has stopped",
    "turns.interrupted": "Turns that have lost their worker, or had no output for too long",
    "turns.running": "Turns that this process is answering",
    "turns.streams": "Streams of events that this process keeps open",
    "identities.resolved": "Requests whose identity was found",
    "identities.refused": "Requests without an identity",
    "limits.allowed": "Requests within the rate limits",
    "limits.refused": "Requests refused by a rate limit",
    "limits.uncounted": "Requests let through while rate limits could not be counted",
    "cache.hits": "Reads answered by the cache",
    "cache.misses": "Reads that the cache could not answer",
    "cache.foreign": "Reads of an entry that belongs to another owner",
    "cache.refused": "Entries that were corrupt, or of another format",
    "cache.filled": "Misses that have filled the cache",
    "cache.filled_late": "Misses that came too late to fill it",
    "cache.reserved": "Writes announced before their commit",
    "cache.not_reserved": "Writes that could not be announced",
    "cache.applied": "Entries brought up to date after a commit",
    "cache.not_applied": "Entries that could not be brought up to date",
    "cache.dropped": "Entries dropped",
    "cache.undone": "Announcements taken back after a rollback",
    "cache.marked_stale": "Keys whose invalidation failed",
    "cache.cleared": "Keys invalidated later",
    "cache.errors": "Calls of Redis that failed",
    "cache.timeouts": "Calls of Redis that timed out",
    "cache.skipped": "Calls of Redis left out while a breaker was open",
    "cache.out_of_step": "Answers of Redis to another call",
    "cache.disagreed": "Entries that the database did not confirm",
    "cache.stale_keys": "Keys waiting for their invalidation",
    "cache.strict": "Whether every hit is checked against the database",
    "cache.breaker.opened": "Times that a circuit breaker has opened",
    "cache.breaker.state": "Circuit breaker of Redis: 0 closed, 1 half-open, 2 open",
}

GAUGES = {"turns.running", "turns.streams", "cache.stale_keys", "cache.strict", "cache.breaker.state"}
"""Numbers that may also fall; all others only rise."""


class Number(NamedTuple):
    """One number at one moment."""

    name: str
    value: int
    of: str = ""
    """The label, if several numbers have this name."""


def numbers(stats: Mapping[str, Any]) -> Iterator[Number]:
    """The numbers of `get_stats()`, flat."""
    for group in ("calls", "turns", "identities", "limits", "cache"):
        for name, value in (stats.get(group) or {}).items():
            if isinstance(value, int):
                yield Number(f"{group}.{name}", int(value))
    breaker = (stats.get("cache") or {}).get("breaker")
    if breaker:
        yield Number("cache.breaker.opened", breaker["opened"])
        for of in ("reads", "writes"):
            yield Number("cache.breaker.state", BREAKER[breaker[of]], of)


def prometheus(conversations: Conversations, *, app: Flask | None = None, registry: Any = None) -> Any:
    """Register a collector with *registry*, prometheus_client's own if not given, and return it.

    A name reads `flask_conversations_cache_hits_total`. Without a cache there are none of the cache.
    """
    from prometheus_client import REGISTRY  # type: ignore[import-not-found, unused-ignore]

    collector = PrometheusCollector(conversations, app)
    (registry or REGISTRY).register(collector)
    return collector


class PrometheusCollector:
    """Reads the numbers at each scrape of Prometheus."""

    def __init__(self, conversations: Conversations, app: Flask | None = None) -> None:
        self._stats = _stats_of(conversations, app)

    def describe(self) -> Iterable[Any]:
        """Empty: an app may be set up after its metrics."""
        return []

    def collect(self) -> Iterable[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily  # type: ignore[import-not-found, unused-ignore]

        families: dict[str, Any] = {}
        for number in numbers(self._stats()):
            if number.name not in families:
                kind = GaugeMetricFamily if number.name in GAUGES else CounterMetricFamily
                name = f"{PREFIX}_{number.name.replace('.', '_')}"
                families[number.name] = kind(name, _help(number.name), labels=["of"] if number.of else [])
            families[number.name].add_metric([number.of] if number.of else [], number.value)
        return families.values()


def opentelemetry(conversations: Conversations, *, app: Flask | None = None, meter: Any = None) -> None:
    """Make an observable instrument for each number with *meter*, by default one of the meter provider that is set.

    A name reads `flask_conversations.cache.hits`. Call it once in each process, after the app is set up.
    """
    from opentelemetry.metrics import get_meter  # type: ignore[import-not-found, unused-ignore]

    meter = meter or get_meter(PREFIX)
    stats = _stats_of(conversations, app)
    for name in dict.fromkeys(number.name for number in numbers(stats())):
        make = meter.create_observable_gauge if name in GAUGES else meter.create_observable_counter
        make(f"{PREFIX}.{name}", callbacks=[_observer(stats, name)], description=_help(name))


def _observer(stats: Callable[[], Mapping[str, Any]], name: str) -> Callable[[Any], Iterable[Any]]:
    from opentelemetry.metrics import Observation  # type: ignore[import-not-found, unused-ignore]

    def observe(_: Any) -> Iterable[Any]:
        found = [number for number in numbers(stats()) if number.name == name]
        return [Observation(number.value, {"of": number.of} if number.of else {}) for number in found]

    return observe


def _stats_of(conversations: Conversations, app: Flask | None) -> Callable[[], Mapping[str, Any]]:
    return lambda: conversations.get_stats(app=app)


def _help(name: str) -> str:
    return HELP.get(name, f"get_stats(), {name}")
