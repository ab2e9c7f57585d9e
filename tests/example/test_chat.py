"""The chat route of the example app, and the REST API beside it."""

from __future__ import annotations

import pytest

from .conftest import log_in, with_token


def roles_and_texts(client, conversation_id):
    messages = client.get(f"/api/conversations/{conversation_id}").json["messages"]
    return [(each["role"], each["content"]) for each in messages]


@pytest.mark.parametrize("path", ["/chat", "/api/chat"])
def test_a_question_and_its_answer_are_kept(browser_of, path):
    """Without an id a conversation begins, titled by its first message; with it, it goes on, and the answer knows what was said."""
    ada = browser_of("ada")
    first = ada.post(path, json={"message": "My name is Ada."})
    begun = first.json["conversation_id"]
    second = ada.post(path, json={"message": "What is my name?", "conversation_id": begun})
    assert second.json["answer"] == "Your name is Ada."
    assert roles_and_texts(ada, begun) == [
        ("user", "My name is Ada."),
        ("assistant", first.json["answer"]),
        ("user", "What is my name?"),
        ("assistant", "Your name is Ada."),
    ]
    listed = ada.get("/api/conversations").json["conversations"]
    assert [(each["title"], each["preview"]) for each in listed] == [("My name is Ada.", "Your name is Ada.")]


def test_the_responder_sees_as_much_as_max_history_says(make_example):
    """What was said longer ago is kept, but not seen by the responder."""
    app = make_example(MAX_HISTORY=3)
    ada = log_in(app, "ada")
    begun = ada.post("/chat", json={"message": "My name is Ada."}).json["conversation_id"]
    ada.post("/chat", json={"message": "Something else", "conversation_id": begun})
    answer = ada.post("/chat", json={"message": "What is my name?", "conversation_id": begun}).json["answer"]
    assert answer == "You have not told me your name in this conversation."
    assert len(roles_and_texts(ada, begun)) == 6


def test_the_rest_api_answers_too(browser_of):
    """A message of the page is answered by the same responder: as an array of both, or word by word as events."""
    ada = browser_of("ada")
    begun = ada.post("/api/conversations", json={}).json["id"]
    path = f"/api/conversations/{begun}/messages"
    question, answer = ada.post(path, json={"content": "My name is Ada."}).json
    assert (question["role"], answer["role"]) == ("user", "assistant")
    streamed = ada.post(path, json={"content": "What is my name?"}, headers={"Accept": "text/event-stream"}).text
    events = [line.partition(": ")[2] for line in streamed.splitlines() if line.startswith("event: ")]
    assert events[0] == "message.created"
    assert events[-1] == "done"
    assert "message.delta" in events
    assert roles_and_texts(ada, begun)[-1] == ("assistant", "Your name is Ada.")


def test_max_history_holds_for_the_rest_api_too(make_example):
    """The responder sees no more of a turn than the chat route shows it."""
    ada = log_in(make_example(MAX_HISTORY=3), "ada")
    begun = ada.post("/api/conversations", json={}).json["id"]
    for text in ("My name is Ada.", "Something else", "What is my name?"):
        answer = ada.post(f"/api/conversations/{begun}/messages", json={"content": text}).json[-1]
    assert answer["content"] == "You have not told me your name in this conversation."


NO_QUESTIONS = [
    ([], 422),
    ("text", 422),
    ({}, 422),
    ({"message": ""}, 422),
    ({"message": " \n"}, 422),
    ({"message": None}, 422),
    ({"message": ["a"]}, 422),
    ({"message": "a\0b"}, 422),
    ({"conversation_id": None}, 422),
    ({"conversation_id": "", "message": " "}, 422),
    ({"conversation_id": "unknown", "message": "Hello"}, 404),
    ({"conversation_id": 7, "message": "Hello"}, 404),
    ({"conversation_id": ["x"], "message": "Hello"}, 404),
]


def test_a_question_that_cannot_be_kept_begins_nothing(browser_of, subtests):
    """Bad input gets a 4xx with a reason, and leaves no empty conversation behind."""
    ada = browser_of("ada")
    for body, status in NO_QUESTIONS:
        with subtests.test(body=body):
            answer = ada.post("/chat", json=body)
            assert answer.status_code == status
            assert answer.json.get("error") or answer.json["detail"]
            assert ada.get("/api/conversations").json["conversations"] == []


def test_nothing_is_asked_again_where_nothing_waits(browser_of):
    """Without a message, an answered or an empty conversation is a 409, and stays as it is."""
    ada = browser_of("ada")
    begun = ada.post("/chat", json={"message": "Hello"}).json["conversation_id"]
    empty = ada.post("/api/conversations", json={}).json["id"]
    for conversation_id in (begun, empty):
        assert ada.post("/chat", json={"conversation_id": conversation_id}).status_code == 409
    assert len(roles_and_texts(ada, begun)) == 2


@pytest.mark.parametrize("path", ["/chat/agent", "/api/chat/agent"])
def test_the_agent_keeps_what_its_tool_did(example, path):
    """It takes `messages` and `filters`, finds one's own conversations only, and its action stands beside its answer."""
    ada, bob = with_token(example, "ada"), with_token(example, "bob")
    bob.post("/chat", json={"message": "Of Bob only"})
    begun = ada.post("/chat", json={"message": "Engines"}).json["conversation_id"]
    old = ada.post("/chat", json={"message": "Long ago"}).json["conversation_id"]
    ada.post(f"/api/conversations/{old}/archive", json={})
    asked = [{"role": "user", "content": "Which conversations do I have?"}]
    answer = ada.post(path, json={"conversation_id": begun, "messages": asked, "filters": {"status": "archived"}})
    assert answer.json["answer"] == "I looked, and found 1:\n- Long ago"
    kept = ada.get(f"/api/conversations/{begun}").json["messages"]
    assert [each["content"] for each in kept][2:] == [asked[0]["content"], answer.json["answer"]]
    assert (kept[-1]["action_type"], kept[-1]["action_params"]) == ("list_conversations", {"status": "archived"})
    assert kept[-1]["action_result"] == {"titles": ["Long ago"]}


UNREADABLE = [
    {},
    {"messages": []},
    {"messages": "Hello"},
    {"messages": ["Hello"]},
    {"messages": [{"role": "user"}]},
    {"messages": [{"role": "user", "content": "Hello"}], "filters": ["x"]},
    {"messages": [{"role": "user", "content": "Hello"}], "filters": {"status": "odd"}},
]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_the_agent_refuses_what_it_cannot_read(browser_of, subtests):
    """Bad input gets a 422 and leaves nothing behind."""
    ada = browser_of("ada")
    for body in UNREADABLE:
        with subtests.test(body=body):
            assert ada.post("/chat/agent", json=body).status_code == 422
            assert ada.get("/api/conversations").json["conversations"] == []


def test_the_same_conversations_under_a_second_address(browser_of):
    """What a client of `/api/v1/chatbot/conversations` creates in camelCase, the page lists."""
    ada = browser_of("ada")
    created = ada.post("/api/v1/chatbot/conversations", json={"title": "Test Conversation"})
    assert "updatedAt" in created.json
    assert [each["id"] for each in ada.get("/api/conversations").json["conversations"]] == [created.json["id"]]
    assert log_in(ada.application, "bob").get(f"/api/v1/chatbot/conversations/{created.json['id']}").status_code == 404
