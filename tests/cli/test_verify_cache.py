"""The cache against the database: which entries `verify` calls wrong, and that a repair drops just those."""

from __future__ import annotations

import dataclasses
import json
import types
from typing import Any

import pytest

from flask_conversations.cache import owner_tag
from flask_conversations.ops import verify

from ..service.tools import NEVER, everything, sql
from .tools import kinds, run, verified

ABSENT = types.SimpleNamespace(state="absent")


class Told:
    """A cache that holds what it was told: what is tested is what `verify` makes of it."""

    def __init__(self) -> None:
        self.entries: dict[str, Any] = {}
        self.forgotten: list[str] = []

    def inspect(self, conversation_id: str) -> Any:
        return self.entries.get(conversation_id, ABSENT)

    def forget(self, conversation_id: str) -> None:
        self.forgotten.append(conversation_id)
        self.entries.pop(conversation_id, None)

    def hold(self, conversation_id: str, **entry: Any) -> None:
        # what came out of Redis has been JSON text
        self.entries[conversation_id] = types.SimpleNamespace(**{"state": "entry", **json.loads(json.dumps(entry))})


@pytest.fixture(autouse=True)
def little_patience(monkeypatch) -> None:
    """Until the second look nobody has to wait: no writer is at work here."""
    monkeypatch.setattr(verify, "RECHECK_DELAY", 0.0)


@pytest.fixture
def chat(ada, bob) -> str:
    bob.create_conversation()
    own = ada.create_conversation(
        messages=[{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
    )
    return str(own["id"])


@pytest.fixture
def right(app, ada, chat) -> dict[str, Any]:
    """The entry that the conversation ought to have, the newest message first."""
    ((rev,),) = sql(app, "SELECT rev FROM conversations WHERE user_id = 'ada'")
    version = ada.get_conversation(chat)["version"]
    return {"version": version, "rev": rev, "owner": owner_tag(None, "ada"), "messages": everything(ada, chat)[::-1]}


@pytest.fixture
def cache(app, chat, right) -> Told:
    told = Told()
    with app.app_context():
        state = app.extensions["flask_conversations"]
        state._backend = dataclasses.replace(state.backend, cache=told)
    told.hold(chat, **right)
    return told


def test_an_entry_that_says_what_the_database_says(app, cache):
    """Equal entries, and conversations without one, are well; the report says that the cache was looked at."""
    assert "and the cache: all is well" in run(app, "verify")
    assert verified(app)[1]["cache"] is True


WRONG: dict[str, dict[str, Any]] = {
    "empty": {"messages": []},
    "other messages": {"messages": [{"seq": 2, "content": "two"}]},
    "ahead": {"version": 99},
    "another history": {"rev": 7},
    "another owner": {"owner": "f" * 32},
}


def test_an_entry_that_says_something_else_is_found_and_dropped(app, ada, chat, cache, right, subtests):
    """A repair drops it and leaves the conversation as it is: the next read fills the cache anew."""
    for name, wrong in WRONG.items():
        with subtests.test(name):
            cache.forgotten.clear()
            cache.hold(chat, **{**right, **wrong})
            findings, _ = verified(app, code=1)
            assert (kinds(findings), findings[0]["conversation_id"]) == ({"cache"}, chat)
            assert not cache.forgotten

            findings, _ = verified(app, "--repair", "--yes")
            assert findings[0]["repaired"]
            assert cache.forgotten == [chat]
            assert verified(app)[0] == []
            assert ada.get_conversation(chat)["version"] == right["version"]


def test_a_shorter_window_is_well(app, chat, cache, right):
    """An entry holds the newest messages, as many as it holds."""
    cache.hold(chat, **{**right, "messages": right["messages"][:1]})
    assert verified(app)[0] == []


def test_a_key_that_serves_nobody_is_not_looked_at(app, chat, cache, right):
    """A writer or a reader is about to replace it."""
    for state in ("absent", "reserved", "leased"):
        cache.hold(chat, **{**right, "messages": [], "state": state})
        assert verified(app)[0] == [], state


def test_an_entry_that_lags_behind_is_none_of_the_faults(app, ada, chat, cache, right):
    """It is bounded by its age, and by the versions that clients send back."""
    sql(app, "UPDATE conversations SET version = version + 1")
    assert verified(app)[0] == []


def test_rubbish_and_entries_of_what_is_gone(app, chat, cache, right):
    """Of a conversation in the trash, of one that is not there, and something that is no entry of ours."""
    cache.hold(chat, **{**right, "state": "corrupt"})
    assert kinds(verified(app, code=1)[0]) == {"cache"}
    cache.hold(chat, **right)
    sql(app, "UPDATE conversations SET status = 'deleted' WHERE user_id = 'ada'")
    assert "deleted" in verified(app, code=1)[0][0]["text"]
    cache.hold(NEVER, **right)
    assert "deleted" in verified(app, "--conversation", NEVER, code=1)[0][0]["text"]


def test_a_key_that_is_right_a_moment_later_is_no_fault(app, chat, cache, right):
    """Between a writer's commit and its last command the two may differ: it is looked at twice."""
    good, bad = ({**right, "messages": messages} for messages in (right["messages"], []))
    looks = iter([bad, good])

    def inspect(conversation_id: str) -> Any:
        if conversation_id == chat:
            cache.hold(chat, **next(looks))
        return cache.entries.get(conversation_id, ABSENT)

    cache.inspect = inspect
    assert verified(app)[0] == []


def test_a_cache_that_does_not_answer_is_not_called_well(app, cache):
    """What could not be looked at is counted, and the command ends with 1."""
    cache.inspect = lambda conversation_id: None
    assert "did not answer for 2 conversations" in run(app, "verify", code=1)
    assert verified(app, code=1)[1]["unanswered"] == 2
