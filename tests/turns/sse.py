"""Reading streams of events as a browser does."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

EVENTS = {"Accept": "text/event-stream"}


class Event(NamedTuple):
    id: str | None
    event: str
    data: Any

    @property
    def position(self) -> int:
        assert self.id is not None
        return int(self.id.rpartition(":")[2])


def events(answer: Any) -> list[Event]:
    """The events of a whole response."""
    assert answer.status_code == 200, (answer.status_code, answer.get_data(as_text=True)[:500])
    assert answer.mimetype == "text/event-stream"
    return parsed(answer.get_data(as_text=True))


def parsed(text: str) -> list[Event]:
    """The events of a text, without comments and without `retry`."""
    found = []
    assert text.endswith("\n\n"), "a frame is not whole"
    for frame in text.split("\n\n")[:-1]:
        fields = {"id": None, "event": "message", "data": None}
        for line in frame.split("\n"):
            name, colon, value = line.partition(": ")
            assert colon, line
            if name:
                fields[name] = value
        if fields["data"] is not None:
            found.append(Event(fields["id"], str(fields["event"]), json.loads(fields["data"])))
    return found


def text_of(found: list[Event]) -> str:
    return "".join(one.data["delta"] for one in found if one.event == "message.delta")


def parts_of(found: list[Event]) -> list[Any]:
    """The parts that a reader has received: texts put together, other parts as they are; the states and the frame left out."""
    seen: list[Any] = []
    for one in found:
        if one.event in ("message.delta", "message.reasoning"):
            if seen and seen[-1][0] == one.event:
                seen[-1] = (one.event, seen[-1][1] + one.data["delta"])
            else:
                seen.append((one.event, one.data["delta"]))
        elif one.event in ("tool.call", "tool.result", "message.component"):
            seen.append((one.event, one.data))
    return seen


def events_of(found: list[Event]) -> list[Any]:
    """All events that a reader has received, the texts put together."""
    seen: list[Any] = []
    for one in found:
        if one.event in ("message.delta", "message.reasoning") and seen and seen[-1][0] == one.event:
            seen[-1] = (one.event, seen[-1][1] + one.data["delta"])
        elif one.event == "message.started":
            seen.append((one.event, one.data["id"]))  # its version is that of the moment
        else:
            seen.append((one.event, one.data.get("delta", one.data)))
    return seen


def joined(*halves: list[Any]) -> list[Any]:
    """What a reader has received over several connections."""
    found: list[Any] = []
    for half in halves:
        for kind, data in half:
            if found and found[-1][0] == kind and isinstance(data, str):
                found[-1] = (kind, found[-1][1] + data)
            else:
                found.append((kind, data))
    return found
