"""Bad input at the service: the same typed error on every database, naming the field, and nothing stored."""

from __future__ import annotations

import datetime as dt
import decimal
import itertools
import uuid

import pytest

from flask_conversations.errors import ValidationFailed

from .tools import check, contents, everything, rows


class Odd:
    """An object that no database knows."""


def nested(depth, leaf="x"):
    for _ in range(depth):
        leaf = [leaf]
    return leaf


UNSTORABLE_JSON = [
    {"a": "\x00"},
    {"\x00": 1},
    {"a": "\ud800"},
    {"\udfff": 1},
    {"a": float("nan")},
    {"a": float("inf")},
    {"a": [-float("inf")]},
    {1: "a"},
    {None: "a"},
    {True: "a"},
    {("a",): 1},
    {"a": dt.datetime(2024, 1, 1)},
    {"a": dt.date(2024, 1, 1)},
    {"a": uuid.uuid4()},
    {"a": decimal.Decimal(1)},
    {"a": b"x"},
    {"a": {1, 2}},
    {"a": Odd()},
    {"a": 10**5000},
    {"a": nested(70)},
    {"a": nested(5000)},
]
NO_OBJECTS = ["x", 7, True, [], [1], nested(5000), Odd(), b"x"]
NO_TEXTS = [7, True, 1.5, b"x", [], {}, Odd(), "\x00", "a\x00b", "\ud800", "\udc00x"]
NO_LISTS = ["x", 7, True, {}, Odd(), {1}, b"x", iter([])]
NO_COUNTS = ["1", 1.0, True, -1, 2**63, 10**5000, float("nan"), [1], Odd()]

MESSAGE_FIELDS = {
    "raw": [*UNSTORABLE_JSON, *NO_OBJECTS],
    "metadata": [*UNSTORABLE_JSON[:3], *NO_OBJECTS],
    "usage": [*UNSTORABLE_JSON[:3], *NO_OBJECTS],
    "action_params": UNSTORABLE_JSON,
    "action_result": [Odd(), "\x00", float("nan"), nested(5000)],
    "component_data": [Odd(), "\ud800", 10**5000],
    "parts": [*NO_LISTS, [{"a": "\x00"}], [nested(100)], [Odd()]],
    "attachments": [*NO_LISTS, [float("inf")]],
    "contexts": [*NO_LISTS, [{"a": "\ud800"}]],
    "model": [*NO_TEXTS, "x" * 256],
    "type": [*NO_TEXTS, "", " ", "x" * 33],
    "action_type": [*NO_TEXTS, "x" * 256],
    "component_type": [*NO_TEXTS, "x" * 256],
    "status": ["", "sent", "DELIVERED", 7, True, ["delivered"], Odd()],
    "tokens_used": NO_COUNTS,
    "latency_ms": ["1", True, -1, float("nan"), float("inf"), 10**5000, [1], Odd()],
    "created_at": [
        "",
        "now",
        "2024-13-01",
        "2024-01-01",
        7,
        True,
        "2024-01-01T00:00:00+99:00",
        "٢٠٢٤-٠١-٠١T٠٠:٠٠:٠٠",
        dt.date(2024, 1, 1),
    ],
    "nonsense": [1, None],
    "seq": [1],
}


def test_a_bad_message_field_is_named(app, ada, subtests):
    """A value that cannot be stored is refused by its field's name, and neither message nor version is left."""
    chat = ada.create_conversation()
    for field, values in MESSAGE_FIELDS.items():
        with subtests.test(field):
            for place, bad in enumerate(values):
                with pytest.raises(ValidationFailed) as refused:
                    ada.save_message(chat["id"], "user", "x", **{field: bad})
                assert list(refused.value.errors) == [field], f"value {place}"
    assert ada.get_conversation(chat["id"]) == chat
    assert rows(app)["conversation_messages"] == 0


BAD_CONTENTS = [
    None,
    7,
    True,
    b"x",
    {"type": "text", "text": "x"},
    Odd(),
    "\x00",
    "a\ud800",
    ["x"],
    [None],
    [{"text": "no type"}],
    [{"type": 7}],
    [{"type": "text"}],
    [{"type": "text", "text": 7}],
    [{"type": "text", "text": "\x00"}],
    [{"type": "x", "n": float("nan")}],
    [{"type": "x", 1: 2}],
    [{"type": "x", "deep": nested(5000)}],
    [nested(5000)],
]


def test_a_bad_content_is_refused_wherever_it_comes_in(app, ada):
    """Text, parts and edits follow the same rules."""
    chat = ada.create_conversation()
    good = ada.save_message(chat["id"], "user", "good")
    before = ada.get_conversation(chat["id"])
    for bad in BAD_CONTENTS:
        with pytest.raises(ValidationFailed) as refused:
            ada.save_message(chat["id"], "user", bad)
        assert list(refused.value.errors) == ["content"], repr(bad)[:80]
        for save in (
            lambda message: ada.save_messages(chat["id"], [message]),
            lambda message: ada.replace_messages(chat["id"], [message]),
            lambda message: ada.create_conversation(messages=[message]),
            lambda message: ada.save_conversation({"id": chat["id"], "messages": [message]}),
        ):
            with pytest.raises(ValidationFailed) as refused:
                save({"role": "user", "content": bad})
            assert refused.value.errors == {
                "messages": {"0": {"content": refused.value.errors["messages"]["0"]["content"]}}
            }
        if bad is not None:
            with pytest.raises(ValidationFailed):
                ada.update_message(chat["id"], good["id"], content=bad)
    assert ada.get_conversation(chat["id"]) == before
    assert everything(ada, chat["id"]) == [good]


def test_roles_are_the_five(ada):
    """A role is one of five words, in lower case."""
    chat = ada.create_conversation()
    for bad in (None, "", "User", "assistant ", "bot", 7, True, ["user"], b"user", Odd(), "\x00"):
        with pytest.raises(ValidationFailed) as refused:
            ada.save_message(chat["id"], bad, "x")
        assert list(refused.value.errors) == ["role"]
    assert ada.get_conversation(chat["id"]) == chat


CONVERSATION_FIELDS = {
    "title": [*NO_TEXTS, "x" * 256, "x" * 10_000_000],
    "metadata": [*UNSTORABLE_JSON, *NO_OBJECTS],
    "tags": [*NO_LISTS, None, [7], [""], [" "], ["x" * 65], ["\x00"], ["\ud800"], [str(n) for n in range(51)]],
    "starred": ["true", 1, 0, None, "", Odd()],
    "folder": [*NO_TEXTS, "x" * 256],
    "context_type": [*NO_TEXTS, "x" * 256],
    "context_id": [*NO_TEXTS, "x" * 256],
    "page_context": NO_TEXTS,
    "status": ["", "deleted", "ACTIVE", 7, None, ["active"]],
    "nonsense": [1],
    "user_id": ["bob"],
    "version": [7],
}


def test_a_bad_conversation_field_is_named(app, ada, subtests):
    """Creating and updating refuse the same values by the field's name, and store nothing."""
    chat = ada.create_conversation("T", id="c-1")
    calls = {
        "create": ada.create_conversation,
        "update": lambda **fields: ada.update_conversation("c-1", **fields),
        "snapshot": lambda **fields: ada.save_conversation({"id": "c-1", **fields}),
    }
    for field, (name, call) in itertools.product(CONVERSATION_FIELDS, calls.items()):
        if name == "snapshot" and field in ("user_id", "version"):
            continue  # a copy has them, and they are not taken from there
        with subtests.test(f"{name} with {field}"):
            for place, bad in enumerate(CONVERSATION_FIELDS[field]):
                with pytest.raises(ValidationFailed) as refused:
                    call(**{field: bad})
                assert list(refused.value.errors) == [field], f"value {place}"
    assert ada.get_conversation("c-1") == chat
    assert rows(app)["conversations"] == 1


def test_temporary_is_a_boolean(app, ada):
    """A guess is refused."""
    for bad in ("yes", 1, None, "", Odd()):
        with pytest.raises(ValidationFailed) as refused:
            ada.create_conversation(temporary=bad)
        assert list(refused.value.errors) == ["temporary"]
    assert not any(rows(app).values())


def test_odd_idempotency_keys_are_refused(app, ada):
    """A key is 1 to 255 characters of storable text."""
    for bad in ("", " ", "x" * 256, 7, True, b"k", "\x00", "\ud800", ["k"]):
        with pytest.raises(ValidationFailed) as refused:
            ada.create_conversation(idempotency_key=bad)
        assert list(refused.value.errors) == ["idempotency_key"]
    assert not any(rows(app).values())


def test_every_wrong_field_is_named_at_once(ada):
    """One answer lists all errors."""
    chat = ada.create_conversation()
    with pytest.raises(ValidationFailed) as refused:
        ada.save_message(chat["id"], "boss", 7, model=7, raw=[], nonsense=1)
    assert set(refused.value.errors) == {"role", "content", "model", "raw", "nonsense"}


def test_what_is_nearly_bad_is_stored(ada):
    """Tuples are lists, 64 levels are not too deep, and the largest numbers and texts come back equal."""
    chat = ada.create_conversation()
    raw = {"deep": nested(62), "big": 2**1000, "small": -(2**1000), "text": "\x01\x7f\uffff\U0010ffff"}
    ada.save_message(
        chat["id"], "user", ({"type": "text", "text": "x"},), raw=raw, tokens_used=2**63 - 1, contexts=(1, (2,))
    )
    found = everything(ada, chat["id"])[0]
    assert (found["raw"], found["tokens_used"], found["contexts"]) == (raw, 2**63 - 1, [1, [2]])
    assert contents(ada, chat["id"]) == [[{"type": "text", "text": "x"}]]
    check(ada, chat["id"])


def test_a_length_limit_is_a_setting(make_app):
    """CONVERSATIONS_MAX_CONTENT_LENGTH bounds text, parts and edits alike."""
    app = make_app(CONVERSATIONS_MAX_CONTENT_LENGTH=5)
    ada = app.conversations.as_user("ada", app=app)
    chat = ada.create_conversation()
    good = ada.save_message(chat["id"], "user", "12345")
    long = ["123456", [{"type": "text", "text": "123"}, {"type": "text", "text": "456"}]]
    for bad in long:
        with pytest.raises(ValidationFailed):
            ada.save_message(chat["id"], "user", bad)
        with pytest.raises(ValidationFailed):
            ada.update_message(chat["id"], good["id"], content=bad)
    assert contents(ada, chat["id"]) == ["12345"]


def test_ids_of_any_kind_never_break_a_call(ada, bob):
    """Odd message ids find nothing and raise nothing but not-found."""
    chat = ada.create_conversation(messages=[{"role": "user", "content": "x"}])
    from flask_conversations.errors import NotFound

    for bad in (None, 7, True, b"x", [], {}, Odd(), "", "\x00", "\ud800", "x" * 10_000, "' OR 1=1", 10**5000):
        for service in (ada, bob):
            with pytest.raises(NotFound):
                service.get_message(chat["id"], bad)
            with pytest.raises(NotFound):
                service.delete_message(chat["id"], bad)
    assert contents(ada, chat["id"]) == ["x"]
