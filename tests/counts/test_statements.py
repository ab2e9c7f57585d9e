"""How much SQL each call sends, however much there is to read: the price list of the service."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from flask_conversations.ids import new_id
from tests.service.tools import in_use


@pytest.fixture
def app(make_app):
    """What a cache saves is counted in tests/cache."""
    return make_app(CONVERSATIONS_CACHE=False)


@pytest.fixture(params=[1, 300], ids=["little", "much"])
def data(request, app, ada, bob):
    """Ada and Bob with one conversation of one message, or with many of both."""
    size = request.param
    batch = [{"role": "user", "content": f"m {n}", "client_id": f"k{n}"} for n in range(size)]
    for service in (ada, bob):
        copy(app, service.create_conversation("t", tags=["t"])["id"], size - 1)
        service.create_conversation("T", id="c-1", messages=batch)
    assert len(ada.list_conversations(limit=100, tag="t")["conversations"]) == min(size, 100)
    return ada.get_conversation("c-1")


def copy(app, conversation_id, count):
    """So many more conversations like one, its tag included: to create each by a call would take seconds."""
    models = app.conversations.models
    ids = [new_id() for _ in range(count)]
    with app.app_context(), app.db.engine.begin() as connection:
        for model, key in ((models.Conversation, "id"), (models.Tag, "conversation_id")):
            table = model.__table__
            row = connection.execute(sa.select(table).where(table.c[key] == conversation_id)).mappings().one()
            if ids:
                connection.execute(sa.insert(table), [{**row, key: own} for own in ids])


@pytest.fixture
def cost(app, statements):
    """The statements of one call, which holds one connection at a time and gives it back."""
    with app.app_context():
        pool = app.db.engine.pool
    taken = set()

    def note(*_):
        taken.add(pool.checkedout())

    sa.event.listen(pool, "checkout", note)

    def count(call):
        with statements(app) as seen:
            call()
        assert in_use(app) == 0
        assert taken <= {1}
        return len(seen)

    return count


READS = {
    "get_conversation": (1, lambda ada, chat: ada.get_conversation(chat["id"])),
    "get_conversation by client id": (1, lambda ada, chat: ada.get_conversation("c-1")),
    "conversation_exists": (1, lambda ada, chat: ada.conversation_exists(chat["id"])),
    "get_conversation_history": (1, lambda ada, chat: ada.get_conversation_history(chat["id"])),
    "get_conversation_history by client id": (1, lambda ada, chat: ada.get_conversation_history("c-1")),
    "get_conversation_history for tokens": (1, lambda ada, chat: ada.get_conversation_history("c-1", max_tokens=9)),
    "get_messages": (1, lambda ada, chat: ada.get_messages(chat["id"])),
    "get_messages before a seq": (1, lambda ada, chat: ada.get_messages(chat["id"], before=1)),
    "get_message": (1, lambda ada, chat: ada.get_message(chat["id"], "k0")),
    "list_conversations": (1, lambda ada, chat: ada.list_conversations()),
    "list_conversations by tag": (1, lambda ada, chat: ada.list_conversations(tag="t", order="title")),
    "load_conversations": (2, lambda ada, chat: ada.load_conversations(limit=20)),
}


def test_reads(ada, data, cost, subtests):
    """Each read costs exactly this many statements, with one message or with hundreds."""
    for name, (exactly, call) in READS.items():
        with subtests.test(name):
            assert cost(lambda: call(ada, data)) == exactly  # noqa: B023 - called at once


WRITES = {
    "create_conversation": (1, lambda ada, chat: ada.create_conversation()),
    "create_conversation with messages": (
        2,
        lambda ada, chat: ada.create_conversation(messages=[{"role": "user", "content": "x"}] * 3),
    ),
    "save_message": (2, lambda ada, chat: ada.save_message(chat["id"], "user", "x")),
    "save_message by client id": (2, lambda ada, chat: ada.save_message("c-1", "user", "x")),
    "save_message with a client id": (2, lambda ada, chat: ada.save_message(chat["id"], "user", "x", client_id="new")),
    "save_message again": (3, lambda ada, chat: ada.save_message(chat["id"], "user", "m 0", client_id="k0")),
    "save_messages": (3, lambda ada, chat: ada.save_messages(chat["id"], [{"role": "user", "content": "x"}] * 50)),
    "update_conversation": (2, lambda ada, chat: ada.update_conversation(chat["id"], title="x")),
    "archive_conversation": (2, lambda ada, chat: ada.archive_conversation(chat["id"])),
    "update_message": (5, lambda ada, chat: ada.update_message(chat["id"], "k0", content="x")),
    "clear_conversation": (3, lambda ada, chat: ada.clear_conversation(chat["id"])),
    "delete_conversation": (2, lambda ada, chat: ada.delete_conversation(chat["id"])),
    "restore_conversation": (1, lambda ada, chat: ada.restore_conversation(chat["id"])),
    "delete_conversation permanently": (7, lambda ada, chat: ada.delete_conversation(chat["id"], permanent=True)),
}


def test_writes(ada, data, cost, subtests):
    """Each write costs at most this many statements, with one message or with hundreds."""
    for name, (most, call) in WRITES.items():
        with subtests.test(name):
            assert cost(lambda: call(ada, data)) <= most  # noqa: B023 - called at once


def test_a_turn(ada, http, data, cost):
    """History, question and answer of one turn: at most five statements, two of them writes each. Over REST the same."""

    def turn():
        ada.get_conversation_history(data["id"], limit=20)
        ada.save_message(data["id"], "user", "question")
        ada.save_message(data["id"], "assistant", "answer")

    assert cost(turn) <= 5
    client = http("ada")
    assert cost(lambda: client.post("/api/conversations/c-1/messages", json={"content": "x"})) <= 2


REQUESTS = {
    "list": (1, "/api/conversations"),
    "list with messages": (2, "/api/conversations?include=messages"),
    "one": (2, "/api/conversations/c-1"),
    "messages": (1, "/api/conversations/c-1/messages"),
    "openapi": (0, "/api/conversations/openapi.json"),
}


def test_requests(http, data, cost, subtests):
    """Each GET costs exactly this many statements, with one message or with hundreds."""
    client = http("ada")
    for name, (exactly, path) in REQUESTS.items():
        with subtests.test(name):
            assert client.get(path).status_code == 200
            assert cost(lambda: client.get(path)) == exactly  # noqa: B023 - called at once


def test_a_request_for_something_unchanged(http, data, cost):
    """304 costs one statement and reads no message."""
    client = http("ada")
    tag = client.get("/api/conversations/c-1").headers["ETag"]
    answers = []
    cost_of_304 = cost(lambda: answers.append(client.get("/api/conversations/c-1", headers={"If-None-Match": tag})))
    assert (answers[0].status_code, cost_of_304) == (304, 1)


def test_a_stranger_costs_what_a_missing_one_costs(http, bob, data, cost):
    """Asking for another user's conversation runs the same statements as asking for one that does not exist."""
    client = http("bob")
    foreign = cost(lambda: client.get(f"/api/conversations/{data['id']}"))
    missing = cost(lambda: client.get("/api/conversations/018f0000-0000-7000-8000-000000000000"))
    assert foreign == missing == 1
