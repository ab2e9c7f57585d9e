"""A client of a stream that checks every position, loses its connection where the test wants, and comes back."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from . import script

HOST = "127.0.0.1"
TIMEOUT = 60
HEADERS = {"Content-Type": "application/json", "X-Test-User": "ada"}


@dataclasses.dataclass(frozen=True)
class ReceivedEvent:
    """One event as it was received."""

    at: float
    event: str
    position: int
    data: Any


class Reader:
    """Follows one turn, over as many connections as it takes."""

    def __init__(self, conversation_id: str) -> None:
        self.conversation_id = conversation_id
        self.received: list[ReceivedEvent] = []
        self.parts: list[dict[str, Any]] = []
        self.position = 0
        self.last_id: str | None = None
        self.completed: dict[str, Any] | None = None
        self.state: str | None = None
        self.error: dict[str, Any] | None = None
        self.done = False
        self.gaps = self.repeats = self.resumes = 0
        self._connection: http.client.HTTPConnection | None = None
        self._response: http.client.HTTPResponse | None = None

    # connections

    def send(self, port: int, content: str, client_id: str) -> None:
        """Ask, and listen to the answer."""
        body = json.dumps({"content": content, "client_id": client_id})
        self._open(port, "POST", f"/api/conversations/{self.conversation_id}/messages", body)

    def resume(self, port: int) -> bool:
        """Listen again from where the last connection ended; False if there is nothing more to receive."""
        headers = {"Last-Event-ID": self.last_id} if self.last_id else {}
        self.resumes += 1
        return self._open(port, "GET", f"/api/conversations/{self.conversation_id}/stream", None, headers) != 204

    def resume_somehow(self, port: int) -> bool:
        """The same, again and again while the server cannot be reached."""
        deadline = time.monotonic() + TIMEOUT
        while True:
            try:
                return self.resume(port)
            except (OSError, http.client.HTTPException):
                assert time.monotonic() < deadline, "The server does not come back."
                time.sleep(0.05)

    def cut(self) -> None:
        """Lose the connection."""
        if self._response is not None:
            self._response.close()
        if self._connection is not None:
            self._connection.close()
        self._connection = self._response = None

    def _open(self, port: int, method: str, path: str, body: str | None, headers: dict[str, str] | None = None) -> int:
        self.cut()
        self._connection = http.client.HTTPConnection(HOST, port, timeout=TIMEOUT)
        asked = {**HEADERS, "Accept": "text/event-stream", **(headers or {})}
        try:
            self._connection.request(method, path, body, asked)
            self._response = self._connection.getresponse()
            if self._response.status not in (200, 204):
                raise Refused(self._response.status, self._response.read())
        except BaseException:
            self.cut()
            raise
        return self._response.status

    # events

    def read(self, until: Callable[[Reader], bool] = lambda reader: False) -> bool:
        """Take in what comes until that is enough, or the stream ends, or breaks; whether it was enough."""
        if until(self):
            return True
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            for frame in self._frames():
                self._take(frame)
                if until(self):
                    return True
        return False

    def read_to_end(self) -> None:
        assert self.read(lambda reader: reader.done), f"The stream ended early, after {self.received[-3:]}"

    def _frames(self) -> Iterator[tuple[str | None, str, Any]]:
        assert self._response is not None
        fields: dict[str, str] = {}
        for line in iter(self._response.readline, b""):
            text = line.decode().rstrip("\r\n")
            if text:
                name, _, value = text.partition(":")
                fields[name] = value.removeprefix(" ")
            elif "event" in fields:
                yield fields.get("id"), fields["event"], json.loads(fields["data"])
                fields = {}

    def _take(self, frame: tuple[str | None, str, Any]) -> None:
        event_id, event, data = frame
        position = int(event_id.rpartition(":")[2]) if event_id else self.position
        self.received.append(ReceivedEvent(time.monotonic(), event, position, data))
        self.last_id = event_id or self.last_id
        extent = len(data["delta"]) if "delta" in data else 1
        self.repeats += position - extent < self.position
        # the question has a position before it, for a turn that waits; the end is at positions that nothing else reaches
        if event != "message.created" and position < script.END:
            self.gaps += position - extent > self.position
        self.position = position
        if event in ("state", "error", "done"):
            self._take_sign(event, data)
        elif event == "message.completed":
            self.completed = data
        else:
            self._fold(event, data)

    def _take_sign(self, event: str, data: Any) -> None:
        if event == "state":
            self.state = data["state"]
        elif event == "error":
            self.error = data
        else:
            self.done = True

    def _fold(self, event: str, data: dict[str, Any]) -> None:
        kind = {"message.delta": "text", "message.reasoning": "reasoning"}.get(event)
        if kind and self.parts and self.parts[-1]["type"] == kind:
            self.parts[-1]["text"] += data["delta"]
        elif kind:
            self.parts.append({"type": kind, "text": data["delta"]})
        elif event in ("tool.call", "tool.result", "message.component"):
            self.parts.append({name: value for name, value in data.items() if name != "message_id"})


class Refused(Exception):
    """The server has answered with something else than a stream."""


def ask(port: int, method: str, path: str, body: Any = None, *, timeout: float = TIMEOUT, **headers: str) -> Any:
    """One request for JSON: its status and what came."""
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout)
    with contextlib.closing(connection):
        sent = body if body is None or isinstance(body, (str, bytes)) else json.dumps(body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, sent, {**HEADERS, **named})
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else None


def state_of(port: int, conversation_id: str) -> Any:
    """What the page of the conversation would show."""
    status, state = ask(port, "GET", f"/api/conversations/{conversation_id}/state")
    assert status == 200, state
    return state


def until(true: Callable[[], Any], what: str, seconds: float = TIMEOUT) -> Any:
    """Wait until *true*, and give what it is; a server that cannot be reached is not."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if found := true():
                return found
        assert time.monotonic() < deadline, f"Not within {seconds} s: {what}."
        time.sleep(0.02)
