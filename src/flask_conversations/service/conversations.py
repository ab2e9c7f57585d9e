"""The rules of conversations: create, get, list, update, archive, delete and restore."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from .. import signals
from ..errors import ClientIdConflict, ConversationNotFound, Forbidden, ValidationFailed, VersionConflict
from ..ids import new_id, new_rev, now
from ..schemas import canonical, rules
from ..schemas import conversations as schema
from ..schemas.common import iso
from ..schemas.fields import DEFAULT_TITLE
from ..schemas.types import Conversation, ConversationPage
from ..store import conversations as rows
from ..store import requests
from ..store.rows import ConversationRow
from ..tables import MAIN
from . import idempotency
from . import messages as message_rules
from .outcome import Outcome
from .unit_of_work import UnitOfWork

MAX_PAGE = 100


def create(
    work: UnitOfWork,
    title: str | None,
    id: str | None,
    messages: Sequence[Mapping[str, Any]],
    temporary: bool,
    fields: Mapping[str, Any],
    idempotency_key: str | None = None,
) -> Outcome:
    """Create a conversation with *messages*, or return the one that was created before with that id or key."""
    if idempotency_key is None:
        return _create(work, title, id, messages, temporary, fields)
    given = [_as_json(item) for item in messages]
    payload = {**_as_json({"id": id}), "title": title, "messages": given, "temporary": temporary, **fields}
    rules.check("idempotency_key", rules.text(255, blank=False), idempotency_key)
    fingerprint = canonical.fingerprint(rules.check("payload", rules.json_object, payload))
    return idempotency.answer_once(
        work,
        "create_conversation",
        idempotency_key,
        fingerprint,
        lambda: _create(work, title, id, messages, temporary, fields).result,
    )


def _create(
    work: UnitOfWork,
    title: str | None,
    id: str | None,
    messages: Sequence[Mapping[str, Any]],
    temporary: bool,
    fields: Mapping[str, Any],
) -> Outcome:
    own_id, client_id = schema.own_id(id)
    values = schema.changes({"title": title, **fields})
    values["temporary"] = rules.check("temporary", rules.boolean, temporary)
    conversation_id = own_id or new_id()
    batch = message_rules.prepared_many(work, conversation_id, messages)
    if any("parent_id" in row for row in batch):
        raise ValidationFailed({"parent_id": ["A new conversation has no message that another one could answer."]})
    columns = {**initial_columns(values), "id": conversation_id, "client_id": client_id, **work.store.owner}
    row = rows.insert(work.store, message_rules.with_counters(columns, batch))
    if row is None:
        return Outcome(_existing(work, own_id, client_id), True)
    if values.get("tags"):
        rows.set_tags(work.store, row, values["tags"])
    created = schema.dump(row)
    saved = message_rules.insert(work, batch, row, first_seq=1, parent_id=None)
    work.mark_as_append(row.id, row.version, work.store.owner, saved)
    work.announce(signals.conversation_created, conversation=created)
    return Outcome(created, False)


def _existing(work: UnitOfWork, own_id: str | None, client_id: str | None) -> Conversation:
    found = rows.by_own_id(work.store, own_id, client_id)
    if found is None:
        # the same answer as for any unavailable id, so that it does not reveal the owner
        raise ClientIdConflict("This id cannot be used.")
    if found.status == "deleted":
        raise ClientIdConflict("This id belongs to a conversation in your trash: restore it, or delete it permanently.")
    return schema.dump(found)


def get(work: UnitOfWork, conversation_id: str, *, min_version: int | None) -> Conversation:
    """The conversation. Raises `ConversationNotFound`, for another user's and a deleted one alike."""
    schema.expected(min_version, "min_version")
    return schema.dump(work.store.get(conversation_id))


def lock(work: UnitOfWork, conversation_id: str, *, trash: bool) -> Conversation:
    """The conversation, locked until the transaction ends; *trash* finds a deleted one too."""
    return schema.dump(work.store.lock(conversation_id, trash=trash))


def exists(work: UnitOfWork, conversation_id: str, *, min_version: int | None) -> bool:
    """Whether the identity has that conversation, outside the trash."""
    schema.expected(min_version, "min_version")
    try:
        work.store.get(conversation_id)
    except (ConversationNotFound, Forbidden):
        return False
    return True


def list_page(
    work: UnitOfWork,
    *,
    limit: int,
    cursor: str | None,
    offset: int | None,
    order: str,
    min_version: int | None,
    filters: Mapping[str, Any],
) -> ConversationPage:
    """One page of the identity's conversations, without their messages."""
    schema.expected(min_version, "min_version")
    found, next_cursor = page(work, limit=limit, cursor=cursor, offset=offset, order=order, filters=filters)
    return {
        "conversations": [schema.dump(row) for row in found],
        "next_cursor": next_cursor,
        "has_more": next_cursor is not None,
    }


def page(
    work: UnitOfWork, *, limit: Any, cursor: Any, offset: Any, order: Any, filters: Mapping[str, Any]
) -> tuple[list[ConversationRow], str | None]:
    """The rows of one page, and the cursor of the next page."""
    problems = rules.Problems()
    size = problems.take("limit", rules.page_limit(MAX_PAGE), limit)
    skipped = problems.take("offset", rules.optional(rules.offset), offset) or 0
    only = _checked_filters(problems, filters)
    field, descending = problems.take("order", _order, order) or ("updated_at", True)
    if cursor is not None and offset is not None:
        problems.errors["offset"] = ["Use the cursor or the offset, not both."]
    cursors = work.cursors
    kind = f"conversations {order} {canonical.fingerprint(only)}"
    after = (
        problems.take("cursor", lambda text: _place(cursors.open(kind, text), field), cursor)
        if cursor is not None
        else None
    )
    problems.raise_any()
    found = rows.page(work.store, only, order=field, descending=descending, after=after, offset=skipped, limit=size)
    if len(found) <= size:
        return list(found), None
    last = found[size - 1]
    return list(found[:size]), cursors.seal(kind, [_cursor_value(last, field), last.id])


def update(
    work: UnitOfWork, conversation_id: str, *, expected_version: int | None, fields: Mapping[str, Any]
) -> Conversation:
    """Set *fields*, if the conversation still has the expected version."""
    expected = schema.expected(expected_version)
    values = _with_status_times(schema.changes(fields))
    if not values:
        row = work.store.get(conversation_id)
        _check_version(row, expected)
        return schema.dump(row)
    before = work.store.lock(conversation_id)
    _check_version(before, expected)
    updated = schema.dump(set_fields(work, before, values, list(fields)))
    work.announce(signals.conversation_updated, conversation=updated)
    return updated


def set_fields(
    work: UnitOfWork, before: ConversationRow, values: Mapping[str, Any], names: Sequence[str]
) -> ConversationRow:
    """Set columns of a locked conversation, and record the version at which the fields *names* were set."""
    versions = {**schema.field_versions(before), **dict.fromkeys(names, before.version + 1)}
    row = rows.change(work.store, before.id, {**values, "field_versions": versions})
    if "tags" in values:
        rows.set_tags(work.store, row, values["tags"])
    return row


def move(work: UnitOfWork, conversation_id: str, status: str, sources: tuple[str, ...]) -> Conversation:
    """Move a conversation from one of the statuses *sources* to *status*; with any other status it stays unchanged."""
    before = work.store.lock(conversation_id)
    if before.status not in sources:
        return schema.dump(before)
    moved = schema.dump(set_fields(work, before, _with_status_times({"status": status}), ["status"]))
    work.announce(signals.conversation_updated, conversation=moved)
    return moved


def restore(work: UnitOfWork, conversation_id: str) -> Conversation:
    """Restore a conversation from the trash to its earlier status; any other stays unchanged."""
    row = rows.restore(work.store, conversation_id)
    if row is None:
        return schema.dump(work.store.get(conversation_id))
    restored = schema.dump(row)
    work.announce(signals.conversation_updated, conversation=restored)
    return restored


def delete(work: UnitOfWork, conversation_id: str, *, permanent: bool) -> bool:
    """Move to the trash, or delete permanently with *permanent* or without a trash; True if it existed."""
    permanent = rules.check("permanent", rules.boolean, permanent) or work.config.trash_days == 0
    try:
        row = work.store.lock(conversation_id, trash=permanent)
    except ConversationNotFound:
        return False
    if permanent:
        rows.remove(work.store, row)
    else:
        rows.change(work.store, row.id, {"status": "deleted", "deleted_at": now()})
    work.announce(signals.conversation_deleted, conversation=schema.dump(row), permanent=permanent)
    return True


def claim(work: UnitOfWork, anonymous_user_id: str) -> int:
    """Move a guest's conversations to the identity that has logged in, and return their number."""
    if work.identity is None or work.identity.anonymous or not str(anonymous_user_id).startswith("guest:"):
        raise ValidationFailed({"anonymous_user_id": ["Only a guest's conversations can be claimed, by a user."]})
    moved = rows.claim(work.store, {"org_id": "", "user_id": anonymous_user_id})
    for row in moved:
        work.announce(signals.conversation_updated, conversation=schema.dump(row))
    return len(moved)


def prune(work: UnitOfWork, *, limit: int, dry_run: bool) -> int:
    """Permanently delete expired conversations of the trash and temporary ones, and return their number."""
    at = now()
    found = rows.overdue(
        work.store,
        trash_before=at - dt.timedelta(days=work.config.trash_days),
        temporary_before=at - dt.timedelta(hours=work.config.temporary_hours),
        limit=limit,
        locked=not dry_run,
    )
    if not dry_run:
        for row in found:
            rows.remove(work.store, row)
        requests.expire(work.store, kept_since=idempotency.horizon(work.config))
    return len(found)


def initial_columns(values: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a new conversation without messages."""
    at = now()
    columns = {
        "title_source": "default",
        "status": "active",
        "starred": False,
        "temporary": False,
        "version": 1,
        "rev": new_rev(),
        "last_seq": 0,
        "message_count": 0,
        "checksum": 0,
        "branched": False,
        "branch": MAIN,
        "created_at": at,
        "updated_at": at,
        "last_activity_at": at,
    }
    given = {name: value for name, value in _with_status_times(dict(values)).items() if value is not None}
    return {**columns, **given}


def _with_status_times(values: dict[str, Any]) -> dict[str, Any]:
    """*values* with the times that belong to a new status."""
    status = values.get("status")
    if status is not None:
        values["archived_at"] = now() if status == "archived" else None
        values["resolved_at"] = now() if status == "resolved" else None
    return values


def _as_json(item: Any) -> Any:
    """A mapping as JSON: its ids and times may be objects."""
    if not isinstance(item, Mapping):
        return item
    return {name: _as_text(value) for name, value in item.items()}


def _as_text(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return value.isoformat()
    return str(value) if isinstance(value, uuid.UUID) else value


def _check_version(row: ConversationRow, expected: int | None) -> None:
    if expected is not None and row.version != expected:
        raise VersionConflict(current=schema.dump(row))


_FILTERS: dict[str, rules.Rule] = {
    "status": rules.one_of(("active", "archived", "resolved", "deleted", "all")),
    "starred": rules.boolean,
    "tag": rules.text(64),
    "folder": rules.text(255),
    "context_type": rules.text(255),
    "context_id": rules.text(255),
}


def _checked_filters(problems: rules.Problems, filters: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: problems.take(name, _FILTERS[name], value) for name, value in filters.items() if value is not None}
    if found.get("status") == "all":
        del found["status"]
    return {**found, "temporary": False}


def _order(value: Any) -> tuple[str, bool]:
    name = rules.one_of([sign + field for field in rows.ORDERS for sign in ("", "-")])(value)
    return name.lstrip("-"), name.startswith("-")


def _cursor_value(row: ConversationRow, field: str) -> str | None:
    value = getattr(row, field)
    return (DEFAULT_TITLE if value is None else value) if field == "title" else iso(value)


def _place(place: Any, field: str) -> tuple[Any, str]:
    match place:
        case [str(value), str(own_id)] if rules.uuid_or_none(own_id):
            return (rules.text()(value) if field == "title" else rules.moment(value)), own_id
    raise rules.Invalid("Not a valid cursor.")
