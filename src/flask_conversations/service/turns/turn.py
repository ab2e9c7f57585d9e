"""What a responder is given: the question, what was said before it, and whether anybody still wants an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flask import Flask

from ...identity.base import Identity
from ...turns import ToolCall

if TYPE_CHECKING:
    from .running import Work


class Turn:
    """One question that is to be answered.

    A responder runs without an app context and without a database connection: `with turn.app.app_context():` gives it the one,
    each call of `turn.service` takes the other for as long as it lasts.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        view = work.service.turn_context(work.turn, work.question)
        self.conversation: Mapping[str, Any] = view["conversation"]
        self.message: Mapping[str, Any] = view["question"]
        """The question; the newest message where the host records an answer to none."""
        self._before: Sequence[Mapping[str, Any]] = view["messages"]
        self.answer: list[dict[str, Any]] = work.answer.parts
        """What this turn has said before the user decided about tool calls; empty at first."""
        calls = work.turn.calls or []
        self.approved: list[ToolCall] = _decided(calls, self.answer, "approved")
        self.denied: list[ToolCall] = _decided(calls, self.answer, "denied")

    @property
    def history(self) -> list[dict[str, Any]]:
        """The newest `CONVERSATIONS_HISTORY_LIMIT` messages up to the question, as OpenAI's chat completions take them."""
        return self.render()

    def render(self, format: str = "openai", *, max_tokens: int | None = None) -> list[dict[str, Any]]:
        """The same in another format: see `get_conversation_history`."""
        return self._work.service.rendered(self._before, format=format, max_tokens=max_tokens)

    @property
    def cancelled(self) -> bool:
        """Whether nobody wants the rest of the answer: a responder that sees it should return."""
        return self._work.stopping.is_set()

    @property
    def identity(self) -> Identity | None:
        """Who asked."""
        return self._work.service.identity

    @property
    def app(self) -> Flask:
        """The app, for `with turn.app.app_context():`."""
        return self._work.service.backend.app

    @property
    def service(self) -> Any:
        """What the person who asked can do, in any thread."""
        return self._work.service


def _decided(calls: Sequence[Mapping[str, Any]], said: Sequence[Mapping[str, Any]], decision: str) -> list[ToolCall]:
    """The calls that were decided so, and have no result yet."""
    done = {part["tool_call_id"] for part in said if part["type"] == "tool_result"}
    return [
        ToolCall(call["id"], call["name"], call["arguments"], True)
        for call in calls
        if call["decision"] == decision and call["id"] not in done
    ]
