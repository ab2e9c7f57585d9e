"""What a hostile reading of the streams found: each is what they do now."""

from __future__ import annotations

import threading

import pytest

from flask_conversations.service.http import follow
from flask_conversations.turns import ToolCall, ToolResult, Usage

from .sse import EVENTS, events, events_of, joined
from .tools import turns_of, until, with_tools


def stream(http, chat, last=None):
    headers = {"Last-Event-ID": last} if last else {}
    return http("ada").get(f"/api/conversations/{chat}/stream", headers=headers)


def asked(http, chat):
    return events(http("ada").post(f"/api/conversations/{chat}/messages", json={"content": "q"}, headers=EVENTS))


def approved(http, chat, call):
    path = f"/api/conversations/{chat}/actions/approve_tools"
    return events(http("ada").post(path, json={"tool_call_ids": [call]}, headers=EVENTS))


def test_an_edited_answer_is_streamed_as_it_is(app, http, ada, chat, answered):
    """It has fewer parts than it had when it waited for an approval."""
    answered(with_tools)
    asked(http, chat)
    approved(http, chat, "c1")
    answer = ada.get_messages(chat)["messages"][-1]["id"]
    ada.update_message(chat, answer, content=[{"type": "text", "text": "new"}])
    found = events(stream(http, chat, f"{turns_of(app, chat)[0].id}:3"))
    assert [one.event for one in found][-3:] == ["message.completed", "state", "done"]
    assert found[-3].data["content"] == [{"type": "text", "text": "new"}]


def test_a_call_may_have_the_name_of_an_earlier_one(app, ada, http, chat, answered):
    """A model that numbers its calls anew in each step: both waits keep their places."""

    def reply(turn):
        results = sum(part["type"] == "tool_result" for part in turn.answer)
        if turn.answer:
            yield ToolResult("call_0", results)
        if results < 1:
            yield f"step {results} "
            yield ToolCall("call_0", "pay", {"step": results}, requires_approval=True)
        else:
            yield "the end"

    answered(reply)
    streams = [asked(http, chat), approved(http, chat, "call_0")]
    late = follow(ada._units, chat, turns_of(app, chat)[0].id, calls=["call_0"])
    assert streams[0][-1].position <= late.position < streams[1][0].position
    streams.append(approved(http, chat, "call_0"))
    assert [one[-1].event for one in streams] == ["done"] * 3
    positions = [one.position for some in streams for one in some]
    assert positions == sorted(set(positions))
    for before, after in ((streams[0], streams[1] + streams[2]), (streams[1], streams[2])):
        again = events(stream(http, chat, before[-1].id))
        assert [one.id for one in again if one.event == "state"] == [one.id for one in after if one.event == "state"]
        assert joined(events_of(again))[-1] == joined(events_of(after))[-1]


def test_half_a_character_before_an_approval_stays_before_it(app, http, chat, answered):
    """What is said after the decision begins behind the call."""

    def reply(turn):
        if turn.approved:
            yield "more"
            return
        yield "price \N{EURO SIGN}".encode()[:-1]
        yield ToolCall("c", "pay", {}, requires_approval=True)

    answered(reply)
    first, second = asked(http, chat), approved(http, chat, "c")
    assert [one.event for one in first][-3:] == ["tool.call", "state", "done"]
    assert [one.data["delta"] for one in second if one.event == "message.delta"] == ["more"]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_reader_of_an_answer_without_words_waits(app, ada, http, chat, answered):
    """What the answer cost is known before its first word: it is not polled fifty times a second for that."""
    go, asked_for = threading.Event(), []

    def reply(turn):
        yield Usage(1, 2)
        go.wait(30)
        yield "word"

    answered(reply)
    ada.send_message(chat, "q", wait=False)
    (turn,) = turns_of(app, chat)
    execution = app.extensions["flask_conversations"].turns.find(turn.id)
    until(lambda: execution.answer_started)
    waiting = threading.Thread(target=lambda: asked_for.append(execution.wait_for_more(4, 30)), daemon=True)
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive()
    go.set()
    waiting.join(30)
    assert asked_for == [None]


def test_only_a_question_that_no_turn_answers_is_resumed_by_its_id(http, ada, chat, answered):
    """The id of any other message is none that a stream has given."""
    answered(lambda turn: "a")
    outcome = ada.send_message(chat, "q")
    for message in (outcome["question"], outcome["answer"]):
        assert stream(http, chat, f"{message['id']}:0").status_code == 400


@pytest.mark.parametrize("autocommit", [True, False])
def test_a_turn_whose_awaited_answer_was_deleted_is_resumed(make_app, autocommit):
    """It is over; the request that finds that out waits for no lock of its own."""
    app = make_app(CONVERSATIONS_AUTOCOMMIT=autocommit, CONVERSATIONS_LOCK_TIMEOUT=2)
    app.conversations.responder(with_tools)
    ada = app.conversations.as_user("ada", app=app)
    chat = ada.create_conversation("T")["id"]
    outcome = ada.send_message(chat, "q")
    ada.delete_message(chat, outcome["answer"]["id"])
    client = app.test_client()
    client.environ_base["HTTP_X_TEST_USER"] = "ada"
    last = {"Last-Event-ID": f"{outcome['turn']['id']}:2"}
    found = events(client.get(f"/api/conversations/{chat}/stream", headers=last))
    assert [one.data for one in found if one.event == "state"][-1] == {"state": "cancelled"}
