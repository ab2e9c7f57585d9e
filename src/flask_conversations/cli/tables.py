"""`flask conversations revision`, `db ...` and `create-tables`: the tables, with and without Flask-Migrate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import alembic.command
import click
import sqlalchemy as sa
from flask import current_app

from .. import migrations
from ..database import engine_of
from .group import current_state, explained, group

if TYPE_CHECKING:
    from ..models import Models


@group.command("revision")
@click.option("-m", "--message", help="What the revision is called.")
@click.option(
    "-d", "--directory", help="Folder of the migration scripts, if it is not the one Flask-Migrate is set to."
)
@click.option(
    "--since", metavar="STEP", help="Start from STEP ('base': from nothing), and ignore the step of the database."
)
def write_revision(message: str | None, directory: str | None, since: str | None) -> None:
    """Write the revision for the steps that are due.

    It goes into the migrations folder of the app, and equals the revision that 'flask db migrate' would write for the
    conversation tables, without operations on other tables.
    """
    if "migrate" not in current_app.extensions:
        raise click.ClickException(
            "This app has no Flask-Migrate to write a revision for. Run 'flask conversations db upgrade' instead."
        )
    message = message or f"Flask-Conversations {migrations.HEAD}"
    with explained():
        config = current_app.extensions["migrate"].migrate.get_config(directory, opts=["autogenerate"])
        only_ours = migrations.only_ours(since)
        alembic.command.revision(config, message, autogenerate=True, process_revision_directives=only_ours)


@group.command("create-tables")
def create_tables() -> None:
    """Create the tables, for an app without migrations.

    Creates the conversation tables if they are missing, and nothing else; it may be run at every start.
    """
    with _connection() as (connection, models):
        step = migrations.create_tables(connection, models)
    if step != migrations.HEAD:
        raise click.ClickException(
            f"The tables stand at {step}, and this release needs {migrations.HEAD}. Run 'flask conversations db upgrade'."
        )
    click.echo(f"The tables are there, at {step}.")


@group.group("db")
def db() -> None:
    """Migrate the tables directly, for an app without Flask-Migrate."""


@db.command("upgrade")
@click.argument("step", default="head")
def upgrade(step: str) -> None:
    """Bring the tables up to STEP, by default to the newest."""
    with _connection() as (connection, models):
        before, after = migrations.migrate(connection, models, _step(step), up=True)
    _report(before, after)


@db.command("downgrade")
@click.argument("step")
@click.option("--yes", is_flag=True, help="Do not ask before tables are removed.")
def downgrade(step: str, yes: bool) -> None:
    """Bring the tables back to STEP; 'base' removes them, with every conversation in them."""
    if _step(step) is None and not yes:
        click.confirm("This removes all conversation tables with all that is in them. Go on?", abort=True)
    with _connection() as (connection, models):
        before, after = migrations.migrate(connection, models, _step(step), up=False)
    _report(before, after)


@db.command("current")
def current() -> None:
    """Say which step the tables stand at."""
    with _connection() as (connection, models):
        step = migrations.current(connection, migrations.names_of(models))
    click.echo(f"{step or 'none'}{' (head)' if step == migrations.HEAD else ''}")


@db.command("stamp")
@click.argument("step")
def stamp(step: str) -> None:
    """Write down that the tables stand at STEP, without touching them.

    For tables that were made by other means, a restored dump say. 'base' takes the mark away.
    """
    with _connection() as (connection, models):
        migrations.stamp(connection, models, _step(step))
    click.echo(f"The tables are marked as standing at {step}.")


def _step(name: str) -> str | None:
    """The step of the migrations that the operator's *name* stands for."""
    if name == "base":
        return None
    step = migrations.HEAD if name == "head" else name
    if step not in migrations.STEPS:
        known = ", ".join(migrations.STEPS)
        raise click.BadParameter(f"There is no step {name!r}. This release knows {known}, and 'base' and 'head'.")
    return step


def _report(before: str | None, after: str | None) -> None:
    if before == after:
        click.echo(f"Nothing to do: the tables stand at {after or 'base'}.")
    else:
        click.echo(f"The tables went from {before or 'base'} to {after or 'base'}.")


@contextmanager
def _connection() -> Iterator[tuple[sa.Connection, Models]]:
    """A transaction on the database that holds the tables."""
    state = current_state()
    with explained(), engine_of(state.db, state.config).begin() as connection:
        yield connection, state.models
