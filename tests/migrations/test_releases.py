"""Two releases of the package in a row, each a real package on the path of a real `flask` process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

import flask_conversations

pytestmark = pytest.mark.slow

HOST = """
from flask import Flask
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from flask_conversations import Conversations

db = SQLAlchemy()
conversations = Conversations(db, identity=lambda: None)

class User(db.Model):
    id = db.Column(db.Integer, primary_key=True)

def create_app():
    app = Flask("host", instance_path={folder!r})
    app.config.from_prefixed_env()
    db.init_app(app)
    Migrate(app, db)
    conversations.init_app(app)
    return app
"""

STEP_2 = '''
"""A column and a table more, a column less, and the rows moved."""
import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
unmodelled = ("conversation_moods",)

def upgrade(names):
    with op.batch_alter_table(names.table("conversations"), schema=names.schema) as batch:
        batch.add_column(sa.Column("mood", sa.String(20)))
        batch.create_index(names.object("ix", "conversations", "mood"), ["mood"])
    op.create_table(
        names.table("conversation_moods"), sa.Column("mood", sa.String(20), primary_key=True),
        schema=names.schema, if_not_exists=True,
    )
    conversations = sa.table(names.table("conversations"), sa.column("mood"), schema=names.schema)
    op.execute(conversations.update().values(mood="calm"))
    with op.batch_alter_table(names.table("conversations"), schema=names.schema) as batch:
        batch.drop_column("page_context")

def downgrade(names):
    with op.batch_alter_table(names.table("conversations"), schema=names.schema) as batch:
        batch.add_column(sa.Column("page_context", sa.Text))
        batch.drop_index(names.object("ix", "conversations", "mood"))
        batch.drop_column("mood")
    op.drop_table(names.table("conversation_moods"), schema=names.schema)
'''

SOURCE = Path(flask_conversations.__file__).parent


@pytest.fixture(scope="module")
def second_release(tmp_path_factory):
    """A copy of this package with one step more, and models to fit."""
    path = tmp_path_factory.mktemp("release")
    package = path / "flask_conversations"
    shutil.copytree(SOURCE, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "migrations" / "versions" / "0002_moods.py").write_text(STEP_2)
    tables = (package / "tables.py").read_text()
    old_column = "    page_context: Mapped[str | None] = mapped_column(sa.Text)\n"
    old_index = '            sa.Index(name("ix", CONVERSATIONS, "last_message_at"), "last_message_at"),\n'
    assert old_column in tables
    assert old_index in tables
    tables = tables.replace(old_column, "    mood: Mapped[str | None] = mapped_column(sa.String(20))\n")
    tables = tables.replace(old_index, f'{old_index}            sa.Index(name("ix", CONVERSATIONS, "mood"), "mood"),\n')
    (package / "tables.py").write_text(tables)
    return path


RUN_COMMANDS = """
import shlex, sys
from flask.cli import main

for command in sys.argv[1:]:
    sys.argv = ["flask", *shlex.split(command)]
    try:
        main()
    except SystemExit as end:
        if end.code:
            sys.exit(end.code)
    print("-- next command --")
"""
"""Each argument is a `flask` command; the first that fails is the last."""


class Deployment:
    """A host's folder, and the database it is deployed on."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        (folder / "host.py").write_text(HOST.format(folder=str(folder / "instance")))

    def flask(self, release: Path, *commands: str, fails: bool = False) -> list[str]:
        """What `flask` says to each of these commands, with that release installed: one process for all of them."""
        environment = {**os.environ, "PYTHONPATH": f"{release}:{self.folder}", "FLASK_APP": "host:create_app"}
        environment |= {"FLASK_SQLALCHEMY_DATABASE_URI": self.url, "FLASK_SECRET_KEY": "of the host"}
        environment["PYTHONUNBUFFERED"] = "1"
        done = subprocess.run(
            [sys.executable, "-c", RUN_COMMANDS, *commands],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        assert (done.returncode != 0) is fails, done.stdout
        return done.stdout.split("-- next command --")[: len(commands)]

    def newest_revision(self) -> str:
        files = (self.folder / "migrations" / "versions").glob("*.py")
        return max(files, key=lambda file: file.stat().st_mtime_ns).read_text()

    def tables(self) -> set[str]:
        engine = sa.create_engine(self.url)
        try:
            return set(sa.inspect(engine).get_table_names())
        finally:
            engine.dispose()

    def ask(self, query: str) -> list:
        engine = sa.create_engine(self.url)
        try:
            with engine.begin() as connection:
                result = connection.exec_driver_sql(query)
                return list(result.scalars()) if result.returns_rows else []
        finally:
            engine.dispose()


@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.long)], indirect=True)
def test_a_new_release_is_one_more_migration_of_the_host(database, tmp_path, second_release):
    """The next `db migrate` writes the step, which moves the rows; the older release says what is wrong; there is a way back."""
    first, second = SOURCE.parent, second_release
    host = Deployment(tmp_path, database.empty())
    host.flask(first, "db init", "db migrate -m install", "db upgrade", "db check")
    required = (
        "id, title_source, status, starred, temporary, version, rev, last_seq, message_count, checksum, "
        "branched, branch, created_at, updated_at, last_activity_at, org_id, user_id"
    )
    values = "'%s', 'user', 'active', false, false, 1, 1, 0, 0, 0, false, 'main', '%s', '%s', '%s', '', 'ada'"
    moment = "2026-11-21 10:00:00"
    host.ask(f"INSERT INTO conversations ({required}) VALUES ({values % ('0' * 32, moment, moment, moment)})")

    (said,) = host.flask(second, "db check", fails=True)
    assert "('flask_conversations', '0001', '0002')" in said
    host.flask(second, "db migrate -m 'new release'", "db upgrade", "db check")
    written = host.newest_revision()
    assert "migrations.upgrade('0001', '0002')" in written
    assert "migrations.downgrade('0002', '0001')" in written
    assert "op." not in written.replace("from alembic import op", "").split("def upgrade")[1]
    assert host.ask("SELECT mood FROM conversations") == ["calm"]

    (said,) = host.flask(first, "db check", fails=True)
    assert "'0002'" in said
    assert "Traceback" not in said

    host.flask(second, "db downgrade")
    host.flask(first, "db upgrade", fails=True)
    assert host.ask("SELECT version FROM conversation_schema") == ["0001"]
    assert host.ask("SELECT user_id FROM conversations") == ["ada"]


@pytest.mark.long
def test_the_whole_history_runs_on_an_empty_database(database, tmp_path, second_release):
    """Also where `create_all` of the newer release came first: its tables are not made again."""
    first, second = SOURCE.parent, second_release
    host = Deployment(tmp_path, database.empty())
    host.flask(first, "db init", "db migrate", "db upgrade")
    host.flask(second, "db migrate")
    host.url = database.empty()
    host.flask(second, "db upgrade", "db check", "db downgrade base")
    assert host.ask("SELECT count(*) FROM alembic_version") == [0]
    assert "conversations" not in host.tables()

    host.url = database.empty()
    said = host.flask(second, "conversations create-tables", "db upgrade", "db check", "conversations db current")
    assert "0002 (head)" in said[-1]
