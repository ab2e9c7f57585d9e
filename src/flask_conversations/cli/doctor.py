"""`flask conversations doctor`: is everything around the conversations set up as it should be, and if not, what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click
from flask import current_app

from ..errors import ConversationsError
from . import doctor_database, doctor_settings
from .checkup import FAIL, OK, WARN, Check
from .group import current_state, group

_COLOURS = {OK: "green", WARN: "yellow", FAIL: "red"}


@group.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="One JSON array of {name, state, text}.")
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Examine the database, its tables, the settings and the cache.

    One line for each check: ok, warn, or FAIL with what to do. Changes nothing, and prints no password or key. Exits with 1 if
    anything FAILs.
    """
    checks: list[Check] = []
    for check in _checks(current_state()):
        checks.append(check)
        if not as_json:
            click.echo(f"{click.style(f'{check.state:<5}', fg=_COLOURS[check.state])} {check.name}: {check.text}")
    if as_json:
        click.echo(json.dumps([check._asdict() for check in checks], indent=2))
    context.exit(1 if any(check.state == FAIL for check in checks) else 0)


def _checks(state: Any) -> Iterator[Check]:
    yield from doctor_database.checks(state)
    yield from doctor_settings.checks(current_app._get_current_object(), state)  # type: ignore[attr-defined]
    yield from _cache(state)


def _cache(state: Any) -> Iterator[Check]:
    """What the cache says of itself; it knows its server, and no other part does."""
    try:
        cache = getattr(state.backend, "cache", None)
    except ConversationsError:
        # said already, of the database
        return
    if cache is None and state.config.redis_url and state.config.cache is not False:
        yield Check(
            "cache",
            FAIL,
            "CONVERSATIONS_REDIS_URL cannot be read, so there is none. The log of the start has its forms.",
        )
        return
    if cache is None:
        yield Check(
            "cache", OK, "There is none: everything is read from the database. Set CONVERSATIONS_REDIS_URL to have one."
        )
        return
    if state.config.cache_limit < state.config.history_limit:
        yield Check(
            "cache limit",
            WARN,
            f"The cache keeps {state.config.cache_limit} messages and a history has {state.config.history_limit}: those of longer "
            "conversations come from the database. Set CONVERSATIONS_CACHE_LIMIT to CONVERSATIONS_HISTORY_LIMIT or more.",
        )
    for name, found, text in cache.diagnose():
        yield Check(name, found, text)
