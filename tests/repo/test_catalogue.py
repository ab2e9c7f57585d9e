"""The catalogue of fields agrees with the tables, the types, the forms and the cache's format."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from flask_conversations.models import build
from flask_conversations.schemas import fields, http_schemas, types
from flask_conversations.schemas.fields import CONVERSATION, MESSAGE, TURN, stored
from flask_conversations.store import rows
from flask_conversations.tables import ACTIVE_STATES, LIVE_STATES

NOUNS = {"Message": MESSAGE, "Conversation": CONVERSATION, "Turn": TURN}

NOT_READ_WITH_A_ROW = {
    "Message": {"org_id", "user_id", "deleted_at"},
    "Conversation": {"previous_head_id"},
    "Turn": {"org_id", "user_id", "expires_at"},
}
"""Columns that single statements use and no row of the store carries."""

CACHE_NUMBERS = [
    *("parent_id", "client_id", "type", "parts", "raw", "status", "action_type", "action_params", "action_result"),
    *("action_status", "component_type", "component_data", "attachments", "contexts", "metadata", "model"),
    *("tokens_used", "usage", "latency_ms", "rating", "feedback", "edited_at"),
]
"""What entries of format 1 mean: another order or value here needs another `FORMAT`."""


@pytest.mark.parametrize("noun", NOUNS)
def test_every_column_and_every_member_is_a_field(noun):
    """The catalogue names the columns of the table and the members of the type, and no others."""
    columns = {column.name for column in getattr(build(sa.MetaData()), noun).__table__.columns}
    assert columns - NOT_READ_WITH_A_ROW[noun] == set(stored(NOUNS[noun]))
    assert {name for name, field in NOUNS[noun].items() if field.shown} == set(vars(types)[noun].__annotations__)


@pytest.mark.parametrize(
    ("row", "noun", "further"),
    [(rows.ConversationRow, CONVERSATION, []), (rows.MessageRow, MESSAGE, []), (rows.TurnRow, TURN, ["dead"])],
)
def test_a_row_has_the_columns_that_are_read(row, noun, further):
    """The types of rows name what the store reads of each noun, in its order, and no others."""
    assert [*row.__annotations__] == [*stored(noun), *further]


def test_columns_that_are_shown_come_first():
    """A row is read by position: members of the JSON first."""
    for noun in (MESSAGE, CONVERSATION):
        shown = [noun[name].shown for name in stored(noun)]
        assert shown == sorted(shown, reverse=True)


def test_the_numbers_in_cache_entries_keep_their_meaning():
    """Entries of another release of the same format are read alike."""
    numbers = {field.cached: name for name, field in MESSAGE.items() if field.cached is not None}
    assert [numbers[number] for number in range(len(numbers))] == CACHE_NUMBERS
    plain = {"type": "text", "status": "delivered", "attachments": [], "contexts": []}
    assert {name: MESSAGE[name].default for name in CACHE_NUMBERS} == {**dict.fromkeys(CACHE_NUMBERS), **plain}


def test_what_a_deleted_message_keeps():
    """Its place, its kind and what it has cost: nothing that anyone has written."""
    kept = {name for name, field in MESSAGE.items() if field.kept}
    place = {
        "id",
        "conversation_id",
        "client_id",
        "seq",
        "parent_id",
        "version",
        "created_at",
        "updated_at",
        "edited_at",
    }
    assert kept == place | {"role", "type", "status", "tokens_used", "latency_ms"}


@pytest.mark.parametrize(
    ("noun", "arguments", "named"),
    [
        (MESSAGE, types.MessageFields, {"role", "content", "client_id", "parent_id"}),
        (CONVERSATION, types.ConversationChanges, set()),
        (CONVERSATION, types.ConversationFields, {"title"}),
    ],
)
def test_the_service_takes_what_may_be_set(noun, arguments, named):
    """The keyword arguments are the fields that a host or a client may set, besides those that have a name of their own."""
    assert set(arguments.__annotations__) | named == set(fields.settable(noun, fields.CLIENT, fields.HOST))


@pytest.mark.parametrize(
    ("form", "noun", "kept"),
    [(http_schemas.Snapshot, CONVERSATION, set()), (http_schemas.MessageOfSnapshot, MESSAGE, set())],
)
def test_a_copy_may_carry_every_member(form, noun, kept):
    """A client may send back each member of what it got."""
    assert set(fields.shown(noun)) - kept <= set(form().fields)


def annotation(noun: Any, name: str) -> Any:
    return vars(types)[noun].__annotations__[name].__metadata__[0].keywords["enum"]


def test_the_words_of_states_are_the_same_everywhere():
    """The types have the states that the tables know."""
    assert set(annotation("Turn", "state")) == {"idle", *LIVE_STATES, "failed", "cancelled"}
    assert set(annotation("State", "state")) == {"idle", *ACTIVE_STATES, "failed", "cancelled"}
