"""The chunks of the UI message stream: each kind of event, from every position, from every worker."""

from __future__ import annotations

import itertools
import re

import pytest

from flask_conversations.turns import Component, ResponderError, ToolCall, ToolResult

from .chunks import URL, Page, body, chunks, frames, kinds, text_of, user
from .conftest import everything

END = 1_000_000_000
"""The position behind which the end of a turn is sent."""


@pytest.fixture
def chunks_for(hers, conversations):
    """The chunks of an answer whose responder yields *pieces*."""

    def answered(*pieces):
        conversations.responder(lambda turn: iter(pieces))
        return chunks(hers.post(URL, json=body(user("go"))))

    return answered


@pytest.fixture
def loaded(hers):
    """The parts of the answer as the page loads them."""
    return lambda: hers.get(f"{URL}/chat-1/ui-messages").json["messages"][-1]["parts"]


def test_a_text_has_a_start_deltas_and_an_end(chunks_for, ada):
    """The chunks carry the ids of the answer and of its text, and what else is known of it."""
    some = chunks_for("Hello ", "there.")
    assert list(dict.fromkeys(kinds(some))) == [
        "start", "text-start", "text-delta", "text-end", "message-metadata", "finish",
    ]  # fmt: skip
    answer = ada.get_messages("chat-1")["messages"][1]
    assert some[0]["messageId"] == answer["id"]
    assert text_of(some) == answer["content"] == "Hello there."
    assert {chunk["id"] for chunk in some if chunk["type"].startswith("text")} == {"text-5"}
    metadata = some[-2]["messageMetadata"]
    assert metadata["status"] == "delivered"
    assert metadata["parent_id"] == answer["parent_id"]
    assert some[-1] == {"type": "finish", "finishReason": "stop"}


def test_what_was_streamed_is_what_is_loaded(chunks_for, loaded):
    """A page that followed an answer shows the same parts as one that is opened later."""
    assert Page().take(chunks_for(*everything())).parts == loaded()


@pytest.mark.parametrize(
    "pieces",
    [
        (ToolCall("a", "x", None), ToolCall("a", "x", None), ToolResult("a", [1, 2]), "then"),
        (ToolCall("a", "x", "no json"), ToolCall("b", "y", 5), ToolResult("b"), ToolResult("b", "again")),
        (Component("a b/c", [1]), ToolResult("a", 1), Component("d", None)),
        (ToolCall("a", "x", {}), "before it answers", ToolResult("a", None, is_error=True), ToolCall("b", "y", {})),
    ],
)
def test_odd_answers_are_streamed_as_they_are_loaded(chunks_for, loaded, pieces):
    """Calls said twice, results said twice or of nothing, arguments that are no object."""
    assert Page().take(chunks_for(*pieces)).parts == loaded()


def test_a_failure_is_an_error_after_what_was_said(hers, conversations):
    """The page learns of it in a sentence, and of nothing that the exception says."""

    def reply(turn):
        yield "half"
        raise ResponderError("The model is asleep.") from RuntimeError("a secret")

    conversations.responder(reply)
    some = chunks(hers.post(URL, json=body(user("go"))))
    assert kinds(some)[-3:] == ["text-end", "message-metadata", "error"]
    assert some[-1]["errorText"] == "The model is asleep."


def test_a_call_that_nobody_answers_is_closed_when_the_turn_fails(hers, conversations):
    """A page does not wait for a tool of a turn that is over."""

    def reply(turn):
        yield ToolCall("a", "x", {})
        raise RuntimeError

    conversations.responder(reply)
    some = chunks(hers.post(URL, json=body(user("go"))))
    assert kinds(some)[1:3] == ["tool-input-available", "tool-output-error"]
    assert Page().take(some).parts == hers.get(f"{URL}/chat-1/ui-messages").json["messages"][-1]["parts"]


def test_ids_stand_with_the_last_chunk_of_each_event(hers, replies):
    """A reader that lost the connection between two chunks of one event gets the whole event again."""
    answer = hers.post(URL, json=body(user("everything")))
    sent_frames = frames(answer.get_data(as_text=True))
    for (name, chunk), (_, following) in itertools.pairwise(sent_frames):
        if chunk["type"] in ("text-start", "reasoning-start", "finish-step", "start-step"):
            assert name is None, following
    places = [int(name.rpartition(":")[2]) for name, _ in sent_frames if name]
    assert places == sorted(places)


def test_a_stream_can_be_taken_up_at_every_place(hers, replies):
    """From each place on comes exactly the rest, in streams that open what they tell of and close what they opened."""
    whole = hers.post(URL, json=body(user("everything")))
    sent_frames = frames(whole.get_data(as_text=True))
    turn, _, last = next(name for name, _ in reversed(sent_frames) if name).rpartition(":")
    all_of_it = spoken([chunk for _, chunk in sent_frames])
    starts = {chunk["id"] for _, chunk in sent_frames if chunk["type"].endswith("-start")}
    places = [int(name.rpartition(":")[2]) for name, _ in sent_frames if name]
    said = max(place for place in places if place < END)
    for place in [*range(said + 1), *(place for place in places if END < place < int(last))]:
        answer = hers.get(f"{URL}/chat-1/stream", headers={"Last-Event-ID": f"{turn}:{place}"})
        some = chunks(answer)
        assert some[0]["messageId"] == sent_frames[0][1]["messageId"]
        assert {chunk["id"] for chunk in some if chunk["type"].endswith("-start")} <= starts
        page = Page().take(some)
        assert page.ended == "finish"
        assert all_of_it.endswith(spoken(some))
        assert len(spoken(some)) == min(len(all_of_it), max(0, spoken_after(sent_frames, place)))
    assert hers.get(f"{URL}/chat-1/stream", headers={"Last-Event-ID": f"{turn}:{last}"}).status_code == 204


def spoken(some):
    return "".join(chunk["delta"] for chunk in some if "delta" in chunk)


def spoken_after(sent_frames, place):
    """How many characters a stream has still to say that has reached *place*."""
    rest = 0
    for name, chunk in sent_frames:
        if "delta" in chunk:
            end = int(name.rpartition(":")[2])
            rest += min(len(chunk["delta"]), max(0, end - place))
    return rest


def test_a_turn_that_a_chat_began_is_streamed_to_it(hers, replies):
    """The stream of a chat's turn speaks the chat's protocol by itself, another client's does not; 204 when none runs."""
    chunks(hers.post(URL, json=body(user("tool"))))
    assert kinds(chunks(hers.get(f"{URL}/chat-1/stream")))[-1] == "finish"
    plain = hers.get(f"{URL}/chat-1/stream?protocol=events")
    assert "event: message.started" in plain.get_data(as_text=True)
    hers.post(f"{URL}/chat-1/actions/cancel", json={})
    assert hers.get(f"{URL}/chat-1/stream").status_code == 204


def test_without_a_responder_the_question_is_stored(app, http, ada):
    """Without a responder the stream ends at once, and the conversation keeps what was sent."""
    some = chunks(http("ada").post(URL, json=body(user("hello"))))
    assert kinds(some) == ["start", "finish"]
    assert [message["content"] for message in ada.get_messages("chat-1")["messages"]] == ["hello"]


def test_a_text_is_taken_up_while_it_grows(hers, http, replies):
    """Another reader who comes in within a text that is still being said receives it under the same id."""
    sent = hers.post(URL, json=body(user("slow")), buffered=False)
    stream = iter(sent.response)
    begun = ""
    while "text-delta" not in begun:
        begun += next(stream).decode()
    turn = re.findall(r"id: ([^:]+):", begun)[-1]
    other = chunks(http("ada").get(f"{URL}/chat-1/stream", headers={"Last-Event-ID": f"{turn}:7"}))
    rest = frames(begun + b"".join(stream).decode())
    assert text_of(other) == "e two"
    assert text_of([chunk for _, chunk in rest]) == "one two"
    names = [{chunk["id"] for chunk in some if chunk["type"] == "text-start"} for some in (other, [c for _, c in rest])]
    assert names[0] == names[1]


def test_the_end_of_a_failed_and_of_a_cancelled_turn_is_sent_once(hers, http, conversations, replies):
    """Behind each of its ids the end is the same end, and behind the last one there is nothing."""

    def fails(turn):
        yield "half"
        raise RuntimeError

    conversations.responder(fails)
    event_ids = re.findall(r"^id: (.*)$", hers.post(URL, json=body(user("go"))).get_data(as_text=True), re.MULTILINE)
    for last in event_ids:
        answer = hers.get(f"{URL}/chat-1/stream", headers={"Last-Event-ID": last})
        if last == event_ids[-1]:
            assert answer.status_code == 204
        else:
            assert "finish" not in kinds(chunks(answer)), last
