"""Hosts that call their model themselves: `turn()` and `record_stream()` keep what the machine keeps for responders."""

from __future__ import annotations

import asyncio
import threading

import pytest
from flask import Response, request

from flask_conversations.errors import ConversationNotFound
from flask_conversations.turns import Reasoning, ResponderError, ToolCall, Usage

from .tools import is_idle, noted, said, turns_of, until


def test_a_reply_is_kept_with_its_model_and_usage(app, ada, bob, chat):
    """The question is stored before, the history ends with it, and the reply ends the turn."""
    with noted(app) as seen, ada.turn(chat, "q", client_id="k") as turn:
        assert turn.history == [{"role": "user", "content": "q"}]
        assert said(ada, chat) == [("u", "q")]
        assert ada.get_state(chat)["state"] == "processing"
        answer = turn.reply("a", model="m-1", usage={"prompt_tokens": 3, "completion_tokens": 4})
    assert (answer["content"], answer["status"], answer["model"]) == ("a", "delivered", "m-1")
    assert (answer["usage"]["input_tokens"], answer["tokens_used"]) == (3, 7)
    assert [state for _, state, _ in seen] == ["processing", "idle"]
    with pytest.raises(ConversationNotFound):
        bob.turn(chat, "q")
    is_idle(app, ada, chat)


def test_leaving_without_a_reply_marks_the_answer(app, ada, chat):
    """The question stays, the state says that it failed, and the next turn works."""
    with ada.turn(chat, "q"):
        pass
    assert ada.get_state(chat)["state"] == "failed"
    with pytest.raises(KeyError), ada.turn(chat, "q2"):
        raise KeyError("secret")
    assert "secret" not in str(ada.get_state(chat))
    with ada.turn(chat, "q3") as turn:
        turn.reply("a")
    assert said(ada, chat) == [("u", "q"), ("a", ""), ("u", "q2"), ("a", ""), ("u", "q3"), ("a", "a")]
    is_idle(app, ada, chat)


def test_an_empty_reply_is_kept_as_an_answer(app, ada, chat):
    """A host that says nothing has answered, and the turn is over."""
    with ada.turn(chat, "q") as turn:
        answer = turn.reply("")
    assert (answer["content"], answer["status"]) == ("", "delivered")
    assert said(ada, chat) == [("u", "q"), ("a", "")]
    is_idle(app, ada, chat)


def test_a_replay_is_not_asked_again(app, ada, chat):
    """The same client id gives the first answer; replying to it changes nothing."""
    with ada.turn(chat, "q", client_id="k") as turn:
        turn.reply("first")
    with ada.turn(chat, "q", client_id="k") as turn:
        assert turn.replayed
        assert turn.answer["content"] == "first"
        assert turn.message["content"] == "q"
        assert turn.reply("second")["content"] == "first"
    assert said(ada, chat) == [("u", "q"), ("a", "first")]
    is_idle(app, ada, chat)


def test_host_turns_are_in_order_too(app, ada, chat, threads):
    """Ten routes at once: question, answer, question, answer."""

    def work(i):
        with ada.turn(chat, str(i)) as turn:
            assert turn.history[-1]["content"] == str(i)
            return turn.reply(f"re {i}")["content"]

    assert threads(10, work) == [f"re {i}" for i in range(10)]
    found = said(ada, chat)
    assert [text for _, text in found[1::2]] == [f"re {text}" for _, text in found[::2]]
    is_idle(app, ada, chat)


def test_a_host_turn_can_be_cancelled(app, ada, chat, worker):
    """By this worker and by another: the reply that comes too late is not kept."""
    with ada.turn(chat, "q") as turn:
        ada.cancel(chat)
        assert turn.cancelled
        turn.reply("too late")
    there = worker()
    with ada.turn(chat, "q2") as turn:
        there.conversations.as_user("ada", app=there).cancel(chat)
        turn.reply("too late")
    assert [text for _, text in said(ada, chat)] == ["q", "", "q2", ""]
    is_idle(app, ada, chat)


def test_a_conversation_that_is_deleted_in_a_host_turn(app, ada, chat):
    """The reply says that it is gone; nothing else happens."""
    with ada.turn(chat, "q") as turn:
        ada.delete_conversation(chat, permanent=True)
        with pytest.raises(ConversationNotFound):
            turn.reply("too late")
    assert turns_of(app, chat) == []


@pytest.mark.parametrize("autocommit", [True, False])
def test_turns_in_views(make_app, autocommit):
    """In a plain and in an async view, for either committer: what the host has pending is committed with the question."""
    app = make_app(CONVERSATIONS_AUTOCOMMIT=autocommit)
    from flask_conversations import current_conversations

    @app.post("/chat/<chat>")
    def plain(chat):
        with current_conversations.turn(chat, request.json["q"]) as turn:
            answer = turn.reply(f"re {turn.history[-1]['content']}")
        return {"answer": answer["content"]}

    @app.post("/achat/<chat>")
    async def asynchronous(chat):
        with current_conversations.turn(chat, request.json["q"]) as turn:
            await asyncio.sleep(0)
            answer = turn.reply(f"re {turn.history[-1]['content']}")
        return {"answer": answer["content"]}

    @app.post("/stream/<chat>")
    def streamed(chat):
        current_conversations.save_message(chat, "user", request.json["q"])
        app.db.session.commit()

        async def chunks():
            for piece in ("re ", "stream"):
                await asyncio.sleep(0)
                yield piece

        return Response(current_conversations.record_stream(chat, chunks()))

    ada = app.conversations.as_user("ada", app=app)
    chat = ada.create_conversation("T")["id"]
    client = app.test_client()
    headers = {"X-Test-User": "ada"}
    for path in ("chat", "achat"):
        assert client.post(f"/{path}/{chat}", json={"q": path}, headers=headers).get_json() == {"answer": f"re {path}"}
    assert client.post(f"/stream/{chat}", json={"q": "stream"}, headers=headers).get_data(as_text=True) == "re stream"
    assert [text for _, text in said(ada, chat)] == ["chat", "re chat", "achat", "re achat", "stream", "re stream"]
    is_idle(app, ada, chat)


async def asynchronously(*pieces):
    for piece in pieces:
        await asyncio.sleep(0)
        yield piece


@pytest.mark.parametrize(
    "make", [list, iter, lambda pieces: asynchronously(*pieces)], ids=["list", "iterator", "async"]
)
def test_a_recorded_stream_hands_on_what_it_keeps(app, ada, chat, make):
    """The texts come out as they go in; events are kept and not handed on."""
    ada.save_message(chat, "user", "q")
    pieces = ["one ", Reasoning("hm"), "two", Usage(1, 2, model="m")]
    assert "".join(ada.record_stream(chat, make(pieces))) == "one two"
    answer = ada.get_messages(chat)["messages"][-1]
    assert (answer["content"], answer["status"], answer["model"], answer["tokens_used"]) == (
        "one two",
        "delivered",
        "m",
        3,
    )
    assert [part["type"] for part in answer["parts"]] == ["text", "reasoning", "text"]
    ada.save_message(chat, "user", "q")
    list(ada.record_stream(chat, ["x"], model="named"))
    assert ada.get_messages(chat)["messages"][-1]["model"] == "named"
    is_idle(app, ada, chat)


@pytest.mark.parametrize("received", [0, 1])
def test_an_abandoned_stream_is_complete_all_the_same(app, ada, chat, received):
    """A client that goes away at once, or after the first piece, ends nothing."""
    go = threading.Event()

    def chunks():
        yield "one "
        assert go.wait(30)
        yield "two"

    ada.save_message(chat, "user", "q")
    stream = ada.record_stream(chat, chunks())
    for _ in range(received):
        assert next(stream) == "one "
    stream.close()
    go.set()
    until(lambda: ada.get_state(chat)["state"] == "idle" and turns_of(app, chat))
    assert said(ada, chat) == [("u", "q"), ("a", "one two")]
    is_idle(app, ada, chat)


def test_an_error_in_the_chunks_is_raised_after_what_came_before(app, ada, chat):
    """The text so far is handed on and kept."""

    def chunks():
        yield "one "
        raise RuntimeError("secret")

    ada.save_message(chat, "user", "q")
    stream = ada.record_stream(chat, chunks())
    assert next(stream) == "one "
    with pytest.raises(ResponderError) as raised:
        next(stream)
    assert "secret" not in str(raised.value)
    assert ada.get_messages(chat)["messages"][-1]["status"] == "failed"
    is_idle(app, ada, chat)


def test_a_recorded_stream_of_an_empty_conversation(app, ada, chat):
    """An answer to no question is the first message."""
    assert list(ada.record_stream(chat, ["hello"])) == ["hello"]
    assert said(ada, chat) == [("a", "hello")]
    is_idle(app, ada, chat)


def test_a_recorded_stream_that_asks_for_an_approval(app, ada, chat):
    """It ends there; without a responder the decision ends the turn."""
    ada.save_message(chat, "user", "q")
    list(ada.record_stream(chat, ["one ", ToolCall("c", "t", 1, requires_approval=True)]))
    assert ada.get_state(chat)["state"] == "awaiting_approval"
    outcome = ada.approve_tools(chat, ["c"])
    assert outcome["state"] == "idle"
    is_idle(app, ada, chat)
