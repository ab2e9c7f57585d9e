"""The cache of the newest messages: reserve, commit, apply; a read that misses fills it under a lease.

docs/explanation/cache.md states its guarantees and their limits. Leases are those of Nishtala et al., "Scaling Memcache at
Facebook" (NSDI 2013). Like Google's NDB, it closes a key before the commit and opens it afterwards. Versions chain the
appends: an entry moves from one committed state to the next only.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..config import Config
from ..counters import Counters
from . import entries, inspection
from .changes import Change, CommitHandle
from .clients import Connect
from .entries import CorruptEntry, Entry
from .inspection import Inspection
from .invalidations import PendingInvalidations
from .scripts import APPLY, DROP, POPULATE, READ, RELEASE, RESERVE, UNRESERVE, Script
from .server import Server

LEASE_SECONDS = 3
"""Seconds that a reader has from its miss to filling the key."""

RESERVE_SECONDS = 10
"""Seconds that a reservation closes a key if no commit ends it; see also `changes.APPLY_TIMEOUT`."""

CLEAR_BATCH_SIZE = 20
"""Stale keys that one answered call also clears."""


class Lease(NamedTuple):
    """The right to fill one key, until the key changes."""

    key: str
    token: str
    run: bytes


class Found(NamedTuple):
    """The result of a read: an entry that may be served, a lease to fill the key, or neither."""

    entry: Entry | None = None
    lease: Lease | None = None


NOTHING = Found()


class Cache:
    """The newest messages of conversations in Redis. No call raises an error of Redis or waits for it for long."""

    def __init__(self, connect: Connect, config: Config) -> None:
        self.connect, self._config = connect, config
        self.limit = config.cache_limit
        self.strict = config.cache_strict
        self._prefix = config.cache_prefix
        self._ttl_ms = config.cache_ttl * 1000
        # strict mode checks each entry against the database, so its age does not matter
        self._max_age_ms = 0 if config.cache_strict else round(config.cache_max_staleness * 1000)
        self.counters = Counters(
            *("hits", "misses", "foreign", "refused", "filled", "filled_late", "reserved", "not_reserved"),
            *("applied", "not_applied", "dropped", "undone", "marked_stale", "cleared"),
            *("errors", "timeouts", "skipped", "out_of_step", "disagreed"),
        )
        self.server = Server(connect, self.counters)
        self._invalidations = PendingInvalidations()

    # -- reading

    def read(self, conversation_id: str, owner: str, wanted: int, limit: int, min_version: int = 0) -> Found:
        """An entry of *owner* with the newest *wanted* to *limit* messages, else perhaps a lease to fill the key."""
        key = self._key(conversation_id)
        if not self._is_clear(key):
            return NOTHING
        token = self.new_token()
        answer = self._read(
            READ,
            key,
            token,
            owner,
            min_version,
            limit,
            LEASE_SECONDS * 1000,
            self._invalidations.horizon_ms(self._max_age_ms),
        )
        if answer is None:
            return NOTHING
        match answer:
            case [b"hit", *elements]:
                return self._checked(elements, conversation_id, owner, wanted)
            case [b"lease", run, reason]:
                self.counters.add("misses")
                if reason == b"corrupt":
                    self.counters.add("refused")
                return Found(lease=Lease(key, token, run))
            case [b"foreign"]:
                self.counters.add("foreign")
                # a lease unknown to Redis: a foreign conversation must cost as much as a missing one
                return Found(lease=Lease(key, token, b""))
            case _:
                self.counters.add("misses")
        return NOTHING

    def _checked(self, elements: Sequence[bytes], conversation_id: str, owner: str, wanted: int) -> Found:
        try:
            entry = entries.read(elements, conversation_id, owner)
        except CorruptEntry:
            self.forget_corrupt(conversation_id)
            return NOTHING
        if len(entry.bodies) < wanted and not entry.is_whole:
            self.counters.add("misses")
            return NOTHING
        self.counters.add("hits")
        return Found(entry)

    def forget_corrupt(self, conversation_id: str) -> None:
        """Forget a corrupt entry."""
        self.counters.add("refused")
        self.forget(conversation_id)

    def forget_disagreeing(self, conversation_id: str) -> None:
        """Forget an entry that the database does not confirm."""
        self.counters.add("disagreed")
        self.forget(conversation_id)

    def fill(
        self,
        lease: Lease,
        conversation_id: str,
        owner: str,
        version: int,
        rev: int,
        messages: Sequence[Mapping[str, Any]],
    ) -> None:
        """Fill the key with the newest *messages*, the newest first, as they were at *version*."""
        some = messages[: self.limit]
        found = entries.tails(some, conversation_id, owner, rev)
        if found is None:
            self.release(lease)
            return
        elements = found or [entries.empty_tail(conversation_id, owner, rev)]
        answer = self._read(POPULATE, lease.key, lease.token, lease.run, self._ttl_ms, version, *elements)
        self.counters.add("filled" if answer == [b"stored"] else "filled_late")

    def release(self, lease: Lease) -> None:
        """Release an unused lease, so that the next reader need not wait for its end."""
        self._read(RELEASE, lease.key, lease.token)

    # -- writing

    def before_commit(self, changes: Iterable[Change]) -> CommitHandle:
        """Reserve the keys of all *changes*, just before their commit. The caller ends the reservations after it."""
        handle = CommitHandle(self, changes)
        handle.reserve()
        return handle

    def reserve(self, conversation_id: str, token: str, version: int, empty: bytes) -> bool | None:
        """Close the key: True if it is closed, False if that is not certain, None if Redis was not called."""
        allowed = self.server.may_write()
        arguments = (RESERVE, self._key(conversation_id), token, version, empty)
        reserved = allowed and self._write(*arguments, failed_before=False) is not None
        self.counters.add("reserved" if reserved else "not_reserved")
        return reserved if allowed else None

    def apply(self, conversation_id: str, token: str, version: int, to: int, tails: Sequence[bytes]) -> None:
        """Bring the entry, if there is one at *version*, to version *to*, and open the key."""
        key = self._key(conversation_id)
        answer = self._write(APPLY, key, token, version, to, self._ttl_ms, self.limit, *tails, failed_before=False)
        if answer is None:
            self._mark_stale(key)
        self.counters.add("applied" if answer == [b"applied"] else "not_applied")

    def drop(self, conversation_id: str, token: str, *, reserved: bool) -> None:
        """Empty the key, and open it, whether or not it was *reserved*."""
        key = self._key(conversation_id)
        if self._write(DROP, key, token, failed_before=not reserved) is None:
            self._mark_stale(key)
        self.counters.add("dropped")

    def mark_stale(self, conversation_id: str) -> None:
        """Remember a key that was not invalidated, because the breaker of Redis is open."""
        self._mark_stale(self._key(conversation_id))

    def forget(self, conversation_id: str) -> None:
        """Empty the key; the reservations of others stay."""
        key = self._key(conversation_id)
        if self._read(DROP, key, self.new_token()) is None:
            self._mark_stale(key)
        self.counters.add("dropped")

    def unreserve(self, conversation_id: str, token: str, *, reserved: bool) -> None:
        """Open the key as it was before: the transaction has been rolled back."""
        key = self._key(conversation_id)
        self._write(UNRESERVE, key, token, self._ttl_ms, failed_before=not reserved)
        self.counters.add("undone")

    # -- invalidations that did not reach Redis

    def _is_clear(self, key: str) -> bool:
        """Whether *key* is not marked as stale, or a DROP has cleared it now."""
        mark = self._invalidations.mark_of(key)
        if mark is None:
            return True
        if self.server.read(DROP, key, *self._call_arguments(self.new_token())) is None:
            return False
        self._invalidations.clear(key, mark)
        self.counters.add("cleared")
        return True

    def _mark_stale(self, key: str) -> None:
        self._invalidations.mark_stale(key)
        self.counters.add("marked_stale")

    def _read(self, script: Script, key: str, token: str, *arguments: Any) -> list[bytes] | None:
        answer = self.server.read(script, key, *self._call_arguments(token), *arguments)
        return self._after(key, answer)

    def _write(self, script: Script, key: str, token: str, *arguments: Any, failed_before: bool) -> list[bytes] | None:
        answer = self.server.write(script, key, *self._call_arguments(token), *arguments, failed_before=failed_before)
        return self._after(key, answer)

    def _after(self, key: str, answer: list[bytes] | None) -> list[bytes] | None:
        """Clear some of the other stale keys, if Redis has answered."""
        if answer is not None and self._invalidations:
            for stale in self._invalidations.oldest(CLEAR_BATCH_SIZE):
                if stale != key and not self._is_clear(stale):
                    break
        return answer

    def _call_arguments(self, token: str) -> tuple[str, int]:
        return token, RESERVE_SECONDS * 1000

    def _key(self, conversation_id: str) -> str:
        # the braces are a hash tag: all keys of a conversation are on one node of a cluster
        return f"{self._prefix}conversation:{{{conversation_id}}}:messages"

    @staticmethod
    def new_token() -> str:
        """A unique name for a reservation, a lease or a call."""
        return secrets.token_hex(8)

    # -- for operators

    def inspect(self, conversation_id: str) -> Inspection | None:
        """The content of the key, for any owner; None if Redis does not answer."""
        return inspection.inspect_key(self.server.client, self._key(conversation_id), conversation_id)

    def bytes_of(self, conversation_id: str) -> int | None:
        """The bytes that the key takes in Redis; None if it does not exist, or Redis does not answer."""
        return inspection.size(self.server.client, self._key(conversation_id))

    def stats(self) -> dict[str, Any]:
        """Counters since the process began, and the state of the circuit breaker."""
        reading, writing = self.server.reading, self.server.writing
        return {
            "strict": self.strict,
            **self.counters.all(),
            "stale_keys": len(self._invalidations),
            "breaker": {"reads": reading.state, "writes": writing.state, "opened": reading.opened + writing.opened},
        }
