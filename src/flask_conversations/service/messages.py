"""The rules of saving messages: validation, guards, client ids, and signals after the commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .. import signals
from ..errors import ClientIdConflict, ConversationNotFound, ValidationFailed
from ..ids import new_id, now
from ..schemas import messages as schema
from ..schemas import rules
from ..schemas.common import preview_of, title_from
from ..schemas.types import Message
from ..store import conversations as conversation_rows
from ..store import messages as rows
from ..store.rows import ConversationRow
from . import titles
from .guards import GuardContext, guarded
from .outcome import Outcome
from .unit_of_work import UnitOfWork


def save(work: UnitOfWork, conversation_id: str, message: Mapping[str, Any]) -> Outcome:
    """Append *message*, a mapping with the arguments of `save_message`; a repeated client id returns the stored message."""
    row = prepared(work, conversation_id, message)
    saved = append(work, conversation_id, row)
    # only an insert by this call sets the seq
    return Outcome(saved, "seq" not in row)


def save_many(work: UnitOfWork, conversation_id: str, messages: Sequence[Mapping[str, Any]]) -> list[Message]:
    """Append messages in order, all or none, as one step of the conversation's version."""
    batch = prepared_many(work, conversation_id, messages)
    if not batch:
        work.store.get(conversation_id)
        return []
    return append_many(work, conversation_id, batch)


def prepared_many(work: UnitOfWork, conversation_id: str, messages: Any) -> list[dict[str, Any]]:
    """Validated rows of *messages*, ready to insert. Raises `ValidationFailed` with the errors of each by its position."""
    problems = rules.Problems()
    batch = [
        problems.take(str(place), lambda item: prepared(work, conversation_id, item), item)
        for place, item in enumerate(schema.listed(messages))
    ]
    for name in ("id", "client_id"):
        keys = [row[name] for row in batch if row and row.get(name)]
        if len(set(keys)) < len(keys):
            problems.errors[name] = ["The same one twice."]
    if problems.errors:
        raise ValidationFailed({"messages": problems.errors})
    return batch


def prepared(work: UnitOfWork, conversation_id: str, item: Any) -> dict[str, Any]:
    """The validated row of one message, after the guards, with its ids and digest."""
    if not isinstance(item, Mapping):
        raise rules.Invalid("Not a valid object.")
    if guards := work.backend.guards():
        item = guarded(guards, dict(item), GuardContext(conversation_id, work.identity))
    fields = dict(item)
    given_id, client_id, parent_id = (
        fields.pop("id", None),
        fields.pop("client_id", None),
        fields.pop("parent_id", None),
    )
    config = work.config
    role, content = fields.pop("role", None), fields.pop("content", None)
    row = schema.values(role, content, fields, config.max_content_length, config.max_parts)
    own_id = None if given_id is None else rules.uuid_or_none(given_id)
    if client_id is None and own_id is None:
        client_id = given_id
    # a client's own UUID is taken as the id
    if own_id is None and client_id is not None:
        own_id = rules.uuid_or_none(client_id)
    if client_id is not None:
        row["fingerprint"] = schema.fingerprint_of({**row, "parent_id": parent_id} if parent_id else row)
        row["client_id"] = rules.check("client_id", rules.client_id, client_id)
    row["id"] = own_id or new_id()
    row["digest"] = schema.digest_of(row, row["id"])
    if parent_id is not None:
        row["parent_id"] = rules.check("parent_id", schema.RULES["parent_id"], parent_id)
    row["created_at"] = row.get("created_at") or now()
    return row


def append(work: UnitOfWork, conversation_id: str, row: dict[str, Any]) -> Message:
    """Append a row from `prepared` below its parent, by default the newest message."""
    if row.get("parent_id") is not None:
        return append_many(work, conversation_id, [row])[0]
    row["updated_at"] = row["created_at"]
    if not conversation_rows.append(work.store, conversation_id, row, _step([row])):
        return replayed(work, conversation_id, row)
    saved = announce_saved(work, [row])
    work.mark_as_append(row["conversation_id"], row["version"], row, saved)
    return saved[0]


def replayed(work: UnitOfWork, conversation_id: str, row: Mapping[str, Any]) -> Message:
    """The stored message with this client id. Raises `ConversationNotFound` if there is none."""
    conversation = work.store.get(conversation_id)
    message = rows.by_client_id(work.store, conversation, row["client_id"]) if row.get("client_id") else None
    if message is None:
        raise ConversationNotFound
    if message.deleted_at is not None:
        raise ClientIdConflict("This client id belongs to a message that was deleted.")
    if message.fingerprint != row["fingerprint"]:
        raise ClientIdConflict
    return schema.dump(message)


def append_many(work: UnitOfWork, conversation_id: str, batch: list[dict[str, Any]]) -> list[Message]:
    """Append rows from `prepared_many`, each below the one before it; repeated client ids return the stored messages."""
    conversation = work.store.lock(conversation_id)
    known = {
        row["client_id"]: replayed(work, conversation.id, row)
        for row in batch
        if row.get("client_id") and rows.by_client_id(work.store, conversation, row["client_id"])
    }
    fresh = [row for row in batch if row.get("client_id") not in known]
    if fresh:
        parent_id = _parent(work, conversation, fresh)
        advanced = conversation_rows.advance(work.store, conversation.id, _step(fresh), parent_id=parent_id)
        assert advanced is not None, "the conversation is locked"
        saved = insert(
            work,
            fresh,
            advanced,
            first_seq=advanced.last_seq - len(fresh) + 1,
            parent_id=parent_id or advanced.previous_head_id,
        )
        if parent_id in (None, conversation.head_id):
            work.mark_as_append(advanced.id, advanced.version, fresh[-1], saved)
        by_id = {message["id"]: message for message in saved}
    return [known[row["client_id"]] if row.get("client_id") in known else by_id[row["id"]] for row in batch]


def _parent(work: UnitOfWork, conversation: ConversationRow, batch: list[dict[str, Any]]) -> str | None:
    """The parent that the first message of a batch names; the others have none."""
    wanted = [row.pop("parent_id", None) for row in batch]
    if any(wanted[1:]):
        raise ValidationFailed({"parent_id": ["Only the first of several messages can name its parent."]})
    if wanted[0] is None:
        return None
    parent = rows.one(work.store, conversation.id, wanted[0])
    if parent is None:
        raise ValidationFailed({"parent_id": ["There is no such message in this conversation."]})
    return parent.id


def insert(
    work: UnitOfWork, batch: list[dict[str, Any]], conversation: Any, *, first_seq: int, parent_id: str | None
) -> list[Message]:
    """Insert rows from `prepared_many`, one below the other."""
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
    rows.insert(work.store, batch)
    return announce_saved(work, batch)


def announce_saved(work: UnitOfWork, batch: Sequence[Mapping[str, Any]]) -> list[Message]:
    """The JSON of inserted rows. Their signals are sent, and the titler is called, after the commit."""
    saved = [schema.dump([row.get(name) for name in schema.STORED]) for row in batch]
    for message in saved:
        work.announce(signals.message_saved, message=message)
    titles.improve_later(work, batch)
    return saved


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


def with_counters(columns: dict[str, Any], batch: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The columns of a new conversation, including the totals of its first messages."""
    if not batch:
        return columns
    step = _step(batch)
    columns.update(
        last_seq=len(batch),
        message_count=len(batch),
        checksum=step.digest,
        head_id=step.head_id,
        preview=step.preview,
        last_message_at=step.at,
    )
    if columns["title_source"] == "default" and step.title:
        columns.update(title=step.title, title_source="auto")
    return columns
