"""The output of a responder: text, and the events of this module.

    @conversations.responder
    def reply(turn):
        for chunk in model.stream(turn.history):
            yield chunk                                    # text
        yield Usage(input_tokens=12, output_tokens=34)     # or an event

A responder returns a text or nothing, or yields texts and events, as a function, a generator, a coroutine or an async generator.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from .errors import ConversationsError

__all__ = ["Component", "Event", "Reasoning", "ResponderError", "ToolCall", "ToolResult", "Usage"]


@dataclasses.dataclass(frozen=True)
class ToolCall:
    """The model wants a tool to run. With *requires_approval* the turn stops here until the user has decided.

    Once every such call is decided, the responder is called again: `turn.approved` and `turn.denied` list the calls.
    """

    id: str
    name: str
    arguments: Any = None
    """JSON, or JSON text as the model wrote it."""
    requires_approval: bool = False


@dataclasses.dataclass(frozen=True)
class ToolResult:
    """The result of a tool, as JSON."""

    tool_call_id: str
    content: Any = None
    is_error: bool = False


@dataclasses.dataclass(frozen=True)
class Usage:
    """The tokens of the answer; several `Usage` events add up."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    model: str | None = None
    """The model that wrote the answer."""
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Further usage data of the provider, as JSON."""


@dataclasses.dataclass(frozen=True)
class Component:
    """Something that the user's page draws: a chart, a form, a card."""

    type: str
    data: Any = None


@dataclasses.dataclass(frozen=True)
class Reasoning:
    """A piece of the model's reasoning before the answer; successive pieces are joined."""

    text: str


Event = ToolCall | ToolResult | Usage | Component | Reasoning


class ResponderError(ConversationsError):
    """The question could not be answered."""

    status, code, title, retryable = 502, "responder_failed", "Bad Gateway", True
