"""The rules of branches: messages form a tree, a branch is a name for where a path through it ends, and one is active."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .. import signals
from ..errors import BranchExists, BranchInUse, BranchNotFound, ValidationFailed
from ..models import MAIN, now
from ..schemas import conversations as conversation_schema
from ..schemas import messages as message_schema
from ..schemas import rules
from ..schemas.common import iso, preview_of
from ..schemas.shapes import Branch, BranchList, Conversation, Siblings
from ..store import branches as rows
from ..store import conversations as conversation_rows
from ..store import messages as message_rows
from .base import Base
from .units import reads, writes


class Trees(Base):
    """What a conversation that has branched shows besides its active path."""

    def branches_of(self, conversation: Any) -> list[Branch]:
        """The branches of a row that the store has found, `main` first; one that never branched costs no statement."""
        found = [_branch(conversation, conversation.branch, conversation.head_id, None, conversation.preview)]
        for row in rows.of_conversation(self.store, conversation) if conversation.branched else ():
            if row.name == conversation.branch:
                found[0]["created_at"] = str(iso(row.created_at))
            else:
                found.append(_branch(conversation, row.name, row.head_id, row.created_at, _preview(row.text)))
        return sorted(found, key=lambda branch: (branch["name"] != MAIN, branch["created_at"], branch["name"]))

    def siblings_of(self, conversation_id: Any, messages: Iterable[Mapping[str, Any]]) -> dict[str, Siblings]:
        """By id, the place of each of *messages* among those that answer the same one; alone among them, it is left out.

        One statement, which finds nothing in a conversation that is not the identity's own.
        """
        shown = {message["id"]: message["parent_id"] for message in messages}
        if not shown:
            return {}
        answers: dict[str | None, list[str]] = {}
        for row in rows.siblings(self.store, conversation_id, set(shown.values())):
            answers.setdefault(row.parent_id, []).append(row.id)
        found: dict[str, Siblings] = {}
        for own_id, parent_id in shown.items():
            ids = answers.get(parent_id, [])
            if len(ids) > 1 and own_id in ids:
                found[own_id] = {"index": ids.index(own_id) + 1, "count": len(ids), "ids": ids}
        return found


class Branches(Trees):
    """What an identity can do with the branches of its conversations: `service.branches`."""

    def create(self, conversation_id: str, from_message_id: str, name: str | None = None) -> Branch:
        """Give a name to the path that ends with a message; the active branch stays the active one.

        *name* is `branch-2`, `branch-3`, ... if not given. Raises `BranchExists`, `ValidationFailed`, `ConversationNotFound`.
        """
        return self._create_branch(conversation_id, from_message_id, name)

    @writes
    def _create_branch(self, conversation_id: str, from_message_id: str, name: str | None) -> Branch:
        if name is not None:
            rules.check("name", rules.branch_name, name)
        conversation = self.store.lock(conversation_id)
        message = message_rows.one(self.store, conversation.id, from_message_id)
        if message is None:
            raise ValidationFailed({"from_message_id": ["There is no such message in this conversation."]})
        name = self._free_name(conversation) if name is None else name
        at = now()
        if name == conversation.branch or not rows.insert(self.store, conversation, name, message.id, at):
            raise BranchExists
        # a conversation that has not branched is one path with one name
        self._changed(conversation, branched=True)
        return _branch(conversation, name, message.id, at, _preview(message.content), active=False)

    def _free_name(self, conversation: Any) -> str:
        taken = {branch["name"] for branch in self.branches_of(conversation)}
        return next(name for number in range(2, len(taken) + 3) if (name := f"branch-{number}") not in taken)

    def list(self, conversation_id: str, *, min_version: int | None = None) -> BranchList:
        """All branches of a conversation, `main` first, then by age. Raises `ConversationNotFound`."""
        return self._list_branches(conversation_id, min_version)

    @reads
    def _list_branches(self, conversation_id: str, min_version: int | None) -> BranchList:
        conversation_schema.expected(min_version, "min_version")
        return {"branches": self.branches_of(self.store.get(conversation_id))}

    def switch(self, conversation_id: str, name: str) -> Conversation:
        """Make a branch the active one: it is what is read, and what the next message is appended to.

        *name* may be a message instead: then the active branch keeps its name, and shows the newest path that leads through
        that message. Nothing is lost either way. Raises `BranchNotFound`, `ConversationNotFound`.
        """
        return self._switch_branch(conversation_id, name)

    @writes
    def _switch_branch(self, conversation_id: str, name: str) -> Conversation:
        wanted = rules.uuid_or_none(name) or name
        if not isinstance(wanted, str):
            raise ValidationFailed({"name": ["Not a valid string."]})
        conversation = self.store.lock(conversation_id)
        if wanted == conversation.branch:
            return conversation_schema.dump(conversation)
        branch = rows.named(self.store, conversation, wanted) if _is_name(wanted) else None
        if branch is not None:
            return self._entered(conversation, branch)
        message = message_rows.one(self.store, conversation.id, wanted)
        if message is None:
            raise BranchNotFound("There is no such branch, and no such message, in this conversation.")
        head_id = rows.newest_leaf(self.store, conversation, message)
        if head_id == conversation.head_id:
            return conversation_schema.dump(conversation)
        return self._moved(conversation, head_id)

    def _entered(self, conversation: Any, branch: Any) -> Conversation:
        left, tip = conversation.branch, conversation.head_id
        if not rows.point(self.store, conversation, left, tip):
            rows.insert(self.store, conversation, left, tip, conversation.created_at)
        # where the active branch ends, only the conversation says
        rows.point(self.store, conversation, branch.name, None)
        return self._moved(conversation, branch.head_id, branch=branch.name)

    def _moved(self, conversation: Any, head_id: str | None, **also: Any) -> Conversation:
        """Let the active path end elsewhere. The counters are of all messages, and stay."""
        head = message_rows.one(self.store, conversation.id, head_id) if head_id else None
        preview = latest = None
        if head is not None:
            preview = _preview(head.content)
            latest = max(filter(None, (conversation.last_message_at, head.created_at)))
        shown = {"head_id": head_id, "branched": True, "preview": preview, "last_message_at": latest}
        return self._changed(conversation, **shown, **also)

    def _changed(self, conversation: Any, **values: Any) -> Conversation:
        changed = conversation_schema.dump(conversation_rows.change(self.store, conversation.id, values))
        self.announce(signals.conversation_updated, conversation=changed)
        return changed

    def delete(self, conversation_id: str, name: str) -> Branch:
        """Forget the name of a branch, and return what it was; its messages stay where they are.

        Raises `BranchInUse` for `main` and for the active branch, `BranchNotFound`, `ConversationNotFound`.
        """
        return self._delete_branch(conversation_id, name)

    @writes
    def _delete_branch(self, conversation_id: str, name: str) -> Branch:
        if not isinstance(name, str):
            raise ValidationFailed({"name": ["Not a valid string."]})
        conversation = self.store.lock(conversation_id)
        if name in (MAIN, conversation.branch):
            raise BranchInUse
        branch = next((one for one in self.branches_of(conversation) if one["name"] == name), None)
        if branch is None:
            raise BranchNotFound
        rows.forget(self.store, conversation, name)
        self._changed(conversation)
        return branch


def _is_name(value: str) -> bool:
    try:
        rules.branch_name(value)
    except rules.Invalid:
        return False
    return True


def _preview(text: Any) -> str | None:
    return None if text is None else preview_of(message_schema.shown(text))


def _branch(
    conversation: Any,
    name: str,
    head_id: str | None,
    created_at: Any,
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
