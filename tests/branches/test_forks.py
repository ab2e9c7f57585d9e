"""A fork is a conversation of its own that begins with copies of another one's messages."""

from __future__ import annotations

import pytest

from flask_conversations import signals
from flask_conversations.errors import ConversationNotFound, ValidationFailed
from flask_conversations.schemas.fields import DEFAULT_TITLE

from ..service.tools import NEVER, check, everything, failing, rows, sql
from .tools import ids, said, texts, whole

KEPT = (
    "role",
    "type",
    "content",
    "parts",
    "raw",
    "metadata",
    "model",
    "tokens_used",
    "usage",
    "created_at",
    "edited_at",
)


def test_a_fork_has_copies_up_to_a_message(ada, bob, chat):
    """Ids of its own, seqs from 1, each answering the one before, with the times of the originals; the original stays."""
    before, originals = ada.get_conversation(chat), everything(ada, chat)
    forked = ada.fork_conversation(chat, originals[3]["id"])
    copies = everything(ada, forked["id"])
    assert check(ada, forked["id"]) == forked
    assert [[one[name] for name in KEPT] for one in copies] == [[one[name] for name in KEPT] for one in originals[:4]]
    assert [one["seq"] for one in copies] == [1, 2, 3, 4]
    assert {one["version"] for one in copies} == {forked["version"]} == {1}
    assert not {one["id"] for one in copies} & {one["id"] for one in originals}
    assert (forked["user_id"], forked["title"], forked["title_source"]) == ("ada", "m1", "auto")
    assert forked["metadata"] == {"forked_from": {"conversation_id": chat, "message_id": originals[3]["id"]}}
    assert (ada.get_conversation(chat), everything(ada, chat)) == (before, originals)
    ada.save_message(forked["id"], "user", "goes on")
    assert len(everything(ada, chat)) == 6
    with pytest.raises(ConversationNotFound):
        bob.get_conversation(forked["id"])
    with pytest.raises(ConversationNotFound):
        bob.fork_conversation(chat)


def test_without_a_message_it_is_the_whole_active_branch(ada, bob, chat):
    """Of a tree only the path that is shown; a message of another branch forks that one. The fork itself is straight."""
    found = ids(ada, chat)
    other = ada.save_message(chat, "user", "other m4", parent_id=found["m3"])["id"]
    forked = ada.fork_conversation(chat)
    assert texts(ada.get_messages(forked["id"])) == ["m1", "m2", "m3", "other m4"]
    assert forked["metadata"]["forked_from"]["message_id"] == other
    assert texts(ada.get_messages(ada.fork_conversation(chat, found["m5"])["id"])) == ["m1", "m2", "m3", "m4", "m5"]
    assert [one["name"] for one in ada.branches.list(forked["id"])["branches"]] == ["main"]
    assert ada.get_messages(forked["id"], siblings=True)["siblings"] == {}
    assert not bob.conversation_exists(forked["id"])


def test_what_belongs_to_a_conversation_comes_along(app, ada, bob):
    """Title, tags, folder, context and metadata; neither its client id, nor that it is starred, archived, or its version."""
    fields = {"tags": ["a", "b"], "folder": "f", "context_type": "page", "context_id": "7", "page_context": "text"}
    chat = ada.create_conversation(
        "Mine", id="own-key", messages=said("m1"), metadata={"a": [1]}, starred=True, temporary=True, **fields
    )["id"]
    ada.archive_conversation(chat)
    forked = ada.fork_conversation(chat)
    assert {name: forked[name] for name in fields} == fields
    assert (forked["title"], forked["title_source"]) == ("Mine", "user")
    assert (forked["client_id"], forked["starred"], forked["status"], forked["version"]) == (None, False, "active", 1)
    assert forked["temporary"] is True
    assert forked["metadata"] == {
        "a": [1],
        "forked_from": {"conversation_id": chat, "message_id": ids(ada, chat)["m1"]},
    }
    assert ada.get_conversation(chat)["metadata"] == {"a": [1]}
    assert rows(app)["conversation_tags"] == 4
    again = ada.fork_conversation(forked["id"])
    assert again["metadata"]["forked_from"]["conversation_id"] == forked["id"]
    assert not bob.conversation_exists(again["id"])


def test_a_fork_may_have_a_title_of_its_own(ada, bob, chat, subtests):
    """The default one is replaced from the first question, as anywhere."""
    replaced = ("m1", "auto")
    for title, shown in [("New one", ("New one", "user")), ("", replaced), (DEFAULT_TITLE, replaced), (None, replaced)]:
        with subtests.test(title=title):
            forked = ada.fork_conversation(chat, title=title)
            assert (forked["title"], forked["title_source"]) == shown
            assert ada.get_conversation(forked["id"]) == forked
            assert not bob.conversation_exists(forked["id"])


def test_an_empty_conversation_has_an_empty_fork(ada, bob):
    """Nothing is copied; where it comes from is known all the same."""
    chat = ada.create_conversation()["id"]
    forked = ada.fork_conversation(chat)
    assert (check(ada, forked["id"])["message_count"], forked["title"]) == (0, DEFAULT_TITLE)
    assert forked["metadata"] == {"forked_from": {"conversation_id": chat, "message_id": None}}
    assert ada.save_message(forked["id"], "user", "first")["parent_id"] is None
    assert not bob.conversation_exists(forked["id"])


def test_a_copy_is_finished(app, ada, bob, chat):
    """An answer still being written is copied as interrupted; client ids stay with their messages, deleted ones stay away."""
    ada.save_message(chat, "assistant", "half", status="streaming", client_id="k")
    ada.save_message(chat, "assistant", "asks", status="pending")
    ada.save_message(chat, "assistant", "broken", status="failed")
    ada.delete_message(chat, ids(ada, chat)["m2"])
    copies = everything(ada, ada.fork_conversation(chat)["id"])
    assert [one["content"] for one in copies] == ["m1", "m3", "m4", "m5", "m6", "half", "asks", "broken"]
    assert [one["status"] for one in copies[-3:]] == ["interrupted", "interrupted", "failed"]
    assert {one["client_id"] for one in copies} == {None}
    assert [one["seq"] for one in copies] == list(range(1, 9))
    assert sql(app, "SELECT count(*) FROM conversation_messages WHERE client_id = 'k'")[0][0] == 1
    assert not bob.conversation_exists(chat)


def test_a_summary_sums_up_the_copies(ada, bob, chat):
    """Where it ends is said of the fork's own messages, so that a history has it in the place of the same ones."""
    found = ids(ada, chat)
    ada.delete_message(chat, found["m1"])
    ada.summarize(chat, "what was said", up_to_message_id=found["m4"])
    ada.save_message(chat, "user", "after")
    forked = ada.fork_conversation(chat)["id"]
    own = ids(ada, forked)
    summary = ada.get_message(forked, own["what was said"])
    assert summary["metadata"]["summary"] == {"until_seq": 3, "until_message_id": own["m4"]}
    assert ada.get_conversation_history(forked) == ada.get_conversation_history(chat)
    assert not bob.conversation_exists(forked)


def test_a_fork_begins_at_a_message_of_the_conversation(app, ada, bob, chat, subtests):
    """Anything else is refused by name, and nothing is made."""
    gone = ada.delete_message(chat, ids(ada, chat)["m5"])["id"]
    elsewhere = bob.list_conversations()["conversations"][0]["id"]
    before = rows(app)
    for message in (gone, ids(bob, elsewhere)["b1"], NEVER, "nowhere", "", 7, "\0", ["a"]):
        with subtests.test(message=ascii(message)):
            with pytest.raises(ValidationFailed) as refused:
                ada.fork_conversation(chat, message)
            assert set(refused.value.errors) == {"at_message_id"}
    for title in ("x" * 256, "a\0", 7):
        with subtests.test(title=ascii(title)):
            with pytest.raises(ValidationFailed) as refused:
                ada.fork_conversation(chat, title=title)
            assert set(refused.value.errors) == {"title"}
    assert rows(app) == before


def test_a_fork_sends_the_signals_of_a_conversation_with_messages(ada, bob, chat):
    """One `conversation_created`, and a `message_saved` for each copy."""
    created, saved = [], []

    def note_created(sender, conversation, **rest):
        created.append(conversation)

    def note_saved(sender, message, **rest):
        saved.append(message)

    with signals.conversation_created.connected_to(note_created), signals.message_saved.connected_to(note_saved):
        forked = ada.fork_conversation(chat)
    assert created == [forked]
    assert saved == everything(ada, forked["id"])
    assert not bob.conversation_exists(forked["id"])


def test_a_fork_that_fails_leaves_nothing(app, ada, bob, chat):
    """Conversation and copies are one transaction."""
    before = rows(app)
    with failing(ada.transaction()):
        ada.fork_conversation(ada.fork_conversation(chat)["id"])
    assert rows(app) == before
    assert not bob.conversation_exists(chat)


@pytest.mark.parametrize("size", [1500, pytest.param(5000, marks=pytest.mark.long)])
def test_a_long_conversation_is_copied_in_batches(app, ada, bob, statements, subtests, size):
    """Straight or branched: one statement reads the messages, one for each 500 writes them, six do all the rest."""
    chat = ada.create_conversation(messages=said(*(f"m{n}" for n in range(size))))["id"]

    def fork() -> None:
        with statements(app) as seen:
            forked = ada.fork_conversation(chat)
        assert len(seen) <= size // 500 + 6
        assert forked["message_count"] == size
        assert forked["checksum"] != ada.get_conversation(chat)["checksum"]
        assert [one["content"] for one in whole(ada, forked["id"])] == [f"m{n}" for n in range(size)]
        assert check(ada, forked["id"]) == forked
        assert not bob.conversation_exists(forked["id"])

    with subtests.test("straight"):
        fork()
    ada.branches.create(chat, ada.get_messages(chat)["messages"][0]["id"])
    with subtests.test("branched"):
        fork()
