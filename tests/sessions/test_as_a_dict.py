"""Everything that apps do with their `SESSIONS` dict, and what they get."""

from __future__ import annotations

import copy
import json
import pickle
from collections import deque

import pytest

from flask_conversations.errors import IdentityRequired

from .conftest import plain, said


def test_a_missing_key_is_an_empty_deque_and_makes_nothing(ours, ada, bobs):
    """Looking at a key begins no conversation; the first append does."""
    assert list(ours["s1"]) == []
    assert not ours["s1"]
    assert len(ours["s1"]) == 0
    assert "s1" not in ours
    assert ours.get("s1") is None
    assert ada.list_conversations()["conversations"] == []
    ours["s1"].extend([])
    assert "s1" not in ours
    ours["s1"].append(said("Hello"))
    assert "s1" in ours
    assert list(ours) == ["s1"]
    assert "s1" not in bobs


def test_the_newest_come_back_as_they_were_appended(ours, ada):
    """Reading gives the newest maxlen items, oldest first; the database keeps all."""
    theirs = plain()
    for n in range(5):
        for sessions in (ours, theirs):
            sessions["s1"].append(said(f"{n}", "assistant" if n % 2 else "user"))
    assert list(ours["s1"]) == list(theirs["s1"])
    assert list(ours["s1"])[-2:] == list(theirs["s1"])[-2:]
    assert list(reversed(ours["s1"])) == list(reversed(theirs["s1"]))
    assert [len(ours["s1"]), ours["s1"].maxlen] == [3, 3]
    assert ours["s1"][-1]["content"] == "4"
    assert [ours["s1"][0], ours["s1"][2], ours["s1"][-3]] == [said("2"), said("4"), said("2")]
    assert said("3", "assistant") in ours["s1"]
    assert json.dumps(list(ours["s1"])) == json.dumps(list(theirs["s1"]))
    [conversation] = ada.list_conversations()["conversations"]
    assert (conversation["message_count"], conversation["title"]) == (5, "0")


def test_an_index_beyond_the_end(ours):
    """As a deque's."""
    ours["s1"].extend([said(f"{n}") for n in range(5)])
    for index in (3, -4):
        with pytest.raises(IndexError, match="deque index out of range"):
            ours["s1"][index]


def test_slices_are_refused_as_a_deque_refuses_them(ours):
    """`list(SESSIONS[key])[-n:]` is the way, now as before."""
    for sessions in (ours, plain()):
        sessions["s1"].append(said("a"))
        with pytest.raises(TypeError, match="sequence index must be integer, not 'slice'"):
            sessions["s1"][-2:]


def test_more_than_a_page(sessions_of):
    """A deque without maxlen, or with a large one, is read to its end."""
    unbounded, large = sessions_of("ada"), sessions_of("ada", 150)
    unbounded["s1"].extend([said(f"{n}") for n in range(260)])
    assert [item["content"] for item in unbounded["s1"]] == [f"{n}" for n in range(260)]
    assert [item["content"] for item in large["s1"]] == [f"{n}" for n in range(110, 260)]
    assert large["s1"][-120]["content"] == "140"


def test_the_deque_changes_as_a_deque(ours):
    """Every method of a deque does what it does, and returns what it returns."""
    theirs = plain()
    a, b, c, d, e = map(said, "abcde")
    changes = [
        lambda items: items.extend([a, b, c, d]),
        lambda items: items.pop(),
        lambda items: items.append(e),
        lambda items: items.popleft(),
        lambda items: items.appendleft(a),
        lambda items: items.rotate(1),
        lambda items: items.remove(c),
        lambda items: items.insert(1, b),
        lambda items: items.__setitem__(-1, d),
        lambda items: items.__delitem__(0),
        lambda items: items.reverse(),
        lambda items: items.extendleft([c, e]),
        lambda items: items.index(e),
        lambda items: items.count(c),
        lambda items: items.__iadd__([b]),
        lambda items: items.popleft(),
        lambda items: items.popleft(),
        lambda items: items.popleft(),
    ]
    for number, change in enumerate(changes):
        got, expected = change(ours["s1"]), change(theirs["s1"])
        assert list(ours["s1"]) == list(theirs["s1"]), f"after change {number}"
        assert got == expected or number == 14
    for method in ("pop", "popleft"):
        with pytest.raises(IndexError, match="pop from an empty deque"):
            getattr(ours["s1"], method)()
    assert "s1" in ours


def test_what_cannot_be_done_changes_nothing(ours):
    """A full deque takes no insert, a missing item cannot be removed, and an index must exist."""
    ours["s1"].extend([said(each) for each in "abc"])
    with pytest.raises(IndexError, match="deque already at its maximum size"):
        ours["s1"].insert(0, said("x"))
    with pytest.raises(ValueError, match="not in deque"):
        ours["s1"].remove(said("x"))
    with pytest.raises(IndexError):
        ours["s1"][3] = said("x")
    with pytest.raises(IndexError):
        del ours["s1"][3]
    assert list(ours["s1"]) == [said(each) for each in "abc"]


def test_a_pop_does_not_bring_back_what_had_left(ours, ada):
    """After a pop from a full deque it is one shorter, as a deque is, while the database keeps the older messages."""
    ours["s1"].extend([said(each) for each in "abcde"])
    assert ours["s1"].pop() == said("e")
    assert list(ours["s1"]) == [said("c"), said("d")]
    ours["s1"].append(said("f"))
    ours["s1"].popleft()
    assert list(ours["s1"]) == [said("d"), said("f")]
    [conversation] = ada.list_conversations()["conversations"]
    stored = ada.get_messages(conversation["id"])["messages"]
    assert [message["content"] for message in stored] == ["a", "b", "c", "d", "f"]


def test_forget_keeps_no_more_than_the_deque_shows(sessions_of, ada):
    """With `forget`, what leaves the deque leaves the database, and a deleted key leaves no trash."""
    ours = sessions_of("ada", 2, forget=True)
    for each in "abc":
        ours["s1"].append(said(each))
    ours["s1"].extend([said("d"), said("e"), said("f")])
    [conversation] = ada.list_conversations()["conversations"]
    assert [each["content"] for each in ada.get_messages(conversation["id"])["messages"]] == ["e", "f"]
    ours["s1"].popleft()
    assert [each["content"] for each in ada.get_messages(conversation["id"])["messages"]] == ["f"]
    del ours["s1"]
    assert ada.list_conversations(status="deleted")["conversations"] == []


def test_an_item_keeps_its_message_when_it_is_assigned(ours, ada):
    """`SESSIONS[key][-1] = {...}` edits the message; its id stays."""
    ours["s1"].extend([said("question"), said("", "assistant", n=1)])
    [conversation] = ada.list_conversations()["conversations"]
    before = ada.get_messages(conversation["id"])["messages"][-1]
    ours["s1"][-1] = {**ours["s1"][-1], "content": "answer"}
    after = ada.get_messages(conversation["id"])["messages"][-1]
    assert (after["id"], after["content"]) == (before["id"], "answer")
    assert ours["s1"][-1] == said("answer", "assistant", n=1)


def test_an_item_cannot_be_changed_in_place(ours):
    """The change would not be saved: it raises and says what to do. A copy may be changed, and so may a popped item."""
    ours["s1"].append(said("a"))
    with pytest.raises(TypeError, match=r"SESSIONS\[key\]\[-1\] = "):
        ours["s1"][-1]["content"] += "b"
    for change in (dict.clear, dict.popitem):
        with pytest.raises(TypeError):
            getattr(ours["s1"][-1], change.__name__)()
    item = ours["s1"][-1]
    for changeable in (dict(item), item.copy(), {**item}, copy.copy(item), copy.deepcopy(item), item | {}):
        changeable["content"] += "b"
    assert pickle.loads(pickle.dumps(item)) == json.loads(json.dumps(item)) == said("a")
    popped = ours["s1"].pop()
    popped["content"] += "b"
    ours["s1"].append(popped)
    assert list(ours["s1"]) == [said("ab")]


def test_deques_compare_and_copy_as_deques(ours):
    """Equal to a deque of the same items, never to a list; copies are plain deques."""
    ours["s1"].extend([said("a"), said("b")])
    expected = deque([said("a"), said("b")], 3)
    assert ours["s1"] == expected
    assert expected == ours["s1"]
    assert ours["s1"] == ours["s1"]
    assert ours["s1"] != list(expected)
    assert ours["s1"] != deque()
    assert ours["s1"] + deque([said("c")]) == expected + deque([said("c")])
    assert deque([said("c")]) + ours["s1"] == deque([said("c")]) + expected
    for made in (ours["s1"].copy(), copy.copy(ours["s1"]), copy.deepcopy(ours["s1"])):
        assert (type(made), made, made.maxlen) == (deque, expected, 3)
    assert "a" not in repr(ours["s1"]).replace("SessionDeque, maxlen", "")
    with pytest.raises(TypeError, match="copy"):
        pickle.dumps(ours["s1"])
    with pytest.raises(TypeError):
        hash(ours["s1"])


def test_deque_order(sessions_of):
    """Deques of things that have an order have one."""
    ours = sessions_of("ada")
    ours["a"].extend(["x", "y"])
    assert ours["a"] < deque(["x", "z"])
    assert ours["a"] <= ours["a"]
    assert deque(["z"]) > ours["a"]


def test_the_mapping_is_a_mapping(ours, bobs):
    """Keys, values, items, len, bool, equality, update and union; Bob's stays empty."""
    assert not ours
    assert len(ours) == 0
    ours["a"].append(said("1"))
    ours["b"] = deque([said("2")])
    ours["c"] = [said("3"), said("4"), said("5"), said("6")]
    assert ours
    assert len(ours) == 3
    assert list(ours.keys()) == ["a", "b", "c"]
    assert list(reversed(ours)) == ["c", "b", "a"]
    assert [list(items) for items in ours.values()][:2] == [[said("1")], [said("2")]]
    expected = {"a": deque([said("1")]), "b": deque([said("2")]), "c": deque([said("4"), said("5"), said("6")])}
    assert dict(ours.items()) == expected
    assert ours == expected
    assert ours != {}
    assert ours.copy() == expected
    ours.update(d=[said("7")])
    ours |= {"e": deque([said("8")])}
    assert (ours | {"f": 1}).keys() == {"a", "b", "c", "d", "e", "f"}
    assert list(ours) == ["a", "b", "c", "d", "e"]
    assert not bobs
    assert bobs == {}


def test_get_pop_del_and_setdefault(ours):
    """A key can be had, taken, deleted and begun; a missing one raises KeyError where a dict does."""
    ours["a"].append(said("1"))
    assert list(ours.get("a")) == [said("1")]
    assert ours.get("b", []) == []
    assert ours.pop("a") == deque([said("1")])
    assert "a" not in ours
    assert ours.pop("a", None) is None
    for missing in (lambda: ours.pop("a"), lambda: ours.__delitem__("a")):
        with pytest.raises(KeyError):
            missing()
    ours.setdefault("a", deque(maxlen=3)).append(said("2"))
    ours.setdefault("a", [said("x")]).append(said("3"))
    ours.setdefault("b", [said("4")])
    ours.setdefault("c")
    assert {key: list(items) for key, items in ours.items()} == {
        "a": [said("2"), said("3")],
        "b": [said("4")],
        "c": [],
    }
    assert ours.popitem() == ("c", deque())
    assert ours.popitem() == ("b", deque([said("4")]))
    ours.clear()
    assert not ours
    with pytest.raises(KeyError):
        ours.popitem()


def test_a_cleared_deque_is_there_and_empty(ours, ada):
    """`clear()` deletes what was said, also what had left the deque, and keeps the key."""
    ours["s1"].extend([said(each) for each in "abcde"])
    ours["s1"].clear()
    assert "s1" in ours
    assert list(ours["s1"]) == []
    [conversation] = ada.list_conversations()["conversations"]
    assert conversation["message_count"] == 0
    ours["s2"].clear()
    assert "s2" not in ours


def test_assigning_what_goes_on_from_the_end_keeps_the_messages(ours, ada):
    """`SESSIONS[key] = list(SESSIONS[key])[-2:] + [...]` trims and appends; an empty one clears; another one replaces."""
    ours["s1"].extend([said(each) for each in "abc"])
    [conversation] = ada.list_conversations()["conversations"]
    ids = {each["content"]: each["id"] for each in ada.get_messages(conversation["id"])["messages"]}
    ours["s1"] = [*list(ours["s1"])[-2:], said("d")]
    assert list(ours["s1"]) == [said("b"), said("c"), said("d")]
    stored = ada.get_messages(conversation["id"])["messages"]
    assert {each["content"]: each["id"] for each in stored}.items() >= ids.items()
    ours["s1"] = list(ours["s1"])[-1:]
    assert list(ours["s1"]) == [said("d")]
    ours["s1"] = [said("x")]
    assert list(ours["s1"]) == [said("x")]
    assert ada.get_conversation(conversation["id"])["message_count"] == 1
    ours["s1"] = deque(maxlen=3)
    assert ("s1" in ours, list(ours["s1"])) == (True, [])


def test_what_is_no_deque_cannot_be_assigned(ours):
    """A text would be taken apart into letters."""
    for value in ("text", b"bytes", {"role": "user"}, 3, None):
        with pytest.raises(TypeError, match="A session is a deque or a list of items"):
            ours["s1"] = value
        assert "s1" not in ours


def test_a_deleted_key_begins_anew(ours, ada):
    """What was deleted is restorable from the trash, as often as a key is deleted, and the key is free at once."""
    for each in "abc":
        assert "s1" not in ours
        ours["s1"].append(said(each))
        assert list(ours["s1"]) == [said(each)]
        assert list(ours) == ["s1"]
        del ours["s1"]
    assert len(ada.list_conversations(status="deleted")["conversations"]) == 3
    ours["s1"].append(said("d"))
    ours["s1"].extend([said("e"), said("f")])
    assert list(ours["s1"]) == [said("d"), said("e"), said("f")]
    [conversation] = ada.list_conversations()["conversations"]
    assert conversation["message_count"] == 3


def test_a_conversation_deleted_by_its_owner_is_gone_for_the_app(ours, ada):
    """Deleted in the sidebar, gone on with in the chat: a new conversation; the old one can still be restored."""
    ours["s1"].append(said("old"))
    [old] = ada.list_conversations()["conversations"]
    ada.delete_conversation(old["id"])
    assert "s1" not in ours
    ours["s1"].append(said("new"))
    assert list(ours["s1"]) == [said("new")]
    restored = ada.restore_conversation(old["id"])
    assert restored["message_count"] == 1
    assert list(ours) == ["s1"]
    del ours["s1"]
    assert "s1" not in ours
    ada.prune()
    ours["s1"].append(said("newer"))
    assert list(ours["s1"]) == [said("newer")]


def test_a_conversation_deleted_for_good_leaves_its_successor(ours, ada):
    """When the trash is emptied, the conversation that followed under the same key stays the key's."""
    ours["s1"].append(said("old"))
    [old] = ada.list_conversations()["conversations"]
    ada.delete_conversation(old["id"])
    ours["s1"].append(said("new"))
    ada.delete_conversation(old["id"], permanent=True)
    assert list(ours["s1"]) == [said("new")]
    ours["s1"].append(said("newer"))
    assert list(ours["s1"]) == [said("new"), said("newer")]
    assert len(ada.list_conversations()["conversations"]) == 1


def test_archived_is_not_deleted(ours, ada):
    """What its owner has archived is still the key's conversation."""
    ours["s1"].append(said("a"))
    [conversation] = ada.list_conversations()["conversations"]
    ada.archive_conversation(conversation["id"])
    assert list(ours) == ["s1"]
    assert list(ours["s1"]) == [said("a")]


def test_conversations_of_other_origin_are_no_keys(ours, ada):
    """Only what was made through the sessions is listed, and what others add to it is shown."""
    ada.create_conversation("by hand")
    ada.create_conversation(id="mine")
    ours["s1"].append(said("a"))
    assert list(ours) == ["s1"]
    assert "mine" not in ours
    ada.save_message("session:s1", "assistant", "from elsewhere")
    assert list(ours["s1"]) == [said("a"), said("from elsewhere", "assistant")]


def test_keys_are_listed_over_all_pages(sessions_of):
    """More keys than a page, in the order in which they were made."""
    ours = sessions_of("ada")
    names = [f"key {n}" for n in range(105)]
    for name in names:
        ours.setdefault(name)
    assert list(ours) == names
    assert len(ours) == 105


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_maxlen_that_is_none(conversations):
    """Refused where the sessions are made, not when they are used."""
    for maxlen in (0, -1, 2.5, True, "20"):
        with pytest.raises(ValueError, match="maxlen"):
            conversations.sessions(maxlen)


def test_without_a_request_a_user_must_be_named(app, conversations):
    """The error says how."""
    for context in (app.app_context(), app.test_request_context()):
        with context, pytest.raises(IdentityRequired):
            conversations.sessions()["s1"]
    with pytest.raises(IdentityRequired, match=r"SESSIONS\.as_user\('ada', app=app\)"):
        conversations.sessions()["s1"]
