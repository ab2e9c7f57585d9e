"""Debug logging says what happened, and never what was said (S3.31)."""

from __future__ import annotations

import logging

import pytest

from flask_conversations.errors import ConversationNotFound

from .tools import NEVER

SECRET = "the combination is 7-31-4"


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.DEBUG, "flask_conversations")
    return caplog


def test_calls_are_logged_with_what_they_were_about(ada, log):
    """Each call with its name, the conversation, its outcome and its time."""
    chat = ada.create_conversation()["id"]
    ada.save_message(chat, "user", "hi")
    with pytest.raises(ConversationNotFound):
        ada.get_conversation_history(NEVER)
    lines = [record.getMessage() for record in log.records]
    assert any(line.startswith(f"save_message of {chat}: ended after") for line in lines)
    assert any(line.startswith(f"get_conversation_history of {NEVER}: ConversationNotFound after") for line in lines)


def test_nothing_that_was_said_is_logged(make_app, redis_url, log):
    """Neither contents nor titles, metadata or tags, whatever a call does, with a cache and with one that answers garbage."""
    app = make_app(CONVERSATIONS_REDIS_URL=redis_url, CONVERSATIONS_AUDIT=True)
    ada = app.conversations.as_user("ada", app=app)
    chat = ada.create_conversation(SECRET, metadata={"x": SECRET}, tags=[SECRET])["id"]
    message = ada.save_message(chat, "user", SECRET, metadata={"y": SECRET}, client_id="c-1")
    for _ in range(2):
        ada.get_conversation_history(chat)
        ada.get_messages(chat)
    ada.update_message(chat, message["id"], content=f"{SECRET}!")
    ada.rate_message(chat, message["id"], "up", comment=SECRET)
    app.extensions["flask_conversations"].cache.server.client.set(f"conversation:{{{chat}}}:messages", SECRET)
    ada.get_messages(chat)
    ada.clear_conversation(chat)
    ada.delete_conversation(chat, permanent=True)
    said = [record for record in log.records if SECRET in record.getMessage() or SECRET in str(record.args)]
    assert not said
    assert [record for record in log.records if record.getMessage().startswith("Redis: read of")]
