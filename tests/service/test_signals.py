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
def received(app):
    """The signals that were sent: (name, payload) in order."""
    found = []
    with contextlib.ExitStack() as stack:
        for name in NAMES:

            def receive(sender, name=name, **payload):
                assert sender is app
                found.append((name, payload))

            stack.enter_context(getattr(signals, name).connected_to(receive, sender=app))
        yield found


def names(received):
    return [name for name, _ in received]


def test_every_change_sends_one_signal(ada, bob, received):
    """Each verb sends its signal, with the identity and the noun as the service returned it."""
    expected = []

    def expect(name, **payload):
        expected.append((name, {"identity": ada.identity, **payload}))

    chat = ada.create_conversation("T")
    expect("conversation_created", conversation=chat)
    expect("conversation_updated", conversation=ada.update_conversation(chat["id"], title="U"))
    expect("conversation_updated", conversation=ada.archive_conversation(chat["id"]))
    expect("message_saved", message=(first := ada.save_message(chat["id"], "user", "a")))
    for message in ada.save_messages(chat["id"], [{"role": "user", "content": c} for c in "bc"]):
        expect("message_saved", message=message)
    expect("message_updated", message=ada.update_message(chat["id"], first["id"], content="A"))
    expect("message_updated", message=ada.rate_message(chat["id"], first["id"], "up"))
    expect("message_deleted", message=ada.delete_message(chat["id"], first["id"]))
    expect("message_deleted", message=ada.pop_message(chat["id"]))
    ada.clear_conversation(chat["id"])
    before = ada.get_conversation(chat["id"])
    expect("conversation_updated", conversation=before)
    ada.delete_conversation(chat["id"])
    expect("conversation_deleted", conversation=before, permanent=False)
    expect("conversation_updated", conversation=(before := ada.restore_conversation(chat["id"])))
    ada.delete_conversation(chat["id"], permanent=True)
    expect("conversation_deleted", conversation=before, permanent=True)
    assert received == expected


def test_calls_that_change_nothing_send_no_signal(ada, bob, received):
    """Reads, replays, repeated moves, refusals and misses send nothing."""
    chat = ada.create_conversation(id="c-1")
    ada.save_message(chat["id"], "user", "a", client_id="k")
    received.clear()
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
    assert received == []


def test_payloads_are_as_stored(ada, received):
    """A snapshot or replacement sends each new message as it can be read, and the conversation once, as it is now."""
    chat = ada.create_conversation("T", messages=[{"role": "user", "content": c} for c in "abc"])
    received.clear()
    a, b, c = everything(ada, chat["id"])
    ada.save_conversation(
        {"id": chat["id"], "title": "U", "messages": [a, {**b, "content": "B"}, c, {"role": "user", "content": "d"}]}
    )
    saved = [payload["message"] for name, payload in received if name == "message_saved"]
    assert saved == everything(ada, chat["id"])[-1:]
    assert [p["conversation"] for name, p in received if name == "conversation_updated"] == [check(ada, chat["id"])]
    received.clear()
    ada.replace_messages(chat["id"], [{"role": "user", "content": c} for c in "axy"])
    saved = [payload["message"] for name, payload in received if name == "message_saved"]
    assert saved == everything(ada, chat["id"])[-2:]


def test_never_before_the_commit(app, ada, bob, received):
    """While a group runs no signal is sent; when it is committed, everything in order, and others can see it."""
    with ada.transaction():
        chat = ada.create_conversation()
        ada.save_message(chat["id"], "user", "a")
        assert received == []
    assert names(received) == ["conversation_created", "message_saved"]


def test_a_receiver_sees_what_was_committed(app, conversations, ada):
    """When the signal comes, another connection can read the message."""
    seen = []

    def receive(sender, message, **_):
        seen.append([contents(conversations.as_user("ada", app=app), message["conversation_id"]), in_use(app)])

    chat = ada.create_conversation()
    with signals.message_saved.connected_to(receive, sender=app):
        ada.save_message(chat["id"], "user", "a")
    assert seen == [[["a"], 0]]


def test_never_on_rollback(app, ada, received):
    """A group that fails sends nothing, then or later."""
    chat = ada.create_conversation()
    received.clear()
    with failing(ada.transaction()):
        ada.save_message(chat["id"], "user", "a")
    ada.save_message(chat["id"], "user", "b")
    assert [payload["message"]["content"] for _, payload in received] == ["b"]
    assert contents(ada, chat["id"]) == ["b"]


def test_a_rolled_back_savepoint_drops_its_signals(app, conversations, received):
    """Changes that a savepoint of the host undoes send no signal; those around it do, once the outermost transaction commits."""
    session = app.db.session
    with app.app_context():
        ada = conversations.as_user("ada")
        with ada.transaction():
            chat = ada.create_conversation("outer")
            with failing(session.begin_nested()):
                ada.save_message(chat["id"], "user", "undone")
            with session.begin_nested():
                ada.save_message(chat["id"], "user", "kept")
            assert received == []
        assert names(received) == ["conversation_created", "message_saved"]
        assert received[1][1]["message"]["content"] == "kept"
        assert contents(ada, chat["id"]) == ["kept"]


def test_a_failed_call_in_a_group_sends_nothing(ada, received):
    """A call that raises inside a group is undone alone, and so are its signals."""
    with ada.transaction():
        chat = ada.create_conversation()
        with pytest.raises(NotFound):
            ada.save_message("missing", "user", "x")
        ada.save_message(chat["id"], "user", "y")
    assert names(received) == ["conversation_created", "message_saved"]


def test_joined_signals_follow_the_hosts_commit(app, conversations, received):
    """In joined mode the host's commit sends, the host's rollback forgets."""
    session = app.db.session
    with app.app_context():
        ada = conversations.as_user("ada")
        with ada.joined():
            ada.create_conversation("forgotten")
            session.rollback()
            chat = ada.create_conversation("kept")
            assert received == []
            session.commit()
        assert [payload["conversation"] for _, payload in received] == [chat]
        assert [one["title"] for one in ada.list_conversations()["conversations"]] == ["kept"]


def test_a_receiver_may_write(app, conversations, ada, received):
    """A receiver can use the service, on the same session too; its changes are committed and send signals."""

    def answer(sender, message, identity, **_):
        if message["role"] == "user":
            conversations.as_user(identity).save_message(message["conversation_id"], "assistant", "answer")

    chat = ada.create_conversation()
    with signals.message_saved.connected_to(answer, sender=app):
        ada.save_message(chat["id"], "user", "question")
    assert contents(ada, chat["id"]) == ["question", "answer"]
    assert [p["message"]["role"] for name, p in received if name == "message_saved"] in (
        ["user", "assistant"],
        ["assistant", "user"],
    )
    assert in_use(app) == 0
    check(ada, chat["id"])


def test_a_receivers_error_is_logged_and_harmless(app, ada, bob, caplog, subtests):
    """What a receiver raises costs neither the message nor the other signals, and stands in the log."""
    received = []

    def note(sender, **_):
        received.append(1)

    for error in (ZeroDivisionError("receiver"), NotFound("receiver"), ValueError("receiver")):

        def fail(sender, error=error, **_):
            raise error

        with subtests.test(type(error).__name__):
            received.clear()
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
            assert received == [1]
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


def test_claiming_sends_a_signal(app, conversations, ada, received):
    """A claimed conversation sends `conversation_updated`, with its new owner."""
    guest = conversations.as_user("guest:1", app=app)
    chat = guest.create_conversation("T")
    received.clear()
    ada.claim("guest:1")
    assert [(name, p["conversation"]["user_id"], p["conversation"]["id"]) for name, p in received] == [
        ("conversation_updated", "ada", chat["id"])
    ]
