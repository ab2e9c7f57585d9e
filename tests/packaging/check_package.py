"""Try an installed package as its first user would: `python -I check_package.py flask_conversations-....whl`.

Runs in a clean environment, outside the tree, with nothing but the package and what it requires.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

HOST = """
from flask import Flask
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from flask_conversations import Conversations

db = SQLAlchemy()
conversations = Conversations(db, identity=lambda: "ada")


def create_app():
    app = Flask(__name__)
    app.config.update(SQLALCHEMY_DATABASE_URI="sqlite:///host.db", SECRET_KEY="a key that is long enough for the tests")
    db.init_app(app)
    Migrate(app, db)
    conversations.init_app(app)
    return app
"""

SAVE = """
from host import conversations, create_app

app = create_app()
ada = conversations.as_user("ada", app=app)
chat = ada.create_conversation()
ada.save_message(chat["id"], "user", "Hello from a clean environment")
found = app.test_client().get(f"/api/conversations/{chat['id']}").get_json()
assert [message["content"] for message in found["messages"]] == ["Hello from a clean environment"], found
"""


def main(package: str) -> None:
    contents(Path(package))
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "host.py").write_text(HOST)
        for command in (["db", "init"], ["db", "migrate", "-m", "conversations"], ["db", "upgrade"], ["db", "check"]):
            run(folder, "-m", "flask", "--app", "host", *command)
        run(folder, "-c", SAVE)
    print(f"{Path(package).name}: installed, migrated, a message saved and read back")


def contents(package: Path) -> None:
    """What the package carries is what the tree has: types, migration steps and browser files included."""
    is_wheel = package.suffix == ".whl"
    with zipfile.ZipFile(package) if is_wheel else tarfile.open(package) as archive:
        names = set(archive.namelist() if is_wheel else archive.getnames())
    tree = Path(__file__).resolve().parents[2]
    wanted = {path.relative_to(tree / "src") for path in tree.glob("src/flask_conversations/**/*") if path.is_file()}
    wanted = {path for path in wanted if "__pycache__" not in path.parts}
    assert any(path.match("migrations/versions/*.py") for path in wanted), "the tree has no migration steps"
    assert Path("flask_conversations/py.typed") in wanted, "the tree has no py.typed"
    missing = [str(path) for path in wanted if not any(name.endswith(str(path)) for name in names)]
    assert not missing, f"{package.name} lacks {missing}"
    if is_wheel:
        strangers = {name.split("/")[0] for name in names} - {"flask_conversations"}
        assert all(name.endswith(".dist-info") for name in strangers), f"{package.name} also installs {strangers}"
    else:
        for name in ("Makefile", "README.md", "CHANGELOG.md", "LICENSE", "tests/conftest.py", "example_app/servers.py"):
            assert any(found.endswith(f"/{name}") for found in names), f"{package.name} lacks {name}"


def run(folder: str, *arguments: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "FLASK_"))}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    main(sys.argv[1])
