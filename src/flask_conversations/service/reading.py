"""The rules of reading messages: a page of a conversation, one message, or the history that a model is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..cache import Entry
from ..errors import MessageNotFound
from ..schemas import conversations as conversation_schema
from ..schemas import messages as schema
from ..schemas import rules
from ..schemas.common import encoded, iso
from ..schemas.shapes import Message, MessagePage
from ..store import messages as rows
from . import history
from .cursors import MARK, Cursors
from .history_formats import NAMED_FORMATS
from .units import reads
from .windows import Window, Windows

MAX_PAGE = 100
MAX_HISTORY = 1_000_000
TOKEN_WINDOW = 500
"""Messages considered for `max_tokens` when no limit is given."""

_PAGE = "messages"


class ReadingVerbs(Windows):
    """What an identity can read of its conversations' messages."""

    @reads
    def get_conversation_history(
        self,
        conversation_id: str,
        limit: int | None = None,
        *,
        max_tokens: int | None = None,
        format: str = "openai",
        min_version: int | None = None,
    ) -> list[dict[str, Any]]:
        """The newest *limit* messages of the active branch, oldest first, as the model's API takes them.

        *limit* is `CONVERSATIONS_HISTORY_LIMIT` if not given. *max_tokens* keeps the newest that fit. *format* is `openai`,
        `responses`, `anthropic`, `langchain` or `ui`. The history never starts inside a tool call and has no orphan results.
        """
        size = self._history_size(limit, max_tokens)
        min_version = conversation_schema.expected(min_version, "min_version")
        columns = rows.NAMED_HISTORY if format in NAMED_FORMATS else rows.HISTORY
        messages = _told(self.newest(conversation_id, size, min_version, columns))[:size]
        messages.reverse()
        return history.render(messages, format=format, max_tokens=max_tokens, count_tokens=self.backend.token_counter)

    @reads
    def get_system_prompt(self, conversation_id: str, *, min_version: int | None = None) -> str:
        """What the system and developer messages at the beginning say, for APIs that take it apart from the history (Anthropic)."""
        conversation_schema.expected(min_version, "min_version")
        found = rows.newest(self.store, conversation_id, limit=history.LEADING, after=0, columns=rows.HISTORY)
        if found is None:
            raise self.store.missing(conversation_id)
        return history.system_prompt([_for_history(rows.HISTORY, row) for row in found.rows])

    def _history_size(self, limit: Any, max_tokens: Any) -> int:
        if type(limit) is int and 0 <= limit <= MAX_HISTORY and max_tokens is None:
            return limit
        problems = rules.Problems()
        count = rules.optional(rules.integer(0, MAX_HISTORY))
        size = problems.take("limit", count, limit)
        tokens = problems.take("max_tokens", rules.optional(rules.integer(0)), max_tokens)
        problems.raise_any()
        if size is not None:
            return int(size)
        return self.config.history_limit if tokens is None else TOKEN_WINDOW

    @reads
    def get_messages(
        self,
        conversation_id: str,
        *,
        limit: int = 50,
        before: str | int | None = None,
        after: str | int | None = None,
        branch: str | None = None,
        min_version: int | None = None,
    ) -> MessagePage:
        """One page of the conversation, oldest first: the newest messages, or those before or after a place.

        *before* and *after* take a page's `next_cursor`, a message id or a seq. Following `next_cursor` with *before* goes back to
        the beginning; with *after*, on to the newest. Raises `ValidationFailed`, `ConversationNotFound`.
        """
        messages, next_cursor, version = self._message_page(
            conversation_id, limit, before, after, branch, min_version, _as_dicts
        )
        return {
            "messages": messages,
            "next_cursor": next_cursor,
            "has_more": next_cursor is not None,
            "version": version,
        }

    @reads
    def get_messages_json(
        self,
        conversation_id: str,
        *,
        limit: int = 50,
        before: str | int | None = None,
        after: str | int | None = None,
        branch: str | None = None,
        min_version: int | None = None,
    ) -> bytes:
        """The same page as JSON text. What the cache holds is handed on as it is, neither decoded nor encoded."""
        messages, next_cursor, version = self._message_page(
            conversation_id, limit, before, after, branch, min_version, _as_texts
        )
        rest = {"next_cursor": next_cursor, "has_more": next_cursor is not None, "version": version}
        return b'{"messages":[' + b",".join(messages) + b"]," + encoded(rest)[1:]

    def _message_page(
        self,
        conversation_id: str,
        limit: Any,
        before: Any,
        after: Any,
        branch: Any,
        min_version: Any,
        told: Callable[[Entry | None, Sequence[Any]], list[Any]],
    ) -> tuple[list[Any], str | None, int]:
        """The messages of a page, the oldest first, as *told* makes them; the cursor of the next page; the version."""
        problems = rules.Problems()
        size = problems.take("limit", rules.page_limit(MAX_PAGE), limit)
        problems.take("branch", rules.optional(rules.one_of(("main",))), branch)
        if before is not None and after is not None:
            problems.errors["after"] = ["Use before or after, not both."]
        upper = problems.take("before", lambda place: self._seq(conversation_id, place), before)
        lower = problems.take("after", lambda place: self._seq(conversation_id, place), after)
        problems.raise_any()
        min_version = conversation_schema.expected(min_version, "min_version")
        if before is None and after is None:
            window = self.newest(conversation_id, size, min_version, one_more=True)
            own_id, version, entry, found = window.conversation_id, window.version, window.entry, window.rows
        else:
            page = rows.newest(self.store, conversation_id, limit=size + 1, before=upper, after=lower)
            if page is None:
                raise self.store.missing(conversation_id)
            own_id, version, entry, found = page.conversation_id, page.version, None, page.rows
        has_more = (len(entry.bodies) > size or not entry.is_whole) if entry else len(found) > size
        next_cursor = None
        if has_more:
            last = entry.seq_of(size - 1) if entry else found[size - 1].seq
            next_cursor = self._cursors.seal(_PAGE, [own_id, last])
        messages = told(entry, found[:size])[:size]
        return (messages if lower is not None else messages[::-1]), next_cursor, version

    @property
    def _cursors(self) -> Cursors:
        return Cursors(self.backend.secrets, self.identity)

    def _seq(self, conversation_id: str, place: Any) -> int | None:
        """The seq that a cursor, a message id or a number stands for."""
        if place is None:
            return None
        if isinstance(place, int) and not isinstance(place, bool):
            return int(rules.integer(0)(place))
        if isinstance(place, str) and place.startswith(MARK):
            match self._cursors.open(_PAGE, place):
                case [own_id, seq] if own_id == conversation_id or own_id == self.store.get(conversation_id).id:
                    return int(rules.integer(0)(seq))
            raise rules.Invalid("Not a cursor of this conversation.")
        if isinstance(place, str) and place.isascii() and place.isdigit() and len(place) <= 18:
            return int(place)
        seq = rows.seq_of(self.store, conversation_id, place)
        if seq is None:
            self.store.get(conversation_id)
            raise rules.Invalid("Neither a cursor, nor a message of this conversation, nor a seq.")
        return seq

    @reads
    def get_message(self, conversation_id: str, message_id: str, *, min_version: int | None = None) -> Message:
        """One message. Raises `ConversationNotFound`, `MessageNotFound`."""
        conversation_schema.expected(min_version, "min_version")
        row = rows.one(self.store, conversation_id, message_id)
        if row is None:
            self.store.get(conversation_id)
            raise MessageNotFound
        return schema.dump(row)


def _as_dicts(entry: Entry | None, found: Sequence[Any]) -> list[Any]:
    return entry.messages() if entry else [schema.dump(row) for row in found]


def _as_texts(entry: Entry | None, found: Sequence[Any]) -> list[Any]:
    return entry.texts() if entry else [encoded(schema.dump(row)) for row in found]


def _told(window: Window) -> list[Any]:
    """The messages of a window, the newest first, with all that a history needs of them."""
    if window.entry is not None:
        return window.entry.compact()
    if window.columns == rows.STORED:
        return [schema.dump(row) for row in window.rows]
    return [_for_history(window.columns, row) for row in window.rows]


def _for_history(columns: tuple[str, ...], row: Any) -> dict[str, Any]:
    role, content, is_parts, parts, raw, status = row[: len(rows.HISTORY)]
    content = schema.content_of(schema.shown(content), is_parts, parts)
    message = {"role": role, "content": content, "parts": parts, "raw": raw, "status": status}
    if columns is not rows.HISTORY:
        message.update(zip(columns[len(rows.HISTORY) :], row[len(rows.HISTORY) :], strict=False))
        message["created_at"] = iso(message["created_at"])
    return message
