"""The responder for OpenAI-compatible endpoints in real turns: what is stored of each way that an endpoint may behave."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import current_app

from flask_conversations.contrib.openai import OpenAIResponder, Tool
from flask_conversations.errors import ConversationsError
from tests.infra.openai_stub import Stub, calls, cuts, deltas, fails, says, stalls


@pytest.fixture
def stub() -> Iterator[Stub]:
    """An endpoint; a test writes its script."""
    with Stub() as running:
        yield running


@pytest.fixture
def answered_by(conversations: Any, stub: Stub) -> Callable[..., OpenAIResponder]:
    """Lets the endpoint answer: `answered_by(tools=[...])`."""

    def answered_by(**settings: Any) -> OpenAIResponder:
        responder = OpenAIResponder(stub.url, "m", "key", **{"timeout": 20, **settings})
        responder._endpoint.backoff = 0.001
        conversations.responder(responder)
        return responder

    return answered_by


@pytest.fixture
def chat(ada: Any) -> str:
    return str(ada.create_conversation("Bees")["id"])


def test_an_answer_is_stored_with_its_cost_and_the_next_turn_knows_it(ada, chat, stub, answered_by):
    """Text, model and tokens; the endpoint is sent what was said."""
    answered_by()
    stub.script = [says("Hel", "lo"), says("Again")]
    answer = ada.send_message(chat, "One")["answer"]
    assert (answer["content"], answer["status"], answer["model"]) == ("Hello", "delivered", "m-1")
    assert answer["usage"] == {"input_tokens": 12, "output_tokens": 3, "total_tokens": 15}
    ada.send_message(chat, "Two")
    assert stub.asked[1].payload["messages"] == [
        {"role": "user", "content": "One"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Two"},
    ]


def test_thoughts_are_kept_apart_from_the_text(ada, chat, stub, answered_by):
    """They are parts of the message, and no part of what the model is sent next time."""
    answered_by()
    stub.script = [deltas({"reasoning": "Hm"}, {"reasoning": "m"}, {"content": "Yes"}), says("Again")]
    answer = ada.send_message(chat, "One")["answer"]
    assert answer["content"] == "Yes"
    assert answer["parts"] == [{"type": "reasoning", "text": "Hmm"}, {"type": "text", "text": "Yes"}]
    ada.send_message(chat, "Two")
    assert stub.asked[1].payload["messages"][1] == {"role": "assistant", "content": "Yes"}


@pytest.mark.parametrize(
    ("act", "text", "attempts", "reason"),
    [
        (fails(503), "", 4, "has a problem (503)"),
        (fails(401), "", 1, "did not accept our key"),
        (cuts("So ", "far"), "So far", 1, "was cut off"),
    ],
    ids=["down", "refuses", "cut"],
)
def test_a_failed_turn_keeps_what_there_is_and_the_next_one_works(
    ada, chat, stub, answered_by, act, text, attempts, reason
):
    """The question stays, the text so far stays, marked, with a sentence; and the conversation goes on."""
    answered_by()
    stub.script = [act]
    turn = ada.send_message(chat, "One")
    assert turn["state"] == "failed"
    assert (turn["answer"]["content"], turn["answer"]["status"]) == (text, "failed")
    assert reason in turn["answer"]["metadata"]["error"]["detail"]
    assert len(stub.asked) == attempts
    stub.script = [says("Better")]
    assert ada.send_message(chat, "Two")["answer"]["content"] == "Better"
    contents = [message["content"] for message in ada.get_messages(chat)["messages"]]
    assert contents == ["One", text, "Two", "Better"]


def test_a_cancelled_turn_lets_go_of_a_silent_endpoint(ada, chat, stub, answered_by):
    """The text so far is kept and marked, the connection to the model is closed, and the next turn does not wait."""
    answered_by(timeout=60)
    stub.script = [stalls("So far"), says("Next")]
    ada.send_message(chat, "One", wait=False)
    stub.wait_asked()
    _wait_until(lambda: ada.get_messages(chat)["messages"][-1]["role"] == "assistant")
    ada.cancel(chat)
    stub.wait_gone()
    assert ada.get_state(chat)["state"] == "cancelled"
    last = ada.get_messages(chat)["messages"][-1]
    assert (last["content"], last["status"]) == ("So far", "interrupted")
    assert ada.send_message(chat, "Two")["answer"]["content"] == "Next"


def test_a_tool_works_with_the_conversations_of_who_asked(ada, bob, chat, stub, answered_by):
    """It gets the turn, whose service is that of the person; an app context is there while it runs."""
    bob.create_conversation("Not Ada's")

    def list_titles(turn: Any) -> list[str]:
        """The titles of the user's conversations."""
        assert current_app == turn.app
        return [each["title"] for each in turn.service.list_conversations()["conversations"]]

    answered_by(tools=[list_titles])
    stub.script = [calls(("c", "list_titles", "{}")), says("One.")]
    answer = ada.send_message(chat, "What have I?")["answer"]
    assert answer["content"] == "One."
    assert answer["parts"] == [
        {"type": "tool_call", "id": "c", "name": "list_titles", "arguments": {}},
        {"type": "tool_result", "tool_call_id": "c", "content": ["Bees"]},
        {"type": "text", "text": "One."},
    ]
    assert answer["tokens_used"] == 30


class Mail:
    """A tool that does something which must not happen twice, or without consent."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def send(self, to: str) -> str:
        self.sent.append(to)
        return f"sent to {to}"


def test_an_approved_tool_runs_once_and_the_model_goes_on(ada, chat, stub, answered_by, threads):
    """Ten approvals at once run it once; the next turn sends the call with its result, as endpoints want it."""
    mail = Mail()
    answered_by(tools=[Tool("send", mail.send, requires_approval=True)])
    stub.script = [calls(("c", "send", '{"to":"Bob"}'), text="May I? "), says("Done."), says("Fine.")]
    turn = ada.send_message(chat, "Write to Bob")
    assert (turn["state"], turn["answer"]["status"], mail.sent) == ("awaiting_approval", "pending", [])

    def approve(_: int) -> Any:
        try:
            return ada.approve_tools(chat, ["c"])
        except ConversationsError as error:  # the nine that come too late
            return error.status

    outcomes = threads(10, approve)
    assert sum(isinstance(each, dict) for each in outcomes) == 1
    assert {each for each in outcomes if not isinstance(each, dict)} == {409}
    assert mail.sent == ["Bob"]
    message = ada.get_messages(chat)["messages"][-1]
    assert (message["content"], message["status"]) == ("May I? Done.", "delivered")
    assert stub.asked[1].payload["messages"][-1] == {"role": "tool", "tool_call_id": "c", "content": "sent to Bob"}

    ada.send_message(chat, "Thanks")
    roles = [each["role"] for each in stub.asked[2].payload["messages"]]
    assert roles[:3] == ["user", "assistant", "tool"]
    assert roles[-1] == "user"


def test_a_denied_tool_never_runs(ada, chat, stub, answered_by):
    """The model gets the denial, and answers to it; one of two may be allowed."""
    mail = Mail()
    answered_by(tools=[Tool("send", mail.send, requires_approval=True)])
    stub.script = [calls(("a", "send", '{"to":"Ada"}'), ("b", "send", '{"to":"Bob"}')), says("Only Ada, then.")]
    ada.send_message(chat, "Write to both")
    assert ada.approve_tools(chat, ["b"], approved=False)["state"] == "awaiting_approval"
    turn = ada.approve_tools(chat, ["a"])
    assert (turn["state"], turn["answer"]["content"]) == ("idle", "Only Ada, then.")
    assert mail.sent == ["Ada"]
    results = {each["tool_call_id"]: each for each in turn["answer"]["parts"] if each["type"] == "tool_result"}
    assert results["a"]["content"] == "sent to Ada"
    assert results["b"]["is_error"]


def test_one_responder_asks_for_consent_again_and_again(ada, chat, stub, answered_by):
    """A model that wants another tool after the first gets the same treatment."""
    mail = Mail()
    answered_by(tools=[Tool("send", mail.send, requires_approval=True)])
    stub.script = [calls(("c", "send", '{"to":"Ada"}')), calls(("c", "send", '{"to":"Bob"}')), says("Done.")]
    ada.send_message(chat, "Write to both, one by one")
    turn = ada.approve_tools(chat, ["c"])
    assert (turn["state"], mail.sent) == ("awaiting_approval", ["Ada"])
    (second,) = (each["id"] for each in turn["answer"]["parts"] if each["type"] == "tool_call" and each["id"] != "c")
    turn = ada.approve_tools(chat, [second])
    assert (turn["state"], turn["answer"]["content"]) == ("idle", "Done.")
    assert mail.sent == ["Ada", "Bob"]


def _wait_until(is_so: Callable[[], bool]) -> None:
    tick = threading.Event()
    for _ in range(600):
        if is_so():
            return
        tick.wait(0.05)
    raise TimeoutError
