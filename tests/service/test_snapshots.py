"""Whole conversations: save_conversation merges what two devices did, load_conversations brings them all."""

from __future__ import annotations

import pytest

from flask_conversations.errors import ClientIdConflict, NotFound, ValidationFailed, VersionConflict
from flask_conversations.service import http

from ..infra.service import units_of
from .tools import check, check_invisible, contents, everything, rows, walk


def user(*texts):
    return [{"role": "user", "content": text} for text in texts]


@pytest.fixture
def chat(ada, bob):
    """Ada's conversation "T" of two messages; Bob has one too."""
    bob.create_conversation("his", id="his")
    return ada.create_conversation("T", messages=user("a", "b"))


def copy(service, conversation_id):
    """A device's copy: the conversation with its messages, as the API shows them."""
    return {**service.get_conversation(conversation_id), "messages": everything(service, conversation_id)}


def test_a_new_snapshot_creates(ada, bob):
    """A snapshot of a conversation that does not exist creates it, own ids included."""
    saved = ada.save_conversation({"id": "c-1", "title": "T", "tags": ["x"], "messages": user("a", "b")})
    assert (saved["outcome"], saved["conflicts"]) == ("saved", [])
    assert saved["conversation"] == check(ada, "c-1")
    assert (saved["conversation"]["client_id"], saved["conversation"]["version"]) == ("c-1", 1)
    assert contents(ada, "c-1") == ["a", "b"]
    assert ada.save_conversation({"title": "no id"})["conversation"]["title"] == "no id"
    check_invisible(bob, "c-1")


def test_a_retried_snapshot_changes_nothing(ada):
    """The same snapshot sent again adds no message and no version."""
    snapshot = {"id": "c-1", "title": "T", "messages": user("a", "b", "a")}
    first = ada.save_conversation(snapshot)["conversation"]
    again = ada.save_conversation(snapshot)
    assert (again["conversation"], again["outcome"], again["conflicts"]) == (first, "saved", [])
    assert contents(ada, "c-1") == ["a", "b", "a"]


def test_what_extends_the_list_is_appended(ada, chat):
    """Messages without ids that go on from the stored ones are appended, as one step."""
    saved = ada.save_conversation({"id": chat["id"], "title": "New", "messages": user("a", "b", "c", "d")})
    assert saved["outcome"] == "saved"
    assert contents(ada, chat["id"]) == ["a", "b", "c", "d"]
    assert check(ada, chat["id"]) == saved["conversation"]
    assert (saved["conversation"]["version"], saved["conversation"]["title"]) == (2, "New")


def test_an_older_list_deletes_nothing(ada, chat):
    """A copy that is merely older, or empty, or without messages, changes nothing."""
    before = ada.get_conversation(chat["id"])
    for messages in (user("a"), user("b"), [], None):
        snapshot = {"id": chat["id"]} if messages is None else {"id": chat["id"], "messages": messages}
        assert ada.save_conversation(snapshot)["conversation"] == before
    assert contents(ada, chat["id"]) == ["a", "b"]


def test_two_devices_keep_both_their_messages(ada, chat):
    """The messages of two devices from the same copy are all there, in either order of saving."""
    phone, laptop = copy(ada, chat["id"]), copy(ada, chat["id"])
    phone["messages"] += [{"role": "user", "content": "from the phone", "client_id": "p"}]
    laptop["messages"] += [{"role": "user", "content": "from the laptop", "client_id": "l"}]
    first = ada.save_conversation(phone, base_version=phone["version"])
    second = ada.save_conversation(laptop, base_version=laptop["version"])
    assert (first["outcome"], second["outcome"], second["conflicts"]) == ("saved", "merged", [])
    assert contents(ada, chat["id"]) == ["a", "b", "from the phone", "from the laptop"]
    for device, base in ((phone, 1), (laptop, 1)):
        ada.save_conversation(device, base_version=base)
    assert contents(ada, chat["id"]) == ["a", "b", "from the phone", "from the laptop"]
    assert check(ada, chat["id"])["version"] == 3


def test_two_devices_without_message_ids(ada, chat):
    """The seed's snapshots carry no ids at all: both devices' messages are kept, a retry adds none."""
    for text in ("phone", "laptop"):
        ada.save_conversation({"id": chat["id"], "messages": user("a", "b", text)}, base_version=1)
    ada.save_conversation({"id": chat["id"], "messages": user("a", "b", "phone")}, base_version=1)
    assert contents(ada, chat["id"]) == ["a", "b", "phone", "laptop"]
    check(ada, chat["id"])


def test_a_new_message_may_say_what_an_older_one_said(ada, chat):
    """Behind messages that are named by id, an equal text is a new message; sent again, it is that one."""
    snapshot = {"id": chat["id"], "messages": [*everything(ada, chat["id"]), *user("a", "a")]}
    for _ in range(2):
        ada.save_conversation(snapshot)
        assert contents(ada, chat["id"]) == ["a", "b", "a", "a"]
    check(ada, chat["id"])


def test_fields_merge_one_by_one(ada, chat):
    """Different fields changed on two devices are both kept."""
    ada.save_conversation({"id": chat["id"], "title": "phone"}, base_version=1)
    saved = ada.save_conversation({"id": chat["id"], "starred": True}, base_version=1)
    assert (saved["outcome"], saved["conflicts"]) == ("merged", [])
    assert (saved["conversation"]["title"], saved["conversation"]["starred"]) == ("phone", True)


def test_the_same_field_changed_twice_is_a_conflict(ada, chat):
    """A field that another device changed since stays as it is, and both values are reported."""
    ada.update_conversation(chat["id"], title="phone")
    saved = ada.save_conversation({"id": chat["id"], "title": "laptop", "folder": "f"}, base_version=1)
    assert saved["conflicts"] == [{"field": "title", "current": "phone", "yours": "laptop"}]
    assert (saved["conversation"]["title"], saved["conversation"]["folder"]) == ("phone", "f")
    assert saved["outcome"] == "merged"


def test_agreeing_is_no_conflict(ada, chat):
    """Two devices that set the same value do not conflict."""
    ada.update_conversation(chat["id"], title="same")
    assert ada.save_conversation({"id": chat["id"], "title": "same"}, base_version=1)["conflicts"] == []


def test_an_edit_by_both_is_a_conflict(ada, chat):
    """A message that both edited stays as the server has it; an edit of another message goes through."""
    a, b = everything(ada, chat["id"])
    ada.update_message(chat["id"], a["id"], content="A phone")
    mine = [{**a, "content": "A laptop"}, {**b, "content": "B laptop"}]
    saved = ada.save_conversation({"id": chat["id"], "messages": mine}, base_version=1)
    assert saved["conflicts"] == [
        {"field": "messages", "message_id": a["id"], "current": "A phone", "yours": "A laptop"}
    ]
    assert contents(ada, chat["id"]) == ["A phone", "B laptop"]
    assert check(ada, chat["id"])["version"] == 3


def saved_over_http(service, snapshot, base_version):
    options = {"force_overwrite": False, "refuse_conflicts": True, "roles": None}
    return http.save_snapshot(units_of(service), snapshot, base_version=base_version, **options)


def test_conflicts_can_be_refused(ada, chat):
    """With refuse_conflicts a conflict saves nothing and shows the current conversation."""
    current = ada.update_conversation(chat["id"], title="phone")
    snapshot = {"id": chat["id"], "title": "laptop", "messages": user("a", "b", "c")}
    with pytest.raises(VersionConflict) as refused:
        http.save_snapshot(
            units_of(ada), snapshot, base_version=1, force_overwrite=False, refuse_conflicts=True, roles=None
        )
    assert refused.value.current == current == check(ada, chat["id"])


def test_force_overwrite_makes_the_snapshot_the_truth(ada, bob, chat):
    """With force_overwrite what the snapshot lacks is removed, what it says is set, in one step."""
    ids = [message["id"] for message in everything(ada, chat["id"])]
    ada.save_message(chat["id"], "user", "from elsewhere")
    saved = ada.save_conversation(
        {"id": chat["id"], "title": "mine", "messages": user("a", "z")}, base_version=1, force_overwrite=True
    )
    assert saved["outcome"] == "overwritten"
    assert contents(ada, chat["id"]) == ["a", "z"]
    assert everything(ada, chat["id"])[0]["id"] == ids[0]
    found = check(ada, chat["id"])
    assert (found["title"], found["version"]) == ("mine", 3)
    assert bob.get_conversation("his")["version"] == 1


def test_force_overwrite_of_an_equal_copy_changes_nothing(ada, chat):
    """Overwriting with what is there already is no new version."""
    saved = ada.save_conversation(copy(ada, chat["id"]), force_overwrite=True, base_version=1)
    assert (saved["outcome"], saved["conversation"]) == ("saved", chat)


def test_a_copy_as_it_was_read_can_be_saved(ada, chat):
    """What load_conversations gave can be given back as it is: the server's own members are not taken from there."""
    held = ada.load_conversations()["conversations"][0]
    held["version"], held["checksum"], held["user_id"] = 999, "f" * 16, "bob"
    held["messages"][0]["seq"] = 999
    saved = ada.save_conversation(held)
    assert (saved["outcome"], saved["conflicts"]) == ("saved", [])
    found = check(ada, chat["id"])
    assert (found["user_id"], found["version"], found["title"]) == ("ada", 1, "T")


def test_a_strangers_snapshot_creates_nothing_and_overwrites_nothing(app, ada, bob, chat):
    """Another user's id in a snapshot is a conflict that shows nothing."""
    before = rows(app)
    for force in (False, True):
        with pytest.raises(ClientIdConflict):
            bob.save_conversation({"id": chat["id"], "title": "x", "messages": user("x")}, force_overwrite=force)
    with pytest.raises(NotFound):
        http.save_snapshot(
            units_of(bob),
            {"id": chat["id"], "title": "x"},
            base_version=None,
            force_overwrite=False,
            refuse_conflicts=False,
            roles=None,
        )
    assert rows(app) == before
    assert ada.get_conversation(chat["id"]) == chat


def test_a_message_of_another_conversation_is_not_moved(ada, chat):
    """Ids of messages elsewhere, one's own or not, name nothing here."""
    other = ada.create_conversation(messages=user("secret"))
    message = everything(ada, other["id"])[0]
    ada.save_conversation({"id": chat["id"], "messages": [{**message, "content": "changed"}]})
    assert contents(ada, other["id"]) == ["secret"]
    assert contents(ada, chat["id"]) == ["a", "b", "changed"]
    check(ada, other["id"])
    check(ada, chat["id"])


NO_SNAPSHOTS = [
    (None, "snapshot"),
    ([], "snapshot"),
    ({"nonsense": 1}, "nonsense"),
    ({"title": 7}, "title"),
    ({"title": "\x00"}, "title"),
    ({"tags": "x"}, "tags"),
    ({"id": "a b"}, "id"),
    ({"messages": "x"}, "messages"),
    ({"messages": 7}, "messages"),
    ({"messages": {"a": 1}}, "messages"),
    ({"messages": [7]}, "messages"),
    ({"messages": [{"role": "boss", "content": "x"}]}, "messages"),
    ({"status": "deleted"}, "status"),
]


def test_a_bad_snapshot_names_its_field(app, ada, subtests):
    """What is no snapshot is refused by name, and nothing is stored."""
    for snapshot, field in NO_SNAPSHOTS:
        with subtests.test(snapshot=snapshot):
            with pytest.raises(ValidationFailed) as refused:
                ada.save_conversation(snapshot)
            assert list(refused.value.errors) == [field]
            assert not any(rows(app).values())


def test_a_bad_snapshot_changes_nothing(ada, subtests):
    """The same for a conversation that is there, whether the snapshot would be merged or take its place."""
    ada.create_conversation(id="c-1")
    for snapshot, field in NO_SNAPSHOTS:
        if not isinstance(snapshot, dict) or field == "id":
            continue  # it names no conversation
        for force in (False, True):
            with subtests.test(snapshot=snapshot, force=force):
                with pytest.raises(ValidationFailed) as refused:
                    ada.save_conversation({"id": "c-1", **snapshot}, force_overwrite=force)
                assert list(refused.value.errors) == [field]
                assert check(ada, "c-1")["version"] == 1


def test_load_brings_each_conversation_with_its_newest_messages(ada, bob, chat):
    """load_conversations is the list with the newest messages of each, oldest first, the user's own only."""
    long = ada.create_conversation("long", messages=user(*map(str, range(12))))
    empty = ada.create_conversation("empty")
    page = ada.load_conversations(messages=5)
    assert [one["id"] for one in page["conversations"]] == [empty["id"], long["id"], chat["id"]]
    assert [m["content"] for m in page["conversations"][1]["messages"]] == ["7", "8", "9", "10", "11"]
    assert page["conversations"][2]["messages"] == everything(ada, chat["id"])
    assert page["conversations"][0]["messages"] == []
    assert [one["title"] for one in bob.load_conversations()["conversations"]] == ["his"]
    found = walk(lambda cursor: ada.load_conversations(limit=1, cursor=cursor), "conversations")
    assert [one["id"] for one in found] == [empty["id"], long["id"], chat["id"]]


def test_load_shows_the_active_branch_and_no_tombstones(ada, chat):
    """Deleted messages and other branches are not loaded."""
    ada.save_messages(chat["id"], user("c", "d"))
    ada.pop_message(chat["id"])
    first = everything(ada, chat["id"])[0]
    branched = ada.create_conversation("branched", messages=user("q", "old"))
    ada.save_message(branched["id"], "user", "new", parent_id=everything(ada, branched["id"])[0]["id"])
    page = {one["id"]: one["messages"] for one in ada.load_conversations()["conversations"]}
    assert [m["content"] for m in page[chat["id"]]] == ["a", "b", "c"]
    assert page[chat["id"]][0] == first
    assert [m["content"] for m in page[branched["id"]]] == ["q", "new"]
