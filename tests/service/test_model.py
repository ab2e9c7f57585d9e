"""Random histories of all verbs by two users, each step compared with a model made of plain lists and dicts."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from flask_conversations.errors import ClientIdConflict, NotFound, VersionConflict
from flask_conversations.schemas.common import preview_of, title_from

from .tools import check, everything, failing, rows, sequence, sql

USERS = st.sampled_from(["ada", "bob"])
ROLES = st.sampled_from(["user", "assistant", "system", "tool"])
TEXTS = st.one_of(st.sampled_from(["", " ", "a", "b", "Hello there\nsecond", "x" * 100]), st.text(max_size=8)).map(
    lambda text: text.encode("utf-8", "ignore").decode().replace("\x00", "")
)
PLACES = st.integers(0, 7)
TITLES = st.sampled_from([None, "Mine", "New Conversation", ""])


class Chat:
    """What one conversation must be: its messages as (seq, role, content, client id), oldest first."""

    def __init__(self, owner: str, title: str | None) -> None:
        self.owner, self.status, self.trash = owner, "active", False
        self.messages: list[tuple[int, str, str, str | None]] = []
        self.version, self.seq, self.used = 1, 0, {}
        self.title, self.source = "New Conversation", "default"
        self.rename(title)

    def rename(self, title: str | None) -> None:
        default = not title or title == "New Conversation"
        self.title, self.source = ("New Conversation", "default") if default else (title, "user")

    def append(self, batch: list[tuple[str, str, str | None]]) -> None:
        for role, content, key in batch:
            self.seq += 1
            self.messages.append((self.seq, role, content, key))
            if key:
                self.used[key] = (role, content)
        first = next((content for role, content, _ in batch if role == "user" and content.strip()), None)
        if first is not None and self.source == "default" and title_from(first):
            self.title, self.source = title_from(first), "auto"


class Histories(RuleBasedStateMachine):
    """Two users do what they like to their own conversations, and try it on each other's."""

    app: Any = None

    def __init__(self) -> None:
        super().__init__()
        for table in ("conversation_tags", "conversation_messages", "conversation_idempotency", "conversations"):
            sql(self.app, f"DELETE FROM {table}")
        self.services = {user: self.app.conversations.as_user(user, app=self.app) for user in ("ada", "bob")}
        self.chats: dict[str, Chat] = {}

    def pick(self, place: int, *, trash: bool = False) -> tuple[str, Chat, Any]:
        """A conversation of the model outside the trash (or in it), and its owner's service."""
        found = [(key, chat) for key, chat in self.chats.items() if chat.trash == trash]
        key, chat = found[place % len(found)]
        return key, chat, self.services[chat.owner]

    def some(self) -> bool:
        return any(not chat.trash for chat in self.chats.values())

    def settle(self, key: str, chat: Chat, *, step: bool = True) -> None:
        """One committed change is one version, and everything that can be read says what the model says."""
        chat.version += step
        service = self.services[chat.owner]
        found = check(service, key)
        messages = everything(service, key, 3)
        assert [(m["seq"], m["role"], m["content"], m["client_id"]) for m in messages] == chat.messages
        assert (found["version"], found["title"], found["title_source"]) == (chat.version, chat.title, chat.source)
        assert found["status"] == chat.status
        assert found["preview"] == (preview_of(chat.messages[-1][2]) if chat.messages else None)
        assert sequence(self.app, key) == list(range(1, chat.seq + 1))
        asked = [content for _, role, content, _ in chat.messages[-4:] if role == "user" and content.strip()]
        shown = [m["content"] for m in service.get_conversation_history(key, 4) if m["role"] == "user"]
        assert [content for content in shown if content.strip()] == asked
        stranger = self.services["bob" if chat.owner == "ada" else "ada"]
        assert not stranger.conversation_exists(key)
        with pytest.raises(NotFound):
            stranger.save_message(key, "user", "x")

    def teardown(self) -> None:
        for user, service in self.services.items():
            listed = {one["id"] for one in service.list_conversations(limit=100, status="all")["conversations"]}
            assert listed == {key for key, chat in self.chats.items() if chat.owner == user and not chat.trash}
        assert rows(self.app)["conversations"] == len(self.chats)
        assert rows(self.app)["conversation_messages"] == sum(chat.seq for chat in self.chats.values())

    @rule(user=USERS, title=TITLES, batch=st.lists(st.tuples(ROLES, TEXTS), max_size=3))
    def create(self, user, title, batch):
        messages = [{"role": role, "content": content} for role, content in batch]
        made = self.services[user].create_conversation(title, messages=messages)
        chat = self.chats[made["id"]] = Chat(user, title)
        chat.append([(role, content, None) for role, content in batch])
        self.settle(made["id"], chat, step=False)

    @precondition(some)
    @rule(place=PLACES, role=ROLES, content=TEXTS, key=st.sampled_from([None, None, "k1", "k2"]))
    def save(self, place, role, content, key):
        own, chat, service = self.pick(place)
        if key not in chat.used:
            saved = service.save_message(own, role, content, client_id=key)
            chat.append([(role, content, key)])
            assert saved["seq"] == chat.seq
            self.settle(own, chat)
        elif chat.used[key] == (role, content) and any(m[3] == key for m in chat.messages):
            service.save_message(own, role, content, client_id=key)
            self.settle(own, chat, step=False)
        else:
            with pytest.raises(ClientIdConflict):
                service.save_message(own, role, content, client_id=key)
            self.settle(own, chat, step=False)

    @precondition(some)
    @rule(place=PLACES, batch=st.lists(st.tuples(ROLES, TEXTS), min_size=1, max_size=4))
    def save_several(self, place, batch):
        own, chat, service = self.pick(place)
        service.save_messages(own, [{"role": role, "content": content} for role, content in batch])
        chat.append([(role, content, None) for role, content in batch])
        self.settle(own, chat)

    @precondition(some)
    @rule(place=PLACES, which=PLACES, content=TEXTS)
    def edit(self, place, which, content):
        own, chat, service = self.pick(place)
        if chat.messages:
            which %= len(chat.messages)
            service.update_message(own, everything(service, own)[which]["id"], content=content)
            seq, role, _, key = chat.messages[which]
            chat.messages[which] = (seq, role, content, key)
            self.settle(own, chat)

    @precondition(some)
    @rule(place=PLACES, which=PLACES)
    def rate(self, place, which):
        own, chat, service = self.pick(place)
        if chat.messages:
            service.rate_message(own, everything(service, own)[which % len(chat.messages)]["id"], which)
            self.settle(own, chat)

    @precondition(some)
    @rule(place=PLACES, which=PLACES)
    def delete_message(self, place, which):
        own, chat, service = self.pick(place)
        if chat.messages:
            which %= len(chat.messages)
            service.delete_message(own, everything(service, own)[which]["id"])
            del chat.messages[which]
            self.settle(own, chat)

    @precondition(some)
    @rule(place=PLACES)
    def pop(self, place):
        own, chat, service = self.pick(place)
        popped = service.pop_message(own)
        assert (popped is None) == (not chat.messages)
        if popped:
            assert popped["content"] == chat.messages.pop()[2]
        self.settle(own, chat, step=popped is not None)

    @precondition(some)
    @rule(place=PLACES)
    def clear(self, place):
        own, chat, service = self.pick(place)
        assert service.clear_conversation(own) == len(chat.messages)
        step = bool(chat.messages)
        chat.messages = []
        self.settle(own, chat, step=step)

    @precondition(some)
    @rule(place=PLACES, keep=PLACES, batch=st.lists(st.tuples(ROLES, TEXTS), max_size=2))
    def replace(self, place, keep, batch):
        own, chat, service = self.pick(place)
        before = everything(service, own)[:keep]
        service.replace_messages(own, [*before, *({"role": role, "content": content} for role, content in batch)])
        kept, gone = chat.messages[: len(before)], chat.messages[len(before) :]
        # what stands again where it stood before stays, in its order
        for role, content in copy.copy(batch):
            place_of = next((n for n, one in enumerate(gone) if one[1:3] == (role, content)), None)
            if place_of is None:
                break
            kept.append(gone[place_of])
            gone = gone[place_of + 1 :]
            batch = batch[1:]
        changed = kept != chat.messages or bool(batch)
        chat.messages = kept
        chat.append([(role, content, None) for role, content in batch])
        self.settle(own, chat, step=changed)

    @precondition(some)
    @rule(place=PLACES, title=TITLES, stale=st.booleans())
    def rename(self, place, title, stale):
        own, chat, service = self.pick(place)
        if stale:
            with pytest.raises(VersionConflict):
                service.update_conversation(own, title=title, expected_version=chat.version + 1)
        else:
            service.update_conversation(own, title=title, expected_version=chat.version)
            chat.rename(title)
        self.settle(own, chat, step=not stale)

    @precondition(some)
    @rule(place=PLACES, verb=st.sampled_from(["archive", "unarchive", "resolve"]))
    def move(self, place, verb):
        own, chat, service = self.pick(place)
        status = {"archive": "archived", "unarchive": "active", "resolve": "resolved"}[verb]
        getattr(service, f"{verb}_conversation")(own)
        step, chat.status = chat.status != status, status
        self.settle(own, chat, step=step)

    @precondition(some)
    @rule(place=PLACES, content=TEXTS, base=st.sampled_from([None, 0, -1]))
    def save_snapshot(self, place, content, base):
        own, chat, service = self.pick(place)
        held = everything(service, own)
        snapshot = {"id": own, "messages": [*held, {"role": "user", "content": content}]}
        known = chat.version + base if base is not None and chat.version + base > 0 else None
        saved = service.save_conversation(snapshot, base_version=known)
        assert saved["conflicts"] == []
        chat.append([("user", content, None)])
        self.settle(own, chat)

    @precondition(some)
    @rule(place=PLACES, permanent=st.booleans())
    def delete(self, place, permanent):
        own, chat, service = self.pick(place)
        assert service.delete_conversation(own, permanent=permanent) is True
        with pytest.raises(NotFound):
            service.get_messages(own)
        if permanent:
            del self.chats[own]
        else:
            chat.trash, chat.version = True, chat.version + 1

    @precondition(lambda self: any(chat.trash for chat in self.chats.values()))
    @rule(place=PLACES)
    def restore(self, place):
        own, chat, service = self.pick(place, trash=True)
        service.restore_conversation(own)
        chat.trash = False
        self.settle(own, chat)

    @precondition(some)
    @rule(place=PLACES, content=TEXTS)
    def fail_in_a_group(self, place, content):
        own, chat, service = self.pick(place)
        with failing(service.transaction()):
            service.save_message(own, "user", content)
            with pytest.raises(NotFound):
                service.delete_message(own, "missing")
        self.settle(own, chat, step=False)


def test_random_histories(app, long):
    """Whatever two users do in whatever order, every count, sum, title, preview and version is the model's, for each alone."""
    machine = type("HistoriesOnThis", (Histories,), {"app": app})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=50 if long else 5,
            stateful_step_count=25,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
