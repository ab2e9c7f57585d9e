"""The rules of changing messages that are there: edit, rate, delete, pop, clear."""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping, Sequence
from typing import Any

from .. import signals
from ..errors import MessageNotFound, TurnInProgress, VersionConflict
from ..models import LIVE_STATES, MAIN, now
from ..schemas import conversations as conversation_schema
from ..schemas import messages as schema
from ..schemas import rules
from ..schemas.common import preview_of
from ..schemas.shapes import Message
from ..store import branches as branch_rows
from ..store import conversations as conversation_rows
from ..store import messages as rows
from ..store import turns as turn_rows
from .base import Base
from .guards import GuardContext, guarded
from .units import writes

_AS_IT_IS: Any = object()
"""A field that an edit leaves alone, where None clears it."""


class EditVerbs(Base):
    """What an identity can do to messages of its conversations."""

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
            problems.errors.update(schema.too_many({"content": content}, self.config.max_parts))
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
        if edited and message.status in ("streaming", "pending"):
            turn = turn_rows.find(self.store, conversation, "answer_id", message.id)
            if turn is not None and turn.state in LIVE_STATES:
                raise TurnInProgress("This answer is still being written: wait for its end, or cancel the turn.")
        return self.change_message(conversation, message, values, edited=edited)

    def change_message(self, conversation: Any, message: Any, values: Mapping[str, Any], *, edited: bool) -> Message:
        """Set columns of one message of a locked conversation, and bring the conversation in line; one version further."""
        at = now()
        columns = {**values, "version": conversation.version + 1, "updated_at": at}
        totals: dict[str, Any] = {}
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
        if conversation.branched:
            branch_rows.follow(self.store, conversation, heirs)
        self._settle(conversation, head_id, checksum, conversation.message_count - len(messages))
        gone = [schema.dump(message) for message in messages]
        for message in gone:
            self.announce(signals.message_deleted, message=message)
        return gone

    def _settle(self, conversation: Any, head_id: str | None, checksum: int, count: int, **also: Any) -> Any:
        """Bring a conversation's counters, head and preview in line after a deletion; one version further."""
        newest = rows.one(self.store, conversation.id, head_id) if head_id else None
        totals = {
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
        """Remove all messages and all branches but `main`, and keep the conversation; how many messages they were."""
        conversation = self.store.lock(conversation_id)
        count = rows.bury_all(self.store, conversation, version=conversation.version + 1, at=now())
        if conversation.branched:
            branch_rows.forget_all(self.store, conversation)
        if count or conversation.branched:
            # told of as an update of the conversation: naming each message would cost as much as reading it
            cleared = self._settle(conversation, None, 0, 0, branched=False, branch=MAIN)
            self.announce(signals.conversation_updated, conversation=conversation_schema.dump(cleared))
        return count


def _living(message_id: str | None, parents: Mapping[str, str | None]) -> str | None:
    """The nearest ancestor that is not among those about to go."""
    while message_id is not None and message_id in parents:
        message_id = parents[message_id]
    return message_id
