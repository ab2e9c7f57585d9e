"""Turns on real workers, one conversation for each event at which something is to happen, all at once."""

from __future__ import annotations

import contextlib
import json
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.servers import script
from tests.servers.reader import Reader, ask

from .cluster import Gunicorn, gunicorn

APP = "tests.servers.host:create_app()"
EVENTS = len(script.SCRIPT)


@contextlib.contextmanager
def workers(
    folder: Path, kind: str, url: str, *, threads: int = 110, count: int = 1, **settings: Any
) -> Iterator[Gunicorn]:
    """A gunicorn of that *kind* of worker on the database at *url*."""
    folder.mkdir(exist_ok=True)
    (folder / "gates").mkdir(exist_ok=True)
    arguments = ["--worker-class", kind, "--threads", str(threads), "--worker-connections", "1000"]
    arguments += settings.pop("arguments", [])
    settings = {"GATES": folder / "gates", "CONVERSATIONS_TURN_LEASE": 2, **settings}
    if url.startswith("postgresql"):
        settings.setdefault("SQLALCHEMY_ENGINE_OPTIONS", json.dumps({"pool_size": 5, "max_overflow": 5}))
    with gunicorn(
        folder, workers=count, app=APP, arguments=arguments, SQLALCHEMY_DATABASE_URI=url, **settings
    ) as server:
        yield server


class Talk:
    """One conversation, its question, and its reader."""

    def __init__(self, service: Any, folder: Path, **plan: Any) -> None:
        self.service, self.plan = service, plan
        self.conversation_id: str = service.create_conversation()["id"]
        self.client_id = str(uuid.uuid4())
        self.reader = Reader(self.conversation_id)
        self._gate = folder / "gates" / self.client_id

    @property
    def content(self) -> str:
        """The question."""
        return json.dumps(self.plan)

    def send(self, port: int) -> None:
        self.reader.send(port, self.content, self.client_id)

    def send_and_leave(self, port: int) -> None:
        """Ask, and listen to nothing."""
        path = f"/api/conversations/{self.conversation_id}/actions/send_message"
        status, _ = ask(
            port, "POST", path, {"content": self.content, "client_id": self.client_id}, Prefer="respond-async"
        )
        assert status == 202

    def open_gate(self) -> None:
        self._gate.touch()

    def read_events(self, count: int) -> None:
        """Read until the reader has received so many events of the answer."""
        reached = script.ENDS[count] if count else 1
        assert self.reader.read(lambda reader: reader.position >= reached), self.reader.received[-3:]

    @property
    def messages(self) -> list[dict[str, Any]]:
        """What is stored."""
        return self.service.get_messages(self.conversation_id)["messages"]  # type: ignore[no-any-return]


def at_once(talks: Sequence[Talk], act: Callable[[Talk], Any]) -> None:
    """Do *act* with each of them, each in a thread of its own; the first error is raised."""
    errors: list[BaseException] = []

    def run(talk: Talk) -> None:
        try:
            act(talk)
        except BaseException as error:  # noqa: BLE001 - the caller raises it
            errors.append(error)

    running = [threading.Thread(target=run, args=[talk], daemon=True) for talk in talks]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(120)
    if errors:
        raise errors[0]
    assert not any(thread.is_alive() for thread in running), "A reader hangs."


def stored_parts(message: dict[str, Any]) -> list[dict[str, Any]]:
    """The parts of a message as it is stored."""
    return message["parts"] or ([{"type": "text", "text": message["content"]}] if message["content"] else [])


def is_beginning(parts: Sequence[dict[str, Any]], whole: Sequence[dict[str, Any]]) -> bool:
    """Whether *parts* are what *whole* begins with; its last text may be cut anywhere."""
    if not parts:
        return True
    *done, last = parts
    at_that_place = whole[len(done)]
    cut = {**at_that_place, **({"text": at_that_place["text"][: len(last["text"])]} if "text" in last else {})}
    return list(done) == list(whole[: len(done)]) and last == cut
