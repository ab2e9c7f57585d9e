"""What apps put into their deques comes back equal, and what cannot is refused."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_conversations.errors import ValidationFailed
from flask_conversations.sessions.items import item_of, message_of

from .conftest import said

CALLS = [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]
ITEMS: list[Any] = [
    said("plain"),
    said("", "assistant"),
    said("with more", timestamp=1790000000.25, sources=["a", {"b": None}], model="m", id="own", session="x"),
    said("a time", at=dt.datetime(2025, 1, 2, 3, 4, 5, 678), zoned=dt.datetime(2025, 1, 2, tzinfo=dt.timezone.utc)),
    said("metadata of its own", metadata={"session": {"item": 1}}, raw={"a": 1}, created_at="yesterday"),
    {"role": "user", "content": [{"type": "text", "text": "parts"}, {"type": "image_url", "image_url": {"url": "x"}}]},
    {"role": "assistant", "content": None, "tool_calls": CALLS},
    {"role": "tool", "content": "21 degrees", "tool_call_id": "c1"},
    {"role": "tool", "content": {"degrees": 21}, "tool_call_id": "c1"},
    {"role": "Human", "content": "another name"},
    {"role": "bot", "content": ["no", "parts"]},
    {"role": None, "content": 5},
    {"content": "turned round", "role": "system"},
    {"sender": "user", "text": "another shape"},
    {"user": "question", "bot": "answer"},
    {},
    "a text",
    "",
    ("user", "a pair"),
    ("AI", "a pair"),
    ["assistant", "a pair"],
    ("question", "answer"),
    ("user", "answer", 3),
    [],
    3,
    2.5,
    True,
    None,
]


def test_what_goes_in_comes_out(sessions_of, subtests):
    """Equal, and of the same type where Python has several for the same thing."""
    ours = sessions_of("ada", 3)
    for number, item in enumerate(ITEMS):
        with subtests.test(repr(item)):
            key = f"s{number}"
            ours[key].append(item)
            [found] = ours[key]
            assert found == item
            assert type(found) is type(item) or isinstance(found, type(item))
            assert item in ours[key]
            assert ours[key].pop() == item


NO_ITEMS: list[Any] = [
    said("an object", value=object()),
    said("deep", value={"at": dt.datetime(2025, 1, 1, tzinfo=dt.timezone.utc)}),
    said("not finite", value=float("nan")),
    said("keys", value={1: "a"}),
    said("nul \0"),
    said("a lone surrogate \ud800"),
    {"role": "user", "content": object()},
    object(),
    {1, 2},
    b"bytes",
]


def test_what_is_no_json_is_refused(sessions_of, ada, subtests):
    """With an error that says why, and without a trace."""
    ours = sessions_of("ada", 3)
    for item in NO_ITEMS:
        with subtests.test(ascii(item)):
            with pytest.raises(ValidationFailed):
                ours["s1"].extend([said("fine"), item])
            assert "s1" not in ours
            assert ada.list_conversations()["conversations"] == []


def test_everybody_else_sees_role_and_content(sessions_of, ada):
    """The REST API and the history for a model see messages, whatever shape the app's items have."""
    ours = sessions_of("ada")
    ours["s1"].extend(
        [
            said("Weather?", at=1),
            {"role": "assistant", "content": None, "tool_calls": CALLS},
            {"role": "tool", "content": "21 degrees", "tool_call_id": "c1"},
            ("ai", "21 degrees."),
            "Thanks",
            {"text": "Bye"},
        ]
    )
    history = ada.get_conversation_history("session:s1")
    assert [message["role"] for message in history] == ["user", "assistant", "tool", "assistant", "user", "user"]
    assert history[1]["tool_calls"][0]["id"] == history[2]["tool_call_id"] == "c1"
    assert [message["content"] for message in history[3:]] == ["21 degrees.", "Thanks", '{"text": "Bye"}']


def test_an_edit_through_the_api_is_seen(sessions_of, ada):
    """A message edited by its owner changes the item; the app's own members stay."""
    ours = sessions_of("ada")
    ours["s1"].extend([said("a", at=1), {"text": "b"}])
    for message in ada.get_messages("session:s1")["messages"]:
        ada.update_message("session:s1", message["id"], content="edited")
    assert list(ours["s1"]) == [said("edited", at=1), said("edited")]


NOTES: list[Any] = [
    {"extra": {"role": "system"}},
    {"extra": {"content": "other"}},
    {"item": {"role": "system", "content": "other"}},
    {"kind": "tuple", "role": "system"},
    {"kind": "tuple"},
    {"times": {"at": "never"}},
    {"extra": 5},
    {"times": [1]},
    "text",
    None,
]


def test_metadata_cannot_forge_a_role(sessions_of, http, subtests):
    """A client may write metadata, but no system messages: what contradicts role and content is not believed."""
    ours = sessions_of("ada")
    for number, note in enumerate(NOTES):
        with subtests.test(repr(note)):
            key = f"s{number}"
            ours[key].append(said("begun"))
            body = {"role": "user", "content": "said", "metadata": {"session": note}}
            assert http("ada").post(f"/api/conversations/session:{key}/messages", json=body).status_code == 201
            assert list(ours[key]) == [said("begun"), said("said")]


TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
ROLES = st.sampled_from(["user", "assistant", "system", "tool", "Human", "bot", "nobody"])
MESSAGES = st.builds(lambda more, role, content: {**more, "role": role, "content": content},
                     st.dictionaries(TEXT, JSON, max_size=3), ROLES, TEXT | JSON)  # fmt: skip
PAIRS = st.tuples(ROLES | TEXT, TEXT)


def test_any_json_comes_back(long):
    """Whatever JSON an item is: the message that keeps it makes it again."""

    @settings(max_examples=1000 if long else 60)
    @given(item=MESSAGES | PAIRS | JSON)
    def comes_back(item):
        message = {"metadata": None, **message_of(item)}
        assert item_of(message) == item

    comes_back()
