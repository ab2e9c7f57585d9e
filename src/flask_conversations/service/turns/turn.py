"""The argument of a responder: the question, the messages before it, and whether the user has cancelled."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from flask import Flask

from ...history import render
from ...identity.base import Identity
from ...turns import ToolCall
from ..unit_of_work import Units
from .views import TurnContext


class Turn:
    """One question that a responder answers.

    A responder runs without an app context and without a database connection. `with turn.app.app_context():` opens the context;
    each call of `turn.service` takes a connection until it returns.
    """

    def __init__(
        self,
        units: Units,
        context: TurnContext,
        calls: Sequence[Mapping[str, Any]],
        answer: list[dict[str, Any]],
        stopping: threading.Event,
    ) -> None:
        self._units, self._stopping, self._messages = units, stopping, context.messages
        self.conversation: Mapping[str, Any] = context.conversation
        self.message: Mapping[str, Any] | None = context.question
        """The question; None where the host records an answer to none."""
        self.answer = answer
        """The parts of the answer before the user decided about tool calls; empty in a new turn."""
        self.approved: list[ToolCall] = _decided(calls, answer, "approved")
        self.denied: list[ToolCall] = _decided(calls, answer, "denied")

    @property
    def history(self) -> list[dict[str, Any]]:
        """The newest `CONVERSATIONS_HISTORY_LIMIT` messages up to the question, as OpenAI's chat completions take them."""
        return self.render()

    def render(self, format: str = "openai", *, max_tokens: int | None = None) -> list[dict[str, Any]]:
        """The history in another format: see `get_conversation_history`."""
        count = self._units.backend.token_counter
        return render(self._messages, format=format, max_tokens=max_tokens, count_tokens=count)

    @property
    def cancelled(self) -> bool:
        """Whether the turn was stopped: then the responder should return."""
        return self._stopping.is_set()

    @property
    def identity(self) -> Identity | None:
        """The identity that asked."""
        return self._units.identity

    @property
    def app(self) -> Flask:
        """The app, for `with turn.app.app_context():`."""
        return self._units.backend.app

    @property
    def service(self) -> Any:
        """The `ConversationService` of the identity that asked, for use in any thread."""
        return self._units.backend.service_of(self._units)


def _decided(calls: Sequence[Mapping[str, Any]], answer: Sequence[Mapping[str, Any]], decision: str) -> list[ToolCall]:
    """The tool calls with this *decision* that have no result yet."""
    done = {part["tool_call_id"] for part in answer if part["type"] == "tool_result"}
    return [
        ToolCall(call["id"], call["name"], call["arguments"], True)
        for call in calls
        if call["decision"] == decision and call["id"] not in done
    ]
