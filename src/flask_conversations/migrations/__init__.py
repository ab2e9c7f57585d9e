"""Migrations of the tables from release to release: our Alembic steps, called from revisions of the host.

    import flask_conversations.migrations

    def upgrade():
        flask_conversations.migrations.upgrade("0001", "0002")

    def downgrade():
        flask_conversations.migrations.downgrade("0002", "0001")

`flask db migrate` writes this by itself wherever this package is imported.
"""

from __future__ import annotations

from . import guard as guard
from .autogenerate import only_ours
from .create import attach, create_tables
from .runner import current, downgrade, migrate, names_of, stamp, upgrade
from .steps import HEAD, STEPS

__all__ = [
    "HEAD",
    "STEPS",
    "attach",
    "create_tables",
    "current",
    "downgrade",
    "migrate",
    "names_of",
    "only_ours",
    "stamp",
    "upgrade",
]
