"""SQLite changes a table by making it anew. With foreign keys on, that would delete every message."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from flask import current_app, has_app_context

from ..errors import ConfigurationError
from ..tables import CONVERSATIONS

_IN_ALEMBICS_BATCH = "_alembic_tmp_"


def _refuse_to_cascade(target: sa.Table, connection: sa.Connection, **_: Any) -> None:
    """Raise before Alembic copies the conversations, drops their table, and SQLite deletes the rows that refer to it."""
    if connection.dialect.name != "sqlite" or not target.name.startswith(_IN_ALEMBICS_BATCH):
        return
    table = target.name.removeprefix(_IN_ALEMBICS_BATCH)
    if table != _conversations_of_app() or not connection.exec_driver_sql("PRAGMA foreign_keys").scalar():
        return
    if connection.scalar(sa.select(sa.exists(sa.select(sa.text("1")).select_from(sa.table(table))))):
        raise ConfigurationError(
            f"To change the table {table!r}, SQLite has to make it anew; while PRAGMA foreign_keys is on, this deletes all "
            f"messages. Put op.execute('PRAGMA foreign_keys=OFF') before everything else in the upgrade() or downgrade() of "
            f"this revision, and op.execute('PRAGMA foreign_keys=ON') at its end."
        )


def _conversations_of_app() -> str | None:
    state: Any = current_app.extensions.get("flask_conversations") if has_app_context() else None
    return None if state is None else state.models.names.table(CONVERSATIONS)


sa.event.listen(sa.Table, "before_create", _refuse_to_cascade)
