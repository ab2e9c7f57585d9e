"""Listing conversations: order, cursors, offsets and filters."""

from __future__ import annotations

import itertools

import pytest

from flask_conversations.errors import ValidationFailed

from .tools import walk


def titles(page):
    return [chat["title"] for chat in page["conversations"]]


def make(service, *names, **fields):
    return [service.create_conversation(name, **fields) for name in names]


def test_the_last_active_comes_first(ada, bob):
    """The list is the user's own, the last active conversation first, without messages."""
    first, _, _ = make(ada, "a", "b", "c")
    make(bob, "secret")
    ada.save_message(first["id"], "user", "wakes up")
    page = ada.list_conversations()
    assert titles(page) == ["a", "c", "b"]
    assert (page["has_more"], page["next_cursor"]) == (False, None)
    assert "messages" not in page["conversations"][0]
    assert page["conversations"][0] == ada.get_conversation(first["id"])
    assert titles(bob.list_conversations()) == ["secret"]


def test_renaming_does_not_reorder(ada):
    """Only messages count as activity: a renamed or starred conversation stays where it is."""
    first, _ = make(ada, "a", "b")
    ada.update_conversation(first["id"], title="z", starred=True)
    assert titles(ada.list_conversations()) == ["b", "z"]
    assert titles(ada.list_conversations(order="-updated_at")) == ["z", "b"]


ORDERS = ["last_activity_at", "updated_at", "created_at", "title"]


def test_every_order_walks_both_ways(ada, bob, subtests):
    """Each order, page by page, gives every conversation once, and its reverse the reverse."""
    names = ["delta", "alpha", "charlie", "bravo", "echo", "alpha", "alpha"]
    made = make(ada, *names)
    make(bob, "zulu", "aaaa")
    for place in (3, 1, 5):
        ada.save_message(made[place]["id"], "user", "hi")
    ada.update_conversation(made[0]["id"], starred=True)
    for order in [sign + name for name in ORDERS for sign in ("", "-")]:
        with subtests.test(order):
            found = in_order(ada, order, limit=2)
            assert sorted(chat["id"] for chat in found) == sorted(chat["id"] for chat in made)
            keys = [(chat[order.lstrip("-")], chat["id"]) for chat in found]
            assert keys == sorted(keys, reverse=order.startswith("-"))


def in_order(service, order, limit):
    """All conversations in that order, read page by page."""
    return walk(lambda cursor: service.list_conversations(limit=limit, order=order, cursor=cursor), "conversations")


def test_untitled_conversations_page_by_title(ada):
    """Conversations without a title of their own have a place in the order by title too."""
    make(ada, None, "b", None, "a", None)
    assert [chat["title"] for chat in in_order(ada, "title", limit=1)] == ["New Conversation"] * 3 + ["a", "b"]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
def test_cursors_walk_everything_once_while_others_insert(ada, bob, limit):
    """Conversations created meanwhile neither shift the pages nor show a conversation twice."""
    made = make(ada, *"abcdefg")
    news = itertools.count()

    def page(cursor):
        found = ada.list_conversations(limit=limit, cursor=cursor)
        make(ada, f"new {next(news)}")
        make(bob, "his")
        return found

    found = walk(page, "conversations")
    assert [chat["id"] for chat in found] == [chat["id"] for chat in reversed(made)]


def test_a_cursor_survives_the_deletion_of_its_conversation(ada):
    """The next page begins where the last one ended, even if that conversation is gone."""
    made = make(ada, *"abcd")
    page = ada.list_conversations(limit=2)
    ada.delete_conversation(made[2]["id"], permanent=True)
    assert titles(ada.list_conversations(limit=2, cursor=page["next_cursor"])) == ["b", "a"]


def test_pages_by_offset(ada, bob):
    """Clients that count pages can use limit and offset."""
    make(ada, *"abcde")
    make(bob, *"xyz")
    assert titles(ada.list_conversations(limit=2, offset=0)) == ["e", "d"]
    assert titles(ada.list_conversations(limit=2, offset=2)) == ["c", "b"]
    last = ada.list_conversations(limit=2, offset=4)
    assert (titles(last), last["has_more"]) == (["a"], False)
    assert titles(ada.list_conversations(limit=2, offset=99)) == []
    assert titles(ada.list_conversations(offset=2**63 - 1)) == []


def test_a_page_has_100_at_most(ada):
    """A limit above 100 answers 100."""
    with ada.transaction():
        make(ada, *map(str, range(101)))
    page = ada.list_conversations(limit=10_000)
    assert (len(page["conversations"]), page["has_more"]) == (100, True)
    assert titles(ada.list_conversations(limit=100, cursor=page["next_cursor"])) == ["0"]


def test_each_status_has_its_list(ada, bob):
    """Active, archived, resolved and deleted conversations are listed apart, `all` is all but the trash."""
    _, archived, resolved, deleted = make(ada, "active", "archived", "resolved", "deleted")
    make(bob, "his")
    ada.archive_conversation(archived["id"])
    ada.resolve_conversation(resolved["id"])
    ada.delete_conversation(deleted["id"])
    for status in ("active", "archived", "resolved", "deleted"):
        assert titles(ada.list_conversations(status=status)) == [status]
    assert sorted(titles(ada.list_conversations(status="all"))) == ["active", "archived", "resolved"]
    assert titles(ada.list_conversations()) == ["active"]


FILTERED = [
    ({"starred": True}, ["s"]),
    ({"starred": False}, ["c", "f", "t"]),
    ({"tag": "red"}, ["t"]),
    ({"tag": "Red"}, []),
    ({"tag": "%"}, []),
    ({"folder": "work"}, ["f"]),
    ({"context_type": "page"}, ["c"]),
    ({"context_type": "page", "context_id": "7"}, ["c"]),
    ({"context_type": "page", "context_id": "8"}, []),
    ({"tag": "red", "starred": True}, []),
]


def test_filters(ada, bob, subtests):
    """Each filter narrows the list, together they narrow it further, and none reaches another user's conversations."""
    everything = {
        "s": {"starred": True},
        "t": {"tags": ["red", "blue"]},
        "f": {"folder": "work"},
        "c": {"context_type": "page", "context_id": "7"},
    }
    for service in (ada, bob):
        for name, fields in everything.items():
            service.create_conversation(name, **fields)
    for filters, expected in FILTERED:
        with subtests.test(**filters):
            found = ada.list_conversations(**filters)["conversations"]
            assert sorted(chat["title"] for chat in found) == expected
            assert {chat["user_id"] for chat in found} <= {"ada"}


def test_a_changed_tag_is_found_and_the_old_one_is_not(ada):
    """The filter by tag follows every change of the tags."""
    chat = ada.create_conversation("t", tags=["a", "b"])
    ada.update_conversation(chat["id"], tags=["b", "c"])
    assert [len(ada.list_conversations(tag=tag)["conversations"]) for tag in "abc"] == [0, 1, 1]
    ada.update_conversation(chat["id"], tags=[])
    assert [len(ada.list_conversations(tag=tag)["conversations"]) for tag in "abc"] == [0, 0, 0]


def test_organisations_are_apart(app, conversations):
    """The same user id in two organisations, or in none, is three owners."""
    services = [conversations.as_user("ada", org, app=app) for org in (None, "acme", "other")]
    for index, service in enumerate(services):
        service.create_conversation(str(index))
    assert [titles(service.list_conversations()) for service in services] == [["0"], ["1"], ["2"]]


def test_the_system_sees_all(app, conversations, ada, bob):
    """The system lists the conversations of all users and owns none."""
    make(ada, "hers")
    make(bob, "his")
    assert sorted(titles(conversations.as_system(app=app).list_conversations())) == ["hers", "his"]


def cursor_of(service, **arguments):
    make(service, "a", "b")
    return service.list_conversations(limit=1, **arguments)["next_cursor"]


def test_another_users_cursor_is_refused(ada, bob):
    """A cursor works for the user it was given to only."""
    cursor = cursor_of(ada)
    make(bob, "x")
    with pytest.raises(ValidationFailed) as refused:
        bob.list_conversations(cursor=cursor)
    assert list(refused.value.errors) == ["cursor"]


def test_a_cursor_is_for_its_own_list(ada):
    """A cursor of one order or filter is refused by another, and by the pages of messages."""
    cursor = cursor_of(ada)
    chat = ada.create_conversation()
    for other in ({"order": "title"}, {"starred": False}, {"status": "all"}):
        with pytest.raises(ValidationFailed):
            ada.list_conversations(cursor=cursor, **other)
    with pytest.raises(ValidationFailed):
        ada.get_messages(chat["id"], before=cursor)


def test_tampered_cursors_are_refused(ada):
    """No change of a cursor is accepted."""
    cursor = cursor_of(ada)
    assert len(ada.list_conversations(cursor=cursor)["conversations"]) == 1
    changed = [cursor[:-1], cursor + "x", cursor[1:], cursor.swapcase(), "~", "", "~" + "a" * 5000, cursor[:8] + "é"]
    changed += [cursor[:place] + ("A" if cursor[place] != "A" else "B") + cursor[place + 1 :] for place in range(1, 20)]
    for bad in [*changed, 7, b"~x", ["~x"], True, "\x00", "\ud800"]:
        with pytest.raises(ValidationFailed):
            ada.list_conversations(cursor=bad)


NO_ARGUMENTS = {
    "limit": [0, -1, "-1", "1e3", "１２", "", 1.5, True, None, "+1", " 1", [], 10**500],
    "offset": [-1, "x", 1.5, 10**19, True, "１２"],
    "status": ["", "ACTIVE", "gone", 1, ["active"]],
    "order": ["", "id", "--title", "title,", "title; drop", 1],
    "starred": ["yes", 1, 0],
    "tag": ["x" * 65, 1, "\x00", "\ud800", ["a"]],
    "folder": ["x" * 256, 1, "\x00", "\ud800"],
}


def test_bad_arguments_name_their_field(ada, subtests):
    """A value that no list can have is refused by name, on every database."""
    for field, values in NO_ARGUMENTS.items():
        for value in values:
            with subtests.test(field, value=ascii(value)[:40]):
                with pytest.raises(ValidationFailed) as refused:
                    ada.list_conversations(**{field: value})
                assert list(refused.value.errors) == [field]


def test_cursor_and_offset_exclude_each_other(ada):
    """A page is named by cursor or by offset, not by both."""
    with pytest.raises(ValidationFailed):
        ada.list_conversations(cursor=cursor_of(ada), offset=1)
