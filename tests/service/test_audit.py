"""The query log: who did what, when and for how long, where a host asks for it."""

from __future__ import annotations

import pytest

from flask_conversations import Identity
from flask_conversations.errors import NotFound

from .tools import rows


@pytest.fixture
def audited(make_app):
    return make_app(CONVERSATIONS_AUDIT=True)


def log(app):
    """The rows of the query log in order."""
    model = app.conversations.models.QueryLog
    with app.app_context():
        found = app.db.session.query(model).order_by(model.created_at, model.id).all()
        return [(row.user_id, row.org_id, row.session_id, row.action, row.conversation_id) for row in found]


def test_every_call_is_logged(audited):
    """Each call of each user is one row with its action and conversation."""
    ada = audited.conversations.as_user(Identity("ada", org_id="acme", session_id="s1"), app=audited)
    bob = audited.conversations.as_user("bob", app=audited)
    chat = ada.create_conversation()
    ada.save_message(chat["id"], "user", "secret")
    ada.get_conversation_history(chat["id"])
    bob.list_conversations()
    found = log(audited)
    assert {row[:3] for row in found} == {("ada", "acme", "s1"), ("bob", "", None)}
    assert [row[4] for row in found[:3]] == [chat["id"]] * 3
    assert [row[3] for row in found] == [
        "create_conversation",
        "save_message",
        "get_conversation_history",
        "list_conversations",
    ]
    assert "secret" not in repr(found)


def test_the_log_has_a_duration(audited):
    """A slow call can be found: each row carries its milliseconds."""
    audited.conversations.as_user("ada", app=audited).list_conversations()
    with audited.app_context():
        row = audited.db.session.query(audited.conversations.models.QueryLog).one()
        assert 0 < row.duration_ms < 60_000


def test_a_refused_call_leaves_no_row(audited):
    """What was not done is not logged as done."""
    bob = audited.conversations.as_user("bob", app=audited)
    chat = audited.conversations.as_user("ada", app=audited).create_conversation()
    with pytest.raises(NotFound):
        bob.save_message(chat["id"], "user", "x")
    assert [row[0] for row in log(audited)] == ["ada"]


def test_the_system_is_logged_as_such(audited):
    """Work across users shows up under a name that no user can have."""
    audited.conversations.as_system(app=audited).list_conversations()
    assert [row[0] for row in log(audited)] == ["(system)"]


def test_without_the_setting_nothing_is_logged(app, ada):
    """The log is off by default."""
    ada.create_conversation()
    ada.list_conversations()
    assert rows(app)["conversation_query_log"] == 0
