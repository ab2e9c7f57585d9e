"""Random trees of two users, each page of each branch compared with the path that a plain dict of parents gives."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from flask_conversations.errors import BranchExists, BranchInUse, NotFound
from flask_conversations.schemas.canonical import checksum
from flask_conversations.schemas.common import preview_of

from ..service.tools import sequence, sql
from .tools import active, forwards, named, whole

USERS = st.sampled_from(["ada", "bob"])
PLACES = st.integers(0, 30)
NAMES = st.sampled_from(["a", "b", None])


class Tree:
    """What one conversation must be: each live message's parent, in the order of their seq, and the tips by name."""

    def __init__(self, owner: str) -> None:
        self.owner, self.branch, self.seq = owner, "main", 0
        self.parents: dict[str, str | None] = {}
        self.seqs: dict[str, int] = {}
        self.tips: dict[str, str | None] = {"main": None}

    def add(self, message: dict[str, Any], parent: str | None) -> None:
        self.seq += 1
        assert message["seq"] == self.seq
        assert message["parent_id"] == parent
        self.parents[message["id"]] = parent
        self.seqs[message["id"]] = self.seq
        self.tips[self.branch] = message["id"]

    def remove(self, own: str) -> None:
        heir = self.parents.pop(own)
        self.parents = {one: heir if parent == own else parent for one, parent in self.parents.items()}
        self.tips = {name: heir if tip == own else tip for name, tip in self.tips.items()}

    def path(self, tip: str | None) -> list[str]:
        found: list[str] = []
        while tip is not None:
            found.append(tip)
            tip = self.parents[tip]
        return found[::-1]

    def newest_leaf(self, own: str) -> str:
        return max((one for one in self.parents if own in self.path(one)), key=lambda one: self.seqs[one])

    def siblings(self) -> dict[str, dict[str, Any]]:
        found = {}
        for own, parent in self.parents.items():
            ids = [one for one, its in self.parents.items() if its == parent]
            if len(ids) > 1:
                found[own] = {"index": ids.index(own) + 1, "count": len(ids), "ids": ids}
        return found


class Trees(RuleBasedStateMachine):
    """Two users grow trees; after each step every branch of its tree reads as the model says, for the owner alone."""

    app: Any = None
    spoil: Any = None

    def __init__(self) -> None:
        super().__init__()
        for table in ("conversation_branches", "conversation_messages", "conversation_idempotency", "conversations"):
            sql(self.app, f"DELETE FROM {table}")
        self.services = {user: self.app.conversations.as_user(user, app=self.app) for user in ("ada", "bob")}
        self.trees: dict[str, Tree] = {}
        self.touched: list[str] = []
        self.count = 0
        for user in self.services:
            self.start(user)

    def start(self, user: str) -> None:
        made = self.services[user].create_conversation(f"{user}'s")
        self.trees[made["id"]] = Tree(user)
        self.touched.append(made["id"])

    def pick(self, place: int) -> tuple[str, Tree, Any]:
        own, tree = list(self.trees.items())[place % len(self.trees)]
        self.touched.append(own)
        return own, tree, self.services[tree.owner]

    def one(self, tree: Tree, which: int) -> str:
        return list(tree.parents)[which % len(tree.parents)]

    def text(self) -> str:
        self.count += 1
        return f"text {self.count}"

    def some(self) -> bool:
        return any(tree.parents for tree in self.trees.values())

    @rule(place=PLACES)
    def append(self, place: int) -> None:
        own, tree, service = self.pick(place)
        parent = tree.tips[tree.branch]
        tree.add(service.save_message(own, "user", self.text()), parent)

    @precondition(some)
    @rule(place=PLACES, which=PLACES, many=st.integers(1, 3))
    def answer(self, place: int, which: int, many: int) -> None:
        own, tree, service = self.pick(place)
        if not tree.parents:
            return
        parent: str | None = self.one(tree, which)
        batch: list[dict[str, Any]] = [{"role": "user", "content": self.text()} for _ in range(many)]
        batch[0]["parent_id"] = parent
        for message in service.save_messages(own, batch):
            tree.add(message, parent)
            parent = message["id"]

    @precondition(some)
    @rule(place=PLACES, which=PLACES, name=NAMES)
    def create_branch(self, place: int, which: int, name: str | None) -> None:
        own, tree, service = self.pick(place)
        if not tree.parents:
            return
        tip = self.one(tree, which)
        if name in tree.tips:
            with pytest.raises(BranchExists):
                service.branches.create(own, tip, name)
        else:
            tree.tips[service.branches.create(own, tip, name)["name"]] = tip

    @rule(place=PLACES, which=PLACES)
    def switch(self, place: int, which: int) -> None:
        own, tree, service = self.pick(place)
        tree.branch = list(tree.tips)[which % len(tree.tips)]
        service.branches.switch(own, tree.branch)

    @precondition(some)
    @rule(place=PLACES, which=PLACES)
    def switch_to_message(self, place: int, which: int) -> None:
        own, tree, service = self.pick(place)
        if tree.parents:
            message = self.one(tree, which)
            service.branches.switch(own, message)
            tree.tips[tree.branch] = tree.newest_leaf(message)

    @rule(place=PLACES, which=PLACES)
    def delete_branch(self, place: int, which: int) -> None:
        own, tree, service = self.pick(place)
        name = list(tree.tips)[which % len(tree.tips)]
        if name in ("main", tree.branch):
            with pytest.raises(BranchInUse):
                service.branches.delete(own, name)
        else:
            service.branches.delete(own, name)
            del tree.tips[name]

    @precondition(some)
    @rule(place=PLACES, which=PLACES)
    def delete_message(self, place: int, which: int) -> None:
        own, tree, service = self.pick(place)
        if tree.parents:
            message = self.one(tree, which)
            service.delete_message(own, message)
            tree.remove(message)

    @rule(place=PLACES)
    def clear(self, place: int) -> None:
        own, tree, service = self.pick(place)
        if place < 3:
            service.clear_conversation(own)
            tree.parents, tree.tips, tree.branch = {}, {"main": None}, "main"

    @precondition(some)
    @rule(place=PLACES, which=PLACES)
    def fork(self, place: int, which: int) -> None:
        own, tree, service = self.pick(place)
        if not tree.parents or len(self.trees) > 4:
            return
        message = self.one(tree, which)
        made = service.fork_conversation(own, message)
        copies, copied = whole(service, made["id"]), Tree(tree.owner)
        originals = [service.get_message(own, one) for one in tree.path(message)]
        assert [(one["content"], one["created_at"]) for one in copies] == [
            (one["content"], one["created_at"]) for one in originals
        ]
        for place_of, copy in enumerate(copies):
            copied.add(copy, copies[place_of - 1]["id"] if place_of else None)
        self.trees[made["id"]] = copied
        self.touched.append(made["id"])

    @invariant()
    def what_was_touched_reads_as_the_model_says(self) -> None:
        for own in dict.fromkeys(self.touched):
            tree = self.trees[own]
            self.check(own, tree, self.services[tree.owner])
            stranger = self.services["bob" if tree.owner == "ada" else "ada"]
            with pytest.raises(NotFound):
                stranger.branches.list(own)
        self.touched.clear()

    def teardown(self) -> None:
        """At the end all is as it should be, also what no later step has touched."""
        for own, tree in self.trees.items():
            self.check(own, tree, self.services[tree.owner])

    def check(self, own: str, tree: Tree, service: Any) -> None:
        assert named(service, own) == tree.tips
        assert active(service, own) == tree.branch
        siblings, messages = tree.siblings(), {}
        for name, tip in tree.tips.items():
            path = tree.path(tip)
            for limit in (2, 100):
                assert [one["id"] for one in whole(service, own, branch=name, limit=limit)] == path
            assert [one["id"] for one in forwards(service, own, branch=name, limit=3)] == path
            page = service.get_messages(own, branch=name, siblings=True, limit=4)
            assert page["siblings"] == {one: siblings[one] for one in path[-4:] if one in siblings}
            messages.update({one["id"]: one for one in whole(service, own, branch=name)})
        path = tree.path(tree.tips[tree.branch])
        assert [one["id"] for one in whole(service, own, limit=3)] == path
        assert len(service.get_conversation_history(own, 5)) == len(path[-5:])
        self.check_totals(own, tree, service, path)

    def check_totals(self, own: str, tree: Tree, service: Any, path: list[str]) -> None:
        found = service.get_conversation(own)
        live = [service.get_message(own, one) for one in tree.parents]
        assert [one["parent_id"] for one in live] == list(tree.parents.values())
        assert (found["message_count"], found["checksum"]) == (len(live), checksum(live))
        assert sequence(self.app, own) == list(range(1, tree.seq + 1))
        by_id = {one["id"]: one for one in live}
        assert found["preview"] == (preview_of(by_id[path[-1]]["content"]) if path else None)
        assert (found["last_message_at"] is None) == (not path)


def test_random_trees(app, long):
    """Every page is the path, seqs have no gap, nothing is lost, whatever two users save, name, switch, delete and fork."""
    machine = type("TreesOnThis", (Trees,), {"app": app})
    options = {"max_examples": 30 if long else 4, "stateful_step_count": 25, "suppress_health_check": list(HealthCheck)}
    run_state_machine_as_test(machine, settings=settings(deadline=None, print_blob=True, **options))
