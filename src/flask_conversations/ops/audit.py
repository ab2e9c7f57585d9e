"""One conversation compared with its messages: the contradictions, and the values that follow from the messages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..schemas import messages as message_schema
from ..schemas.canonical import digest
from ..schemas.common import preview_of
from ..store.checks import ExaminedBranch, ExaminedConversation, ExaminedMessage, ExaminedTag, Orphans
from .finding import FAIL, Finding

MAX_EXAMPLES = 3
"""Messages of one conversation that are named for each kind of fault; the rest are counted."""


class ConversationAudit:
    """One conversation, its messages added one by one, and the findings."""

    def __init__(
        self,
        conversation: ExaminedConversation,
        tag_rows: Sequence[ExaminedTag] = (),
        branches: Sequence[ExaminedBranch] = (),
        *,
        accept: bool = False,
    ) -> None:
        self.conversation, self.accept = conversation, accept
        self.orphans: Orphans | None = None
        self.altered: list[tuple[ExaminedMessage, int]] = []
        """Messages that do not match their digest, each with its right digest."""
        tags = conversation.tags if isinstance(conversation.tags, list) else []
        self.tags = sorted({tag for tag in tags if isinstance(tag, str)})
        owner = (conversation.org_id, conversation.user_id)
        right = {(tag, *owner) for tag in self.tags}
        self.wrong_tags = len(right ^ {(row.tag, row.org_id, row.user_id) for row in tag_rows})
        self._has_hidden_branches = bool(branches) and not conversation.branched
        self.wrong_branches = [
            row for row in branches if (row.org_id, row.user_id) != owner or not self._has_valid_tip(row)
        ]
        self._faults: dict[str, list[str | None]] = {}
        self._count = self._sum = self._sum_now = self._seq = self._version = 0
        self._missing = 0
        self._newest: ExaminedMessage | None = None
        self._head: ExaminedMessage | None = None
        self._dated = False

    def add(self, message: ExaminedMessage) -> None:
        """Count one more message; they come in the order of their seq."""
        c = self.conversation
        seq = _whole(message.seq)
        if seq == self._seq:
            self._add_fault("duplicate", message)
        self._missing += max(seq - self._seq - 1, 0)
        self._seq = max(seq, self._seq)
        self._version = max(_whole(message.version), self._version)
        if (message.org_id, message.user_id) != (c.org_id, c.user_id):
            self._add_fault("owner", message)
        if message.deleted_at is not None:
            if message.content not in ("", None) or message.parts is not None:
                self._add_fault("tombstone", message)
            return
        self._add_live(message)

    def _add_live(self, message: ExaminedMessage) -> None:
        c = self.conversation
        right = _digest(message)
        if right != message.digest:
            self.altered.append((message, right))
        self._sum ^= _whole(message.digest)
        self._sum_now ^= right
        self._count += 1
        if not c.branched and message.parent_id != (self._newest.id if self._newest else None):
            self._add_fault("parent", message)
        self._newest = message
        if message.id == c.head_id:
            self._head = message
        self._dated = self._dated or message.created_at == c.last_message_at

    def _add_fault(self, kind: str, message: ExaminedMessage) -> None:
        self._faults.setdefault(kind, []).append(message.id if len(self._faults.get(kind, ())) < MAX_EXAMPLES else None)

    @property
    def accepts_content(self) -> bool:
        """Whether messages are accepted as they are: at the operator's request, or since the checksum proves only digests wrong."""
        return self.accept or self._sum_now == self.conversation.checksum

    @property
    def head(self) -> ExaminedMessage | None:
        """The right head: the newest message, or with branches the present head if it is a live message."""
        if self.conversation.branched and (self._head is not None or self.conversation.head_id is None):
            return self._head
        return self._newest

    def _has_valid_tip(self, branch: ExaminedBranch) -> bool:
        """Whether a tip is valid: a live message, or none. The tip of the active branch is the conversation's head."""
        return branch.lives or branch.head_id is None or branch.name == self.conversation.branch

    def tip_of(self, branch: ExaminedBranch) -> str | None:
        """The right tip of a branch: its own, the last message before deleted ones, or the head of the conversation."""
        if self._has_valid_tip(branch):
            return branch.head_id
        return branch.heir_id or (self.head.id if self.head else None)

    @property
    def next_version(self) -> int:
        """One step beyond every version that a client may have seen."""
        return max(_whole(self.conversation.version), self._version) + 1

    def totals(self) -> dict[str, Any]:
        """The columns of the conversation that follow from its messages."""
        head, c = self.head, self.conversation
        found: dict[str, Any] = {
            # never lowered: no seq is used twice
            "last_seq": max(_whole(c.last_seq), self._seq),
            "message_count": self._count,
            "checksum": self._sum_now if self.accepts_content else self._sum,
            "head_id": head.id if head else None,
            "preview": preview_of(message_schema.decode_text(head.content)) if head else None,
        }
        if self._has_hidden_branches:
            found["branched"] = True
        if not self._is_dated_right():
            found["last_message_at"] = head.created_at if head else None
        return found

    def _is_dated_right(self) -> bool:
        stored = self.conversation.last_message_at
        if self.head is None:
            return stored is None
        if self.head.created_at is None:
            return True
        return stored is not None and self._dated and stored >= self.head.created_at

    def findings(self) -> list[Finding]:
        """All findings: those of the sequence, the counters, the messages, and the derived values."""
        return [*self._of_sequence(), *self._of_counters(), *self._of_messages(), *self._of_derived()]

    def _finding(self, kind: str, text: str, *, message_id: str | None = None, repairable: bool = False) -> Finding:
        return Finding(kind, FAIL, text, self.conversation.id, message_id, repairable)

    def _of_sequence(self) -> Iterator[Finding]:
        behind = _whole(self.conversation.last_seq) - self._seq
        missing = self._missing + max(behind, 0)
        if missing:
            end = f", {behind} of them at the end" if behind > 0 else ""
            yield self._finding(
                "gap", f"{missing} messages are missing from the sequence{end}. Restore them from a backup."
            )
        if behind < 0:
            text = f"last_seq is {self.conversation.last_seq}, but there is a message {self._seq}."
            yield self._finding("last_seq", text, repairable=True)
        if double := self._faults.get("duplicate"):
            text = f"{len(double)} messages have the seq of another: the primary key is missing, see doctor."
            yield self._finding("duplicate", text, message_id=double[0])

    def _of_counters(self) -> Iterator[Finding]:
        c = self.conversation
        if c.message_count != self._count:
            yield self._finding(
                "message_count", f"It says {c.message_count} messages, and has {self._count}.", repairable=True
            )
        if c.checksum not in (self._sum, self._sum_now):
            # with altered messages, the right checksum is unknown
            repairable = self.accepts_content or not self.altered
            yield self._finding("checksum", "The checksum is not that of its messages.", repairable=repairable)
        if _whole(c.version) < self._version or not isinstance(c.version, int):
            yield self._finding(
                "version", f"Its version is {c.version}, but a message is of {self._version}.", repairable=True
            )

    def _of_messages(self) -> Iterator[Finding]:
        kind = "digest" if self._sum_now == self.conversation.checksum else "content"
        for message, _ in self.altered[:MAX_EXAMPLES]:
            text = f"Message {message.seq} {_ALTERED[kind]}"
            yield self._finding(kind, text, message_id=message.id, repairable=self.accepts_content)
        if len(self.altered) > MAX_EXAMPLES:
            text = f"The same of {len(self.altered) - MAX_EXAMPLES} more messages."
            yield self._finding(kind, text, repairable=self.accepts_content)
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
        if self.wrong_branches or self._has_hidden_branches:
            text = f"{len(self.wrong_branches)} branches end at no message of it, or belong to another owner."
            yield self._finding(
                "branch", text if self.wrong_branches else "It has branches, and says it has none.", repairable=True
            )
        if self.wrong_tags:
            text = f"{self.wrong_tags} tags differ between the conversation and the table that filters by tag."
            yield self._finding("tags", text, repairable=True)


_ALTERED = {
    "content": "differs from its saved text: another program has changed it, or it was damaged.",
    "digest": "has a wrong digest; by the checksum, its text is unchanged.",
}

_MESSAGE_FAULTS = {
    "tombstone": "{count} deleted messages still have their content.",
    "owner": "{count} messages have another owner than the conversation. Only the conversation's owner"
    " may read them; set the columns user_id and org_id of either by hand.",
    "parent": "{count} messages do not answer the one before them, although there are no branches.",
}
"""Faults of single messages that no repair touches."""


def _digest(message: ExaminedMessage) -> int:
    try:
        content = message_schema.content_of(
            message_schema.decode_text(message.content), message.content_is_parts, message.parts
        )
        return digest(message.id, message.role, content)
    except (TypeError, ValueError, RecursionError):
        return 0


def _whole(value: Any) -> int:
    return value if isinstance(value, int) else 0
