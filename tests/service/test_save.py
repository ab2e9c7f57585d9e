"""Saving messages: every field comes back, order, retries, all or none, titles and previews."""

from __future__ import annotations

import pytest

from flask_conversations.errors import ClientIdConflict, NotFound, ValidationFailed
from flask_conversations.schemas.canonical import checksum

from .tools import NEVER, check, check_invisible, contents, everything, rows

EVERY_FIELD = {
    "type": "card",
    "parts": [{"type": "tool_call", "id": "c1", "name": "w", "arguments": {"city": "Köln"}}],
    "raw": {"b": 1, "a": [1, 2.0, -0.5, 1e-300, 2**63, 2**200, None, True, "ü🚂\u2028", {"": {}}, []]},
    "status": "interrupted",
    "model": "m-1",
    "tokens_used": 2**40,
    "usage": {"in": 1, "out": 2},
    "latency_ms": 12.5,
    "action_type": "buy",
    "action_params": {"n": 1},
    "action_result": [1, "x", None],
    "action_status": "done",
    "component_type": "chart",
    "component_data": "just text",
    "attachments": [{"id": "a1"}],
    "contexts": [{"source": "doc.pdf", "score": 0.1 + 0.2}],
    "metadata": {"k": {"deep": [[[1]]]}},
    "created_at": "2024-02-29T12:34:56.789012Z",
}


def test_every_field_comes_back_equal(ada, bob):
    """What is saved is what every read returns, byte for byte, for its owner only."""
    chat = ada.create_conversation()
    saved = ada.save_message(chat["id"], "assistant", "text", client_id="k", **EVERY_FIELD)
    assert {name: saved[name] for name in EVERY_FIELD} == EVERY_FIELD
    assert (saved["role"], saved["content"], saved["client_id"], saved["seq"]) == ("assistant", "text", "k", 1)
    assert ada.get_message(chat["id"], saved["id"]) == saved
    assert ada.get_messages(chat["id"])["messages"] == [saved]
    with pytest.raises(NotFound):
        bob.get_message(chat["id"], saved["id"])
    check_invisible(bob, chat["id"])


RAW = [
    {},
    {"n": 2**1000},
    {"n": -(2**63) - 1},
    {"f": 1e308, "g": 5e-324, "h": -0.0, "i": 1.0},
    {"ü": "\u0001\u007f\u2028\u2029\ufeff\U0001f600", "": ""},
    {"deep": [[[[[[{"a": [{}]}]]]]]]},
    {"b": 1, "a": 2, "c": [None, False, True]},
    {"type": "x", "__proto__": {"a": 1}, "constructor": "é"},
]


def test_a_frameworks_own_item_comes_back_equal(ada, subtests):
    """Any JSON object in `raw` is given back equal: numbers keep value and type, keys their order."""
    for place, raw in enumerate(RAW):
        with subtests.test(place=place):
            chat = ada.create_conversation()
            saved = ada.save_message(chat["id"], "assistant", "", raw=raw)
            found = ada.get_messages(chat["id"])["messages"][0]
            assert found["raw"] == saved["raw"] == raw
            assert repr(found["raw"]) == repr(raw)


def test_what_was_saved_does_not_change_with_the_callers_object(ada):
    """The stored message is a copy: changing the argument or the result changes nothing."""
    chat = ada.create_conversation()
    raw, parts = {"a": [1]}, [{"type": "text", "text": "x"}]
    saved = ada.save_message(chat["id"], "user", parts, raw=raw)
    raw["a"].append(2)
    parts[0]["text"] = "y"
    saved["raw"]["a"].append(3)
    found = ada.get_message(chat["id"], saved["id"])
    assert (found["raw"], found["content"]) == ({"a": [1]}, [{"type": "text", "text": "x"}])


def test_a_list_of_parts_is_kept_verbatim(ada):
    """Content may be a list of parts; unknown part types stay as they are, and the text parts make title and preview."""
    chat = ada.create_conversation()
    parts = [
        {"type": "text", "text": "Hello", "extra": 1},
        {"type": "hologram", "data": {"x": [1]}},
        {"type": "text", "text": "world"},
    ]
    saved = ada.save_message(chat["id"], "user", parts)
    assert saved["content"] == parts == contents(ada, chat["id"])[0]
    found = check(ada, chat["id"])
    assert (found["title"], found["preview"]) == ("Hello", "Hello world")


def test_odd_but_valid_contents(ada, subtests):
    """Empty, blank, very long and oddly spaced contents are stored unchanged."""
    for content in ("", " ", "\n", "x" * 1_000_000, "é\u0301\r\n\t\u0085", []):
        with subtests.test(content=content[:20]):
            chat = ada.create_conversation()
            ada.save_message(chat["id"], "user", content)
            assert contents(ada, chat["id"]) == [content]
            check(ada, chat["id"])


def test_every_role_and_every_status(ada, subtests):
    """The five roles and the five statuses are stored as given."""
    chat = ada.create_conversation()
    roles = [{"role": role} for role in ("user", "assistant", "system", "tool", "developer")]
    statuses = [
        {"role": "assistant", "status": status}
        for status in ("pending", "streaming", "delivered", "interrupted", "failed")
    ]
    for fields in (*roles, *statuses):
        with subtests.test(**fields):
            saved = ada.save_message(chat["id"], content="x", **fields)
            assert saved.items() >= fields.items()
            assert ada.get_message(chat["id"], saved["id"]) == saved


def test_messages_stand_in_a_row(ada, bob):
    """seq is 1, 2, 3, ..., each message's parent is the one before it, each save is one step of the version."""
    chat, his = ada.create_conversation(), bob.create_conversation()
    for number in range(1, 6):
        bob.save_message(his["id"], "user", "x")
        saved = ada.save_message(chat["id"], "user", str(number))
        assert (saved["seq"], saved["version"]) == (number, number + 1)
        assert ada.get_conversation(chat["id"])["version"] == number + 1
    messages = everything(ada, chat["id"])
    assert [m["parent_id"] for m in messages] == [None] + [m["id"] for m in messages[:-1]]
    check(ada, chat["id"])
    check(bob, his["id"])


def test_order_is_the_sequence_not_the_clock(ada):
    """A message with an older time comes after the ones saved before it."""
    chat = ada.create_conversation()
    ada.save_message(chat["id"], "user", "first", created_at="2030-01-01T00:00:00Z")
    ada.save_message(chat["id"], "user", "second", created_at="2020-01-01T00:00:00Z")
    assert contents(ada, chat["id"]) == ["first", "second"]
    check(ada, chat["id"])


def test_an_imported_old_message_does_not_push_activity_back(ada):
    """last_activity_at never goes backwards, last_message_at is the newest message's time."""
    chat = ada.create_conversation()
    ada.save_message(chat["id"], "user", "old", created_at="2020-01-01T00:00:00Z")
    found = ada.get_conversation(chat["id"])
    assert found["last_activity_at"] == chat["last_activity_at"]
    assert found["last_message_at"] == "2020-01-01T00:00:00.000000Z"


TIMES = {
    "2024-01-02T03:04:05Z": "2024-01-02T03:04:05.000000Z",
    "2024-01-02T03:04:05.1+02:00": "2024-01-02T01:04:05.100000Z",
    "2024-01-02 03:04": "2024-01-02T03:04:00.000000Z",
    "1970-01-01T00:00:00Z": "1970-01-01T00:00:00.000000Z",
    "9000-12-31T23:59:59.999999Z": "9000-12-31T23:59:59.999999Z",
}


def test_times_come_back_in_utc(ada, subtests):
    """A time in any offset is the same moment in UTC, on every database."""
    for given, stored in TIMES.items():
        with subtests.test(given):
            chat = ada.create_conversation()
            saved = ada.save_message(chat["id"], "user", "x", created_at=given)
            assert saved["created_at"] == stored == everything(ada, chat["id"])[0]["created_at"]


def test_several_at_once(ada, bob):
    """save_messages stores all, in order, as one step of the version."""
    chat = ada.create_conversation()
    saved = ada.save_messages(chat["id"], [{"role": "user", "content": str(n)} for n in range(5)])
    assert [m["seq"] for m in saved] == [1, 2, 3, 4, 5]
    assert {m["version"] for m in saved} == {2}
    assert everything(ada, chat["id"]) == saved
    found = check(ada, chat["id"])
    assert (found["version"], found["message_count"]) == (2, 5)
    check_invisible(bob, chat["id"])


def test_different_fields_in_one_batch(ada):
    """The messages of one batch may name different fields; what one lacks is absent, not another's."""
    chat = ada.create_conversation()
    batch = [
        {"role": "user", "content": "a", "metadata": {"x": 1}},
        {"role": "assistant", "content": "b", "model": "m", "status": "failed"},
        {"role": "user", "content": "c", "client_id": "k", "latency_ms": 1},
    ]
    ada.save_messages(chat["id"], batch)
    first, second, third = everything(ada, chat["id"])
    assert (first["metadata"], first["model"], first["status"], first["client_id"]) == (
        {"x": 1},
        None,
        "delivered",
        None,
    )
    assert (second["metadata"], second["model"], second["status"]) == (None, "m", "failed")
    assert (third["latency_ms"], third["client_id"], third["status"]) == (1, "k", "delivered")


def test_none_at_once(ada):
    """An empty list stores nothing and changes nothing, for a conversation that exists."""
    chat = ada.create_conversation()
    assert ada.save_messages(chat["id"], []) == []
    assert ada.get_conversation(chat["id"]) == chat
    with pytest.raises(NotFound):
        ada.save_messages(NEVER, [])


BAD_IN_A_BATCH = [
    ({"role": "boss", "content": "x"}, ["role"]),
    ({"role": "user"}, ["content"]),
    ({"content": "x"}, ["role"]),
    ({"role": "user", "content": "x", "seq": 7}, ["seq"]),
    ({"role": "user", "content": "x", "nonsense": 1, "status": "new"}, ["nonsense", "status"]),
]


def test_all_or_none(ada, subtests):
    """One invalid message refuses the whole batch, naming its position and every wrong field."""
    chat = ada.create_conversation()
    good = {"role": "user", "content": "x"}
    for bad, where in BAD_IN_A_BATCH:
        with subtests.test(bad=bad):
            with pytest.raises(ValidationFailed) as refused:
                ada.save_messages(chat["id"], [good, bad, good])
            assert list(refused.value.errors) == ["messages"]
            assert sorted(refused.value.errors["messages"]["1"]) == where
            assert ada.get_conversation(chat["id"]) == chat


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_batch_is_a_list_of_objects(app, ada, subtests):
    """Anything but a list of objects is refused, and nothing is stored."""
    chat = ada.create_conversation()
    for bad in (None, "x", b"x", 7, {"role": "user", "content": "x"}, [None], ["x"], [[]]):
        with subtests.test(batch=bad):
            with pytest.raises(ValidationFailed) as refused:
                ada.save_messages(chat["id"], bad)
            assert list(refused.value.errors) == ["messages"]
            assert rows(app)["conversation_messages"] == 0


def test_a_failure_in_the_middle_leaves_nothing(app, ada, bob):
    """A batch that fails in the database is stored in no part, and the conversation is as before."""
    chat = ada.create_conversation()
    first = ada.save_message(chat["id"], "user", "x", client_id="k")
    before = ada.get_conversation(chat["id"])
    batch = [{"role": "user", "content": "y"}, {"role": "user", "content": "other", "client_id": "k"}]
    with pytest.raises(ClientIdConflict):
        ada.save_messages(chat["id"], batch)
    assert ada.get_conversation(chat["id"]) == before
    assert everything(ada, chat["id"]) == [first]
    check_invisible(bob, chat["id"])


# -- retries ----------------------------------------------------------------------------------------------------------


def test_a_retry_returns_the_first_message(ada):
    """The same client_id with the same message stores once and returns the first, even after more were saved."""
    chat = ada.create_conversation()
    first = ada.save_message(chat["id"], "user", "hi", client_id="k", metadata={"a": 1, "b": [1.0]})
    ada.save_message(chat["id"], "assistant", "hello")
    before = ada.get_conversation(chat["id"])
    assert ada.save_message(chat["id"], "user", "hi", client_id="k", metadata={"b": [1], "a": 1}) == first
    assert ada.get_conversation(chat["id"]) == before


OTHERS = [
    {"role": "assistant", "content": "hi"},
    {"role": "user", "content": "hi!"},
    {"role": "user", "content": [{"type": "text", "text": "hi"}]},
    {"role": "user", "content": "hi", "metadata": {}},
    {"role": "user", "content": "hi", "status": "failed"},
    {"role": "user", "content": "hi", "created_at": "2024-01-01T00:00:00Z"},
]


def test_a_client_id_is_for_one_message(ada, subtests):
    """The same client_id with another message is a conflict, and nothing is stored."""
    chat = ada.create_conversation()
    ada.save_message(chat["id"], "user", "hi", client_id="k")
    before = ada.get_conversation(chat["id"])
    for other in OTHERS:
        with subtests.test(**other):
            with pytest.raises(ClientIdConflict):
                ada.save_message(chat["id"], client_id="k", **other)
            with pytest.raises(ClientIdConflict):
                ada.save_messages(chat["id"], [{**other, "client_id": "k"}])
            assert ada.get_conversation(chat["id"]) == before


def test_a_retry_after_an_edit_is_still_the_same_message(ada):
    """A retry is recognised by what was saved first, also when the message was edited or rated since."""
    chat = ada.create_conversation()
    first = ada.save_message(chat["id"], "user", "hi", client_id="k")
    ada.update_message(chat["id"], "k", content="edited")
    again = ada.save_message(chat["id"], "user", "hi", client_id="k")
    assert (again["id"], again["content"]) == (first["id"], "edited")


def test_a_client_id_of_a_deleted_message_stays_taken(ada):
    """A late retry does not bring a deleted message back."""
    chat = ada.create_conversation()
    ada.save_message(chat["id"], "user", "hi", client_id="k")
    ada.delete_message(chat["id"], "k")
    with pytest.raises(ClientIdConflict, match="deleted"):
        ada.save_message(chat["id"], "user", "hi", client_id="k")
    assert contents(ada, chat["id"]) == []


def test_a_client_id_is_unique_per_conversation(ada, bob):
    """The same client_id may be used once in each conversation."""
    chats = [ada.create_conversation(), ada.create_conversation(), bob.create_conversation()]
    saved = [
        service.save_message(chat["id"], "user", str(n), client_id="k")
        for n, (service, chat) in enumerate(zip((ada, ada, bob), chats, strict=True))
    ]
    assert len({message["id"] for message in saved}) == 3
    assert [ada.get_message(chat["id"], "k")["content"] for chat in chats[:2]] == ["0", "1"]


def test_a_retried_batch_stores_once(ada):
    """A batch sent again returns the same messages; one that grew stores only what is new."""
    chat = ada.create_conversation()
    batch = [{"role": "user", "content": str(n), "client_id": f"k{n}"} for n in range(3)]
    first = ada.save_messages(chat["id"], batch)
    assert ada.save_messages(chat["id"], batch) == first
    assert ada.get_conversation(chat["id"])["version"] == 2
    longer = ada.save_messages(chat["id"], [*batch, {"role": "user", "content": "3", "client_id": "k3"}])
    assert longer[:3] == first
    assert contents(ada, chat["id"]) == ["0", "1", "2", "3"]
    check(ada, chat["id"])


def test_the_same_client_id_twice_in_one_batch_is_refused(ada):
    """One batch cannot say two things under one client_id."""
    chat = ada.create_conversation()
    with pytest.raises(ValidationFailed):
        ada.save_messages(chat["id"], [{"role": "user", "content": "x", "client_id": "k"}] * 2)
    assert contents(ada, chat["id"]) == []


ODD_CLIENT_IDS = ["", " ", "a b", "a/b", "é", "x" * 129, 7, True, b"k", ["k"], "\x00", "..", "~k"]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_odd_client_ids_are_refused(ada, subtests):
    """A client_id is 1 to 128 of A-Za-z0-9._:- and nothing else."""
    chat = ada.create_conversation()
    for bad in ODD_CLIENT_IDS:
        with subtests.test(client_id=bad):
            with pytest.raises(ValidationFailed) as refused:
                ada.save_message(chat["id"], "user", "x", client_id=bad)
            assert list(refused.value.errors) == ["client_id"]
            assert ada.get_conversation(chat["id"]) == chat


def test_a_message_id_of_ones_own_is_kept_once(ada, bob):
    """A client may bring a UUID for a message; the same one again in the conversation is refused, elsewhere it is free."""
    chat, his = ada.create_conversation(), bob.create_conversation()
    own = "0198aaaa-0000-7000-8000-000000000001"
    assert ada.save_messages(chat["id"], [{"role": "user", "content": "x", "id": own}])[0]["id"] == own
    before = ada.get_conversation(chat["id"])
    with pytest.raises(ClientIdConflict):
        ada.save_messages(chat["id"], [{"role": "user", "content": "y", "id": own}])
    with pytest.raises(ValidationFailed):
        ada.save_messages(chat["id"], [{"role": "user", "content": "y", "id": own[:-1] + "2"}] * 2)
    assert ada.get_conversation(chat["id"]) == before
    assert bob.save_messages(his["id"], [{"role": "user", "content": "his", "id": own}])[0]["content"] == "his"
    assert contents(ada, chat["id"]) == ["x"]


# -- parents ----------------------------------------------------------------------------------------------------------


def test_a_parent_of_the_newest_changes_nothing(ada):
    """Naming the newest message as parent is what happens anyway."""
    chat = ada.create_conversation()
    first = ada.save_message(chat["id"], "user", "a", client_id="k")
    second = ada.save_message(chat["id"], "assistant", "b", parent_id="k")
    assert second["parent_id"] == first["id"]
    check(ada, chat["id"])


def test_answering_an_older_message_begins_a_branch(ada):
    """A message below an older one is a sibling: reads follow the newest path from the beginning."""
    chat = ada.create_conversation()
    question = ada.save_message(chat["id"], "user", "q")
    ada.save_messages(chat["id"], [{"role": "assistant", "content": "old"}, {"role": "user", "content": "old 2"}])
    answer = ada.save_message(chat["id"], "assistant", "new", parent_id=question["id"])
    assert (answer["seq"], answer["parent_id"]) == (4, question["id"])
    assert contents(ada, chat["id"]) == ["q", "new"]
    assert [m["content"] for m in ada.get_conversation_history(chat["id"])] == ["q", "new"]
    ada.save_message(chat["id"], "user", "next")
    assert contents(ada, chat["id"]) == ["q", "new", "next"]


def test_an_unknown_parent_is_refused(ada, bob, subtests):
    """A parent must be a message of this conversation; another user's is as unknown as any."""
    chat, his = ada.create_conversation(), bob.create_conversation()
    foreign = bob.save_message(his["id"], "user", "his")["id"]
    for parent in (NEVER, "unknown", "", 7, "\x00", foreign):
        with subtests.test(parent="another user's" if parent == foreign else parent):
            with pytest.raises(ValidationFailed) as refused:
                ada.save_message(chat["id"], "user", "x", parent_id=parent)
            assert list(refused.value.errors) == ["parent_id"]
            assert ada.get_conversation(chat["id"]) == chat


# -- titles and previews ----------------------------------------------------------------------------------------------


TITLES = {
    "Hello, AI!": "Hello, AI!",
    "\n\n  first line \n second": "first line",
    "x" * 300: "x" * 80,
    "word " * 40: ("word " * 16).strip(),
    "a\u00a0b\t c": "a b c",
    "日本語" * 50: ("日本語" * 27)[:80],
    "👩‍👩‍👧 family": "👩‍👩‍👧 family",
}


def test_the_first_user_message_gives_the_title(ada, subtests):
    """The first line with words, at most 80 characters, cut at a word."""
    for said, title in TITLES.items():
        with subtests.test(title):
            chat = ada.create_conversation()
            ada.save_message(chat["id"], "user", said)
            found = ada.get_conversation(chat["id"])
            assert (found["title"], found["title_source"]) == (title, "auto")
            assert len(found["title"]) <= 80


def test_only_the_first_user_message_does(ada):
    """Later messages, and those of the assistant or system, do not change the title."""
    chat = ada.create_conversation("New Conversation")
    ada.save_message(chat["id"], "system", "be kind")
    ada.save_message(chat["id"], "assistant", "Welcome")
    assert ada.get_conversation(chat["id"])["title"] == "New Conversation"
    ada.save_message(chat["id"], "user", "question")
    ada.save_message(chat["id"], "user", "another")
    assert ada.get_conversation(chat["id"])["title"] == "question"


def test_a_title_of_the_users_own_stays(ada):
    """A title that the user set is never replaced, whether set before or after the first message."""
    before, after = ada.create_conversation("Mine"), ada.create_conversation()
    ada.save_message(before["id"], "user", "question")
    ada.save_message(after["id"], "user", "question")
    ada.update_conversation(after["id"], title="Mine")
    ada.save_message(after["id"], "user", "question 2")
    assert [ada.get_conversation(chat["id"])["title"] for chat in (before, after)] == ["Mine", "Mine"]


def test_a_title_taken_back_is_made_again(ada):
    """A title set back to none is replaced from the next user message."""
    chat = ada.create_conversation("Mine")
    ada.update_conversation(chat["id"], title=None)
    ada.save_message(chat["id"], "user", "question")
    assert ada.get_conversation(chat["id"])["title"] == "question"


def test_a_blank_first_message_gives_no_title(ada):
    """A message without words leaves the title to the next one."""
    chat = ada.create_conversation()
    ada.save_message(chat["id"], "user", " \n ")
    ada.save_message(chat["id"], "user", [{"type": "image", "url": "https://x.example/i.png"}])
    assert ada.get_conversation(chat["id"])["title"] == "New Conversation"
    ada.save_message(chat["id"], "user", "words")
    assert ada.get_conversation(chat["id"])["title"] == "words"


ANSWERS = {"please": "Better", "in vain": None, "wordless": "", "blankly": " ", "at length": "y" * 300}
"""By the question, what a titler answers."""


def test_a_titler_can_do_better(make_app, subtests):
    """The host's titler makes a better title later, also for messages given at creation; None leaves it as it is."""
    app = make_app(options={"titler": ANSWERS.get})
    ada = app.conversations.as_user("ada", app=app)
    for question in ANSWERS:
        with subtests.test(question):
            message = {"role": "user", "content": question}
            saved = ada.create_conversation()
            ada.save_messages(saved["id"], [message])
            created = ada.create_conversation(messages=[message])
            title = "Better" if question == "please" else question
            assert [ada.get_conversation(chat["id"])["title"] for chat in (saved, created)] == [title, title]


ODD_ANSWERS = {
    "nul": "a\x00b",
    "half a character": "\ud800x",
    "two lines": "two\nlines",
    "a number": 7,
    "bytes": b"x",
    "a list": ["x"],
    "an error": ZeroDivisionError(),
}


def test_what_a_titler_must_not_answer_does_no_harm(make_app, subtests):
    """A titler's odd answer, or its error, costs no message."""

    def titler(text):
        answer = ODD_ANSWERS[text]
        if isinstance(answer, Exception):
            raise answer
        return answer

    app = make_app(options={"titler": titler})
    ada = app.conversations.as_user("ada", app=app)
    for question in ODD_ANSWERS:
        with subtests.test(question):
            chat = ada.create_conversation()
            ada.save_message(chat["id"], "user", question)
            assert contents(ada, chat["id"]) == [question]
            found = check(ada, chat["id"])
            assert found["title_source"] == "auto"
            found["title"].encode()


def test_the_preview_is_the_newest_message(ada):
    """The preview shows the beginning of the newest message on one line, the user's and the assistant's alike."""
    chat = ada.create_conversation()
    for role, said, shown in (
        ("user", "Hi\n there", "Hi there"),
        ("assistant", "word " * 100, ("word " * 32).strip()),
        ("user", "", ""),
    ):
        ada.save_message(chat["id"], role, said)
        assert ada.get_conversation(chat["id"])["preview"] == shown
    assert ada.list_conversations()["conversations"][0]["preview"] == ""


def test_the_checksum_is_what_anyone_can_compute(ada, bob):
    """Checksum equals that of the messages as any reader holds them, for two equal conversations of different ids too."""
    chats = [(ada, ada.create_conversation()), (bob, bob.create_conversation())]
    for service, chat in chats:
        service.save_messages(
            chat["id"],
            [
                {"role": "user", "content": "ü🚂"},
                {"role": "tool", "content": [{"type": "x", "n": 1.0, "e": 1e21, "z": -0.0, "ké": None}]},
            ],
        )
        assert service.get_conversation(chat["id"])["checksum"] == checksum(everything(service, chat["id"]))
