"""`flask conversations prune`: overdue conversations are deleted for good."""

from __future__ import annotations

import click

from ..service import ConversationService
from ..service.unit_of_work import Units
from .group import current_state, explained, group


@group.command("prune")
@click.option("--dry-run", is_flag=True, help="Say how many there are, and delete nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def prune(dry_run: bool, yes: bool) -> None:
    """Delete for good the conversations that were in the trash, or temporary, for longer than the settings allow."""
    state = current_state()
    service = ConversationService(Units(lambda: state.backend, None))
    with explained():
        if dry_run:
            click.echo(f"{service.prune(limit=1_000_000, dry_run=True)} conversations are due.")
            return
        if not yes:
            click.confirm("This deletes conversations for good. Go on?", abort=True)
        total = 0
        while gone := service.prune(limit=100):
            total += gone
            click.echo(f"{total} ...", err=True)
        click.echo(f"{total} conversations deleted.")
