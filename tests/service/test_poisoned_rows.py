"""Corrupted rows: their conversation stays readable, by the service and over REST, and can be written on."""

from __future__ import annotations

import json

import pytest

from .tools import contents, everything, in_use


@pytest.fixture
def app(make_app):
    """Without a cache, which would not see what is written behind the back of the package for a while."""
    return make_app(CONVERSATIONS_CACHE=False)


DEEP = "[" * 3000 + "]" * 3000
JSON_ANYWHERE = ["'7'", "'null'", "'[1e999]'", "'\"\\ud800\"'", f"'{DEEP}'", f"'{'9' * 5000}'", "'{\"\":[]}'"]
TEXT = ["''", "'boss'", "'\x01'", "'ü/ ?#'"]
MESSAGES = {
    "sqlite": {
        "metadata": [*JSON_ANYWHERE, "'{broken'", "'NaN'", "'{\"a\": NaN}'", "x'ff00'", "CAST(x'ff' AS TEXT)", "''"],
        "raw": [*JSON_ANYWHERE, "'-Infinity'", "x'00'", "CAST(x'c3' AS TEXT)"],
        "parts": [*JSON_ANYWHERE, "'[{broken'", "'[null, 7, {}]'", "x'ff'"],
        "attachments": ["'7'", "'{broken'", "'{}'"],
        "usage": [f"'{DEEP}'", "'{broken'"],
        "created_at": ["'yesterday'", "''", "12345", "'0000-00-00 00:00:00'", "x'ff'", "CAST(x'ff' AS TEXT)", "1e300"],
        "updated_at": ["'yesterday'", "7"],
        "edited_at": ["'yesterday'", "CAST(x'80' AS TEXT)"],
        "content": [
            "x'00ff'",
            "CAST(x'ff68' AS TEXT)",
            "CAST(x'eda080' AS TEXT)",
            "7",
            "char(0)",
            "1.5",
        ],
        "content_is_parts": ["7", "-1", "1"],
        "role": [*TEXT, "x'ff'", "CAST(x'ff' AS TEXT)", "7"],
        "status": TEXT,
        "type": TEXT,
        "model": ["CAST(x'ff' AS TEXT)", "7"],
        "parent_id": ["'no-uuid'", "''", "x'ff'", "7"],
        "client_id": ["'a b/c'", "CAST(x'ff' AS TEXT)"],
        "tokens_used": ["-5", "'abc'", "9e300", "1.5"],
        "latency_ms": ["9e999", "-9e999", "'abc'", "-1"],
        "rating": ["'weird'", "''"],
        "version": ["-1", "'abc'"],
        "digest": ["0", "-1"],
    },
    "postgresql": {
        "metadata": [*JSON_ANYWHERE, '\'{"a":"\\u0000"}\''],
        "raw": JSON_ANYWHERE,
        "parts": [*JSON_ANYWHERE, "'[null, 7, {}]'"],
        "attachments": ["'7'", "'{}'", f"'{DEEP}'"],
        "created_at": ["'infinity'", "'-infinity'", "'0044-03-15 BC'", "'200000-01-01'"],
        "updated_at": ["'infinity'"],
        "edited_at": ["'-infinity'", "'0001-01-01 00:00:00+14'"],
        "content": ["''", "'\x01'"],
        "content_is_parts": ["true"],
        "role": TEXT,
        "status": TEXT,
        "type": TEXT,
        "parent_id": ["'00000000-0000-0000-0000-000000000000'"],
        "client_id": ["'a b/c'"],
        "tokens_used": ["-5"],
        "latency_ms": ["'NaN'", "'Infinity'", "'-Infinity'", "-1"],
        "rating": ["'weird'", "''"],
        "version": ["-1"],
        "digest": ["0"],
    },
}
CONVERSATIONS = {
    "sqlite": {
        "metadata": [*JSON_ANYWHERE, "'{broken'", "'NaN'", "x'ff00'", "CAST(x'ff' AS TEXT)"],
        "tags": ["'7'", "'{}'", "'[broken'", "'[7, null]'", f"'{DEEP}'"],
        "field_versions": ["'7'", "'[]'", "'{broken'", '\'{"title": "x"}\''],
        "title": ["CAST(x'ff' AS TEXT)", "x'ff'", "7", "''"],
        "preview": ["CAST(x'ff' AS TEXT)", "x'ff'", "7"],
        "folder": ["CAST(x'ff' AS TEXT)", "''"],
        "status": ["'weird'", "''"],
        "title_source": ["'weird'"],
        "created_at": ["'yesterday'", "CAST(x'ff' AS TEXT)", "7"],
        "updated_at": ["'yesterday'", "''"],
        "last_message_at": ["'yesterday'", "x'ff'"],
        "last_activity_at": ["'yesterday'", "''", "7"],
        "archived_at": ["'yesterday'"],
        "starred": ["7"],
        "message_count": ["-3", "'abc'", "1e300"],
        "checksum": ["-1", "'abc'", "1.5"],
        "rev": ["-1", "'abc'"],
        "head_id": ["'no-uuid'", "NULL"],
    },
    "postgresql": {
        "metadata": JSON_ANYWHERE,
        "tags": ["'7'", "'{}'", "'[7, null]'", f"'{DEEP}'"],
        "field_versions": ["'7'", "'[]'", '\'{"title": "x"}\''],
        "title": ["''"],
        "status": ["'weird'", "''"],
        "title_source": ["'weird'"],
        "created_at": ["'infinity'", "'0044-03-15 BC'"],
        "updated_at": ["'-infinity'"],
        "last_message_at": ["'infinity'"],
        "last_activity_at": ["'infinity'", "'-infinity'"],
        "archived_at": ["'infinity'"],
        "message_count": ["-3"],
        "checksum": ["-1"],
        "rev": ["-1"],
        "head_id": ["NULL"],
    },
}


def begun(service):
    """A conversation of three messages."""
    messages = [{"role": "user", "content": content, "metadata": {}} for content in "abc"]
    return service.create_conversation("T", messages=messages)["id"]


@pytest.fixture
def corrupt(app, bob, database):
    """Sets one column of a conversation, or of its second message, to raw SQL; Bob has a conversation that stays well."""
    bob.create_conversation("his", messages=[{"role": "user", "content": "his"}])

    def corrupt(conversation_id, table, column, value):
        key = conversation_id.replace("-", "") if database.name == "sqlite" else conversation_id
        where = f"id = '{key}'" if table == "conversations" else f"conversation_id = '{key}' AND seq = 2"
        with app.app_context(), app.db.engine.begin() as connection:
            if database.name == "sqlite":
                connection.exec_driver_sql("PRAGMA ignore_check_constraints = ON")
            connection.exec_driver_sql(f"UPDATE {table} SET {column} = {value.replace('%', '%%')} WHERE {where}")

    return corrupt


@pytest.fixture
def corrupted(ada, corrupt):
    """Corrupts Ada's only conversation."""
    conversation_id = begun(ada)

    def corrupt_it(table, column, value):
        corrupt(conversation_id, table, column, value)
        return conversation_id

    return corrupt_it


def strict(answer):
    """The JSON of an answer, read as a browser would."""
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return json.loads(answer.get_data(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def read_everything(service, client, conversation_id):
    """Every way to read a conversation; what each one shows of it."""
    service.get_conversation(conversation_id)
    assert service.conversation_exists(conversation_id)
    for form in ("openai", "responses", "anthropic", "langchain", "ui"):
        service.get_conversation_history(conversation_id, format=form)
    service.get_conversation_history(conversation_id, max_tokens=100)
    found = everything(service, conversation_id, 2)
    for message in found:
        if message["seq"] != 2:
            assert service.get_message(conversation_id, message["id"]) == message
    path = f"/api/conversations/{conversation_id}"
    assert len(strict(client.get(path))["messages"]) == 3
    assert len(strict(client.get(f"{path}/messages"))["messages"]) == 3
    strict(client.get("/api/conversations?include=messages"))
    return found


def test_a_corrupt_message_leaves_its_conversation_readable(app, conversations, bob, http, database, corrupt, subtests):
    """Whatever a message's column holds, all messages are shown, new ones can be saved, and the corrupt one can be deleted."""
    for column, values in MESSAGES[database.name].items():
        with subtests.test(column):
            owner = conversations.as_user(column, app=app)
            conversation_id = begun(owner)
            for number, value in enumerate(values):
                corrupt(conversation_id, "conversation_messages", column, value)
                found = read_everything(owner, http(column), conversation_id)[:3]
                assert [message["seq"] for message in found] == [1, 2, 3], value[:50]
                assert [found[0]["content"], found[2]["content"]] == ["a", "c"]
                owner.save_message(conversation_id, "user", f"new {number}")
                owner.pop_message(conversation_id)
            owner.delete_message(conversation_id, found[1]["id"])
            assert contents(owner, conversation_id) == ["a", "c"]
            assert in_use(app) == 0
    assert [one["title"] for one in bob.list_conversations()["conversations"]] == ["his"]


def test_a_corrupt_conversation_stays_readable(app, conversations, bob, http, database, corrupt, subtests):
    """Whatever a conversation's own column holds, it can be read, listed, written to, renamed and deleted."""
    for column, values in CONVERSATIONS[database.name].items():
        with subtests.test(column):
            owner = conversations.as_user(column, app=app)
            conversation_id = begun(owner)
            for value in values:
                corrupt(conversation_id, "conversations", column, value)
                found = read_everything(owner, http(column), conversation_id)
                assert [message["content"] for message in found] == ["a", "b", "c"], value[:50]
                for query in ("", "?status=all&order=title", "?status=all&order=-updated_at"):
                    strict(http(column).get(f"/api/conversations{query}"))
                owner.save_message(conversation_id, "user", "new")
                owner.pop_message(conversation_id)
                owner.save_conversation({"id": conversation_id, "title": "S", "messages": found}, base_version=1)
                fields = {"tags": ["t"], "metadata": {"x": 1}, "folder": "f", "status": "active"}
                owner.update_conversation(conversation_id, title="U", **fields)
                assert owner.get_conversation(conversation_id)["title"] == "U"
            assert owner.delete_conversation(conversation_id, permanent=True) is True
            assert in_use(app) == 0
    assert [one["title"] for one in bob.list_conversations()["conversations"]] == ["his"]


def test_a_corrupt_conversation_does_not_end_the_list(ada, http, database, corrupted):
    """One corrupt conversation among many hides none of the others, on any page."""
    ada.create_conversation("before")
    column, value = ("title", "CAST(x'ff' AS TEXT)") if database.name == "sqlite" else ("metadata", f"'{DEEP}'")
    corrupted("conversations", column, value)
    ada.create_conversation("after")
    found, cursor = [], None
    while True:
        page = strict(
            http("ada").get("/api/conversations", query_string={"limit": 1, "cursor": cursor} if cursor else "limit=1")
        )
        found += page["conversations"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert len(found) == 3
    assert {found[0]["title"], found[2]["title"]} == {"before", "after"} or len({one["id"] for one in found}) == 3
    page = strict(http("ada").get("/api/conversations?include=messages"))
    assert sorted(len(one["messages"]) for one in page["conversations"]) == [0, 0, 3]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_text_that_is_no_utf8_is_shown_as_far_as_it_can_be(app, ada, corrupted):
    """Bytes that are no text become replacement characters, and only while they have to."""
    conversation_id = corrupted("conversation_messages", "content", "CAST(x'6869ff21' AS TEXT)")
    assert contents(ada, conversation_id) == ["a", "hi\ufffd!", "c"]
    corrupted("conversation_messages", "content", "'mended'")
    assert contents(ada, conversation_id) == ["a", "mended", "c"]
    with app.app_context():
        pooled = app.db.engine.raw_connection()
        assert pooled.driver_connection.text_factory is str
        pooled.close()


def test_a_host_reads_on_the_same_session(app, conversations, corrupted):
    """Inside a host's own transaction a corrupt row is read too, and the transaction goes on."""
    conversation_id = corrupted("conversation_messages", "metadata", f"'{DEEP}'")
    with app.app_context():
        ada = conversations.as_user("ada")
        with ada.transaction():
            ada.save_message(conversation_id, "user", "d")
            assert [m["content"] for m in ada.get_messages(conversation_id)["messages"]] == list("abcd")
            ada.save_message(conversation_id, "user", "e")
        assert contents(ada, conversation_id) == list("abcde")
