"""Guards: the host's functions that may change or refuse a message before it is stored."""

from __future__ import annotations

import pytest

from flask_conversations.errors import Forbidden, ValidationFailed

from .tools import check, contents


def services(make_app, *guards, **options):
    app = make_app(options={"guards": list(guards), **options})
    return app.conversations.as_user("ada", app=app), app.conversations.as_user("bob", app=app)


def shouting(message, context):
    return {**message, "content": message["content"].upper()}


def test_a_guard_changes_what_is_stored(make_app):
    """What the guard returns is stored, titled, previewed and summed, on every way in."""
    ada, _ = services(make_app, shouting)
    chat = ada.create_conversation(messages=[{"role": "user", "content": "one"}])
    ada.save_message(chat["id"], "user", "two")
    ada.save_messages(chat["id"], [{"role": "user", "content": "three"}])
    ada.save_conversation({"id": chat["id"], "messages": [{"role": "user", "content": "four"}]})
    assert contents(ada, chat["id"]) == ["ONE", "TWO", "THREE", "FOUR"]
    found = check(ada, chat["id"])
    assert (found["title"], found["preview"]) == ("ONE", "FOUR")


def test_an_edit_is_guarded_too(make_app):
    """An edit cannot bring in what the guard would have changed or refused."""

    def careful(message, context):
        if message["content"] == "secret":
            raise ValueError("No secrets.")
        return message["content"].upper()

    ada, _ = services(make_app, careful)
    chat = ada.create_conversation()
    saved = ada.save_message(chat["id"], "user", "a")
    assert ada.update_message(chat["id"], saved["id"], content="b")["content"] == "B"
    with pytest.raises(ValidationFailed, match="content"):
        ada.update_message(chat["id"], saved["id"], content="secret")
    assert contents(ada, chat["id"]) == ["B"]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("guard", "stored"),
    [
        (lambda message: None, "hi"),
        (lambda message: True, "hi"),
        (lambda message: "other", "other"),
        (lambda message: {**message, "content": "x", "metadata": {"g": 1}}, "x"),
        (lambda message, context: message.update(content="changed in place"), "hi"),
        (lambda *both: f"{both[0]['content']}!", "hi!"),
    ],
)
def test_what_a_guard_may_answer(make_app, guard, stored):
    """None is no objection, text replaces the content, a mapping the message; what it does to its copy does not count."""
    ada, _ = services(make_app, guard)
    chat = ada.create_conversation()
    ada.save_message(chat["id"], "user", "hi")
    assert contents(ada, chat["id"]) == [stored]


def refuse(error):
    def guard(message):
        raise error

    return guard


@pytest.mark.parametrize(
    ("guard", "error"),
    [
        (lambda message: False, ValidationFailed),
        (refuse(ValueError("rude")), ValidationFailed),
        (refuse(Forbidden()), Forbidden),
        (refuse(ZeroDivisionError()), ZeroDivisionError),
        (lambda message: {**message, "content": 7}, ValidationFailed),
        (lambda message: {**message, "role": "boss"}, ValidationFailed),
        (lambda message: {**message, "nonsense": 1}, ValidationFailed),
        (lambda message: "\x00", ValidationFailed),
    ],
)
def test_a_refused_message_is_not_stored(make_app, guard, error):
    """A guard that refuses, fails, or makes a message that cannot be stored, leaves nothing behind."""
    ada, _ = services(make_app, guard)
    chat = ada.create_conversation()
    good = {"role": "user", "content": "hi"}
    for save in (
        lambda: ada.save_message(chat["id"], "user", "hi"),
        lambda: ada.save_messages(chat["id"], [good, good]),
        lambda: ada.create_conversation("other", messages=[good]),
    ):
        with pytest.raises(error):
            save()
    assert ada.get_conversation(chat["id"]) == chat
    assert len(ada.list_conversations()["conversations"]) == 1


def test_guards_follow_one_another_and_know_who_asks(make_app):
    """Guards run in order, each on the last one's answer, with the conversation and the identity."""
    seen = []

    def first(message, context):
        return message["content"] + "1"

    def second(message, context):
        seen.append((context.conversation_id, context.identity.user_id, message["content"]))
        return message["content"] + "2"

    ada, bob = services(make_app, first, second)
    hers, his = ada.create_conversation(), bob.create_conversation()
    ada.save_message(hers["id"], "user", "a")
    bob.save_message(his["id"], "user", "b")
    assert (contents(ada, hers["id"]), contents(bob, his["id"])) == (["a12"], ["b12"])
    assert seen == [(hers["id"], "ada", "a1"), (his["id"], "bob", "b1")]


def test_the_decorator_registers_a_guard_at_any_time(app, conversations, ada):
    """@conversations.guard works before and after the first message."""
    chat = ada.create_conversation()
    ada.save_message(chat["id"], "user", "before")

    @conversations.guard
    def shout(message):
        return message["content"].upper()

    ada.save_message(chat["id"], "user", "after")
    assert contents(ada, chat["id"]) == ["before", "AFTER"]


def test_a_retry_is_recognised_behind_a_guard(make_app):
    """The same client_id with the same message is a retry, although the guard changes it."""
    ada, _ = services(make_app, shouting)
    chat = ada.create_conversation()
    first = ada.save_message(chat["id"], "user", "hi", client_id="k")
    assert ada.save_message(chat["id"], "user", "hi", client_id="k") == first
