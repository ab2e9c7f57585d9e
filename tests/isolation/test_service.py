"""The same isolation below HTTP: no verb of the service does anything for a stranger, from any caller and any place."""

from __future__ import annotations

import asyncio
import datetime as dt
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from flask import g

from flask_conversations import current_conversations
from flask_conversations.errors import ConversationsError, IdentityRequired
from flask_conversations.identity import Identity
from flask_conversations.service import Branches, ConversationService, http

from ..infra.service import units_of as units
from .declared import STATES, on_each_database
from .world import IDENTITIES, MARKER, Target, World, client_of, settings

MESSAGE = {"role": "user", "content": "taken over"}

Verb = Callable[[Any, Target], Any]
MISSING: dict[str, Verb] = {
    "get_conversation": lambda s, at: s.get_conversation(at.conversation),
    "lock_conversation": lambda s, at: s.lock_conversation(at.conversation),
    "update_conversation": lambda s, at: s.update_conversation(at.conversation, title="taken over"),
    "update_conversation with nothing": lambda s, at: s.update_conversation(at.conversation),
    "archive_conversation": lambda s, at: s.archive_conversation(at.conversation),
    "unarchive_conversation": lambda s, at: s.unarchive_conversation(at.conversation),
    "resolve_conversation": lambda s, at: s.resolve_conversation(at.conversation),
    "restore_conversation": lambda s, at: s.restore_conversation(at.conversation),
    "clear_conversation": lambda s, at: s.clear_conversation(at.conversation),
    "save_message": lambda s, at: s.save_message(at.conversation, "user", "taken over"),
    "save_message with a parent": lambda s, at: s.save_message(at.conversation, "user", "x", parent_id=at.message),
    "save_message with a client id": lambda s, at: s.save_message(at.conversation, "user", MARKER, client_id="k"),
    "save_messages": lambda s, at: s.save_messages(at.conversation, [MESSAGE]),
    "save_messages of none": lambda s, at: s.save_messages(at.conversation, []),
    "replace_messages": lambda s, at: s.replace_messages(at.conversation, [MESSAGE]),
    "get_conversation_history": lambda s, at: s.get_conversation_history(at.conversation),
    "get_system_prompt": lambda s, at: s.get_system_prompt(at.conversation),
    "get_messages": lambda s, at: s.get_messages(at.conversation),
    "get_messages before a message": lambda s, at: s.get_messages(at.conversation, before=at.message),
    "get_message": lambda s, at: s.get_message(at.conversation, at.message),
    "update_message": lambda s, at: s.update_message(at.conversation, at.message, content="taken over"),
    "rate_message": lambda s, at: s.rate_message(at.conversation, at.message, "up"),
    "delete_message": lambda s, at: s.delete_message(at.conversation, at.message),
    "pop_message": lambda s, at: s.pop_message(at.conversation),
    "get_messages of a branch": lambda s, at: s.get_messages(at.conversation, branch="main"),
    "get_messages of no branch": lambda s, at: s.get_messages(at.conversation, branch="nowhere"),
    "get_messages with siblings": lambda s, at: s.get_messages(at.conversation, siblings=True),
    "fork_conversation": lambda s, at: s.fork_conversation(at.conversation),
    "fork_conversation at a message": lambda s, at: s.fork_conversation(at.conversation, at.message),
    "branches.list": lambda s, at: s.branches.list(at.conversation),
    "branches.create": lambda s, at: s.branches.create(at.conversation, at.message),
    "branches.create of no message": lambda s, at: s.branches.create(at.conversation, "nowhere", "taken over"),
    "branches.switch": lambda s, at: s.branches.switch(at.conversation, "main"),
    "branches.switch to a message": lambda s, at: s.branches.switch(at.conversation, at.message),
    "branches.delete": lambda s, at: s.branches.delete(at.conversation, MARKER),
    "branches.delete of main": lambda s, at: s.branches.delete(at.conversation, "main"),
    "send_message": lambda s, at: s.send_message(at.conversation, "taken over"),
    "edit_question": lambda s, at: s.edit_question(at.conversation, at.message, "taken over"),
    "regenerate": lambda s, at: s.regenerate(at.conversation),
    "regenerate an answer": lambda s, at: s.regenerate(at.conversation, at.message),
    "approve_tools": lambda s, at: s.approve_tools(at.conversation, ["call"]),
    "cancel": lambda s, at: s.cancel(at.conversation),
    "get_state": lambda s, at: s.get_state(at.conversation),
    "http.save_message": lambda s, at: http.save_message(units(s), at.conversation, MESSAGE),
    "http.save_snapshot": lambda s, at: http.save_snapshot(
        units(s),
        {"id": at.conversation, "messages": [MESSAGE]},
        base_version=None,
        force_overwrite=False,
        refuse_conflicts=False,
        roles=None,
    ),
    "http.get_messages": lambda s, at: http.get_messages(units(s), at.conversation),
    "http.get_ui_messages": lambda s, at: http.get_ui_messages(units(s), at.conversation),
    "http.state_etag": lambda s, at: http.state_etag(units(s), at.conversation),
    "http.check_conversation": lambda s, at: http.check_conversation(units(s), at.conversation),
    "http.current_turn": lambda s, at: http.current_turn(units(s), at.conversation),
    "http.ask": lambda s, at: http.ask(units(s), at.conversation, "send", message=MESSAGE),
    "http.cancel": lambda s, at: http.cancel(units(s), at.conversation, ("key", "mark")),
    "http.turn_to_resume": lambda s, at: http.turn_to_resume(units(s), at.conversation, at.message, 0),
    "http.unanswered_question": lambda s, at: http.unanswered_question(units(s), at.conversation, at.message),
    "http.follow": lambda s, at: http.follow(units(s), at.conversation, at.message),
    "follow": lambda s, at: s.follow(at.conversation, at.message),
    "turn": lambda s, at: s.turn(at.conversation, "taken over"),
    "record_stream": lambda s, at: s.record_stream(at.conversation, ["taken over"]),
    "summarize": lambda s, at: s.summarize(at.conversation, "taken over"),
    "summarize up to a message": lambda s, at: s.summarize(at.conversation, "x", up_to_message_id=at.message),
}
"""Raise `ConversationNotFound` for what is another's and for what is not there."""

FALSE: dict[str, Verb] = {
    "conversation_exists": lambda s, at: s.conversation_exists(at.conversation),
    "delete_conversation": lambda s, at: s.delete_conversation(at.conversation),
    "delete_conversation for good": lambda s, at: s.delete_conversation(at.conversation, permanent=True),
}
"""Return False for both."""

TAKEN: dict[str, Verb] = {
    "create_conversation": lambda s, at: s.create_conversation(id=at.conversation),
    "http.create_conversation": lambda s, at: http.create_conversation(units(s), id=at.conversation),
    "save_conversation": lambda s, at: s.save_conversation({"id": at.conversation, "messages": [MESSAGE]}),
    "save_conversation by force": lambda s, at: s.save_conversation({"id": at.conversation}, force_overwrite=True),
}
"""Raise `ClientIdConflict` for an id that is another's, and create what is free."""

OWN: dict[str, Verb] = {
    "list_conversations": lambda s, at: [s.list_conversations(status=one) for one in ("active", "deleted", "all")],
    "load_conversations": lambda s, at: [s.load_conversations(status=one) for one in ("active", "deleted", "all")],
    "prune": lambda s, at: s.prune(),
    "recover": lambda s, at: s.recover(),
    "http.answer_once": lambda s, at: http.answer_once(units(s), SCOPE, "owners-key", "f", lambda: {"n": 1}),
}
"""Take no id: they see and touch what is the caller's own."""

NO_VERBS = {
    "aio": "the same verbs as coroutines",
    "identity": "who asks",
    "transaction": "groups verbs",
    "joined": "groups verbs",
    "branches": "a noun, whose verbs are declared",
    "claim": "has tests of its own: below, and in tests/rest",
}
"""What a stranger could not name anything with, and why."""

SCOPE = "POST create_conversation"

FREE = ("gone", "never", "key", "same")
"""Ids that a stranger may take: they are unused, or were the owner's name for something."""


def test_every_verb_is_declared():
    """A new public verb of the service fails until it is said here what a stranger gets."""
    verbs = {name for name in dir(ConversationService) if not name.startswith("_")}
    verbs |= {f"branches.{name}" for name in vars(Branches) if not name.startswith("_")}
    verbs |= {
        f"http.{name}"
        for name, one in vars(http).items()
        if inspect.isfunction(one) and one.__module__ == http.__name__ and name[0] != "_"
    }
    declared = {name.split(" ")[0] for name in (*MISSING, *FALSE, *TAKEN, *OWN)} | set(NO_VERBS)
    assert verbs - declared == set(), "declare these in tests/isolation/test_service.py"
    assert declared - verbs == set(), "these are no more"


@pytest.fixture
def world(make_app):
    return lambda caller, status=404: overdue(World(make_app(**settings(status)), caller))


def overdue(world: World) -> World:
    """Let the trash and what is temporary be so old that a prune of everything would remove Ada's too."""
    table = world.app.extensions["flask_conversations"].models.Conversation.__table__
    long_ago = dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)
    with world.app.app_context(), world.app.db.engine.begin() as connection:
        connection.execute(sa.update(table).where(table.c.status == "deleted").values(deleted_at=long_ago))
        connection.execute(sa.update(table).where(table.c.temporary).values(updated_at=long_ago))
    return world


def outcome(verb: Verb, service: Any, target: Target) -> Any:
    """What a verb does, in a form that can be compared: its result, or all that its error says."""
    try:
        return verb(service, target)
    except ConversationsError as error:
        return type(error).__name__, error.status, error.code, error.detail, error.args, vars(error)


@on_each_database(IDENTITIES)
def test_no_verb_finds_what_is_anothers(world, caller):
    """The errors for foreign and for missing are the same, and no row changes."""
    it = world(caller)
    stranger, before = it.service(IDENTITIES[caller]), it.digest()
    for name, verb in {**MISSING, **FALSE}.items():
        found = {state: outcome(verb, stranger, it.standing[state]) for state in STATES if state not in it.own}
        wanted = False if name in FALSE else found["never"]
        assert found == dict.fromkeys(found, wanted), name
        assert wanted is False or wanted[0] == "ConversationNotFound", name
        assert it.digest() == before, name


@on_each_database(IDENTITIES)
def test_no_verb_takes_what_is_anothers(world, caller):
    """An id that is taken is refused with words that fit every id; a free one is free."""
    it = world(caller)
    stranger, before = it.service(IDENTITIES[caller]), it.digest()
    for name, verb in TAKEN.items():
        for state in STATES:
            if state in FREE or state in it.own or state == "odd":
                continue
            found = outcome(verb, stranger, it.standing[state])
            assert found[:4] == ("ClientIdConflict", 409, "client_id_conflict", "This id cannot be used."), (
                name,
                state,
            )
            assert it.digest() == before, (name, state)
        for state in FREE:
            at = it.fresh(state) if state != "same" else it.standing["key"]
            outcome(verb, stranger, at)
            assert stranger.get_conversation(at.conversation)["user_id"] == stranger.identity.user_id
            stranger.delete_conversation(at.conversation, permanent=True)
        it.purge()
        assert it.digest() == before, name


@on_each_database(IDENTITIES)
def test_verbs_without_an_id_see_only_ones_own(world, caller):
    """Lists show nothing of Ada's, pruning removes nothing of hers, and her idempotency keys are not the stranger's."""
    it = world(caller)
    http.answer_once(units(it.ada), SCOPE, "owners-key", "f", lambda: {"told": MARKER})
    stranger, before = it.service(IDENTITIES[caller]), it.digest(only_of=it.ada.identity)
    for name, verb in OWN.items():
        assert MARKER not in repr(outcome(verb, stranger, it.standing["full"])), name
        assert it.digest(only_of=it.ada.identity) == before, name


@on_each_database(IDENTITIES)
def test_anothers_message_is_no_message_of_ones_own_conversation(world, caller):
    """A foreign message id inside one's own conversation names nothing, for reading, changing, and as a parent."""
    it = world(caller)
    stranger, before = it.service(IDENTITIES[caller]), it.digest()
    for name in ("get_message", "update_message", "rate_message", "delete_message"):
        assert outcome(MISSING[name], stranger, it.own["mixed"])[0] == "MessageNotFound", name
    for name in ("save_message with a parent", "get_messages before a message", "summarize up to a message"):
        assert outcome(MISSING[name], stranger, it.own["mixed"])[0] == "ValidationFailed", name
    for name in ("branches.create", "fork_conversation at a message"):
        assert outcome(MISSING[name], stranger, it.own["mixed"])[0] == "ValidationFailed", name
    assert outcome(MISSING["branches.switch to a message"], stranger, it.own["mixed"])[0] == "BranchNotFound"
    assert it.digest() == before


@pytest.mark.parametrize("caller", ["colleague in the same organisation", "guest"])
def test_with_403_it_is_admitted_that_it_is_there(world, caller):
    """`CONVERSATIONS_FOREIGN_STATUS = 403`: `Forbidden` for what its owner sees under its id, nothing else differs."""
    it = world(caller, 403)
    stranger, before = it.service(IDENTITIES[caller]), it.digest()
    hidden = ("trash", "gone", "never", "key", "same", "odd")
    for name, verb in MISSING.items():
        for state in STATES:
            wanted = "ConversationNotFound" if state in hidden else "Forbidden"
            if state not in it.own:
                assert outcome(verb, stranger, it.standing[state])[0] == wanted, (name, state)
    assert not any(stranger.conversation_exists(target.conversation) for target in it.standing.values())
    assert it.digest() == before


def test_only_guests_can_be_claimed_and_only_by_users(world):
    """`claim` moves no user's conversations, for any caller, and a guest takes over none."""
    it = world("guest")
    guest, before = IDENTITIES["guest"], it.digest()
    for claimant, victim in [
        (Identity("bob", "acme"), "ada"),
        (guest, "ada"),
        (guest, guest.user_id),
        (guest, "guest:x"),
    ]:
        found = outcome(lambda s, _, victim=victim: s.claim(victim), it.service(claimant), it.standing["full"])
        assert found[0] == "ValidationFailed"
    assert it.service(Identity("bob", "acme")).claim("guest:somebody-else") == 0
    assert it.digest() == before


def test_a_transaction_group_does_not_widen_what_is_seen(world):
    """Two services on one session in one transaction: each still sees its own."""
    it = world("colleague in the same organisation")
    bob = it.service(IDENTITIES["colleague in the same organisation"])
    with it.app.app_context(), it.ada.transaction(), bob.transaction():
        it.ada.update_conversation(it.standing["full"].id, title="changed")
        assert not bob.conversation_exists(it.standing["full"].id)


def test_coroutines_are_the_same_verbs(world):
    """`service.aio` is the stranger too."""
    it = world("guest")
    stranger = it.service(IDENTITIES["guest"]).aio

    async def ask() -> bool:
        return await stranger.conversation_exists(it.standing["full"].id)

    assert asyncio.run(ask()) is False


def test_each_request_has_its_own_identity(world):
    """Requests of two people inside one app context, which share `g`: `current_conversations` is each one's own."""
    it = world("colleague in the same organisation")

    @it.app.get("/mine")
    def mine() -> Any:
        g.setdefault("seen", []).append(current_conversations.identity.user_id)
        return {"user": current_conversations.identity.user_id}

    ada, bob = client_of(it.app, "owner"), client_of(it.app, "colleague in the same organisation")
    with it.app.app_context():
        assert [one.get("/mine").json["user"] for one in (ada, bob, ada)] == ["ada", "bob", "ada"]
        with pytest.raises(IdentityRequired):
            current_conversations.list_conversations()


def test_the_service_of_a_person_is_not_the_requests(world):
    """`as_user` inside a request has the user that it names; `current_conversations` keeps the user of the request."""
    it = world("colleague in the same organisation")

    @it.app.get("/both")
    def both() -> Any:
        there = it.app.conversations.as_user("ada", "acme").conversation_exists(it.standing["full"].id)
        return {"ada": there, "me": current_conversations.conversation_exists(it.standing["full"].id)}

    assert client_of(it.app, "colleague in the same organisation").get("/both").json == {"ada": True, "me": False}


@pytest.mark.parametrize("user_id", ["", "  ", None, 7, True, b"ada", "a\0b", "a\nb", "\ud800", "x" * 256, ["ada"]])
def test_nobody_is_made_from_an_unsafe_id(conversations, app, user_id):
    """`as_user` refuses what cannot name one person, instead of making a service that sees too much."""
    with pytest.raises(ValueError, match="user_id"):
        conversations.as_user(user_id, app=app)


def test_an_id_made_of_two_is_neither(conversations, app):
    """User and organisation are two columns: no way of writing them together is the other person."""
    made = conversations.as_user("b", "a", app=app).create_conversation("secret")
    for user, org in [
        ("a/b", None),
        ("a b", None),
        ("ab", None),
        ("b", None),
        ("b", "A"),
        ("a", "b"),
        ("b\u200b", "a"),
    ]:
        assert not conversations.as_user(user, org, app=app).conversation_exists(made["id"]), (user, org)


def test_letters_that_look_or_sort_alike_are_others(conversations, app):
    """No database setting folds case, accents, width or Unicode forms of a user id."""
    made = conversations.as_user("ada-é", app=app).create_conversation("secret", id="own")
    for user in ("ada-e\u0301", "ADA-É", "ada-e", "ａda-é", "ada-é\u00a0"):
        service = conversations.as_user(user, app=app)
        assert not service.conversation_exists(made["id"]), user
        assert not service.conversation_exists("own"), user


def test_the_system_is_nobodys_identity(conversations, app):
    """`as_system` sees all and owns none; no user is called like it."""
    made = conversations.as_user("ada", app=app).create_conversation("secret")
    assert conversations.as_system(app=app).conversation_exists(made["id"])
    assert not conversations.as_user("(system)", app=app).conversation_exists(made["id"])
    with pytest.raises(IdentityRequired):
        conversations.as_system(app=app).create_conversation()
