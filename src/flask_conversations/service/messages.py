"""The rules of saving messages: one or many, once each, titled, guarded and told of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import signals, transaction
from ..errors import ClientIdConflict, ConversationNotFound, ValidationFailed
from ..models import new_id, now
from ..schemas import conversations as conversation_schema
from ..schemas import messages as schema
from ..schemas import rules
from ..schemas.common import preview_of, title_from
from ..schemas.shapes import Message
from ..store import conversations as conversation_rows
from ..store import messages as rows
from .base import Base
from .guards import GuardContext, guarded
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


class Outcome(NamedTuple):
    """What a call returns, and whether it is the answer of an earlier, equal call."""

    result: Any
    replayed: bool


class MessageVerbs(Base):
    """How an identity adds messages to its conversations."""

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
        saved = self.append_prepared(conversation_id, row)
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
        config = self.config
        role, content = fields.pop("role", None), fields.pop("content", None)
        row = schema.values(role, content, fields, config.max_content_length, config.max_parts)
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

    def append_prepared(self, conversation_id: str, row: dict[str, Any]) -> Message:
        """Append a message that `prepared_message` has made, below the one that it names as its parent or the newest."""
        if row.get("parent_id") is not None:
            return self._append_many(conversation_id, [row])[0]
        row["updated_at"] = row["created_at"]
        if not conversation_rows.append(self.store, conversation_id, row, _step([row])):
            return self.replayed_message(conversation_id, row)
        saved = self._told([row])
        self.appended(row["conversation_id"], row["version"], row, saved)
        return saved[0]

    def replayed_message(self, conversation_id: str, row: Mapping[str, Any]) -> Message:
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
            row["client_id"]: self.replayed_message(conversation.id, row)
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
            if parent_id in (None, conversation.head_id):
                self.appended(advanced.id, advanced.version, fresh[-1], saved)
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


def _was_titled_by(conversation: Any, text: str) -> bool:
    return bool(conversation.title_source == "auto" and conversation.title == title_from(text))


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
        checksum=step.digest,
        head_id=step.head_id,
        preview=step.preview,
        last_message_at=step.at,
    )
    if newborn["title_source"] == "default" and step.title:
        newborn.update(title=step.title, title_source="auto")
    return newborn
