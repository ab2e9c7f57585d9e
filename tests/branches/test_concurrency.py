"""Concurrent switches, appends, names and forks: no message is lost and every tip is a message."""

from __future__ import annotations

import random

from flask_conversations.errors import BranchExists, BranchInUse, BranchNotFound
from flask_conversations.schemas.canonical import checksum

from ..service.tools import sequence
from .tools import active, ids, named, whole


def test_switching_and_appending_at_once(app, ada, bob, chat, threads):
    """Eight threads: each message is appended to the branch that was active, answers a message, and is there at the end."""
    found = ids(ada, chat)
    for name, text in (("a", "m2"), ("b", "m4")):
        ada.branches.create(chat, found[text], name)

    def work(i: int) -> list[str]:
        dice, saved = random.Random(i), []
        for n in range(6):
            if dice.random() < 0.5:
                ada.branches.switch(chat, dice.choice(["main", "a", "b", found["m3"], *saved]))
            saved.append(ada.save_message(chat, "user", f"{i}-{n}")["id"])
        return saved

    saved = {own for some in threads(8, work) for own in some}
    assert len(saved) == 48
    assert sequence(app, chat) == list(range(1, 55))
    messages = {own: ada.get_message(chat, own) for own in [*found.values(), *saved]}
    assert all(one["parent_id"] in messages for one in messages.values() if one["seq"] > 1)
    assert all(messages[one["parent_id"]]["seq"] < one["seq"] for one in messages.values() if one["seq"] > 1)
    conversation = ada.get_conversation(chat)
    assert (conversation["message_count"], conversation["checksum"]) == (54, checksum(messages.values()))
    tips = named(ada, chat)
    assert set(tips) == {"main", "a", "b"}
    assert set(tips.values()) <= set(messages)
    assert whole(ada, chat)[-1]["id"] == tips[active(ada, chat)]
    assert not bob.conversation_exists(chat)


def test_each_name_is_given_once(ada, bob, chat, threads):
    """Eight threads want the same name, and then one without a name of their own: one gets it, and eight are different."""
    tip = ids(ada, chat)["m2"]
    outcomes = threads(8, lambda i: ada.branches.create(chat, tip, "mine")["name"], errors=True)
    assert sorted(type(one).__name__ for one in outcomes) == ["BranchExists"] * 7 + ["str"]
    assert all(isinstance(one, (str, BranchExists)) for one in outcomes)
    assert set(threads(8, lambda i: ada.branches.create(chat, tip)["name"])) == {f"branch-{n}" for n in range(2, 10)}
    assert len(named(ada, chat)) == 10
    assert not bob.conversation_exists(chat)


def test_deleting_what_others_switch_to(ada, bob, chat, threads):
    """A branch is deleted or active, never both, and the active one always has a name."""
    tip = ids(ada, chat)["m2"]

    def work(i: int) -> None:
        dice = random.Random(i)
        for _ in range(8):
            try:
                [
                    lambda: ada.branches.switch(chat, dice.choice(["a", "b", "main"])),
                    lambda: ada.branches.delete(chat, dice.choice(["a", "b"])),
                    lambda: ada.branches.create(chat, tip, dice.choice(["a", "b"])),
                ][dice.randrange(3)]()
            except (BranchExists, BranchInUse, BranchNotFound):
                continue

    threads(8, work)
    assert active(ada, chat) in named(ada, chat)
    assert "main" in named(ada, chat)
    assert [one["content"] for one in whole(ada, chat, branch="main")] == [f"m{n}" for n in range(1, 7)]
    assert not bob.conversation_exists(chat)


def test_forking_what_others_write(ada, bob, chat, threads):
    """Each fork is the path as it was at one moment, whole and in order."""

    def work(i: int) -> list[list[str]]:
        if i % 2:
            for n in range(10):
                ada.save_message(chat, "user", f"{i}-{n}")
            return []
        forks = [ada.fork_conversation(chat) for _ in range(5)]
        for one in forks:
            assert one["message_count"] == len(whole(ada, one["id"]))
        return [[message["content"] for message in whole(ada, one["id"])] for one in forks]

    paths = [path for some in threads(8, work) for path in some]
    final = [message["content"] for message in whole(ada, chat)]
    assert len(final) == 46
    assert all(path == final[: len(path)] for path in paths)
    assert len(paths) == 20
    assert not bob.list_conversations()["conversations"][1:]
