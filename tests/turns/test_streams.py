"""Turns as server-sent events: whatever connection is lost wherever, the reader ends up with the same, byte for byte."""

from __future__ import annotations

import time

import pytest
import redis

from flask_conversations.turns import Component, Reasoning, ToolCall, ToolResult, Usage

from ..infra.redis_servers import RedisServer
from .sse import EVENTS, events, events_of, joined, parsed, parts_of, text_of
from .tools import END, Led, is_idle, said, turns_of, until

ON_SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
"""For what a request or a setting decides."""

WORDS = ["Grüße ", "\U0001f600", "e\u0301", " und ", "\n\n", "data: x\n", "Ende. "]


def answer_of_forty(turn):
    """Texts, thoughts, calls and results: more than 40 events, some of them slow."""
    for n in range(8):
        yield Reasoning(f"thought {n}. ")
        yield from WORDS[: 1 + n % len(WORDS)]
        if n % 2:
            yield ToolCall(f"c{n}", "look", {"n": n, "text": WORDS[n % 7]})
            yield ToolResult(f"c{n}", [n])
        if n % 3 == 0:
            yield Component("chart", {"n": n})
        time.sleep(0.03)
    yield Usage(1, 2)


def client_of(app, user="ada"):
    client = app.test_client()
    client.environ_base["HTTP_X_TEST_USER"] = user
    return client


def resumed(app, chat, last, user="ada"):
    return client_of(app, user).get(f"/api/conversations/{chat}/stream", headers={"Last-Event-ID": last})


@pytest.fixture
def whole(app, ada, chat, answered, http):
    """A finished turn of many events, as its first reader saw it."""
    answered(answer_of_forty)
    return events(http("ada").post(f"/api/conversations/{chat}/messages", json={"content": "q"}, headers=EVENTS))


def test_a_stream_has_its_events_in_order_each_with_an_id(app, ada, chat, whole):
    """created, started, what is said, completed, state, done; every id is another, and higher; what is completed is stored."""
    kinds = [one.event for one in whole]
    assert (kinds[0], kinds[-1]) == ("message.created", "done")
    assert kinds.index("message.started") < kinds.index("message.reasoning")
    assert kinds[-3:] == ["message.completed", "state", "done"]
    turn = turns_of(app, chat)[0]
    assert all(one.id == f"{turn.id}:{one.position}" for one in whole)
    positions = [one.position for one in whole]
    assert positions == sorted(set(positions))
    completed = next(one for one in whole if one.event == "message.completed").data
    assert completed == ada.get_messages(chat)["messages"][-1]
    assert text_of(whole) == completed["content"]
    assert [one.data["state"] for one in whole if one.event == "state"][-1] == "idle"
    is_idle(app, ada, chat)


def test_every_event_is_a_place_to_resume_from(app, chat, whole):
    """Behind each event come exactly those that followed it, states and end included; behind the last one nothing."""
    turn = turns_of(app, chat)[0].id
    assert events_of(events(resumed(app, chat, f"{turn}:0"))) == events_of(whole)
    for n, one in enumerate(whole[:-1], 1):
        assert joined(events_of(whole[:n]), events_of(events(resumed(app, chat, one.id)))) == events_of(whole), one.id
    cut = events(resumed(app, chat, f"{whole[7].id}-2"))
    assert cut == events(resumed(app, chat, whole[7].id)), "a stream that the server had to cut goes on where it was"
    assert resumed(app, chat, whole[-1].id).status_code == 204


def test_every_word_is_a_place_to_resume_from(app, chat, whole, long):
    """In the middle of a text too: what was received before and what comes after are the whole."""
    turn = turns_of(app, chat)[0].id
    end = max(one.position for one in whole if one.event != "message.completed" and "message_id" in one.data)
    for position in range(0, end, 1 if long else 10):
        after = events(resumed(app, chat, f"{turn}:{position}"))
        assert joined(parts_of(cut(whole, position)), parts_of(after)) == parts_of(whole), position
        assert all(one.position > position for one in after)


def cut(found, position):
    """The events up to a position; a text that goes beyond it is cut there."""
    received = []
    for one in found:
        if one.position <= position:
            received.append(one)
        elif one.event in ("message.delta", "message.reasoning"):
            extra = one.position - position
            if extra < len(one.data["delta"]):
                received.append(one._replace(data={**one.data, "delta": one.data["delta"][:-extra]}))
            break
        else:
            break
    return received


@pytest.mark.parametrize("relay", ["without redis", "with redis", "redis stops"])
def test_a_running_turn_is_streamed_alike_by_every_worker(worker, relay):
    """A reader elsewhere, with Redis, without it, and with one that goes away: the same, from the start and from the middle."""
    import contextlib

    with contextlib.ExitStack() as stack:
        server = stack.enter_context(RedisServer()) if relay != "without redis" else None
        settings = {"CONVERSATIONS_REDIS_URL": server.url} if server else {}
        first, second = (worker(answer_of_forty, **settings) for _ in range(2))
        ada = first.conversations.as_user("ada", app=first)
        chat = ada.create_conversation("T")["id"]
        ada.send_message(chat, "q", wait=False)
        turn = turns_of(first, chat)[0].id
        path = f"/api/conversations/{chat}/stream"
        if relay == "redis stops":
            there = client_of(second).get(path)
            frames = iter(there.response)
            text = next(frames)
            for n, frame in enumerate(frames):
                text += frame
                if n == 4:
                    server.kill()
            found = parsed(text.decode())
        else:
            found = events(client_of(second).get(path))
        until(lambda: ada.get_state(chat)["state"] == "idle")
        kept = events(resumed(first, chat, f"{turn}:0"))
        assert events_of(found) == events_of(kept)
        assert len(parts_of(kept)) > 20
        positions = [one.position for one in found]
        assert positions == sorted(set(positions))
        middle = found[len(found) // 2]
        for app in (first, second):
            after = events(resumed(app, chat, middle.id))
            before = [one for one in found if one.position <= middle.position]
            assert joined(events_of(before), events_of(after)) == events_of(kept)
        is_idle(second, ada, chat)


@pytest.mark.parametrize("relay", [False, True])
def test_a_reader_who_comes_back_again_and_again(worker, relay, request):
    """Cut off after every few events, each time back on the other worker, while the turn runs: no gap and no repetition."""
    settings = {"CONVERSATIONS_REDIS_URL": request.getfixturevalue("redis_url")} if relay else {}
    apps = [worker(answer_of_forty, **settings) for _ in range(2)]
    ada = apps[0].conversations.as_user("ada", app=apps[0])
    chat = ada.create_conversation("T")["id"]
    ada.send_message(chat, "q", wait=False)
    turn = turns_of(apps[0], chat)[0].id
    received, last = [], f"{turn}:0"
    for n in range(200):
        answer = resumed(apps[n % 2], chat, last)
        if answer.status_code == 204:
            break
        text = b""
        for frame in answer.response:
            text += frame
            if text.count(b"\n\n") > 3:
                break
        answer.close()
        found = parsed(text.decode())
        received += found
        last = found[-1].id if found else last
    until(lambda: ada.get_state(chat)["state"] == "idle")
    assert events_of(received) == events_of(events(resumed(apps[0], chat, f"{turn}:0")))


@ON_SQLITE
def test_what_is_passed_on_does_not_stay_in_redis(worker, led, redis_url):
    """Two minutes while it grows, five seconds once the database has it all."""
    app = worker(led, CONVERSATIONS_REDIS_URL=redis_url)
    ada = app.conversations.as_user("ada", app=app)
    chat = ada.create_conversation("T")["id"]
    ada.send_message(chat, "q", wait=False)
    led.say("one ")
    with redis.Redis.from_url(redis_url) as client:
        key = f"conversation:{{{chat}}}:turn:{turns_of(app, chat)[0].id}"
        until(lambda: client.pttl(key) > 0, "what was said is passed on")
        assert 60_000 < client.pttl(key) <= 120_000
        led.say(END)
        until(lambda: 0 < client.pttl(key) <= 5_000, "it is about to be forgotten")
        assert said(ada, chat)[-1] == ("a", "one ")


@ON_SQLITE
def test_a_stream_says_when_to_come_back(http, chat, answered):
    """After two seconds, before anything else."""
    answered(lambda turn: "x")
    answer = http("ada").post(f"/api/conversations/{chat}/messages", json={"content": "q"}, headers=EVENTS)
    assert answer.get_data().startswith(b"retry: 2000\n\n")


def test_a_closed_connection_neither_stops_nor_loses_the_turn(app, ada, http, chat, led, answered):
    """The client reads a few frames and is gone; the answer goes on to its end."""
    answered(led)
    answer = http("ada").post(f"/api/conversations/{chat}/messages", json={"content": "q"}, headers=EVENTS)
    led.say("one ")
    frames = iter(answer.response)
    while b"one " not in next(frames):
        pass
    answer.close()
    assert app.extensions["flask_conversations"].turns.streams == 0
    led.say("two", END)
    until(lambda: ada.get_state(chat)["state"] == "idle")
    assert said(ada, chat) == [("u", "q"), ("a", "one two")]
    is_idle(app, ada, chat)


def test_a_turn_with_an_approval_has_two_streams(app, ada, http, chat, answered):
    """The first ends with the question for approval, the second has the rest; each event of either can be resumed from."""
    from .tools import with_tools

    answered(with_tools)
    first = events(http("ada").post(f"/api/conversations/{chat}/messages", json={"content": "q"}, headers=EVENTS))
    assert [one.event for one in first[-2:]] == ["state", "done"]
    assert first[-2].data == {"state": "awaiting_approval"}
    assert resumed(app, chat, first[-1].id).status_code == 204
    assert [one.event for one in events(resumed(app, chat, first[-2].id))] == ["done"]
    path = f"/api/conversations/{chat}/actions/approve_tools"
    second = events(http("ada").post(path, json={"tool_call_ids": ["c1"]}, headers=EVENTS))
    assert text_of(first) + text_of(second) == "Let me see. Done."
    assert second[0].data == {"state": "processing"}
    positions = [one.position for one in [*first, *second]]
    assert positions == sorted(set(positions))
    whole = [*first[:-1], *second]
    decided = {"approval": "approved"}
    for n, one in enumerate(whole):
        if one.event == "tool.call":
            whole[n] = one._replace(data={**one.data, **decided})
    for n, one in enumerate(whole[:-1], 1):
        again = events(resumed(app, chat, one.id))
        assert joined(events_of(whole[:n]), events_of(again)) == events_of(whole), one.id
    assert events_of(events(resumed(app, chat, first[-1].id))) == events_of(second)
    assert resumed(app, chat, whole[-1].id).status_code == 204


def test_a_failed_turn_streams_its_error(app, http, ada, chat, answered):
    """The text so far, the message as it is kept, a problem, the state and the end; read again it is the same."""

    def respond(turn):
        yield "one "
        raise RuntimeError("secret")

    answered(respond)
    found = events(http("ada").post(f"/api/conversations/{chat}/messages", json={"content": "q"}, headers=EVENTS))
    assert [one.event for one in found][-4:] == ["message.completed", "error", "state", "done"]
    problem = next(one.data for one in found if one.event == "error")
    assert (problem["status"], problem["code"]) == (502, "responder_failed")
    assert "secret" not in str(found)
    turn = turns_of(app, chat)[0].id
    assert events_of(events(resumed(app, chat, f"{turn}:0"))) == events_of(found)
    for n, one in enumerate(found[:-1], 1):
        assert joined(events_of(found[:n]), events_of(events(resumed(app, chat, one.id)))) == events_of(found), one.id


def test_a_stream_in_line_waits_for_its_turn(app, ada, http, chat, led, answered):
    """A client whose turn waits receives that state, and then all events."""
    answered(led)
    ada.send_message(chat, "one", wait=False)
    led.wait()
    answer = http("ada").post(f"/api/conversations/{chat}/messages", json={"content": "two"}, headers=EVENTS)
    frames = iter(answer.response)
    text = next(frames)
    while b"waiting" not in text:
        text += next(frames)
    led.say("a", END)
    led.wait()
    led.say("b", END)
    found = parsed((text + b"".join(frames)).decode())
    assert [one.data["content"] for one in found if one.event == "message.created"] == ["two"]
    assert text_of(found) == "b"
    positions = [one.position for one in found]
    assert positions == sorted(set(positions))
    assert [one.data["state"] for one in found if one.event == "state"] == [
        "waiting",
        "processing",
        "streaming",
        "idle",
    ]
    for n, one in enumerate(found[:-1], 1):
        assert joined(events_of(found[:n]), events_of(events(resumed(app, chat, one.id)))) == events_of(found), one.id


# -- what bad input gets ----------------------------------------------------------------------------------------------

FORGED = ["", "x", "1", ":", "::", "0:0", "a:1", "../..:1", "018f0000-0000-7000-8000-000000000000:1", "é:1", "%00:1"]
TAILS = ["", "x", "-1", "1.5", "1e3", "99999999999999999999", "1:2", "0x1", "\u0661"]


def test_a_forged_last_event_id_is_400_or_ones_own(app, http, ada, bob, chat, whole):
    """Unknown event ids are 400; one of another turn or another's conversation shows nothing of theirs."""
    turn = turns_of(app, chat)[0].id
    for last in [*FORGED, *(f"{turn}:{tail}" for tail in TAILS)]:
        sent = last.encode().decode("latin-1")
        answer = resumed(app, chat, sent)
        assert answer.status_code == 400, (last, answer.status_code)
        assert answer.get_json()["code"] == "malformed_request"
    assert resumed(app, chat, f"{turn}:0", "bob").status_code == 404
    assert client_of(app, "bob").get(f"/api/conversations/{chat}/stream").status_code == 404
    bobs = bob.create_conversation("T")["id"]
    bob.send_message(bobs, "bob's question")
    foreign = f"{turns_of(app, bobs)[0].id}:0"
    assert resumed(app, chat, foreign).status_code == 400
    assert resumed(app, bobs, f"{turn}:0", "bob").status_code == 400
    other = ada.create_conversation("T")["id"]
    assert resumed(app, other, f"{turn}:0").status_code == 400


def test_a_future_position_of_an_ended_turn_gets_the_whole_message(app, chat, whole):
    """A reader that claims a position beyond the end receives the whole message."""
    turn = turns_of(app, chat)[0].id
    end = whole[-5].position
    found = events(resumed(app, chat, f"{turn}:{end + 1000}"))
    assert [one.event for one in found] == ["message.completed", "state", "done"]


def test_a_future_position_of_a_running_turn_is_400_where_it_is_known(app, ada, chat, led, answered):
    """The worker that answers knows that no reader can be at that position."""
    answered(led)
    ada.send_message(chat, "q", wait=False)
    led.say("one ")
    until(lambda: said(ada, chat)[-1] == ("a", "one "))
    turn = turns_of(app, chat)[0].id
    assert resumed(app, chat, f"{turn}:100000").status_code == 400
    led.say(END)
    until(lambda: ada.get_state(chat)["state"] == "idle")


@ON_SQLITE
def test_a_question_without_a_responder_is_streamed_with_ids_too(app, http, chat):
    """Without a responder: the question, the state and the end; the rest behind each of them, and nothing behind the last."""
    found = events(
        http("ada").post(f"/api/conversations/{chat}/actions/send_message", json={"content": "q"}, headers=EVENTS)
    )
    assert [one.event for one in found] == ["message.created", "state", "done"]
    for n, one in enumerate(found[:-1], 1):
        assert events(resumed(app, chat, one.id)) == found[n:]
    assert resumed(app, chat, found[-1].id).status_code == 204


def test_no_turn_is_204(app, http, ada, chat, answered):
    """Before the first, and after the last."""
    path = f"/api/conversations/{chat}/stream"
    assert http("ada").get(path).status_code == 204
    answered(lambda turn: "x")
    ada.send_message(chat, "q")
    assert http("ada").get(path).status_code == 204
    assert http("bob").get(path).status_code == 404
    assert http(None).get(path).status_code == 401


ACCEPTED = {
    "text/event-stream": True,
    "Text/Event-Stream": True,
    "text/event-stream, application/json;q=0.5": True,
    "application/json, text/event-stream;q=0.1": True,
    "*/*": False,
    "application/json": False,
    "": False,
    "text/*": False,
}


@ON_SQLITE
def test_accept_decides_between_json_and_events(http, chat, answered, subtests):
    """Only who names events gets them."""
    answered(lambda turn: "x")
    client, path = http("ada"), f"/api/conversations/{chat}/messages"
    for accept, streams in ACCEPTED.items():
        with subtests.test(accept=accept):
            answer = client.post(path, json={"content": "q"}, headers={"Accept": accept})
            expected = (200, "text/event-stream") if streams else (201, "application/json")
            assert (answer.status_code, answer.mimetype) == expected
            answer.get_data()


def test_a_camel_case_mount_streams_camel_case(make_app):
    """Names in events are spelled like those in answers; what people and tools said is not respelled."""
    app = make_app(CONVERSATIONS_JSON_CASE="camel")
    app.conversations.responder(lambda turn: iter([ToolCall("c", "t", {"snake_name": 1}), "snake_text"]))
    client = client_of(app)
    chat = client.post("/api/conversations", json={}).get_json()["id"]
    found = events(client.post(f"/api/conversations/{chat}/messages", json={"content": "q"}, headers=EVENTS))
    by_kind = {one.event: one.data for one in found}
    assert by_kind["message.delta"]["delta"] == "snake_text"
    assert "messageId" in by_kind["message.delta"]
    assert "parentId" in by_kind["message.completed"]
    assert by_kind["tool.call"]["arguments"] == {"snake_name": 1}


def test_too_many_streams_are_503(make_app, led):
    """CONVERSATIONS_STREAM_LIMIT: the next client must poll; a question is not stored twice for it."""
    app = make_app(CONVERSATIONS_STREAM_LIMIT=1)
    app.conversations.responder(led)
    client = client_of(app)
    ada = app.conversations.as_user("ada", app=app)
    chat = ada.create_conversation("T")["id"]
    ada.send_message(chat, "q", wait=False)
    first = client.get(f"/api/conversations/{chat}/stream")
    frames = iter(first.response)
    next(frames)
    refused = client.get(f"/api/conversations/{chat}/stream")
    assert (refused.status_code, refused.get_json()["code"]) == (503, "too_many_streams")
    assert int(refused.headers["Retry-After"]) > 0
    refused = client.post(f"/api/conversations/{chat}/messages", json={"content": "x"}, headers=EVENTS)
    assert refused.status_code == 503
    first.close()
    led.say("a", END)
    events_after = client.get(f"/api/conversations/{chat}/stream")
    assert events_after.status_code in (200, 204)
    events_after.get_data()
    until(lambda: ada.get_state(chat)["state"] == "idle")
    assert said(ada, chat) == [("u", "q"), ("a", "a")]


@ON_SQLITE
def test_a_stream_ends_after_its_time_and_is_taken_up(make_app):
    """CONVERSATIONS_STREAM_SECONDS: the connection is closed between two events, the client comes back where it was."""
    led = Led()
    app = make_app(CONVERSATIONS_STREAM_SECONDS=1)
    app.conversations.responder(led)
    ada = app.conversations.as_user("ada", app=app)
    chat = ada.create_conversation("T")["id"]
    ada.send_message(chat, "q", wait=False)
    answer = client_of(app).get(f"/api/conversations/{chat}/stream")
    text = b""
    began = time.monotonic()
    for n, frame in enumerate(answer.response):
        text += frame
        if time.monotonic() - began < 20:
            led.say(f"{n} ")
            time.sleep(0.05)
    led.say(END)
    first = parsed(text.decode())
    assert first[-1].event != "done"
    second = events(resumed(app, chat, first[-1].id))
    until(lambda: ada.get_state(chat)["state"] == "idle")
    assert joined(parts_of(first), parts_of(second)) == [("message.delta", said(ada, chat)[-1][1])]
