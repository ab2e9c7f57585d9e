"""Signals: sent once, after the commit, with what is stored, and never for what was rolled back."""

from __future__ import annotations

import contextlib
import logging

import pytest

from flask_conversations import signals
from flask_conversations.errors import ConversationsError, NotFound

from .tools import check, contents, everything, failing, in_use

NAMES = (
    "conversation_created",
    "conversation_updated",
    "conversation_deleted",
    "message_saved",
    "message_updated",
    "message_deleted",
)


@pytest.fixture
def heard(app):
    """What was sent: (name, payload) in order."""
    found = []
    with contextlib.ExitStack() as stack:
        for name in NAMES:

            def receive(sender, name=name, **payload):
                assert sender is app
                found.append((name, payload))

            stack.enter_context(getattr(signals, name).connected_to(receive, sender=app))
        yield found


def names(heard):
    return [name for name, _ in heard]


def test_every_change_is_told_once(ada, bob, heard):
    """Each verb sends its signal, with the identity and the noun as the service returned it."""
    expected = []

    def told(name, **payload):
        expected.append((name, {"identity": ada.identity, **payload}))

    chat = ada.create_conversation("T")
    told("conversation_created", conversation=chat)
    told("conversation_updated", conversation=ada.update_conversation(chat["id"], title="U"))
    told("conversation_updated", conversation=ada.archive_conversation(chat["id"]))
    told("message_saved", message=(first := ada.save_message(chat["id"], "user", "a")))
    for message in ada.save_messages(chat["id"], [{"role": "user", "content": c} for c in "bc"]):
        told("message_saved", message=message)
    told("message_updated", message=ada.update_message(chat["id"], first["id"], content="A"))
    told("message_updated", message=ada.rate_message(chat["id"], first["id"], "up"))
    told("message_deleted", message=ada.delete_message(chat["id"], first["id"]))
    told("message_deleted", message=ada.pop_message(chat["id"]))
    ada.clear_conversation(chat["id"])
    before = ada.get_conversation(chat["id"])
    told("conversation_updated", conversation=before)
    ada.delete_conversation(chat["id"])
    told("conversation_deleted", conversation=before, permanent=False)
    told("conversation_updated", conversation=(before := ada.restore_conversation(chat["id"])))
    ada.delete_conversation(chat["id"], permanent=True)
    told("conversation_deleted", conversation=before, permanent=True)
    assert heard == expected


def test_what_changes_nothing_is_not_told(ada, bob, heard):
    """Reads, replays, repeated moves, refusals and misses send nothing."""
    chat = ada.create_conversation(id="c-1")
    ada.save_message(chat["id"], "user", "a", client_id="k")
    heard.clear()
    ada.create_conversation(id="c-1")
    ada.save_message(chat["id"], "user", "a", client_id="k")
    ada.unarchive_conversation(chat["id"])
    ada.restore_conversation(chat["id"])
    ada.update_conversation(chat["id"])
    ada.update_message(chat["id"], "k")
    ada.save_conversation({"id": "c-1"})
    ada.replace_messages(chat["id"], everything(ada, chat["id"]))
    everything(ada, chat["id"])
    assert bob.delete_conversation(chat["id"]) is False
    for call in (
        lambda: bob.save_message(chat["id"], "user", "x"),
        lambda: ada.save_message(chat["id"], "boss", "x"),
        lambda: ada.delete_message(chat["id"], "zz"),
    ):
        with pytest.raises(ConversationsError):
            call()
    assert heard == []


def test_what_is_told_is_what_is_stored(ada, heard):
    """A snapshot or replacement tells each new message as it can be read, and the conversation once, as it is now."""
    chat = ada.create_conversation("T", messages=[{"role": "user", "content": c} for c in "abc"])
    heard.clear()
    a, b, c = everything(ada, chat["id"])
    ada.save_conversation(
        {"id": chat["id"], "title": "U", "messages": [a, {**b, "content": "B"}, c, {"role": "user", "content": "d"}]}
    )
    told = [payload["message"] for name, payload in heard if name == "message_saved"]
    assert told == everything(ada, chat["id"])[-1:]
    assert [p["conversation"] for name, p in heard if name == "conversation_updated"] == [check(ada, chat["id"])]
    heard.clear()
    ada.replace_messages(chat["id"], [{"role": "user", "content": c} for c in "axy"])
    told = [payload["message"] for name, payload in heard if name == "message_saved"]
    assert told == everything(ada, chat["id"])[-2:]


def test_never_before_the_commit(app, ada, bob, heard):
    """While a group runs nothing is told; when it is committed, everything in order, and others can see it."""
    with ada.transaction():
        chat = ada.create_conversation()
        ada.save_message(chat["id"], "user", "a")
        assert heard == []
    assert names(heard) == ["conversation_created", "message_saved"]


def test_a_receiver_sees_what_was_committed(app, conversations, ada):
    """When the signal comes, another connection can read the message."""
    seen = []

    def receive(sender, message, **_):
        seen.append([contents(conversations.as_user("ada", app=app), message["conversation_id"]), in_use(app)])

    chat = ada.create_conversation()
    with signals.message_saved.connected_to(receive, sender=app):
        ada.save_message(chat["id"], "user", "a")
    assert seen == [[["a"], 0]]


def test_never_on_rollback(app, ada, heard):
    """A group that fails tells nothing, then or later."""
    chat = ada.create_conversation()
    heard.clear()
    with failing(ada.transaction()):
        ada.save_message(chat["id"], "user", "a")
    ada.save_message(chat["id"], "user", "b")
    assert [payload["message"]["content"] for _, payload in heard] == ["b"]
    assert contents(ada, chat["id"]) == ["b"]


def test_a_rolled_back_savepoint_drops_its_signals(app, conversations, heard):
    """What a savepoint of the host undoes is not told; what surrounds it is, once the outermost transaction commits."""
    session = app.db.session
    with app.app_context():
        ada = conversations.as_user("ada")
        with ada.transaction():
            chat = ada.create_conversation("outer")
            with failing(session.begin_nested()):
                ada.save_message(chat["id"], "user", "undone")
            with session.begin_nested():
                ada.save_message(chat["id"], "user", "kept")
            assert heard == []
        assert names(heard) == ["conversation_created", "message_saved"]
        assert heard[1][1]["message"]["content"] == "kept"
        assert contents(ada, chat["id"]) == ["kept"]


def test_a_failed_call_in_a_group_tells_nothing(ada, heard):
    """A call that raises inside a group is undone alone, and so are its signals."""
    with ada.transaction():
        chat = ada.create_conversation()
        with pytest.raises(NotFound):
            ada.save_message("missing", "user", "x")
        ada.save_message(chat["id"], "user", "y")
    assert names(heard) == ["conversation_created", "message_saved"]


def test_joined_signals_follow_the_hosts_commit(app, conversations, heard):
    """In joined mode the host's commit sends, the host's rollback forgets."""
    session = app.db.session
    with app.app_context():
        ada = conversations.as_user("ada")
        with ada.joined():
            ada.create_conversation("forgotten")
            session.rollback()
            chat = ada.create_conversation("kept")
            assert heard == []
            session.commit()
        assert [payload["conversation"] for _, payload in heard] == [chat]
        assert [one["title"] for one in ada.list_conversations()["conversations"]] == ["kept"]


def test_a_receiver_may_write(app, conversations, ada, heard):
    """A receiver can use the service, on the same session too; what it does is committed and told."""

    def answer(sender, message, identity, **_):
        if message["role"] == "user":
            conversations.as_user(identity).save_message(message["conversation_id"], "assistant", "answer")

    chat = ada.create_conversation()
    with signals.message_saved.connected_to(answer, sender=app):
        ada.save_message(chat["id"], "user", "question")
    assert contents(ada, chat["id"]) == ["question", "answer"]
    assert [p["message"]["role"] for name, p in heard if name == "message_saved"] in (
        ["user", "assistant"],
        ["assistant", "user"],
    )
    assert in_use(app) == 0
    check(ada, chat["id"])


def test_a_receivers_error_is_logged_and_harmless(app, ada, bob, caplog, subtests):
    """What a receiver raises costs neither the message nor the other signals, and stands in the log."""
    heard = []

    def note(sender, **_):
        heard.append(1)

    for error in (ZeroDivisionError("receiver"), NotFound("receiver"), ValueError("receiver")):

        def fail(sender, error=error, **_):
            raise error

        with subtests.test(type(error).__name__):
            heard.clear()
            caplog.clear()
            chat = ada.create_conversation()
            with (
                signals.message_saved.connected_to(fail, sender=app),
                signals.conversation_updated.connected_to(note, sender=app),
                caplog.at_level(logging.ERROR, logger="flask_conversations"),
            ):
                saved = ada.save_message(chat["id"], "user", "a")
                ada.update_conversation(chat["id"], title="T")
            assert everything(ada, chat["id"]) == [saved]
            assert heard == [1]
            assert "receiver" in caplog.text
            assert in_use(app) == 0


def test_a_receiver_that_breaks_the_session_harms_nobody(app, conversations, ada):
    """A receiver that leaves a broken transaction behind does not break the next call."""

    def vandal(sender, **_):
        app.db.session.execute(app.db.text("SELECT * FROM no_such_table"))

    chat = ada.create_conversation()
    with signals.message_saved.connected_to(vandal, sender=app), app.app_context():
        service = conversations.as_user("ada")
        service.save_message(chat["id"], "user", "a")
        app.db.session.rollback()
        service.save_message(chat["id"], "user", "b")
    assert contents(ada, chat["id"]) == ["a", "b"]
    assert in_use(app) == 0


def test_claiming_is_told(app, conversations, ada, heard):
    """A claimed conversation is told as updated, with its new owner."""
    guest = conversations.as_user("guest:1", app=app)
    chat = guest.create_conversation("T")
    heard.clear()
    ada.claim("guest:1")
    assert [(name, p["conversation"]["user_id"], p["conversation"]["id"]) for name, p in heard] == [
        ("conversation_updated", "ada", chat["id"])
    ]
