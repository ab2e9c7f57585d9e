"""What a transaction has done to conversations, and what the cache does about it around the commit."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from . import entries

IN_TIME = 5.0
"""Seconds from the reservation to the end of the commit within which nobody can have taken the reservation for dead."""


class Commands(Protocol):
    """What a settlement asks of the cache: see `core.Cache`."""

    limit: int

    def new_token(self) -> str: ...

    def reserve(self, conversation_id: str, token: str, version: int, empty: bytes) -> bool | None: ...

    def unreserve(self, conversation_id: str, token: str, *, reserved: bool) -> None: ...

    def apply(self, conversation_id: str, token: str, version: int, to: int, tails: Sequence[bytes]) -> None: ...

    def drop(self, conversation_id: str, token: str, *, reserved: bool) -> None: ...

    def owe(self, conversation_id: str) -> None: ...


@dataclasses.dataclass
class Change:
    """One step of a conversation's version inside a transaction."""

    conversation_id: str
    version: int
    rev: int
    owner: str = ""
    """The owner's tag; known where there are messages."""
    appended: list[bytes] | None = None
    """The elements of what was appended to the active branch, the oldest first; None if anything else has changed."""

    def append(self, owner: str, messages: Sequence[Mapping[str, Any]]) -> None:
        """This step has appended *messages*. They are written down now: the caller may change what it was given."""
        self.owner = owner
        self.appended = entries.tails(messages, self.conversation_id, owner, self.rev)

    def doubt(self) -> None:
        """It is not certain that this has happened."""
        self.appended = None


class Pending:
    """All that one transaction has done to one conversation."""

    def __init__(self, cache: Commands, changes: Sequence[Change]) -> None:
        self._cache = cache
        self._conversation_id = changes[0].conversation_id
        self._from, self._last = changes[0].version - 1, changes[-1]
        versions = [change.version for change in changes]
        in_a_row = versions == list(range(versions[0], versions[0] + len(versions)))
        appended = [change.appended for change in changes if change.appended is not None]
        self._appended = [one for some in appended for one in some] if len(appended) == len(changes) else None
        if not in_a_row:
            self._appended = None
        self._token = ""
        self._since = 0.0
        self._reserved: bool | None = None

    def reserve(self) -> None:
        """Under the row lock, just before the commit."""
        self._token = self._cache.new_token()
        self._since = time.monotonic()
        newborn = self._from == 0 and self._appended is not None
        empty = entries.empty_tail(self._conversation_id, self._last.owner, self._last.rev) if newborn else b""
        self._reserved = self._cache.reserve(self._conversation_id, self._token, self._from, empty)

    def settle(self) -> None:
        """After the commit."""
        tails = self._tails() if self._reserved and self._appended is not None else None
        in_time = time.monotonic() - self._since <= IN_TIME
        if tails is not None and in_time:
            self._cache.apply(self._conversation_id, self._token, self._from, self._last.version, tails)
        elif self._reserved is None:
            self._cache.owe(self._conversation_id)
        else:
            # also where the reservation failed: one more time-out is worth it that nobody is shown the state before
            self._cache.drop(self._conversation_id, self._token, reserved=self._reserved)

    def _tails(self) -> list[bytes] | None:
        last, appended = self._last, self._appended or []
        if not appended:
            return [entries.empty_tail(self._conversation_id, last.owner, last.rev)] if self._from == 0 else None
        newest = appended[-self._cache.limit :]
        return newest if sum(map(len, newest)) <= entries.MOST_BYTES else None

    def lose(self) -> None:
        """After a commit of which nobody knows whether it happened: the reservation stays until its time is over."""
        if not self._reserved:
            self._cache.owe(self._conversation_id)

    def undo(self) -> None:
        """After a rollback that is known to be one."""
        if self._reserved is not None:
            self._cache.unreserve(self._conversation_id, self._token, reserved=self._reserved)


class Settlement:
    """What is owed to Redis after one commit."""

    def __init__(self, cache: Commands, changes: Iterable[Change]) -> None:
        by_conversation: dict[str, list[Change]] = {}
        for change in changes:
            by_conversation.setdefault(change.conversation_id, []).append(change)
        self._pending = [Pending(cache, some) for some in by_conversation.values()]

    def reserve(self) -> None:
        for each in self._pending:
            each.reserve()

    def settle(self) -> None:
        for each in self._pending:
            each.settle()

    def lose(self) -> None:
        for each in self._pending:
            each.lose()

    def undo(self) -> None:
        for each in self._pending:
            each.undo()
