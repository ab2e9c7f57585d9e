"""The states of a turn: each is saved, logged, audited and announced once, before the next begins, without contents."""

from __future__ import annotations

import contextlib
import dataclasses
import logging

import pytest

from flask_conversations import signals
from flask_conversations.turns import ToolCall, ToolResult

from ..service.tools import sql
from .conftest import QUICK
from .tools import END, is_idle, noted, turns_of, until, with_tools

MARKS = ("mark-question", "mark-answer", "mark-argument", "mark-result", "mark-error", "mark-title", "mark-client")


def marked(turn):
    """Says one of each mark, asks for an approval, and fails in the end."""
    if not turn.approved:
        yield "mark-answer"
        yield ToolCall("c1", "mark-argument", {"mark-argument": "mark-argument"}, requires_approval=True)
        return
    yield ToolResult("c1", "mark-result")
    raise RuntimeError(MARKS[4])


def lines(caplog):
    return [r.getMessage() for r in caplog.records if r.name == "flask_conversations" and r.levelno == logging.INFO]


def test_every_transition_sends_one_signal(make_app, caplog):
    """Signals, log and query log name the same transitions in the same order, one each; the version steps with each."""
    app = make_app(CONVERSATIONS_AUDIT=True)
    app.conversations.responder(with_tools)
    ada = app.conversations.as_user("ada", app=app)
    chat = ada.create_conversation("T")["id"]
    caplog.set_level(logging.INFO, "flask_conversations")
    versions = [ada.get_conversation(chat)["version"]]
    with noted(app) as seen:
        ada.send_message(chat, "q")
        versions.append(ada.get_conversation(chat)["version"])
        ada.approve_tools(chat, ["c1"])
        versions.append(ada.get_conversation(chat)["version"])
    states = [state for _, state, _ in seen]
    assert states == ["processing", "streaming", "awaiting_approval", "processing", "streaming", "idle"]
    assert [previous for previous, _, _ in seen] == [None, *states[:-1]]
    assert [outcome for _, _, outcome in seen] == [None] * 5 + ["completed"]
    # each transition is a step; a decision that resumes a turn is one, and so is the end
    assert versions == [1, 4, 7]
    transitions = [line for line in lines(caplog) if "->" in line]
    assert len(transitions) == 6
    assert all(chat in line for line in transitions)
    audited = [row[0] for row in sql(app, "SELECT action FROM conversation_query_log ORDER BY id")]
    assert [action for action in audited if action.startswith("turn ")] == [
        "turn processing",
        "turn streaming",
        "turn awaiting_approval",
        "turn processing",
        "turn streaming",
        "turn completed",
    ]
    is_idle(app, ada, chat)


def test_each_transition_is_saved_before_it_is_announced(app, ada, chat, answered):
    """A receiver that reads the database finds the state of the signal, and the answer in the status that goes with it."""
    answered(with_tools)
    found = []

    def look(sender, turn, **_):
        state = ada.get_state(chat)
        newest = state["messages"][-1]
        found.append((turn["state"], state["state"], newest["role"], newest["status"], turn["outcome"]))

    with signals.turn_state_changed.connected_to(look, sender=app):
        ada.send_message(chat, "q")
        ada.approve_tools(chat, ["c1"])
    assert found == [
        ("processing", "processing", "user", "delivered", None),
        ("streaming", "streaming", "assistant", "streaming", None),
        ("awaiting_approval", "awaiting_approval", "assistant", "pending", None),
        ("processing", "processing", "assistant", "pending", None),
        ("streaming", "streaming", "assistant", "streaming", None),
        ("idle", "idle", "assistant", "delivered", "completed"),
    ]


def test_a_receiver_that_fails_ends_no_turn(app, ada, chat, answered):
    """What receivers raise is theirs."""

    def fail(sender, **_):
        raise RuntimeError("mark-error")

    answered(with_tools)
    with (
        signals.turn_state_changed.connected_to(fail, sender=app),
        signals.message_saved.connected_to(fail, sender=app),
        signals.message_updated.connected_to(fail, sender=app),
    ):
        ada.send_message(chat, "q")
        assert ada.approve_tools(chat, ["c1"])["state"] == "idle"
    is_idle(app, ada, chat)


def test_messages_are_announced_once(app, ada, chat, answered):
    """A question and an answer are saved once each; updates of the answer come when it pauses and when it ends."""
    seen = []
    answered(with_tools)
    with (
        signals.message_saved.connected_to(saved(seen), sender=app),
        signals.message_updated.connected_to(updated(seen), sender=app),
    ):
        ada.send_message(chat, "q")
        ada.approve_tools(chat, ["c1"])
    assert [one for one in seen if one[0] == "new"] == [("new", "user", "delivered"), ("new", "assistant", "streaming")]
    assert seen[-1] == ("changed", "assistant", "delivered")


def saved(seen):
    def receive(sender, message, **_):
        seen.append(("new", message["role"], message["status"]))

    return receive


def updated(seen):
    def receive(sender, message, **_):
        seen.append(("changed", message["role"], message["status"]))

    return receive


def test_no_log_line_has_content(make_app, caplog):
    """At no level, from no logger: neither questions nor answers, arguments, results, nor what exceptions say."""
    caplog.set_level(logging.DEBUG)
    app = make_app(CONVERSATIONS_AUDIT=True, CONVERSATIONS_TURN_TIMEOUT=20)
    app.conversations.responder(marked)
    ada = app.conversations.as_user("ada", app=app)
    client = app.test_client()
    headers = {"X-Test-User": "ada"}
    chat = ada.create_conversation("mark-title")["id"]
    path = f"/api/conversations/{chat}"
    answer = client.post(
        f"{path}/messages",
        json={"content": "mark-question", "client_id": "mark-client"},
        headers={**headers, "Accept": "text/event-stream"},
    )
    assert b"mark-answer" in answer.get_data()
    answer = client.post(f"{path}/actions/approve_tools", json={"tool_call_ids": ["c1"]}, headers=headers)
    assert answer.get_json()["state"] == "failed"
    assert b"mark-error" not in answer.get_data()
    client.post(f"{path}/actions/edit", json={"message_id": "mark-client", "content": "mark-question"}, headers=headers)
    client.post(f"{path}/actions/cancel", json={}, headers=headers)
    client.post(f"{path}/actions/approve_tools", json={"tool_call_ids": ["mark-argument"]}, headers=headers)
    with contextlib.suppress(RuntimeError), ada.turn(chat, "mark-question"):
        raise RuntimeError(MARKS[4])
    list(ada.record_stream(chat, iter(["mark-answer"])))
    with pytest.raises(Exception, match="failed"):
        list(ada.record_stream(chat, raising()))
    # what SQLAlchemy logs at DEBUG are the host's statements with their parameters: that is the host's choice
    text = "\n".join(
        f"{r.getMessage()}\n{r.exc_text or ''}" for r in caplog.records if not r.name.startswith("sqlalchemy")
    )
    assert [mark for mark in MARKS if mark in text] == []
    rows = str(sql(app, "SELECT * FROM conversation_query_log"))
    assert [mark for mark in MARKS if mark in rows] == []


def raising():
    yield "mark-answer"
    raise RuntimeError(MARKS[4])


def test_a_poll_costs_one_statement_and_sees_every_change(app, ada, http, chat, led, answered, statements):
    """While a turn runs and when it does not: 304 with the tag of the last answer, and 200 with another once anything changed."""
    # what the worker itself asks the database now and then is not what a poll costs
    app.extensions["flask_conversations"].turns.timing = dataclasses.replace(QUICK, stop_poll_interval=60)
    answered(led)
    client, path = http("ada"), f"/api/conversations/{chat}/state"

    def poll(tag=None):
        return client.get(path, headers={"If-None-Match": tag} if tag else {})

    def unchanged(tag):
        with statements(app) as seen:
            assert poll(tag).status_code == 304
        assert len(seen) == 1, seen
        return True

    tags = [poll().headers["ETag"]]
    unchanged(tags[-1])

    def changed(state):
        answer = poll(tags[-1])
        assert answer.status_code == 200
        assert answer.get_json()["state"] == state
        tags.append(answer.headers["ETag"])
        unchanged(tags[-1])

    ada.send_message(chat, "q", wait=False)
    led.wait()
    changed("processing")
    led.say("one ")
    until(lambda: poll(tags[-1]).status_code == 200)
    changed("streaming")
    led.say("two")
    until(lambda: poll(tags[-1]).status_code == 200)
    changed("streaming")
    led.say(ToolCall("c", "t", 1, requires_approval=True), END)
    until(lambda: ada.get_state(chat)["state"] == "awaiting_approval")
    changed("awaiting_approval")
    ada.approve_tools(chat, ["c"], wait=False)
    led.wait()
    changed("processing")
    led.say("three", END)
    until(lambda: ada.get_state(chat)["state"] == "idle")
    changed("idle")
    assert len(set(tags)) == len(tags)
    bobs = http("bob").get(path, headers={"If-None-Match": tags[-1]})
    assert bobs.status_code == 404


def test_the_state_shows_all_that_a_page_needs(app, ada, http, chat, led, answered):
    """Conversation, messages, state, what is waited for, branches, version and checksum, all of one moment."""
    answered(led)
    ada.send_message(chat, "one", wait=False)
    led.wait()
    ada.send_message(chat, "two", client_id="k", wait=False)
    state = http("ada").get(f"/api/conversations/{chat}/state").get_json()
    assert (state["state"], [one["content"] for one in state["messages"]]) == ("processing", ["one"])
    assert [(one["content"], one["client_id"]) for one in state["waiting"]] == [("two", "k")]
    assert state["version"] == state["conversation"]["version"]
    assert state["checksum"] == state["conversation"]["checksum"]
    assert state["pending_actions"] == []
    led.say("a", END)
    led.wait()
    led.say(ToolCall("c", "t", {"x": 1}, requires_approval=True), END)
    until(lambda: ada.get_state(chat)["state"] == "awaiting_approval")
    state = http("ada").get(f"/api/conversations/{chat}/state").get_json()
    assert state["waiting"] == []
    assert [one["content"] for one in state["messages"]] == ["one", "a", "two", ""]
    (action,) = state["pending_actions"]
    assert (action["tool_call_id"], action["name"], action["arguments"]) == ("c", "t", {"x": 1})
    assert action["message_id"] == state["messages"][-1]["id"]
    assert http("bob").get(f"/api/conversations/{chat}/state").status_code == 404


def test_a_turn_holds_no_connection_while_it_waits(app, ada, chat, led, answered):
    """Neither for the model, nor in line, nor for an approval."""
    answered(led)
    ada.send_message(chat, "one", wait=False)
    ada.send_message(chat, "two", wait=False)
    led.wait()
    with app.app_context():
        pool = app.db.engine.pool
    until(lambda: pool.checkedout() == 0)
    led.say("a", ToolCall("c", "t", 1, requires_approval=True), END)
    until(lambda: turns_of(app, chat)[0].state == "awaiting_approval")
    until(lambda: pool.checkedout() == 0)
    ada.cancel(chat)
    led.wait()
    led.say("b", END)
    until(lambda: ada.get_state(chat)["state"] == "idle")
    is_idle(app, ada, chat)
