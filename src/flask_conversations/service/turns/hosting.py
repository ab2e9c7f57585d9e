"""Turns of a host that calls its model itself: the question is kept before, the answer after, and one turn runs at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ...errors import Conflict, ConversationsError
from ...models import COMPLETED, FAILED, WAITING
from ...turns import ResponderError, Usage
from .following import Follower
from .shapes import Lost
from .turn import Turn

if TYPE_CHECKING:
    from .running import Work


class HostTurn:
    """`with service.turn(conversation_id, question) as turn:` -- read `turn.history`, ask your model, `turn.reply(text)`.

    Leaving the block without a reply, or with an exception, keeps the question and marks the answer as failed.
    """

    def __init__(self, work: Work | None, question: Mapping[str, Any], answer: Mapping[str, Any] | None = None) -> None:
        self._work = work
        self.message = question
        """The question as it is stored."""
        self.answer = answer
        """The answer, once there is one."""
        self.replayed = work is None
        """Whether this question was asked, with its client id, before: then `answer` is what was answered, if it was."""
        self._turn = Turn(work) if work is not None else None

    @property
    def history(self) -> list[dict[str, Any]]:
        """The messages up to the question, as OpenAI's chat completions take them."""
        return self.render()

    def render(self, format: str = "openai", *, max_tokens: int | None = None) -> list[dict[str, Any]]:
        """The same in another format: see `get_conversation_history`."""
        return self._turn.render(format, max_tokens=max_tokens) if self._turn is not None else []

    @property
    def conversation(self) -> Mapping[str, Any]:
        """The conversation as it was when the turn began."""
        return self._turn.conversation if self._turn is not None else {}

    @property
    def cancelled(self) -> bool:
        """Whether the user does not want the answer any more."""
        return self._work is not None and self._work.stopping.is_set()

    def reply(self, text: str, *, model: str | None = None, usage: Any = None) -> Mapping[str, Any]:
        """Store the answer and end the turn. *usage* is a `Usage` or the provider's own numbers as a mapping.

        The message. After a cancellation what is stored stays as it is.
        """
        if self._work is None:
            return self.answer or {}
        self._work.answer.add(text)
        self._work.answer.finish()
        self._work.answer.add(usage if isinstance(usage, Usage) else _usage(usage, model))
        if isinstance(usage, Usage) and model:
            self._work.answer.add(Usage(model=model))
        try:
            self._work.settle(COMPLETED)
        except Lost:
            self._work.end()
        self.answer = self._work.service.get_message(self.message["conversation_id"], self._work.message_id)
        return self.answer

    def __enter__(self) -> HostTurn:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._work is None or self._work.ended.is_set():
            return
        told = error if isinstance(error, ConversationsError) else ResponderError("The question was not answered.")
        try:
            self._work.settle(FAILED, told)
        except Lost:
            self._work.end()


def wait_in_line(work: Work) -> None:
    """Until the turn of the calling thread has begun. Raises `ConversationNotFound` or `Conflict` if it never does."""
    if work.turn.state == WAITING:
        try:
            work._wait_in_line()
        except Lost as lost:
            work.end()
            work.service.glance(work.turn.conversation_id)
            raise Conflict("The turn was ended before it began.") from lost
        except BaseException:
            work.end()
            raise


def texts(follower: Follower, work: Work) -> Iterator[str]:
    """The text of an answer as it comes. Raises what has ended it, once everything before that was told."""
    for sent in follower:
        if sent is not None and sent.event == "message.delta":
            yield sent.data["delta"]
    if work.error is not None:
        raise work.error


def in_thread(work: Work) -> None:
    """Let a turn that has begun be answered whether or not anybody listens."""
    threading.Thread(target=work.main, name=f"turn-{work.turn.id}", daemon=True).start()


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
