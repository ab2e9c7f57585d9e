"""Calls the model, runs the requested tools, and calls it again, until it has answered or the user has to decide."""

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
from .reading import RequestedCall
from .tools import DENIED, JSON, Tool, Tools, arguments_of, by_name, definition_of, run

E = TypeVar("E", bound="str | Event")

MAX_ROUNDS = 8
"""Requests to the model in one run; if the last one still calls tools, the turn fails."""


class Turn(Protocol):
    """The attributes of a turn that this responder uses."""

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

    *tools* are functions that the model may call, by name or as `Tool`. *timeout* is the seconds without output of the model,
    *deadline* the seconds for one whole answer. A request to an endpoint that is down or busy is retried *retries* times,
    but not once a part of the answer was passed on. *extra* is merged into the request's body; None removes a member.
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
            yield answer.record(run(self._tools, call, turn))
        for call in answer.unsettled(turn.denied):
            yield answer.record(ToolResult(call.id, DENIED, is_error=True))

        with self._endpoint.session(lambda: turn.cancelled) as session:
            for _ in range(MAX_ROUNDS):
                calls = yield from self._ask(session, turn, answer)
                if turn.cancelled or not calls:
                    return
                waiting = yield from self._run(calls, turn, answer)
                if turn.cancelled or waiting:
                    return
        raise ResponderError("The model requested tools too many times, and gave no answer.")

    def _ask(self, session: Session, turn: Turn, answer: _Answer) -> Generator[str | Event, None, list[ToolCall]]:
        """Pass on the output of the model; return the calls that it requests."""
        calls: list[ToolCall] = []
        for piece in session.ask(self._payload(turn, answer)):
            if turn.cancelled:
                break
            if isinstance(piece, RequestedCall):
                calls.append(answer.call(piece, self._tools))
            elif isinstance(piece, Usage):
                yield piece if piece.model else dataclasses.replace(piece, model=self.model)
            else:
                yield answer.record(piece)
        if not (calls or answer.has_content or turn.cancelled):
            raise ResponderError(SILENT)
        return calls

    def _run(self, calls: list[ToolCall], turn: Turn, answer: _Answer) -> Generator[Event, None, bool]:
        """Run the tools that may run, then pass on the calls that wait for the user; return whether there are any."""
        waiting = [call for call in calls if call.requires_approval]
        runnable = [call for call in calls if not call.requires_approval]
        for call in runnable:
            yield answer.record(call)
        for call in runnable:
            if turn.cancelled:
                return True
            yield answer.record(run(self._tools, call, turn))
        for call in waiting:
            yield answer.record(call)
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

    def record(self, event: E) -> E:
        """Record *event*, and return it."""
        part = part_of(event)
        if part:
            self._parts.append(part)
        return event

    def unsettled(self, calls: Iterable[ToolCall]) -> Iterator[ToolCall]:
        """The calls that have no result by then, so that none ever runs twice."""
        for call in calls:
            if call.id not in ids_of(self._parts, "tool_result", "tool_call_id"):
                yield call

    def call(self, requested: RequestedCall, tools: Mapping[str, Tool]) -> ToolCall:
        """The call that the model requests, with an id that is unique in this answer."""
        name = re.sub(r"[^a-zA-Z0-9_-]", "_", requested.name)[:64] or "unknown"
        id = (
            requested.id
            if requested.id and len(requested.id) <= 64 and requested.id not in self._ids
            else f"call_{uuid.uuid4().hex}"
        )
        self._ids.add(id)
        found = arguments_of(ToolCall(id, name, requested.arguments))
        tool = tools.get(name)
        # a call that cannot run needs no decision
        waits = tool is not None and tool.requires_approval and found is not None
        return ToolCall(id, name, requested.arguments if found is None else found, requires_approval=waits)

    def messages(self) -> list[JSON]:
        return messages_of(self._parts)

    @property
    def has_content(self) -> bool:
        """Whether there is visible text, or a part of another kind than reasoning."""
        kinds = {part.get("type") for part in self._parts if part.get("type") != "text"} - {"reasoning"}
        return bool(kinds) or any(
            str(part.get("text", "")).strip() for part in self._parts if part.get("type") == "text"
        )
