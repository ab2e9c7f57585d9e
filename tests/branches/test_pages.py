"""Pages of a tree: of any branch, from either end, with the siblings of what they show."""

from __future__ import annotations

from typing import Any

import pytest

from flask_conversations.errors import ConversationNotFound, ValidationFailed

from ..infra.apps import client_of
from ..infra.service import messages_json
from .tools import forwards, ids, said, texts, whole


@pytest.fixture
def tree(ada, chat):
    """`m1` to `m6`, and beside `m4` the path `o4` to `o9`, which is active; `main` is what `other` was split from."""
    found = ids(ada, chat)
    ada.branches.create(chat, found["m3"], "other")
    ada.branches.switch(chat, "other")
    ada.save_messages(chat, said(*(f"o{n}" for n in range(4, 10))))
    return chat


def test_a_page_before_a_message_is_what_led_to_it(ada, bob, tree):
    """On the active branch and on any other, by id, seq and cursor; and a seq beyond the last bounds nothing."""
    main, other = ids(ada, tree, branch="main"), ids(ada, tree)
    assert texts(ada.get_messages(tree, before=other["o6"], limit=3)) == ["m3", "o4", "o5"]
    assert texts(ada.get_messages(tree, before=main["m6"], limit=3)) == ["m3", "m4", "m5"]
    assert texts(ada.get_messages(tree, branch="main", before=main["m5"], limit=2)) == ["m3", "m4"]
    assert texts(ada.get_messages(tree, before=13, limit=2)) == ["o8", "o9"]
    assert texts(ada.get_messages(tree, before=10**12, limit=2)) == ["o8", "o9"]
    assert texts(ada.get_messages(tree, before=1)) == texts(ada.get_messages(tree, before=0)) == []
    with pytest.raises(ConversationNotFound):
        bob.get_messages(tree, before=3)


def test_a_page_before_a_deleted_message_is_what_led_to_it(ada, bob, tree):
    """A cursor goes on leading back when the message it was made at is gone."""
    other = ids(ada, tree)
    page = ada.get_messages(tree, limit=4)
    for text in ("o6", "o5"):
        ada.delete_message(tree, other[text])
    assert texts(ada.get_messages(tree, before=page["next_cursor"], limit=3)) == ["m2", "m3", "o4"]
    assert not bob.conversation_exists(tree)


def test_a_page_after_a_place_goes_on_along_its_branch(ada, bob, tree):
    """The first ones behind it, oldest first, whichever branch the place is on."""
    main = ids(ada, tree, branch="main")
    assert texts(ada.get_messages(tree, after=2, limit=3)) == ["m3", "o4", "o5"]
    assert texts(ada.get_messages(tree, after=main["m5"], limit=2)) == ["o4", "o5"]
    assert texts(ada.get_messages(tree, branch="main", after=2)) == ["m3", "m4", "m5", "m6"]
    assert texts(ada.get_messages(tree, after=0, limit=2)) == ["m1", "m2"]
    assert texts(ada.get_messages(tree, after=12)) == []
    assert not bob.conversation_exists(tree)


def test_cursors_lead_through_the_whole_branch(ada, tree, subtests):
    """Both ways, without a gap or anything twice."""
    main, other = ["m1", "m2", "m3", "m4", "m5", "m6"], ["m1", "m2", "m3", "o4", "o5", "o6", "o7", "o8", "o9"]
    for branch, wanted in ((None, other), ("main", main), ("other", other)):
        for limit in (1, 2, 5, 100):
            with subtests.test(branch=branch, limit=limit):
                assert [one["content"] for one in whole(ada, tree, branch=branch, limit=limit)] == wanted
                assert [one["content"] for one in forwards(ada, tree, branch=branch, limit=limit)] == wanted


def test_an_unknown_branch_is_refused_by_name(ada, bob, tree):
    """But to a stranger the conversation is not there."""
    for name in ("nowhere", "", " ", "x" * 129, "a\0b", 7):
        with pytest.raises(ValidationFailed) as refused:
            ada.get_messages(tree, branch=name)
        assert set(refused.value.errors) == {"branch"}
        with pytest.raises((ValidationFailed, ConversationNotFound)):
            bob.get_messages(tree, branch=name)
    with pytest.raises(ConversationNotFound):
        bob.get_messages(tree, branch="main")


def test_siblings_are_counted_where_there_are_any(ada, bob, tree):
    """Those that answer the same message, in their order; deleted ones do not count."""
    main, other = ids(ada, tree, branch="main"), ids(ada, tree)
    pair = [main["m4"], other["o4"]]
    assert ada.get_messages(tree, siblings=True)["siblings"] == {other["o4"]: {"index": 2, "count": 2, "ids": pair}}
    assert ada.get_messages(tree, siblings=True, branch="main")["siblings"] == {
        main["m4"]: {"index": 1, "count": 2, "ids": pair}
    }
    assert ada.get_messages(tree, siblings=True, limit=3)["siblings"] == {}
    third = ada.save_message(tree, "user", "third", parent_id=main["m3"])["id"]
    assert ada.get_messages(tree, siblings=True, limit=1)["siblings"] == {
        third: {"index": 3, "count": 3, "ids": [*pair, third]}
    }
    ada.delete_message(tree, other["o4"])
    # what answered the deleted one answers its parent now
    ada.branches.switch(tree, other["o9"])
    shown = ada.get_messages(tree, siblings=True)["siblings"]
    assert shown[other["o5"]]["ids"] == [main["m4"], other["o5"], third]
    assert "siblings" not in ada.get_messages(tree)
    with pytest.raises(ConversationNotFound):
        bob.get_messages(tree, siblings=True)


def test_roots_are_siblings_of_roots(ada, bob, chat):
    """Where the first message is gone, several may answer none."""
    found = ids(ada, chat)
    second = ada.save_message(chat, "user", "second", parent_id=found["m1"])["id"]
    ada.delete_message(chat, found["m1"])
    assert ada.get_messages(chat, siblings=True)["siblings"] == {
        second: {"index": 2, "count": 2, "ids": [found["m2"], second]}
    }
    assert not bob.conversation_exists(chat)


def test_a_straight_conversation_has_no_siblings(ada, bob, chat):
    """Nor has an empty one."""
    assert ada.get_messages(chat, siblings=True)["siblings"] == {}
    assert ada.get_messages(ada.create_conversation()["id"], siblings=True)["siblings"] == {}
    assert messages_json(ada, chat, siblings=True)["siblings"] == {}
    for refused in (1, "yes", None):
        with pytest.raises(ValidationFailed):
            ada.get_messages(chat, siblings=refused)
    assert not bob.conversation_exists(chat)


def test_the_json_page_is_the_same_page(ada, bob, tree):
    """As text and as dicts, of any branch, with siblings or without."""
    for options in ({}, {"siblings": True}, {"branch": "main", "siblings": True}, {"before": 5, "siblings": True}):
        page = ada.get_messages(tree, **options)
        assert messages_json(ada, tree, **options) == page
    assert not bob.conversation_exists(tree)


SIZES = pytest.mark.parametrize("size", [15, 1200, pytest.param(5000, marks=pytest.mark.long)])
BRANCHED: dict[str, tuple[int, Any]] = {
    "newest page": (2, lambda ada, at: ada.get_messages(at["chat"])),
    "page with siblings": (3, lambda ada, at: ada.get_messages(at["chat"], siblings=True)),
    "page before": (2, lambda ada, at: ada.get_messages(at["chat"], before=at["seq"])),
    "page after": (2, lambda ada, at: ada.get_messages(at["chat"], after=at["seq"])),
    "page of a branch": (2, lambda ada, at: ada.get_messages(at["chat"], branch="other")),
    "page of the active branch by name": (2, lambda ada, at: ada.get_messages(at["chat"], branch="main")),
    "history": (2, lambda ada, at: ada.get_conversation_history(at["chat"])),
    "branches": (2, lambda ada, at: ada.branches.list(at["chat"])),
    "switch": (7, lambda ada, at: ada.branches.switch(at["chat"], "other")),
    "switch back": (7, lambda ada, at: ada.branches.switch(at["chat"], "main")),
    "switch to a message": (6, lambda ada, at: ada.branches.switch(at["chat"], at["message"])),
    "create": (4, lambda ada, at: ada.branches.create(at["chat"], at["message"], "new")),
    "delete": (4, lambda ada, at: ada.branches.delete(at["chat"], "new")),
    "append": (2, lambda ada, at: ada.save_message(at["chat"], "user", "x")),
}
STRAIGHT: dict[str, tuple[int, Any]] = {
    "newest page": (1, lambda ada, at: ada.get_messages(at["chat"])),
    "page with siblings": (1, lambda ada, at: ada.get_messages(at["chat"], siblings=True)),
    "page before": (1, lambda ada, at: ada.get_messages(at["chat"], before=at["seq"])),
    "page of main": (2, lambda ada, at: ada.get_messages(at["chat"], branch="main")),
    "branches": (1, lambda ada, at: ada.branches.list(at["chat"])),
}


@SIZES
def test_calls_cost_the_same_number_of_statements(make_app, statements, size):
    """With 15 messages as with thousands; and a straight conversation pays nothing for what it does not have."""
    app = make_app(CONVERSATIONS_CACHE=False)
    ada = app.conversations.as_user("ada", app=app)
    chat = ada.create_conversation(messages=said(*(f"m{n}" for n in range(size))))["id"]
    last = ada.get_messages(chat)["messages"][-5]
    at = {"chat": chat, "seq": last["seq"], "message": last["id"]}
    assert {name: cost(app, statements, call, ada, at) for name, (_, call) in STRAIGHT.items()} == {
        name: most for name, (most, _) in STRAIGHT.items()
    }
    ada.branches.create(chat, last["id"], "other")
    ada.save_message(chat, "user", "x", parent_id=last["id"])
    for name, (most, call) in BRANCHED.items():
        assert cost(app, statements, call, ada, at) <= most, name


def cost(app, statements, call, ada, at):
    with statements(app) as seen:
        call(ada, at)
    return len(seen)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_page_of_a_long_branch_reads_about_a_page(app, ada, bob):
    """Wherever it stands, SQLite takes about the same number of steps for it: it does not walk there from the tip."""
    size = 1500
    chat = ada.create_conversation(messages=said(*(f"m{n}" for n in range(size))))["id"]
    fork = ada.get_messages(chat, before=80, limit=1)["messages"][0]
    ada.branches.create(chat, fork["id"], "other")

    def work(**options: Any) -> int:
        taken = [0]

        def count() -> None:
            taken[0] += 1

        with app.app_context():
            connection = app.db.session.connection().connection.driver_connection
            connection.set_progress_handler(count, 100)
            try:
                app.conversations.as_user("ada").get_messages(chat, limit=50, **options)
            finally:
                connection.set_progress_handler(None, 100)
        return taken[0]

    least = work()
    assert least > 0
    assert work(before=100) < 3 * least
    assert work(before=size // 2) < 3 * least
    assert work(after=size - 10) < 3 * least
    assert work(branch="other") < 3 * least
    assert not bob.conversation_exists(chat)


def test_warm_is_cold(make_app, redis_url):
    """Out of Redis and out of the database: the same pages, siblings and branches, after each kind of change."""
    warm = make_app(CONVERSATIONS_REDIS_URL=redis_url, CONVERSATIONS_CACHE_STRICT=False)
    cold = make_app(CONVERSATIONS_CACHE=False)
    ada, truth = (one.conversations.as_user("ada", app=one) for one in (warm, cold))
    chat = ada.create_conversation(messages=said(*(f"m{n}" for n in range(1, 21))))["id"]
    found = ids(truth, chat)

    def same() -> None:
        for _ in range(2):
            for options in ({}, {"limit": 5}, {"limit": 5, "siblings": True}, {"branch": "main", "limit": 15}):
                pages = [one.get_messages(chat, **options) for one in (ada, truth)]
                assert {**pages[0], "next_cursor": None} == {**pages[1], "next_cursor": None}
            assert ada.get_conversation_history(chat, 15) == truth.get_conversation_history(chat, 15)
            assert ada.branches.list(chat) == truth.branches.list(chat)

    steps = [
        lambda: ada.branches.create(chat, found["m10"], "other"),
        lambda: ada.branches.switch(chat, "other"),
        lambda: ada.save_message(chat, "user", "o11"),
        lambda: ada.branches.switch(chat, found["m12"]),
        lambda: ada.branches.switch(chat, "main"),
        lambda: ada.save_message(chat, "user", "again", parent_id=found["m19"]),
        lambda: ada.delete_message(chat, found["m10"]),
        lambda: ada.branches.switch(chat, "other"),
        lambda: ada.save_message(chat, "user", "o12"),
        lambda: ada.clear_conversation(chat),
        lambda: ada.save_message(chat, "user", "new"),
    ]
    same()
    for step in steps:
        step()
        same()


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_warm_page_costs_no_statement(make_app, redis_url, statements):
    """Siblings are asked for, or they are not there: without them, a branched conversation is read from Redis alone."""
    app = make_app(CONVERSATIONS_REDIS_URL=redis_url, CONVERSATIONS_CACHE_STRICT=False)
    ada = app.conversations.as_user("ada", app=app)
    chat = ada.create_conversation(messages=said("m1", "m2", "m3"))["id"]
    ada.save_message(chat, "user", "other", parent_id=ids(ada, chat)["m1"])
    ada.get_messages(chat)
    client = client_of(app, "ada")
    path = f"/api/conversations/{chat}/messages"
    client.get(path)
    for options, path_of, most in (({}, path, 0), ({"siblings": True}, f"{path}?include=siblings", 1)):
        with statements(app) as seen:
            ada.get_messages(chat, **options)
        assert len(seen) == most
        with statements(app) as seen:
            assert client.get(path_of).status_code == 200
        assert len(seen) == most
