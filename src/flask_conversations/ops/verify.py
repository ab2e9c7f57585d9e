"""Walk all conversations, find contradictions, and repair the values that follow from the messages."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar, cast

from .. import signals
from ..cache import Cache, owner_tag
from ..errors import ConversationNotFound, StorageUnavailable, redacted_traceback
from ..ids import now
from ..schemas import conversations as conversation_schema
from ..schemas import messages as message_schema
from ..schemas.types import Message
from ..service.unit_of_work import UnitOfWork, Units
from ..store import branches as branch_rows
from ..store import checks as rows
from ..store import conversations as conversation_rows
from ..store import messages as message_rows
from ..store import requests
from ..store.rows import ConversationRow
from ..tables import TABLES
from .audit import ConversationAudit
from .finding import FAIL, Finding

logger = logging.getLogger("flask_conversations.verify")

R = TypeVar("R")
Of = TypeVar("Of", rows.ExaminedTag, rows.ExaminedBranch)

WINDOW = 500
"""Messages that are read, and in memory, at a time."""

BATCH_SIZE = 1000
"""Ids of missing conversations that are read at a time."""

RECHECK_DELAY = 0.2
"""Seconds after which a suspect cache entry is read again: a writer may be between its commit and its last command."""


class Progress(NamedTuple):
    """The result of one batch."""

    conversations: int
    messages: int
    findings: list[Finding]
    unanswered: int = 0
    """Cache entries that could not be read, because Redis does not answer."""


class Verification:
    """The examination of conversations across users; *units* are the system's.

    The first pass reads batches without any lock. A suspect may be half of a change in progress, so the second pass examines
    each one again under the conversation's row lock, in a transaction of its own, and repairs it there.
    """

    def __init__(self, units: Units) -> None:
        self._units = units
        self._cache = units.backend.cache
        self._unanswered = 0

    def walk(
        self,
        *,
        owner: Mapping[str, str] | None = None,
        only: str | None = None,
        batch: int = 100,
        repair: bool = False,
        accept: bool = False,
    ) -> Iterator[Progress]:
        """Examine every conversation by id, those of one *owner*, or *only* one; with *repair*, correct the repairable findings.

        *accept* accepts messages whose text another program has changed as they are now.
        """
        after: str | None = None
        while True:
            found = self._read(rows.page, after=after, limit=batch, owner=owner, only=only)
            last = len(found) < batch or only is not None
            upto = only if only is not None else (None if last else found[-1].id)
            suspects, count = self._suspects(found)
            findings = [each for one in suspects for each in self._confirmed(one, repair, accept)]
            self._unanswered = 0
            findings += self._cache_findings([only] if only else [row.id for row in found], repair)
            if owner is None:
                findings += self._orphan_findings(after, upto, only, repair)
            yield Progress(len(found), count, findings, self._unanswered)
            if last:
                return
            after = upto

    def _read(self, query: Callable[..., R], *args: Any, **kwargs: Any) -> R:
        """One short read: no transaction stays open until the next one."""
        return cast("R", self._units.read(_query, query, *args, **kwargs))

    def _suspects(self, batch: Sequence[rows.ExaminedConversation]) -> tuple[list[str], int]:
        """The conversations that seem wrong, and the number of messages that were read."""
        if not batch:
            return [], 0
        ids = [row.id for row in batch]
        sizes = self._read(rows.sizes, ids)
        tagged = _by_conversation(self._read(rows.tags, ids))
        named = _by_conversation(self._read(rows.branches, ids))
        audits = {row.id: ConversationAudit(row, tagged.get(row.id, ()), named.get(row.id, ())) for row in batch}
        for group in _packed(ids, sizes):
            if len(group) == 1:
                _read_all(audits[group[0]], self._read)
            else:
                for message in self._read(rows.messages_of, group):
                    audits[message.conversation_id].add(message)
        for audit in audits.values():
            if audit.conversation.branched:
                audit.orphans = self._read(rows.orphans, audit.conversation.id)
        return [own_id for own_id, audit in audits.items() if audit.findings()], sum(sizes.values())

    # -- the second pass, and the repair

    def _confirmed(self, conversation_id: str, repair: bool, accept: bool) -> list[Finding]:
        """The certain findings of one conversation, repaired if so requested."""
        try:
            findings = self._units.write(_examine, conversation_id, repair, accept)
        except StorageUnavailable as busy:
            return [Finding("busy", FAIL, f"It could not be examined: {busy.detail}", conversation_id)]
        if any(each.repaired for each in findings):
            _forget(self._cache, conversation_id)
        return findings

    # -- rows of missing conversations

    def _orphan_findings(self, after: str | None, upto: str | None, only: str | None, repair: bool) -> list[Finding]:
        findings = []
        for table in TABLES:
            for conversation_id, count in self._orphans(table.model, after, upto, only) if table.orphans else ():
                text, repairs = str(table.orphans).format(count=count), repair and table.repairable
                deleted = repairs and self._units.write(_query, rows.delete_orphan_rows, table.model, conversation_id)
                findings.append(
                    Finding("orphan", FAIL, text, conversation_id, repairable=table.repairable, repaired=bool(deleted))
                )
        return findings

    def _orphans(self, model: str, after: str | None, upto: str | None, only: str | None) -> Iterator[tuple[str, int]]:
        if only is not None:
            count = self._read(rows.orphan_rows_of, model, only)
            yield from [(only, count)] if count else []
            return
        while found := self._read(rows.orphan_rows, model, after=after, upto=upto, limit=BATCH_SIZE):
            yield from ((row.conversation_id, row.number) for row in found)
            if len(found) < BATCH_SIZE:
                return
            after = found[-1].conversation_id

    # -- the cache against the database

    def _cache_findings(self, ids: Sequence[str], repair: bool) -> list[Finding]:
        """Contradictions of the cache and the database. An entry that a writer is about to replace is left out."""
        if self._cache is None:
            return []
        suspects = [(own_id, text) for own_id in ids if (text := self._contradiction(own_id))]
        if suspects:
            time.sleep(RECHECK_DELAY)
        findings = []
        for own_id, first in suspects:
            text = self._contradiction(own_id)
            if text is not None and text == first:
                repaired = repair and _forget(self._cache, own_id) and self._contradiction(own_id) is None
                findings.append(Finding("cache", FAIL, text, own_id, repairable=True, repaired=repaired))
        return findings

    def _contradiction(self, conversation_id: str) -> str | None:
        """A contradiction of a conversation's entry and rows. The entry is read first, since it must not be ahead of the rows."""
        assert self._cache is not None
        entry = self._cache.inspect(conversation_id)
        if entry is None:
            self._unanswered += 1
            return None
        if entry.state in ("absent", "reserved", "leased"):
            return None
        if entry.state == "corrupt":
            return "The key holds no valid entry."
        stored = self._units.read(_stored, conversation_id, len(entry.messages))
        if stored is None:
            return "There is an entry of a conversation that is deleted."
        version, rev, owner, messages = stored
        if entry.version > version:
            return "The entry is ahead of the database, which may have been restored from a backup."
        if entry.version < version:
            # a read with a minimum version replaces it, and any read once it is too old
            return None
        if entry.rev != rev:
            return "The entry is of another history with the same version, of before a restored backup say."
        if entry.owner != owner:
            return "The entry names another owner of the conversation."
        if sorted(entry.messages, key=_seq) != sorted(messages, key=_seq):
            return "The entry has other messages than the database at the same version."
        return None


def _query(work: UnitOfWork, query: Callable[..., R], *args: Any, **kwargs: Any) -> R:
    return query(work.store, *args, **kwargs)


def _read_all(audit: ConversationAudit, read: Callable[..., Any]) -> None:
    """Read one conversation in windows."""
    after = None
    while window := read(rows.window, audit.conversation.id, after=after, limit=WINDOW):
        for message in window:
            audit.add(message)
        if len(window) < WINDOW:
            return
        after = (window[-1].seq, window[-1].id)


def _examine(work: UnitOfWork, conversation_id: str, repair: bool, accept: bool) -> list[Finding]:
    try:
        conversation = work.store.lock(conversation_id, trash=True)
    except ConversationNotFound:
        return []
    ids = [conversation.id]
    audit = ConversationAudit(conversation, rows.tags(work.store, ids), rows.branches(work.store, ids), accept=accept)
    _read_all(audit, functools.partial(_query, work))
    if conversation.branched:
        audit.orphans = rows.orphans(work.store, conversation.id)
    findings = audit.findings()
    if repair and any(each.repairable for each in findings):
        _repair(work, conversation, audit)
        findings = [each._replace(repaired=each.repairable) for each in findings]
    return findings


def _repair(work: UnitOfWork, conversation: ConversationRow, audit: ConversationAudit) -> None:
    """Set the values that follow from the messages. The version rises, so that clients and caches notice."""
    version = audit.next_version
    for message, right in audit.altered if audit.accepts_content else ():
        values = {"digest": right, "version": version, "updated_at": now()}
        message_rows.change(work.store, conversation, message, values)
    changed = conversation_rows.change(work.store, conversation.id, {**audit.totals(), "version": version})
    for branch in audit.wrong_branches:
        branch_rows.repair(work.store, changed, branch.name, audit.tip_of(branch))
    if audit.wrong_tags:
        conversation_rows.set_tags(work.store, changed, audit.tags)
    if work.config.audit:
        requests.log(work.store, "repair_conversation", conversation.id, 0.0)
    work.announce(signals.conversation_updated, conversation=conversation_schema.dump(changed))


def _stored(work: UnitOfWork, conversation_id: str, count: int) -> tuple[int, int, str, list[Message]] | None:
    """Version, rev, owner and as many of the newest messages as the entry has; None without the conversation."""
    try:
        before = work.store.get(conversation_id)
        newest = message_rows.newest(work.store, before.id, limit=max(count, 1))
        after = work.store.get(conversation_id)
    except ConversationNotFound:
        return None
    if newest is None or not before.version == newest.version == after.version:
        # changed meanwhile: the entry was of an older version
        return after.version + 1, after.rev, "", []
    owner = owner_tag(after.org_id, after.user_id)
    return newest.version, after.rev, owner, [message_schema.dump(row) for row in newest.rows]


def _by_conversation(found: Sequence[Of]) -> dict[str, list[Of]]:
    grouped: dict[str, list[Of]] = {}
    for row in found:
        grouped.setdefault(row.conversation_id, []).append(row)
    return grouped


def _seq(message: Mapping[str, Any]) -> int:
    return message.get("seq") or 0


def _forget(cache: Cache | None, conversation_id: str) -> bool:
    """Drop the entry of a conversation; the next read makes a new one."""
    if cache is None:
        return False
    try:
        cache.forget(conversation_id)
    except Exception as error:  # noqa: BLE001 - any error of a cache
        # the repair is committed all the same, and an entry that stays is found again
        logger.warning("The cache entry of a conversation could not be dropped: %s", redacted_traceback(error))
        return False
    return True


def _packed(ids: Sequence[str], sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Groups of conversations that fit into one window; a long one is alone, those without messages are left out."""
    group: list[str] = []
    room = WINDOW
    for own_id in ids:
        size = sizes.get(own_id, 0)
        if size and size > room:
            if group:
                yield group
            group, room = [], WINDOW
        if size:
            group.append(own_id)
            room -= size
    if group:
        yield group
