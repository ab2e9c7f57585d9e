"""The page about a new noun works: its blocks, applied to a copy of the package, are a noun."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import flask_conversations
from tests.repo.test_docs import TREE, blocks_of

PAGE = TREE / "docs" / "howto" / "add-a-noun.md"
ABOVE = re.compile(r'<!-- not run: goes into .* above "(.+)" -->')

USE = """
import asyncio
import runpy
import sys
from flask import Flask
from flask_conversations import Conversations

app = Flask("host", instance_path=sys.argv[1])
app.config.update(SECRET_KEY="x" * 40, TESTING=True, CONVERSATIONS_CSRF="exempt")
user = "ada"
conversations = Conversations(app=app, identity=lambda: user)

def run(*arguments):
    result = app.test_cli_runner().invoke(args=["conversations", *arguments])
    assert result.exit_code == 0, result.output
    return result.output

run("db", "upgrade", "0001")
run("db", "upgrade")
client = app.test_client()
chat = client.post("/api/conversations", json={"title": "Bees"}).get_json()["id"]
notes = f"/api/conversations/{chat}/notes"
added = client.post(notes, json={"text": "Ask again in spring."})
assert added.status_code == 201, added.get_json()
assert client.get(notes).get_json() == {"notes": [added.get_json()]}
refused = client.post(notes, json={"text": " "})
assert (refused.status_code, list(refused.get_json()["errors"])) == (422, ["text"])
user = "bob"
assert client.get(notes).status_code == client.post(notes, json={"text": "x"}).status_code == 404
user = "ada"
with app.app_context():
    service = conversations.as_user("ada")
    assert [note["text"] for note in service.notes.list(chat)["notes"]] == ["Ask again in spring."]
    assert asyncio.run(service.aio.notes.list(chat)) == service.notes.list(chat)
    service.delete_conversation(chat, permanent=True)
assert "all is well" in run("verify")

document = runpy.run_path(sys.argv[2])["description"]()
described = document["paths"]["/conversations/{conversation_id}/notes"]
assert set(described) == {"get", "post"}
assert document["components"]["schemas"]["NoteIn"]["properties"]["text"]["maxLength"] == 2000
"""


@pytest.mark.slow
def test_the_page_makes_a_noun(tmp_path):
    """Migrated, saved, read, refused to others, validated, erased with its conversation, and described."""
    package = tmp_path / "flask_conversations"
    shutil.copytree(Path(flask_conversations.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    touched = set()
    for block in blocks_of(PAGE):
        if block.title is None:
            continue
        file = package / block.title
        touched.add(block.title)
        above = ABOVE.fullmatch(block.above)
        if above is None:
            assert not file.exists()
            file.write_text(block.text)
        else:
            marker, text = above[1].replace("\\n", "\n"), file.read_text()
            assert text.count(marker) == 1, f"{marker!r} is there {text.count(marker)} times"
            indented = textwrap.indent(block.text, marker[: len(marker) - len(marker.lstrip())])
            file.write_text(text.replace(marker, indented + marker))
    assert touched == set(re.findall(r"^\| \d \| `([\w./]+)` .*$", PAGE.read_text(), re.M)[:7])
    command = [
        sys.executable,
        "-W",
        "error::DeprecationWarning",
        "-c",
        USE,
        str(tmp_path),
        str(TREE / "docs" / "openapi.py"),
    ]
    subprocess.run(command, check=True, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path), "PATH": ""}, timeout=60)
