"""Reading a UI message stream as the AI SDK does: its chunks, and the message that they make."""

from __future__ import annotations

import json
from typing import Any

URL = "/api/conversations"


def user(text: str, message_id: str = "q1", **members: Any) -> dict[str, Any]:
    """A message as `useChat` makes it."""
    return {"id": message_id, "role": "user", "parts": [{"type": "text", "text": text}], **members}


def body(*messages: dict[str, Any], chat: str = "chat-1", trigger: str = "submit-message", **members: Any) -> Any:
    """What `DefaultChatTransport` posts."""
    return {"id": chat, "messages": list(messages), "trigger": trigger, **members}


def chunks(answer: Any) -> list[dict[str, Any]]:
    """The chunks of a whole response, which ends as the protocol says."""
    assert answer.status_code == 200, (answer.status_code, answer.get_data(as_text=True)[:500])
    assert answer.mimetype == "text/event-stream"
    assert answer.headers["x-vercel-ai-ui-message-stream"] == "v1"
    return [chunk for _, chunk in frames(answer.get_data(as_text=True))]


def frames(text: str) -> list[tuple[str | None, dict[str, Any]]]:
    """The ids and chunks of a stream, without comments."""
    assert text.endswith("data: [DONE]\n\n")
    found = []
    for frame in text.removesuffix("data: [DONE]\n\n").split("\n\n")[:-1]:
        lines = dict(line.split(": ", 1) for line in frame.split("\n"))
        if "data" in lines:
            found.append((lines.get("id"), json.loads(lines["data"])))
    return found


def kinds(some: list[dict[str, Any]]) -> list[str]:
    return [chunk["type"] for chunk in some]


def text_of(some: list[dict[str, Any]]) -> str:
    return "".join(chunk["delta"] for chunk in some if chunk["type"] == "text-delta")


class Page:
    """A page that shows one message, and refuses what the AI SDK refuses."""

    def __init__(self) -> None:
        self.id: str | None = None
        self.metadata: dict[str, Any] = {}
        self.parts: list[dict[str, Any]] = []
        self.ended: str | None = None
        self._open: dict[str, dict[str, Any]] = {}

    def take(self, some: list[dict[str, Any]]) -> Page:
        self._open = {}
        for chunk in some:
            self._one(chunk)
        return self

    def _one(self, chunk: dict[str, Any]) -> None:
        kind = chunk["type"]
        word, _, what = kind.partition("-")
        if kind in ("start", "message-metadata"):
            self.id = chunk.get("messageId", self.id)
            self.metadata |= chunk.get("messageMetadata", {})
        elif kind in ("finish", "abort", "error"):
            self.ended = kind
        elif kind == "start-step":
            self.parts.append({"type": "step-start"})
        elif kind == "finish-step":
            assert not self._open, "a step ended within a text"
        elif word in ("text", "reasoning"):
            self._spoken(word, what, chunk)
        elif word == "data":
            self.parts.append({name: chunk[name] for name in ("type", "data")})
        elif kind == "tool-input-available":
            self._call(chunk)
        else:
            self._outcome(kind, chunk)

    def _spoken(self, kind: str, what: str, chunk: dict[str, Any]) -> None:
        if what == "start":
            assert chunk["id"] not in self._open
            self._open[chunk["id"]] = {"type": kind, "text": ""}
            self.parts.append(self._open[chunk["id"]])
        elif what == "delta":
            self._open[chunk["id"]]["text"] += chunk["delta"]
        else:
            del self._open[chunk["id"]]

    def _call(self, chunk: dict[str, Any]) -> None:
        name = chunk["toolCallId"]
        part = {"type": f"tool-{chunk['toolName']}", "toolCallId": name, "state": "input-available"}
        self.parts = [one for one in self.parts if one.get("toolCallId") != name]
        self.parts.append({**part, "input": chunk["input"]})

    def _outcome(self, kind: str, chunk: dict[str, Any]) -> None:
        part = next(one for one in self.parts if one.get("toolCallId") == chunk["toolCallId"])
        states = {"tool-approval-request": "approval-requested", "tool-output-error": "output-error"}
        part["state"] = states.get(kind) or kind.removeprefix("tool-")
        for name in ("output", "errorText"):
            if name in chunk:
                part[name] = chunk[name]
