"""`flask conversations recover`: turns whose worker is gone are ended, and their answers so far kept."""

from __future__ import annotations

import click

from ..service.turns import recovery
from ..service.unit_of_work import Units
from .group import current_state, explained, group


@group.command("recover")
@click.option("--dry-run", is_flag=True, help="Say how many there are, and end nothing.")
def recover(dry_run: bool) -> None:
    """End turns whose worker is gone: their answers so far are kept and marked as interrupted. Reads do the same by themselves."""
    state = current_state()
    units = Units(lambda: state.backend, None)
    with explained():
        if dry_run:
            click.echo(f"{len(units.read(recovery.dead_turns, 1_000_000))} turns have lost their worker.")
            return
        total = 0
        while ended := recovery.recover(units):
            total += ended
            click.echo(f"{total} ...", err=True)
        click.echo(f"{total} turns ended.")
