"""What answers in the example app: fixed rules, or an endpoint that may fail in every way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from example_app import demo, responder, rules
from flask_conversations.turns import Component, Reasoning, ResponderError, ToolCall, ToolResult, Usage
from tests.infra.openai_stub import Stub, deltas, fails, says, sends, stalls

from .conftest import log_in


def said(*texts: str) -> list[dict[str, Any]]:
    return [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("history", "answer"),
    [
        (said("What is my name?"), "You have not told me your name in this conversation."),
        (said("My name is Ada", "-", "Who am I?"), "Your name is Ada."),
        (said("call me Zoë", "-", "what's my name"), "Your name is Zoë."),
        (said("My name is Ada", "-", "No, call me Bob", "-", "What was my name?"), "Your name is Bob."),
        (said("One", "-", "Two", "-", "What did I say?"), "You said:\n1. One\n2. Two"),
        (said("What have I said?"), "That was the first thing you said in this conversation."),
        (said("Who are you?"), rules.ABOUT),
        (said("One", "-", "Two"), "You said: Two"),
        ([{"role": "user", "content": [{"type": "text", "text": "help"}, {"type": "image"}]}], rules.ABOUT),
    ],
)
def test_the_built_in_responder_is_plain_and_honest(history, answer):
    """The same history always gets the same answer, and it says that it is no language model."""
    assert rules.answer(history) == answer
    assert "no language model" in rules.ABOUT
    assert rules.answer(said("Hello")).startswith(rules.ABOUT)


def test_a_key_alone_sends_nothing_anywhere():
    """Many shells have a key for other things: only a named endpoint or model is asked."""
    assert not responder.is_configured({"OPENAI_API_KEY": "key"})
    assert responder.is_configured({"OPENAI_BASE_URL": "http://localhost:1/v1"})
    assert responder.is_configured({"OPENAI_MODEL": "any"})
    assert "no language model" in responder.description({})
    named = responder.description({"OPENAI_BASE_URL": "https://user:pass@llm.example/v1", "OPENAI_MODEL": "m"})
    assert named == "Answers by m at llm.example."


# -- the built-in one, as it streams


def turn(*texts: str, **more: Any) -> Any:
    given = {
        "history": said(*texts),
        "message": said(*texts)[-1],
        "cancelled": False,
        "approved": [],
        "denied": [],
        "answer": [],
    }
    return SimpleNamespace(**{**given, "app": SimpleNamespace(config={"DEMO_PAUSE": 0}), **more})


def streamed(*texts: str, **more: Any) -> list[Any]:
    """All that is said in a turn, but for who says it, which comes first."""
    usage, *rest = responder.answer(turn(*texts, **more))
    assert usage == Usage(model=rules.BUILT_IN)
    return rest


@pytest.mark.parametrize("text", ["Hello", "My name is Ada", "What did I say?", "  two\n\n lines "])
def test_the_rules_stream_word_by_word(text):
    """Put together, the words are the answer that the rules give at once."""
    words = streamed("Before", "-", text)
    assert len(words) > 1
    assert "".join(words) == rules.answer(said("Before", "-", text))


def test_it_says_what_else_it_can_do():
    """The answer to a question for help names every trick."""
    assert "".join(streamed("help")) == f"{rules.ABOUT}\n\n{demo.MORE}"


def test_it_counts_one_event_per_number():
    """An answer of exactly 40 pieces, so that a test can cut it at each of them."""
    words = streamed("count to 40")
    assert len(words) == 40
    assert "".join(words) == " ".join(map(str, range(1, 41))) + "."


def test_a_tool_that_needs_no_consent_runs_at_once():
    """Call, result and a sentence, which says that it is made up."""
    received = streamed("What is the weather in Rome?")
    call, result = (each for each in received if not isinstance(each, str))
    assert call == ToolCall(call.id, "made_up_weather", {"place": "Rome"})
    assert result.tool_call_id == call.id
    assert "".join(each for each in received if isinstance(each, str)).endswith("or so I made up.")


def test_a_tool_that_needs_consent_is_the_last_word():
    """Nothing is rolled before the user has decided."""
    *text, call = streamed("Please roll a die")
    assert call == ToolCall(call.id, "roll_a_die", {"sides": 6}, requires_approval=True)
    assert all(isinstance(each, str) for each in text)
    dice = [each for each in streamed("roll 3 dice") if isinstance(each, ToolCall)]
    assert len({each.id for each in dice}) == 3


def test_what_was_decided_is_done():
    """An approved call has a result and a sentence, a denied one has neither done anything."""
    first, second = (ToolCall(id, "roll_a_die", {"sides": 6}, requires_approval=True) for id in "ab")
    result, *text = responder.answer(turn("roll a die", approved=[first]))
    assert 1 <= result.content["rolled"] <= 6
    assert "".join(text) == f"You rolled {result.content['rolled']}."
    result, *text = responder.answer(turn("roll a die", denied=[first]))
    assert result == ToolResult("a", demo.DENIED, is_error=True)
    assert "".join(text) == "All right, the die stays in the box."
    _, denied, *text = responder.answer(turn("roll 2 dice", approved=[first], denied=[second]))
    assert (denied.tool_call_id, denied.is_error) == ("b", True)
    assert "".join(text).endswith("The rest stays in the box.")


def test_it_draws_and_thinks():
    """A component, and thoughts before the text."""
    *_, chart = streamed("One two", "-", "show a chart")
    assert chart == Component("chart", {"kind": "bar", "labels": [1, 2], "values": [2, 3]})
    thoughts = streamed("think about it")
    assert isinstance(thoughts[0], Reasoning)
    assert thoughts[-1] == "it."


@pytest.mark.parametrize(
    ("text", "error", "before"),
    [
        ("fail", ResponderError, ""),
        ("Fail after 2 words", ResponderError, "word 1 word 2 "),
        ("crash!", RuntimeError, "Here it comes: "),
    ],
)
def test_it_fails_when_asked_to(text, error, before):
    """An error after the beginning of an answer, so that one can see how that is kept."""
    events = responder.answer(turn(text))
    next(events)
    received: list[str] = []
    with pytest.raises(error):
        received.extend(events)
    assert "".join(received) == before


def test_it_stops_when_the_turn_is_cancelled():
    """Between two words."""
    asked = turn("count to 40")
    received = []
    for each in responder.answer(asked):
        received.append(each)
        asked.cancelled = len(received) == 6
    assert received[1:] == ["1 ", "2 ", "3 ", "4 ", "5 "]


def test_all_of_it_works_in_turns(app, conversations):
    """What it says is stored as what it is; it rolls once the user has allowed it, and fails as a turn fails."""
    app.config["DEMO_PAUSE"] = 0
    conversations.responder(responder.answer)
    ada = conversations.as_user("ada", app=app)
    chat = ada.create_conversation("Tricks")["id"]
    answer = ada.send_message(chat, "count to 40")["answer"]
    assert (answer["content"], answer["model"]) == (" ".join(map(str, range(1, 41))) + ".", rules.BUILT_IN)

    turn = ada.send_message(chat, "roll a die")
    assert turn["state"] == "awaiting_approval"
    call = next(part for part in turn["answer"]["parts"] if part["type"] == "tool_call")
    turn = ada.approve_tools(chat, [call["id"]])
    assert turn["state"] == "idle"
    assert "You rolled" in turn["answer"]["content"]

    for question, state in {
        "weather in Rome?": "idle",
        "show a chart": "idle",
        "think": "idle",
        "fail after 2 words": "failed",
        "crash": "failed",
        "What did I say?": "idle",
    }.items():
        assert ada.send_message(chat, question)["state"] == state, question


# -- a model behind an endpoint


@pytest.fixture
def model() -> Iterator[Stub]:
    """A model to be asked."""
    with Stub(says("Hello from", " the model")) as running:
        yield running


@pytest.fixture
def ada(make_example, model):
    """Ada's browser, with an app that asks the model."""
    settings = {"OPENAI_API_KEY": "k", "OPENAI_MODEL": "m", "OPENAI_TIMEOUT": 20, "OPENAI_RETRIES": 0}
    return log_in(make_example(OPENAI_BASE_URL=f"{model.url}/", **settings), "ada")


def test_a_turn_is_answered_by_the_endpoint(model):
    """Where one is configured, the streaming responder asks it too."""
    config = {"OPENAI_BASE_URL": model.url, "OPENAI_MODEL": "m", "DEMO_PAUSE": 0}
    words = [*responder.answer(turn("One", app=SimpleNamespace(config=config)))]
    assert words[:2] == ["Hello from", " the model"]
    assert "Authorization" not in model.asked[0].headers


def test_an_endpoint_gets_the_history_and_its_answer_is_kept(ada, model):
    """It is asked as OpenAI would be; text, model and tokens are saved."""
    begun = ada.post("/chat", json={"message": "One"}).json["conversation_id"]
    answer = ada.post("/chat", json={"message": "Two", "conversation_id": begun}).json
    asked = model.asked[-1]
    assert asked.path == "/v1/chat/completions"
    assert asked.headers["Authorization"] == "Bearer k"
    assert asked.payload["model"] == "m"
    assert asked.payload["messages"] == said("One", "Hello from the model", "Two")
    assert (answer["message"]["model"], answer["message"]["tokens_used"]) == ("m-1", 15)
    assert b"Answers by m at 127.0.0.1" in ada.get("/").data


FAILURES = [
    (fails(401), "did not accept our key"),
    (fails(404), "does not know this model"),
    (fails(429), "too often"),
    (fails(500), "has a problem (500)"),
    (sends(b"<html>", content_type="text/html"), "no chat completion"),
    (says(" "), "answered with nothing"),
    (stalls(), "said nothing for 0.5 seconds"),
    (deltas({"content": "So far"}, finish=None), "cut off"),
    (None, "cannot be reached"),
]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_without_an_answer_the_question_is_kept_and_can_be_asked_again(ada, model, subtests):
    """The user gets the reason in a sentence that names no key; asked again, the question is answered, and stands there once."""
    config = ada.application.config
    configured = {name: config[name] for name in ("OPENAI_BASE_URL", "OPENAI_MODEL", "OPENAI_TIMEOUT")}
    for act, reason in FAILURES:
        with subtests.test(reason):
            config.update(configured)
            if "0.5" in reason:
                config["OPENAI_TIMEOUT"] = 0.5
            if act:
                model.script = [act]
            else:
                model.refuse()
            failed = ada.post("/chat", json={"message": "Are you there?"})
            assert failed.status_code == 502
            assert reason in failed.json["error"]
            assert "Bearer" not in failed.json["error"]
            begun = failed.json["conversation_id"]
            messages = ada.get(f"/api/conversations/{begun}").json["messages"]
            assert [each["content"] for each in messages] == ["Are you there?"]

            config.update(OPENAI_BASE_URL=None, OPENAI_MODEL=None)
            assert ada.post("/chat", json={"conversation_id": begun}).status_code == 200
            messages = ada.get(f"/api/conversations/{begun}").json["messages"]
            assert [each["role"] for each in messages] == ["user", "assistant"]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_the_key_follows_no_redirect(ada, model):
    """An endpoint that sends us elsewhere gets no further request, neither there nor back here."""
    model.script = [fails(302, Location=f"{model.url}/elsewhere")]
    assert ada.post("/chat", json={"message": "Hello"}).status_code == 502
    assert [asked.path for asked in model.asked] == ["/v1/chat/completions"]


def test_no_connection_is_held_while_the_model_thinks(ada, model):
    """A slow model keeps no database connection busy."""
    from example_app.extensions import db

    app, seen = ada.application, []
    model.script = [stalls()]
    asking = threading.Thread(target=lambda: seen.append(ada.post("/chat", json={"message": "Slowly"}).status_code))
    asking.start()
    model.wait_asked()
    with app.app_context():
        held = db.engine.pool.checkedout()
    model.go_on()
    asking.join()
    assert (held, seen) == (0, [200])
