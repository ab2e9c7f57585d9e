"""The rules of branches. Messages form a tree, a branch names the end of a path in it, and one branch is active."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any

from .. import signals
from ..errors import BranchExists, BranchInUse, BranchNotFound, ValidationFailed
from ..ids import now
from ..schemas import conversations as conversation_schema
from ..schemas import messages as message_schema
from ..schemas import rules
from ..schemas.common import iso, preview_of
from ..schemas.types import Branch, BranchList, Conversation, Siblings
from ..store import branches as rows
from ..store import conversations as conversation_rows
from ..store import messages as message_rows
from ..store.rows import BranchRow, ConversationRow
from ..tables import MAIN
from .unit_of_work import UnitOfWork


def branches_of(work: UnitOfWork, conversation: ConversationRow) -> list[Branch]:
    """The branches of a conversation row, `main` first. A conversation that never branched costs no statement."""
    found = [_branch(conversation, conversation.branch, conversation.head_id, None, conversation.preview)]
    for row in rows.of_conversation(work.store, conversation) if conversation.branched else ():
        if row.name == conversation.branch:
            found[0]["created_at"] = str(iso(row.created_at))
        else:
            found.append(_branch(conversation, row.name, row.head_id, row.created_at, _preview(row.text)))
    return sorted(found, key=lambda branch: (branch["name"] != MAIN, branch["created_at"], branch["name"]))


def siblings_of(work: UnitOfWork, conversation_id: str, messages: Iterable[Mapping[str, Any]]) -> dict[str, Siblings]:
    """By id, the place of each of *messages* among its siblings; a message without siblings is left out.

    It takes one statement, which finds nothing in a conversation of another identity.
    """
    shown = {message["id"]: message["parent_id"] for message in messages}
    if not shown:
        return {}
    answers: dict[str | None, list[str]] = {}
    for row in rows.siblings(work.store, conversation_id, set(shown.values())):
        answers.setdefault(row.parent_id, []).append(row.id)
    found: dict[str, Siblings] = {}
    for own_id, parent_id in shown.items():
        ids = answers.get(parent_id, [])
        if len(ids) > 1 and own_id in ids:
            found[own_id] = {"index": ids.index(own_id) + 1, "count": len(ids), "ids": ids}
    return found


def create(work: UnitOfWork, conversation_id: str, from_message_id: str, name: str | None) -> Branch:
    """Name the path that ends with a message; the active branch stays active."""
    if name is not None:
        rules.check("name", rules.branch_name, name)
    conversation = work.store.lock(conversation_id)
    message = message_rows.one(work.store, conversation.id, from_message_id)
    if message is None:
        raise ValidationFailed({"from_message_id": ["There is no such message in this conversation."]})
    name = _free_name(work, conversation) if name is None else name
    at = now()
    if name == conversation.branch or not rows.insert(work.store, conversation, name, message.id, at):
        raise BranchExists
    # the conversation has more than one branch from now on
    _change(work, conversation, branched=True)
    return _branch(conversation, name, message.id, at, _preview(message.content), active=False)


def _free_name(work: UnitOfWork, conversation: ConversationRow) -> str:
    taken = {branch["name"] for branch in branches_of(work, conversation)}
    return next(name for number in range(2, len(taken) + 3) if (name := f"branch-{number}") not in taken)


def list_all(work: UnitOfWork, conversation_id: str, *, min_version: int | None) -> BranchList:
    """All branches of a conversation, `main` first, then by age."""
    conversation_schema.expected(min_version, "min_version")
    return {"branches": branches_of(work, work.store.get(conversation_id))}


def switch(work: UnitOfWork, conversation_id: str, name: str) -> Conversation:
    """Make a branch active, or show the newest path through the message with that id."""
    wanted = rules.uuid_or_none(name) or name
    if not isinstance(wanted, str):
        raise ValidationFailed({"name": ["Not a valid string."]})
    conversation = work.store.lock(conversation_id)
    if wanted == conversation.branch:
        return conversation_schema.dump(conversation)
    branch = rows.named(work.store, conversation, wanted) if _is_name(wanted) else None
    if branch is not None:
        return _activate(work, conversation, branch)
    message = message_rows.one(work.store, conversation.id, wanted)
    if message is None:
        raise BranchNotFound("There is no such branch, and no such message, in this conversation.")
    head_id = rows.newest_leaf(work.store, conversation, message)
    if head_id == conversation.head_id:
        return conversation_schema.dump(conversation)
    return _move_head(work, conversation, head_id)


def _activate(work: UnitOfWork, conversation: ConversationRow, branch: BranchRow) -> Conversation:
    left, tip = conversation.branch, conversation.head_id
    if not rows.point(work.store, conversation, left, tip):
        rows.insert(work.store, conversation, left, tip, conversation.created_at)
    # the head of the active branch is stored in the conversation only
    rows.point(work.store, conversation, branch.name, None)
    return _move_head(work, conversation, branch.head_id, branch=branch.name)


def _move_head(work: UnitOfWork, conversation: ConversationRow, head_id: str | None, **also: Any) -> Conversation:
    """Set the head of the active path. The counters cover all messages, and stay."""
    head = message_rows.one(work.store, conversation.id, head_id) if head_id else None
    preview = latest = None
    if head is not None:
        preview = _preview(head.content)
        latest = max(filter(None, (conversation.last_message_at, head.created_at)))
    shown = {"head_id": head_id, "branched": True, "preview": preview, "last_message_at": latest}
    return _change(work, conversation, **shown, **also)


def _change(work: UnitOfWork, conversation: ConversationRow, **values: Any) -> Conversation:
    changed = conversation_schema.dump(conversation_rows.change(work.store, conversation.id, values))
    work.announce(signals.conversation_updated, conversation=changed)
    return changed


def delete(work: UnitOfWork, conversation_id: str, name: str) -> Branch:
    """Delete the name of a branch, and return the branch; its messages stay."""
    if not isinstance(name, str):
        raise ValidationFailed({"name": ["Not a valid string."]})
    conversation = work.store.lock(conversation_id)
    if name in (MAIN, conversation.branch):
        raise BranchInUse
    branch = next((one for one in branches_of(work, conversation) if one["name"] == name), None)
    if branch is None:
        raise BranchNotFound
    rows.forget(work.store, conversation, name)
    _change(work, conversation)
    return branch


def _is_name(value: str) -> bool:
    try:
        rules.branch_name(value)
    except rules.Invalid:
        return False
    return True


def _preview(text: str | None) -> str | None:
    return None if text is None else preview_of(message_schema.decode_text(text))


def _branch(
    conversation: ConversationRow,
    name: str,
    head_id: str | None,
    created_at: dt.datetime | None,
    preview: str | None,
    *,
    active: bool | None = None,
) -> Branch:
    return {
        "conversation_id": conversation.id,
        "name": name,
        "head_id": head_id,
        "active": name == conversation.branch if active is None else active,
        "created_at": str(iso(created_at or conversation.created_at)),
        "preview": preview,
    }
