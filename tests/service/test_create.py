"""Creating conversations: initial fields, ids of one's own, retries, and messages that come along."""

from __future__ import annotations

import uuid

import pytest

from flask_conversations.errors import ClientIdConflict, IdempotencyKeyReused, NotFound, ValidationFailed
from flask_conversations.schemas.canonical import checksum

from .tools import check, check_invisible, contents, rows


def test_a_new_conversation_has_defaults(ada, bob):
    """A new conversation is active, untitled, empty, at version 1, and its owner's alone."""
    chat = ada.create_conversation()
    initial = {
        "title": "New Conversation",
        "title_source": "default",
        "status": "active",
        "message_count": 0,
        "version": 1,
        "preview": None,
        "checksum": "0" * 16,
        "starred": False,
        "tags": [],
        "metadata": None,
        "user_id": "ada",
        "org_id": None,
        "last_message_at": None,
        "temporary": False,
    }
    assert {name: chat[name] for name in initial} == initial
    assert ada.get_conversation(chat["id"]) == chat
    check_invisible(bob, chat["id"])


def test_an_id_is_a_uuid7_that_rises(ada):
    """Ids are UUIDv7 strings that sort in the order of creation."""
    ids = [ada.create_conversation()["id"] for _ in range(20)]
    assert ids == sorted(set(ids))
    assert {uuid.UUID(one).version for one in ids} == {7}


def test_every_field_comes_back(ada):
    """What is given at creation is what is read."""
    given = {
        "title": "Trip to Ülm 🚂",
        "context_type": "page",
        "context_id": "p-1",
        "page_context": "long " * 1000,
        "metadata": {"a": [1, 2.5, None, {"ü": True}], "big": 2**70},
        "starred": True,
        "folder": "work",
        "tags": ["x", "y"],
        "status": "archived",
    }
    chat = ada.create_conversation(**given)
    assert {name: chat[name] for name in given} == given
    assert ada.get_conversation(chat["id"]) == chat
    assert chat["title_source"] == "user"
    assert chat["archived_at"] is not None


def test_no_title_is_the_default_title(ada, subtests):
    """A missing, blank or default title is "New Conversation" and may still be replaced."""
    for title in (None, "", "   ", "New Conversation", " New Conversation "):
        with subtests.test(title=title):
            chat = ada.create_conversation(title)
            assert (chat["title"], chat["title_source"]) == ("New Conversation", "default")


def test_a_uuid_of_ones_own_is_the_id(ada):
    """A client's UUID is taken as the id, in its canonical spelling."""
    own = uuid.uuid4()
    chat = ada.create_conversation(id=str(own).upper())
    assert chat["id"] == str(own)
    assert chat["client_id"] is None
    assert ada.get_conversation(str(own).upper()) == chat


def test_another_string_is_the_client_id(ada, bob):
    """Any other client string is kept as client_id, and every call takes it in place of the id."""
    chat = ada.create_conversation(id="temp-17:a_b.c")
    assert chat["client_id"] == "temp-17:a_b.c"
    ada.save_message("temp-17:a_b.c", "user", "hi")
    assert ada.get_conversation_history("temp-17:a_b.c") == [{"role": "user", "content": "hi"}]
    assert ada.get_messages("temp-17:a_b.c")["messages"][0]["conversation_id"] == chat["id"]
    assert ada.update_conversation("temp-17:a_b.c", title="T")["id"] == chat["id"]
    check_invisible(bob, "temp-17:a_b.c")
    assert ada.delete_conversation("temp-17:a_b.c") is True


def test_a_client_id_is_unique_per_owner(ada, bob):
    """Two users can use the same client id, each for a conversation of their own."""
    hers, his = ada.create_conversation("hers", id="c-1"), bob.create_conversation("his", id="c-1")
    assert hers["id"] != his["id"]
    assert ada.get_conversation("c-1")["title"] == "hers"
    assert bob.get_conversation("c-1")["title"] == "his"


@pytest.mark.parametrize("own_id", ["c-1", "0198aaaa-0000-7000-8000-000000000001"])
def test_creating_again_returns_the_first(ada, own_id):
    """Creating again with one's own id changes nothing and returns the first conversation."""
    first = ada.create_conversation("first", id=own_id, messages=[{"role": "user", "content": "hi"}])
    assert ada.create_conversation("second", id=own_id, messages=[{"role": "user", "content": "other"}]) == first
    assert contents(ada, own_id) == ["hi"]


def test_another_users_id_shows_nothing(ada, bob):
    """An id that another user has is a conflict that says nothing about the conversation."""
    chat = ada.create_conversation("secret", id="0198aaaa-0000-7000-8000-000000000001")
    with pytest.raises(ClientIdConflict) as refused:
        bob.create_conversation("mine", id=chat["id"])
    assert "secret" not in str(refused.value)
    assert "ada" not in str(refused.value)
    assert bob.list_conversations()["conversations"] == []
    assert ada.get_conversation(chat["id"]) == chat


def test_an_id_in_the_trash_is_taken(ada):
    """Creating with the id of a conversation in the trash is a conflict; after permanent deletion it is free and empty."""
    ada.create_conversation("old", id="c-1", messages=[{"role": "user", "content": "old"}])
    ada.delete_conversation("c-1")
    with pytest.raises(ClientIdConflict, match="trash"):
        ada.create_conversation("new", id="c-1")
    ada.delete_conversation("c-1", permanent=True)
    chat = ada.create_conversation("new", id="c-1")
    assert (chat["title"], chat["message_count"]) == ("new", 0)
    assert contents(ada, "c-1") == []


def test_a_permanently_deleted_uuid_starts_anew(ada, bob):
    """After permanent deletion even another user may take the id, and sees nothing of what was there."""
    chat = ada.create_conversation("old", messages=[{"role": "user", "content": "old"}], tags=["t"])
    ada.delete_conversation(chat["id"], permanent=True)
    his = bob.create_conversation("new", id=chat["id"])
    assert (his["title"], his["message_count"], his["tags"]) == ("new", 0, [])
    assert contents(bob, his["id"]) == []
    check_invisible(ada, chat["id"])


def test_the_same_idempotency_key_creates_once(ada):
    """A retry with the same key and the same arguments returns the first conversation."""
    first = ada.create_conversation("T", metadata={"a": 1, "b": 2}, idempotency_key="k")
    again = ada.create_conversation("T", metadata={"b": 2, "a": 1}, idempotency_key="k")
    assert again == first
    assert len(ada.list_conversations()["conversations"]) == 1


def test_an_idempotency_key_is_for_one_request(ada):
    """The same key with other arguments is refused."""
    ada.create_conversation("T", idempotency_key="k")
    with pytest.raises(IdempotencyKeyReused):
        ada.create_conversation("other", idempotency_key="k")
    assert len(ada.list_conversations()["conversations"]) == 1


def test_an_idempotency_key_is_the_users_own(ada, bob):
    """Two users can use the same key without seeing each other's conversation."""
    hers, his = ada.create_conversation("T", idempotency_key="k"), bob.create_conversation("T", idempotency_key="k")
    assert hers["id"] != his["id"]
    check_invisible(bob, hers["id"])


def test_a_failed_create_leaves_its_key_free(app, ada):
    """A request that was refused stored nothing, so its key can be used again."""
    with pytest.raises(ValidationFailed):
        ada.create_conversation("T", tags=["x" * 65], idempotency_key="k")
    with pytest.raises(ValidationFailed):
        ada.create_conversation("T", messages=[{"role": "boss", "content": "x"}], idempotency_key="k")
    assert rows(app)["conversation_idempotency"] == 0
    assert ada.create_conversation("T", idempotency_key="k")["title"] == "T"


def test_messages_come_along(ada, bob):
    """Messages given at creation are stored in order, counted, titled and previewed, all at version 1."""
    chat = ada.create_conversation(
        messages=[{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello\nthere"}]
    )
    messages = ada.get_messages(chat["id"])["messages"]
    assert [(m["seq"], m["role"], m["content"], m["version"]) for m in messages] == [
        (1, "system", "Be kind.", 1),
        (2, "user", "Hello\nthere", 1),
    ]
    assert (chat["title"], chat["title_source"], chat["preview"]) == ("Hello", "auto", "Hello there")
    assert (chat["version"], chat["message_count"], chat["checksum"]) == (1, 2, checksum(messages))
    assert check(ada, chat["id"]) == chat
    check_invisible(bob, chat["id"])


def test_one_bad_message_creates_nothing(app, ada):
    """A conversation with an invalid message is not created, not even empty."""
    with pytest.raises(ValidationFailed) as refused:
        ada.create_conversation("T", messages=[{"role": "user", "content": "ok"}, {"role": "user", "content": 7}])
    assert "1" in refused.value.errors["messages"]
    assert not any(rows(app).values())


def test_a_temporary_conversation_is_not_listed(ada):
    """A temporary conversation works like any other but is in no list."""
    chat = ada.create_conversation(temporary=True, messages=[{"role": "user", "content": "psst"}])
    assert chat["temporary"] is True
    assert contents(ada, chat["id"]) == ["psst"]
    assert ada.list_conversations()["conversations"] == []
    assert ada.load_conversations()["conversations"] == []


def test_what_is_no_id_is_not_found(ada):
    """Nothing that cannot be an id finds anything, and nothing breaks."""
    ada.create_conversation()
    for bad in ["", " ", "a" * 129, "a/b", "é", "' OR 1=1 --", "%", "\x00", None, 7, True, [], "\ud800", "1" * 5000]:
        with pytest.raises(NotFound):
            ada.get_conversation(bad)
        assert ada.conversation_exists(bad) is False
        assert ada.delete_conversation(bad) is False
        with pytest.raises(NotFound):
            ada.save_message(bad, "user", "x")


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_reserved_words_are_no_ids(app, ada, subtests):
    """Words that are paths of their own are refused as client ids."""
    for word in ("search", "Sync", "EVENTS", "export", "openapi.json", "docs"):
        with subtests.test(word):
            with pytest.raises(ValidationFailed) as refused:
                ada.create_conversation(id=word)
            assert list(refused.value.errors) == ["id"]
            assert not any(rows(app).values())


ODD_IDS = ["", " ", "a b", "a/b", "é", "a" * 129, ".", "..", "\x00", "~x", 7, True, b"x", ["x"]]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_other_odd_ids_are_refused(app, ada, subtests):
    """An id of one's own is 1 to 128 of A-Za-z0-9._:- and nothing else."""
    for bad in ODD_IDS:
        with subtests.test(id=bad):
            with pytest.raises(ValidationFailed) as refused:
                ada.create_conversation(id=bad)
            assert list(refused.value.errors) == ["id"]
            assert not any(rows(app).values())
