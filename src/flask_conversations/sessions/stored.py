"""The database half: one conversation per key; the deque has its newest messages."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from ..errors import ClientIdConflict, ConversationNotFound
from . import keys
from .items import MEMBER, item_of, message_of, note_of
from .keys import Key

if TYPE_CHECKING:
    from ..service import ConversationService

R = TypeVar("R")
Message: TypeAlias = Mapping[str, Any]
Messages: TypeAlias = Sequence[Message]

_PAGE = 100
_MAX_ATTEMPTS = 5


class Stored:
    """The sessions of one identity as its conversations. It has no state: each call reads the database.

    A message that has left the deque on the left is kept, unless *forget* is set. If the deque has fewer than `maxlen` items,
    the newest message that has left it is marked: it and all before it are hidden.
    """

    def __init__(self, service: ConversationService, maxlen: int | None, *, forget: bool) -> None:
        self.service, self.maxlen, self.forget = service, maxlen, forget

    # --- reading

    def newest(self, key: Key, count: int | None = None) -> list[Any] | None:
        """The newest *count* items of the deque, oldest first; None if there is no such key."""
        try:
            found = self._at(key, lambda conversation_id: self._visible(conversation_id, _smaller(count, self.maxlen)))
        except ConversationNotFound:
            return None
        return [item_of(message) for message in found]

    def exists(self, key: Key) -> bool:
        return self.service.conversation_exists(keys.client_id(key)) or self._successor(key) is not None

    def keys(self, *, newest_first: bool = False) -> Iterator[Key]:
        """All keys of the identity in the order of creation."""
        order, cursor = "-created_at" if newest_first else "created_at", None
        seen: set[Key] = set()
        while True:
            page = self.service.list_conversations(status="all", order=order, limit=_PAGE, cursor=cursor)
            found = [keys.key_of(conversation) for conversation in page["conversations"]]
            fresh = [key for key in dict.fromkeys(found) if key is not None and key not in seen]
            seen.update(fresh)
            yield from fresh
            cursor = page["next_cursor"]
            if cursor is None:
                return

    # --- writing

    def extend(self, key: Key, items: Sequence[Any], extra_fields: Sequence[Mapping[str, Any]] = ()) -> None:
        """Append *items*, all or none, to the conversation of the key, which is created if it does not exist.

        *extra_fields* are further fields of each message: a client id makes a retry save it once.
        """
        batch = [message_of(item) for item in items]
        for message, extra in zip(batch, extra_fields, strict=False):
            message.update(extra)
        if not batch:
            return
        try:
            self._at(key, lambda conversation_id: self._save(conversation_id, batch))
        except ConversationNotFound:
            with self.service.transaction():
                self._save(self._begin(key), batch)

    def create(self, key: Key, items: Sequence[Any]) -> None:
        """Create the key with *items*, unless it exists."""
        with self.service.transaction():
            conversation_id = self._begin(key)
            if items and not self.service.lock_conversation(conversation_id)["message_count"]:
                self._save(conversation_id, [message_of(item) for item in items])

    def put(self, key: Key, items: Sequence[Any]) -> None:
        """Replace the deque by *items*: an overlap with its end keeps its messages, all others are deleted."""
        with self.service.transaction():
            conversation_id = self._locked(key) or self._begin(key)
            self.service.lock_conversation(conversation_id)
            rows, hidden = self._window(conversation_id)
            start = _overlap_start([item_of(row) for row in rows], items)
            if start is None:
                self.service.clear_conversation(conversation_id)
                self._save(conversation_id, [message_of(item) for item in items])
            else:
                self._write_changes(conversation_id, rows, hidden, items, evicted=start)

    def change(self, key: Key, change: Callable[[deque[Any]], R], *, evicted: int = 0) -> R:
        """Apply *change* to the deque under its lock; *evicted* items leave it on the left."""
        with self.service.transaction():
            conversation_id = self._locked(key)
            rows, hidden = self._window(conversation_id) if conversation_id else ([], None)
            items = deque((item_of(row) for row in rows), self.maxlen)
            result = change(items)
            if conversation_id is None and items:
                conversation_id = self._begin(key)
            if conversation_id is not None:
                self._write_changes(conversation_id, rows, hidden, list(items), evicted=evicted)
            return result

    def clear(self, key: Key) -> None:
        """Delete all messages, including hidden ones, and keep the key."""
        with self.service.transaction():
            conversation_id = self._locked(key)
            if conversation_id is not None:
                self.service.clear_conversation(conversation_id)

    def delete(self, key: Key) -> bool:
        """Delete the key's conversation like `delete_conversation`: into the trash, or permanently with *forget*."""
        gone = self.service.delete_conversation(keys.client_id(key), permanent=self.forget)
        while (conversation_id := self._successor(key)) is not None:
            gone = self.service.delete_conversation(conversation_id, permanent=self.forget) or gone
        return gone

    # --- from a key to its conversation

    def _at(self, key: Key, call: Callable[[str], R]) -> R:
        """Call *call* with the id of the key's conversation. Raises `ConversationNotFound`."""
        try:
            return call(keys.client_id(key))
        except ConversationNotFound:
            successor = self._successor(key)
            if successor is None:
                raise
        return call(successor)

    def _successor(self, key: Key, status: str = "all") -> str | None:
        """The newest conversation of a key. Its client id differs from the key's if the first one is in the trash."""
        page = self.service.list_conversations(
            context_type=keys.CONTEXT, context_id=keys.client_id(key), status=status, order="-created_at", limit=1
        )
        return page["conversations"][0]["id"] if page["conversations"] else None

    def _locked(self, key: Key) -> str | None:
        """Lock the key's conversation until the transaction ends; its id, or None if there is none."""
        try:
            return self._at(key, lambda conversation_id: self.service.lock_conversation(conversation_id)["id"])
        except ConversationNotFound:
            return None

    def _begin(self, key: Key) -> str:
        """Create a conversation for the key, or get the one of a concurrent caller; its id."""
        chosen = keys.client_id(key)
        for _ in range(_MAX_ATTEMPTS):
            try:
                created = self.service.create_conversation(
                    id=chosen, context_type=keys.CONTEXT, context_id=keys.client_id(key), metadata=keys.metadata(key)
                )
            except ClientIdConflict:
                # the earlier conversation stays restorable in the trash
                predecessor = self._successor(key, "deleted")
                if predecessor is None:
                    raise
                chosen = keys.next_client_id(key, predecessor)
            else:
                return created["id"]
        raise ClientIdConflict

    # --- from a conversation to its messages

    def _visible(self, conversation_id: str, count: int | None) -> list[Message]:
        """The newest messages that have not left the deque, oldest first."""
        return self._read(conversation_id, count)[0]

    def _window(self, conversation_id: str) -> tuple[list[Message], Message | None]:
        """The messages of the deque, and the newest message that has left it."""
        rows, marked = self._read(conversation_id, None if self.maxlen is None else self.maxlen + 1)
        if self.maxlen is not None and len(rows) > self.maxlen:
            return rows[1:], rows[0]
        return rows, marked

    def _read(self, conversation_id: str, count: int | None) -> tuple[list[Message], Message | None]:
        found: deque[Message] = deque()
        before: str | None = None
        while count is None or len(found) < count:
            size = _PAGE if count is None else min(_PAGE, count - len(found))
            page = self.service.get_messages(conversation_id, limit=size, before=before)
            for message in reversed(page["messages"]):
                if note_of(message).get("left"):
                    return list(found), message
                found.appendleft(message)
            before = page["next_cursor"]
            if before is None:
                break
        return list(found), None

    def _save(self, conversation_id: str, batch: Sequence[Mapping[str, Any]]) -> None:
        if self.forget and batch:
            with self.service.transaction():
                self.service.save_messages(conversation_id, batch)
                self._delete_evicted(conversation_id)
        elif len(batch) == 1:
            self.service.save_message(conversation_id, **batch[0])
        elif batch:
            self.service.save_messages(conversation_id, batch)

    def _delete_evicted(self, conversation_id: str) -> None:
        if self.maxlen is None:
            return
        shown = self.service.get_messages(conversation_id, limit=min(self.maxlen, _PAGE))
        kept = len(shown["messages"])
        while shown["next_cursor"] is not None:
            shown = self.service.get_messages(conversation_id, limit=_PAGE, before=shown["next_cursor"])
            for message in reversed(shown["messages"]):
                kept += 1
                if kept > self.maxlen:
                    self.service.delete_message(conversation_id, message["id"])

    def _write_changes(
        self, conversation_id: str, rows: Messages, hidden: Message | None, items: Sequence[Any], *, evicted: int
    ) -> None:
        """Save the change of the deque from *rows* to *items*; the first *evicted* rows leave it on the left."""
        left, rows = rows[:evicted], rows[evicted:]
        gone, fresh = self._difference(conversation_id, rows, items)
        if self.forget:
            gone, left = [*left, *gone], []
        for row in reversed(gone):
            self.service.delete_message(conversation_id, row["id"])
        newest_left = left[-1] if left else hidden
        if newest_left is not None and (self.maxlen is None or len(items) < self.maxlen):
            self._mark(conversation_id, newest_left)
        self._save(conversation_id, [message_of(item) for item in fresh])

    def _difference(self, conversation_id: str, rows: Messages, items: Sequence[Any]) -> tuple[Messages, Sequence[Any]]:
        """The messages to delete and the items to append, after edits of messages in place where that suffices."""
        before = [item_of(row) for row in rows]
        same, fewer = _common_prefix(before, items), len(before) - len(items)
        if fewer > 0 and before[same + fewer :] == items[same:]:
            return rows[same : same + fewer], []
        if fewer == 0 and self._edit(conversation_id, rows, items):
            return [], []
        return rows[same:], items[same:]

    def _edit(self, conversation_id: str, rows: Messages, items: Sequence[Any]) -> bool:
        """Edit the messages whose items differ; False if a role differs, which an edit cannot change."""
        edits = [(row, message_of(item)) for row, item in zip(rows, items, strict=True) if item_of(row) != item]
        if any(row["role"] != message["role"] for row, message in edits):
            return False
        for row, message in edits:
            others = {name: value for name, value in (row["metadata"] or {}).items() if name != MEMBER}
            metadata = {**others, **message.get("metadata", {})} or None
            self.service.update_message(conversation_id, row["id"], content=message["content"], metadata=metadata)
        return True

    def _mark(self, conversation_id: str, row: Message) -> None:
        note = note_of(row)
        if not note.get("left"):
            metadata = {**(row["metadata"] or {}), MEMBER: {**note, "left": True}}
            self.service.update_message(conversation_id, row["id"], metadata=metadata)


def _smaller(count: int | None, maxlen: int | None) -> int | None:
    return maxlen if count is None else count if maxlen is None else min(count, maxlen)


def _overlap_start(old: Sequence[Any], new: Sequence[Any]) -> int | None:
    """The start in *old* of the longest piece that *new* begins with; None if there is none."""
    starts = [start for start in range(len(old)) if new and old[start] == new[0]]
    return max(starts, key=lambda start: _common_prefix(old[start:], new), default=None)


def _common_prefix(old: Sequence[Any], new: Sequence[Any]) -> int:
    """The length of the common prefix."""
    pairs = enumerate(zip(old, new, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(old), len(new)))
