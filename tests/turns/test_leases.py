"""Workers that die or come back too late: the turn is ended once, honestly marked, and a zombie changes nothing."""

from __future__ import annotations

import time

import pytest

from flask_conversations.turns import ToolCall

from ..cli.tools import run as command
from ..infra.apps import client_of
from .tools import END, Led, abandon, expire, expire_turns, is_idle, noted, said, tree, turns_of, until, with_tools


@pytest.fixture
def first(worker, led):
    """The worker that will die."""
    return worker(led)


@pytest.fixture
def second(worker):
    """One that comes after it, or stands beside it."""
    return worker(lambda turn: "well")


def of(app, user="ada"):
    return app.conversations.as_user(user, app=app)


def begun(app, led, *pieces):
    """A conversation in whose turn so much was said."""
    ada = of(app)
    chat = ada.create_conversation("T")["id"]
    ada.send_message(chat, "q", wait=False)
    led.wait()
    led.say(*pieces)
    if pieces:
        until(lambda: said(ada, chat)[-1] == ("a", "".join(pieces)))
    return chat


def test_a_zombie_changes_nothing(first, second, led):
    """Its lease ends, another worker ends the turn; what the first says and does after that goes nowhere."""
    chat = begun(first, led, "one ")
    expire(first, chat)
    there = of(second)
    with noted(second) as seen:
        assert there.get_state(chat)["state"] == "idle"
    assert seen == [("streaming", "idle", "interrupted")]
    before = tree(second, chat)
    assert [(row.content, row.status) for row in before] == [("q", "delivered"), ("one ", "interrupted")]
    with noted(first) as seen:
        led.say("two ", "three", ToolCall("c", "t", 1, requires_approval=True), END)
        led.wait_ended()
        until(lambda: not first.extensions["flask_conversations"].turns.find(turns_of(first, chat)[0].id))
    assert seen == []
    assert tree(second, chat) == before
    assert there.send_message(chat, "again")["answer"]["content"] == "well"
    is_idle(second, there, chat)


@pytest.mark.parametrize("said_before", [(), ("one ",)])
@pytest.mark.parametrize("end", ["text", "raise", "cancel"])
def test_a_zombie_cannot_end_the_turn_of_its_successor(first, second, led, said_before, end):
    """While the next turn runs elsewhere, the zombie's end, failure or cancellation has no effect."""
    chat = begun(first, led, *said_before)
    expire(first, chat)
    successor = Led()
    second.conversations.responder(successor)
    there = of(second)
    there.send_message(chat, "next", wait=False)
    successor.wait()
    if end == "cancel":
        first.extensions["flask_conversations"].turns.find(turns_of(first, chat)[0].id).stop()
        led.say("x")
    else:
        led.say(*(["x", END] if end == "text" else [RuntimeError("x")]))
    led.wait_ended()
    assert there.get_state(chat)["state"] == "processing"
    successor.say("well", END)
    until(lambda: there.get_state(chat)["state"] == "idle")
    assert said(there, chat) == [("u", "q"), ("a", "".join(said_before)), ("u", "next"), ("a", "well")]
    is_idle(second, there, chat)


LOOKS = {
    "get_state": lambda ada, client, chat: ada.get_state(chat),
    "get_messages": lambda ada, client, chat: ada.get_messages(chat),
    "GET messages": lambda ada, client, chat: client.get(f"/api/conversations/{chat}/messages"),
    "GET state": lambda ada, client, chat: client.get(f"/api/conversations/{chat}/state"),
    "GET stream": lambda ada, client, chat: client.get(f"/api/conversations/{chat}/stream").get_data(),
    "send_message": lambda ada, client, chat: ada.send_message(chat, "next"),
    "regenerate": lambda ada, client, chat: ada.regenerate(chat),
    "cancel": lambda ada, client, chat: ada.cancel(chat),
    "recover": lambda ada, client, chat: ada.recover(),
}


def test_every_call_finds_a_dead_turn(first, second, subtests):
    """Reads, streams, sends, cancellations: none shows or waits for a turn whose worker is gone. Bob's looking does nothing."""
    of(second).send_message(
        of(second).create_conversation("T")["id"], "q"
    )  # its first turn looks for dead ones by itself
    client = client_of(second, "ada")
    for name, look in LOOKS.items():
        with subtests.test(name):
            led = Led()  # the dead one would also receive the cues of this one
            first.conversations.responder(led)
            chat = begun(first, led, "one ")
            abandon(first, chat)
            of(second, "bob").recover()
            assert turns_of(second, chat)[0].state == "streaming"
            look(of(second), client, chat)
            row = turns_of(second, chat)[0]
            assert (row.state, row.token, row.expires_at) == ("interrupted", None, None)
            found = {row.content: row.status for row in tree(second, chat)}
            assert found["one "] == "interrupted"
            is_idle(second, of(second), chat)


def test_dead_turns_are_found_at_boot_and_by_the_command(first, second, led, worker):
    """The first turn of a new process ends all that dead ones have left; so does `flask conversations recover`."""
    chats = []
    for pieces in (("0 ",), ("1 ",), ()):
        led = Led()  # the dead one would also receive the cues of this one
        first.conversations.responder(led)
        chats.append(begun(first, led, *pieces))
        abandon(first, chats[-1])
    ada = of(second)
    other = ada.create_conversation("other")["id"]
    ada.send_message(other, "q")
    assert [turns_of(second, chat)[0].state for chat in chats] == ["interrupted"] * 3
    assert said(ada, chats[2]) == [("u", "q"), ("a", "")]
    led = Led()
    first.conversations.responder(led)
    chat = begun(first, led, "more ")
    abandon(first, chat)
    assert "1" in command(second, "recover")
    assert turns_of(second, chat)[0].state == "interrupted"
    assert "0" in command(second, "recover")
    for chat in chats:
        is_idle(second, ada, chat)


@pytest.mark.parametrize("active", ["dead", "alive"])
def test_a_waiting_turn_whose_worker_died_keeps_its_question(first, second, led, active):
    """It is stored behind the turn before it, once that has ended, with an answer that is marked."""
    chat = begun(first, led, "one ")
    here, there = of(first), of(second)
    there.send_message(chat, "two", wait=False)
    here.send_message(chat, "three", wait=False)
    if active == "dead":
        abandon(first, chat)
        abandon(second, chat)
    else:
        for row in turns_of(first, chat)[1:]:
            for app in (first, second):
                execution = app.extensions["flask_conversations"].turns.find(row.id)
                if execution is not None:
                    execution.abandon()
            expire_turns(first, [row])
        assert there.get_state(chat)["state"] == "streaming"
        assert said(there, chat) == [("u", "q"), ("a", "one ")]
        led.say(END)
        until(lambda: turns_of(first, chat)[0].state == "completed")
    there.get_state(chat)
    there.recover()
    assert said(there, chat) == [("u", "q"), ("a", "one "), ("u", "two"), ("a", ""), ("u", "three"), ("a", "")]
    assert [row.state for row in turns_of(second, chat)[1:]] == ["interrupted"] * 2
    assert there.send_message(chat, "four")["answer"]["content"] == "well"
    is_idle(second, there, chat)


def test_a_turn_that_waits_for_an_approval_has_no_lease(first, second):
    """However long it takes, and whichever worker is asked in the end."""
    first.conversations.responder(with_tools)
    second.conversations.responder(with_tools)
    here, there = of(first), of(second)
    chat = here.create_conversation("T")["id"]
    here.send_message(chat, "q")
    assert turns_of(first, chat)[0].expires_at is None
    expire(first, chat)
    there.recover()
    assert there.get_state(chat)["state"] == "awaiting_approval"
    assert there.approve_tools(chat, ["c1"])["answer"]["content"] == "Let me see. Done."
    is_idle(second, there, chat)


def test_a_turn_that_was_resumed_and_died_keeps_what_was_decided(first, second, led):
    """The worker that takes it up after an approval dies: the calls stay decided, the answer is marked, nothing is run again."""
    chat = begun(first, led, "let me ")
    led.say(ToolCall("c", "t", 1, requires_approval=True), END)
    here, there = of(first), of(second)
    until(lambda: here.get_state(chat)["state"] == "awaiting_approval")
    here.approve_tools(chat, ["c"], wait=False)
    led.wait()
    abandon(first, chat)
    assert there.get_state(chat)["state"] == "idle"
    answer = there.get_messages(chat)["messages"][-1]
    assert (answer["status"], answer["content"], answer["parts"][1]["approval"]) == (
        "interrupted",
        "let me ",
        "approved",
    )
    assert there.get_state(chat)["pending_actions"] == []
    is_idle(second, there, chat)


def test_leases_are_renewed_while_a_responder_thinks(worker, led):
    """A turn that takes half as long again as its lease stays its worker's own."""
    first, second = worker(led, CONVERSATIONS_TURN_LEASE=1), worker()
    chat = begun(first, led, "one ")
    there = of(second)
    until_then = time.monotonic() + 1.5
    while time.monotonic() < until_then:
        assert there.get_state(chat)["state"] == "streaming"
        there.recover()
        time.sleep(0.1)
    led.say("two", END)
    until(lambda: there.get_state(chat)["state"] == "idle")
    assert said(there, chat)[-1] == ("a", "one two")
    is_idle(first, there, chat)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_leases_go_by_the_clock_of_the_database(first, second, led, monkeypatch):
    """A worker whose own clock is an hour ahead or behind neither steals a turn nor lets one live on."""
    import datetime as dt

    from flask_conversations.store import turns as rows

    chat = begun(first, led, "one ")
    real = rows.now
    there = of(second)
    for hours in (-1, 1):
        monkeypatch.setattr(rows, "now", lambda hours=hours: real() + dt.timedelta(hours=hours))
        assert there.recover() == 0
        assert there.get_state(chat)["state"] == "streaming"
    monkeypatch.setattr(rows, "now", lambda: real() - dt.timedelta(hours=1))
    abandon(first, chat)
    assert there.get_state(chat)["state"] == "idle"
    is_idle(second, there, chat)


def test_more_turns_than_one_look_ends_are_all_ended(first, second, led):
    """Dead turns in the trash, which no user can write into, do not keep the others from being found."""
    ada = of(first)
    trashed = [begun(first, led) for _ in range(3)]
    for chat in trashed:
        abandon(first, chat)
        ada.delete_conversation(chat)
    chat = begun(first, led)
    abandon(first, chat)
    assert of(second).recover(limit=2) == 1
    assert turns_of(second, chat)[0].state == "interrupted"
    there = of(second)
    there.restore_conversation(trashed[0])
    assert there.get_state(trashed[0])["state"] == "idle"
    assert said(there, trashed[0]) == [("u", "q"), ("a", "")]
    is_idle(second, there, trashed[0])


@pytest.mark.parametrize("streams", [False, True])
def test_a_server_that_is_stopped_keeps_every_question(first, second, led, streams):
    """In order: the turn under way is marked with the text so far, and those that wait have their questions stored."""
    chat = begun(first, led, *(["one "] if streams else []))
    here, there = of(first), of(second)
    here.send_message(chat, "two", wait=False)
    here.send_message(chat, "three", wait=False)
    first.extensions["flask_conversations"].turns.shut_down()
    expire(first, chat)
    there.get_state(chat)
    assert said(there, chat) == [
        ("u", "q"),
        ("a", "one " if streams else ""),
        ("u", "two"),
        ("a", ""),
        ("u", "three"),
        ("a", ""),
    ]
    assert {row.state for row in turns_of(second, chat)} == {"interrupted"}
    led.say("x")
    assert there.send_message(chat, "four")["answer"]["content"] == "well"
    is_idle(second, there, chat)


def test_a_stopped_server_does_not_overtake_another_one(first, second, led):
    """A question that waits here for an answer given elsewhere is stored once that has ended, and not in front of it."""
    chat = begun(first, led)
    there = of(second)
    there.send_message(chat, "two", wait=False)
    second.extensions["flask_conversations"].turns.shut_down()
    assert said(there, chat) == [("u", "q")]
    led.say("one", END)
    until(lambda: turns_of(first, chat)[0].state == "completed")
    expire(first, chat)
    there.get_state(chat)
    assert said(there, chat) == [("u", "q"), ("a", "one"), ("u", "two"), ("a", "")]
    is_idle(second, there, chat)
