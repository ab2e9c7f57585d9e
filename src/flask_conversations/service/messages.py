"""The rules of messages: save one or many, read a page or the model's history, edit, rate, delete."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import signals, transaction
from ..errors import ClientIdConflict, ConversationNotFound, MessageNotFound, ValidationFailed, VersionConflict
from ..models import new_id, now
from ..schemas import conversations as conversation_schema
from ..schemas import messages as schema
from ..schemas import rules
from ..schemas.common import iso, preview_of, title_from
from ..schemas.shapes import Message, MessagePage
from ..store import conversations as conversation_rows
from ..store import messages as rows
from . import history
from .base import Base
from .cursors import MARK, Cursors
from .guards import GuardContext, guarded
from .history_formats import NAMED_FORMATS
from .units import reads, writes

if TYPE_CHECKING:
    import datetime as dt

    from typing_extensions import TypedDict, Unpack

    class MessageFields(TypedDict, total=False):
        """The fields of a message besides role, content and ids."""

        type: str
        parts: Sequence[Any] | None
        raw: Mapping[str, Any] | None
        status: str
        model: str | None
        tokens_used: int | None
        usage: Mapping[str, Any] | None
        latency_ms: float | None
        action_type: str | None
        action_params: Any
        action_result: Any
        action_status: str | None
        component_type: str | None
        component_data: Any
        attachments: Sequence[Any] | None
        contexts: Sequence[Any] | None
        metadata: Mapping[str, Any] | None
        created_at: dt.datetime | str | None


MAX_PAGE = 100
TOKEN_WINDOW = 500
"""Messages considered for `max_tokens` when no limit is given."""

_PAGE = "messages"

_AS_IT_IS: Any = object()
"""A field that an edit leaves alone, where None clears it."""


class Outcome(NamedTuple):
    """What a call returns, and whether it is the answer of an earlier, equal call."""

    result: Any
    replayed: bool


class MessageVerbs(Base):
    """What an identity can do with the messages of its conversations."""

    def save_message(
        self,
        conversation_id: str,
        role: str,
        content: str | Sequence[Any],
        *,
        client_id: str | None = None,
        parent_id: str | None = None,
        **fields: Unpack[MessageFields],
    ) -> Message:
        """Append a message; committed, it is seen by every worker when this returns.

        The same *client_id* with the same message returns the first one, with another message it raises `ClientIdConflict`.
        *parent_id* answers an older message instead of the newest. Raises `ConversationNotFound`, `ValidationFailed`.
        """
        item = {"role": role, "content": content, "client_id": client_id, "parent_id": parent_id, **fields}
        return self.save_or_replay(conversation_id, item).result  # type: ignore[no-any-return]

    @writes
    def save_or_replay(self, conversation_id: str, message: Mapping[str, Any]) -> Outcome:
        """Like `save_message` with one mapping, and says whether the message was there before."""
        row = self.prepared_message(conversation_id, message)
        if row.get("parent_id") is not None:
            saved = self._append_many(conversation_id, [row])[0]
        else:
            saved = self._append(conversation_id, row)
        # only what this call has stored has got its place in the conversation
        return Outcome(saved, "seq" not in row)

    @writes
    def save_messages(self, conversation_id: str, messages: Sequence[Mapping[str, Any]]) -> list[Message]:
        """Append messages in order, all or none, as one step of the conversation's version.

        Each is a mapping with the arguments of `save_message`. Messages whose `client_id` was saved before come back as they are.
        """
        batch = self.prepared_messages(conversation_id, messages)
        if not batch:
            self.store.get(conversation_id)
            return []
        return self._append_many(conversation_id, batch)

    def prepared_messages(self, conversation_id: str, messages: Any) -> list[dict[str, Any]]:
        """The rows to be of *messages*. Raises `ValidationFailed` with the errors of each by its position."""
        problems = rules.Problems()
        batch = [
            problems.take(str(place), lambda item: self.prepared_message(conversation_id, item), item)
            for place, item in enumerate(schema.listed(messages))
        ]
        for name in ("id", "client_id"):
            keys = [row[name] for row in batch if row and row.get(name)]
            if len(set(keys)) < len(keys):
                problems.errors[name] = ["The same one twice."]
        if problems.errors:
            raise ValidationFailed({"messages": problems.errors})
        return batch

    def prepared_message(self, conversation_id: str, item: Any) -> dict[str, Any]:
        """The row to be of one message, guarded and checked, with its ids and digest."""
        if not isinstance(item, Mapping):
            raise rules.Invalid("Not a valid object.")
        if guards := self.backend.guards():
            item = guarded(guards, dict(item), GuardContext(conversation_id, self.identity))
        fields = dict(item)
        given_id, client_id, parent_id = (fields.pop(name, None) for name in ("id", "client_id", "parent_id"))
        row = schema.values(
            fields.pop("role", None), fields.pop("content", None), fields, self.config.max_content_length
        )
        own_id = rules.uuid_or_none(given_id)
        if client_id is None and own_id is None:
            client_id = given_id
        # a client's own UUID is taken as the id
        own_id = own_id or rules.uuid_or_none(client_id)
        if client_id is not None:
            row["fingerprint"] = schema.fingerprint_of({**row, "parent_id": parent_id} if parent_id else row)
            row["client_id"] = rules.check("client_id", rules.client_id, client_id)
        row["id"] = own_id or new_id()
        row["digest"] = schema.digest_of(row, row["id"])
        if parent_id is not None:
            row["parent_id"] = parent_id
        row["created_at"] = row.get("created_at") or now()
        return row

    def _append(self, conversation_id: str, row: dict[str, Any]) -> Message:
        row["updated_at"] = row["created_at"]
        if not conversation_rows.append(self.store, conversation_id, row, _step([row])):
            return self._replayed(conversation_id, row)
        return self._told([row])[0]

    def _replayed(self, conversation_id: str, row: Mapping[str, Any]) -> Message:
        """The message that was saved with this client id; if there is none, the conversation was not found."""
        conversation = self.store.get(conversation_id)
        message = rows.by_client_id(self.store, conversation, row["client_id"]) if row.get("client_id") else None
        if message is None:
            raise ConversationNotFound
        if message.deleted_at is not None:
            raise ClientIdConflict("This client id belongs to a message that was deleted.")
        if message.fingerprint != row["fingerprint"]:
            raise ClientIdConflict
        return schema.dump(message)

    def _append_many(self, conversation_id: str, batch: list[dict[str, Any]]) -> list[Message]:
        conversation = self.store.lock(conversation_id)
        known = {
            row["client_id"]: self._replayed(conversation.id, row)
            for row in batch
            if row.get("client_id") and rows.by_client_id(self.store, conversation, row["client_id"])
        }
        fresh = [row for row in batch if row.get("client_id") not in known]
        if fresh:
            parent_id = self._parent(conversation, fresh)
            advanced = conversation_rows.advance(self.store, conversation.id, _step(fresh), parent_id=parent_id)
            assert advanced is not None, "the conversation is locked"
            saved = self.store_messages(
                fresh,
                advanced,
                first_seq=advanced.last_seq - len(fresh) + 1,
                parent_id=parent_id or advanced.previous_head_id,
            )
            by_id = {message["id"]: message for message in saved}
        return [known[row["client_id"]] if row.get("client_id") in known else by_id[row["id"]] for row in batch]

    def _parent(self, conversation: Any, batch: list[dict[str, Any]]) -> str | None:
        """The parent that the first message of a batch names; the others follow one another."""
        wanted = [row.pop("parent_id", None) for row in batch]
        if any(wanted[1:]):
            raise ValidationFailed({"parent_id": ["Only the first of several messages can name its parent."]})
        if wanted[0] is None:
            return None
        parent = rows.one(self.store, conversation.id, wanted[0])
        if parent is None:
            raise ValidationFailed({"parent_id": ["There is no such message in this conversation."]})
        return parent.id  # type: ignore[no-any-return]

    def _retitle(self, titler: Callable[[str], str | None], conversation_id: str, text: str) -> None:
        """Let the host's titler better a title that was made from *text*; no transaction is open while it thinks."""
        if not self._is_titled_by(conversation_id, text):
            return
        title = conversation_schema.RULES["title"](titler(text))
        if title and title.strip():
            self._set_auto_title(conversation_id, text, title)

    @reads
    def _is_titled_by(self, conversation_id: str, text: str) -> bool:
        return _was_titled_by(self.store.get(conversation_id), text)

    @writes
    def _set_auto_title(self, conversation_id: str, text: str, title: str) -> None:
        """Set a better title unless somebody has changed it meanwhile."""
        conversation = self.store.lock(conversation_id)
        if _was_titled_by(conversation, text):
            row = conversation_rows.change(self.store, conversation.id, {"title": title})
            self.announce(signals.conversation_updated, conversation=conversation_schema.dump(row))

    def store_messages(
        self, batch: list[dict[str, Any]], conversation: Any, *, first_seq: int, parent_id: str | None
    ) -> list[Message]:
        """Insert prepared messages one below the other."""
        if not batch:
            return []
        for place, row in enumerate(batch):
            row.update(
                conversation_id=conversation.id,
                org_id=conversation.org_id,
                user_id=conversation.user_id,
                seq=first_seq + place,
                version=conversation.version,
                updated_at=row["created_at"],
            )
            if parent_id is not None:
                row["parent_id"] = parent_id
            parent_id = row["id"]
        rows.insert(self.store, batch)
        return self._told(batch)

    def _told(self, batch: Sequence[Mapping[str, Any]]) -> list[Message]:
        """Messages whose rows were inserted; whoever waits for them hears of them after the commit."""
        saved = [schema.dump([row.get(name) for name in schema.STORED]) for row in batch]
        for message in saved:
            self.announce(signals.message_saved, message=message)
        self._better_title(batch)
        return saved

    def _better_title(self, batch: Sequence[Mapping[str, Any]]) -> None:
        """Ask the host's titler after the commit: it may be slow, and no lock is held while it thinks."""
        first = next((row for row in batch if row["role"] == "user" and row["content"].strip()), None)
        titler = self.backend.titler
        if titler is not None and first is not None:
            conversation_id, text = first["conversation_id"], first["content"]
            own = type(self)(self._backend, self.identity, self.backend.app)
            transaction.after_commit(self.session, lambda: own._retitle(titler, conversation_id, text))

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
        conversation_schema.expected(min_version, "min_version")
        columns = rows.NAMED_HISTORY if format in NAMED_FORMATS else rows.HISTORY
        found = rows.newest(self.store, conversation_id, limit=size, columns=columns)
        if found is None:
            raise self.store.missing(conversation_id)
        messages = [_for_history(columns, row) for row in reversed(found.rows)]
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
        problems = rules.Problems()
        count = rules.optional(rules.integer(0, 1_000_000))
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
        problems = rules.Problems()
        size = problems.take("limit", rules.page_limit(MAX_PAGE), limit)
        problems.take("branch", rules.optional(rules.one_of(("main",))), branch)
        if before is not None and after is not None:
            problems.errors["after"] = ["Use before or after, not both."]
        upper = problems.take("before", lambda place: self._seq(conversation_id, place), before)
        lower = problems.take("after", lambda place: self._seq(conversation_id, place), after)
        problems.raise_any()
        conversation_schema.expected(min_version, "min_version")
        found = rows.newest(self.store, conversation_id, limit=size + 1, before=upper, after=lower)
        if found is None:
            raise self.store.missing(conversation_id)
        page = found.rows[:size]
        next_cursor = None
        if len(found.rows) > size:
            next_cursor = self._cursors.seal(_PAGE, [found.conversation_id, page[-1].seq])
        return {
            "messages": [schema.dump(row) for row in (page if lower is not None else reversed(page))],
            "next_cursor": next_cursor,
            "has_more": next_cursor is not None,
            "version": found.version,
        }

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

    @writes
    def update_message(
        self,
        conversation_id: str,
        message_id: str,
        *,
        content: str | Sequence[Any] | None = None,
        metadata: Mapping[str, Any] | None = _AS_IT_IS,
        expected_version: int | None = None,
    ) -> Message:
        """Edit a message's content or metadata in place; `edited_at` says so. Metadata of None clears it.

        *expected_version* is a version at which the caller saw the message: raises `VersionConflict` if it was changed after that.
        """
        expected = conversation_schema.expected(expected_version)
        values = self._edit(content, metadata)
        if content is not None and (guards := self.backend.guards()):
            role = self._live(self.store.lock(conversation_id), message_id).role
            said = {"role": role, "content": content, **({} if metadata is _AS_IT_IS else {"metadata": metadata})}
            said = guarded(guards, said, GuardContext(conversation_id, self.identity))
            values = self._edit(said.get("content"), said.get("metadata", _AS_IT_IS))
        return self._edited(conversation_id, message_id, values, expected, edited=content is not None)

    def _edit(self, content: Any, metadata: Any) -> dict[str, Any]:
        """The columns that an edit sets."""
        problems = rules.Problems()
        values: dict[str, Any] = {}
        if content is not None:
            longest = self.config.max_content_length
            checked = problems.take("content", lambda value: schema.content_rule(value, longest), content)
            if not problems.errors:
                values.update({"parts": None, **schema.content_columns(checked)})
        if metadata is not _AS_IT_IS:
            values["metadata"] = problems.take("metadata", rules.optional(rules.json_object), metadata)
        problems.raise_any()
        return values

    @writes
    def rate_message(
        self,
        conversation_id: str,
        message_id: str,
        rating: str | int | None,
        reason: str | None = None,
        comment: str | None = None,
    ) -> Message:
        """Keep what the owner thinks of a message: `up`, `down` or a whole number; None takes it back."""
        problems = rules.Problems()
        values = {
            "rating": problems.take("rating", rules.optional(schema.rating_rule), rating),
            "rating_reason": problems.take("reason", rules.optional(rules.text(255)), reason),
            "rating_comment": problems.take("comment", rules.optional(rules.text(10_000)), comment),
        }
        problems.raise_any()
        return self._edited(conversation_id, message_id, values, None, edited=False)

    def _edited(
        self, conversation_id: str, message_id: str, values: dict[str, Any], expected: int | None, *, edited: bool
    ) -> Message:
        conversation = self.store.lock(conversation_id)
        message = self._live(conversation, message_id)
        if expected is not None and not message.version <= expected <= conversation.version:
            raise VersionConflict(current=conversation_schema.dump(conversation))
        if not values:
            return schema.dump(message)
        return self.change_message(conversation, message, values, edited=edited)

    def change_message(self, conversation: Any, message: Any, values: Mapping[str, Any], *, edited: bool) -> Message:
        """Set columns of one message of a locked conversation, and bring the conversation in line; one version further."""
        at = now()
        columns = {**values, "version": conversation.version + 1, "updated_at": at}
        totals: dict[str, Any] = {"history_version": conversation.history_version + 1}
        if edited:
            columns["edited_at"] = at
            # a framework's own item would go on saying the old text
            columns["raw"] = None
            if not (values["content_is_parts"] or message.content_is_parts):
                # parts that stand beside a text, tool calls say, are not what was edited
                columns.pop("parts", None)
            columns["digest"] = schema.digest_of({**values, "role": message.role}, message.id)
            totals["checksum"] = conversation.checksum ^ message.digest ^ columns["digest"]
            if message.id == conversation.head_id:
                totals["preview"] = preview_of(values["content"])
        rows.change(self.store, conversation, message, columns)
        conversation_rows.change(self.store, conversation.id, totals)
        changed = schema.dump(rows.one(self.store, conversation.id, message.id))
        self.announce(signals.message_updated, message=changed)
        return changed

    def _live(self, conversation: Any, message_id: Any) -> Any:
        message = rows.one(self.store, conversation.id, message_id)
        if message is None:
            raise MessageNotFound
        return message

    @writes
    def delete_message(self, conversation_id: str, message_id: str) -> Message:
        """Remove a message for good and return it as it was; the messages around it close up.

        Its row stays as an empty tombstone, so that the sequence has no gap and other devices learn of the deletion.
        """
        conversation = self.store.lock(conversation_id)
        return self._bury(conversation, [self._live(conversation, message_id)])[0]

    @writes
    def pop_message(self, conversation_id: str) -> Message | None:
        """Remove the newest message and return it, atomically; None if the conversation is empty."""
        conversation = self.store.lock(conversation_id)
        newest = rows.newest(self.store, conversation.id, limit=1)
        return self._bury(conversation, newest.rows)[0] if newest and newest.rows else None

    def _bury(self, conversation: Any, messages: Sequence[Any]) -> list[Message]:
        """Delete messages of a locked conversation as one step of its version."""
        parents = {message.id: message.parent_id for message in messages}
        heirs = {message_id: _living(message_id, parents) for message_id in parents}
        rows.bury(self.store, conversation, messages, heirs, version=conversation.version + 1, at=now())
        checksum = functools.reduce(operator.xor, (message.digest for message in messages), conversation.checksum)
        head_id = heirs.get(conversation.head_id, conversation.head_id)
        self._settle(conversation, head_id, checksum, conversation.message_count - len(messages))
        gone = [schema.dump(message) for message in messages]
        for message in gone:
            self.announce(signals.message_deleted, message=message)
        return gone

    def _settle(self, conversation: Any, head_id: str | None, checksum: int, count: int, **also: Any) -> Any:
        """Bring a conversation's counters, head and preview in line after a deletion; one version further."""
        newest = rows.one(self.store, conversation.id, head_id) if head_id else None
        totals = {
            "history_version": conversation.history_version + 1,
            "head_id": head_id,
            "message_count": count,
            "checksum": checksum,
            "preview": preview_of(newest.content) if newest else None,
            "last_message_at": newest.created_at if newest else None,
            **also,
        }
        return conversation_rows.change(self.store, conversation.id, totals)

    @writes
    def clear_conversation(self, conversation_id: str) -> int:
        """Remove all messages and keep the conversation; how many they were."""
        conversation = self.store.lock(conversation_id)
        count = rows.bury_all(self.store, conversation, version=conversation.version + 1, at=now())
        if count:
            # told of as an update of the conversation: naming each message would cost as much as reading it
            cleared = self._settle(conversation, None, 0, 0, branched=False)
            self.announce(signals.conversation_updated, conversation=conversation_schema.dump(cleared))
        return count


def _was_titled_by(conversation: Any, text: str) -> bool:
    return bool(conversation.title_source == "auto" and conversation.title == title_from(text))


def _living(message_id: str | None, parents: Mapping[str, str | None]) -> str | None:
    """The nearest ancestor that is not among those about to go."""
    while message_id is not None and message_id in parents:
        message_id = parents[message_id]
    return message_id


def _step(batch: Sequence[Mapping[str, Any]]) -> conversation_rows.Step:
    digest = 0
    for row in batch:
        digest ^= row["digest"]
    questions = (row["content"] for row in batch if row["role"] == "user" and row["content"].strip())
    last = batch[-1]
    return conversation_rows.Step(
        count=len(batch),
        digest=digest,
        head_id=last["id"],
        preview=preview_of(last["content"]),
        title=next(map(title_from, questions), None),
        at=last["created_at"],
    )


def filled(newborn: dict[str, Any], batch: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A new conversation's columns with its first messages counted in."""
    if not batch:
        return newborn
    step = _step(batch)
    newborn.update(
        last_seq=len(batch),
        message_count=len(batch),
        history_version=1,
        checksum=step.digest,
        head_id=step.head_id,
        preview=step.preview,
        last_message_at=step.at,
    )
    if newborn["title_source"] == "default" and step.title:
        newborn.update(title=step.title, title_source="auto")
    return newborn


def _for_history(columns: tuple[str, ...], row: Any) -> dict[str, Any]:
    role, content, is_parts, parts, raw, status = row[: len(rows.HISTORY)]
    if is_parts and isinstance(parts, list):
        content = parts
    message = {"role": role, "content": content, "parts": parts, "raw": raw, "status": status}
    if columns is not rows.HISTORY:
        message.update(zip(columns[len(rows.HISTORY) :], row[len(rows.HISTORY) :], strict=False))
        message["created_at"] = iso(message["created_at"])
    return message
