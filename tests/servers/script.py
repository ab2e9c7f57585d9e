"""What the responder of these tests says: forty events of every kind, and where a reader stands after each of them."""

from __future__ import annotations

from typing import Any

from flask_conversations.turns import Component, Event, Reasoning, ToolCall, ToolResult, Usage

STARTED = 5
"""The position of a reader that received the question, the beginning of the answer, and the states up to there."""
END = 1_000_000_000
"""The position behind which the end of a turn is sent."""


def _event(number: int) -> str | Event:
    kinds: dict[int, str | Event] = {
        0: Reasoning(f"Schritt {number}: 🤔 "),
        1: Reasoning(f"it thinks on, {number}.\n"),
        5: ToolCall(f"call-{number}", "look_up", {"word": f"Wört {number}", "deep": [number, None]}),
        6: ToolResult(f"call-{number - 1}", {"found": number, "text": "a\nb"}),
        8: Component("chart", {"points": [number, number + 1]}),
    }
    return kinds.get(number % 10, f"wörd {number} 🙂\n")


SCRIPT: tuple[str | Event, ...] = (*(_event(number) for number in range(40)),)
"""Forty events. Their cost follows them, and is not part of the stream."""
COST = Usage(input_tokens=7, output_tokens=40, model="m-1")


def units(event: str | Event) -> int:
    """How far an event moves a reader."""
    return len(event) if isinstance(event, str) else len(event.text) if isinstance(event, Reasoning) else 1


ENDS = [STARTED + sum(map(units, SCRIPT[:count])) for count in range(len(SCRIPT) + 1)]
"""The position of a reader after so many events."""


def parts(events: tuple[str | Event, ...] = SCRIPT) -> list[dict[str, Any]]:
    """The parts of a message that says all this."""
    found: list[dict[str, Any]] = []
    for event in events:
        part = _part(event)
        if "text" in part and found and found[-1]["type"] == part["type"]:
            found[-1]["text"] += part["text"]
        else:
            found.append(part)
    return found


def _part(event: Any) -> dict[str, Any]:
    if isinstance(event, str):
        return {"type": "text", "text": event}
    if isinstance(event, Reasoning):
        return {"type": "reasoning", "text": event.text}
    if isinstance(event, ToolCall):
        return {"type": "tool_call", "id": event.id, "name": event.name, "arguments": event.arguments}
    if isinstance(event, ToolResult):
        return {"type": "tool_result", "tool_call_id": event.tool_call_id, "content": event.content}
    return {"type": "component", "component_type": event.type, "data": event.data}


def words(count: int) -> list[str]:
    """A longer answer: so many words, each of them once."""
    return [f"w{number} " for number in range(count)]
