"""The AI SDK itself, as `useChat` uses it, against a server: nothing in it is changed or configured but the address."""

from __future__ import annotations

import json

import pytest

from .chunks import URL, body, chunks, frames, user
from .test_chunks import END

BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.long)]
pytestmark = [pytest.mark.slow, pytest.mark.parametrize("database", BOTH, indirect=True)]


def texts(page):
    """What a page shows of each message: its role and its texts."""
    return [
        (message["role"], "".join(part["text"] for part in message["parts"] if part["type"] == "text"))
        for message in page["messages"]
    ]


def shown(messages):
    """The parts of messages without the marks that the AI SDK keeps for itself while they stream."""
    return [[{k: v for k, v in part.items() if k in SHOWN} for part in message["parts"]] for message in messages]


SHOWN = ("type", "text", "toolCallId", "input", "output", "errorText", "data")


def test_a_chat_is_a_conversation(played, ada, bob):
    """Two messages sent make four messages in a new conversation of the user's, under the id of the chat."""
    page = played("sends")
    assert (page["status"], page["error"], page["sent"]) == ("ready", None, 2)
    said = [("user", "first"), ("assistant", "You said first."), ("user", "second"), ("assistant", "You said second.")]
    assert texts(page) == said
    stored = ada.get_messages(page["id"])["messages"]
    assert [(one["role"], one["content"]) for one in stored] == said
    assert [one["client_id"] for one in stored if one["role"] == "user"] == [
        page["messages"][0]["id"],
        page["messages"][2]["id"],
    ]
    assert [one["id"] for one in stored if one["role"] == "assistant"] == [
        page["messages"][1]["id"],
        page["messages"][3]["id"],
    ]
    assert page["messages"][1]["metadata"]["usage"] == {"input_tokens": 3, "output_tokens": 4}
    assert bob.list_conversations()["conversations"] == []


def test_files_and_metadata_arrive(played, ada):
    """A file that a message brings, and its metadata, are stored with it and come back."""
    page = played("attaches")
    question = ada.get_messages(page["id"])["messages"][0]
    file = {"type": "file", "mediaType": "text/plain", "url": "data:text/plain;base64,YQ==", "filename": "a.txt"}
    assert question["content"] == [file, {"type": "text", "text": "look"}]
    assert question["metadata"] == {"from": "page"}
    assert page["loaded"][0]["parts"] == [file, {"type": "text", "text": "look"}]


def test_all_that_can_be_said_is_understood(played):
    """A page that has streamed an answer shows what it shows when it is loaded."""
    page = played("tells_all")
    assert (page["status"], page["error"]) == ("ready", None)
    assert shown(page["messages"][1:]) == shown(page["loaded"][1:])
    kinds = [part["type"] for part in page["messages"][1]["parts"]]
    tools = ["tool-weather", "tool-weather", "step-start"]
    assert kinds == ["reasoning", "text", *tools, "text", "data-line-chart", "reasoning", "text"]


def test_a_broken_connection_loses_nothing(played, replies):
    """A connection that breaks in the middle is taken up by `resumeStream`; the model is asked once."""
    page = played("breaks")
    assert page["broken"]["status"] == "error"
    assert texts(page["broken"]) == [("user", "slow"), ("assistant", "one ")]
    assert (page["status"], texts(page)) == ("ready", [("user", "slow"), ("assistant", "one two")])
    assert replies.asked == ["slow"]


def test_a_page_that_is_opened_again_finds_its_answer(played, replies):
    """A new page loads what there is and follows the turn under way; when none is, `resumeStream` changes nothing."""
    page = played("comes_back")
    assert (page["status"], page["error"]) == ("ready", None)
    assert texts(page) == [("user", "slow"), ("assistant", "one two")]
    assert replies.asked == ["slow"]


def test_answers_are_regenerated(played):
    """`regenerate`, with and without an id, puts another answer in the place of the one before."""
    page = played("regenerates")
    assert texts(page) == [("user", "first"), ("assistant", "You said first.")]
    answer = page["messages"][1]["id"]
    assert len({page["first"], page["second"], answer}) == 3
    assert [one["id"] for one in page["loaded"]][1:] == [answer]


def test_questions_are_put_differently(played):
    """`sendMessage` with a `messageId` asks that question differently, as often as one likes; later ones follow it."""
    page = played("edits")
    said = [
        ("user", "another"),
        ("assistant", "You said another."),
        ("user", "after"),
        ("assistant", "You said after."),
    ]
    assert texts(page) == said
    assert texts({"messages": page["loaded"]}) == said


@pytest.mark.parametrize("decision", ["approve", "deny"])
def test_tools_are_approved(played, replies, decision):
    """Once all calls are decided the chat sends by itself, once, and the tools run, or do not."""
    page = played("decides", decision)
    states = [part["state"] for part in page["requested"]["parts"] if "state" in part and "toolCallId" in part]
    assert states == ["approval-requested"] * 2
    assert (page["status"], page["error"], page["sent"]) == ("ready", None, 2)
    answer = page["messages"][1]
    tools = [part for part in answer["parts"] if "toolCallId" in part]
    if decision == "approve":
        assert [(part["state"], part["output"]) for part in tools] == [("output-available", {"removed": "remove"})] * 2
    else:
        assert [part["state"] for part in tools] == ["output-denied"] * 2
    assert texts(page)[1][1].endswith("Done." if decision == "approve" else "Then not.")
    assert [part["type"] for part in page["loaded"][1]["parts"]] == [part["type"] for part in answer["parts"]]
    assert replies.asked == ["tool", "tool"]


def test_tools_are_approved_after_coming_back(played, replies):
    """A page that is opened while an approval is awaited shows the request, and can answer it."""
    page = played("decides_after_coming_back")
    assert (page["status"], page["error"], page["sent"]) == ("ready", None, 2)
    assert texts(page) == [("user", "tool"), ("assistant", "Let me see.Done.")]
    assert shown(page["messages"]) == shown(page["loaded"])
    assert replies.asked == ["tool", "tool"]


def test_a_loaded_chat_goes_on(played):
    """A chat that begins with what the server has stored goes on with it."""
    page = played("goes_on")
    said = [("user", "first"), ("assistant", "You said first."), ("user", "second"), ("assistant", "You said second.")]
    assert texts(page) == texts({"messages": page["loaded"]}) == said


def test_a_failed_answer_can_be_tried_again(played, replies):
    """The page gets the failure of the responder, keeps the text so far, and `regenerate` asks anew."""
    page = played("fails")
    assert (page["failed"]["status"], page["failed"]["error"]) == ("error", "The responder failed.")
    assert texts(page["failed"]) == [("user", "crash"), ("assistant", "half")]
    assert replies.asked == ["crash", "crash"]


def test_a_cancelled_answer_ends_as_it_is(played):
    """What was said before a cancel stays, and the page is ready for the next question."""
    page = played("stops")
    assert (page["status"], texts(page)) == ("ready", [("user", "slow"), ("assistant", "one ")])
    assert page["messages"][1]["metadata"]["status"] == "interrupted"


def test_a_refusal_reaches_the_page(played):
    """What is wrong with a request is the chat's error."""
    page = played("refused")
    assert page["status"] == "error"
    assert json.loads(page["error"])["errors"].keys() == {"id"}


def test_every_place_to_come_in_is_valid(played, hers):
    """A stream that is taken up behind any of its events is one that the AI SDK reads to its end."""
    answer = hers.post(URL, json=body(user("everything")))
    sent_frames = frames(answer.get_data(as_text=True))
    turn = next(name for name, _ in sent_frames if name).partition(":")[0]
    places = [int(name.partition(":")[2]) for name, _ in sent_frames if name]
    said = max(place for place in places if place < END)
    cuts = [*range(said + 1), *(place for place in places if place > END)]
    whole = played("cuts", json.dumps([{"chat": "chat-1", "last": f"{turn}:{place}"} for place in cuts]))
    assert whole[-1] is None, "behind the last event there is nothing to tell"
    ids = {one["id"] for one in whole[:-1]}
    assert ids == {chunks(hers.post(URL, json=body(user("everything"))))[0]["messageId"]}
    said = "Well, now.First. \N{HONEYBEE}Second.Hm.Last."
    for message in whole[:-1]:
        assert said.endswith("".join(part["text"] for part in message["parts"] if "text" in part))


@pytest.mark.parametrize("version", ["ai-5", pytest.param("ai-6", marks=pytest.mark.long)])
def test_older_versions_read_it_too(played, version, replies):
    """What holds for the newest version holds for those before it; version 5 knows no approvals and no replay."""
    assert texts(played("sends", version=version))[3] == ("assistant", "You said second.")
    page = played("tells_all", version=version)
    assert shown(page["messages"][1:]) == shown(page["loaded"][1:])
    assert texts(played("edits", version=version))[2:] == [("user", "after"), ("assistant", "You said after.")]
    assert len(played("regenerates", version=version)["messages"]) == 2
    if version == "ai-6":
        assert texts(played("breaks", version=version)) == [("user", "slow"), ("assistant", "one two")]
        assert texts(played("decides", "approve", version))[1] == ("assistant", "Let me see.Done.")
