"""Asks the model, runs the tools it asks for, and asks again, until it has answered or a person has to decide."""

from __future__ import annotations

import dataclasses
import re
import uuid
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from ...turns import Event, ResponderError, ToolCall, ToolResult, Usage
from .endpoint import Endpoint, Session
from .errors import SILENT
from .parts import ids_of, messages_of, part_of
from .reading import Asked
from .tools import DENIED, JSON, Tool, Tools, arguments_of, by_name, definition_of, run

E = TypeVar("E", bound="str | Event")

MAX_ROUNDS = 8
"""How often the model is asked in one go before it has to come to an end with its tools."""


class Turn(Protocol):
    """What this responder wants to know of a turn."""

    @property
    def history(self) -> Sequence[Mapping[str, Any]]: ...
    @property
    def cancelled(self) -> bool: ...
    @property
    def approved(self) -> Sequence[ToolCall]: ...
    @property
    def denied(self) -> Sequence[ToolCall]: ...
    @property
    def answer(self) -> Sequence[Mapping[str, Any]]: ...


class OpenAIResponder:
    """A model behind an endpoint that speaks OpenAI's chat completions, as a responder.

    *tools* are functions that the model may call, by name or as `Tool`. *timeout* are the seconds without a sign of the model,
    *deadline* those for one answer of it altogether. An endpoint that is down or busy is asked *retries* more times,
    but never once a part of the answer was passed on. *extra* joins the request's body; what is None there leaves it.
    """

    def __init__(
        self,
        base_url: str = "https://api.openai.com/v1",
        model: str = "gpt-4o-mini",
        api_key: str | None = None,
        *,
        system: str | None = None,
        tools: Tools | None = None,
        timeout: float = 60.0,
        deadline: float = 600.0,
        retries: int = 3,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model
        self._system = system
        self._tools = by_name(tools)
        self._extra = dict(extra or {})
        self._endpoint = Endpoint(base_url, api_key, headers or {}, timeout=timeout, deadline=deadline, retries=retries)

    def __call__(self, turn: Turn) -> Iterator[str | Event]:
        """The answer to the last message of `turn.history`, as it comes. Raises `ResponderError`."""
        answer = _Answer(turn)
        for call in answer.unsettled(turn.approved):
            if turn.cancelled:
                return
            yield answer.says(run(self._tools, call, turn))
        for call in answer.unsettled(turn.denied):
            yield answer.says(ToolResult(call.id, DENIED, is_error=True))

        with self._endpoint.session(lambda: turn.cancelled) as session:
            for _ in range(MAX_ROUNDS):
                calls = yield from self._ask(session, turn, answer)
                if turn.cancelled or not calls:
                    return
                waiting = yield from self._run(calls, turn, answer)
                if turn.cancelled or waiting:
                    return
        raise ResponderError("The model asked for tools again and again, and came to no answer.")

    def _ask(self, session: Session, turn: Turn, answer: _Answer) -> Generator[str | Event, None, list[ToolCall]]:
        """Pass on what the model says; return the calls it asks for."""
        calls: list[ToolCall] = []
        for piece in session.ask(self._payload(turn, answer)):
            if turn.cancelled:
                break
            if isinstance(piece, Asked):
                calls.append(answer.call(piece, self._tools))
            elif isinstance(piece, Usage):
                yield piece if piece.model else dataclasses.replace(piece, model=self.model)
            else:
                yield answer.says(piece)
        if not (calls or answer.has_words or turn.cancelled):
            raise ResponderError(SILENT)
        return calls

    def _run(self, calls: list[ToolCall], turn: Turn, answer: _Answer) -> Generator[Event, None, bool]:
        """Run the tools that may run; return whether others wait for the user, who hears of them last."""
        waiting = [call for call in calls if call.requires_approval]
        at_once = [call for call in calls if not call.requires_approval]
        for call in at_once:
            yield answer.says(call)
        for call in at_once:
            if turn.cancelled:
                return True
            yield answer.says(run(self._tools, call, turn))
        for call in waiting:
            yield answer.says(call)
        return bool(waiting)

    def _payload(self, turn: Turn, answer: _Answer) -> JSON:
        system = [{"role": "system", "content": self._system}] if self._system else []
        payload: JSON = {
            "model": self.model,
            "messages": [*system, *turn.history, *answer.messages()],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if self._tools:
            payload["tools"] = [definition_of(tool) for tool in self._tools.values()]
        return {name: value for name, value in (payload | self._extra).items() if value is not None}


class _Answer:
    """The parts of this turn's answer: those from before the user decided, and those since."""

    def __init__(self, turn: Turn) -> None:
        self._parts = [*turn.answer]
        self._ids = ids_of(self._parts, "tool_call", "id")

    def says(self, event: E) -> E:
        """*event*, noted."""
        part = part_of(event)
        if part:
            self._parts.append(part)
        return event

    def unsettled(self, calls: Iterable[ToolCall]) -> Iterator[ToolCall]:
        """Those that have no result by then, so that none ever runs twice."""
        for call in calls:
            if call.id not in ids_of(self._parts, "tool_result", "tool_call_id"):
                yield call

    def call(self, asked: Asked, tools: Mapping[str, Tool]) -> ToolCall:
        """The call that the model asks for, under an id that no other of this answer has."""
        name = re.sub(r"[^a-zA-Z0-9_-]", "_", asked.name)[:64] or "unknown"
        id = asked.id if asked.id and len(asked.id) <= 64 and asked.id not in self._ids else f"call_{uuid.uuid4().hex}"
        self._ids.add(id)
        found = arguments_of(ToolCall(id, name, asked.arguments))
        tool = tools.get(name)
        # one that could not run anyway is nothing to decide about
        waits = tool is not None and tool.requires_approval and found is not None
        return ToolCall(id, name, asked.arguments if found is None else found, requires_approval=waits)

    def messages(self) -> list[JSON]:
        return messages_of(self._parts)

    @property
    def has_words(self) -> bool:
        """Whether there is something to read, or something was done."""
        kinds = {part.get("type") for part in self._parts if part.get("type") != "text"} - {"reasoning"}
        return bool(kinds) or any(
            str(part.get("text", "")).strip() for part in self._parts if part.get("type") == "text"
        )
