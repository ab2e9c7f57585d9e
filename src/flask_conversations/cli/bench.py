"""`flask conversations bench`: the time of reads and saves on this app's own database and Redis."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import click

from ..identity.base import Identity
from ..ops.bench import Bench
from .group import current_state, explained, group

DOCUMENTED = {"messages": 15, "ttl": 3600, "warm_ms": 5.0, "saved": 90.0, "bytes": 15_000}
"""The figures in the documents of the first apps: for the newest 15 messages, kept for an hour."""


@group.command("bench")
@click.option(
    "--messages",
    type=click.IntRange(1, 100),
    default=DOCUMENTED["messages"],
    show_default=True,
    help="Messages of 1 KB in the conversation; each read asks for as many.",
)
@click.option(
    "--seconds", type=click.FloatRange(0.01, 600), default=2.0, show_default=True, help="Seconds for each measurement."
)
@click.option(
    "--user",
    metavar="ID",
    help="Whose the conversation is, where CONVERSATIONS_USER_FOREIGN_KEY needs one that exists.",
)
@click.option("--org", metavar="ID", help="The organisation of that user.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def bench(messages: int, seconds: float, user: str | None, org: str | None, as_json: bool) -> None:
    """Measure reads and saves on this app's own database and Redis.

    It works on a temporary conversation of a user made up for it, and deletes it at the end, also after Ctrl-C. Guards, signals,
    titles and the query log are left out. Run it where the app runs, at a quiet hour: its writes are real.
    """
    state = current_state()
    if user is None and state.config.user_foreign_key:
        raise click.UsageError("CONVERSATIONS_USER_FOREIGN_KEY needs a user that exists: name one with --user.")
    identity = Identity(user or f"flask-conversations-bench-{uuid.uuid4().hex}", org)
    with explained():
        found = Bench(state, identity, messages, seconds).run()
    click.echo(json.dumps(found) if as_json else "\n".join(_lines(found)))


def _lines(found: dict[str, Any]) -> Iterator[str]:
    """The lines for the operator: each figure beside the documented one."""
    cache, count = found["cache"], found["messages"]
    goal = f"goal: below {DOCUMENTED['warm_ms']:g} ms"
    if cache is None:
        yield "There is no cache: every read goes to the database. Set CONVERSATIONS_REDIS_URL to have one."
        yield _figure(f"the last {count} messages", found["read"], goal)
    elif not cache["answers"]:
        yield "The cache has not answered: every read went to the database. `flask conversations doctor` says why."
        yield _figure(f"the last {count} messages", found["read"], goal)
    else:
        strict = ", strict" if cache["strict"] else ""
        yield _figure(f"the last {count} messages, warm{strict}", found["read"], goal)
        yield _figure("the same, not in the cache", found["cold"], "it is filled")
    yield _figure("saving a message", found["save"], "committed")
    yield from _simulated(found)
    if cache is not None:
        yield from _kept(cache, count)


def _figure(label: str, times: dict[str, Any], remark: str) -> str:
    return f"{label + ':':38} median {times['median_ms']:.2f} ms, p95 {times['p95_ms']:.2f} ms ({remark}; {times['calls']:,} calls)"


def _simulated(found: dict[str, Any]) -> Iterator[str]:
    cache, simulation = found["cache"], found["simulation"]
    share, reads, turns = (simulation[name] for name in ("saved_percent", "reads", "turns"))
    goal = f"goal: at least {DOCUMENTED['saved']:g} %; a turn is a history, two saves and two pages"
    yield f"{'reads without the database:':38} {share:g} % of {reads:,} in {turns:,} turns ({goal})"
    if cache is not None and cache["strict"]:
        yield "  CONVERSATIONS_CACHE_STRICT asks the database about every read, with one lookup by primary key."
    elif cache is not None:
        yield (
            f"  A conversation without writes is read from the database once in {cache['max_staleness']:g} s"
            " (CONVERSATIONS_CACHE_MAX_STALENESS)."
        )
    if cache is not None and found["messages"] > cache["limit"]:
        yield (
            f"  The cache keeps {cache['limit']} messages (CONVERSATIONS_CACHE_LIMIT): a read of {found['messages']} of a longer"
            " conversation goes to the database."
        )


def _kept(cache: dict[str, Any], count: int) -> Iterator[str]:
    size = (
        "Redis does not say (MEMORY USAGE)" if cache["bytes"] is None else f"{cache['bytes']:,} bytes by MEMORY USAGE"
    )
    kept = min(count, cache["limit"])
    yield f"{'a conversation in Redis:':38} {size}, {kept} messages of 1 KB (documented: about {DOCUMENTED['bytes']:,})"
    yield (
        f"{'in force:':38} {cache['limit']} messages, {cache['ttl']} s"
        f" (documented: {DOCUMENTED['messages']}, {DOCUMENTED['ttl']} s)"
    )
