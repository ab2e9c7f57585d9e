"""How much one message may hold."""

from __future__ import annotations

import pytest

from flask_conversations.errors import ConfigurationError, ValidationFailed

from ..infra.apps import client_of
from .tools import contents

TEXT = {"type": "text", "text": "x"}


@pytest.fixture
def app(make_app):
    return make_app(CONVERSATIONS_MAX_PARTS=3, CONVERSATIONS_MAX_CONTENT_LENGTH=10)


def test_a_message_has_so_many_parts_at_most(ada, subtests):
    """As content, beside it, and attached; the error names the field, and the limit itself is allowed."""
    for field in ("content", "parts", "attachments"):
        with subtests.test(field):
            chat = ada.create_conversation()
            fields = {"content": "x", field: [TEXT] * 3}
            saved = ada.save_message(chat["id"], "user", **fields)
            too_many = {"role": "user", **fields, field: [TEXT] * 4}
            for refused in (
                lambda: ada.save_message(chat["id"], **too_many),  # noqa: B023 - called at once
                lambda: ada.save_messages(chat["id"], [too_many]),  # noqa: B023
                lambda: ada.create_conversation(messages=[too_many]),  # noqa: B023
            ):
                with pytest.raises(ValidationFailed, match="not valid") as failed:
                    refused()
                assert f"'{field}': ['At most 3 entries.']" in repr(failed.value.errors)
            assert len(contents(ada, chat["id"])) == 1
            with pytest.raises(ValidationFailed, match="content"):
                ada.update_message(chat["id"], saved["id"], content=[TEXT] * 4)


def test_over_http_it_is_422(app, ada):
    """With the field's name, like every other rule."""
    chat = ada.create_conversation()
    answer = client_of(app, "ada").post(
        f"/api/conversations/{chat['id']}/messages", json={"content": "x", "attachments": [{}] * 4}
    )
    assert answer.status_code == 422
    assert answer.json["errors"] == {"attachments": ["At most 3 entries."]}


def test_both_limits_hold_at_once(ada):
    """Text that is spread over parts is as long as all of them."""
    chat = ada.create_conversation()
    ada.save_message(chat["id"], "user", [{"type": "text", "text": "1234"}] * 2)
    with pytest.raises(ValidationFailed, match="content"):
        ada.save_message(chat["id"], "user", [{"type": "text", "text": "12345"}] * 2)


def test_a_thousand_unless_it_is_set_otherwise(make_app):
    """No host meets the limit by accident."""
    app = make_app()
    ada = app.conversations.as_user("ada", app=app)
    chat = ada.create_conversation()
    ada.save_message(chat["id"], "user", [TEXT] * 1000)
    with pytest.raises(ValidationFailed, match="content"):
        ada.save_message(chat["id"], "user", [TEXT] * 1001)
    assert contents(ada, chat["id"]) == [[TEXT] * 1000]


def test_none_is_no_limit(make_app):
    """For hosts that bound it elsewhere."""
    app = make_app(CONVERSATIONS_MAX_PARTS=None)
    ada = app.conversations.as_user("ada", app=app)
    chat = ada.create_conversation()
    ada.save_message(chat["id"], "user", [TEXT] * 1001)
    assert contents(ada, chat["id"]) == [[TEXT] * 1001]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_limit_that_is_none_stops_the_start(make_app, subtests):
    """A whole number from 1 on."""
    for value in (0, -1, "many", 1.5, True):
        with subtests.test(value=value), pytest.raises(ConfigurationError, match="CONVERSATIONS_MAX_PARTS"):
            make_app(CONVERSATIONS_MAX_PARTS=value)
