"""Whole conversations: replace the messages, merge a client's snapshot, load a page with messages."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeAlias

from .. import signals
from ..errors import ClientIdConflict, ConversationNotFound, ValidationFailed, VersionConflict
from ..ids import new_id
from ..schemas import conversations as schema
from ..schemas import messages as message_schema
from ..schemas import rules
from ..schemas.types import ConversationsWithMessages, Message, SaveOutcome
from ..store import conversations as rows
from ..store import messages as message_rows
from ..store.rows import ConversationRow, MessageRow
from . import conversations as conversation_rules
from . import edits
from . import messages as message_rules
from .unit_of_work import UnitOfWork

_FILTERS = frozenset({"status", "starred", "tag", "folder", "context_type", "context_id"})
_SNAPSHOT = frozenset({"id", "messages", *schema.RULES})
_SERVER_MEMBERS = frozenset({*schema.COLUMNS, "etag"}) - _SNAPSHOT
"""Members of a conversation that only the server sets: a snapshot may have them, but they are ignored."""


Edit: TypeAlias = tuple[MessageRow, Mapping[str, Any]]
"""A stored message, and the row that shall replace its content."""


def replace(work: UnitOfWork, conversation_id: str, messages: Sequence[Mapping[str, Any]]) -> list[Message]:
    """Replace the conversation's messages by *messages*, as one step of its version."""
    conversation = work.store.lock(conversation_id)
    _as_one_version(work, conversation, _replace(work, conversation, message_schema.listed(messages)))
    return [message_schema.dump(row) for row in message_rows.of_conversation(work.store, conversation)]


def _replace(
    work: UnitOfWork,
    conversation: ConversationRow,
    messages: Sequence[Mapping[str, Any]],
    roles: Collection[str] | None = None,
) -> list[Message]:
    stored = message_rows.of_conversation(work.store, conversation)
    wanted = message_rules.prepared_many(work, conversation.id, [message_schema.own_members(item) for item in messages])
    kept, edited, fresh = _aligned(stored, wanted, messages)
    taken = message_rows.taken(work.store, conversation, fresh)
    fresh = [_with_new_id(row, taken) for row in fresh]
    removed = [row for row in stored if row.id not in kept]
    _refuse_unwritable(roles, [*(row for _, row in edited), *fresh])
    return _rewrite(work, conversation, removed, edited, fresh)


def _rewrite(
    work: UnitOfWork,
    conversation: ConversationRow,
    removed: Sequence[MessageRow],
    edited: Sequence[Edit],
    fresh: list[dict[str, Any]],
) -> list[Message]:
    """Remove, edit and append messages of a locked conversation; returns the edited and appended ones."""
    written = []
    if removed:
        edits.delete(work, conversation, removed)
    for message, row in edited:
        content = {name: row.get(name) for name in ("content", "content_is_parts", "parts")}
        written.append(edits.change(work, work.store.get(conversation.id), message, content, edited=True))
    if fresh:
        written += message_rules.append_many(work, conversation.id, fresh)
    return written


def _as_one_version(work: UnitOfWork, before: ConversationRow, written: Sequence[Message]) -> ConversationRow:
    """Set one version for all changes since *before*, also in the messages *written*, although each has incremented it."""
    after = work.store.get(before.id)
    version = before.version + 1
    if after.version > version:
        rows.set_version(work.store, before, version)
        message_rows.set_version(work.store, before, version)
        for message in written:
            message["version"] = version
    return work.store.get(before.id)


def save(
    work: UnitOfWork,
    snapshot: Mapping[str, Any],
    *,
    base_version: int | None,
    force_overwrite: bool,
    refuse_conflicts: bool = False,
    create: bool = True,
    roles: Collection[str] | None = None,
) -> SaveOutcome:
    """Save a client's copy of a conversation, merged with the changes of other clients since *base_version*.

    With *refuse_conflicts* a conflict raises `VersionConflict` and nothing is saved. A conversation that does not exist is created,
    unless *create* is false. New or changed messages must have one of *roles*, if given.
    """
    snapshot = _checked(snapshot)
    base = schema.expected(base_version, "base_version")
    fields = {name: value for name, value in snapshot.items() if name in schema.RULES}
    conversation = _lock_or_none(work, snapshot.get("id"))
    if conversation is None:
        if not create:
            raise ConversationNotFound
        created = conversation_rules.create(
            work,
            fields.get("title"),
            snapshot.get("id"),
            [message_schema.own_members(item) for item in snapshot.get("messages") or ()],
            False,
            {name: value for name, value in fields.items() if name != "title"},
        )
        if not created.replayed:
            return {"conversation": created.result, "outcome": "saved", "conflicts": []}
        # another device has created it at the same moment: merge with its messages
        conversation = work.store.lock(created.result["id"])
    stale = base is not None and base != conversation.version
    if force_overwrite:
        written = _overwrite(work, conversation, fields, snapshot.get("messages"), roles)
        return _outcome(work, conversation, written, "overwritten" if stale else "saved", [])
    return _merge(
        work, conversation, fields, snapshot.get("messages"), base if stale else None, refuse_conflicts, roles
    )


def _lock_or_none(work: UnitOfWork, conversation_id: Any) -> ConversationRow | None:
    if conversation_id is None:
        return None
    try:
        return work.store.lock(conversation_id)
    except ConversationNotFound:
        return None


def _overwrite(
    work: UnitOfWork,
    conversation: ConversationRow,
    fields: Mapping[str, Any],
    messages: Sequence[Mapping[str, Any]] | None,
    roles: Collection[str] | None,
) -> list[Message]:
    changed, _ = _merged_fields(conversation, fields, None, forced=True)
    if changed:
        conversation_rules.set_fields(work, conversation, schema.changes(changed), list(changed))
    return [] if messages is None else _replace(work, work.store.get(conversation.id), messages, roles)


def _merge(
    work: UnitOfWork,
    conversation: ConversationRow,
    fields: Mapping[str, Any],
    messages: Sequence[Mapping[str, Any]] | None,
    stale_base: int | None,
    refuse_conflicts: bool,
    roles: Collection[str] | None,
) -> SaveOutcome:
    changed, conflicts = _merged_fields(conversation, fields, stale_base)
    edited: list[Edit] = []
    fresh: list[dict[str, Any]] = []
    if messages is not None:
        stored = message_rows.of_conversation(work.store, conversation)
        wanted = message_rules.prepared_many(
            work, conversation.id, [message_schema.own_members(item) for item in messages]
        )
        edited, fresh, more = _merged_messages(stored, wanted, messages, stale_base)
        # a deleted message stays deleted, and a message on another branch is stored already
        taken = message_rows.taken(work.store, conversation, fresh)
        fresh = [row for row in fresh if row["id"] not in taken and row.get("client_id") not in taken]
        conflicts += more
        _refuse_unwritable(roles, [*(row for _, row in edited), *fresh])
    if conflicts and refuse_conflicts:
        raise VersionConflict(current=schema.dump(conversation))
    if changed:
        conversation_rules.set_fields(work, conversation, schema.changes(changed), list(changed))
    written = _rewrite(work, conversation, (), edited, fresh)
    return _outcome(work, conversation, written, "merged" if stale_base is not None else "saved", conflicts)


def _outcome(
    work: UnitOfWork, before: ConversationRow, written: Sequence[Message], outcome: str, conflicts: list[dict[str, Any]]
) -> SaveOutcome:
    saved = schema.dump(_as_one_version(work, before, written))
    if saved["version"] != before.version:
        work.announce(signals.conversation_updated, conversation=saved)
    return {"conversation": saved, "outcome": outcome, "conflicts": conflicts}


def load_page(
    work: UnitOfWork,
    *,
    limit: int,
    cursor: str | None,
    offset: int | None,
    messages: int,
    order: str,
    min_version: int | None,
    filters: Mapping[str, Any],
) -> ConversationsWithMessages:
    """A page of conversations, each with its newest *messages*, in two statements."""
    schema.refuse_unknown(filters, _FILTERS)
    schema.expected(min_version, "min_version")
    size = rules.check("messages", rules.page_limit(100), messages)
    found, next_cursor = conversation_rules.page(
        work, limit=limit, cursor=cursor, offset=offset, order=order, filters={"status": "active", **filters}
    )
    newest = message_rows.newest_of_each(work.store, found, size)
    return {
        "conversations": [
            {**schema.dump(row), "messages": [message_schema.dump(message) for message in newest[row.id]]}
            for row in found
        ],
        "next_cursor": next_cursor,
        "has_more": next_cursor is not None,
    }


def _checked(snapshot: Any) -> dict[str, Any]:
    if not isinstance(snapshot, Mapping):
        raise ValidationFailed({"snapshot": ["Not a valid object."]})
    schema.refuse_unknown(snapshot, _SNAPSHOT | _SERVER_MEMBERS)
    schema.changes({name: value for name, value in snapshot.items() if name in schema.RULES})
    if snapshot.get("messages") is not None:
        message_schema.listed(snapshot["messages"])
    return {name: value for name, value in snapshot.items() if name in _SNAPSHOT}


def _refuse_unwritable(roles: Collection[str] | None, rows: Sequence[Mapping[str, Any]]) -> None:
    for row in rows if roles is not None else ():
        message_schema.refuse_unwritable(row, roles or ())


def _merged_fields(
    conversation: ConversationRow, fields: Mapping[str, Any], stale_base: int | None, *, forced: bool = False
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The fields to set, and the conflicts with fields that another client has set since the base version."""
    field_versions = schema.field_versions(conversation)
    current: Mapping[str, Any] = schema.dump(conversation)
    changed: dict[str, Any] = {}
    conflicts = []
    for name, value in fields.items():
        current_value = current[name]
        if value == current_value or (name == "title" and schema.titled(value)[1] == "default" and not forced):
            # the copy is older than the title
            continue
        if stale_base is not None and field_versions.get(name, 1) > stale_base:
            conflicts.append({"field": name, "current": current_value, "yours": value})
        else:
            changed[name] = value
    return changed, conflicts


def _same(stored: MessageRow, wanted: Mapping[str, Any]) -> bool:
    """Whether a stored message has the content of the wanted one."""
    return stored.digest == message_schema.digest_of(wanted, stored.id)


def _find_stored(
    item: Mapping[str, Any], wanted: Mapping[str, Any], by_id: Mapping[str, MessageRow]
) -> MessageRow | None:
    """The stored message that an item names by id or client id; None if it names none."""
    for name in (wanted["id"] if rules.uuid_or_none(item.get("id")) else None, wanted.get("client_id")):
        if name is not None and name in by_id:
            return by_id[name]
    return None


def _by_id(stored: Sequence[MessageRow]) -> dict[str, MessageRow]:
    named = {row.id: row for row in stored}
    named.update({row.client_id: row for row in stored if row.client_id})
    return named


def _by_content(stored: Sequence[MessageRow]) -> dict[int, list[int]]:
    """The places in the stored list by content digest."""
    places: dict[int, list[int]] = {}
    for index, row in enumerate(stored):
        places.setdefault(message_schema.digest_of(row._mapping, ""), []).append(index)
    return places


def _aligned(
    stored: Sequence[MessageRow], wanted: Sequence[dict[str, Any]], items: Sequence[Mapping[str, Any]]
) -> tuple[set[str], list[Edit], list[dict[str, Any]]]:
    """The ids of the stored messages that stay, the edits of some of them, and the new messages.

    The seq is the order, so a stored message can stay only if no new message comes before it.
    """
    by_id, place = _by_id(stored), {row.id: index for index, row in enumerate(stored)}
    kept: set[str] = set()
    edited: list[Edit] = []
    next_place = 0
    for index, (item, row) in enumerate(zip(items, wanted, strict=True)):
        found = _find_stored(item, row, by_id)
        if found is None:
            ahead = (stored[index] for index in range(next_place, len(stored)))
            found = next((one for one in ahead if one.id not in kept and _same(one, row)), None)
        if found is None or place[found.id] < next_place or found.role != row["role"]:
            return kept, edited, list(wanted[index:])
        kept.add(found.id)
        next_place = place[found.id] + 1
        if not _same(found, row):
            edited.append((found, row))
    return kept, edited, []


def _with_new_id(row: dict[str, Any], taken: Collection[str]) -> dict[str, Any]:
    """The row with a new id if a stored or deleted row has its id: a moved or restored message is stored again."""
    if row["id"] in taken or row.get("client_id") in taken:
        row = {**row, "id": new_id()}
        row.pop("client_id", None)
        row.pop("fingerprint", None)
        row["digest"] = message_schema.digest_of(row, row["id"])
    return row


def _merged_messages(
    stored: Sequence[MessageRow],
    wanted: Sequence[dict[str, Any]],
    items: Sequence[Mapping[str, Any]],
    stale_base: int | None,
) -> tuple[list[Edit], list[dict[str, Any]], list[dict[str, Any]]]:
    """Messages to edit, messages to append, and edits that conflict with those of another client.

    A message without id matches the next equal one in the stored list, so that a retried snapshot adds nothing.
    """
    by_id, place = _by_id(stored), {row.id: index for index, row in enumerate(stored)}
    by_content = _by_content(stored)
    edited: list[Edit] = []
    fresh: list[dict[str, Any]] = []
    conflicts: list[dict[str, Any]] = []
    next_place = 0
    for item, row in zip(items, wanted, strict=True):
        found = _find_stored(item, row, by_id)
        if found is None and not item.get("id") and not item.get("client_id"):
            equal = by_content.get(message_schema.digest_of(row, ""), [])
            found = next((stored[index] for index in equal[bisect_left(equal, next_place) :][:1]), None)
        if found is not None:
            next_place = max(next_place, place[found.id] + 1)
        if found is None:
            fresh.append(row)
        elif not _same(found, row):
            if found.role != row["role"]:
                raise ClientIdConflict("A message keeps its role.")
            if stale_base is not None and found.version > stale_base:
                conflicts.append(
                    {
                        "field": "messages",
                        "message_id": found.id,
                        "current": message_schema.dump(found)["content"],
                        "yours": item.get("content"),
                    }
                )
            else:
                edited.append((found, row))
    return edited, fresh, conflicts
