"""The responder for OpenAI-compatible endpoints, asked to talk to one that fails in every way."""

from __future__ import annotations

import dataclasses
import importlib
import json
import logging
import re
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, Literal

import pytest

from flask_conversations.contrib.openai import OpenAIResponder, Tool
from flask_conversations.contrib.openai.parts import messages_of
from flask_conversations.contrib.openai.tools import definition_of
from flask_conversations.turns import Reasoning, ResponderError, ToolCall, ToolResult, Usage
from tests.infra import certificates
from tests.infra.openai_stub import (
    Stub,
    calls,
    cuts,
    deltas,
    fails,
    hangs_up,
    in_packets,
    says,
    sends,
    stalls,
    whole,
)

KEY = "sk-a-key-that-nobody-may-see"
QUESTION = [{"role": "user", "content": "Where is a secret-question?"}]


@dataclasses.dataclass
class Turn:
    """A turn without a machine."""

    history: list[dict[str, Any]] = dataclasses.field(default_factory=lambda: [*QUESTION])
    cancelled: bool = False
    approved: list[ToolCall] = dataclasses.field(default_factory=list)
    denied: list[ToolCall] = dataclasses.field(default_factory=list)
    answer: list[dict[str, Any]] = dataclasses.field(default_factory=list)


@pytest.fixture
def stub() -> Iterator[Stub]:
    """An endpoint; a test writes its script."""
    with Stub() as running:
        yield running


def responder(stub: Stub, **settings: Any) -> OpenAIResponder:
    made = OpenAIResponder(stub.url, "m", KEY, **{"timeout": 10, **settings})
    made._endpoint.backoff = 0.001
    return made


def events_of(stub: Stub, *acts: Any, turn: Any = None, **settings: Any) -> list[Any]:
    """All events that the responder yields when the endpoint plays *acts*; a `ResponderError` stands last."""
    stub.script = [*acts]
    said = []
    try:
        for event in responder(stub, **settings)(turn or Turn()):
            said.append(event)
    except ResponderError as error:
        said.append(error)
    return said


def text_of(said: list[Any]) -> str:
    return "".join(each for each in said if isinstance(each, str))


# -- an answer


def test_an_answer_comes_in_pieces_with_its_cost(stub):
    """Each piece is said as it came, and at the end who wrote it and what it took."""
    assert events_of(stub, says("Hel", "lo")) == ["Hel", "lo", Usage(12, 3, 15, model="m-1")]
    (asked,) = stub.asked
    assert (asked.path, asked.headers["Authorization"]) == ("/v1/chat/completions", f"Bearer {KEY}")
    assert asked.payload == {
        "model": "m",
        "messages": QUESTION,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_what_a_host_sets_is_sent(stub):
    """A system prompt, headers of its own, and body fields, of which None takes one away."""
    extra = {"temperature": 0, "stream_options": None}
    events_of(stub, says("Hi"), system="Be brief.", headers={"X-Team": "bees"}, extra=extra)
    (asked,) = stub.asked
    assert asked.payload["messages"] == [{"role": "system", "content": "Be brief."}, *QUESTION]
    assert asked.headers["X-Team"] == "bees"
    assert asked.payload["temperature"] == 0
    assert "stream_options" not in asked.payload


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_thoughts_are_no_text(stub, field):
    """What the model thinks is an event, under either name that endpoints have for it."""
    said = events_of(stub, deltas({field: "Hmm"}, {"content": "Yes"}))
    assert said[:2] == [Reasoning("Hmm"), "Yes"]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_packets_may_cut_characters_and_events_anywhere(stub, size):
    """Half a character per packet becomes a whole one."""
    text = "Ünïcödé 🐝, 蜜蜂\n\nend"
    assert text_of(events_of(stub, in_packets(text, size))) == text


def test_half_an_emoji_waits_for_the_other_half(stub):
    """JSON may cut a character into two escapes, in two events."""
    halves = [
        b'data: {"choices":[{"delta":{"content":"%s"}}]}\n\n' % half for half in (rb"a\ud83d", rb"\udc1db", rb"\ud83d")
    ]
    said = events_of(stub, sends(*halves, b'data: {"choices":[{"finish_reason":"stop"}]}\n\n'))
    assert said[:-1] == ["a", "🐝b", "\ufffd"]


def test_an_endpoint_that_does_not_stream_is_understood(stub):
    """The whole answer at once, as JSON, is an answer too, with its tool calls."""
    assert events_of(stub, whole("Hello")) == ["Hello", Usage(12, 3, 15, model="m-1")]


@pytest.mark.parametrize(
    ("packets", "text"),
    [
        ([b": waiting\n\n", b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}\n\n'], "a"),
        ([b'data:{"choices":[{"delta":{"content":"no space"}}]}\n\n', b"data:[DONE]\n\n"], "no space"),
        (
            [b"rubbish\n\xff\xfe\n", b'event: x\ndata: {"choices":[{"delta":{"content":"b"}}]}\n', b"data: [DONE]\n"],
            "b",
        ),
        ([b'data: {"choices":[{"delta":{"content":[{"type":"text","text":"c"}]}}]}\n', b"data: [DONE]\n"], "c"),
        ([b'data: {"choices":null}\n', b'data: {"choices":[{"delta":{"refusal":"No."}}]}\n', b"data: [DONE]\n"], "No."),
    ],
)
def test_the_dialects_of_endpoints_are_understood(stub, packets, text):
    """Comments, lines that mean nothing, no blank after the colon, content in parts, an end without either of its two signs."""
    assert text_of(events_of(stub, sends(*packets))) == text


def test_the_cost_may_be_missing_when_all_was_said(stub):
    """A connection that breaks after the last word takes nothing away."""
    assert events_of(stub, cuts("All of it", finish="stop")) == ["All of it", Usage(model="m-1")]


def test_an_answer_that_was_too_long_for_the_model_says_so(stub):
    """An answer cut by the model's own limit is one, and its usage shows it."""
    *_, usage = events_of(stub, says("Once upon", finish="length"))
    assert usage.details == {"finish_reason": "length"}


# -- before the first token: tried again, a few times


BEFORE = {
    "hangs up": hangs_up,
    "says it is busy": fails(503),
    "has an error": fails(500, b"<html>oops"),
    "is asked too often": fails(429, Retry_After="0"),
    "cuts after the head": cuts(),
    "cuts in the first event": cuts(half=b'data: {"choices":[{"del'),
    "sends broken JSON": sends(b"data: {broken\n\n"),
    "ends without a word": sends(),
    "reports an error": sends(b'data: {"error":{"message":"secret words","code":502}}\n\n'),
    "cuts in a tool call": deltas({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f"}}]}, finish=None),
}


@pytest.mark.parametrize("act", BEFORE.values(), ids=BEFORE.keys())
def test_before_the_first_token_it_is_asked_again(stub, act):
    """What passes is not seen by the person who asked."""
    assert text_of(events_of(stub, act, act, says("Here"))) == "Here"
    assert len(stub.asked) == 3


@pytest.mark.parametrize("act", BEFORE.values(), ids=BEFORE.keys())
def test_it_is_asked_again_three_times_and_no_more(stub, act, caplog):
    """Then the user gets one sentence; neither it nor the log has the key, the question or the text of the endpoint."""
    with caplog.at_level(logging.DEBUG, "flask_conversations"):
        (error,) = events_of(stub, act)
    assert isinstance(error, ResponderError)
    assert error.retryable
    assert len(stub.asked) == 4
    log = [record.getMessage() for record in caplog.records if record.name == "flask_conversations"]
    assert len(log) == 4
    for words in (str(error), *log):
        assert not any(secret in words for secret in (KEY, "secret"))
        assert words.endswith(".")


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (fails(400), "refused the question (400)"),
        (fails(401), "did not accept our key"),
        (fails(404), "does not know this model"),
        (fails(400, {"error": {"code": "context_length_exceeded"}}), "too long for the model"),
        (fails(429, {"error": {"code": "insufficient_quota"}}), "used up"),
        (fails(302, Location="/elsewhere"), "redirected the request"),
        (sends(b"<html>", content_type="text/html"), "no chat completion"),
        (says(), "answered with nothing"),
        (says(" ", "\n"), "answered with nothing"),
        (deltas({"reasoning": "Hmm"}), "answered with nothing"),
        (says(finish="content_filter"), "withheld"),
    ],
)
def test_what_would_not_pass_is_not_tried_again(stub, act, sentence):
    """A wrong key, a wrong model, a redirect, an empty answer: one request, one sentence. The key follows no redirect."""
    *_, error = events_of(stub, act)
    assert sentence in str(error)
    assert [asked.path for asked in stub.asked] == ["/v1/chat/completions"]


def test_the_pause_that_the_endpoint_asks_for_is_kept(stub):
    """`Retry-After` is waited for before the next attempt."""
    assert text_of(events_of(stub, fails(429, Retry_After="0.3"), says("Here"))) == "Here"
    assert stub.asked[1].at - stub.asked[0].at >= 0.3


@pytest.mark.parametrize("headers", [{"Retry_After": "3600"}, {"Retry_After": "Wed, 01 Jan 2120 00:00:00 GMT"}])
def test_nobody_waits_for_an_hour(stub, headers):
    """Where the endpoint wants a long pause, the user gets an error at once, which says how long."""
    (error,) = events_of(stub, fails(429, **headers))
    assert "too often" in str(error)
    assert error.retry_after >= 3600
    assert len(stub.asked) == 1


def test_a_pause_that_cannot_be_read_is_none(stub):
    """CorruptEntry in `Retry-After` is as if it were not there."""
    acts = [fails(429, Retry_After=value) for value in ("soon", "-5", "1e9")]
    assert text_of(events_of(stub, *acts, says("Here"))) == "Here"


def test_an_endpoint_that_is_not_there_is_asked_no_more_than_that(stub, caplog):
    """No endpoint listens: a sentence after the last attempt."""
    stub.refuse()
    with caplog.at_level(logging.INFO, "flask_conversations"):
        (error,) = events_of(stub, says("never"))
    assert str(error) == "The model cannot be reached at the moment."
    assert sum("attempt" in record.getMessage() for record in caplog.records) == 4


def test_an_endpoint_that_says_nothing_is_left_in_time(stub):
    """Each attempt waits as long as the timeout says, and its connection is closed."""
    (error,) = events_of(stub, stalls(), timeout=0.2, retries=1)
    assert str(error) == "The model said nothing for 0.2 seconds."
    stub.wait_gone(2)
    assert len(stub.asked) == 2


# -- after the first token: never again


AFTER = {
    "cuts": (cuts("So ", "far"), "was cut off"),
    "cuts in an event": (cuts("So ", "far", half=b'data: {"choices":[{"delta":{"content":" and'), "was cut off"),
    "falls silent": (stalls("So ", "far"), "said nothing for 0.4 seconds"),
    "ends too early": (deltas({"content": "So "}, {"content": "far"}, finish=None), "cut off"),
    "filters": (says("So ", "far", finish="content_filter"), "withheld"),
}


@pytest.mark.parametrize(("act", "sentence"), AFTER.values(), ids=AFTER.keys())
def test_after_the_first_token_it_is_never_asked_again(stub, request, act, sentence):
    """The text so far was said, and a sentence says that it is not all."""
    said = events_of(stub, act, says("Again"), timeout=0.4 if "silent" in request.node.callspec.id else 20)
    assert said[:2] == ["So ", "far"]
    assert sentence in str(said[2])
    assert len(stub.asked) == 1


def test_an_error_or_garbage_in_the_middle_is_not_tried_again(stub):
    """Also where the endpoint itself reports the error."""
    for garbage in (b'data: {"error":{"message":"overloaded"}}\n\n', b"data: {broken\n\n", b"data: []\n\n"):
        stub.asked.clear()
        text = b'data: {"choices":[{"delta":{"content":"So far"}}]}\n\n'
        said = events_of(stub, sends(text, garbage, text))
        assert said[0] == "So far"
        assert isinstance(said[1], ResponderError)
        assert len(stub.asked) == 1


def test_a_thought_counts_as_the_first_token(stub):
    """A user who saw the reasoning does not see it begin anew."""

    def thinks(line: Any) -> None:
        line.begin()
        line.delta(reasoning="Hmm")
        line.cut()

    said = events_of(stub, thinks, says("Again"))
    assert said[0] == Reasoning("Hmm")
    assert isinstance(said[1], ResponderError)
    assert len(stub.asked) == 1


def test_an_answer_without_end_is_ended(stub, monkeypatch):
    """More bytes than any answer has, in many lines or in one, and no more memory than that."""
    monkeypatch.setattr("flask_conversations.contrib.openai.reading.MAX_ANSWER_BYTES", 100_000)
    monkeypatch.setattr("flask_conversations.contrib.openai.reading.MAX_LINE_BYTES", 50_000)

    def never_ends(line: Any) -> None:
        line.begin()
        while True:
            line.delta(content="word " * 100)

    def one_line(line: Any) -> None:
        line.begin()
        while True:
            line.raw(b"x" * 10_000)

    *words, error = events_of(stub, never_ends)
    assert len(words) > 10
    assert str(error) == "The model's answer is too long."
    (error,) = events_of(stub, one_line)
    assert str(error) == "The model's answer is too long."
    stub.wait_gone(2)


def test_a_trickle_ends_at_the_deadline(stub):
    """An endpoint that sends a sign of life again and again, and no word, is left."""

    def trickles(line: Any) -> None:
        line.begin()
        while True:
            line.raw(b": still here\n\n")
            time.sleep(0.01)

    (error,) = events_of(stub, trickles, deadline=0.3, retries=0)
    assert str(error) == "The model took longer than 0.3 seconds."
    stub.wait_gone()


# -- stopping


def test_a_cancelled_turn_ends_between_two_pieces(stub):
    """No further event, no error, and the connection is closed."""
    turn = Turn()
    stub.script = [stalls("One", "Two", "Three")]
    said = []
    for event in responder(stub)(turn):
        said.append(event)
        turn.cancelled = True
    assert said == ["One"]
    stub.wait_gone()
    assert len(stub.asked) == 1


@pytest.mark.parametrize("pieces", [(), ("So far",)], ids=["before the first byte", "in mid-stream"])
def test_a_cancelled_turn_does_not_wait_for_a_silent_model(stub, pieces):
    """The connection is closed long before the timeout, wherever the model fell silent."""
    turn, said = Turn(), []
    stub.script = [stalls(*pieces)]
    answering = threading.Thread(target=lambda: said.extend(responder(stub, timeout=60)(turn)))
    answering.start()
    stub.wait_asked()
    turn.cancelled = True
    stub.wait_gone()
    answering.join(30)
    assert not answering.is_alive()
    assert said in ([*pieces], [])
    assert len(stub.asked) == 1


def test_over_tls_it_is_the_same(tmp_path, monkeypatch):
    """An answer comes, a stranger's certificate gets no question, and a cancelled turn waits for no silent model."""
    certificate = certificates.make(tmp_path)
    with Stub(says("Hel", "lo"), stalls("So far"), tls=certificate) as stub:
        (error,) = events_of(stub, says("Hel", "lo"))
        assert (str(error), stub.asked) == ("The model cannot be reached at the moment.", [])
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate.file))
        assert text_of(events_of(stub, says("Hel", "lo"))) == "Hello"

        turn, received = Turn(), threading.Event()
        stub.script = [stalls("So far")]

        def listen() -> None:
            for _ in responder(stub, timeout=60)(turn):
                received.set()

        answering = threading.Thread(target=listen)
        answering.start()
        assert received.wait(30)
        turn.cancelled = True
        stub.wait_gone()
        answering.join(30)
        assert not answering.is_alive()


def test_a_cancelled_turn_does_not_wait_for_the_next_attempt(stub):
    """A pause before asking again ends with the turn."""
    turn, said = Turn(), []
    stub.script = [fails(429, Retry_After="29"), says("Too late")]
    answering = threading.Thread(target=lambda: said.extend(responder(stub)(turn)))
    answering.start()
    stub.wait_asked()
    turn.cancelled = True
    answering.join(20)
    assert not answering.is_alive()
    assert (said, len(stub.asked)) == ([], 1)


def test_closing_the_generator_closes_the_connection(stub):
    """A reader that stops leaves nothing open."""
    stub.script = [stalls("One")]
    answer = responder(stub)(Turn())
    assert next(answer) == "One"
    answer.close()
    stub.wait_gone()


def test_no_thread_is_left_when_nobody_waits(stub):
    """The watch over silent endpoints ends with the last turn that it watched."""
    made = responder(stub)
    stub.script = [says("Hi")]
    assert text_of([*made(Turn())]) == "Hi"
    ends = time.monotonic() + 30
    while made._endpoint._watcher._thread is not None and time.monotonic() < ends:
        time.sleep(0.01)
    assert made._endpoint._watcher._thread is None
    assert text_of([*made(Turn())]) == "Hi"


# -- tools


def weather(city: str, days: int = 1) -> dict[str, Any]:
    """The weather of a city."""
    return {"city": city, "days": days, "sky": "blue"}


def test_a_tool_runs_and_the_model_goes_on(stub):
    """Arguments in pieces are put together; call and result are events, and the model gets both."""
    asks = calls(("c1", "weather", '{"city": "Zürich"}'), text="Let me look.")
    said = events_of(stub, asks, says("It is blue."), tools=[weather])
    result = {"city": "Zürich", "days": 1, "sky": "blue"}
    assert [each for each in said if not isinstance(each, Usage)] == [
        "Let me look.",
        ToolCall("c1", "weather", {"city": "Zürich"}),
        ToolResult("c1", result),
        "It is blue.",
    ]
    assert sum(isinstance(each, Usage) for each in said) == 2
    first, second = (asked.payload for asked in stub.asked)
    assert first["tools"] == second["tools"]
    assert second["messages"][1:] == [
        {
            "role": "assistant",
            "content": "Let me look.",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Zürich"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": json.dumps(result, ensure_ascii=False)},
    ]


def test_several_tools_run_in_one_round(stub):
    """All calls are events, then all results, and the model is asked once."""
    asks = calls(("a", "weather", '{"city":"Rome"}'), ("b", "weather", '{"city":"Oslo","days":2}'))
    said = events_of(stub, asks, says("Done"), tools={"weather": weather})
    kinds = [type(each).__name__ for each in said if not isinstance(each, Usage)]
    assert kinds == ["ToolCall", "ToolCall", "ToolResult", "ToolResult", "str"]
    roles = [message["role"] for message in stub.asked[1].payload["messages"]]
    assert roles == ["user", "assistant", "tool", "tool"]


def _raises(city: str) -> None:
    raise RuntimeError(KEY)


@pytest.mark.parametrize(
    ("arguments", "function", "content"),
    [
        ('{"city": "Ro', weather, "The arguments are no JSON object."),
        ("[1]", weather, "The arguments are no JSON object."),
        ('{"town": "Rome"}', weather, "The arguments do not fit the tool."),
        ('{"city": "Rome"}', _raises, "The tool failed."),
        ('{"city": "Rome"}', lambda city: object(), "The tool's result cannot be shown."),
        ('{"city": "Rome"}', lambda city: "x" * 300_000, "The tool's result is too long: 300002 characters."),
    ],
)
def test_a_tool_that_cannot_say_anything_does_not_end_the_turn(stub, caplog, arguments, function, content):
    """The model gets an error without details, and goes on; the log has no content either."""
    tool = Tool("t", function, parameters={"type": "object"})
    said = events_of(stub, calls(("c", "t", arguments)), says("Sorry."), tools=[tool])
    assert ToolResult("c", content, is_error=True) in said
    assert text_of(said) == "Sorry."
    assert stub.asked[1].payload["messages"][-1]["content"] == content
    json.loads(stub.asked[1].payload["messages"][-2]["tool_calls"][0]["function"]["arguments"])
    assert KEY not in caplog.text
    assert "Rome" not in caplog.text


def test_the_model_gets_an_error_for_a_tool_that_does_not_exist(stub):
    """A name that the model made up runs nothing."""
    said = events_of(stub, calls(("c", "rm -rf", "{}")), says("Sorry."), tools=[weather])
    assert said[1:3] == [ToolCall("c", "rm_-rf", {}), ToolResult("c", "There is no tool of this name.", is_error=True)]


def test_a_model_that_never_stops_asking_for_tools_is_stopped(stub):
    """Eight rounds, then a sentence."""
    *_, error = events_of(stub, calls(("c", "weather", '{"city":"Rome"}')), tools=[weather])
    assert "too many times" in str(error)
    assert len(stub.asked) == 8


def test_two_calls_of_one_answer_never_have_one_id(stub):
    """Some endpoints count from the beginning in each answer; a result must belong to one call only."""
    asks = calls(("call_0", "weather", '{"city":"Rome"}'))
    said = events_of(stub, asks, asks, calls(("", "weather", '{"city":"Rome"}')), says("Done"), tools=[weather])
    ids = [each.id for each in said if isinstance(each, ToolCall)]
    assert ids[0] == "call_0"
    assert len({*ids}) == 3
    assert [each.tool_call_id for each in said if isinstance(each, ToolResult)] == ids


def piece(**head: Any) -> dict[str, Any]:
    """A piece of a call: `name` and `arguments` stand below `function`."""
    function = {name: head.pop(name) for name in ("name", "arguments") if name in head}
    return {**head, "function": function}


PIECES = {
    "no index": [[piece(id="a", name="f", arguments='{"x":1}')], [piece(id="b", name="f")]],
    "no id": [[piece(index=0, name="f", arguments='{"x":1}')], [piece(index=1, name="f")]],
    "neither": [[piece(name="f", arguments='{"x"')], [piece(arguments=":1}")], [piece(name="f")]],
    "one index for all": [
        [piece(index=0, id="a", name="f", arguments='{"x"')],
        [piece(index=0, arguments=":1}")],
        [piece(index=0, id="b", name="f")],
        [piece(index=1, arguments="{}")],
    ],
    "the id again and again": [
        [piece(index=0, id="a", name="f", arguments='{"x"')],
        [piece(index=0, id="a", name="f", arguments=":1}"), piece(index=1, id="b", name="f")],
    ],
    "an object": [[piece(index=0, id="a", name="f", arguments={"x": 1}), piece(index=1, id="b", name="f")]],
}


@pytest.mark.parametrize("pieces", PIECES.values(), ids=PIECES.keys())
def test_pieces_of_calls_are_put_together_in_every_dialect(stub, pieces):
    """Endpoints number the pieces of calls, or do not, or wrongly."""
    tool = Tool("f", lambda x=0: x, parameters={"type": "object"})
    said = events_of(
        stub, deltas(*({"tool_calls": each} for each in pieces), finish="tool_calls"), says("."), tools=[tool]
    )
    assert [each.arguments for each in said if isinstance(each, ToolCall)] == [{"x": 1}, {}]


def test_between_two_rounds_it_may_be_asked_again(stub):
    """What the tools have done is not thrown away because the endpoint was busy for a moment."""
    asks = calls(("c", "weather", '{"city":"Rome"}'), text="I look. ")
    said = events_of(stub, asks, fails(503), says("Blue."), tools=[weather])
    assert text_of(said) == "I look. Blue."
    assert sum(isinstance(each, ToolResult) for each in said) == 1


def test_a_tool_may_know_whose_turn_it_is(stub):
    """A parameter named turn is filled by us, not by the model, which does not get to see it."""
    turn = Turn()

    def mine(turn: Any, n: int) -> bool:
        return turn is not None and n == 1

    said = events_of(
        stub, calls(("a", "mine", '{"n":1}'), ("b", "mine", '{"n":1,"turn":{}}')), says("."), turn=turn, tools=[mine]
    )
    assert [each.content for each in said if isinstance(each, ToolResult)] == [
        True,
        "The arguments do not fit the tool.",
    ]
    assert [*stub.asked[0].payload["tools"][0]["function"]["parameters"]["properties"]] == ["n"]


def test_a_cancelled_turn_runs_no_further_tool(stub):
    """Between two tools is a place to stop, too."""
    turn, ran = Turn(), []

    def once(n: int) -> None:
        ran.append(n)
        turn.cancelled = True

    events_of(stub, calls(("a", "once", '{"n":1}'), ("b", "once", '{"n":2}')), says("."), turn=turn, tools=[once])
    assert ran == [1]
    assert len(stub.asked) == 1


# -- tools that wait for the user


def test_a_tool_with_approval_waits_until_the_user_has_decided(stub):
    """The others run; its call is the last event. Decided, it runs once, and the model is asked with all of it."""
    ran: list[str] = []
    send = Tool("send", lambda to: ran.append(to) or "sent", "Send it.", {"type": "object"}, requires_approval=True)
    acts = [calls(("s", "send", '{"to":"Bob"}'), ("w", "weather", '{"city":"Rome"}'), text="Well. ")]
    said = events_of(stub, *acts, tools=[send, weather])
    assert [type(each).__name__ for each in said] == ["str", "Usage", "ToolCall", "ToolResult", "ToolCall"]
    assert said[-1] == ToolCall("s", "send", {"to": "Bob"}, requires_approval=True)
    assert ran == []
    assert len(stub.asked) == 1

    answer = [
        {"type": "text", "text": "Well. "},
        {"type": "tool_call", "id": "w", "name": "weather", "arguments": {"city": "Rome"}},
        {"type": "tool_result", "tool_call_id": "w", "content": {"sky": "blue"}},
        {"type": "tool_call", "id": "s", "name": "send", "arguments": {"to": "Bob"}, "requires_approval": True},
    ]
    said = events_of(stub, says("Sent."), turn=Turn(answer=answer, approved=[said[-1]]), tools=[send, weather])
    assert said[0] == ToolResult("s", "sent")
    assert text_of(said) == "Sent."
    assert ran == ["Bob"]
    messages = stub.asked[-1].payload["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "assistant", "tool"]
    assert messages[-1] == {"role": "tool", "tool_call_id": "s", "content": "sent"}


def test_the_model_gets_a_denied_call_which_does_not_run(stub):
    """One of two was allowed: it runs, the other does not, and the model goes on."""
    ran: list[str] = []
    send = Tool("send", lambda to: ran.append(to), "", {"type": "object"}, requires_approval=True)
    asked = [ToolCall(to, "send", {"to": to}, requires_approval=True) for to in ("Ada", "Bob")]
    answer = [{"type": "tool_call", "id": call.id, "name": "send", "arguments": call.arguments} for call in asked]
    said = events_of(stub, says("Done."), turn=Turn(answer=answer, approved=asked[:1], denied=asked[1:]), tools=[send])
    denied = "The user did not allow this tool call."
    assert said[:2] == [ToolResult("Ada", None), ToolResult("Bob", denied, is_error=True)]
    assert ran == ["Ada"]
    assert stub.asked[0].payload["messages"][-1]["content"] == denied


def test_a_call_that_has_a_result_never_runs_again(stub):
    """Whatever is approved twice runs once."""
    ran: list[int] = []
    tool = Tool("t", lambda: ran.append(1), "", {"type": "object"}, requires_approval=True)
    call = ToolCall("c", "t", {}, requires_approval=True)
    answer = [
        {"type": "tool_call", "id": "c", "name": "t", "arguments": {}},
        {"type": "tool_result", "tool_call_id": "c", "content": "ok"},
    ]
    said = events_of(stub, says("Done."), turn=Turn(answer=answer, approved=[call, call]), tools=[tool])
    assert text_of(said) == "Done."
    assert ran == []


def test_a_call_approved_twice_at_once_runs_once(stub):
    """The same call twice in the list is one call."""
    ran: list[int] = []
    tool = Tool("t", lambda: ran.append(1), "", {"type": "object"}, requires_approval=True)
    call = ToolCall("c", "t", {}, requires_approval=True)
    answer = [{"type": "tool_call", "id": "c", "name": "t", "arguments": {}}]
    events_of(stub, says("Done."), turn=Turn(answer=answer, approved=[call, call]), tools=[tool])
    assert ran == [1]


def test_calls_that_were_never_answered_are_answered_in_what_is_sent():
    """No endpoint takes a call without its result, whatever an answer was cut at."""
    call = {"type": "tool_call", "id": "a", "name": "t", "arguments": "no json"}
    assert messages_of([call, {"type": "text", "text": "And so"}]) == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "a", "type": "function", "function": {"name": "t", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "a", "content": "The tool did not run."},
        {"role": "assistant", "content": "And so"},
    ]
    assert messages_of([{"type": "reasoning", "text": "Hmm"}, {"type": "component", "component_type": "chart"}]) == []


# -- set-up mistakes


def test_the_parameters_of_a_plain_function_need_no_schema():
    """Plain types, None beside them, lists and choices; what has a default is optional."""

    def find(word: str, limit: int | None = None, kinds: list[str] = [], order: Literal["new", "old"] = "new") -> None:  # noqa: B006
        """Find things."""

    assert definition_of(Tool("find", find))["function"] == {
        "name": "find",
        "description": "Find things.",
        "parameters": {
            "type": "object",
            "properties": {
                "word": {"type": "string"},
                "limit": {"type": "integer"},
                "kinds": {"type": "array", "items": {"type": "string"}},
                "order": {"type": "string", "enum": ["new", "old"]},
            },
            "required": ["word"],
            "additionalProperties": False,
        },
    }


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: OpenAIResponder("localhost:11434"), "base_url is the address"),
        (lambda: OpenAIResponder(""), "base_url is the address"),
        (lambda: OpenAIResponder(api_key="sk-\nsecret"), "api_key has characters"),
        (lambda: OpenAIResponder(tools=[weather, Tool("weather", weather)]), "Two tools have the same name"),
        (lambda: OpenAIResponder(tools=[lambda x: x]), "at most 64 letters"),
        (lambda: OpenAIResponder(tools={"f": lambda x: x}), "Give a JSON schema: Tool('f'"),
        (lambda: OpenAIResponder(tools={"f": lambda *x: x}), "Give a JSON schema: Tool('f'"),
    ],
)
def test_a_mistake_is_an_error_when_the_responder_is_made(make, reason):
    """With a sentence that says what to do, and without the key."""
    with pytest.raises(ValueError, match=re.escape(reason)) as raised:
        make()
    assert "secret" not in str(raised.value)


def test_a_query_of_the_address_stays_and_a_key_may_end_in_a_newline(stub):
    """As Azure wants it, and as a key comes from a file."""
    made = OpenAIResponder(f"{stub.url}/deployments/d?api-version=1", "m", f"{KEY}\n")
    assert text_of([*made(Turn())]) == "Hello"
    assert stub.asked[0].path == "/v1/deployments/d/chat/completions?api-version=1"
    assert stub.asked[0].headers["Authorization"] == f"Bearer {KEY}"


def test_turns_at_once_do_not_get_in_each_other_s_way(stub, threads):
    """One responder answers all users."""
    stub.script = [says("a", "b", "c")]
    made = responder(stub)
    assert threads(8, lambda _: text_of([*made(Turn())])) == ["abc"] * 8


def test_without_httpx_the_import_says_what_to_install(monkeypatch):
    """The core does not need it, this responder does."""
    for name in [name for name in sys.modules if name.startswith("flask_conversations.contrib.openai")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(ImportError, match=re.escape('pip install "flask-conversations[openai]"')):
        importlib.import_module("flask_conversations.contrib.openai")
