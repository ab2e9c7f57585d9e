"""The service of one identity, for hosts, routes, commands and adapters. Each call is one unit of work."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, cast

from ..identity.base import Identity
from ..schemas.types import (
    Branch,
    BranchList,
    Conversation,
    ConversationChanges,
    ConversationFields,
    ConversationPage,
    ConversationQuery,
    ConversationsWithMessages,
    Message,
    MessageFields,
    MessagePage,
    SaveOutcome,
    State,
    Turn,
    TurnOutcome,
)
from . import branches, conversations, edits, forks, reading, snapshots, summaries
from . import messages as message_rules
from .edits import UNCHANGED
from .turns import operations, recovery, views
from .turns.following import Follower
from .turns.hosting import HostTurn
from .turns.types import EDIT, REGENERATE, SEND, TurnRequest
from .unit_of_work import UnitOfWork, Units, run_without_group

if TYPE_CHECKING:
    from typing_extensions import Unpack

P = ParamSpec("P")
R = TypeVar("R")
N = TypeVar("N")


Verb = Callable[Concatenate["ConversationService", UnitOfWork, P], R]
Call = Callable[Concatenate["ConversationService", P], R]


def _reads(verb: Verb[P, R]) -> Call[P, R]:
    """Make *verb* a call that reads in one unit of work and is logged by name."""
    return _call(Units.read_as, verb.__name__, verb)


def _writes(verb: Verb[P, R]) -> Call[P, R]:
    """Make *verb* a call that writes in one unit of work, is committed before it returns, and is logged by name."""
    return _call(Units.write_as, verb.__name__, verb)


def _call(run: Callable[..., R], name: str, verb: Verb[P, R]) -> Call[P, R]:
    @functools.wraps(verb)
    def call(self: ConversationService, *args: P.args, **kwargs: P.kwargs) -> R:
        return run(self._units, name, verb.__get__(self), *args, **kwargs)

    signature = inspect.signature(verb)
    shown = [parameter for parameter in signature.parameters.values() if parameter.name != "work"]
    call.__signature__ = signature.replace(parameters=shown)  # type: ignore[attr-defined]  # what `inspect` reads
    return cast("Call[P, R]", call)


class ConversationService:
    """The operations of one identity. Each call is one short transaction on the host's `db.session`, committed before it returns.

    Results are plain JSON-ready dicts. Everything is filtered by the identity: another user's conversation does not exist.
    """

    def __init__(self, units: Units) -> None:
        self._units = units

    @property
    def identity(self) -> Identity | None:
        """The identity of this service; None for the system."""
        return self._units.identity

    # -- conversations

    def create_conversation(
        self,
        /,
        title: str | None = None,
        *,
        id: str | None = None,
        messages: Sequence[Mapping[str, Any]] = (),
        temporary: bool = False,
        idempotency_key: str | None = None,
        **fields: Unpack[ConversationFields],
    ) -> Conversation:
        """Create a conversation with *messages*; its `["id"]` is a UUIDv7 unless *id* is a UUID.

        Any other *id* becomes the `client_id`. A second call with the same id or the same *idempotency_key* returns the first
        conversation. Raises `ClientIdConflict` for an id of another owner or in the owner's trash, `ValidationFailed`.
        """
        outcome = self._units.write_as(
            "create_conversation", conversations.create, title, id, messages, temporary, fields, idempotency_key
        )
        return cast("Conversation", outcome.result)

    @_reads
    def get_conversation(
        self, work: UnitOfWork, conversation_id: str, *, min_version: int | None = None
    ) -> Conversation:
        """The conversation. Raises `ConversationNotFound`, for another user's and a deleted one alike."""
        return conversations.get(work, conversation_id, min_version=min_version)

    @_writes
    def lock_conversation(self, work: UnitOfWork, conversation_id: str, *, trash: bool = False) -> Conversation:
        """The conversation, locked until the group or host transaction around this call ends.

        *trash* finds a deleted conversation too.
        """
        return conversations.lock(work, conversation_id, trash=trash)

    @_reads
    def conversation_exists(self, work: UnitOfWork, conversation_id: str, *, min_version: int | None = None) -> bool:
        """Whether the identity has that conversation, outside the trash."""
        return conversations.exists(work, conversation_id, min_version=min_version)

    @_reads
    def list_conversations(
        self,
        work: UnitOfWork,
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
        filters = {
            "status": status,
            "starred": starred,
            "tag": tag,
            "folder": folder,
            "context_type": context_type,
            "context_id": context_id,
        }
        return conversations.list_page(
            work, limit=limit, cursor=cursor, offset=offset, order=order, min_version=min_version, filters=filters
        )

    @_writes
    def update_conversation(
        self,
        work: UnitOfWork,
        /,
        conversation_id: str,
        *,
        expected_version: int | None = None,
        **fields: Unpack[ConversationChanges],
    ) -> Conversation:
        """Set fields: title, starred, folder, tags, context_*, page_context, metadata, status.

        A title of None resets it to the default. With *expected_version*, raises `VersionConflict` (which carries the current
        conversation) if it has changed since. Raises `ValidationFailed`, `ConversationNotFound`.
        """
        return conversations.update(work, conversation_id, expected_version=expected_version, fields=fields)

    @_writes
    def archive_conversation(self, work: UnitOfWork, conversation_id: str) -> Conversation:
        """Archive an active or resolved conversation; any other stays unchanged."""
        return conversations.move(work, conversation_id, "archived", ("active", "resolved"))

    @_writes
    def unarchive_conversation(self, work: UnitOfWork, conversation_id: str) -> Conversation:
        """Make an archived or resolved conversation active again; any other stays unchanged."""
        return conversations.move(work, conversation_id, "active", ("archived", "resolved"))

    @_writes
    def resolve_conversation(self, work: UnitOfWork, conversation_id: str) -> Conversation:
        """Resolve an active or archived conversation: it leaves the active list and gets `resolved_at`."""
        return conversations.move(work, conversation_id, "resolved", ("active", "archived"))

    @_writes
    def restore_conversation(self, work: UnitOfWork, conversation_id: str) -> Conversation:
        """Restore a conversation from the trash to its earlier status; any other stays unchanged."""
        return conversations.restore(work, conversation_id)

    @_writes
    def delete_conversation(self, work: UnitOfWork, conversation_id: str, *, permanent: bool = False) -> bool:
        """Move a conversation to the trash, or delete it permanently with *permanent* or without a trash; True if it existed."""
        return conversations.delete(work, conversation_id, permanent=permanent)

    @_writes
    def fork_conversation(
        self, work: UnitOfWork, conversation_id: str, at_message_id: str | None = None, *, title: str | None = None
    ) -> Conversation:
        """Create a conversation with copies of the messages up to and including *at_message_id*, by default the newest.

        The copies have new ids and the times of the originals; an unfinished answer is copied as `interrupted`.
        `metadata["forked_from"]` names the source. Raises `ConversationNotFound`, `ValidationFailed`.
        """
        return forks.fork(work, conversation_id, at_message_id, title=title)

    @_writes
    def claim(self, work: UnitOfWork, anonymous_user_id: str) -> int:
        """Move a guest's conversations to the identity that has logged in, and return their number.

        Over HTTP the guest id comes from the signed cookie only. Other callers must check the id themselves.
        """
        return conversations.claim(work, anonymous_user_id)

    @_writes
    def prune(self, work: UnitOfWork, *, limit: int = 1000, dry_run: bool = False) -> int:
        """Permanently delete conversations that were in the trash, or temporary, for longer than the settings allow.

        It deletes at most *limit* conversations and returns their number. As the system it covers all users. Expired answers of
        Idempotency-Keys are deleted too.
        """
        return conversations.prune(work, limit=limit, dry_run=dry_run)

    # -- whole conversations

    @_reads
    def load_conversations(
        self,
        work: UnitOfWork,
        /,
        *,
        limit: int = 100,
        cursor: str | None = None,
        offset: int | None = None,
        messages: int = 50,
        order: str = "-last_activity_at",
        min_version: int | None = None,
        **filters: Unpack[ConversationQuery],
    ) -> ConversationsWithMessages:
        """A page of conversations like `list_conversations`, each with its newest *messages*, in two statements."""
        return snapshots.load_page(
            work,
            limit=limit,
            cursor=cursor,
            offset=offset,
            messages=messages,
            order=order,
            min_version=min_version,
            filters=filters,
        )

    @_writes
    def save_conversation(
        self,
        work: UnitOfWork,
        snapshot: Mapping[str, Any],
        *,
        base_version: int | None = None,
        force_overwrite: bool = False,
        refuse_conflicts: bool = False,
    ) -> SaveOutcome:
        """Save a client's copy of a conversation, merged with the changes of other clients since *base_version*.

        Fields merge one by one; new messages are appended, missing ones are not deleted. A field or message that both sides
        changed keeps the server's value and is reported in `conflicts` with both values; with *refuse_conflicts* nothing is saved
        and `VersionConflict` is raised. *force_overwrite* replaces the stored conversation. A conversation that does not exist is
        created. `outcome` is `saved`, `merged` or `overwritten`.
        """
        return snapshots.save(
            work,
            snapshot,
            base_version=base_version,
            force_overwrite=force_overwrite,
            refuse_conflicts=refuse_conflicts,
        )

    @_writes
    def replace_messages(
        self, work: UnitOfWork, conversation_id: str, messages: Sequence[Mapping[str, Any]]
    ) -> list[Message]:
        """Replace the conversation's messages by *messages*, as one step of its version.

        Messages that match stored ones, by id or by role and content in the same order, keep their ids; the others are removed or
        appended.
        """
        return snapshots.replace(work, conversation_id, messages)

    # -- messages

    def save_message(
        self,
        /,
        conversation_id: str,
        role: str,
        content: str | Sequence[Any],
        *,
        client_id: str | None = None,
        parent_id: str | None = None,
        **fields: Unpack[MessageFields],
    ) -> Message:
        """Append a message. It is committed, and visible to every worker, when this returns.

        The same *client_id* with the same message returns the first one, with another message it raises `ClientIdConflict`.
        *parent_id* appends below an older message instead of the newest. Raises `ConversationNotFound`, `ValidationFailed`.
        """
        item = {"role": role, "content": content, "client_id": client_id, "parent_id": parent_id, **fields}
        return cast("Message", self._units.write_as("save_message", message_rules.save, conversation_id, item).result)

    @_writes
    def save_messages(
        self, work: UnitOfWork, conversation_id: str, messages: Sequence[Mapping[str, Any]]
    ) -> list[Message]:
        """Append messages in order, all or none, as one step of the conversation's version.

        Each is a mapping with the arguments of `save_message`. Messages whose `client_id` was saved before are returned as stored.
        """
        return message_rules.save_many(work, conversation_id, messages)

    @_reads
    def get_conversation_history(
        self,
        work: UnitOfWork,
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
        return reading.history(
            work, conversation_id, limit, max_tokens=max_tokens, format=format, min_version=min_version
        )

    @_reads
    def get_system_prompt(self, work: UnitOfWork, conversation_id: str, *, min_version: int | None = None) -> str:
        """The text of the system and developer messages at the beginning, for APIs that take it separately (Anthropic)."""
        return reading.instructions(work, conversation_id, min_version=min_version)

    def get_messages(
        self,
        conversation_id: str,
        *,
        limit: int = 50,
        before: str | int | None = None,
        after: str | int | None = None,
        branch: str | None = None,
        siblings: bool = False,
        min_version: int | None = None,
    ) -> MessagePage:
        """One page of the conversation, oldest first: the newest messages, or those before or after a place.

        *before* and *after* take a page's `next_cursor`, a message id or a seq. Following `next_cursor` with *before* goes back to
        the beginning; with *after*, on to the newest. *branch* names another branch than the active one. *siblings* adds,
        for each message with siblings, its place among them. Raises `ValidationFailed`,
        `ConversationNotFound`.
        """
        query = reading.PageQuery(conversation_id, limit, before, after, branch, siblings, min_version)
        page = views.get_page(self._units, reading.page_as_dicts, query)
        return cast("MessagePage", {"messages": page.messages, **page.rest})

    @_reads
    def get_message(
        self, work: UnitOfWork, conversation_id: str, message_id: str, *, min_version: int | None = None
    ) -> Message:
        """One message. Raises `ConversationNotFound`, `MessageNotFound`."""
        return reading.message(work, conversation_id, message_id, min_version=min_version)

    @_writes
    def update_message(
        self,
        work: UnitOfWork,
        conversation_id: str,
        message_id: str,
        *,
        content: str | Sequence[Any] | None = None,
        metadata: Mapping[str, Any] | None = UNCHANGED,
        expected_version: int | None = None,
    ) -> Message:
        """Edit a message's content or metadata in place; `edited_at` says so. Metadata of None clears it.

        *expected_version* is a version at which the caller saw the message: raises `VersionConflict` if it was changed after that.
        """
        return edits.update(
            work,
            conversation_id,
            message_id,
            content=content,
            metadata=metadata,
            expected_version=expected_version,
        )

    @_writes
    def rate_message(
        self,
        work: UnitOfWork,
        conversation_id: str,
        message_id: str,
        rating: str | int | None,
        reason: str | None = None,
        comment: str | None = None,
    ) -> Message:
        """Store the owner's rating of a message: `up`, `down` or a whole number; None removes it."""
        return edits.rate(work, conversation_id, message_id, rating, reason, comment)

    @_writes
    def delete_message(self, work: UnitOfWork, conversation_id: str, message_id: str) -> Message:
        """Remove a message permanently and return it as it was; its children move to its parent.

        Its row stays as an empty tombstone, so that the sequence has no gap and other devices see the deletion.
        """
        return edits.delete_one(work, conversation_id, message_id)

    @_writes
    def pop_message(self, work: UnitOfWork, conversation_id: str) -> Message | None:
        """Remove the newest message and return it, atomically; None if the conversation is empty."""
        return edits.pop(work, conversation_id)

    @_writes
    def clear_conversation(self, work: UnitOfWork, conversation_id: str) -> int:
        """Remove all messages and all branches but `main`, keep the conversation, and return the number of messages."""
        return edits.clear(work, conversation_id)

    @_writes
    def summarize(
        self, work: UnitOfWork, conversation_id: str, text: str, *, up_to_message_id: str | None = None
    ) -> Message:
        """Save *text* as the summary of the messages up to one: a history has it in their place, pages still show them.

        *up_to_message_id* is by default the newest finished message that is not a summary. A caller that writes the text slowly
        should name the message, because others may be appended meanwhile. Raises `ConversationNotFound`, `ValidationFailed`.
        """
        return summaries.summarize(work, conversation_id, text, up_to_message_id=up_to_message_id)

    # -- turns

    def send_message(
        self,
        /,
        conversation_id: str,
        content: str | Sequence[Any],
        *,
        client_id: str | None = None,
        parent_id: str | None = None,
        idempotency_key: str | None = None,
        wait: bool = True,
        **fields: Unpack[MessageFields],
    ) -> TurnOutcome:
        """Store a question and have the responder answer it: `{"question", "answer", "state", "turn", "replayed"}`.

        The question is committed before the responder begins; the turn goes on if the caller disconnects. With *wait* the call
        returns when the turn has ended or waits for an approval; without, immediately. The same *client_id* or *idempotency_key*
        returns the first turn. Without a responder only the question is stored. Raises `TurnInProgress`, `ClientIdConflict`.
        """
        message = {"role": "user", "content": content, "client_id": client_id, "parent_id": parent_id, **fields}
        return operations.ask(self._units, TurnRequest(conversation_id, SEND, message, key=idempotency_key), wait=wait)

    def regenerate(
        self,
        conversation_id: str,
        message_id: str | None = None,
        *,
        idempotency_key: str | None = None,
        wait: bool = True,
    ) -> TurnOutcome:
        """Have a question answered again, as a sibling of the existing answers. *message_id* is an answer, or the question.

        Its default is the newest message of the active branch. Raises `MessageNotFound`, `NoResponder`.
        """
        request = TurnRequest(conversation_id, REGENERATE, message_id=message_id, key=idempotency_key)
        return operations.ask(self._units, request, wait=wait)

    def edit_question(
        self,
        /,
        conversation_id: str,
        message_id: str,
        content: str | Sequence[Any],
        *,
        client_id: str | None = None,
        idempotency_key: str | None = None,
        wait: bool = True,
        **fields: Unpack[MessageFields],
    ) -> TurnOutcome:
        """Edit a question as a sibling of the first one, and have it answered. The earlier messages stay on their own branch."""
        message = {"role": "user", "content": content, "client_id": client_id, **fields}
        request = TurnRequest(conversation_id, EDIT, message, message_id=message_id, key=idempotency_key)
        return operations.ask(self._units, request, wait=wait)

    def approve_tools(
        self,
        conversation_id: str,
        tool_call_ids: Sequence[str],
        approved: bool = True,
        *,
        message_id: str | None = None,
        idempotency_key: str | None = None,
        wait: bool = True,
    ) -> TurnOutcome:
        """Approve tool calls, or deny them. Once all pending calls are decided, the responder goes on, once.

        With *message_id* only calls of that answer are decided: a model may repeat the ids in another answer. Raises
        `ToolCallNotFound`, and `ToolCallSettled` for a decided call; then nothing is changed.
        """
        return operations.approve_tools(
            self._units,
            conversation_id,
            tool_call_ids,
            approved,
            message_id=message_id,
            idempotency_key=idempotency_key,
            wait=wait,
        )

    def cancel(self, conversation_id: str) -> Turn | None:
        """End the active turn, keep its answer so far, and return the turn; None if there is none."""
        return cast("Turn | None", operations.cancel(self._units, conversation_id).result)

    def get_state(self, conversation_id: str, *, limit: int = 50) -> State:
        """The data for a page of a conversation: its newest messages, the state of its turn, and the pending approvals."""
        return views.get_state(self._units, conversation_id, limit)

    def follow(self, conversation_id: str, turn_id: str, position: int = 0, *, calls: Sequence[str] = ()) -> Follower:
        """The events of a turn behind *position*, until it ends or waits for an approval; None after a while without events.

        With *calls*, the ids of tool calls, the events behind the decision about them.
        """
        return operations.follow(self._units, conversation_id, turn_id, position, calls=calls)

    def turn(
        self,
        /,
        conversation_id: str,
        content: str | Sequence[Any],
        *,
        client_id: str | None = None,
        **fields: Unpack[MessageFields],
    ) -> HostTurn:
        """A turn that the caller answers: `with service.turn(id, question) as turn: turn.reply(ask(turn.history))`.

        The question is committed now, and no other turn runs in this conversation until the block is left.
        """
        message = {"role": "user", "content": content, "client_id": client_id, **fields}
        return operations.host_turn(self._units, conversation_id, message)

    def record_stream(self, /, conversation_id: str, chunks: Any, **fields: Any) -> Iterator[str]:
        """Store an answer that the caller's model streams as *chunks*, and yield its text for the client.

        *chunks* are texts and events of `flask_conversations.turns`, from an iterable or an async one. They are read in a
        separate thread, without the caller's contexts: a client that disconnects does not end the answer. *fields* are further
        members of the message, as `model` and `usage`. Raises `ValidationFailed` before the turn begins.
        """
        return operations.record_stream(self._units, conversation_id, chunks, fields)

    def recover(self, limit: int = 100) -> int:
        """End the turns whose worker is dead, and return their number. As the system it covers all users."""
        return recovery.recover(self._units, limit)

    # -- branches, transactions and coroutines

    @property
    def branches(self) -> Branches:
        """The branches of a conversation: `create`, `list`, `switch`, `delete`."""
        return Branches(self._units)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[ConversationService]:
        """Group calls: all are committed together at the end, or none if the block raises.

        The group belongs to the session, and so to the thread and app context that opened it: don't `yield` out of it.
        """
        with self._units.group():
            yield self

    @contextlib.contextmanager
    def joined(self) -> Iterator[ConversationService]:
        """Calls inside only flush; the host commits, and signals follow its commit."""
        with self._units.joined():
            yield self

    @property
    def aio(self) -> AsyncConversationService:
        """The same calls as coroutines."""
        return AsyncConversationService(ConversationService(self._units.own))


class Branches:
    """The operations on branches: `service.branches`."""

    def __init__(self, units: Units) -> None:
        self._units = units

    def create(self, conversation_id: str, from_message_id: str, name: str | None = None) -> Branch:
        """Name the path that ends with a message; the active branch stays active.

        *name* is `branch-2`, `branch-3`, ... if not given. Raises `BranchExists`, `ValidationFailed`, `ConversationNotFound`.
        """
        return self._units.write_as("create_branch", branches.create, conversation_id, from_message_id, name)

    def list(self, conversation_id: str, *, min_version: int | None = None) -> BranchList:
        """All branches of a conversation, `main` first, then by age. Raises `ConversationNotFound`."""
        return self._units.read_as("list_branches", branches.list_all, conversation_id, min_version=min_version)

    def switch(self, conversation_id: str, name: str) -> Conversation:
        """Make a branch active: it is read, and the next message is appended to it.

        *name* may also be a message id: then the active branch keeps its name, and shows the newest path through that message.
        No message is lost either way. Raises `BranchNotFound`, `ConversationNotFound`.
        """
        return self._units.write_as("switch_branch", branches.switch, conversation_id, name)

    def delete(self, conversation_id: str, name: str) -> Branch:
        """Delete the name of a branch, and return the branch; its messages stay.

        Raises `BranchInUse` for `main` and for the active branch, `BranchNotFound`, `ConversationNotFound`.
        """
        return self._units.write_as("delete_branch", branches.delete, conversation_id, name)


def _coroutine(verb: Callable[Concatenate[N, P], R]) -> Callable[Concatenate[_Async[N], P], Coroutine[Any, Any, R]]:
    """*verb* as a coroutine that runs it in a thread."""

    @functools.wraps(verb)
    async def coroutine(self: _Async[N], *args: P.args, **kwargs: P.kwargs) -> R:
        call = functools.partial(verb, self._target, *args, **kwargs)
        return await asyncio.to_thread(run_without_group, call)

    return cast("Callable[Concatenate[_Async[N], P], Coroutine[Any, Any, R]]", coroutine)


class _Async(Generic[N]):
    """The calls of a service object as coroutines."""

    def __init__(self, target: N) -> None:
        self._target = target


class AsyncBranches(_Async[Branches]):
    """The calls of `service.branches` as coroutines: `service.aio.branches`."""

    create = _coroutine(Branches.create)
    list = _coroutine(Branches.list)
    switch = _coroutine(Branches.switch)
    delete = _coroutine(Branches.delete)


class AsyncConversationService(_Async[ConversationService]):
    """The calls of the service as coroutines: each runs in a thread, with its own app context and session.

    `transaction` and `joined` are missing: a group belongs to one session.
    """

    @property
    def branches(self) -> AsyncBranches:
        """The branches of a conversation."""
        return AsyncBranches(self._target.branches)

    create_conversation = _coroutine(ConversationService.create_conversation)
    get_conversation = _coroutine(ConversationService.get_conversation)
    lock_conversation = _coroutine(ConversationService.lock_conversation)
    conversation_exists = _coroutine(ConversationService.conversation_exists)
    list_conversations = _coroutine(ConversationService.list_conversations)
    update_conversation = _coroutine(ConversationService.update_conversation)
    archive_conversation = _coroutine(ConversationService.archive_conversation)
    unarchive_conversation = _coroutine(ConversationService.unarchive_conversation)
    resolve_conversation = _coroutine(ConversationService.resolve_conversation)
    restore_conversation = _coroutine(ConversationService.restore_conversation)
    delete_conversation = _coroutine(ConversationService.delete_conversation)
    fork_conversation = _coroutine(ConversationService.fork_conversation)
    claim = _coroutine(ConversationService.claim)
    prune = _coroutine(ConversationService.prune)
    load_conversations = _coroutine(ConversationService.load_conversations)
    save_conversation = _coroutine(ConversationService.save_conversation)
    replace_messages = _coroutine(ConversationService.replace_messages)
    save_message = _coroutine(ConversationService.save_message)
    save_messages = _coroutine(ConversationService.save_messages)
    get_conversation_history = _coroutine(ConversationService.get_conversation_history)
    get_system_prompt = _coroutine(ConversationService.get_system_prompt)
    get_messages = _coroutine(ConversationService.get_messages)
    get_message = _coroutine(ConversationService.get_message)
    update_message = _coroutine(ConversationService.update_message)
    rate_message = _coroutine(ConversationService.rate_message)
    delete_message = _coroutine(ConversationService.delete_message)
    pop_message = _coroutine(ConversationService.pop_message)
    clear_conversation = _coroutine(ConversationService.clear_conversation)
    summarize = _coroutine(ConversationService.summarize)
    send_message = _coroutine(ConversationService.send_message)
    regenerate = _coroutine(ConversationService.regenerate)
    edit_question = _coroutine(ConversationService.edit_question)
    approve_tools = _coroutine(ConversationService.approve_tools)
    cancel = _coroutine(ConversationService.cancel)
    get_state = _coroutine(ConversationService.get_state)
    follow = _coroutine(ConversationService.follow)
    turn = _coroutine(ConversationService.turn)
    record_stream = _coroutine(ConversationService.record_stream)
    recover = _coroutine(ConversationService.recover)
