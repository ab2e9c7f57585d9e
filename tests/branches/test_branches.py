"""Names for the tips of a conversation's message tree: create, list, switch, delete; nothing is ever lost."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from flask_conversations import signals
from flask_conversations.errors import (
    BranchExists,
    BranchInUse,
    BranchNotFound,
    ConversationNotFound,
    NotFound,
    ValidationFailed,
)

from ..service.tools import NEVER, failing, sql
from .tools import active, branch_rows, ids, named, said, texts, whole


def test_every_conversation_begins_with_main(ada, bob, chat):
    """`main` is there without a row, active, and ends with the newest message."""
    (main,) = ada.branches.list(chat)["branches"]
    last = ada.get_messages(chat)["messages"][-1]
    conversation = ada.get_conversation(chat)
    assert main == {
        "conversation_id": chat,
        "name": "main",
        "head_id": last["id"],
        "active": True,
        "created_at": conversation["created_at"],
        "preview": "m6",
    }
    empty = ada.create_conversation()["id"]
    assert [(one["head_id"], one["preview"]) for one in ada.branches.list(empty)["branches"]] == [(None, None)]
    with pytest.raises(ConversationNotFound):
        bob.branches.list(chat)


def test_a_new_branch_names_a_path_and_does_not_switch(ada, bob, chat):
    """It ends with the message it was made from; what is shown stays, and the version says that something has changed."""
    before = ada.get_conversation(chat)
    made = ada.branches.create(chat, ids(ada, chat)["m3"])
    assert (made["name"], made["active"], made["preview"], made["conversation_id"]) == ("branch-2", False, "m3", chat)
    assert ada.branches.list(chat)["branches"][1] == made
    assert texts(ada.get_messages(chat)) == ["m1", "m2", "m3", "m4", "m5", "m6"]
    assert texts(ada.get_messages(chat, branch="branch-2")) == ["m1", "m2", "m3"]
    after = ada.get_conversation(chat)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"version", "updated_at", "etag"}
    assert after["version"] == before["version"] + 1
    with pytest.raises(ConversationNotFound):
        bob.branches.create(chat, made["head_id"])


def test_names_are_the_first_free_number_or_ones_own(ada, bob, chat):
    """`branch-2`, `branch-3`, ..., gaps first; a name of one's own is kept as it is."""
    last = ids(ada, chat)["m6"]
    assert ada.branches.create(chat, last, "branch-3")["name"] == "branch-3"
    assert [ada.branches.create(chat, last)["name"] for _ in range(2)] == ["branch-2", "branch-4"]
    ada.branches.delete(chat, "branch-3")
    assert ada.branches.create(chat, last)["name"] == "branch-3"
    assert ada.branches.create(chat, last, "  Über die Bienen 🐝 ?#%&  ")["name"] == "  Über die Bienen 🐝 ?#%&  "
    assert [
        one["name"] for one in bob.branches.list(bob.list_conversations()["conversations"][0]["id"])["branches"]
    ] == ["main"]


def test_main_stands_first_then_the_oldest(ada, bob, chat):
    """Whichever is active."""
    found = ids(ada, chat)
    for name in ("z", "a", "m"):
        ada.branches.create(chat, found["m2"], name)
    for name in ("a", "main", "m"):
        ada.branches.switch(chat, name)
        assert list(named(ada, chat)) == ["main", "z", "a", "m"]
        assert active(ada, chat) == name
    assert not bob.conversation_exists(chat)


def test_the_time_of_a_branch_stays(ada, chat):
    """Its creation time stays after any number of switches."""
    ada.branches.create(chat, ids(ada, chat)["m2"])
    before = {one["name"]: one["created_at"] for one in ada.branches.list(chat)["branches"]}
    for name in ("branch-2", "main", "branch-2"):
        ada.branches.switch(chat, name)
        assert {one["name"]: one["created_at"] for one in ada.branches.list(chat)["branches"]} == before


def test_a_switch_changes_what_is_read_and_what_is_appended_to(ada, bob, chat):
    """Messages, history, preview and the next message are those of the active branch; counters are of all messages."""
    ada.branches.create(chat, ids(ada, chat)["m3"], "other")
    before = ada.get_conversation(chat)
    switched = ada.branches.switch(chat, "other")
    assert switched == ada.get_conversation(chat)
    kept = ("message_count", "checksum", "last_message_at", "last_activity_at", "title")
    assert [switched[name] for name in kept] == [before[name] for name in kept]
    assert (switched["preview"], switched["version"]) == ("m3", before["version"] + 1)
    saved = ada.save_message(chat, "user", "o4")
    assert (saved["seq"], saved["parent_id"]) == (7, ids(ada, chat)["m3"])
    assert texts(ada.get_messages(chat)) == ["m1", "m2", "m3", "o4"]
    assert [one["content"] for one in ada.get_conversation_history(chat)] == ["m1", "m2", "m3", "o4"]
    assert texts(ada.get_messages(chat, branch="main")) == ["m1", "m2", "m3", "m4", "m5", "m6"]
    assert ada.branches.switch(chat, "main")["preview"] == "m6"
    assert texts(ada.get_messages(chat, branch="other")) == ["m1", "m2", "m3", "o4"]
    assert ada.get_conversation(chat)["message_count"] == 7
    with pytest.raises(ConversationNotFound):
        bob.branches.switch(chat, "other")


def test_switching_to_the_active_branch_does_nothing(ada, bob, chat):
    """Neither by its name nor by a message that it shows and that nothing follows elsewhere."""
    before = ada.get_conversation(chat)
    assert ada.branches.switch(chat, "main") == before
    assert ada.branches.switch(chat, ids(ada, chat)["m2"]) == before
    assert ada.get_conversation(chat) == before
    assert not bob.conversation_exists(chat)


def test_a_message_is_switched_to_by_its_newest_path(ada, bob, chat):
    """The arrows of a UI: the active branch keeps its name, and shows the newest leaf at or below that message."""
    found = ids(ada, chat)
    second = ada.save_message(chat, "user", "other m4", parent_id=found["m3"])["id"]
    ada.save_message(chat, "assistant", "other m5")
    ada.save_message(chat, "assistant", "third m5", parent_id=second, client_id="mine")
    assert ada.branches.switch(chat, found["m4"])["preview"] == "m6"
    assert texts(ada.get_messages(chat)) == ["m1", "m2", "m3", "m4", "m5", "m6"]
    assert ada.branches.switch(chat, second.upper())["preview"] == "third m5"
    assert ada.branches.switch(chat, uuid.UUID(found["m5"]))["preview"] == "m6"
    assert ada.branches.switch(chat, "mine")["preview"] == "third m5"
    assert active(ada, chat) == "main"
    assert list(named(ada, chat)) == ["main"]
    assert ada.get_conversation(chat)["message_count"] == 9
    with pytest.raises(ConversationNotFound):
        bob.branches.switch(chat, second)


def test_a_name_goes_before_a_client_id(ada, bob, chat):
    """Where a message and a branch are called the same, the branch is meant."""
    ada.branches.create(chat, ids(ada, chat)["m2"], "mine")
    ada.save_message(chat, "user", "m7", client_id="mine")
    assert ada.branches.switch(chat, "mine")["preview"] == "m2"
    assert not bob.conversation_exists(chat)


def test_deleting_a_branch_forgets_its_name_only(ada, bob, chat):
    """Its messages stay, and can be switched to; `main` and the active branch stay."""
    ada.branches.create(chat, ids(ada, chat)["m3"], "other")
    ada.branches.switch(chat, "other")
    own = ada.save_message(chat, "user", "o4")["id"]
    for name in ("other", "main"):
        with pytest.raises(BranchInUse):
            ada.branches.delete(chat, name)
    ada.branches.switch(chat, "main")
    with pytest.raises(BranchInUse):
        ada.branches.delete(chat, "main")
    with pytest.raises(ConversationNotFound):
        bob.branches.delete(chat, "other")
    before = ada.get_conversation(chat)
    assert ada.branches.delete(chat, "other")["head_id"] == own
    assert ada.get_conversation(chat)["version"] == before["version"] + 1
    assert list(named(ada, chat)) == ["main"]
    assert ada.get_message(chat, own)["content"] == "o4"
    assert ada.branches.switch(chat, own)["preview"] == "o4"


NO_NAMES = ["", " ", "\t", ".", "..", "a/b", "/", "a\0", "a\nb", "\x1b[31m", "\x85", "\u2028", "\ud800"]
NO_NAMES += ["x" * 129, NEVER, 7, ["a"]]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_what_cannot_be_a_name_is_refused_by_name(ada, chat, subtests):
    """Nothing that could not stand in a URL, or would be taken for a message; and nothing is stored of it."""
    before, first = ada.get_conversation(chat), ids(ada, chat)["m1"]
    for name in NO_NAMES:
        with subtests.test(name=ascii(name)):
            with pytest.raises(ValidationFailed) as refused:
                ada.branches.create(chat, first, name)
            assert set(refused.value.errors) == {"name"}
            assert ada.get_conversation(chat) == before


def test_what_can_be_a_name(ada, bob, chat, subtests):
    """Names are kept as they are, and found again exactly so."""
    first = ids(ada, chat)["m1"]
    for name in ("x" * 128, "…", "...", "a b", "branch-2 ", "Main", "ß", "%2F", "switch", "a\\b"):
        with subtests.test(name):
            ada.branches.create(chat, first, name)
            assert list(named(ada, chat)) == ["main", name]
            assert ada.branches.switch(chat, name)["preview"] == "m1"
            assert active(ada, chat) == name
            ada.branches.switch(chat, "main")
            ada.branches.delete(chat, name)
    assert not bob.conversation_exists(chat)


def test_a_name_is_taken_once(ada, bob, chat):
    """In this conversation: Bob may call his own the same."""
    found = ids(ada, chat)
    for one in ("taken", "active"):
        ada.branches.create(chat, found["m1"], one)
    ada.branches.switch(chat, "active")
    for name in ("main", "taken", "active"):
        with pytest.raises(BranchExists):
            ada.branches.create(chat, found["m2"], name)
    theirs = bob.list_conversations()["conversations"][0]["id"]
    for name in ("taken", "active"):
        bob.branches.create(theirs, ids(bob, theirs)["b1"], name)
    assert list(named(bob, theirs)) == ["main", "taken", "active"]


def test_a_branch_begins_at_a_message_of_the_conversation(ada, bob, chat, subtests):
    """Anything else is refused by name, a message of another conversation and a deleted one too."""
    theirs = bob.list_conversations()["conversations"][0]["id"]
    gone = ada.delete_message(chat, ids(ada, chat)["m5"])["id"]
    elsewhere = ada.create_conversation(messages=said("x"))["id"]
    others = [gone, ids(bob, theirs)["b1"], ids(ada, elsewhere)["x"]]
    for message in [*others, NEVER, "nowhere", "", None, 7, "\0", ["a"]]:
        with subtests.test(message=ascii(message)):
            with pytest.raises(ValidationFailed) as refused:
                ada.branches.create(chat, message)
            assert set(refused.value.errors) == {"from_message_id"}
    assert list(named(ada, chat)) == ["main"]


def test_what_is_not_there_cannot_be_switched_to_or_deleted(ada, chat, subtests):
    """404, whatever the name looks like."""
    before = ada.get_conversation(chat)
    for verb in (ada.branches.switch, ada.branches.delete):
        for name in ("nowhere", NEVER, "", "a/b", "\0", "\ud800", "x" * 300):
            with subtests.test(verb.__name__, name=ascii(name)), pytest.raises(BranchNotFound):
                verb(chat, name)
        with pytest.raises(ValidationFailed) as refused:
            verb(chat, 7)
        assert set(refused.value.errors) == {"name"}
    assert ada.get_conversation(chat) == before


def test_a_branch_follows_when_its_tip_is_deleted(ada, bob, chat):
    """It ends at what the deleted message answered; of one without any message left, nowhere."""
    found = ids(ada, chat)
    ada.branches.create(chat, found["m3"], "third")
    ada.branches.create(chat, found["m1"], "first")
    ada.delete_message(chat, found["m3"])
    assert named(ada, chat) == {"main": found["m6"], "third": found["m2"], "first": found["m1"]}
    assert texts(ada.get_messages(chat, branch="third")) == ["m1", "m2"]
    for text in ("m1", "m2"):
        ada.delete_message(chat, found[text])
    assert named(ada, chat) == {"main": found["m6"], "third": None, "first": None}
    assert texts(ada.get_messages(chat, branch="first")) == []
    emptied = ada.branches.switch(chat, "first")
    assert (emptied["preview"], emptied["last_message_at"], emptied["message_count"]) == (None, None, 3)
    ada.save_message(chat, "user", "a new root")
    assert texts(ada.get_messages(chat)) == ["a new root"]
    assert ada.branches.switch(chat, "main")["preview"] == "m6"
    assert not bob.conversation_exists(chat)


def test_clearing_forgets_all_branches(app, ada, bob, chat):
    """The conversation is one empty path again, called `main`, also where only names were left."""
    found = ids(ada, chat)
    ada.branches.create(chat, found["m3"], "other")
    ada.branches.switch(chat, "other")
    assert ada.clear_conversation(chat) == 6
    assert named(ada, chat) == {"main": None}
    assert active(ada, chat) == "main"
    assert branch_rows(app) == 0
    ada.save_messages(chat, said("n1", "n2"))
    assert texts(ada.get_messages(chat)) == ["n1", "n2"]

    ada.branches.create(chat, ids(ada, chat)["n1"], "other")
    for text in ("n1", "n2"):
        ada.delete_message(chat, ids(ada, chat)[text])
    version = ada.get_conversation(chat)["version"]
    assert ada.clear_conversation(chat) == 0
    assert (named(ada, chat), branch_rows(app)) == ({"main": None}, 0)
    assert ada.get_conversation(chat)["version"] == version + 1
    assert len(bob.list_conversations()["conversations"]) == 1


def test_replacing_the_messages_of_a_branch_leaves_the_others_their_names(ada, bob, chat):
    """What is replaced is the active path; branches off it end at what is left of theirs."""
    found = ids(ada, chat)
    ada.save_message(chat, "user", "side", parent_id=found["m2"])
    ada.branches.create(chat, found["m6"], "long")
    ada.branches.create(chat, found["m2"], "short")
    kept = ada.get_messages(chat)["messages"][:1]
    ada.replace_messages(chat, [*kept, {"role": "user", "content": "new"}])
    assert texts(ada.get_messages(chat)) == ["m1", "new"]
    assert texts(ada.get_messages(chat, branch="short")) == ["m1"]
    assert texts(ada.get_messages(chat, branch="long")) == ["m1", "m3", "m4", "m5", "m6"]
    forced = {"id": chat, "messages": said("only")}
    ada.save_conversation(forced, force_overwrite=True)
    assert texts(ada.get_messages(chat)) == ["only"]
    assert texts(ada.get_messages(chat, branch="long")) == ["m3", "m4", "m5", "m6"]
    assert not bob.conversation_exists(chat)


def test_a_merged_snapshot_goes_to_the_active_branch(ada, bob, chat):
    """A client that holds the path of the active branch appends to that one."""
    ada.branches.create(chat, ids(ada, chat)["m2"], "other")
    ada.branches.switch(chat, "other")
    held = ada.get_messages(chat)["messages"]
    ada.save_conversation({"id": chat, "messages": [*held, {"role": "user", "content": "o3"}]})
    assert texts(ada.get_messages(chat)) == ["m1", "m2", "o3"]
    assert texts(ada.get_messages(chat, branch="main")) == ["m1", "m2", "m3", "m4", "m5", "m6"]
    assert not bob.conversation_exists(chat)


def test_branches_belong_to_the_owner_and_go_with_the_conversation(app, conversations, ada, bob, chat):
    """A claim hands them over, a permanent deletion removes them."""
    guest = conversations.as_user("guest:1", app=app)
    theirs = guest.create_conversation(messages=said("g1", "g2"))["id"]
    guest.branches.create(theirs, ids(guest, theirs)["g1"], "other")
    assert ada.claim("guest:1") == 1
    assert sql(app, "SELECT user_id FROM conversation_branches") == [("ada",)]
    assert texts(ada.get_messages(theirs, branch="other")) == ["g1"]
    with pytest.raises(NotFound):
        guest.branches.list(theirs)
    with pytest.raises(NotFound):
        bob.branches.list(theirs)
    ada.delete_conversation(theirs, permanent=True)
    assert branch_rows(app) == 0


def test_each_change_sends_one_signal(app, ada, bob, chat):
    """`conversation_updated` after the commit, with the conversation as it is; a switch that changes nothing says nothing."""
    received = []

    def note(sender, conversation, **rest):
        received.append((conversation["version"], conversation["preview"]))

    found = ids(ada, chat)
    with signals.conversation_updated.connected_to(note):
        ada.branches.create(chat, found["m2"], "other")
        ada.branches.switch(chat, "other")
        ada.branches.switch(chat, "other")
        ada.branches.switch(chat, "main")
        ada.branches.delete(chat, "other")
    assert received == [(2, "m6"), (3, "m2"), (4, "m6"), (5, "m6")]
    assert bob.list_conversations()["conversations"][0]["version"] == 1


def test_branches_are_part_of_a_group(app, ada, bob, chat):
    """In a transaction that fails, no branch was made and nothing was switched."""
    found = ids(ada, chat)
    with failing(ada.transaction()):
        ada.branches.create(chat, found["m2"], "other")
        ada.branches.switch(chat, "other")
        ada.save_message(chat, "user", "lost")
    assert named(ada, chat) == {"main": found["m6"]}
    assert [one["content"] for one in whole(ada, chat)] == list(found)
    assert not bob.conversation_exists(chat)


def test_the_same_calls_are_coroutines(ada, bob, chat):
    """`service.aio.branches` offers the calls of `service.branches`."""

    async def calls():
        noun = ada.aio.branches
        made = await noun.create(chat, ids(ada, chat)["m2"], "other")
        switched = await noun.switch(chat, "other")
        listed = await noun.list(chat)
        await noun.switch(chat, "main")
        await noun.delete(chat, "other")
        with pytest.raises(AttributeError):
            noun.nothing()
        with pytest.raises(ConversationNotFound):
            await bob.aio.branches.list(chat)
        return made["name"], switched["preview"], len(listed["branches"])

    assert asyncio.run(calls()) == ("other", "m2", 2)


def test_the_query_log_names_what_was_done(make_app):
    """With auditing on, each call is one line with its own name."""
    app = make_app(CONVERSATIONS_AUDIT=True)
    ada = app.conversations.as_user("ada", app=app)
    chat = ada.create_conversation(messages=said("m1", "m2"))["id"]
    sql(app, "DELETE FROM conversation_query_log")
    ada.branches.create(chat, ids(ada, chat)["m1"], "other")
    ada.branches.switch(chat, "other")
    ada.branches.switch(chat, "main")
    ada.branches.list(chat)
    ada.branches.delete(chat, "other")
    ada.fork_conversation(chat)
    done = [row[0] for row in sql(app, "SELECT action FROM conversation_query_log ORDER BY id")]
    names = ["create_branch", "switch_branch", "switch_branch", "list_branches", "delete_branch", "fork_conversation"]
    assert [name for name in done if name != "get_messages"] == names
