"""Regenerating and editing: siblings beside what there is, answers below their questions, nothing destroyed; and the history."""

from __future__ import annotations

import pytest

from flask_conversations.errors import ConversationsError, MessageNotFound, NotFound, ValidationFailed
from flask_conversations.turns import Reasoning, ToolCall, ToolResult

from ..history import validators
from .tools import is_idle, said, tree


@pytest.fixture
def counted(answered):
    """Answers are `a1`, `a2`, ...; the histories they were given."""
    histories = []

    def respond(turn):
        histories.append(turn.history)
        return f"a{len(histories)}"

    answered(respond)
    return histories


def texts(ada, chat):
    return [text for _, text in said(ada, chat)]


def ids(app, chat):
    return {row.content: str(row.id) for row in tree(app, chat)}


def test_an_answer_is_given_again_beside_the_first(app, ada, chat, counted):
    """The history ends with the question, and does not hold the answer that is beside the new one."""
    ada.send_message(chat, "q1")
    outcome = ada.regenerate(chat)
    assert texts(ada, chat) == ["q1", "a2"]
    assert counted[1] == counted[0] == [{"role": "user", "content": "q1"}]
    siblings = ada.get_state(chat)["siblings"]
    assert siblings[outcome["answer"]["id"]]["count"] == 2
    assert ids(app, chat).keys() == {"q1", "a1", "a2"}
    ada.branches.switch(chat, ids(app, chat)["a1"])
    assert texts(ada, chat) == ["q1", "a1"]
    is_idle(app, ada, chat)


def test_an_older_answer_is_given_again(app, ada, chat, counted):
    """By its own id or its question's: what came after it stays on its branch."""
    for n in (1, 2, 3):
        ada.send_message(chat, f"q{n}")
    found = ids(app, chat)
    ada.regenerate(chat, found["a1"])
    assert texts(ada, chat) == ["q1", "a4"]
    assert [one["content"] for one in counted[3]] == ["q1"]
    ada.regenerate(chat, found["q2"])
    assert texts(ada, chat) == ["q1", "a1", "q2", "a5"]
    assert [one["content"] for one in counted[4]] == ["q1", "a1", "q2"]
    ada.branches.switch(chat, found["a3"])
    assert texts(ada, chat) == ["q1", "a1", "q2", "a2", "q3", "a3"]
    is_idle(app, ada, chat)


def test_a_question_is_put_differently_beside_the_first(app, ada, chat, counted):
    """Also the very first one, whose parent is none; and one of another branch."""
    ada.send_message(chat, "q1")
    ada.send_message(chat, "q2")
    found = ids(app, chat)
    version = ada.get_conversation(chat)["version"]
    outcome = ada.edit_question(chat, found["q2"], "q2 better")
    assert texts(ada, chat) == ["q1", "a1", "q2 better", "a3"]
    assert [one["content"] for one in counted[2]] == ["q1", "a1", "q2 better"]
    assert ada.get_conversation(chat)["version"] == version + 2
    outcome = ada.edit_question(chat, found["q1"], "q1 better")
    assert outcome["question"]["parent_id"] is None
    assert texts(ada, chat) == ["q1 better", "a4"]
    ada.edit_question(chat, found["q2"], "q2 best")
    assert texts(ada, chat) == ["q1", "a1", "q2 best", "a5"]
    assert set(ids(app, chat)) == {"q1", "a1", "q2", "a2", "q2 better", "a3", "q1 better", "a4", "q2 best", "a5"}
    is_idle(app, ada, chat)


def test_what_cannot_be_answered_again_or_put_differently(app, ada, bob, chat, counted):
    """Nothing, an answer, another user's, a deleted one: refused, and nothing changed."""
    refused = (NotFound, ValidationFailed)
    with pytest.raises(refused):
        ada.regenerate(chat)
    ada.save_message(chat, "assistant", "welcome")
    with pytest.raises(ValidationFailed):
        ada.regenerate(chat)
    ada.send_message(chat, "q1")
    found = ids(app, chat)
    with pytest.raises(ValidationFailed):
        ada.edit_question(chat, found["a1"], "x")
    with pytest.raises(NotFound):
        bob.regenerate(chat, found["a1"])
    other = bob.create_conversation("b", messages=[{"role": "user", "content": "b"}])
    foreign = bob.get_messages(other["id"])["messages"][0]["id"]
    for service, of in ((ada, chat), (bob, other["id"])):
        for wrong in (found["q1"] if service is bob else foreign, "nope", "018f0000-0000-7000-8000-000000000000"):
            with pytest.raises(MessageNotFound):
                service.regenerate(of, wrong)
            with pytest.raises(MessageNotFound):
                service.edit_question(of, wrong, "x")
    before = ada.get_conversation(chat)
    ada.delete_message(chat, found["q1"])
    with pytest.raises(ConversationsError):
        ada.regenerate(chat, found["q1"])
    with pytest.raises(ConversationsError):
        ada.regenerate(chat, found["a1"])  # only a greeting is left before it
    assert ada.get_conversation(chat)["version"] == before["version"] + 1
    is_idle(app, ada, chat)


def test_an_answer_after_an_answer_belongs_to_the_question_before_both(app, ada, chat, counted):
    """A note that the host has stored below an answer is no question."""
    ada.send_message(chat, "q1")
    note = ada.save_message(chat, "assistant", "note")
    outcome = ada.regenerate(chat, note["id"])
    assert outcome["answer"]["parent_id"] == ids(app, chat)["q1"]
    is_idle(app, ada, chat)


def test_the_history_is_what_a_provider_takes(app, ada, chat, answered):
    """It ends with the question, has nothing of the turn under way, and tool calls have their results, whatever became of turns."""
    seen = []

    def respond(turn):
        seen.append({name: turn.render(name) for name in ("openai", "responses", "anthropic")})
        question = turn.message["content"]
        if question == "tools":
            return [Reasoning("hm"), "a", ToolCall("c1", "t", {}), ToolResult("c1", 1), "b"]
        if question == "orphan":
            return ["a", ToolCall("c2", "t", {}), ToolCall("c3", "t", {}), ToolResult("c3", 1)]
        if question == "crash":
            return crash()
        if question == "approve":
            if turn.approved:
                return [ToolResult("c4", 1), "done"]
            return ["a", ToolCall("c4", "t", {}, requires_approval=True)]
        return "fine"

    def crash():
        yield ToolCall("c5", "t", {})
        raise RuntimeError

    answered(respond)
    for question in ("plain", "tools", "orphan", "crash", "crash", "approve"):
        ada.send_message(chat, question)
    ada.cancel(chat)
    ada.send_message(chat, "approve")
    ada.approve_tools(chat, ["c4"])
    ada.send_message(chat, "last")
    ada.regenerate(chat)
    for rendered in seen:
        for name, messages in rendered.items():
            getattr(validators, name)(messages)
            assert messages[-1]["role"] == "user"
    assert seen[-1] == seen[-2]
    is_idle(app, ada, chat)
