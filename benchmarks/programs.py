"""What is measured: the package, and two programs as a careful developer would write them by hand on the same tables."""

from __future__ import annotations

import contextlib
import datetime as dt
from typing import Any, Protocol


class Program(Protocol):
    """A chat store. Every call is by a user, finds only what is theirs, and is durable when it returns."""

    name: str

    def in_thread(self) -> contextlib.AbstractContextManager[Program]:
        """The program as one thread uses it."""

    def append(self, user: str, conversation_id: str, role: str, content: str) -> Any:
        """Append a message; returns its id and sequence number."""

    def newest(self, user: str, conversation_id: str, limit: int) -> list[dict[str, Any]]:
        """The newest messages, oldest first, as a model takes them."""

    def page(self, user: str, conversation_id: str, limit: int, before: Any) -> list[dict[str, Any]]:
        """A page of messages as a client shows them, oldest first."""

    def place(self, user: str, conversation_id: str, seq: int) -> Any:
        """What a client passes as *before* to get the page that ends before message *seq*."""

    def conversations(self, user: str, limit: int) -> list[dict[str, Any]]:
        """The conversations of a user that were last active, for a sidebar."""

    def close(self) -> None:
        """Give back every connection."""


def turn(program: Program, user: str, conversation_id: str, question: str, answer: str) -> None:
    """What a chat route does: read the history, save the question, save the answer."""
    program.newest(user, conversation_id, 20)
    program.append(user, conversation_id, "user", question)
    program.append(user, conversation_id, "assistant", answer)


def now() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)
