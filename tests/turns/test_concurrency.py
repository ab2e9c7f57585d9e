"""Many at once, in one worker and in two, with Redis and without: in order, once each, nothing lost."""

from __future__ import annotations

import dataclasses
import itertools
import threading
import time

import pytest

from flask_conversations.errors import ClientIdConflict, Conflict, TurnInProgress
from flask_conversations.turns import ToolCall

from .conftest import QUICK
from .tools import END, Led, is_idle, noted, said, tree, turns_of, until, with_tools

SENDS = 10


@pytest.fixture(params=["without redis", "with redis"])
def two(request, worker):
    """Two workers on one database: `two(responder)`."""
    settings = {}
    if request.param == "with redis":
        settings = {"CONVERSATIONS_REDIS_URL": request.getfixturevalue("redis_url")}
    return lambda responder, **more: [worker(responder, **settings, **more) for _ in range(2)]


def echo(turn):
    yield "re "
    yield turn.message["content"]


def services(workers, user="ada"):
    return [app.conversations.as_user(user, app=app) for app in workers]


def in_pairs(found):
    """Q A Q A, each answer that of the question before it."""
    questions, answers = found[::2], found[1::2]
    assert {role for role, _ in questions} == {"u"}
    assert answers == [("a", f"re {text}") for _, text in questions]
    return [text for _, text in questions]


def test_ten_concurrent_sends_are_ten_questions_and_ten_answers(two, threads):
    """Whichever worker takes them: question, answer, question, answer, each answer seeing what came before it."""
    histories = []

    def respond(turn):
        histories.append([one["content"] for one in turn.history])
        return echo(turn)

    workers = two(respond, CONVERSATIONS_HISTORY_LIMIT=100)
    adas = services(workers)
    chat = adas[0].create_conversation("T")["id"]
    outcomes = threads(SENDS, lambda i: adas[i % 2].send_message(chat, str(i)))
    assert sorted(in_pairs(said(adas[0], chat))) == sorted(map(str, range(SENDS)))
    assert said(adas[1], chat) == said(adas[0], chat)
    for i, outcome in enumerate(outcomes):
        assert (outcome["question"]["content"], outcome["answer"]["content"]) == (str(i), f"re {i}")
        assert outcome["state"] == "idle"
    order = [text for _, text in said(adas[0], chat)]
    assert sorted(map(len, histories)) == list(range(1, 2 * SENDS, 2))
    assert all(history == order[: len(history)] for history in histories)
    for app, ada in zip(workers, adas, strict=True):
        is_idle(app, ada, chat)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_ten_sends_in_memory(memory, threads):
    """The same on SQLite in memory, where all threads share one connection."""
    app = memory(echo)
    ada = app.conversations.as_user("ada", app=app)
    chat = ada.create_conversation("T")["id"]
    threads(SENDS, lambda i: ada.send_message(chat, str(i)))
    assert sorted(in_pairs(said(ada, chat))) == sorted(map(str, range(SENDS)))
    is_idle(app, ada, chat)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_polling_in_memory_while_an_answer_comes(memory):
    """Readers and a streaming turn share one connection in memory without getting into each other's way."""

    def respond(turn):
        for n in range(60):
            time.sleep(0.005)
            yield f"{n} "

    app = memory(respond)
    ada = app.conversations.as_user("ada", app=app)
    chat = ada.create_conversation("T")["id"]
    ada.send_message(chat, "q", wait=False)
    seen = set()
    while (state := ada.get_state(chat))["state"] != "idle":
        if state["messages"][-1]["role"] == "assistant":
            seen.add(state["messages"][-1]["content"])
    whole = "".join(f"{n} " for n in range(60))
    assert said(ada, chat)[-1][1] == whole
    assert len(seen) > 1, "it was seen while it came"
    assert all(whole.startswith(text) for text in seen)
    is_idle(app, ada, chat)


def test_sends_over_http_are_in_order_too(app, http, ada, chat, answered, threads):
    """S4.31, S3.2: ten POSTs at once."""
    answered(echo)
    path = f"/api/conversations/{chat}/messages"
    answers = threads(SENDS, lambda i: http("ada").post(path, json={"content": str(i)}))
    assert [answer.status_code for answer in answers] == [201] * SENDS
    for i, answer in enumerate(answers):
        assert [one["content"] for one in answer.get_json()] == [str(i), f"re {i}"]
    in_pairs(said(ada, chat))
    is_idle(app, ada, chat)


def test_ten_retries_call_the_responder_once(two, threads):
    """One client id: one question, one call, and each caller gets the same answer, on any worker."""
    calls = itertools.count()

    def respond(turn):
        next(calls)
        time.sleep(0.2)
        return echo(turn)

    workers = two(respond)
    adas = services(workers)
    chat = adas[0].create_conversation("T")["id"]
    outcomes = threads(SENDS, lambda i: adas[i % 2].send_message(chat, "q", client_id="k"))
    assert next(calls) == 1
    assert len({outcome["answer"]["id"] for outcome in outcomes}) == 1
    assert {outcome["answer"]["content"] for outcome in outcomes} == {"re q"}
    assert [outcome["replayed"] for outcome in outcomes].count(False) == 1
    assert said(adas[0], chat) == [("u", "q"), ("a", "re q")]
    with pytest.raises(ClientIdConflict):
        adas[0].send_message(chat, "other", client_id="k")
    for app, ada in zip(workers, adas, strict=True):
        is_idle(app, ada, chat)


@pytest.mark.parametrize("route", ["messages", "actions/send_message"])
def test_ten_requests_with_one_idempotency_key_call_the_responder_once(app, http, ada, chat, answered, threads, route):
    """Each gets the answer of the first; another body under that key is 422."""
    calls = itertools.count()

    def respond(turn):
        next(calls)
        time.sleep(0.2)
        return echo(turn)

    answered(respond)
    path = f"/api/conversations/{chat}/{route}"
    headers = {"Idempotency-Key": "k"}
    answers = threads(SENDS, lambda i: http("ada").post(path, json={"content": "q"}, headers=headers))
    assert next(calls) == 1
    bodies = [answer.get_json() for answer in answers]
    messages = [body if route == "messages" else body["messages"] for body in bodies]
    assert {tuple(one["content"] for one in found) for found in messages} == {("q", "re q")}
    assert [answer.headers.get("Idempotency-Replayed") for answer in answers].count(None) == 1
    assert http("ada").post(path, json={"content": "other"}, headers=headers).status_code == 422
    assert said(ada, chat) == [("u", "q"), ("a", "re q")]
    is_idle(app, ada, chat)


def test_ten_parallel_approvals_run_the_tool_once(two, threads):
    """One of ten goes on; the others get a conflict, and nothing of theirs is turn."""
    ran = itertools.count()

    def respond(turn):
        if turn.approved:
            next(ran)
            time.sleep(0.1)
        return with_tools(turn)

    workers = two(respond)
    adas = services(workers)
    chat = adas[0].create_conversation("T")["id"]
    adas[0].send_message(chat, "q")
    outcomes = threads(SENDS, lambda i: adas[i % 2].approve_tools(chat, ["c1"]), errors=True)
    assert next(ran) == 1
    won = [one for one in outcomes if isinstance(one, dict)]
    assert [one["answer"]["content"] for one in won] == ["Let me see. Done."]
    assert all(isinstance(one, Conflict) for one in outcomes if not isinstance(one, dict))
    for app, ada in zip(workers, adas, strict=True):
        is_idle(app, ada, chat)


def test_parallel_approvals_over_http_are_one_200_and_nine_409(app, http, ada, bob, chat, answered, threads):
    """And Bob's, an unknown one and one settled long ago change nothing."""
    answered(with_tools)
    ada.send_message(chat, "q")
    path = f"/api/conversations/{chat}/actions/approve_tools"
    assert http("bob").post(path, json={"tool_call_ids": ["c1"]}).status_code == 404
    assert http("ada").post(path, json={"tool_call_ids": ["c1", "nope"]}).status_code == 404
    assert ada.get_state(chat)["state"] == "awaiting_approval"
    answers = threads(SENDS, lambda i: http("ada").post(path, json={"tool_call_ids": ["c1"]}))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 9
    assert http("ada").post(path, json={"tool_call_ids": ["c1"]}).status_code == 409
    is_idle(app, ada, chat)


def test_approvals_that_disagree_are_decided_once(app, ada, chat, answered, threads):
    """Half of them say yes and half no: one counts."""
    answered(with_tools)
    ada.send_message(chat, "q")
    threads(6, lambda i: ada.approve_tools(chat, ["c1"], approved=bool(i % 2)), errors=True)
    until(lambda: ada.get_state(chat)["state"] == "idle")
    results = [part for part in ada.get_messages(chat)["messages"][-1]["parts"] if part["type"] == "tool_result"]
    assert len(results) == 1
    is_idle(app, ada, chat)


def test_approvals_of_several_calls_at_once_resume_once(app, ada, chat, answered, threads):
    """Ten calls, decided one by one by ten threads: the responder goes on when the last is decided, once."""
    calls = itertools.count()

    def respond(turn):
        next(calls)
        if turn.approved:
            return "done"
        return [ToolCall(f"c{n}", "t", n, requires_approval=True) for n in range(SENDS)]

    answered(respond)
    ada.send_message(chat, "q")
    threads(SENDS, lambda i: ada.approve_tools(chat, [f"c{i}"]))
    until(lambda: ada.get_state(chat)["state"] == "idle")
    assert next(calls) == 2
    is_idle(app, ada, chat)


def test_a_cancellation_and_an_end_at_the_same_time(app, ada, chat, answered, threads):
    """The first of them decides, and the answer says which: completed with all of the text, or cancelled."""
    for _ in range(12):
        barrier = threading.Barrier(2)

        def respond(turn, barrier=barrier):
            yield "one "
            barrier.wait(30)
            yield "two"

        answered(respond)
        ada.send_message(chat, "q", wait=False)
        barrier.wait(30)
        turn = ada.cancel(chat)
        until(lambda: ada.get_state(chat)["state"] in ("idle", "cancelled"))
        state = ada.get_state(chat)
        answer = state["messages"][-1]
        if answer["status"] == "delivered":
            assert answer["content"] == "one two"
        else:
            assert (answer["status"], state["state"], turn["outcome"]) == ("interrupted", "cancelled", "cancelled")
            assert "one two".startswith(answer["content"])
    is_idle(app, ada, chat)


def test_a_cancellation_from_another_worker(two):
    """It takes effect within seconds, keeps the text so far, and the worker says nothing more."""
    led = Led()
    workers = two(led)
    here, there = services(workers)
    chat = here.create_conversation("T")["id"]
    here.send_message(chat, "q", wait=False)
    led.say("one ")
    until(lambda: said(there, chat)[-1] == ("a", "one "))
    turn = there.cancel(chat)
    assert turn["outcome"] == "cancelled"
    led.say("two")
    led.wait_ended()
    assert said(there, chat) == [("u", "q"), ("a", "one ")]
    is_idle(workers[0], here, chat)


def test_ten_cancellations_at_once(two, threads):
    """The turn ends once, whichever worker cancels it."""
    led = Led()
    workers = two(led)
    adas = services(workers)
    chat = adas[0].create_conversation("T")["id"]
    adas[0].send_message(chat, "q", wait=False)
    led.say("one ")
    until(lambda: said(adas[1], chat)[-1] == ("a", "one "))
    with noted(workers[0]) as seen:
        threads(6, lambda i: adas[i % 2].cancel(chat))
    assert [one for one in seen if one[2]] in ([("streaming", "cancelled", "cancelled")], [])
    assert said(adas[0], chat) == [("u", "q"), ("a", "one ")]
    assert [row.state for row in turns_of(workers[0], chat)] == ["cancelled"]
    is_idle(workers[0], adas[0], chat)


def test_cancelling_between_two_turns_loses_no_question(two):
    """The first turn ends while its successor, on another worker, has not begun: a cancellation then keeps the question."""
    first, second = Led(), Led()
    # a turn that has not begun says nothing more once it was asked to stop: the caller need not wait for three seconds here
    workers = two(first, timing=dataclasses.replace(QUICK, cancel_timeout=0.3))
    workers[1].conversations.responder(second)
    here, there = services(workers)
    chat = here.create_conversation("T")["id"]
    here.send_message(chat, "one", wait=False)
    first.wait()
    there.send_message(chat, "two", wait=False)
    first.say("a", END)
    first.wait_ended()
    for _ in range(3):
        here.cancel(chat)
    second.say("b", END)
    until(lambda: here.get_state(chat)["state"] in ("idle", "cancelled") and not here.get_state(chat)["waiting"])
    assert [text for role, text in said(here, chat) if role == "u"] == ["one", "two"]
    assert [role for role, _ in said(here, chat)] == ["u", "a"] * 2
    is_idle(workers[0], here, chat)


def test_regenerating_while_others_send(app, ada, chat, answered, threads):
    """Each gets its turn; every answer is below a question, and none is gone."""
    answered(echo)
    first = ada.send_message(chat, "first")

    def work(i):
        return ada.send_message(chat, str(i)) if i % 2 else ada.regenerate(chat, first["answer"]["id"])

    outcomes = threads(6, work)
    rows = {row.id: row for row in tree(app, chat)}
    assert len(rows) == 2 + 3 * 2 + 3
    for outcome in outcomes:
        answer = outcome["answer"]
        assert rows[answer["parent_id"]].role == "user"
        assert answer["content"] == f"re {rows[answer['parent_id']].content}"
    is_idle(app, ada, chat)


@pytest.mark.parametrize("queue", [0, 2])
def test_more_than_may_wait_get_409_with_retry_after(make_app, http, led, queue):
    """CONVERSATIONS_TURN_QUEUE turns wait, in order; one more is 409 with Retry-After, and stored nowhere."""
    app = make_app(CONVERSATIONS_TURN_QUEUE=queue)
    app.conversations.responder(led)
    ada = app.conversations.as_user("ada", app=app)
    chat = ada.create_conversation("T")["id"]
    client = app.test_client()
    for n in range(queue + 1):
        ada.send_message(chat, str(n), wait=False)
    with pytest.raises(TurnInProgress):
        ada.send_message(chat, "too many")
    for route in ("messages", "actions/send_message", "actions/regenerate"):
        body = {} if route.endswith("regenerate") else {"content": "too many"}
        refused = client.post(f"/api/conversations/{chat}/{route}", json=body, headers={"X-Test-User": "ada"})
        assert (refused.status_code, refused.get_json()["code"]) == (409, "turn_in_progress")
        assert int(refused.headers["Retry-After"]) > 0
        assert refused.get_json()["retryable"]
    for n in range(queue + 1):
        led.wait()
        led.say(f"re {n}", END)
    until(lambda: ada.get_state(chat)["state"] == "idle" and not ada.get_state(chat)["waiting"])
    assert in_pairs(said(ada, chat)) == [str(n) for n in range(queue + 1)]
    is_idle(app, ada, chat)


def test_nobody_waits_behind_a_question_for_approval(app, ada, http, chat, answered):
    """Sending, regenerating and editing are 409 until it is decided, or cancelled."""
    answered(with_tools)
    question = ada.send_message(chat, "q")["question"]
    for call in (
        lambda: ada.send_message(chat, "x"),
        lambda: ada.regenerate(chat),
        lambda: ada.edit_question(chat, question["id"], "x"),
        lambda: ada.turn(chat, "x"),
        lambda: ada.record_stream(chat, []),
    ):
        with pytest.raises(TurnInProgress):
            call()
    assert http("ada").post(f"/api/conversations/{chat}/messages", json={"content": "x"}).status_code == 409
    assert len(tree(app, chat)) == 2
    ada.cancel(chat)
    assert ada.send_message(chat, "x")["state"] == "awaiting_approval"
    assert ada.approve_tools(chat, ["c1"])["state"] == "idle"
    is_idle(app, ada, chat)


def test_conversations_do_not_wait_for_each_other(app, ada, bob, answered):
    """One turn at a time is a rule of each conversation: three answer at the same moment."""
    together = threading.Barrier(3)

    def reply(turn):
        together.wait(30)
        return "a"

    answered(reply)
    chats = [(service, service.create_conversation("T")["id"]) for service in (ada, ada, bob)]
    for service, chat in chats:
        service.send_message(chat, "q", wait=False)
    for service, chat in chats:
        until(lambda service=service, chat=chat: service.get_state(chat)["state"] == "idle")
        assert len(turns_of(app, chat)) == 1
