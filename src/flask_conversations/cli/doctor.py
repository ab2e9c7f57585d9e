"""`flask conversations doctor`: checks of the whole set-up, each with its remedy."""

from __future__ import annotations

import json

import click

from ..identity.settings import current_flask_app
from ..ops.doctor import examine
from ..ops.finding import FAIL, OK, WARN, Finding
from .group import current_state, group

_COLOURS = {OK: "green", WARN: "yellow", FAIL: "red"}


@group.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="One JSON array of {name, state, text}.")
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Examine the database, its tables, the settings and the cache.

    One line for each check: ok, warn, or FAIL with the remedy. Changes nothing, and prints no password or key. Exits with 1 if
    anything FAILs.
    """
    findings: list[Finding] = []
    for one in examine(current_flask_app(), current_state()):
        findings.append(one)
        if not as_json:
            click.echo(f"{click.style(f'{one.state:<5}', fg=_COLOURS[one.state])} {one.name}: {one.text}")
    if as_json:
        click.echo(json.dumps([{"name": one.name, "state": one.state, "text": one.text} for one in findings], indent=2))
    context.exit(1 if any(one.state == FAIL for one in findings) else 0)
