"""Turns of a host that calls its model itself. The question is stored before that call, and the answer after it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

from ...errors import Conflict, ConversationsError
from ...tables import COMPLETED, FAILED, WAITING
from ...turns import ResponderError, Usage
from .execution import TurnExecution
from .following import Follower
from .recovery import poll_status
from .types import LeaseLost
from .views import turn_view


class HostTurn:
    """`with service.turn(conversation_id, question) as turn:` -- read `turn.history`, ask your model, `turn.reply(text)`.

    Leaving the block without a reply, or with an exception, keeps the question and marks the answer as failed.
    """

    def __init__(
        self, execution: TurnExecution | None, question: Mapping[str, Any], answer: Mapping[str, Any] | None = None
    ) -> None:
        self._execution = execution
        self.message = question
        """The stored question."""
        self.answer = answer
        """The answer; None before it is stored."""
        self.replayed = execution is None
        """Whether the question was stored before with this client id: then `answer` is its stored answer or None."""
        self._turn = execution.turn_for_responder() if execution is not None else None

    @property
    def history(self) -> list[dict[str, Any]]:
        """The messages up to the question, as OpenAI's chat completions take them."""
        return self.render()

    def render(self, format: str = "openai", *, max_tokens: int | None = None) -> list[dict[str, Any]]:
        """The history in another format: see `get_conversation_history`."""
        return self._turn.render(format, max_tokens=max_tokens) if self._turn is not None else []

    @property
    def conversation(self) -> Mapping[str, Any]:
        """The conversation as it was when the turn began."""
        return self._turn.conversation if self._turn is not None else {}

    @property
    def cancelled(self) -> bool:
        """Whether the turn was stopped."""
        return self._execution is not None and self._execution.stopping.is_set()

    def reply(self, text: str, *, model: str | None = None, usage: Any = None) -> Mapping[str, Any]:
        """Store the answer, end the turn, and return the message. *usage* is a `Usage` or the provider's numbers as a mapping.

        If the user or another worker has ended the turn before, the stored answer stays and is returned; without one, an empty
        mapping.
        """
        if self._execution is None:
            return self.answer or {}
        self._execution.answer.add(text)
        self._execution.answer.finish()
        self._execution.answer.add(usage if isinstance(usage, Usage) else _usage(usage, model))
        if isinstance(usage, Usage) and model:
            self._execution.answer.add(Usage(model=model))
        try:
            self._execution.settle(COMPLETED)
        except LeaseLost:
            self._execution.end()
        units, turn = self._execution.units, self._execution.turn
        self.answer = (self._execution.outcome or turn_view(units, turn.conversation_id, turn.id))["answer"]
        return self.answer or {}

    def __enter__(self) -> HostTurn:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._execution is None or self._execution.ended.is_set():
            return
        failure = error if isinstance(error, ConversationsError) else ResponderError("The question was not answered.")
        try:
            self._execution.settle(FAILED, failure)
        except LeaseLost:
            self._execution.end()


def wait_in_queue(execution: TurnExecution) -> None:
    """Wait until the turn may begin. Raises `ConversationNotFound` or `Conflict` if it was ended before."""
    if execution.turn.state == WAITING:
        try:
            execution.wait_in_queue()
        except LeaseLost as lost:
            execution.end()
            execution.units.read(poll_status, execution.turn.conversation_id)
            raise Conflict("The turn was ended before it began.") from lost
        except BaseException:
            execution.end()
            raise


def texts(follower: Follower, execution: TurnExecution) -> Iterator[str]:
    """Yield the text of an answer as it arrives. Raises the error of the turn after the last text."""
    for sent in follower:
        if sent is not None and sent.event == "message.delta":
            yield sent.data["delta"]
    if execution.error is not None:
        raise execution.error


def in_thread(execution: TurnExecution) -> None:
    """Execute a started turn in its own thread, whether or not a client reads its events."""
    threading.Thread(target=execution.main, name=f"turn-{execution.turn.id}", daemon=True).start()


def _usage(usage: Any, model: str | None) -> Usage:
    found = dict(usage) if isinstance(usage, Mapping) else {}
    names = {
        "input_tokens": ("input_tokens", "prompt_tokens"),
        "output_tokens": ("output_tokens", "completion_tokens"),
        "total_tokens": ("total_tokens",),
    }
    counts = {
        name: next((found[one] for one in given if isinstance(found.get(one), int)), None)
        for name, given in names.items()
    }
    return Usage(**counts, model=model, details=found)
