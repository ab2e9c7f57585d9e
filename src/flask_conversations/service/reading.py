"""The rules of reading messages: a page of a conversation, one message, or the history for a model."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ..cache import Entry
from ..errors import MessageNotFound, ValidationFailed
from ..history import LEADING, NAMED_FORMATS, render, system_prompt
from ..schemas import conversations as conversation_schema
from ..schemas import messages as schema
from ..schemas import rules
from ..schemas.common import Row, encoded, iso
from ..schemas.types import Message, Siblings
from ..store import branches as branch_rows
from ..store import messages as rows
from . import branches as branch_rules
from . import windows
from .cursors import MARK
from .unit_of_work import UnitOfWork
from .windows import Window

MAX_PAGE = 100
MAX_HISTORY = 1_000_000
TOKEN_WINDOW = 500
"""The number of messages that are read for `max_tokens` without a limit."""

_PAGE = "messages"


class Page(NamedTuple):
    """The messages of a page, the oldest first, and the members beside them."""

    conversation_id: str
    messages: list[Any]
    """Dicts, or their JSON as bytes."""
    rest: dict[str, Any]
    has_growing: bool
    """Whether one of the messages is an unfinished answer."""


@dataclasses.dataclass(frozen=True)
class PageQuery:
    """The arguments of `get_messages`."""

    conversation_id: str
    limit: int = 50
    before: str | int | None = None
    after: str | int | None = None
    branch: str | None = None
    siblings: bool = False
    min_version: int | None = None


def history(
    work: UnitOfWork,
    conversation_id: str,
    limit: int | None,
    *,
    max_tokens: int | None,
    format: str,
    min_version: int | None,
) -> list[dict[str, Any]]:
    """The newest messages of the active branch, oldest first, in the format of the model's API."""
    size = _history_size(work, limit, max_tokens)
    min_version = conversation_schema.expected(min_version, "min_version")
    columns = rows.NAMED_HISTORY if format in NAMED_FORMATS else rows.HISTORY
    messages = _history_messages(windows.newest(work, conversation_id, size, min_version, columns))[:size]
    messages.reverse()
    return render(messages, format=format, max_tokens=max_tokens, count_tokens=work.backend.token_counter)


def instructions(work: UnitOfWork, conversation_id: str, *, min_version: int | None) -> str:
    """The text of the system and developer messages at the beginning."""
    conversation_schema.expected(min_version, "min_version")
    found = rows.newest(work.store, conversation_id, limit=LEADING, after=0, columns=rows.HISTORY)
    if found is None:
        raise work.store.missing(conversation_id)
    return system_prompt([_history_message(rows.HISTORY, row) for row in found.rows])


def _history_size(work: UnitOfWork, limit: Any, max_tokens: Any) -> int:
    if type(limit) is int and 0 <= limit <= MAX_HISTORY and max_tokens is None:
        return limit
    problems = rules.Problems()
    count = rules.optional(rules.integer(0, MAX_HISTORY))
    size = problems.take("limit", count, limit)
    tokens = problems.take("max_tokens", rules.optional(rules.integer(0)), max_tokens)
    problems.raise_any()
    if size is not None:
        return int(size)
    return work.config.history_limit if tokens is None else TOKEN_WINDOW


def page_as_dicts(work: UnitOfWork, query: PageQuery) -> Page:
    """A page with its messages as dicts."""
    return _page(work, query, _as_dicts)


def page_as_json(work: UnitOfWork, query: PageQuery) -> Page:
    """A page with its messages as JSON text; cached messages are not decoded."""
    return _page(work, query, _as_json)


def _page(work: UnitOfWork, query: PageQuery, shown: Callable[[Entry | None, Sequence[Any]], list[Any]]) -> Page:
    """A page with its messages as *shown* returns them."""
    problems = rules.Problems()
    size = problems.take("limit", rules.page_limit(MAX_PAGE), query.limit)
    problems.take("siblings", rules.boolean, query.siblings)
    problems.take("branch", rules.optional(rules.text(rules.MAX_BRANCH_NAME, blank=False)), query.branch)
    if query.before is not None and query.after is not None:
        problems.errors["after"] = ["Use before or after, not both."]
    upper = problems.take("before", lambda place: _seq(work, query.conversation_id, place), query.before)
    lower = problems.take("after", lambda place: _seq(work, query.conversation_id, place), query.after)
    problems.raise_any()
    min_version = conversation_schema.expected(query.min_version, "min_version")
    window = _window(work, query.conversation_id, size, upper, lower, query.branch, min_version)
    entry, found = window.entry, window.rows
    has_more = (len(entry.bodies) > size or not entry.is_whole) if entry else len(found) > size
    next_cursor = None
    if has_more:
        last = entry.seq_of(size - 1) if entry else found[size - 1].seq
        next_cursor = work.cursors.seal(_PAGE, [window.conversation_id, last])
    messages = shown(entry, found[:size])[:size]
    if lower is None:
        messages.reverse()
    rest: dict[str, Any] = {"next_cursor": next_cursor, "has_more": next_cursor is not None, "version": window.version}
    if query.siblings:
        rest["siblings"] = _siblings(work, window, messages)
    return Page(window.conversation_id, messages, rest, any(map(_is_growing, messages)))


def _window(
    work: UnitOfWork,
    conversation_id: str,
    size: int,
    upper: int | None,
    lower: int | None,
    branch: str | None,
    min_version: int | None,
) -> Window:
    """The messages of a page and one more, from the cache or the database."""
    if branch is not None:
        named = _on_branch(work, conversation_id, size, upper, lower, branch)
        if named is not None:
            return named
    if upper is None and lower is None:
        return windows.newest(work, conversation_id, size, min_version, one_more=True)
    page = rows.newest(work.store, conversation_id, limit=size + 1, before=upper, after=lower)
    if page is None:
        raise work.store.missing(conversation_id)
    return Window(page.conversation_id, page.version, None, page.rows, rows.STORED, page.branched)


def _on_branch(
    work: UnitOfWork, conversation_id: str, size: int, upper: int | None, lower: int | None, name: str
) -> Window | None:
    """A page of the branch *name*; None if the conversation has one branch only, which `_window` reads."""
    found = branch_rows.tip(work.store, conversation_id, name)
    if found is None:
        raise work.store.missing(conversation_id)
    if not found.known:
        raise ValidationFailed({"branch": ["There is no such branch in this conversation."]})
    if not found.branched:
        return None
    messages = rows.walk(work.store, found.id, found.tip_id, limit=size + 1, before=upper, after=lower)
    return Window(found.id, found.version, None, messages, rows.STORED, True)


def _siblings(work: UnitOfWork, window: Window, messages: Sequence[Any]) -> dict[str, Siblings]:
    if window.branched is False:
        return {}
    shown: list[Mapping[str, Any]] = [json.loads(one) if isinstance(one, bytes) else one for one in messages]
    return branch_rules.siblings_of(work, window.conversation_id, shown)


def _seq(work: UnitOfWork, conversation_id: str, place: Any) -> int | None:
    """The seq that a cursor, a message id or a number stands for."""
    if place is None:
        return None
    if isinstance(place, int) and not isinstance(place, bool):
        return int(rules.integer(0)(place))
    if isinstance(place, str) and place.startswith(MARK):
        match work.cursors.open(_PAGE, place):
            case [own_id, seq] if own_id == conversation_id or own_id == work.store.get(conversation_id).id:
                return int(rules.integer(0)(seq))
        raise rules.Invalid("Not a cursor of this conversation.")
    if isinstance(place, str) and place.isascii() and place.isdigit() and len(place) <= 18:
        return int(place)
    seq = rows.seq_of(work.store, conversation_id, place)
    if seq is None:
        work.store.get(conversation_id)
        raise rules.Invalid("Neither a cursor, nor a message of this conversation, nor a seq.")
    return seq


def message(work: UnitOfWork, conversation_id: str, message_id: str, *, min_version: int | None) -> Message:
    """One message. Raises `ConversationNotFound`, `MessageNotFound`."""
    conversation_schema.expected(min_version, "min_version")
    row = rows.one(work.store, conversation_id, message_id)
    if row is None:
        work.store.get(conversation_id)
        raise MessageNotFound
    return schema.dump(row)


def _is_growing(message: Any) -> bool:
    """Whether a message may be unfinished. JSON text that quotes the status gives a false positive, which costs one statement."""
    return b'"status":"streaming"' in message if isinstance(message, bytes) else message["status"] == "streaming"


def _as_dicts(entry: Entry | None, found: Sequence[Any]) -> list[Any]:
    return entry.messages() if entry else [schema.dump(row) for row in found]


def _as_json(entry: Entry | None, found: Sequence[Any]) -> list[bytes]:
    return entry.texts() if entry else [encoded(schema.dump(row)) for row in found]


def _history_messages(window: Window) -> list[Any]:
    """The messages of a window, the newest first, with the members that a history needs."""
    if window.entry is not None:
        return window.entry.compact()
    if window.columns == rows.STORED:
        return [schema.dump(row) for row in window.rows]
    return [_history_message(window.columns, row) for row in window.rows]


def _history_message(columns: tuple[str, ...], row: Row) -> dict[str, Any]:
    role, content, is_parts, parts, raw, status, seq, summary = row[: len(rows.HISTORY)]
    content = schema.content_of(schema.decode_text(content), is_parts, parts)
    message = {"role": role, "content": content, "parts": parts, "raw": raw, "status": status, "seq": seq}
    if summary is not None:
        message.update(type="summary", metadata=summary)
    if columns is not rows.HISTORY:
        message.update(zip(columns[len(rows.HISTORY) :], row[len(rows.HISTORY) :], strict=False))
        message["created_at"] = iso(message["created_at"])
    return message
