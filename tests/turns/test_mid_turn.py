"""What people do to a conversation while it is being answered: nothing breaks, nothing comes back, nothing is lost."""

from __future__ import annotations

import pytest

from flask_conversations.errors import ConfigurationError, Conflict, ConversationNotFound, NotFound
from flask_conversations.turns import ToolCall

from .tools import END, abandon, gone, is_idle, is_sound, said, tree, turns_of, until


@pytest.fixture(params=["processing", "streaming", "awaiting_approval"])
def under_way(request, app, ada, chat, led, answered):
    """A conversation with an earlier turn, and one that is in each of its states: its id, its question's and its answer's."""
    answered(led)
    led.say("old answer", END)
    ada.send_message(chat, "old")
    led.wait()
    ada.send_message(chat, "q", wait=False)
    led.wait()
    if request.param != "processing":
        led.say("one ")
    if request.param == "awaiting_approval":
        led.say(ToolCall("c", "t", 1, requires_approval=True), END)
    until(lambda: ada.get_state(chat)["state"] == request.param)
    if request.param == "streaming":
        until(lambda: said(ada, chat)[-1] == ("a", "one "))
    return request.param


def go_on(app, ada, chat, led, state):
    """Let the turn end as it would have."""
    if state == "awaiting_approval":
        try:
            ada.approve_tools(chat, ["c"], wait=False)
            led.say("two", END)
        except (NotFound, Conflict):
            return
    else:
        led.say("two", END)
    until(lambda: not app.extensions["flask_conversations"].turns._executions)


def asked_again(app, ada, chat):
    app.conversations.responder(lambda turn: "well")
    assert ada.send_message(chat, "again")["answer"]["content"] == "well"
    is_idle(app, ada, chat)


def ids(ada, chat):
    return {one["content"]: one["id"] for one in ada.get_messages(chat)["messages"]}


def test_the_question_is_deleted(app, ada, chat, led, under_way):
    """An answer that has begun goes on; one that has not is no longer wanted."""
    ada.delete_message(chat, ids(ada, chat)["q"])
    go_on(app, ada, chat, led, under_way)
    expected = [("u", "old"), ("a", "old answer")]
    if under_way != "processing":
        expected.append(("a", "one two"))
    assert said(ada, chat) == expected
    asked_again(app, ada, chat)


@pytest.mark.parametrize("under_way", ["streaming", "awaiting_approval"], indirect=True)
def test_the_answer_is_deleted(app, ada, chat, led, under_way):
    """It does not come back, and the turn is over."""
    ada.delete_message(chat, ids(ada, chat)["one "])
    go_on(app, ada, chat, led, under_way)
    assert said(ada, chat) == [("u", "old"), ("a", "old answer"), ("u", "q")]
    asked_again(app, ada, chat)


@pytest.mark.parametrize("under_way", ["awaiting_approval"], indirect=True)
def test_the_answer_is_deleted_and_the_user_asks_again(app, ada, chat, led, under_way):
    """A deleted question for approval holds up no turn."""
    ada.delete_message(chat, ids(ada, chat)["one "])
    asked_again(app, ada, chat)


@pytest.mark.parametrize("under_way", ["streaming"], indirect=True)
def test_the_answer_is_deleted_and_its_worker_dies(app, ada, chat, led, under_way):
    """Recovery brings nothing back either, and does not stumble."""
    ada.delete_message(chat, ids(ada, chat)["one "])
    abandon(app, chat)
    assert ada.get_state(chat)["state"] == "idle"
    assert said(ada, chat)[-1] == ("u", "q")
    led.say("x")
    asked_again(app, ada, chat)


def test_the_conversation_is_cleared(app, ada, chat, led, under_way):
    """It stays empty, whatever is said after that."""
    ada.clear_conversation(chat)
    go_on(app, ada, chat, led, under_way)
    assert said(ada, chat) == []
    asked_again(app, ada, chat)


def test_messages_are_replaced(app, ada, chat, led, under_way):
    """What was put in the place of all of it stays."""
    ada.replace_messages(chat, [{"role": "user", "content": "new"}])
    go_on(app, ada, chat, led, under_way)
    assert said(ada, chat) == [("u", "new")]
    asked_again(app, ada, chat)


def test_the_newest_message_is_popped(app, ada, chat, led, under_way):
    """The question if there is no answer yet, else the answer: it does not come back, and the turn is over."""
    ada.pop_message(chat)
    go_on(app, ada, chat, led, under_way)
    question = [] if under_way == "processing" else [("u", "q")]
    assert said(ada, chat) == [("u", "old"), ("a", "old answer"), *question]
    asked_again(app, ada, chat)


def test_the_conversation_goes_to_the_trash_and_comes_back(app, ada, chat, led, under_way):
    """Nothing is written into the trash; what comes out of it is what went in, and can be asked again."""
    before = said(ada, chat)
    ada.delete_conversation(chat)
    for call in (ada.get_state, ada.cancel, ada.regenerate):
        with pytest.raises(ConversationNotFound):
            call(chat)
    go_on(app, ada, chat, led, under_way)
    assert gone(ada, chat)
    is_sound(app)
    ada.restore_conversation(chat)
    if under_way == "awaiting_approval":
        ada.cancel(chat)
    else:
        from .tools import expire

        expire(app, chat)
        assert ada.get_state(chat)["state"] == "idle"
    assert said(ada, chat)[: len(before)] == before
    asked_again(app, ada, chat)


def test_the_conversation_is_deleted_for_good(app, ada, bob, chat, led, under_way):
    """Nothing is left of it and nothing comes back; its id can be used anew, and the old turn is a stranger to the new one."""
    ada.delete_conversation(chat, permanent=True)
    ada.create_conversation("New", id=chat)
    go_on(app, ada, chat, led, under_way)
    assert ada.get_conversation(chat)["message_count"] == 0
    assert turns_of(app, chat) == []
    asked_again(app, ada, chat)


def test_messages_are_saved_meanwhile(app, ada, chat, led, under_way):
    """By the host, by other clients, into the same branch: they stay, and the answer does too."""
    ada.save_message(chat, "user", "aside")
    go_on(app, ada, chat, led, under_way)
    assert sorted(text for _, text in said(ada, chat)) == sorted(
        ["old", "old answer", "q", "aside", "two" if under_way == "processing" else "one two"]
    )
    asked_again(app, ada, chat)


def test_the_question_is_edited_in_place(app, ada, chat, led, under_way):
    """The answer is that to the question as it was asked; both stay."""
    ada.update_message(chat, ids(ada, chat)["q"], content="q, put better")
    go_on(app, ada, chat, led, under_way)
    assert said(ada, chat)[-2:] == [("u", "q, put better"), ("a", "two" if under_way == "processing" else "one two")]
    asked_again(app, ada, chat)


def test_everything_else_may_be_changed(app, ada, chat, led, under_way):
    """Title, tags, star, archive, rating: the turn does not mind, and does not undo it."""
    ada.update_conversation(chat, title="Better", starred=True, tags=["a"], metadata={"k": 1})
    ada.archive_conversation(chat)
    newest = ada.get_messages(chat)["messages"][-1]
    ada.rate_message(chat, newest["id"], "up")
    go_on(app, ada, chat, led, under_way)
    found = ada.get_conversation(chat)
    assert (found["title"], found["starred"], found["tags"]) == ("Better", True, ["a"])
    rated = next(one for one in ada.get_messages(chat)["messages"] if one["id"] == newest["id"])
    assert rated["rating"] == "up"
    asked_again(app, ada, chat)


def test_a_user_switches_to_another_branch(app, ada, chat, led, under_way):
    """The answer stays below its question, on its branch; who has turned away stays where they are."""
    messages = ids(ada, chat)
    ada.branches.create(chat, messages["old"], "other")
    ada.branches.switch(chat, "other")
    there = ada.save_message(chat, "user", "elsewhere")["id"]
    go_on(app, ada, chat, led, under_way)
    assert said(ada, chat) == [("u", "old"), ("u", "elsewhere")]
    rows = {row.content: row for row in tree(app, chat)}
    answer = rows["two" if under_way == "processing" else "one two"]
    assert str(answer.parent_id) == messages["q"]
    ada.branches.switch(chat, answer.id)
    assert said(ada, chat)[-2:] == [("u", "q"), ("a", answer.content)]
    ada.branches.switch(chat, there)
    asked_again(app, ada, chat)


def test_a_fork_in_the_middle_is_a_conversation_of_its_own(app, ada, chat, led, under_way):
    """What is copied is what there was; it has no turn and waits for none."""
    fork = ada.fork_conversation(chat, ids(ada, chat)["q"])["id"]
    assert ada.get_state(fork)["state"] == "idle"
    go_on(app, ada, chat, led, under_way)
    assert said(ada, fork) == [("u", "old"), ("a", "old answer"), ("u", "q")]
    asked_again(app, ada, fork)


def test_a_guest_logs_in(make_app, led):
    """The conversation that a guest's question is answered in becomes the user's: what comes of the answer is theirs."""
    app = make_app()
    app.conversations.responder(led)
    guest, ada = (app.conversations.as_user(one, app=app) for one in ("guest:1", "ada"))
    chat = guest.create_conversation("T")["id"]
    guest.send_message(chat, "q", wait=False)
    led.wait()
    led.say("one ")
    until(lambda: said(guest, chat)[-1] == ("a", "one "))
    assert ada.claim("guest:1") == 1
    led.say("two", END)
    until(lambda: not app.extensions["flask_conversations"].turns._executions)
    assert said(ada, chat) == [("u", "q"), ("a", "one two")]
    assert gone(guest, chat)
    is_idle(app, ada, chat)


def test_no_turn_is_a_part_of_a_transaction(app, ada, chat, answered):
    """It is committed as it goes: inside a group, or a host's transaction, that is said at once, and nothing is stored."""
    answered(lambda turn: "x")
    calls = (
        lambda service: service.send_message(chat, "q"),
        lambda service: service.regenerate(chat),
        lambda service: service.approve_tools(chat, ["c"]),
        lambda service: service.cancel(chat),
        lambda service: service.turn(chat, "q"),
        lambda service: service.record_stream(chat, ["x"]),
    )
    for call in calls:
        with pytest.raises(ConfigurationError), ada.transaction():
            call(ada)
        with app.app_context():
            service = app.conversations.as_user("ada")
            with pytest.raises(ConfigurationError), service.joined():
                call(service)
            app.db.session.rollback()
    assert said(ada, chat) == []


def test_what_a_waiting_turn_refers_to_is_deleted(app, ada, chat, led, answered):
    """A question that is to be put differently, or answered again, is gone when its turn comes: the next ones go on."""
    answered(led)
    led.say("a", END)
    ada.send_message(chat, "old")
    led.wait()
    ada.send_message(chat, "q", wait=False)
    led.wait()
    old = ids(ada, chat)["old"]
    ada.edit_question(chat, old, "old, put better", wait=False)
    ada.regenerate(chat, old, wait=False)
    ada.send_message(chat, "below", parent_id=old, wait=False)
    ada.send_message(chat, "last", wait=False)
    ada.delete_message(chat, old)
    led.say("b", END)
    led.wait()
    led.say("c", END)
    until(
        lambda: not ada.get_state(chat)["waiting"] and ada.get_state(chat)["state"] not in ("processing", "streaming")
    )
    texts = [row.content for row in tree(app, chat)]
    assert {"a", "q", "b", "old, put better", "below", "last", "c"} <= set(texts)
    is_idle(app, ada, chat)


def test_a_waiting_question_whose_client_id_is_taken_meanwhile(app, ada, chat, led, answered):
    """The same message saved by another way is answered; another one under that id ends the turn, and the next goes on."""
    answered(led)
    ada.send_message(chat, "q", wait=False)
    led.wait()
    ada.send_message(chat, "same", client_id="k1", wait=False)
    ada.send_message(chat, "mine", client_id="k2", wait=False)
    ada.send_message(chat, "last", wait=False)
    ada.save_message(chat, "user", "same", client_id="k1")
    ada.save_message(chat, "user", "other", client_id="k2")
    led.say("a", END)
    led.wait()
    led.say("b", END)
    led.wait()
    led.say("c", END)
    until(
        lambda: not ada.get_state(chat)["waiting"] and ada.get_state(chat)["state"] not in ("processing", "streaming")
    )
    assert led.asked == ["q", "same", "last"]
    assert {"q", "same", "other", "last", "a", "b", "c"} <= {row.content for row in tree(app, chat)}
    is_idle(app, ada, chat)
