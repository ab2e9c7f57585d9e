"""Reading messages: the model's history, and pages in both directions."""

from __future__ import annotations

import pytest

from flask_conversations.errors import NotFound, ValidationFailed

from .tools import NEVER, contents, everything


@pytest.fixture
def chat(ada, bob):
    """Ada's conversation of 10 messages; Bob has one too."""
    bob.create_conversation(id="his", messages=[{"role": "user", "content": "his"}])
    batch = [{"role": "user" if n % 2 else "assistant", "content": str(n), "client_id": f"k{n}"} for n in range(1, 11)]
    return ada.create_conversation(messages=batch)["id"]


def said(found):
    return [message["content"] for message in found]


def numbers(first, last):
    return [str(n) for n in range(first, last + 1)]


# -- history ----------------------------------------------------------------------------------------------------------


def test_the_newest_in_chronological_order(ada, bob, chat, subtests):
    """limit means the newest N, oldest first, as role and content."""
    for limit, first in ((1, 10), (3, 8), (10, 1), (11, 1), (1_000_000, 1)):
        with subtests.test(limit=limit):
            found = ada.get_conversation_history(chat, limit)
            assert said(found) == numbers(first, 10)
            assert found[-1] == {"role": "assistant", "content": "10"}
            with pytest.raises(NotFound):
                bob.get_conversation_history(chat, limit)


def test_an_empty_history(ada):
    """An empty conversation has an empty history; no messages asked for are no messages."""
    empty = ada.create_conversation()["id"]
    assert ada.get_conversation_history(empty) == []
    ada.save_message(empty, "user", "x")
    assert ada.get_conversation_history(empty, 0) == []
    with pytest.raises(NotFound):
        ada.get_conversation_history(NEVER)


@pytest.mark.parametrize("settings", [{"CONVERSATIONS_HISTORY_LIMIT": 4}, {"MAX_HISTORY": "4"}])
def test_the_default_limit_is_a_setting(make_app, settings):
    """CONVERSATIONS_HISTORY_LIMIT, or the seed's MAX_HISTORY, is the limit where none is given."""
    app = make_app(**settings)
    ada = app.conversations.as_user("ada", app=app)
    chat = ada.create_conversation(messages=[{"role": "user", "content": str(n)} for n in range(9)])
    assert said(ada.get_conversation_history(chat["id"])) == ["5", "6", "7", "8"]


def test_the_default_limit_is_20(ada):
    """Without setting and argument, the newest 20."""
    chat = ada.create_conversation(messages=[{"role": "user", "content": str(n)} for n in range(25)])
    assert said(ada.get_conversation_history(chat["id"])) == [str(n) for n in range(5, 25)]


def test_max_tokens_keeps_the_newest_that_fit(make_app):
    """max_tokens counts with the host's counter and keeps the newest, the question included."""
    app = make_app(options={"token_counter": len})
    ada = app.conversations.as_user("ada", app=app)
    batch = [
        {"role": role, "content": text} for role, text in (("user", "a" * 50), ("assistant", "bb"), ("user", "cc"))
    ]
    chat = ada.create_conversation(messages=batch)["id"]
    assert said(ada.get_conversation_history(chat, max_tokens=4)) == ["bb", "cc"]
    assert said(ada.get_conversation_history(chat, max_tokens=54)) == ["a" * 50, "bb", "cc"]
    assert said(ada.get_conversation_history(chat, 1, max_tokens=100)) == ["cc"]


def test_every_format_passes_through(ada, subtests):
    """The format is that of the model's API; the newest message is in it."""
    chat = ada.create_conversation(messages=[{"role": "user", "content": "hello there"}])
    for form in ("openai", "responses", "anthropic", "langchain", "ui"):
        with subtests.test(form):
            found = ada.get_conversation_history(chat["id"], format=form)
            assert len(found) == 1
            assert "hello there" in repr(found)


def test_history_hides_what_is_deleted_and_shows_what_is_edited(ada, chat):
    """The model sees what the user sees."""
    ada.delete_message(chat, "k10")
    ada.update_message(chat, "k9", content="nine")
    assert said(ada.get_conversation_history(chat, 2)) == ["8", "nine"]


def test_bad_history_arguments_name_their_field(ada, chat):
    """What cannot be a limit, a budget or a format is refused by name."""
    bad = {
        "limit": [-1, "3", 1.5, True, 10**7, 10**30],
        "max_tokens": [-1, "3", 1.5, True],
        "format": ["", "gpt", None, 7, ["openai"]],
        "min_version": [-1, "1", True, 2**63],
    }
    for field, values in bad.items():
        for value in values:
            with pytest.raises(ValidationFailed) as refused:
                ada.get_conversation_history(chat, **{field: value})
            assert list(refused.value.errors) == [field]


# -- pages ------------------------------------------------------------------------------------------------------------


def test_the_newest_page_first(ada, bob, chat):
    """Without a place, the newest messages, oldest first, with the version they were read at."""
    page = ada.get_messages(chat, limit=4)
    assert said(page["messages"]) == numbers(7, 10)
    assert page["has_more"] is True
    assert page["version"] == ada.get_conversation(chat)["version"]
    assert ada.get_messages(chat)["messages"] == everything(ada, chat)
    with pytest.raises(NotFound):
        bob.get_messages(chat)


def test_walking_back_and_forth(ada, chat, subtests):
    """Pages of any size, backwards from the newest or forwards from the first, show every message once."""
    for limit in (1, 2, 3, 4, 5, 9, 10, 11, 100):
        with subtests.test(limit=limit):
            assert said(everything(ada, chat, limit)) == numbers(1, 10)
            found, place = [], 0
            while place is not None:
                page = ada.get_messages(chat, limit=limit, after=place)
                found += page["messages"]
                place = page["next_cursor"]
            assert said(found) == numbers(1, 10)


def test_walking_back_while_others_write(ada, chat):
    """New messages do not shift the pages of one who walks back."""
    found, place = [], None
    for _ in range(10):
        page = ada.get_messages(chat, limit=3, before=place)
        found = page["messages"] + found
        place = page["next_cursor"]
        if place is None:
            break
        ada.save_message(chat, "user", "new")
    assert said(found) == numbers(1, 10)


def test_a_place_by_id_client_id_or_seq(ada, chat, subtests):
    """before and after take a message id, a client id or a seq, and leave that message out."""
    message = everything(ada, chat)[4]
    for place in (message["id"], message["client_id"], message["seq"], str(message["seq"])):
        with subtests.test(place=place):
            before, after = ada.get_messages(chat, limit=3, before=place), ada.get_messages(chat, limit=3, after=place)
            assert (said(before["messages"]), before["has_more"]) == (numbers(2, 4), True)
            assert (said(after["messages"]), after["has_more"]) == (numbers(6, 8), True)


def test_places_at_the_ends(ada, chat):
    """Before the first and after the last there is nothing, and no next page."""
    for place in ({"before": 1}, {"before": 0}, {"after": 10}, {"after": 2**63 - 1}):
        page = ada.get_messages(chat, **place)
        assert (page["messages"], page["has_more"], page["next_cursor"]) == ([], False, None)
    assert said(ada.get_messages(chat, before=2**63 - 1)["messages"]) == numbers(1, 10)
    assert said(ada.get_messages(chat, after=0)["messages"]) == numbers(1, 10)


def test_following_after_reaches_what_is_new(ada, chat):
    """A reader at the newest message asks for what came after it, and gets exactly that."""
    newest = everything(ada, chat)[-1]
    assert ada.get_messages(chat, after=newest["id"])["messages"] == []
    new = [ada.save_message(chat, "user", str(n)) for n in (11, 12)]
    assert ada.get_messages(chat, after=newest["id"])["messages"] == new


def test_a_deleted_message_is_still_a_place(ada, chat):
    """One who had read up to a message that is gone now can go on from there."""
    ids = [message["id"] for message in everything(ada, chat)]
    ada.delete_message(chat, ids[4])
    assert said(ada.get_messages(chat, limit=2, before=ids[4])["messages"]) == ["3", "4"]
    assert said(ada.get_messages(chat, limit=2, after="k5")["messages"]) == ["6", "7"]
    assert said(everything(ada, chat, 2)) == numbers(1, 4) + numbers(6, 10)


def test_a_page_has_100_messages_at_most(ada):
    """A limit above 100 answers 100."""
    chat = ada.create_conversation(messages=[{"role": "user", "content": str(n)} for n in range(130)])["id"]
    for limit in (100, 101, "1000", 10**30):
        assert len(ada.get_messages(chat, limit=limit)["messages"]) == 100
    assert contents(ada, chat) == [str(n) for n in range(130)]


def test_places_of_others_are_refused(ada, bob, chat):
    """A cursor or id of another conversation or user is no place here."""
    other = ada.create_conversation(messages=[{"role": "user", "content": str(n)} for n in range(3)])["id"]
    foreign = bob.get_messages("his")["messages"][0]["id"]
    cursor = ada.get_messages(other, limit=1)["next_cursor"]
    mine = ada.get_messages(chat, limit=1)["next_cursor"]
    for bad in (cursor, everything(ada, other)[0]["id"], foreign, NEVER):
        with pytest.raises(ValidationFailed) as refused:
            ada.get_messages(chat, before=bad)
        assert list(refused.value.errors) == ["before"]
    with pytest.raises(ValidationFailed):
        bob.get_messages("his", after=mine)


def test_bad_page_arguments_name_their_field(ada, chat):
    """What can be no limit, place or branch is refused by name, and before and after exclude each other."""
    cursor = ada.get_messages(chat, limit=1)["next_cursor"]
    bad = {
        "limit": [0, -1, "-1", "1e3", "１２", "", 1.5, True, None, []],
        "before": [
            "",
            "~",
            cursor[:-1],
            cursor + "x",
            cursor.swapcase(),
            -1,
            True,
            1.5,
            2**63,
            "9" * 19,
            "\x00",
            ["k1"],
        ],
        "after": ["", "unknown", "\ud800", "k1 ", b"k1", {}, -(10**30)],
        "branch": ["", "other", 7],
    }
    for field, values in bad.items():
        for value in values:
            with pytest.raises(ValidationFailed) as refused:
                ada.get_messages(chat, **{field: value})
            assert list(refused.value.errors) == [field], value
    with pytest.raises(ValidationFailed):
        ada.get_messages(chat, before=3, after=1)
    assert said(ada.get_messages(chat, branch="main", limit=1)["messages"]) == ["10"]


def test_one_message(ada, bob, chat):
    """A message by id or client id, for its owner, in its own conversation only."""
    message = everything(ada, chat)[2]
    assert ada.get_message(chat, message["id"]) == ada.get_message(chat, "k3") == message
    other = ada.create_conversation()["id"]
    for service, conversation_id, message_id in (
        (bob, chat, message["id"]),
        (bob, "his", message["id"]),
        (ada, other, message["id"]),
        (ada, chat, NEVER),
        (ada, chat, "k99"),
        (ada, chat, ""),
        (ada, chat, 3),
        (ada, chat, None),
        (ada, chat, "\x00"),
    ):
        with pytest.raises(NotFound):
            service.get_message(conversation_id, message_id)


def test_every_read_takes_min_version(ada, chat):
    """A read may ask to be at least as new as a version seen before."""
    version = ada.get_conversation(chat)["version"]
    for read, *arguments in (
        (ada.get_conversation,),
        (ada.get_message, "k1"),
        (ada.get_messages,),
        (ada.get_conversation_history,),
    ):
        assert read(chat, *arguments, min_version=version) == read(chat, *arguments)
        with pytest.raises(ValidationFailed) as refused:
            read(chat, *arguments, min_version="1")
        assert list(refused.value.errors) == ["min_version"]
