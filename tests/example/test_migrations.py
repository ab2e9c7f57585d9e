"""The example app's own migration history, into which `flask db migrate` wrote the conversations."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bed.demo import TREE, environment

HISTORY = TREE / "example_app" / "migrations"
WITHOUT_CONVERSATIONS = """
from flask import Flask
from example_app.extensions import db, migrate
from example_app import people

app = Flask("before")
app.config.from_prefixed_env()
db.init_app(app)
migrate.init_app(app, db)
"""


class Host:
    """The example app at the `flask` command line, with a history in a folder of its own."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.app = folder, "example_app"
        names = ("SECRET_KEY", "CONVERSATIONS_JWT_KEY")
        self.settings = {f"FLASK_{name}": "a key of the tests, long enough for HS256" for name in names}
        self.settings["FLASK_SQLALCHEMY_DATABASE_URI"] = url

    def db(self, *command: str) -> subprocess.CompletedProcess[str]:
        argv = [
            sys.executable,
            "-m",
            "flask",
            "--app",
            self.app,
            "db",
            command[0],
            "-d",
            str(self.folder),
            *command[1:],
        ]
        return subprocess.run(argv, cwd=TREE, env=environment(self.settings), capture_output=True, text=True)

    def must(self, *command: str) -> str:
        done = self.db(*command)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def revisions(self) -> list[Path]:
        return sorted((self.folder / "versions").glob("*.py"))


@pytest.fixture
def host(tmp_path, database):
    """The example app with a copy of its history, on an empty database."""
    shutil.copytree(HISTORY, tmp_path / "migrations", ignore=shutil.ignore_patterns("__pycache__"))
    return Host(tmp_path / "migrations", database.empty())


@pytest.mark.slow
def test_check_is_clean_before_and_after(host, tmp_path):
    """Clean without the extension; due with it; and the revision written for it is the one in the example's history."""
    [conversations] = [path for path in host.revisions() if "conversations" in path.name]
    committed = conversations.read_text()
    conversations.unlink()
    (tmp_path / "before.py").write_text(WITHOUT_CONVERSATIONS)
    host.app = str(tmp_path / "before.py")
    host.must("upgrade")
    assert "No new upgrade operations" in host.must("check")

    host.app = "example_app"
    assert host.db("check").returncode == 1
    host.must("migrate", "-m", "conversations")
    [written] = [path for path in host.revisions() if "conversations" in path.name]
    assert body(written.read_text()) == body(committed)
    host.must("upgrade")
    assert "No new upgrade operations" in host.must("check")


@pytest.mark.slow
def test_the_history_goes_up_and_down(host):
    """From nothing to the newest, back to nothing, and up again, and then nothing is due."""
    host.must("upgrade")
    host.must("downgrade", "base")
    host.must("upgrade")
    assert "No new upgrade operations" in host.must("check")


def body(revision: str) -> list[str]:
    """What a revision does, without its name and date."""
    return re.sub(r"(?m)^(Revision ID|Revises|Create Date|revision|down_revision).*$", "", revision).split()
