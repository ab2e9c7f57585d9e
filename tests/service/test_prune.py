"""What time takes away: the trash and temporary conversations, by call and by command."""

from __future__ import annotations

import datetime as dt

import pytest

from flask_conversations.ids import now


@pytest.fixture
def age(app, conversations):
    """Let a conversation's times be *days* in the past."""

    def back(conversation_id, days):
        table = conversations.models.Conversation.__table__
        past = now() - dt.timedelta(days=days)
        with app.app_context(), conversations.db.engine.begin() as connection:
            change = table.update().where(table.c.id == conversation_id)
            connection.execute(change.values(updated_at=past))
            connection.execute(change.where(table.c.deleted_at.is_not(None)).values(deleted_at=past))

    return back


def test_the_trash_keeps_for_its_days(ada, bob, conversations, app, age):
    """What was deleted 31 days ago goes; what was deleted 29 days ago, and what is alive, stays."""
    old, fresh, alive = (ada.create_conversation(name)["id"] for name in ("old", "fresh", "alive"))
    hers = bob.create_conversation("bob's")["id"]
    for one in (old, fresh):
        ada.delete_conversation(one)
    for one, days in ((old, 31), (fresh, 29), (alive, 400), (hers, 400)):
        age(one, days)

    assert conversations.as_system(app=app).prune(dry_run=True) == 1
    assert conversations.as_system(app=app).prune() == 1

    assert [one["id"] for one in ada.list_conversations(status="deleted")["conversations"]] == [fresh]
    assert ada.conversation_exists(alive)
    assert bob.conversation_exists(hers)


def test_pruning_as_a_user_touches_nobody_else(ada, bob, age):
    """A user's own prune removes the user's own trash only."""
    mine, theirs = ada.create_conversation()["id"], bob.create_conversation()["id"]
    ada.delete_conversation(mine)
    bob.delete_conversation(theirs)
    age(mine, 31)
    age(theirs, 31)

    assert ada.prune() == 1

    assert bob.restore_conversation(theirs)["id"] == theirs


def test_the_command_says_what_it_did(app, ada, age):
    """`flask conversations prune` counts first, asks, deletes, and reports; content and children go with it."""
    old = ada.create_conversation(temporary=True, messages=[{"role": "user", "content": "soon gone"}])["id"]
    age(old, 2)
    run = app.test_cli_runner().invoke

    assert "1 conversations are due" in run(args=["conversations", "prune", "--dry-run"]).output
    assert run(args=["conversations", "prune"], input="n\n").exit_code == 1
    assert ada.conversation_exists(old)
    assert "1 conversations deleted" in run(args=["conversations", "prune", "--yes"]).output
    assert not ada.conversation_exists(old)
