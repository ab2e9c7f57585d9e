"""What a hostile reading of the turns found, each with its interleaving written out."""

from __future__ import annotations

import threading

import pytest

from flask_conversations.errors import (
    Conflict,
    ConversationNotFound,
    MessageNotFound,
    StorageUnavailable,
    TurnInProgress,
    ValidationFailed,
)
from flask_conversations.ids import new_id
from flask_conversations.service.turns import transitions
from flask_conversations.turns import ToolCall, ToolResult

from ..service.tools import in_use
from .sse import EVENTS, parsed
from .tools import END, Led, abandon, expire, is_idle, said, tree, turns_of, until, with_tools


@pytest.fixture
def busy(app, ada, chat, led):
    """A conversation whose turn says nothing until the test lets it."""
    app.conversations.responder(led)
    ada.send_message(chat, "first", wait=False)
    led.wait()
    return chat


def finish(led, *said):
    led.say(*(each for text in said for each in (text, END)))


def is_quiet(app):
    return not app.extensions["flask_conversations"].turns._executions


# -- what lines up


CANNOT_BEGIN = {
    "regenerate nothing": (lambda ada, chat, answer: ada.regenerate(chat, new_id(), wait=False), MessageNotFound),
    "edit nothing": (lambda ada, chat, answer: ada.edit_question(chat, new_id(), "x", wait=False), MessageNotFound),
    "edit an answer": (lambda ada, chat, answer: ada.edit_question(chat, answer, "x", wait=False), ValidationFailed),
    "below nothing": (
        lambda ada, chat, answer: ada.send_message(chat, "x", parent_id=new_id(), wait=False),
        ValidationFailed,
    ),
    "a taken id": (lambda ada, chat, answer: ada.send_message(chat, "x", client_id=answer, wait=False), Conflict),
}


def test_what_cannot_begin_is_refused_as_it_comes(app, ada, chat, led, subtests):
    """Not once it would be its turn: a busy conversation refuses what an idle one refuses, with the same error."""
    app.conversations.responder(led)
    led.say("one", END)
    answer = ada.send_message(chat, "q")["answer"]["id"]
    led.wait()
    for name, (ask, error) in CANNOT_BEGIN.items():
        with subtests.test(name, conversation="idle"), pytest.raises(error):
            ask(ada, chat, answer)
    ada.send_message(chat, "slow", wait=False)
    led.wait()
    before = len(turns_of(app, chat))
    for name, (ask, error) in CANNOT_BEGIN.items():
        with subtests.test(name, conversation="busy"), pytest.raises(error):
            ask(ada, chat, answer)
    assert len(turns_of(app, chat)) == before
    finish(led, "two")
    until(lambda: is_quiet(app))
    assert said(ada, chat) == [("u", "q"), ("a", "one"), ("u", "slow"), ("a", "two")]
    is_idle(app, ada, chat)


def test_a_question_whose_id_is_taken_meanwhile_stops_nobody(app, ada, busy, led):
    """It fails, and says so; the conversation goes on, and so does the recovery of all turns."""
    taken = new_id()
    ada.send_message(busy, "second", client_id=taken, wait=False)
    ada.save_message(busy, "user", "in its place", id=taken)
    finish(led, "one")
    until(lambda: is_quiet(app))
    assert ("u", "second") not in said(ada, busy)
    assert [row.state for row in turns_of(app, busy)] == ["completed", "failed"]
    is_idle(app, ada, busy)


@pytest.mark.parametrize("name", ["id", "client_id"])
def test_nor_does_it_when_its_worker_is_gone(app, ada, busy, name):
    """The same, found by the recovery: the turn ends, without a question and without an answer."""
    other = ada.create_conversation("Other")["id"]
    taken = new_id() if name == "id" else "x1"
    ada.send_message(busy, "second", client_id=taken, wait=False)
    ada.save_message(busy, "user", "in its place", **{name: taken})
    ada.send_message(other, "elsewhere", wait=False)
    for conversation_id in (busy, other):
        abandon(app, conversation_id)
    assert app.conversations.as_system(app=app).recover() > 0
    until(lambda: app.conversations.as_system(app=app).recover() == 0)
    assert [row.state for row in turns_of(app, busy)] == ["interrupted", "interrupted"]
    is_idle(app, ada, busy)
    is_idle(app, ada, other)


def test_an_edit_that_cannot_be_stored_leaves_the_path_as_it_is(app, ada, busy, led):
    """Another tab has used its client id: nothing of what was shown goes out of sight."""
    question = ada.get_messages(busy)["messages"][0]["id"]
    ada.edit_question(busy, question, "differently", client_id="x1", wait=False)
    ada.save_message(busy, "user", "in another tab", client_id="x1")
    finish(led, "one")
    until(lambda: is_quiet(app))
    assert sorted(said(ada, busy)) == sorted([("u", "first"), ("u", "in another tab"), ("a", "one")])
    is_idle(app, ada, busy)


def test_a_regeneration_whose_question_is_gone_leaves_nothing(app, ada, busy, led):
    """Its question was deleted while it waited: there is nothing to answer, and no empty answer either."""
    question = ada.get_messages(busy)["messages"][0]["id"]
    ada.regenerate(busy, question, wait=False)
    finish(led, "one")
    led.say("two")
    ada.delete_message(busy, question)
    led.say(END)
    until(lambda: is_quiet(app))
    assert [row.status for row in tree(app, busy) if not row.content] == []
    is_idle(app, ada, busy)


def test_a_turn_begins_once_although_its_commit_was_not_confirmed(app, ada, busy, led, monkeypatch):
    """The connection breaks between the commit that begins a waiting turn and the worker: it looks again, and it is its turn."""
    broken, begin = [], transitions.start_waiting

    def start_waiting(work, turn, token):
        begun = begin(work, turn, token)
        if begun is not None and not broken:
            broken.append(turn.id)
            raise StorageUnavailable("The connection was lost.")
        return begun

    monkeypatch.setattr(transitions, "start_waiting", start_waiting)
    ada.send_message(busy, "second", wait=False)
    finish(led, "one", "two")
    until(lambda: is_quiet(app))
    assert len(broken) == 1
    assert said(ada, busy) == [("u", "first"), ("a", "one"), ("u", "second"), ("a", "two")]
    is_idle(app, ada, busy)


# -- branches


def test_an_answer_belongs_to_the_branch_of_its_question(app, ada, chat, led):
    """Who turns to another branch while the model thinks, and back by name, finds it."""
    app.conversations.responder(led)
    led.say("zero", END)
    ada.branches.create(chat, ada.send_message(chat, "before")["answer"]["id"], "aside")
    led.wait()
    ada.send_message(chat, "first", wait=False)
    led.wait()
    ada.branches.switch(chat, "aside")
    ada.save_message(chat, "user", "on the side")
    finish(led, "one")
    until(lambda: is_quiet(app))
    before = [("u", "before"), ("a", "zero")]
    assert said(ada, chat) == [*before, ("u", "on the side")]
    ada.branches.switch(chat, "main")
    assert said(ada, chat) == [*before, ("u", "first"), ("a", "one")]
    is_idle(app, ada, chat)


# -- approvals


def test_another_turn_s_call_by_the_same_name_is_not_approved(app, ada, http, chat):
    """An old page decides about the call of an answer that is over: nothing runs."""
    ran = []

    def respond(turn):
        for call in turn.approved:
            ran.append(turn.message["content"])
            yield ToolResult(call.id, 1)
        if not turn.approved:
            yield ToolCall("c1", "pay", {}, requires_approval=True)

    app.conversations.responder(respond)
    old = ada.send_message(chat, "1 euro")["answer"]
    ada.cancel(chat)
    new = ada.send_message(chat, "1000 euro")["answer"]
    with pytest.raises(Conflict):
        ada.approve_tools(chat, ["c1"], message_id=old["id"])
    parts = [{"type": "tool-pay", "toolCallId": "c1", "input": {}, "state": "approval-responded"}]
    parts[0]["approval"] = {"id": "c1", "approved": True}
    page = {
        "id": chat,
        "messages": [{"id": old["id"], "role": "assistant", "parts": parts}],
        "trigger": "submit-message",
    }
    refused = http("ada").post("/api/conversations", json=page)
    assert (refused.status_code, refused.get_json()["code"]) == (409, "conflict")
    assert ran == []
    ada.approve_tools(chat, ["c1"], message_id=new["id"])
    assert ran == ["1000 euro"]
    is_idle(app, ada, chat)


def test_a_question_for_approval_that_was_deleted_is_not_shown(app, ada, chat):
    """Neither its name nor its arguments: nothing waits for a decision any more."""
    app.conversations.responder(with_tools)
    answer = ada.send_message(chat, "q")["answer"]["id"]
    ada.delete_message(chat, answer)
    found = ada.get_state(chat)
    assert (found["state"], found["pending_actions"]) == ("cancelled", [])
    is_idle(app, ada, chat)


def test_a_refused_stream_decides_nothing(make_app, led):
    """503 comes before the effect: the call is still undecided, and can be decided without a stream."""
    app = make_app(CONVERSATIONS_STREAM_LIMIT=0)
    app.conversations.responder(with_tools)
    ada = app.conversations.as_user("ada", app=app)
    chat = ada.create_conversation("T")["id"]
    ada.send_message(chat, "q")
    client = app.test_client()
    client.environ_base["HTTP_X_TEST_USER"] = "ada"
    approve = f"/api/conversations/{chat}/actions/approve_tools"
    body = {"tool_call_ids": ["c1"], "approved": True}
    assert client.post(approve, json=body, headers=EVENTS).status_code == 503
    assert ada.get_state(chat)["state"] == "awaiting_approval"
    assert client.post(approve, json=body).status_code == 200
    is_idle(app, ada, chat)


def test_an_approval_is_known_by_its_key(app, ada, http, chat):
    """The same key again is the same decision, and says so; with other calls it is refused."""

    def respond(turn):
        decided = [*turn.approved, *turn.denied]
        yield from (ToolResult(call.id, 1) for call in decided)
        if not decided:
            yield from (ToolCall(name, "t", {}, requires_approval=True) for name in ("c1", "c2"))

    app.conversations.responder(respond)
    ada.send_message(chat, "q")
    ask, key = http("ada"), {"Idempotency-Key": "k"}
    path = f"/api/conversations/{chat}/actions/approve_tools"
    first = ask.post(path, json={"tool_call_ids": ["c1"], "approved": True}, headers=key)
    again = ask.post(path, json={"tool_call_ids": ["c1"], "approved": True}, headers=key)
    other = ask.post(path, json={"tool_call_ids": ["c2"], "approved": True}, headers=key)
    assert (first.status_code, again.status_code, other.status_code) == (200, 200, 422)
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    ada.cancel(chat)
    is_idle(app, ada, chat)


def test_no_connection_is_held_while_an_approved_tool_runs(make_app, database):
    """Also where the host has read something in this request, its user say."""
    go_on, seen = threading.Event(), []

    def respond(turn):
        if turn.approved:
            seen.append(None)
            go_on.wait(30)
            yield "done"
        else:
            yield ToolCall("c1", "t", {}, requires_approval=True)

    app = make_app()
    app.conversations.responder(respond)
    ada = app.conversations.as_user("ada", app=app)
    chat = ada.create_conversation("T")["id"]
    ada.send_message(chat, "q")

    def in_a_request():
        with app.app_context():
            app.conversations.as_user("ada").get_conversation(chat)
            app.db.session.connection()
            app.conversations.as_user("ada").approve_tools(chat, ["c1"])

    request = threading.Thread(target=in_a_request, daemon=True)
    request.start()
    until(lambda: seen)
    until(lambda: in_use(app) == 0, "nothing is held")
    go_on.set()
    request.join(30)
    is_idle(app, ada, chat)


# -- cancelling


def test_a_repeated_cancel_does_not_end_the_next_turn(app, ada, http, busy, led):
    """With its Idempotency-Key it means the turn of the first time."""
    ask, path = http("ada"), f"/api/conversations/{busy}/actions/cancel"
    first = ask.post(path, headers={"Idempotency-Key": "k"})
    ada.send_message(busy, "second", wait=False)
    led.wait()
    again = ask.post(path, headers={"Idempotency-Key": "k"})
    assert (first.status_code, again.status_code, again.headers["Idempotency-Replayed"]) == (200, 200, "true")
    assert again.get_json()["state"] == "processing"
    assert ask.post(path, headers={"Idempotency-Key": "a b"}).status_code == 400
    assert ask.post(path, headers={"Idempotency-Key": "other"}).get_json()["state"] == "cancelled"
    led.say(END, END)
    is_idle(app, ada, busy)


# -- hosts


def test_what_cannot_be_recorded_is_refused_before_it_begins(app, ada, chat, subtests):
    """And no caller has to wait for it."""
    ada.save_message(chat, "user", "q")
    for fields in ({"bogus": 1}, {"model": "m" * 300}, {"metadata": "x"}):
        with subtests.test(next(iter(fields))), pytest.raises(ValidationFailed):
            ada.record_stream(chat, ["a"], **fields)
    assert turns_of(app, chat) == []
    assert list(ada.record_stream(chat, ["a"])) == ["a"]


def test_a_host_whose_conversation_is_deleted_while_it_waits_gets_an_error(app, ada, busy, led):
    """With an error of ours, as everywhere."""
    failed = []

    def wait():
        try:
            with ada.turn(busy, "second"):
                failed.append(None)
        except Exception as error:  # noqa: BLE001 - what it is, is asserted
            failed.append(error)

    host = threading.Thread(target=wait, daemon=True)
    host.start()
    until(lambda: len(turns_of(app, busy)) == 2)
    ada.delete_conversation(busy, permanent=True)
    host.join(30)
    assert [type(each) for each in failed] == [ConversationNotFound]
    led.say(END)
    until(lambda: is_quiet(app))


def test_the_leases_are_kept_although_a_handler_of_the_host_fails(make_app, led):
    """One that raises at the end of a context, once, in the thread that keeps the turns of this process alive."""
    app = make_app(CONVERSATIONS_TURN_LEASE=3)
    app.conversations.responder(led)
    raised = []

    @app.teardown_appcontext
    def fail(error):
        if threading.current_thread().name == "turn-leases" and len(raised) < 2:
            raised.append(None)
            raise RuntimeError("Not now.")

    ada = app.conversations.as_user("ada", app=app)
    chat = ada.create_conversation("T")["id"]
    ada.send_message(chat, "q", wait=False)
    led.wait()
    until(lambda: len(raised) == 2)
    ends = turns_of(app, chat)[0].expires_at
    until(lambda: turns_of(app, chat)[0].expires_at > ends, "the lease is renewed after that")
    finish(led, "one")
    until(lambda: is_quiet(app))
    assert said(ada, chat) == [("u", "q"), ("a", "one")]


def test_one_turn_that_cannot_be_ended_costs_no_other_its_lease(worker, monkeypatch):
    """Cancelled from another worker while its row cannot be written: a silent turn in another conversation stays alive."""
    silent, stuck = Led(), threading.Event()
    here, there = worker(silent, CONVERSATIONS_TURN_LEASE=3), worker(silent, CONVERSATIONS_TURN_LEASE=3)
    ada = here.conversations.as_user("ada", app=here)
    one, two = (ada.create_conversation(name)["id"] for name in "AB")
    for chat in (one, two):
        ada.send_message(chat, "q", wait=False)
        silent.wait()
    end = transitions.end_turn

    def end_turn(work, turn, *rest):
        if work.backend.app is here and turn.conversation_id == one and not stuck.is_set():
            raise StorageUnavailable("Not now.")
        return end(work, turn, *rest)

    monkeypatch.setattr(transitions, "end_turn", end_turn)
    asked = threading.Thread(target=lambda: there.conversations.as_user("ada", app=there).cancel(one), daemon=True)
    asked.start()
    execution = here.extensions["flask_conversations"].turns.find(turns_of(here, one)[0].id)
    until(execution.stopping.is_set)
    for _ in range(2):
        ends = turns_of(here, two)[0].expires_at
        until(lambda ends=ends: turns_of(here, two)[0].expires_at > ends, "the other lease is renewed")
    stuck.set()
    asked.join(30)
    assert ada.get_state(two)["state"] == "processing"
    silent.say("x", END, END)
    until(lambda: is_quiet(here))


# -- streams and replies


def test_a_conversation_that_is_deleted_ends_its_streams_with_an_event(app, ada, http, busy, led):
    """The status is sent by then: an event says what happened, and the body ends as a body does."""
    answer = http("ada").get(f"/api/conversations/{busy}/stream", buffered=False)
    frames = iter(answer.response)
    received = [next(frames), next(frames)]
    ada.delete_conversation(busy, permanent=True)
    led.say("x", END)
    received += list(frames)
    found = parsed(b"".join(each if isinstance(each, bytes) else each.encode() for each in received).decode())
    assert [each.event for each in found[-2:]] == ["error", "done"]
    assert found[-2].data["code"] == "conversation_not_found"
    assert [each.id for each in found[-2:]] == [f"{found[-3].id}-1", f"{found[-3].id}-2"]


def test_an_answer_that_is_being_written_is_not_edited(app, ada, http, busy, led):
    """What would be lost a moment later is refused; once it is whole it can be."""
    led.say("one ")
    until(lambda: said(ada, busy)[-1] == ("a", "one "))
    answer = ada.get_messages(busy)["messages"][-1]["id"]
    path = f"/api/conversations/{busy}/messages/{answer}"
    refused = http("ada").patch(path, json={"content": "corrected"})
    assert (refused.status_code, refused.get_json()["code"]) == (409, "turn_in_progress")
    with pytest.raises(TurnInProgress):
        ada.update_message(busy, answer, content="corrected")
    assert ada.update_message(busy, answer, metadata={"k": 1})["metadata"] == {"k": 1}
    led.say("two", END)
    until(lambda: is_quiet(app))
    assert http("ada").patch(path, json={"content": "corrected"}).status_code == 200
    assert said(ada, busy)[-1] == ("a", "corrected")
    is_idle(app, ada, busy)


def test_a_question_that_was_deleted_before_it_was_asked_is_a_conflict(app, ada, http, busy, led, threads):
    """A caller that waits for the answer learns that there is none, by a status of its own and not by an error 500."""
    answers = []
    path = f"/api/conversations/{busy}/messages"
    waiting = threading.Thread(
        target=lambda: answers.append(http("ada").post(path, json={"content": "second"})), daemon=True
    )
    waiting.start()
    until(lambda: len(turns_of(app, busy)) == 2)
    finish(led, "one")
    led.wait()
    (second,) = [row.id for row in tree(app, busy) if row.content == "second"]
    ada.delete_message(busy, second)
    led.say("two", END)
    waiting.join(30)
    assert (answers[0].status_code, answers[0].get_json()["code"]) == (409, "conflict")


def test_the_headers_of_a_request_are_read_as_they_are_meant(app, http, ada, chat):
    """Preferences in any case, a quality of 0 as a refusal, an unknown protocol as a mistake."""
    app.conversations.responder(lambda turn: "x")
    ask, path = http("ada"), f"/api/conversations/{chat}/messages"
    unwanted = {"Accept": "application/json, text/event-stream;q=0"}
    assert ask.post(path, json={"content": "q"}, headers=unwanted).mimetype == "application/json"
    bogus = ask.post(f"{path}?protocol=bogus", json={"content": "q"})
    assert (bogus.status_code, list(bogus.get_json()["errors"])) == (422, ["protocol"])
    at_once = ask.post(
        f"/api/conversations/{chat}/actions/send_message", json={"content": "q"}, headers={"Prefer": "Respond-Async"}
    )
    assert at_once.status_code == 202
    until(lambda: is_quiet(app))


def test_what_people_said_is_not_in_the_logs(app, ada, chat, caplog, http):
    """Neither when a responder repeats it in what it raises, nor when a guard of the host does."""

    def respond(turn):
        raise RuntimeError(f"no idea about {turn.message['content']}")

    app.conversations.responder(respond)

    @app.conversations.guard
    def guard(message):
        if "secret diagnosis" in message["content"]:
            raise KeyError(message["content"])

    assert ada.send_message(chat, "secret word")["state"] == "failed"
    assert "RuntimeError" in caplog.text
    app.config["PROPAGATE_EXCEPTIONS"] = False
    app.testing = False
    assert (
        http("ada").post(f"/api/conversations/{chat}/messages", json={"content": "secret diagnosis"}).status_code == 500
    )
    assert "Unexpected error" in caplog.text
    assert "KeyError" in caplog.text
    assert "secret" not in caplog.text


# -- what another reading found


@pytest.mark.parametrize("is_deleted", [False, True])
def test_a_host_replies_to_a_turn_that_was_ended_elsewhere(app, ada, chat, is_deleted):
    """It gets the answer that is stored, if there is one, and no error for what it came too late with."""
    with ada.turn(chat, "q") as turn:
        expire(app, chat)
        app.conversations.as_system(app=app).recover()
        if is_deleted:
            for message in ada.get_messages(chat)["messages"]:
                ada.delete_message(chat, message["id"])
        answer = turn.reply("too late")
    stored = ada.get_messages(chat)["messages"]
    assert ([answer] if answer else []) == [message for message in stored if message["role"] == "assistant"]
    assert [message["status"] for message in stored] == ([] if is_deleted else ["delivered", "interrupted"])


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_silent_turn_in_memory_keeps_its_lease(memory, led):
    """Nothing renews the leases of a database that only this process can see: its turns are not taken for dead."""
    app = memory(led)
    ada = app.conversations.as_user("ada", app=app)
    chat = ada.create_conversation("T")["id"]
    ada.send_message(chat, "q", wait=False)
    led.say("one")
    until(lambda: ada.get_state(chat)["state"] == "streaming")
    expire(app, chat)
    assert ada.get_state(chat)["state"] == "streaming"
    led.say(" two", END)
    until(lambda: ada.get_state(chat)["state"] == "idle")
    assert ada.get_messages(chat)["messages"][-1]["content"] == "one two"
