"""The group of all commands, and their common needs: the app's state, and errors without traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import alembic.util
import click
import sqlalchemy as sa
from flask import current_app
from flask.cli import AppGroup

from ..errors import ConversationsError
from ..proxies import EXTENSION

if TYPE_CHECKING:
    from ..state import State

group = AppGroup("conversations", help="Look after the conversations of this app.")


def current_state() -> State:
    """The extension on the app that the command is for."""
    found: State = current_app.extensions[EXTENSION]
    return found


@contextmanager
def explained() -> Iterator[None]:
    """Show errors that an operator can act on without a traceback."""
    try:
        yield
    except (ConversationsError, alembic.util.CommandError) as error:
        raise click.ClickException(str(error)) from error
    except sa.exc.DBAPIError as error:
        raise click.ClickException(f"The database refused: {error.orig}") from error
