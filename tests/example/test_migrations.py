"""The example app's own migration history, into which `flask db migrate` wrote the conversations."""

from __future__ import annotations

import logging.config
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import Result

from example_app import create_app
from example_app.extensions import db
from tests.infra.demo import TREE, environment

HISTORY = TREE / "example_app" / "migrations"
WITHOUT_CONVERSATIONS = """
import sys
import flask_migrate
from flask import Flask
from example_app.extensions import db, migrate
from example_app import people

app = Flask("before")
app.config.from_prefixed_env()
db.init_app(app)
migrate.init_app(app, db)
with app.app_context():
    flask_migrate.upgrade(sys.argv[1])
    flask_migrate.check(sys.argv[1])
"""


class Host:
    """The example app and its `flask db` commands, with a history in a folder of its own."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url

    def without_conversations(self) -> str:
        """Upgrade and check the app as it was before the extension: in a process, where nobody has imported it."""
        before = self.folder.parent / "before.py"
        before.write_text(WITHOUT_CONVERSATIONS)
        settings = {"FLASK_SQLALCHEMY_DATABASE_URI": self.url, "PYTHONPATH": str(TREE)}
        command = [sys.executable, str(before), str(self.folder)]
        done = subprocess.run(command, cwd=TREE, env=environment(settings), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def db(self, command: str, *arguments: str) -> Result:
        # an app for each command, as there would be a process
        app = create_app({"SQLALCHEMY_DATABASE_URI": self.url}, instance_path=str(self.folder.parent / "instance"))
        result = app.test_cli_runner().invoke(args=["db", command, "-d", str(self.folder), *arguments])
        with app.app_context():
            db.engine.dispose()
        return result

    def must(self, *command: str) -> None:
        done = self.db(*command)
        assert done.exit_code == 0, (done.output, done.exception)

    def tables(self) -> set[str]:
        engine = sa.create_engine(self.url)
        try:
            return set(sa.inspect(engine).get_table_names())
        finally:
            engine.dispose()

    def revisions(self) -> list[Path]:
        return sorted((self.folder / "versions").glob("*.py"))


@pytest.fixture
def host(tmp_path, database, monkeypatch):
    """The example app with a copy of its history, on an empty database."""
    # env.py would configure logging for the whole process, and silence the loggers of other tests
    monkeypatch.setattr(logging.config, "fileConfig", lambda *args, **kwargs: None)
    shutil.copytree(HISTORY, tmp_path / "migrations", ignore=shutil.ignore_patterns("__pycache__"))
    return Host(tmp_path / "migrations", database.empty())


@pytest.mark.slow
def test_check_is_clean_before_and_after(host):
    """Clean without the extension; due with it; and the revision written for it is the one in the example's history."""
    [conversations] = [path for path in host.revisions() if "conversations" in path.name]
    committed = conversations.read_text()
    conversations.unlink()
    assert "No new upgrade operations" in host.without_conversations()

    assert host.db("check").exit_code == 1
    host.must("migrate", "-m", "conversations")
    [written] = [path for path in host.revisions() if "conversations" in path.name]
    assert body(written.read_text()) == body(committed)
    host.must("upgrade")
    host.must("check")


def test_the_history_goes_up_and_down(host):
    """From nothing to the newest, back to nothing, and up again, and then nothing is due."""
    host.must("upgrade")
    assert {"users", "conversations", "conversation_messages"} <= host.tables()
    host.must("downgrade", "base")
    assert host.tables() == {"alembic_version"}
    host.must("upgrade")
    host.must("check")


def body(revision: str) -> list[str]:
    """What a revision does, without its name and date."""
    return re.sub(r"(?m)^(Revision ID|Revises|Create Date|revision|down_revision).*$", "", revision).split()
