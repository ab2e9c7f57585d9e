"""Turn `example_app/before.py` into the durable chat with the patch of the tutorial, run both, and show what each remembers.

    python docs/make_durable.py

Ada and Bob talk, the server is restarted, and they go on. Needs the package with its dependencies, and no network.
"""

from __future__ import annotations

import contextlib
import http.cookiejar
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TREE = Path(__file__).resolve().parents[1]
BEFORE = TREE / "example_app" / "before.py"
PATCH = TREE / "docs" / "tutorial" / "durable.patch"
MOST_LINES = 10
PASSWORDS = {"ada": "lovelace", "bob": "builder"}


def main() -> None:
    """Patch, count, run."""
    patch = PATCH.read_text()
    written, deleted = changed_lines(patch)
    print(f"The patch writes {written} lines, new or changed, in place of {deleted}.")
    assert written <= MOST_LINES
    with tempfile.TemporaryDirectory() as folder:
        before, durable = Path(folder) / "before.py", Path(folder) / "durable.py"
        shutil.copy(BEFORE, before)
        durable.write_text(patched(BEFORE.read_text(), patch))
        for app in (before, durable):
            print(f"\n{app.name}")
            for sentence in story(app):
                print(f"  {sentence}")


def changed_lines(patch: str) -> tuple[int, int]:
    """How many lines *patch* writes (new ones, and changed ones in their new form), and how many it takes away."""
    body = [line for line in patch.splitlines() if not line.startswith(("--- ", "+++ "))]
    return sum(line.startswith("+") for line in body), sum(line.startswith("-") for line in body)


def patched(source: str, patch: str) -> str:
    """*source* after the unified diff *patch*, every line of which must fit."""
    old, new, at = source.splitlines(), [], 0
    for line in patch.splitlines()[2:]:
        if line.startswith("@@"):
            start = int(line.split()[1].split(",")[0].lstrip("-")) - 1
            new += old[at:start]
            at = start
            continue
        mark, text = line[:1] or " ", line[1:]
        if mark in " -":
            assert old[at] == text, f"The patch does not fit: line {at + 1} is {old[at]!r}, not {text!r}."
            at += 1
        if mark in " +":
            new.append(text)
    return "\n".join([*new, *old[at:]]) + "\n"


def story(app: Path) -> list[str]:
    """What happens to Ada and Bob with the chat in the file *app*: a sentence each."""
    settings = {"FLASK_SECRET_KEY": secrets.token_urlsafe(32)}
    if "Conversations(" in app.read_text():
        flask(app, settings, "conversations", "create-tables")
    ada, bob, told = Browser("ada"), Browser("bob"), []
    with running(app, settings) as url:
        ada.say(url, "My name is Ada.")
        bob.say(url, "My name is Bob.")
        told.append(f"Ada asks for her name:                        {ada.say(url, 'What is my name?')}")
        told.append(f"Bob in Ada's browser, in a new conversation:  {ada.lend('bob').say(url, 'What is my name?')}")
    with running(app, settings) as url:
        told.append(f"Ada after a restart:                          {ada.say(url, 'What is my name?')}")
        told.append(f"Bob after a restart:                          {bob.say(url, 'What is my name?')}")
        told.append(f"Bob with the id of Ada's conversation:        {bob.lend('bob', ada.talk).say(url, 'Who am I?')}")
    return told


class Browser:
    """A browser with its cookies, in which one user is logged in."""

    def __init__(self, person: str, jar: http.cookiejar.CookieJar | None = None, talk: str | None = None) -> None:
        self.person, self.talk = person, talk
        self.jar = http.cookiejar.CookieJar() if jar is None else jar
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.jar))

    def lend(self, person: str, talk: str | None = None) -> Browser:
        """The same browser after *person* has logged in, in the conversation *talk* or in none."""
        return Browser(person, self.jar, talk)

    def say(self, url: str, message: str) -> str:
        """The answer to *message*. If the chat names a conversation, later messages carry its id."""
        login = self.post(f"{url}/login", {"name": self.person, "password": PASSWORDS[self.person]})
        payload = {"message": message, **({"conversation_id": self.talk} if self.talk else {})}
        try:
            answer = self.post(f"{url}/chat", payload, login["token"])
        except urllib.error.HTTPError as refusal:
            return f"{refusal.code}, there is no such conversation" if refusal.code == 404 else str(refusal)
        self.talk = answer.get("conversation_id")
        return str(answer["answer"])

    def post(self, url: str, payload: dict[str, Any], token: str | None = None) -> Any:
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        request = urllib.request.Request(url, json.dumps(payload).encode(), headers)
        with self.opener.open(request, timeout=30) as response:
            return json.load(response)


@contextlib.contextmanager
def running(app: Path, settings: dict[str, str]) -> Iterator[str]:
    """The URL of a server process for *app*, which ends with the block."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(_flask(app, "run", "--port", str(port)), **_surroundings(settings))
    try:
        _wait_for(port, server)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


def flask(app: Path, settings: dict[str, str], *command: str) -> None:
    """Run `flask` with *command*."""
    subprocess.run(_flask(app, *command), check=True, **_surroundings(settings))


def _flask(app: Path, *command: str) -> list[str]:
    return [sys.executable, "-m", "flask", "--app", str(app), *command]


def _surroundings(settings: dict[str, str]) -> dict[str, Any]:
    ours = {
        name: value for name, value in os.environ.items() if not name.startswith(("FLASK_", "OPENAI_", "DATABASE_"))
    }
    return {"cwd": TREE, "env": {**ours, **settings}, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        if server.poll() is not None:
            break
        time.sleep(0.05)
    raise RuntimeError("The server did not start.")


if __name__ == "__main__":
    main()
