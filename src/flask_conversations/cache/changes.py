"""The changes of a transaction, and the cache commands around its commit."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from . import entries

APPLY_TIMEOUT = 5.0
"""Seconds from the reservation to the end of the commit within which no reader can have removed the reservation as expired."""


class Commands(Protocol):
    """The methods of `core.Cache` that a commit calls."""

    limit: int

    def new_token(self) -> str: ...

    def reserve(self, conversation_id: str, token: str, version: int, empty: bytes) -> bool | None: ...

    def unreserve(self, conversation_id: str, token: str, *, reserved: bool) -> None: ...

    def apply(self, conversation_id: str, token: str, version: int, to: int, tails: Sequence[bytes]) -> None: ...

    def drop(self, conversation_id: str, token: str, *, reserved: bool) -> None: ...

    def mark_stale(self, conversation_id: str) -> None: ...


@dataclasses.dataclass
class Change:
    """One step of a conversation's version inside a transaction."""

    conversation_id: str
    version: int
    rev: int
    owner: str = ""
    """The owner's tag; empty without messages."""
    appended: list[bytes] | None = None
    """The elements of messages appended to the active branch, the oldest first; None for any other change."""

    def append(self, owner: str, messages: Sequence[Mapping[str, Any]]) -> None:
        """This step has appended *messages*. They are encoded now: the caller may change the objects later."""
        self.owner = owner
        self.appended = entries.tails(messages, self.conversation_id, owner, self.rev)

    def invalidate(self) -> None:
        """Forget the appended elements: the change may have been rolled back."""
        self.appended = None


class ConversationCommit:
    """The changes of one transaction to one conversation."""

    def __init__(self, cache: Commands, changes: Sequence[Change]) -> None:
        self._cache = cache
        self._conversation_id = changes[0].conversation_id
        self._from, self._last = changes[0].version - 1, changes[-1]
        versions = [change.version for change in changes]
        is_consecutive = versions == list(range(versions[0], versions[0] + len(versions)))
        appended = [change.appended for change in changes if change.appended is not None]
        self._appended = [one for some in appended for one in some] if len(appended) == len(changes) else None
        if not is_consecutive:
            self._appended = None
        self._token = ""
        self._reserved_at = 0.0
        self._reserved: bool | None = None

    def reserve(self) -> None:
        """Under the row lock, just before the commit."""
        self._token = self._cache.new_token()
        self._reserved_at = time.monotonic()
        inserted = self._from == 0 and self._appended is not None
        empty = entries.empty_tail(self._conversation_id, self._last.owner, self._last.rev) if inserted else b""
        self._reserved = self._cache.reserve(self._conversation_id, self._token, self._from, empty)

    def committed(self) -> None:
        """After the commit."""
        tails = self._tails() if self._reserved and self._appended is not None else None
        in_time = time.monotonic() - self._reserved_at <= APPLY_TIMEOUT
        if tails is not None and in_time:
            self._cache.apply(self._conversation_id, self._token, self._from, self._last.version, tails)
        elif self._reserved is None:
            self._cache.mark_stale(self._conversation_id)
        else:
            # also after a failed reservation: a stale read would be worse than one more timeout
            self._cache.drop(self._conversation_id, self._token, reserved=self._reserved)

    def _tails(self) -> list[bytes] | None:
        last, appended = self._last, self._appended or []
        if not appended:
            return [entries.empty_tail(self._conversation_id, last.owner, last.rev)] if self._from == 0 else None
        newest = appended[-self._cache.limit :]
        return newest if sum(map(len, newest)) <= entries.MAX_BYTES else None

    def unknown(self) -> None:
        """After a commit with an unknown outcome: the reservation stays until it expires."""
        if not self._reserved:
            self._cache.mark_stale(self._conversation_id)

    def rolled_back(self) -> None:
        """After a rollback that the database has confirmed."""
        if self._reserved is not None:
            self._cache.unreserve(self._conversation_id, self._token, reserved=self._reserved)


class CommitHandle:
    """The cache commands of one commit, for all its conversations."""

    def __init__(self, cache: Commands, changes: Iterable[Change]) -> None:
        by_conversation: dict[str, list[Change]] = {}
        for change in changes:
            by_conversation.setdefault(change.conversation_id, []).append(change)
        self._commits = [ConversationCommit(cache, some) for some in by_conversation.values()]

    def reserve(self) -> None:
        for each in self._commits:
            each.reserve()

    def committed(self) -> None:
        for each in self._commits:
            each.committed()

    def unknown(self) -> None:
        for each in self._commits:
            each.unknown()

    def rolled_back(self) -> None:
        for each in self._commits:
            each.rolled_back()
