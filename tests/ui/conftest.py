"""An app that answers, served to the real AI SDK, which npm installs once and for all tests."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, request
from flask.testing import FlaskClient
from werkzeug.serving import make_server

from flask_conversations.turns import Component, Reasoning, ToolCall, ToolResult, Usage

from ..infra import services

SDK = Path(__file__).parent / "sdk"
NEWEST = "ai-7"
TIMEOUT = 30


class Replies:
    """Answers by what is asked: see `__call__`."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.resumed = threading.Event()

    def __call__(self, turn: Any) -> Iterator[Any]:
        content = turn.message["content"]
        self.asked.append(content)
        if content == "tool":
            yield from self._with_tools(turn)
        elif content == "everything":
            yield from everything()
        elif content == "crash":
            yield "half"
            raise RuntimeError("a secret")
        elif content == "slow":
            yield "one "
            while not self.resumed.wait(0.02) and not turn.cancelled:
                pass
            yield "two"
        else:
            yield from (f"You said {content}.", Usage(3, 4, model="bee-1"))

    def _with_tools(self, turn: Any) -> Iterator[Any]:
        if not turn.approved and not turn.denied:
            yield "Let me see."
            yield ToolCall("c1", "remove", {"file": "a"}, requires_approval=True)
            yield ToolCall("c2", "remove", '{"file": "b"}', requires_approval=True)
            return
        for call in turn.approved:
            yield ToolResult(call.id, {"removed": call.name})
        yield "Done." if turn.approved else "Then not."


def everything() -> Iterator[Any]:
    """Each kind of thing that a responder may say."""
    yield from (Reasoning("Well, "), Reasoning("now."), "First. ", "\N{HONEYBEE}")
    yield ToolCall("w1", "weather", {"city": "Paris"})
    yield ToolCall("w2", "weather", '{"city": "Rome"}')
    yield ToolResult("w1", {"degrees": 21})
    yield ToolResult("w2", "no such city", is_error=True)
    yield ToolResult("nobody asked", 1)
    yield "Second."
    yield Component("line chart", {"points": [1, 2]})
    yield from (Reasoning("Hm."), "Last.", Usage(3, 4, model="bee-1"))


@pytest.fixture
def replies(app: Flask, conversations: Any) -> Replies:
    """The responder of `app`."""
    found = Replies()
    conversations.responder(found)

    @app.after_request
    def notice(answer: Response) -> Response:
        # not as it comes in: the turn could be over before a test has looked for it
        if request.path.endswith("/stream") and answer.status_code == 200:
            found.resumed.set()
        return answer

    return found


@pytest.fixture
def hers(http: Callable[..., FlaskClient], replies: Replies) -> FlaskClient:
    """Ada's client."""
    return http("ada")


@pytest.fixture
def his(http: Callable[..., FlaskClient], replies: Replies) -> FlaskClient:
    """Bob's client."""
    return http("bob")


@pytest.fixture
def url(app: Flask, replies: Replies) -> Iterator[str]:
    """Where `app` is served."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    replies.resumed.set()
    server.shutdown()
    thread.join()


@pytest.fixture(scope="session")
def sdk_folder() -> Path:
    """The folder with the versions of the AI SDK in sdk/package-lock.json. Installed once, and kept for the next run."""
    services.need("node")
    lock = (SDK / "package-lock.json").read_bytes()
    name = f"flask-conversations-sdk-{os.getuid()}-{hashlib.sha256(lock).hexdigest()[:16]}"
    folder = Path(tempfile.gettempdir()) / name
    if not folder.exists():
        _install(folder)
    return folder


def _install(folder: Path) -> None:
    """Install into a folder aside first: another worker may be doing the same."""
    aside = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent))
    for name in ("package.json", "package-lock.json"):
        shutil.copy(SDK / name, aside)
    npm = [str(shutil.which("npm")), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1"]
    done = subprocess.run(npm, cwd=aside, capture_output=True, text=True, timeout=300)
    if done.returncode:
        shutil.rmtree(aside)
        services.missing(f"NO AI SDK: npm could not install it.\n{done.stderr[-2000:]}")
    with contextlib.suppress(OSError):
        aside.rename(folder)
    shutil.rmtree(aside, ignore_errors=True)


@pytest.fixture
def played(sdk_folder: Path, url: str) -> Callable[..., Any]:
    """Plays a scene of sdk/drive.mjs with the real AI SDK: what its page shows in the end."""

    def play(scene: str, argument: str = "", version: str = NEWEST) -> Any:
        script = [services.need("node"), str(SDK / "drive.mjs"), str(sdk_folder), version, url, scene, argument]
        done = subprocess.run(script, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return play
