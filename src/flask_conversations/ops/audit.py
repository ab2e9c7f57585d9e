"""One conversation compared with its messages: what contradicts them, and the values that follow from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..schemas import messages as message_schema
from ..schemas.canonical import digest
from ..schemas.common import preview_of
from .finding import FAIL, Finding

MISPLACED = 3
"""How many messages of one conversation are named for each kind of fault; the rest are counted."""


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
            "preview": preview_of(message_schema.decode_text(head.content)) if head else None,
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
        return Finding(kind, FAIL, text, self.conversation.id, message_id, repairable)

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


def _digest(message: Any) -> int:
    try:
        content = message_schema.content_of(
            message_schema.decode_text(message.content), message.content_is_parts, message.parts
        )
        return digest(message.id, message.role, content)
    except (TypeError, ValueError, RecursionError):
        return 0


def _whole(value: Any) -> int:
    return value if isinstance(value, int) else 0
