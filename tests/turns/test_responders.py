"""What a responder may say, and what becomes of what it may not: the question is kept, the answer marked, the next turn works."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time

import pytest

from flask_conversations.errors import ConversationsError, Forbidden
from flask_conversations.service.turns.timing import Timing
from flask_conversations.turns import Component, Reasoning, ResponderError, ToolCall, ToolResult, Usage

from .sse import EVENTS, events, text_of
from .tools import END, is_idle, noted, said, until

ON_SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
"""For what is decided in the process that answers."""


class Stream:
    """An iterator that is no generator."""

    def __init__(self, *pieces):
        self.pieces = list(pieces)

    def __iter__(self):
        return self

    def __next__(self):
        if not self.pieces:
            raise StopIteration
        return self.pieces.pop(0)


class AsyncStream(Stream):
    def __aiter__(self):
        return self

    async def __anext__(self):
        await asyncio.sleep(0)
        if not self.pieces:
            raise StopAsyncIteration
        return self.pieces.pop(0)


def generator(turn):
    yield "one "
    yield "two"


async def async_generator(turn):
    yield "one "
    await asyncio.sleep(0)
    yield "two"


async def coroutine(turn):
    await asyncio.sleep(0)
    return "one two"


async def coroutine_of_generator(turn):
    return generator(turn)


async def coroutine_of_async_generator(turn):
    return async_generator(turn)


async def coroutine_of_coroutine(turn):
    return coroutine(turn)


async def coroutine_of_async_stream(turn):
    return AsyncStream("one ", "two")


async def coroutine_of_list(turn):
    return ["one ", "two"]


def in_another_thread(turn):
    """Hands on what a thread of its own has made."""
    import queue

    pieces: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=lambda: [pieces.put(one) for one in ("one ", "two", None)], daemon=True).start()
    return iter(pieces.get, None)


async def with_a_task_left_behind(turn):
    asyncio.get_running_loop().create_task(asyncio.sleep(60))
    return "one two"


GOOD = {
    "text": lambda turn: "one two",
    "bytes": lambda turn: b"one two",
    "bytearray": lambda turn: bytearray(b"one two"),
    "generator": generator,
    "iterator": lambda turn: Stream("one ", "two"),
    "list": lambda turn: ["one ", "two"],
    "tuple": lambda turn: ("one ", "two"),
    "bytes in pieces": lambda turn: [b"one ", b"two"],
    "empty pieces": lambda turn: ["", "one ", "", None, "two", b"", None],
    "async generator": async_generator,
    "async iterator": lambda turn: AsyncStream("one ", "two"),
    "coroutine": coroutine,
    "coroutine of a generator": coroutine_of_generator,
    "coroutine of an async generator": coroutine_of_async_generator,
    "coroutine of a coroutine": coroutine_of_coroutine,
    "coroutine of an async iterator": coroutine_of_async_stream,
    "coroutine of a list": coroutine_of_list,
    "another thread": in_another_thread,
    "a task left behind": with_a_task_left_behind,
    "the history": lambda turn: ["one ", "two"] if turn.history[-1]["content"] == "q" else "?",
}


@pytest.fixture(params=["on disk", "in memory"])
def place(request, app, memory):
    """An app on the database of the test, and one on SQLite in memory."""
    return app if request.param == "on disk" else memory()


def test_every_shape_of_an_answer_is_kept_word_for_word(place):
    """Text, bytes, pieces of either, and events, from functions, generators and coroutines, give the same answer."""
    ada = place.conversations.as_user("ada", app=place)
    chat = ada.create_conversation("T")["id"]
    for shape, responder in GOOD.items():
        place.conversations.responder(responder)
        outcome = ada.send_message(chat, "q")
        answer = outcome["answer"]
        assert (outcome["state"], answer["status"], answer["content"]) == ("idle", "delivered", "one two"), shape
        assert answer["parts"] is None
        assert answer["parent_id"] == outcome["question"]["id"]
    is_idle(place, ada, chat)


def raising(error, *before):
    def respond(turn):
        yield from before
        raise error

    return respond


async def cancelled_inside(turn):
    yield "so far"
    raise asyncio.CancelledError


def exits(turn):
    yield "so far"
    sys.exit(3)


FAILURES = {
    "None": (lambda turn: None, ""),
    "nothing": (lambda turn: "", ""),
    "no pieces": (lambda turn: [], ""),
    "empty pieces": (lambda turn: ["", None, b""], ""),
    "a dict": (lambda turn: {"one": "two"}, ""),
    "an int": (lambda turn: 42, ""),
    "a float in pieces": (lambda turn: ["so far", 1.5], "so far"),
    "a dict in pieces": (lambda turn: iter(["so far", {"a": 1}]), "so far"),
    "a class": (lambda turn: ToolCall, ""),
    "raises at once": (lambda turn: 1 / 0, ""),
    "raises before text": (raising(RuntimeError("marker-word")), ""),
    "raises after text": (raising(RuntimeError("marker-word"), "so far"), "so far"),
    "raises ours": (raising(ResponderError("Try again tomorrow."), "so far"), "so far"),
    "exits": (exits, "so far"),
    "is cancelled inside": (cancelled_inside, "so far"),
    "raises KeyboardInterrupt": (raising(KeyboardInterrupt(), "so far"), "so far"),
    "bad arguments": (lambda turn: ["so far", ToolCall("c", "t", object())], "so far"),
    "arguments that are deep": (lambda turn: ["so far", ToolCall("c", "t", deep())], "so far"),
    "an id that is none": (lambda turn: ["so far", ToolCall(7, "t")], "so far"),
    "a name too long": (lambda turn: ["so far", ToolCall("c", "t" * 1000)], "so far"),
    "a result of no JSON": (lambda turn: ["so far", ToolResult("c", {1, 2})], "so far"),
    "a component of no JSON": (lambda turn: ["so far", Component("c", object())], "so far"),
    "a component without a type": (lambda turn: ["so far", Component("", 1)], "so far"),
    "reasoning that is no text": (lambda turn: ["so far", Reasoning(None)], "so far"),
    "usage with bad details": (lambda turn: ["so far", Usage(1, 2, details=7)], "so far"),
    "usage with details of no JSON": (lambda turn: ["so far", Usage(1, 2, details={"a": object()})], "so far"),
    "usage with a model that is none": (lambda turn: ["so far", Usage(1, 2, model=7)], "so far"),
    "no argument": (lambda: "one two", ""),
}


def deep(levels=2000):
    found = []
    for _ in range(levels):
        found = [found]
    return found


def test_a_responder_that_fails_leaves_the_question_and_the_text_so_far(app, ada, chat, answered, caplog):
    """The answer is marked as failed and says why without repeating anything; the state says so; the next turn works."""
    for shape, (responder, text) in FAILURES.items():
        answered(responder)
        with noted(app) as seen:
            outcome = ada.send_message(chat, "q")
        answer = outcome["answer"]
        assert (outcome["state"], answer["status"], answer["content"]) == ("failed", "failed", text), shape
        assert outcome["question"]["content"] == "q"
        error = answer["metadata"]["error"]
        assert set(error) == {"code", "detail"}
        assert error["code"] == "responder_failed"
        assert error["detail"] == ("Try again tomorrow." if shape == "raises ours" else error["detail"])
        assert "marker-word" not in str(outcome) + caplog.text.replace('"marker-word"', "")
        assert seen[-1] == (seen[-2][1], "failed", "failed")
        answered(lambda turn: "well")
        assert ada.send_message(chat, "again")["answer"]["content"] == "well"
        assert said(ada, chat)[-4:] == [("u", "q"), ("a", text), ("u", "again"), ("a", "well")]
    is_idle(app, ada, chat)


def test_our_own_errors_keep_their_code(app, ada, chat, answered):
    """A responder that calls the service and meets an error of ours fails with that one."""
    answered(raising(Forbidden("Not you."), "so far"))
    answer = ada.send_message(chat, "q")["answer"]
    assert answer["metadata"]["error"] == {"code": "forbidden", "detail": "Not you."}
    assert answer["content"] == "so far"


def test_the_service_can_be_called_from_a_responder(app, ada, bob, chat, answered):
    """`turn.service` writes and reads while the turn is under way, in this conversation and others; Bob's stay unseen."""
    theirs = bob.create_conversation("b")["id"]

    def respond(turn):
        yield "one "
        turn.service.save_message(chat, "assistant", "note")
        other = turn.service.create_conversation("made on the way")["id"]
        turn.service.save_message(other, "user", "x")
        with pytest.raises(ConversationsError):
            turn.service.get_conversation(theirs)
        with turn.app.app_context():
            assert turn.identity.user_id == "ada"
        yield "two"

    answered(respond)
    outcome = ada.send_message(chat, "q")
    assert (outcome["state"], outcome["answer"]["content"]) == ("idle", "one two")
    assert {text for _, text in said(ada, chat)} == {"q", "one two", "note"}
    is_idle(app, ada, chat)


def test_a_responder_may_cancel_its_own_turn(app, ada, chat, answered):
    """What it says after that is not wanted."""

    def respond(turn):
        yield "one "
        turn.service.cancel(chat)
        yield "two"

    answered(respond)
    outcome = ada.send_message(chat, "q")
    assert (outcome["state"], outcome["answer"]["content"]) == ("cancelled", "one ")
    is_idle(app, ada, chat)


# -- characters -------------------------------------------------------------------------------------------------------

SMILE = "\U0001f600"
HIGH, LOW = "\ud83d", "\ude00"
REPLACED = "\ufffd"

TEXTS = {
    "a pair in two pieces": ([f"a{HIGH}", f"{LOW}b"], f"a{SMILE}b"),
    "a pair around nothing": ([HIGH, "", None, LOW], SMILE),
    "half a pair at the end": (["a", HIGH], f"a{REPLACED}"),
    "the other half alone": ([LOW, "a"], f"{REPLACED}a"),
    "halves the wrong way round": ([f"{LOW}{HIGH}", "a"], f"{REPLACED}{REPLACED}a"),
    "many pairs": ([HIGH, LOW + HIGH, LOW + HIGH, LOW], SMILE * 3),
    "a character of bytes in pieces": ([bytes([one]) for one in SMILE.encode()], SMILE),
    "bytes that are cut": ([b"a", SMILE.encode()[:2]], f"a{REPLACED}"),
    "bytes that are no UTF-8": ([b"a\xffb"], f"a{REPLACED}b"),
    "NUL": (["a\0b"], f"a{REPLACED}b"),
    "only NUL": (["\0"], REPLACED),
    "a word joiner and friends": (["a\u2060b\u200dc\ufeffd"], "a\u2060b\u200dc\ufeffd"),
    "line ends": (["a\r\nb\rc\nd\u2028e\u2029f\x85g\x0bh"], "a\r\nb\rc\nd\u2028e\u2029f\x85g\x0bh"),
    "combining": (["e", "\u0301"], "e\u0301"),
    "the last character there is": (["\U0010ffff"], "\U0010ffff"),
}


def test_characters_arrive_whole_or_as_the_sign_for_none(app, http, ada, chat, answered):
    """Pairs and UTF-8 sequences may be cut anywhere; what is no character is replaced; every way of reading gives the same."""
    for case, (pieces, text) in TEXTS.items():
        answered(lambda turn, pieces=pieces: iter(pieces))
        streamed = http("ada").post(f"/api/conversations/{chat}/messages", json={"content": "q"}, headers=EVENTS)
        assert text_of(events(streamed)) == text, case
        assert ada.get_messages(chat)["messages"][-1]["content"] == text, case
    is_idle(app, ada, chat)


def test_characters_in_events_are_any_databases(app, ada, chat, answered):
    """NUL and half characters inside arguments, results, components, names and reasoning do not reach the database."""
    bad = {f"k\0{HIGH}": [f"v\0{LOW}", {"deep\0": HIGH}]}

    def respond(turn):
        yield Reasoning(HIGH)
        yield Reasoning(f"{LOW}\0")
        yield ToolCall(f"c\0{HIGH}", f"n\0{LOW}", bad)
        yield ToolResult(f"c\0{HIGH}", bad)
        yield Component("chart\0", bad)
        yield Usage(1, 2, model=f"m\0{HIGH}", details=bad)
        yield "text"

    answered(respond)
    outcome = ada.send_message(chat, "q")
    assert outcome["state"] == "idle", outcome
    parts = outcome["answer"]["parts"]
    assert [part["type"] for part in parts] == ["reasoning", "tool_call", "tool_result", "component", "text"]
    assert parts[0]["text"] == f"{SMILE}{REPLACED}"
    assert parts[1]["id"] == parts[2]["tool_call_id"]
    assert "\0" not in str(outcome)
    assert outcome["answer"]["model"] == f"m{REPLACED}{REPLACED}"
    is_idle(app, ada, chat)


@pytest.fixture
def at_its_own_pace(make_app):
    """An app with the real timing, Ada, and a conversation of hers."""
    app = make_app(timing=Timing())
    ada = app.conversations.as_user("ada", app=app)
    return app, ada, ada.create_conversation("Chat")["id"]


# -- much -------------------------------------------------------------------------------------------------------------


@ON_SQLITE
def test_a_hundred_thousand_pieces_are_one_answer(at_its_own_pace):
    """They are not written one by one, as fast as they come in a host's app."""
    app, ada, chat = at_its_own_pace
    app.conversations.responder(lambda turn: (f"{n} " for n in range(100_000)))
    outcome = ada.send_message(chat, "q")
    assert outcome["answer"]["content"] == "".join(f"{n} " for n in range(100_000))
    assert outcome["state"] == "idle"
    assert ada.get_conversation(chat)["version"] < 100
    is_idle(app, ada, chat)


@ON_SQLITE
def test_twenty_thousand_events_of_usage_add_up(at_its_own_pace):
    """A provider may send usage with every piece: all of it counts."""
    app, ada, chat = at_its_own_pace
    app.conversations.responder(lambda turn: (one for n in range(20_000) for one in ("x", Usage(output_tokens=1))))
    outcome = ada.send_message(chat, "q")
    assert outcome["answer"]["usage"] == {"output_tokens": 20_000}
    assert len(outcome["answer"]["content"]) == 20_000


def test_a_piece_of_a_megabyte_is_one_answer(app, ada, chat, answered):
    """A large text at once, and on top of it more."""
    answered(lambda turn: iter(["é" * 1_000_000, "end"]))
    outcome = ada.send_message(chat, "q")
    assert outcome["answer"]["content"] == "é" * 1_000_000 + "end"
    is_idle(app, ada, chat)


def test_counts_that_no_database_holds_do_not_end_a_turn(app, ada, chat, answered):
    """Whatever a provider says of its tokens, the answer is kept."""
    for tokens in (2**40, 2**53, 2**70, -1, True, "7", 1.5):
        answered(lambda turn, tokens=tokens: iter(["text", *[Usage(tokens, tokens, tokens)] * 5]))
        outcome = ada.send_message(chat, "q")
        assert (outcome["state"], outcome["answer"]["content"]) == ("idle", "text")
    is_idle(app, ada, chat)


def test_an_answer_longer_than_allowed_is_cut_and_marked(make_app):
    """CONVERSATIONS_MAX_CONTENT_LENGTH holds for answers too."""
    app = make_app(CONVERSATIONS_MAX_CONTENT_LENGTH=10)
    app.conversations.responder(lambda turn: iter(["12345", "67890", "1"]))
    ada = app.conversations.as_user("ada", app=app)
    chat = ada.create_conversation()["id"]
    outcome = ada.send_message(chat, "q")
    assert (outcome["state"], outcome["answer"]["content"]) == ("failed", "1234567890")
    is_idle(app, ada, chat)


# -- those that do not end --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [[], ["so far"]])
def test_a_responder_that_hangs_is_not_waited_for(make_app, led, before):
    """After CONVERSATIONS_TURN_TIMEOUT of silence the turn is over; what it says later goes nowhere."""
    app = make_app(CONVERSATIONS_TURN_TIMEOUT=1)
    app.conversations.responder(led)
    ada = app.conversations.as_user("ada", app=app)
    chat = ada.create_conversation()["id"]
    led.say(*before)
    outcome = ada.send_message(chat, "q")
    assert outcome["answer"]["status"] == "interrupted"
    assert outcome["answer"]["content"] == "".join(before)
    assert outcome["turn"]["outcome"] == "interrupted"
    led.say("too late")
    led.wait_ended()
    is_idle(app, ada, chat)
    assert said(ada, chat) == [("u", "q"), ("a", "".join(before))]
    led.say("well", END)
    assert ada.send_message(chat, "again")["answer"]["content"] == "well"


@ON_SQLITE
def test_a_coroutine_that_hangs_is_cancelled(make_app):
    """An async responder that waits for ever gets a CancelledError."""
    cancelled = threading.Event()

    async def respond(turn):
        yield "so far"
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    app = make_app(CONVERSATIONS_TURN_TIMEOUT=1)
    app.conversations.responder(respond)
    ada = app.conversations.as_user("ada", app=app)
    chat = ada.create_conversation()["id"]
    assert ada.send_message(chat, "q")["answer"]["content"] == "so far"
    assert cancelled.wait(10)
    is_idle(app, ada, chat)


def test_a_responder_that_ignores_a_cancellation_says_nothing_more(app, ada, chat, answered):
    """Pieces after a cancellation are not stored, a generator is closed, and one that will not close does no harm."""
    go, over = threading.Event(), threading.Event()

    def respond(turn):
        try:
            yield "one "
            assert go.wait(30)
            yield "two "
            yield "three"
        finally:
            over.set()
            yield "in finally"

    answered(respond)
    ada.send_message(chat, "q", wait=False)
    until(lambda: said(ada, chat)[-1] == ("a", "one "))
    turn = ada.cancel(chat)
    assert turn["outcome"] == "cancelled"
    go.set()
    assert over.wait(30)
    is_idle(app, ada, chat)
    assert said(ada, chat)[-1] == ("a", "one ")


def test_a_coroutine_that_swallows_a_cancellation_says_nothing_more(app, ada, chat, answered):
    """It goes on yielding, and its events are dropped."""
    over = threading.Event()

    async def respond(turn):
        yield "one "
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(30)
        try:
            yield "two"
        finally:
            over.set()

    answered(respond)
    ada.send_message(chat, "q", wait=False)
    until(lambda: said(ada, chat)[-1] == ("a", "one "))
    assert ada.cancel(chat)["outcome"] == "cancelled"
    assert over.wait(30)
    is_idle(app, ada, chat)
    assert said(ada, chat)[-1] == ("a", "one ")


def test_a_plain_function_that_is_cancelled_says_nothing(app, ada, chat, answered):
    """It sees `turn.cancelled`, and what it returns after that is not wanted."""
    go, seen = threading.Event(), []

    def respond(turn):
        go.set()
        until(lambda: turn.cancelled)
        seen.append(turn.cancelled)
        return "too late"

    answered(respond)
    ada.send_message(chat, "q", wait=False)
    assert go.wait(30)
    assert ada.cancel(chat)["outcome"] == "cancelled"
    until(lambda: seen)
    is_idle(app, ada, chat)
    assert said(ada, chat) == [("u", "q"), ("a", "")]
    assert ada.cancel(chat) is None


# -- events -----------------------------------------------------------------------------------------------------------


def test_every_kind_of_event_has_its_part(app, ada, chat, answered):
    """The parts are in the order in which they were said; the text is put together; usage, model and component are columns."""

    def respond(turn):
        yield Reasoning("hm ")
        yield Reasoning("yes")
        yield "a"
        yield "b"
        yield ToolCall("c1", "sum", {"of": [1, 2]})
        yield ToolResult("c1", 3)
        yield ToolResult("c2", "broken", is_error=True)
        yield Usage(10, 5, model="m-1")
        yield Component("chart", {"x": [1]})
        yield "c"
        yield Usage(1, 2, details={"cached": 3})

    answered(respond)
    answer = ada.send_message(chat, "q")["answer"]
    assert answer["parts"] == [
        {"type": "reasoning", "text": "hm yes"},
        {"type": "text", "text": "ab"},
        {"type": "tool_call", "id": "c1", "name": "sum", "arguments": {"of": [1, 2]}},
        {"type": "tool_result", "tool_call_id": "c1", "content": 3},
        {"type": "tool_result", "tool_call_id": "c2", "content": "broken", "is_error": True},
        {"type": "component", "component_type": "chart", "data": {"x": [1]}},
        {"type": "text", "text": "c"},
    ]
    assert answer["content"] == "abc"
    assert (answer["component_type"], answer["component_data"]) == ("chart", {"x": [1]})
    assert answer["model"] == "m-1"
    assert answer["usage"] == {"input_tokens": 11, "output_tokens": 7, "cached": 3}
    assert answer["tokens_used"] == 18
    is_idle(app, ada, chat)


def test_an_event_alone_is_an_answer(app, ada, chat, answered, subtests):
    """Returned as it is, or as the only piece."""
    for alone in (ToolCall("c", "t"), Reasoning("hm"), Component("card", 1)):
        for said_so in (alone, [alone]):
            with subtests.test(type(alone).__name__, as_a=type(said_so).__name__):
                answered(lambda turn, said_so=said_so: said_so)
                outcome = ada.send_message(chat, "q")
                assert (outcome["state"], outcome["answer"]["status"]) == ("idle", "delivered")
                assert len(outcome["answer"]["parts"]) == 1
    is_idle(app, ada, chat)


def test_usage_alone_is_no_answer(app, ada, chat, answered):
    """It costs something, but says nothing."""
    answered(lambda turn: [Usage(1, 2, model="m")])
    outcome = ada.send_message(chat, "q")
    assert (outcome["state"], outcome["answer"]["tokens_used"]) == ("failed", 3)
    is_idle(app, ada, chat)


def test_nothing_is_said_between_a_question_for_approval_and_the_decision(app, ada, chat, answered):
    """Calls that follow belong to it; text that follows is not taken, and the generator is closed."""
    closed = threading.Event()

    def respond(turn):
        if turn.approved:
            return "done"

        def pieces():
            try:
                yield "a "
                yield ToolCall("c1", "rm", 1, requires_approval=True)
                yield ToolCall("c2", "ls", 2)
                yield ToolCall("c3", "rm", 3, requires_approval=True)
                yield "not said"
                yield "nor this"
            finally:
                closed.set()

        return pieces()

    answered(respond)
    outcome = ada.send_message(chat, "q")
    assert closed.wait(5)
    assert (outcome["state"], outcome["answer"]["status"]) == ("awaiting_approval", "pending")
    assert [part.get("id") for part in outcome["answer"]["parts"]] == [None, "c1", "c2", "c3"]
    pending = ada.get_state(chat)["pending_actions"]
    assert [one["tool_call_id"] for one in pending] == ["c1", "c3"]
    assert ada.approve_tools(chat, ["c1"])["state"] == "awaiting_approval"
    outcome = ada.approve_tools(chat, ["c3"], approved=False)
    assert (outcome["state"], outcome["answer"]["content"]) == ("idle", "a done")
    approvals = {part["id"]: part.get("approval") for part in outcome["answer"]["parts"] if part["type"] == "tool_call"}
    assert approvals == {"c1": "approved", "c2": None, "c3": "denied"}
    is_idle(app, ada, chat)


def test_a_responder_may_ask_again_and_again(app, ada, chat, answered):
    """Round after round of approvals is one turn and one answer; the same id may come twice."""

    def respond(turn):
        results = [part for part in turn.answer if part["type"] == "tool_result"]
        for call in [*turn.approved, *turn.denied]:
            yield ToolResult(call.id, len(results))
            results.append(call)
        if len(results) < 3:
            yield ToolCall(f"c{len(results)}", "next", len(results), requires_approval=True)
        else:
            yield "end"

    answered(respond)
    outcome = ada.send_message(chat, "q")
    for n in range(3):
        assert outcome["state"] == "awaiting_approval"
        outcome = ada.approve_tools(chat, [f"c{n}"], approved=n != 1)
    assert (outcome["state"], outcome["answer"]["content"]) == ("idle", "end")
    assert len(ada.get_messages(chat)["messages"]) == 2
    is_idle(app, ada, chat)


def test_a_responder_that_knows_nothing_of_approvals_asks_for_ever_but_harms_nothing(app, ada, chat, answered):
    """One that says the same call whenever it is asked gets each of them decided, and a cancellation ends it."""
    answered(lambda turn: iter(["again ", ToolCall("c1", "rm", 1, requires_approval=True)]))
    outcome = ada.send_message(chat, "q")
    for _ in range(3):
        assert outcome["state"] == "awaiting_approval"
        outcome = ada.approve_tools(chat, ["c1"])
    assert outcome["answer"]["content"] == "again " * 4
    assert ada.cancel(chat)["outcome"] == "cancelled"
    is_idle(app, ada, chat)


def test_time_is_no_matter_of_pieces(app, ada, chat, answered):
    """Text that comes slowly is seen while it comes, by every reader of the database."""
    go = threading.Event()

    def respond(turn):
        yield "one "
        go.wait(30)
        yield "two "
        time.sleep(0.05)
        yield "three"

    answered(respond)
    ada.send_message(chat, "q", wait=False)
    until(lambda: said(ada, chat)[-1] == ("a", "one "))
    assert ada.get_messages(chat)["messages"][-1]["status"] == "streaming"
    go.set()
    until(lambda: ada.get_state(chat)["state"] == "idle")
    assert said(ada, chat)[-1] == ("a", "one two three")
