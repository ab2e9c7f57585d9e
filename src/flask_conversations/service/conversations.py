"""The rules of conversations: create, find, list, change, archive, delete and bring back."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from .. import signals, transaction
from ..errors import (
    ClientIdConflict,
    ConversationNotFound,
    Forbidden,
    IdempotencyKeyReused,
    RequestInProgress,
    ValidationFailed,
    VersionConflict,
)
from ..models import MAIN, new_id, new_rev, now
from ..schemas import canonical, rules
from ..schemas import conversations as schema
from ..schemas.common import iso
from ..schemas.shapes import Conversation, ConversationPage
from ..store import conversations as rows
from ..store import requests
from .cursors import Cursors
from .messages import MessageVerbs, Outcome, filled
from .units import reads, writes

if TYPE_CHECKING:
    from typing_extensions import TypedDict, Unpack

    class ConversationFields(TypedDict, total=False):
        """The fields of a conversation that its owner may set, besides the title."""

        starred: bool
        folder: str | None
        tags: Sequence[str]
        context_type: str | None
        context_id: str | None
        page_context: str | None
        metadata: Mapping[str, Any] | None
        status: str

    class ConversationChanges(ConversationFields, total=False):
        """The fields of a conversation that its owner may change."""

        title: str | None


MAX_PAGE = 100


class ConversationVerbs(MessageVerbs):
    """What an identity can do with its conversations."""

    def create_conversation(
        self,
        title: str | None = None,
        *,
        id: str | None = None,
        messages: Sequence[Mapping[str, Any]] = (),
        temporary: bool = False,
        idempotency_key: str | None = None,
        **fields: Unpack[ConversationFields],
    ) -> Conversation:
        """A new conversation, with *messages* in it if given; its `["id"]` is a UUIDv7 unless *id* is a UUID.

        Any other *id* becomes the `client_id`. Creating again with one's own id, or with the same *idempotency_key*, returns the
        first conversation. Raises `ClientIdConflict` for an id that is somebody else's or in one's trash, `ValidationFailed`.
        """
        outcome = self.create_or_replay(
            title, id=id, messages=messages, temporary=temporary, idempotency_key=idempotency_key, **fields
        )
        return cast("Conversation", outcome.result)

    @writes
    def create_or_replay(
        self,
        title: str | None = None,
        *,
        id: str | None = None,
        messages: Sequence[Mapping[str, Any]] = (),
        temporary: bool = False,
        idempotency_key: str | None = None,
        **fields: Unpack[ConversationFields],
    ) -> Outcome:
        """Like `create_conversation`, and says whether the conversation was there before."""
        if idempotency_key is None:
            return self._created(title, id, messages, temporary, fields)
        said = [_asked(item) for item in messages]
        payload = {**_asked({"id": id}), "title": title, "messages": said, "temporary": temporary, **fields}
        return self._once(
            "create_conversation",
            idempotency_key,
            payload,
            lambda: self._created(title, id, messages, temporary, fields),
        )

    def _once(self, scope: str, key: str, payload: Mapping[str, Any], effect: Callable[[], Outcome]) -> Outcome:
        rules.check("idempotency_key", rules.text(255, blank=False), key)
        mark = canonical.fingerprint(rules.check("payload", rules.json_object, payload))
        return self.answered_once(scope, key, mark, lambda: effect().result)

    @writes
    def answer_once(self, scope: str, key: str, fingerprint: str, effect: Callable[[], Any]) -> Outcome:
        """Do *effect* and keep its JSON-ready answer under *key*, in one transaction; if it was done before, return that answer.

        Raises `IdempotencyKeyReused` if the key was used for a request with another fingerprint. Format: IETF draft
        "The Idempotency-Key HTTP Header Field".
        """
        with transaction.grouped(self.session):
            return self.answered_once(scope, key, fingerprint, effect)

    def answered_once(self, scope: str, key: str, fingerprint: str, effect: Callable[[], Any]) -> Outcome:
        """The body of `answer_once`, inside a transaction."""
        store = self.store
        if requests.reserve(store, scope, key, fingerprint, kept_since=self.idempotency_horizon()):
            result = effect()
            requests.answer(store, scope, key, result, _conversation_of(result))
            return Outcome(result, False)
        first = requests.answered(store, scope, key)
        if first is None or first.answer is None:
            raise RequestInProgress
        if first.fingerprint != fingerprint:
            raise IdempotencyKeyReused
        return Outcome(first.answer, True)

    def idempotency_horizon(self) -> dt.datetime:
        """Answers from before this moment are forgotten."""
        return now() - dt.timedelta(hours=self.config.idempotency_hours)

    def _created(
        self,
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
        batch = self.prepared_messages(conversation_id, messages)
        newborn = {**begun(values), "id": conversation_id, "client_id": client_id, **self.store.owner}
        row = rows.insert(self.store, filled(newborn, batch))
        if row is None:
            return Outcome(self._existing(own_id, client_id), True)
        if values.get("tags"):
            rows.set_tags(self.store, row, values["tags"])
        created = schema.dump(row)
        saved = self.store_messages(batch, row, first_seq=1, parent_id=None)
        self.appended(row.id, row.version, self.store.owner, saved)
        self.announce(signals.conversation_created, conversation=created)
        return Outcome(created, False)

    def _existing(self, own_id: str | None, client_id: str | None) -> Conversation:
        found = rows.by_own_id(self.store, own_id, client_id)
        if found is None:
            # as for any id that cannot be had: nothing is said of whose it is
            raise ClientIdConflict("This id cannot be used.")
        if found.status == "deleted":
            raise ClientIdConflict(
                "This id belongs to a conversation in your trash: restore it, or delete it permanently."
            )
        return schema.dump(found)

    @reads
    def get_conversation(self, conversation_id: str, *, min_version: int | None = None) -> Conversation:
        """The conversation. Raises `ConversationNotFound`, for another user's and a deleted one alike."""
        schema.expected(min_version, "min_version")
        return schema.dump(self.store.get(conversation_id))

    @writes
    def lock_conversation(self, conversation_id: str, *, trash: bool = False) -> Conversation:
        """The conversation, held until the group or host transaction around this call ends: nobody else changes it meanwhile.

        *trash* finds a deleted one too.
        """
        return schema.dump(self.store.lock(conversation_id, trash=trash))

    @reads
    def conversation_exists(self, conversation_id: str, *, min_version: int | None = None) -> bool:
        """Whether the identity has that conversation, outside the trash."""
        schema.expected(min_version, "min_version")
        try:
            self.store.get(conversation_id)
        except (ConversationNotFound, Forbidden):
            return False
        return True

    @reads
    def list_conversations(
        self,
        *,
        limit: int = 20,
        cursor: str | None = None,
        offset: int | None = None,
        status: str = "active",
        starred: bool | None = None,
        tag: str | None = None,
        folder: str | None = None,
        context_type: str | None = None,
        context_id: str | None = None,
        order: str = "-last_activity_at",
        min_version: int | None = None,
    ) -> ConversationPage:
        """One page of the identity's conversations, the last active first, without their messages.

        *status* is `active`, `archived`, `resolved`, `deleted` (the trash) or `all` (but the trash). *order* is one of
        `last_activity_at`, `updated_at`, `created_at`, `title`, with `-` for descending. Temporary ones are left out. Go on with
        *cursor*; *offset* is for clients that count pages. Raises `ValidationFailed`.
        """
        schema.expected(min_version, "min_version")
        found, next_cursor = self._page(
            limit=limit,
            cursor=cursor,
            offset=offset,
            order=order,
            filters={
                "status": status,
                "starred": starred,
                "tag": tag,
                "folder": folder,
                "context_type": context_type,
                "context_id": context_id,
            },
        )
        return {
            "conversations": [schema.dump(row) for row in found],
            "next_cursor": next_cursor,
            "has_more": next_cursor is not None,
        }

    def _page(
        self, *, limit: Any, cursor: Any, offset: Any, order: Any, filters: Mapping[str, Any]
    ) -> tuple[list[Any], str | None]:
        """The rows of one page, and the cursor of the next."""
        problems = rules.Problems()
        size = problems.take("limit", rules.page_limit(MAX_PAGE), limit)
        skipped = problems.take("offset", rules.optional(rules.offset), offset) or 0
        only = _checked_filters(problems, filters)
        field, descending = problems.take("order", _order, order) or ("updated_at", True)
        if cursor is not None and offset is not None:
            problems.errors["offset"] = ["Use the cursor or the offset, not both."]
        cursors = Cursors(self.backend.secrets, self.identity)
        kind = f"conversations {order} {canonical.fingerprint(only)}"
        after = (
            problems.take("cursor", lambda text: _place(cursors.open(kind, text), field), cursor)
            if cursor is not None
            else None
        )
        problems.raise_any()
        found = rows.page(self.store, only, order=field, descending=descending, after=after, offset=skipped, limit=size)
        if len(found) <= size:
            return list(found), None
        last = found[size - 1]
        return list(found[:size]), cursors.seal(kind, [_cursor_value(last, field), last.id])

    @writes
    def update_conversation(
        self, conversation_id: str, *, expected_version: int | None = None, **fields: Unpack[ConversationChanges]
    ) -> Conversation:
        """Set fields: title, starred, folder, tags, context_*, page_context, metadata, status.

        A title of None is the default one again. With *expected_version*, raises `VersionConflict` (which carries the current
        conversation) if it has changed since. Raises `ValidationFailed`, `ConversationNotFound`.
        """
        expected = schema.expected(expected_version)
        values = _with_status_times(schema.changes(fields))
        if not values:
            row = self.store.get(conversation_id)
            _check_version(row, expected)
            return schema.dump(row)
        return self._changed(conversation_id, values, expected, list(fields))

    def _changed(
        self, conversation_id: str, values: Mapping[str, Any], expected: int | None, names: Sequence[str]
    ) -> Conversation:
        before = self.store.lock(conversation_id)
        _check_version(before, expected)
        updated = schema.dump(self.set_fields(before, values, names))
        self.announce(signals.conversation_updated, conversation=updated)
        return updated

    def set_fields(self, before: Any, values: Mapping[str, Any], names: Sequence[str]) -> Any:
        """Set columns of a locked conversation, and remember at which version the fields *names* were set."""
        marks = {**schema.field_versions(before), **dict.fromkeys(names, before.version + 1)}
        row = rows.change(self.store, before.id, {**values, "field_versions": marks})
        if "tags" in values:
            rows.set_tags(self.store, row, values["tags"])
        return row

    @writes
    def archive_conversation(self, conversation_id: str) -> Conversation:
        """Out of the list of active conversations, unchanged otherwise. Once archived, stays as it is."""
        return self._move(conversation_id, "archived", ("active", "resolved"))

    @writes
    def unarchive_conversation(self, conversation_id: str) -> Conversation:
        """Back among the active conversations, from the archive or from resolved."""
        return self._move(conversation_id, "active", ("archived", "resolved"))

    @writes
    def resolve_conversation(self, conversation_id: str) -> Conversation:
        """Settled: it leaves the active list and carries `resolved_at`."""
        return self._move(conversation_id, "resolved", ("active", "archived"))

    def _move(self, conversation_id: str, status: str, sources: tuple[str, ...]) -> Conversation:
        before = self.store.lock(conversation_id)
        if before.status not in sources:
            return schema.dump(before)
        moved = schema.dump(self.set_fields(before, _with_status_times({"status": status}), ["status"]))
        self.announce(signals.conversation_updated, conversation=moved)
        return moved

    @writes
    def restore_conversation(self, conversation_id: str) -> Conversation:
        """Out of the trash, into the status it had before. One that is not in the trash stays as it is."""
        row = rows.restore(self.store, conversation_id)
        if row is None:
            return schema.dump(self.store.get(conversation_id))
        restored = schema.dump(row)
        self.announce(signals.conversation_updated, conversation=restored)
        return restored

    @writes
    def delete_conversation(self, conversation_id: str, *, permanent: bool = False) -> bool:
        """Into the trash, or for good with *permanent* or without a trash; True if it was there."""
        permanent = rules.check("permanent", rules.boolean, permanent) or self.config.trash_days == 0
        try:
            row = self.store.lock(conversation_id, trash=permanent)
        except ConversationNotFound:
            return False
        if permanent:
            rows.remove(self.store, row)
        else:
            at = now()
            rows.change(self.store, row.id, {"status": "deleted", "deleted_at": at})
        self.announce(signals.conversation_deleted, conversation=schema.dump(row), permanent=permanent)
        return True

    @writes
    def claim(self, anonymous_user_id: str) -> int:
        """Move a guest's conversations to the identity that has logged in; how many they were.

        Over HTTP the guest comes from its own signed cookie only: whoever calls this vouches for the id.
        """
        if self.identity is None or self.identity.anonymous or not str(anonymous_user_id).startswith("guest:"):
            raise ValidationFailed({"anonymous_user_id": ["Only a guest's conversations can be claimed, by a user."]})
        moved = rows.claim(self.store, {"org_id": "", "user_id": anonymous_user_id})
        for row in moved:
            self.announce(signals.conversation_updated, conversation=schema.dump(row))
        return len(moved)

    @writes
    def prune(self, *, limit: int = 1000, dry_run: bool = False) -> int:
        """Delete for good what has been in the trash, or was temporary, for longer than the settings say.

        At most *limit* conversations a call; how many they were. As the system it covers all users. Answers kept for an
        Idempotency-Key go when their time is over.
        """
        at = now()
        found = rows.overdue(
            self.store,
            trash_before=at - dt.timedelta(days=self.config.trash_days),
            temporary_before=at - dt.timedelta(hours=self.config.temporary_hours),
            limit=limit,
            locked=not dry_run,
        )
        if not dry_run:
            for row in found:
                rows.remove(self.store, row)
            requests.expire(self.store, kept_since=self.idempotency_horizon())
        return len(found)


def _asked(item: Any) -> Any:
    """What a caller has asked for as JSON: ids and times may come as objects."""
    if not isinstance(item, Mapping):
        return item
    return {name: _as_text(value) for name, value in item.items()}


def _as_text(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return value.isoformat()
    return str(value) if isinstance(value, uuid.UUID) else value


def _conversation_of(answer: Any) -> str | None:
    """The id of the conversation that an answer is about, as far as it says."""
    named = answer.get("conversation_id") or answer.get("id") if isinstance(answer, Mapping) else None
    return rules.uuid_or_none(named)


def begun(values: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a conversation that has just begun."""
    at = now()
    born = {
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
    return {**born, **given}


def _with_status_times(values: dict[str, Any]) -> dict[str, Any]:
    """A status with the times that go with it."""
    status = values.get("status")
    if status is not None:
        values["archived_at"] = now() if status == "archived" else None
        values["resolved_at"] = now() if status == "resolved" else None
    return values


def _check_version(row: Any, expected: int | None) -> None:
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


def _cursor_value(row: Any, field: str) -> Any:
    value = getattr(row, field)
    return (schema.DEFAULT_TITLE if value is None else value) if field == "title" else iso(value)


def _place(place: Any, field: str) -> tuple[Any, str]:
    match place:
        case [str(value), str(own_id)] if rules.uuid_or_none(own_id):
            return (rules.text()(value) if field == "title" else rules.moment(value)), own_id
    raise rules.Invalid("Not a valid cursor.")
