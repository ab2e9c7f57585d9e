"""What comes out of Redis is what the database says, for everything that a message can hold: in each format and each size."""

from __future__ import annotations

import json
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from flask_conversations.errors import ValidationFailed

from ..history.histories import ROWS
from ..infra.apps import client_of
from ..infra.service import messages_json
from ..service.tools import sql
from .tools import ASSISTANT, USER, as_user, assert_at_rest, cache_of, counted, key, reader_view, said

MARKERS = (
    '{"_r":"0123456789abcdef","_t":1790000000000}',
    '{"_l":"0123456789abcdef","_e":"0123456789ab","_t":1790000000000}',
    '{"_v":1,"_e":"0123456789ab","_t":1790000000000,"_s":1,"_c":"x","_o":"y","_w":1,"_empty":1}',
    '"_empty":1}',
    '_empty":1}',
    '","_empty":1}',
    '"_w":1,"_empty":1}',
    '{"_v":0,',
    '","parent_id":null,"',
    '"conversation_id":"018f0000-0000-7000-8000-000000000000"',
)
AWKWARD = (
    *MARKERS,
    "",
    " ",
    "\n",
    "\t\r\x01\x7f\x85\u2028\u2029\ufeff",
    '"',
    "'",
    "\\",
    '\\"',
    '\\u0022"',
    "{",
    "}",
    "[{]}",
    "]",
    "}]}",
    "null",
    "%s %d %%",
    "%1 %0",
    "\r\n*3\r\n$3\r\nDEL\r\n",
    "Straße 你好 🧵 \U0001f469\u200d\U0001f680 e\u0301 é",
    "x" * 100_000,
    "\U0001f600" * 25_000,
)
JSON = {
    "big": 2**70,
    "bigger": -(10**40),
    "exact": 2**53 + 1,
    "floats": [0.1, 1e22, 1e23, 1e-7, -0.0, 0.0, 1.0, 5e-324, 1.7976931348623157e308],
    "words": {"true": True, "false": False, "null": None, "one": 1, "1": "one"},
    "parent_id": None,
    "seq": -1,
    "id": "not mine",
    "_v": 99,
    "_r": "x",
    "_empty": 1,
    "empty": {"": "", "list": [], "object": {}},
    "nested": [[[[{"a": [{"b": None}]}]]]],
    "ключ 🔑": "значение",
    'quote"\\': '"',
    "attachments": [],
}
CALL = {"type": "tool_call", "id": "call_1", "name": "look", "arguments": {"q": 'a"b'}}
RESULT = {"type": "tool_result", "tool_call_id": "call_1", "content": [{"type": "text", "text": "21"}]}
KINDS: dict[str, list[dict[str, Any]]] = {
    "awkward texts": said(*AWKWARD),
    "metadata": [{"role": USER, "content": "x", "metadata": JSON}, {"role": USER, "content": "x", "metadata": {}}],
    "parts": [
        {"role": USER, "content": [{"type": "text", "text": text} for text in MARKERS]},
        {"role": USER, "content": []},
        {"role": USER, "content": [{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]},
        {"role": USER, "content": "text", "parts": [{"type": "text", "text": "other"}]},
        {"role": USER, "content": "text", "parts": []},
    ],
    "tool calls": [
        {"role": USER, "content": "weather?"},
        {"role": ASSISTANT, "content": "", "parts": [CALL]},
        {"role": "tool", "content": "", "parts": [RESULT]},
        {"role": ASSISTANT, "content": "21 degrees"},
    ],
    "a call without its result": [{"role": ASSISTANT, "content": "", "parts": [CALL]}],
    "a result without its call": [{"role": "tool", "content": "", "parts": [RESULT]}, *said("x")],
    "raw": [
        {"role": ASSISTANT, "content": "x", "raw": {"role": "assistant", "content": None, "tool_calls": []}},
        {"role": ASSISTANT, "content": "x", "raw": {}},
        {"role": ASSISTANT, "content": "x", "raw": JSON},
    ],
    "everything": [
        {
            "role": ASSISTANT,
            "content": "x",
            "type": "card",
            "status": "interrupted",
            "model": "m-1",
            "tokens_used": 2**40,
            "usage": {"in": 1, "out": 2.5},
            "latency_ms": 12,
            "action_type": "open",
            "action_params": JSON,
            "action_result": ["a", None, 1.0],
            "action_status": "done",
            "component_type": "chart",
            "component_data": JSON,
            "attachments": [{"name": "a.png", "size": 1}, "b"],
            "contexts": [{"url": "https://example.org"}],
            "metadata": JSON,
            "client_id": "own-1",
            "created_at": "2020-02-29T12:00:00.5+05:30",
        }
    ],
    "falsy values": [
        {
            "role": USER,
            "content": "x",
            "tokens_used": 0,
            "latency_ms": 0.0,
            "action_params": False,
            "action_result": 0,
            "component_data": "",
            "attachments": [],
            "contexts": [],
            "usage": {},
            "model": "",
            "action_type": "",
        }
    ],
    "every status": [
        {"role": ASSISTANT, "content": "x", "status": status}
        for status in ("pending", "streaming", "delivered", "interrupted", "failed")
    ],
    "every role": [{"role": role, "content": role} for role in ("system", "developer", USER, ASSISTANT, "tool")],
    "times": [
        {"role": USER, "content": "x", "created_at": at}
        for at in ("1970-01-01T00:00:00Z", "2038-01-19T03:14:08.000001Z", "2024-10-27T02:30:00+02:00")
    ],
}
LIMITS = (1, 15, None)
"""Some of the entry, what an entry holds, and everything: more limits stand in `test_every_size_and_every_limit`."""


def test_every_kind_of_message(app, cold, client, subtests):
    """Written through, filled by a read, and out of the database: all formats, pages and JSON are the same."""
    ada = as_user(app)
    for name, messages in KINDS.items():
        with subtests.test(name):
            chat = ada.create_conversation()["id"]
            for message in messages:
                ada.save_message(chat, **message)
            truth = reader_view(cold, chat, LIMITS)
            assert reader_view(ada, chat, LIMITS) == truth
            client.flushdb()
            ada.get_conversation_history(chat, 1)
            assert reader_view(ada, chat, LIMITS) == truth
            batch = ada.create_conversation(messages=[{**one, "client_id": None} for one in messages])["id"]
            assert reader_view(ada, batch, LIMITS) == reader_view(cold, batch, LIMITS)


def test_the_answers_did_come_from_redis(app, cold):
    """Nothing above is compared with itself: the small kinds are read from Redis, every one of them."""
    ada = as_user(app)
    for name, messages in KINDS.items():
        hits, misses = counted(app, "hits", "misses")
        chat = ada.create_conversation(messages=[{**one, "client_id": None} for one in messages][:14])["id"]
        ada.get_conversation_history(chat, 14)
        ada.get_messages(chat, limit=13)
        assert counted(app, "hits", "misses") == [hits + 2, misses], name


@pytest.mark.parametrize("case", ["snake", "camel"])
def test_over_http(make_app, redis_url, case, subtests):
    """GET .../messages is the same with a cache and without, spelled either way."""
    settings = {"CONVERSATIONS_JSON_CASE": case, "CONVERSATIONS_CACHE_STRICT": False}
    app = make_app(CONVERSATIONS_REDIS_URL=redis_url, **settings)
    uncached = make_app(CONVERSATIONS_CACHE=False, **settings)
    clients = [client_of(one, "ada") for one in (app, uncached)]
    cursor, has_more = ("nextCursor", "hasMore") if case == "camel" else ("next_cursor", "has_more")
    same = {"Content-Type", "Cache-Control", "Vary", "X-Content-Type-Options"}
    for name, messages in KINDS.items():
        with subtests.test(name):
            chat = as_user(app).create_conversation(messages=messages)["id"]
            hits = counted(app, "hits")
            for limit in (1, 3, 15, 50):
                warm, cold = (client.get(f"/api/conversations/{chat}/messages?limit={limit}") for client in clients)
                assert warm.status_code == cold.status_code == 200
                assert warm.mimetype == cold.mimetype == "application/json"
                assert (warm.json[cursor] is None) == (cold.json[cursor] is None) == (not cold.json[has_more])
                assert _but(warm.json, cursor) == _but(cold.json, cursor)
                assert {one: warm.headers.get(one) for one in same} == {one: cold.headers.get(one) for one in same}
            assert counted(app, "hits") > hits


def _but(page: dict[str, Any], cursor: str) -> str:
    return json.dumps({name: value for name, value in page.items() if name != cursor}, sort_keys=True)


def test_every_size_and_every_limit(make_app, redis_url, cold, app, client, stored, uncached, subtests):
    """Windows smaller, as large, and larger than the entry, and entries whose oldest message is not the first, in both modes."""
    ada = as_user(app)
    strictly = as_user(make_app(CONVERSATIONS_REDIS_URL=redis_url, CONVERSATIONS_CACHE_STRICT=True))
    limits, form = (0, 1, 14, 15, 16, 50, None), ("openai",)
    for size in (0, 1, 14, 15, 16, 50):
        with subtests.test(size=size):
            chat = ada.create_conversation()["id"]
            for n in range(size):
                ada.save_message(chat, (USER, ASSISTANT)[n % 2], f"m {n}")
            truth = reader_view(cold, chat, limits, form)
            assert reader_view(ada, chat, limits, form) == truth, "written through"
            for reader in (ada, strictly):
                client.flushdb()
                assert reader_view(reader, chat, limits, form) == truth, "filled by the first read"
                assert reader_view(reader, chat, limits, form) == truth, "warm"
                assert_at_rest(stored, uncached)


@pytest.mark.parametrize("limit", [1, 2, 15])
def test_a_window_is_served_only_where_it_reaches(make_app, redis_url, cold, limit):
    """An entry of n messages answers up to n, and more only if it is the whole conversation."""
    app = make_app(CONVERSATIONS_REDIS_URL=redis_url, CONVERSATIONS_CACHE_LIMIT=limit, CONVERSATIONS_CACHE_STRICT=False)
    ada = as_user(app)
    for size, hit in ((limit, True), (limit + 1, False)):
        chat = ada.create_conversation(messages=said(*(f"m {n}" for n in range(size))))["id"]
        for wanted in (limit, limit + 1, limit + 5):
            hits = counted(app, "hits")
            assert ada.get_conversation_history(chat, wanted) == cold.get_conversation_history(chat, wanted)
            assert counted(app, "hits") - hits == (hit or wanted <= limit)


def test_after_the_first_message_was_deleted_the_entry_is_whole_again(app, cold, client):
    """The oldest message that is left answers none, so that a short window is known to be everything."""
    ada = as_user(app)
    chat = ada.create_conversation(messages=said("a", "b", "c"))["id"]
    ada.delete_message(chat, ada.get_messages(chat)["messages"][0]["id"])
    ada.get_conversation_history(chat)
    hits = counted(app, "hits")
    assert reader_view(ada, chat, (50,)) == reader_view(cold, chat, (50,))
    assert counted(app, "hits") > hits


def test_a_branch_shows_its_own_path(app, cold, client):
    """On another branch the window is that branch's, warm, cold and after more messages."""
    ada = as_user(app)
    chat = ada.create_conversation(messages=said(*(f"m {n}" for n in range(20))))["id"]
    fork = ada.get_messages(chat)["messages"][3]["id"]
    ada.save_message(chat, USER, "else", parent_id=fork)
    for _ in range(3):
        assert reader_view(ada, chat, (1, 5, 15, None)) == reader_view(cold, chat, (1, 5, 15, None))
        ada.save_message(chat, ASSISTANT, "more")
    assert ada.get_conversation_history(chat, 15)[0]["content"] == "m 0"


def test_a_change_over_http_is_seen_at_once(app, uncached):
    """PATCH and DELETE of a message, and of its conversation, show in the next GET."""
    client, truth = client_of(app, "ada"), client_of(uncached, "ada")
    chat = as_user(app).create_conversation(messages=said("a", "b"))["id"]
    base = f"/api/conversations/{chat}"
    ids = [one["id"] for one in client.get(f"{base}/messages").json["messages"]]
    for method, path, body in (
        ("patch", f"/messages/{ids[1]}", {"content": "edited"}),
        ("put", f"/messages/{ids[1]}/feedback", {"rating": "up"}),
        ("delete", f"/messages/{ids[0]}", None),
        ("patch", "", {"title": "renamed"}),
        ("post", "/messages", {"content": "new"}),
    ):
        assert getattr(client, method)(base + path, json=body).status_code in (200, 201, 204), path
        for _ in range(2):
            assert client.get(f"{base}/messages").json == truth.get(f"{base}/messages").json
    assert client.delete(base).status_code in (200, 204)
    assert client.get(f"{base}/messages").status_code == 404


def test_what_a_caller_does_with_an_answer_stays_with_it(app, cold):
    """Lists and objects of an answer are the caller's own: a later answer does not know of its changes."""
    ada = as_user(app)
    chat = ada.create_conversation(messages=[{"role": USER, "content": "x", "metadata": {"a": [1]}}, *said("y")])["id"]
    for _ in range(2):
        for message in ada.get_messages(chat)["messages"]:
            message["attachments"].append("mine")
            message["contexts"].append("mine")
            message["content"] = "mine"
            (message["metadata"] or {}).clear()
        assert ada.get_messages(chat) == cold.get_messages(chat)


@pytest.mark.parametrize(
    "spoilt",
    [
        "UPDATE conversation_messages SET content = CAST(x'ff00fe' AS BLOB)",
        "UPDATE conversation_messages SET metadata = '{'",
        "UPDATE conversation_messages SET metadata = '{\"a\": NaN}'",
        "UPDATE conversation_messages SET metadata = '[1, 2]', attachments = '{\"a\": 1}'",
        "UPDATE conversation_messages SET rating = 'odd', status = 'odd', role = 'odd', type = ''",
        "UPDATE conversation_messages SET created_at = 'no time'",
    ],
)
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_spoilt_rows_read_the_same_warm_and_cold(app, cold, spoilt, client):
    """What somebody else has done to a row shows the same from both places, and does not break a read."""
    ada = as_user(app)
    chat = ada.create_conversation(messages=said("a", "b"))["id"]
    client.flushdb()
    sql(app, spoilt)
    for _ in range(3):
        for limit in (1, 15):
            assert ada.get_messages(chat, limit=limit) == cold.get_messages(chat, limit=limit)
            assert messages_json(ada, chat) == messages_json(cold, chat)
            assert ada.get_conversation_history(chat, limit) == cold.get_conversation_history(chat, limit)


def test_a_message_too_large_for_redis(app, cold, client, stored, uncached):
    """A message over a megabyte is not kept in Redis: every read comes from the database, and is right."""
    ada = as_user(app)
    chat = ada.create_conversation(messages=said("a"))["id"]
    ada.save_message(chat, USER, "x" * 1_200_000)
    ada.save_message(chat, USER, "after it")
    for _ in range(2):
        assert ada.get_messages(chat) == cold.get_messages(chat)
    assert client.exists(key(chat)) == 0
    for n in range(15):
        ada.save_message(chat, USER, f"m {n}")
    assert ada.get_conversation_history(chat, 15) == cold.get_conversation_history(chat, 15)
    assert_at_rest(stored, uncached)


FIELDS = {
    "metadata": st.dictionaries(
        st.text(max_size=5),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
            max_leaves=6,
        ),
        max_size=4,
    ),
    "latency_ms": st.integers(0, 10**6) | st.floats(0, 1e6),
    "tokens_used": st.integers(0, 2**31 - 1),
    "attachments": st.lists(st.text() | st.none() | st.integers(), max_size=2),
    "component_data": st.text() | st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=3),
}
MESSAGES = st.lists(
    ROWS | st.fixed_dictionaries({"role": st.just(USER), "content": st.text()}, optional=FIELDS), min_size=1, max_size=6
)


def test_whatever_a_message_holds(app, cold, client, long):
    """Any messages that the service takes, one by one or as a batch, read the same from Redis and from the database."""

    @hypothesis.settings(max_examples=100 if long else 10, suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(MESSAGES, st.booleans())
    def read_the_same(messages, batch):
        reads_the_same(app, cold, client, messages, batch)

    read_the_same()


def reads_the_same(app, cold, client, messages, batch):
    ada = as_user(app)
    chat = ada.create_conversation()["id"]
    messages = [{name: value for name, value in message.items() if name != "id"} for message in messages]
    try:
        if batch:
            ada.save_messages(chat, messages)
        else:
            for message in messages:
                ada.save_message(chat, **message)
    except ValidationFailed:
        hypothesis.reject()
    truth = reader_view(cold, chat, (1, 4, 15))
    misses = counted(app, "misses")
    assert reader_view(ada, chat, (1, 4, 15)) == truth
    assert counted(app, "misses") == misses or len(messages) > 4
    client.delete(key(chat))
    assert reader_view(ada, chat, (1, 4, 15)) == truth
    assert cache_of(app).stats()["refused"] == 0
