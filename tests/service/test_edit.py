"""Changing messages: edit, rate, delete, pop, clear and replace, with counters that stay exact."""

from __future__ import annotations

import pytest

from flask_conversations.errors import NotFound, ValidationFailed, VersionConflict

from .tools import NEVER, check, check_invisible, contents, everything, sequence, sql


@pytest.fixture
def chat(ada, bob):
    """Ada's conversation of four messages; Bob has one too."""
    bob.create_conversation(id="his", messages=[{"role": "user", "content": "his"}])
    return of_letters(ada, "abcd")


def of_letters(service, letters):
    """A conversation with a message for each letter, which is its client id too."""
    batch = [{"role": "user", "content": text, "client_id": text, "metadata": {"n": text}} for text in letters]
    return service.create_conversation(messages=batch)["id"]


def untouched(bob):
    assert contents(bob, "his") == ["his"]
    assert check(bob, "his")["version"] == 1


# -- edit -------------------------------------------------------------------------------------------------------------


def test_an_edit_changes_the_message_in_place(ada, bob, chat):
    """Content and metadata change, edited_at says so, seq and ids stay, and the version rises by one."""
    before = ada.get_message(chat, "b")
    edited = ada.update_message(chat, "b", content="B", metadata={"x": [1]})
    changed = {name for name in edited if edited[name] != before[name]}
    assert changed == {"content", "metadata", "edited_at", "updated_at", "version"}
    assert (edited["content"], edited["metadata"], edited["version"]) == ("B", {"x": [1]}, 2)
    assert contents(ada, chat) == ["a", "B", "c", "d"]
    assert check(ada, chat)["version"] == 2
    check_invisible(bob, chat)


def test_an_edit_of_the_newest_moves_the_preview(ada, chat):
    """The preview follows the newest message's edit, and no other's."""
    ada.update_message(chat, "a", content="other")
    assert check(ada, chat)["preview"] == "d"
    ada.update_message(chat, "d", content=[{"type": "text", "text": "D\nD"}])
    assert check(ada, chat)["preview"] == "D D"
    ada.update_message(chat, "d", content="plain again")
    assert contents(ada, chat)[-1] == "plain again"
    check(ada, chat)


def test_metadata_alone_is_no_edit_of_the_text(ada, chat):
    """Changing metadata leaves content, checksum and edited_at alone."""
    before = ada.get_conversation(chat)
    edited = ada.update_message(chat, "a", metadata={})
    assert (edited["metadata"], edited["edited_at"], edited["content"]) == ({}, None, "a")
    after = check(ada, chat)
    assert (after["checksum"], after["version"]) == (before["checksum"], 2)


def test_an_edit_of_nothing_changes_nothing(ada, chat):
    """Without content and metadata the message stays as it is."""
    before = ada.get_conversation(chat)
    assert ada.update_message(chat, "a") == ada.get_message(chat, "a")
    assert ada.get_conversation(chat) == before


def test_a_stale_edit_is_refused(ada, chat):
    """expected_version lets no edit be overwritten unseen; a change of another message does not matter."""
    seen = ada.get_messages(chat)["version"]
    ada.update_message(chat, "a", content="A")
    ada.update_message(chat, "b", content="B", expected_version=seen)
    with pytest.raises(VersionConflict) as refused:
        ada.update_message(chat, "a", content="AA", expected_version=seen)
    assert refused.value.current == check(ada, chat)
    with pytest.raises(VersionConflict):
        ada.update_message(chat, "a", content="AA", expected_version=99)
    assert contents(ada, chat) == ["A", "B", "c", "d"]


def test_a_bad_edit_changes_nothing(ada, chat):
    """What could not be saved cannot be put in by an edit."""
    before = ada.get_conversation(chat)
    for field, bad in (
        ("content", 7),
        ("content", "\x00"),
        ("content", [{"text": "x"}]),
        ("content", {"type": "text"}),
        ("metadata", [1]),
        ("metadata", {"a": float("nan")}),
        ("metadata", {1: 2}),
        ("expected_version", "1"),
    ):
        with pytest.raises(ValidationFailed) as refused:
            ada.update_message(chat, "a", **{field: bad})
        assert list(refused.value.errors) == [field]
    assert ada.get_conversation(chat) == before


def test_a_message_is_changed_by_its_owner_in_its_conversation_only(ada, bob, chat):
    """No verb reaches a message through another user, another conversation or an unused id."""
    own = ada.get_message(chat, "a")["id"]
    other = ada.create_conversation()["id"]
    for verb, arguments in (
        ("update_message", {"content": "x"}),
        ("delete_message", {}),
        ("rate_message", {"rating": "up"}),
    ):
        for service, conversation_id, message_id in (
            (bob, chat, own),
            (bob, "his", own),
            (ada, other, own),
            (ada, chat, NEVER),
            (ada, chat, "zz"),
            (ada, chat, None),
        ):
            with pytest.raises(NotFound):
                getattr(service, verb)(conversation_id, message_id, **arguments)
    for verb in ("pop_message", "clear_conversation"):
        with pytest.raises(NotFound):
            getattr(bob, verb)(chat)
    with pytest.raises(NotFound):
        bob.replace_messages(chat, [])
    assert check(ada, chat)["version"] == 1
    untouched(bob)


# -- rate -------------------------------------------------------------------------------------------------------------


def test_a_rating_is_kept_with_its_reason(ada, chat, subtests):
    """Thumbs or a number, with reason and comment; None takes it back. Each is one step of the version."""
    for number, rating in enumerate(("up", "down", 5, -10, 0)):
        with subtests.test(rating=rating):
            rated = ada.rate_message(chat, "a", rating, reason="wrong", comment="ünsinn")
            assert rated["rating"] == rating
            assert type(rated["rating"]) is type(rating)
            assert rated["feedback"] == {"rating": rating, "reason": "wrong", "comment": "ünsinn"}
            assert ada.get_message(chat, "a") == rated
            assert (rated["edited_at"], check(ada, chat)["version"]) == (None, 2 + 2 * number)
            taken_back = ada.rate_message(chat, "a", None)
            assert (taken_back["rating"], taken_back["feedback"]) == (None, None)


def test_an_odd_rating_is_refused(ada, chat):
    """Ratings are up, down or a whole number from -10 to 10."""
    for bad in ("UP", "", "5", 1.0, True, 11, -11, 10**30, ["up"]):
        with pytest.raises(ValidationFailed) as refused:
            ada.rate_message(chat, "a", bad)
        assert list(refused.value.errors) == ["rating"]
    for field, bad in (("reason", "x" * 256), ("comment", "x" * 10_001), ("comment", "\x00"), ("reason", 1)):
        with pytest.raises(ValidationFailed) as refused:
            ada.rate_message(chat, "a", "up", **{field: bad})
        assert list(refused.value.errors) == [field]
    assert check(ada, chat)["version"] == 1


# -- delete -----------------------------------------------------------------------------------------------------------


def test_deleting_keeps_every_counter_exact(app, ada, bob, chat, subtests):
    """However messages go, count, checksum, preview and parents fit what is left, and the sequence has no gap."""
    for order in ("abcd", "dcba", "bcad", "cbda"):
        with subtests.test(order):
            own = of_letters(ada, "abcd")
            left = list("abcd")
            for step, name in enumerate(order, 1):
                before = ada.get_message(own, name)
                assert ada.delete_message(own, name) == before
                left.remove(name)
                assert contents(ada, own) == left
                found = check(ada, own)
                assert (found["version"], found["message_count"]) == (1 + step, len(left))
            assert sequence(app, own) == [1, 2, 3, 4]
            new = ada.save_message(own, "user", "e")
            assert (new["seq"], new["parent_id"]) == (5, None)
            check(ada, own)
    untouched(bob)
    assert contents(ada, chat) == list("abcd")


def test_a_tombstone_says_nothing(app, ada, chat):
    """Of a deleted message its place is left, and none of its words."""
    ada.rate_message(chat, "b", "up", comment="secret")
    ada.update_message(chat, "b", content=[{"type": "text", "text": "secret"}], metadata={"secret": 1})
    ada.delete_message(chat, "b")
    row = next(row for row in sql(app, "SELECT * FROM conversation_messages WHERE seq = 2"))
    assert "secret" not in repr(row)


def test_a_deleted_message_is_gone_for_every_verb(ada, chat):
    """Nothing finds, changes or deletes a deleted message again."""
    ada.delete_message(chat, "b")
    version = ada.get_conversation(chat)["version"]
    for call in (ada.get_message, ada.delete_message):
        with pytest.raises(NotFound):
            call(chat, "b")
    with pytest.raises(NotFound):
        ada.update_message(chat, "b", content="x")
    with pytest.raises(NotFound):
        ada.rate_message(chat, "b", "up")
    assert ada.get_conversation(chat)["version"] == version


def test_deleting_in_a_branch(ada, chat):
    """Where a conversation has branched, a deletion in the middle of the active path closes up."""
    ada.save_message(chat, "assistant", "B", parent_id="a")
    ada.save_message(chat, "user", "C")
    ada.save_message(chat, "user", "D")
    found = everything(ada, chat)
    assert [m["content"] for m in found] == ["a", "B", "C", "D"]
    ada.delete_message(chat, found[2]["id"])
    assert contents(ada, chat) == ["a", "B", "D"]
    ada.delete_message(chat, everything(ada, chat)[-1]["id"])
    assert contents(ada, chat) == ["a", "B"]
    assert ada.get_conversation(chat)["preview"] == "B"


# -- pop and clear ----------------------------------------------------------------------------------------------------


def test_pop_takes_the_newest(app, ada, bob, chat):
    """Pop returns and removes the newest message until the conversation is empty, then None."""
    popped = []
    for _ in range(4):
        newest = everything(ada, chat)[-1]
        assert ada.pop_message(chat) == newest
        popped.append(newest["content"])
        check(ada, chat)
    assert popped == ["d", "c", "b", "a"]
    version = ada.get_conversation(chat)["version"]
    assert ada.pop_message(chat) is None
    assert ada.get_conversation(chat)["version"] == version == 5
    assert ada.save_message(chat, "user", "e")["seq"] == 5
    assert sequence(app, chat) == [1, 2, 3, 4, 5]
    untouched(bob)


def test_pop_follows_the_active_branch(ada, chat):
    """In a branched conversation pop removes the newest message of the path that is shown."""
    ada.save_message(chat, "assistant", "B", parent_id="a")
    assert [ada.pop_message(chat)["content"] for _ in range(2)] == ["B", "a"]


def test_clear_empties_and_keeps_the_conversation(app, ada, bob, chat):
    """Clear removes every message in one step; title and sequence go on."""
    title = ada.get_conversation(chat)["title"]
    assert ada.clear_conversation(chat) == 4
    assert ada.clear_conversation(chat) == 0
    found = check(ada, chat)
    assert (found["version"], found["message_count"], found["title"]) == (2, 0, title)
    assert ada.get_conversation_history(chat) == []
    assert ada.save_message(chat, "user", "e")["seq"] == 5
    assert sequence(app, chat) == [1, 2, 3, 4, 5]
    check(ada, chat)
    untouched(bob)


def test_clear_forgets_branches(ada, chat):
    """After clear the conversation is one path again."""
    ada.save_message(chat, "assistant", "B", parent_id="a")
    ada.clear_conversation(chat)
    ada.save_messages(chat, [{"role": "user", "content": "x"}, {"role": "user", "content": "y"}])
    assert contents(ada, chat) == ["x", "y"]
    check(ada, chat)


# -- replace ----------------------------------------------------------------------------------------------------------


def user(*texts):
    return [{"role": "user", "content": text} for text in texts]


REPLACED = {
    "abcd": "abcd",
    "abc": "abc",
    "abcde": "abcd",
    "acd": "acd",
    "xabcd": "",
    "abxd": "ab",
    "dcba": "d",
    "aabcd": "a",
    "": "",
    "xyz": "",
}
"""By what takes the place of "abcd": what of it stays where it was."""


def test_replace_keeps_the_ids_of_what_stays(app, ada, bob, chat, subtests):
    """The messages are afterwards the wanted ones in the wanted order; those that stay in place keep their ids."""
    for wanted, kept in REPLACED.items():
        with subtests.test(wanted):
            own = of_letters(ada, "abcd")
            ids = {message["content"]: message["id"] for message in everything(ada, own)}
            result = ada.replace_messages(own, user(*wanted))
            assert result == everything(ada, own)
            assert [m["content"] for m in result] == list(wanted)
            assert [m["content"] for m in result if m["id"] in ids.values()] == list(kept)
            assert [m["id"] for m in result[: len(kept)]] == [ids[text] for text in kept]
            found = check(ada, own)
            assert found["version"] == (1 if wanted == "abcd" else 2)
            assert sequence(app, own) == list(range(1, len(sequence(app, own)) + 1))
    untouched(bob)
    assert contents(ada, chat) == list("abcd")


def test_replace_by_id_edits_in_place(ada, chat):
    """A message named by id or client_id keeps its id and gets the new content."""
    a, b, c, d = everything(ada, chat)
    wanted = [a, {**b, "content": "B"}, {"role": "user", "content": "C", "client_id": "c"}, d]
    found = ada.replace_messages(chat, wanted)
    assert [m["id"] for m in found] == [a["id"], b["id"], c["id"], d["id"]]
    assert [m["content"] for m in found] == ["a", "B", "C", "d"]
    assert [bool(m["edited_at"]) for m in found] == [False, True, True, False]
    assert check(ada, chat)["version"] == 2


def test_replace_is_all_or_none(ada, chat):
    """An invalid message leaves everything as it was."""
    before = everything(ada, chat)
    with pytest.raises(ValidationFailed):
        ada.replace_messages(chat, [*user("x"), {"role": "boss", "content": "y"}])
    with pytest.raises(ValidationFailed):
        ada.replace_messages(chat, "abc")
    assert everything(ada, chat) == before
    assert check(ada, chat)["version"] == 1


def test_what_was_read_can_be_given_back(ada, chat):
    """The messages of a page, put back as they are, change nothing."""
    ada.save_message(chat, "assistant", [{"type": "text", "text": "x"}], raw={"a": 1}, parts=None)
    before = everything(ada, chat)
    assert ada.replace_messages(chat, before) == before
    assert check(ada, chat)["version"] == 2
