"""The rules of reading messages: a page of a conversation, one message, or the history that a model is given."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from ..cache import Entry
from ..errors import MessageNotFound, ValidationFailed
from ..schemas import conversations as conversation_schema
from ..schemas import messages as schema
from ..schemas import rules
from ..schemas.common import encoded, iso
from ..schemas.shapes import Message, MessagePage, Siblings
from ..store import branches as branch_rows
from ..store import messages as rows
from . import history
from .branches import Trees
from .cursors import MARK, Cursors
from .history_formats import NAMED_FORMATS
from .units import reads
from .windows import Window, Windows

MAX_PAGE = 100
MAX_HISTORY = 1_000_000
TOKEN_WINDOW = 500
"""Messages considered for `max_tokens` when no limit is given."""

_PAGE = "messages"


class Page(NamedTuple):
    """The messages of a page, the oldest first, and what is said of them."""

    messages: list[Any]
    rest: dict[str, Any]


class ReadingVerbs(Windows, Trees):
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
        siblings: bool = False,
        min_version: int | None = None,
    ) -> MessagePage:
        """One page of the conversation, oldest first: the newest messages, or those before or after a place.

        *before* and *after* take a page's `next_cursor`, a message id or a seq. Following `next_cursor` with *before* goes back to
        the beginning; with *after*, on to the newest. *branch* names another branch than the active one. *siblings* adds for each
        message that is one of several answers to the same one which of them it is. Raises `ValidationFailed`,
        `ConversationNotFound`.
        """
        page = self._message_page(conversation_id, limit, before, after, branch, siblings, min_version, _as_dicts)
        return cast("MessagePage", {"messages": page.messages, **page.rest})

    @reads
    def get_messages_json(
        self,
        conversation_id: str,
        *,
        limit: int = 50,
        before: str | int | None = None,
        after: str | int | None = None,
        branch: str | None = None,
        siblings: bool = False,
        min_version: int | None = None,
    ) -> bytes:
        """The same page as JSON text. What the cache holds is handed on as it is, neither decoded nor encoded."""
        page = self._message_page(conversation_id, limit, before, after, branch, siblings, min_version, _as_texts)
        return b'{"messages":[' + b",".join(page.messages) + b"]," + encoded(page.rest)[1:]

    def _message_page(
        self,
        conversation_id: str,
        limit: Any,
        before: Any,
        after: Any,
        branch: Any,
        siblings: Any,
        min_version: Any,
        told: Callable[[Entry | None, Sequence[Any]], list[Any]],
    ) -> Page:
        """A page with its messages as *told* makes them."""
        problems = rules.Problems()
        size = problems.take("limit", rules.page_limit(MAX_PAGE), limit)
        problems.take("siblings", rules.boolean, siblings)
        problems.take("branch", rules.optional(rules.text(rules.MAX_BRANCH_NAME, blank=False)), branch)
        if before is not None and after is not None:
            problems.errors["after"] = ["Use before or after, not both."]
        upper = problems.take("before", lambda place: self._seq(conversation_id, place), before)
        lower = problems.take("after", lambda place: self._seq(conversation_id, place), after)
        problems.raise_any()
        min_version = conversation_schema.expected(min_version, "min_version")
        window = self._window(conversation_id, size, upper, lower, branch, min_version)
        entry, found = window.entry, window.rows
        has_more = (len(entry.bodies) > size or not entry.is_whole) if entry else len(found) > size
        next_cursor = None
        if has_more:
            last = entry.seq_of(size - 1) if entry else found[size - 1].seq
            next_cursor = self._cursors.seal(_PAGE, [window.conversation_id, last])
        messages = told(entry, found[:size])[:size]
        if any(map(_is_growing, messages)) and self.ended_dead_turn(window.conversation_id):
            return self._message_page(conversation_id, limit, before, after, branch, siblings, min_version, told)
        if lower is None:
            messages.reverse()
        rest: dict[str, Any] = {
            "next_cursor": next_cursor,
            "has_more": next_cursor is not None,
            "version": window.version,
        }
        if siblings:
            rest["siblings"] = self._siblings_on(window, messages)
        return Page(messages, rest)

    def ended_dead_turn(self, conversation_id: str) -> bool:
        """Whether a turn has been ended just now whose worker is gone: an answer that seems to grow may not."""
        raise NotImplementedError

    def _window(
        self, conversation_id: str, size: int, upper: Any, lower: Any, branch: str | None, min_version: int | None
    ) -> Window:
        """The messages of a page and one more, from where they are."""
        if branch is not None:
            named = self._on_branch(conversation_id, size, upper, lower, branch)
            if named is not None:
                return named
        if upper is None and lower is None:
            return self.newest(conversation_id, size, min_version, one_more=True)
        page = rows.newest(self.store, conversation_id, limit=size + 1, before=upper, after=lower)
        if page is None:
            raise self.store.missing(conversation_id)
        return Window(page.conversation_id, page.version, None, page.rows, rows.STORED, page.branched)

    def _on_branch(self, conversation_id: str, size: int, upper: Any, lower: Any, name: str) -> Window | None:
        """A page of a branch by its name; None if there is no other, so that the active one is read like any time."""
        found = branch_rows.tip(self.store, conversation_id, name)
        if found is None:
            raise self.store.missing(conversation_id)
        if not found.known:
            raise ValidationFailed({"branch": ["There is no such branch in this conversation."]})
        if not found.branched:
            return None
        messages = rows.walk(self.store, found.id, found.tip_id, limit=size + 1, before=upper, after=lower)
        return Window(found.id, found.version, None, messages, rows.STORED, True)

    def _siblings_on(self, window: Window, messages: Sequence[Any]) -> dict[str, Siblings]:
        if window.branched is False:
            return {}
        shown: list[Mapping[str, Any]] = [json.loads(one) if isinstance(one, bytes) else one for one in messages]
        return self.siblings_of(window.conversation_id, shown)

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


def _is_growing(message: Any) -> bool:
    """Whether somebody is said to be writing a message. Its text may quote the sign for that, which costs a look."""
    return b'"status":"streaming"' in message if isinstance(message, bytes) else message["status"] == "streaming"


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
    role, content, is_parts, parts, raw, status, seq, summary = row[: len(rows.HISTORY)]
    content = schema.content_of(schema.shown(content), is_parts, parts)
    message = {"role": role, "content": content, "parts": parts, "raw": raw, "status": status, "seq": seq}
    if summary is not None:
        message.update(type="summary", metadata=summary)
    if columns is not rows.HISTORY:
        message.update(zip(columns[len(rows.HISTORY) :], row[len(rows.HISTORY) :], strict=False))
        message["created_at"] = iso(message["created_at"])
    return message
