"""What `verify` does: walk all conversations, say what contradicts itself, and put right what follows from the messages."""

from __future__ import annotations

import dataclasses
import functools
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar, cast

from .. import signals
from ..cache import owner_tag
from ..errors import ConversationNotFound, StorageUnavailable, redacted_traceback
from ..models import now
from ..schemas import conversations as conversation_schema
from ..schemas import messages as message_schema
from ..schemas.canonical import digest
from ..schemas.common import preview_of
from ..store import branches as branch_rows
from ..store import checks as rows
from ..store import conversations as conversation_rows
from ..store import messages as message_rows
from ..store import requests
from ..tables import TABLES
from .unit_of_work import UnitOfWork, Units

logger = logging.getLogger("flask_conversations.checks")

R = TypeVar("R")

WINDOW = 500
"""How many messages are read at once, and so held in memory."""

BATCH_SIZE = 1000
"""How many ids of conversations that are not there are read at once."""

MISPLACED = 3
"""How many messages of one conversation are named for each kind of fault; the rest are counted."""

SETTLING = 0.2
"""Seconds after which a cache entry is looked at again: a writer between its commit and its last command is not a fault."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is wrong, in words without any content."""

    kind: str
    conversation_id: str
    text: str
    message_id: str | None = None
    repairable: bool = False
    repaired: bool = False


class Progress(NamedTuple):
    """What one batch has shown."""

    conversations: int
    messages: int
    findings: list[Finding]
    unanswered: int = 0
    """Cache entries that could not be looked at, because Redis does not answer."""


class Checks:
    """The examination of conversations across users; *units* are the system's.

    A first look reads without any lock, a batch at a time. What seems wrong may only be half of a change that was just being
    made, so it is looked at again under the conversation's row lock, one conversation to a transaction, and repaired there.
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
        """Examine every conversation by id, those of one *owner*, or *only* one; with *repair*, put right what can be.

        *accept* takes messages whose text was changed behind our back as they are now.
        """
        after: str | None = None
        while True:
            found = self._read(rows.page, after=after, limit=batch, owner=owner, only=only)
            last = len(found) < batch or only is not None
            upto = only if only is not None else (None if last else found[-1].id)
            suspects, count = self._suspects(found)
            findings = [each for one in suspects for each in self._settled(one, repair, accept)]
            self._unanswered = 0
            findings += self._cache_findings([only] if only else [row.id for row in found], repair)
            if owner is None:
                findings += self._orphan_findings(after, upto, only, repair)
            yield Progress(len(found), count, findings, self._unanswered)
            if last:
                return
            after = upto

    def _read(self, query: Callable[..., R], *args: Any, **kwargs: Any) -> R:
        """One short read: nothing stays open while the next is thought about."""
        return cast("R", self._units.read(_query, query, *args, **kwargs))

    def _suspects(self, batch: Sequence[Any]) -> tuple[list[str], int]:
        """Those that seem to be wrong, and how many messages were read for it."""
        if not batch:
            return [], 0
        ids = [row.id for row in batch]
        sizes = self._read(rows.sizes, ids)
        tagged = _by_conversation(self._read(rows.tags, ids))
        named = _by_conversation(self._read(rows.branches, ids))
        tallies = {row.id: ConversationAudit(row, tagged.get(row.id, ()), named.get(row.id, ())) for row in batch}
        for group in _packed(ids, sizes):
            if len(group) == 1:
                _read_all(tallies[group[0]], self._read)
            else:
                for message in self._read(rows.messages_of, group):
                    tallies[message.conversation_id].add(message)
        for audit in tallies.values():
            if audit.conversation.branched:
                audit.orphans = self._read(rows.orphans, audit.conversation.id)
        return [own_id for own_id, audit in tallies.items() if audit.findings()], sum(sizes.values())

    # -- the second look, and the repair

    def _settled(self, conversation_id: str, repair: bool, accept: bool) -> list[Finding]:
        """What is wrong with one conversation for sure, and what has become of it."""
        try:
            findings = self._units.write(_examine, conversation_id, repair, accept)
        except StorageUnavailable as busy:
            return [Finding("busy", conversation_id, f"It could not be examined: {busy.detail}")]
        if any(each.repaired for each in findings):
            _forget(self._cache, conversation_id)
        return findings

    # -- rows of conversations that are not there

    def _orphan_findings(self, after: str | None, upto: str | None, only: str | None, repair: bool) -> list[Finding]:
        findings = []
        for table in TABLES:
            for conversation_id, count in self._orphans(table.model, after, upto, only) if table.orphans else ():
                text, repairs = str(table.orphans).format(count=count), repair and table.repairable
                gone = repairs and self._units.write(_query, rows.delete_orphan_rows, table.model, conversation_id)
                findings.append(
                    Finding("stray", conversation_id, text, repairable=table.repairable, repaired=bool(gone))
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
        """What the cache says that the database does not. An entry that a writer is about to replace is not looked at."""
        if self._cache is None:
            return []
        seen = [(own_id, text) for own_id in ids if (text := self._contradiction(own_id))]
        if seen:
            time.sleep(SETTLING)
        findings = []
        for own_id, first in seen:
            text = self._contradiction(own_id)
            if text is not None and text == first:
                repaired = repair and _forget(self._cache, own_id) and self._contradiction(own_id) is None
                findings.append(Finding("cache", own_id, text, repairable=True, repaired=repaired))
        return findings

    def _contradiction(self, conversation_id: str) -> str | None:
        """What is wrong with the entry of a conversation, which is read before the rows that it must not be ahead of."""
        assert self._cache is not None
        entry = self._cache.inspect(conversation_id)
        if entry is None:
            self._unanswered += 1
            return None
        if entry.state in ("absent", "reserved", "leased"):
            return None
        if entry.state == "rubbish":
            return "The key holds something that is no entry of ours."
        held = self._units.read(_held, conversation_id, len(entry.messages))
        if held is None:
            return "There is an entry of a conversation that is deleted."
        version, rev, owner, messages = held
        if entry.version > version:
            return "The entry is ahead of the database, which may have been restored from a backup."
        if entry.version < version:
            # replaced by the next read that cares, and by every read once it is too old
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
        _repair(work, audit)
        findings = [dataclasses.replace(each, repaired=each.repairable) for each in findings]
    return findings


def _repair(work: UnitOfWork, audit: ConversationAudit) -> None:
    """Set what follows from the messages. The version steps, so that clients and caches notice."""
    conversation, version = audit.conversation, audit.next_version
    for message, right in audit.altered if audit.takes_content else ():
        values = {"digest": right, "version": version, "updated_at": now()}
        message_rows.change(work.store, conversation, message, values)
    changed = conversation_rows.change(work.store, conversation.id, {**audit.totals(), "version": version})
    for branch in audit.wrong_branches:
        branch_rows.mend(work.store, changed, branch.name, audit.tip_of(branch))
    if audit.wrong_tags:
        conversation_rows.set_tags(work.store, changed, audit.tags)
    if work.config.audit:
        requests.log(work.store, "repair_conversation", conversation.id, 0.0)
    work.announce(signals.conversation_updated, conversation=conversation_schema.dump(changed))


def _held(work: UnitOfWork, conversation_id: str, count: int) -> tuple[int, int, str, list[Any]] | None:
    """Version, rev, owner and as many of the newest messages as the entry has; None if the conversation is not to be seen."""
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


def _by_conversation(found: Sequence[Any]) -> dict[str, list[Any]]:
    grouped: dict[str, list[Any]] = {}
    for row in found:
        grouped.setdefault(row.conversation_id, []).append(row)
    return grouped


def _seq(message: Mapping[str, Any]) -> Any:
    return message.get("seq") or 0


def _forget(cache: Any, conversation_id: str) -> bool:
    """Drop the entry of a conversation, which the next read makes anew."""
    if cache is None:
        return False
    try:
        cache.forget(conversation_id)
    except Exception as error:  # noqa: BLE001 - whatever a cache may raise
        # the repair is committed all the same, and an entry that stays is found again
        logger.warning("The cache entry of a conversation could not be dropped: %s", redacted_traceback(error))
        return False
    return True


class ConversationAudit:
    """One conversation, its messages counted one by one, and what that shows."""

    def __init__(
        self, conversation: Any, tag_rows: Sequence[Any] = (), branches: Sequence[Any] = (), *, accept: bool = False
    ) -> None:
        self.conversation, self.accept = conversation, accept
        self.orphans: Any = None
        self.altered: list[tuple[Any, int]] = []
        """Messages whose text is not what their digest is of, with the digest of what they are now."""
        tags = conversation.tags if isinstance(conversation.tags, list) else []
        self.tags = sorted({tag for tag in tags if isinstance(tag, str)})
        owner = (conversation.org_id, conversation.user_id)
        right = {(tag, *owner) for tag in self.tags}
        self.wrong_tags = len(right ^ {(row.tag, row.org_id, row.user_id) for row in tag_rows})
        self._is_cut = bool(branches) and not conversation.branched
        self.wrong_branches = [
            row for row in branches if (row.org_id, row.user_id) != owner or not self._ends_well(row)
        ]
        self._faults: dict[str, list[Any]] = {}
        self._count = self._sum = self._sum_now = self._seq = self._version = 0
        self._lost = 0
        self._newest: Any = None
        self._head: Any = None
        self._dated = False

    def add(self, message: Any) -> None:
        """Count one more message; they come in the order of their seq."""
        c = self.conversation
        seq = _whole(message.seq)
        if seq == self._seq:
            self._note("duplicate", message)
        self._lost += max(seq - self._seq - 1, 0)
        self._seq = max(seq, self._seq)
        self._version = max(_whole(message.version), self._version)
        if (message.org_id, message.user_id) != (c.org_id, c.user_id):
            self._note("owner", message)
        if message.deleted_at is not None:
            if message.content not in ("", None) or message.parts is not None:
                self._note("tombstone", message)
            return
        self._add_live(message)

    def _add_live(self, message: Any) -> None:
        c = self.conversation
        right = _digest(message)
        if right != message.digest:
            self.altered.append((message, right))
        self._sum ^= _whole(message.digest)
        self._sum_now ^= right
        self._count += 1
        if not c.branched and message.parent_id != (self._newest.id if self._newest else None):
            self._note("parent", message)
        self._newest = message
        if message.id == c.head_id:
            self._head = message
        self._dated = self._dated or message.created_at == c.last_message_at

    def _note(self, kind: str, message: Any) -> None:
        self._faults.setdefault(kind, []).append(message.id if len(self._faults.get(kind, ())) < MISPLACED else None)

    @property
    def takes_content(self) -> bool:
        """Whether messages count as they are: the operator says so, or the checksum does, and then only digests are wrong."""
        return self.accept or self._sum_now == self.conversation.checksum

    @property
    def head(self) -> Any:
        """The message that the head must be: the newest, or where there are branches, the one that it is."""
        if self.conversation.branched and (self._head is not None or self.conversation.head_id is None):
            return self._head
        return self._newest

    def _ends_well(self, branch: Any) -> bool:
        """Whether a branch ends at a live message, or nowhere. Of the active one the conversation says where."""
        return branch.lives or branch.head_id is None or branch.name == self.conversation.branch

    def tip_of(self, branch: Any) -> str | None:
        """The message at which a branch must end: its own, the last one before deleted messages, or that of the active branch."""
        if self._ends_well(branch):
            return branch.head_id  # type: ignore[no-any-return]
        return branch.heir_id or (self.head.id if self.head else None)

    @property
    def next_version(self) -> int:
        """One step beyond every version that a client may have seen."""
        return max(_whole(self.conversation.version), self._version) + 1

    def totals(self) -> dict[str, Any]:
        """The columns of the conversation that follow from its messages."""
        head, c = self.head, self.conversation
        found = {
            # never lowered: numbers that were given away are not given again
            "last_seq": max(_whole(c.last_seq), self._seq),
            "message_count": self._count,
            "checksum": self._sum_now if self.takes_content else self._sum,
            "head_id": head.id if head else None,
            "preview": preview_of(_text(head.content)) if head else None,
        }
        if self._is_cut:
            found["branched"] = True
        if not self._is_dated_right():
            found["last_message_at"] = head.created_at if head else None
        return found

    def _is_dated_right(self) -> bool:
        said = self.conversation.last_message_at
        if self.head is None:
            return said is None
        if self.head.created_at is None:
            return True
        return said is not None and self._dated and bool(said >= self.head.created_at)

    def findings(self) -> list[Finding]:
        """All that is wrong, in the order of a table of contents: places, numbers, content, what is derived."""
        return [*self._of_places(), *self._of_numbers(), *self._of_messages(), *self._of_derived()]

    def _finding(self, kind: str, text: str, *, message_id: str | None = None, repairable: bool = False) -> Finding:
        return Finding(kind, self.conversation.id, text, message_id, repairable)

    def _of_places(self) -> Iterator[Finding]:
        behind = _whole(self.conversation.last_seq) - self._seq
        lost = self._lost + max(behind, 0)
        if lost:
            end = f", {behind} of them at the end" if behind > 0 else ""
            yield self._finding(
                "gap", f"{lost} messages are missing from the sequence{end}. Restore them from a backup."
            )
        if behind < 0:
            text = f"last_seq is {self.conversation.last_seq}, but there is a message {self._seq}."
            yield self._finding("last_seq", text, repairable=True)
        if double := self._faults.get("duplicate"):
            text = f"{len(double)} messages have the seq of another: the primary key is missing, see doctor."
            yield self._finding("duplicate", text, message_id=double[0])

    def _of_numbers(self) -> Iterator[Finding]:
        c = self.conversation
        if c.message_count != self._count:
            yield self._finding(
                "message_count", f"It says {c.message_count} messages, and has {self._count}.", repairable=True
            )
        if c.checksum not in (self._sum, self._sum_now):
            # with changed messages about, it is unknown which of them it was of
            repairable = self.takes_content or not self.altered
            yield self._finding("checksum", "The checksum is not that of its messages.", repairable=repairable)
        if _whole(c.version) < self._version or not isinstance(c.version, int):
            yield self._finding(
                "version", f"Its version is {c.version}, but a message is of {self._version}.", repairable=True
            )

    def _of_messages(self) -> Iterator[Finding]:
        kind = "digest" if self._sum_now == self.conversation.checksum else "content"
        for message, _ in self.altered[:MISPLACED]:
            text = f"Message {message.seq} {_ALTERED[kind]}"
            yield self._finding(kind, text, message_id=message.id, repairable=self.takes_content)
        if len(self.altered) > MISPLACED:
            text = f"The same of {len(self.altered) - MISPLACED} more messages."
            yield self._finding(kind, text, repairable=self.takes_content)
        for fault, text in _MESSAGE_FAULTS.items():
            found = self._faults.get(fault)
            if found:
                yield self._finding(fault, text.format(count=len(found)), message_id=found[0])
        if self.orphans is not None and self.orphans.count:
            text = f"{self.orphans.count} messages answer one that is not there before them, first message {self.orphans.first}."
            yield self._finding("parent", text)

    def _of_derived(self) -> Iterator[Finding]:
        c, right = self.conversation, self.totals()
        if c.head_id != right["head_id"]:
            text = "The head is not its newest message." if self._head else "The head is no message of it."
            yield self._finding("head", text, repairable=True)
        if c.preview != right["preview"]:
            yield self._finding("preview", "The preview is not that of its newest message.", repairable=True)
        if "last_message_at" in right:
            yield self._finding("last_message_at", "last_message_at is the time of no message.", repairable=True)
        if self.wrong_branches or self._is_cut:
            text = f"{len(self.wrong_branches)} branches end at no message of it, or belong to another owner."
            yield self._finding(
                "branch", text if self.wrong_branches else "It has branches, and says it has none.", repairable=True
            )
        if self.wrong_tags:
            text = f"{self.wrong_tags} tags differ between the conversation and the table that filters by tag."
            yield self._finding("tags", text, repairable=True)


_ALTERED = {
    "content": "is not what was saved: something else than this package has changed it, or it was damaged.",
    "digest": "has a wrong digest; the checksum says that its text is what was saved.",
}

_MESSAGE_FAULTS = {
    "tombstone": "{count} deleted messages still hold what they said.",
    "owner": "{count} messages have another owner than the conversation. Who may read it is the conversation's"
    " owner; set the columns user_id and org_id of either by hand.",
    "parent": "{count} messages do not answer the one before them, although there are no branches.",
}
"""Faults of single messages that no repair touches."""


def _packed(ids: Sequence[str], sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Conversations that fit into one window together; a long one comes alone, one without messages not at all."""
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


def _digest(message: Any) -> int:
    try:
        content = message_schema.content_of(_text(message.content), message.content_is_parts, message.parts)
        return digest(message.id, message.role, content)
    except (TypeError, ValueError, RecursionError):
        return 0


def _text(content: Any) -> str:
    return content.decode("utf-8", "replace") if isinstance(content, bytes) else str(content)


def _whole(value: Any) -> int:
    return value if isinstance(value, int) else 0
