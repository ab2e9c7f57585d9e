"""Large data: every page of thousands of messages and conversations comes from an index, in the order it is asked for.

They are 10,000 and 5,000, which is enough for a database to see that an index is worth while; with `--form=long` 50,000 and 20,000.
"""

from __future__ import annotations

import datetime as dt

import pytest
import sqlalchemy as sa

from flask_conversations.ids import new_id
from tests.service.tools import in_use

pytestmark = pytest.mark.slow

START = dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc)


def conversation_rows(user, count):
    """Conversations of one user, a minute apart."""
    for n in range(count):
        at = START + dt.timedelta(minutes=n)
        yield {
            "id": new_id(),
            "user_id": user,
            "org_id": "",
            "title": f"{n * 7919 % count:05}",
            "title_source": "user",
            "status": "active",
            "starred": n % 100 == 0,
            "temporary": False,
            "version": 1,
            "rev": n,
            "last_seq": 0,
            "message_count": 0,
            "checksum": 0,
            "branched": False,
            "branch": "main",
            "created_at": at,
            "updated_at": at,
            "last_activity_at": at,
        }


def message_rows(conversation_id, count):
    """Messages of one conversation, as its owner would have saved them."""
    parent = None
    for seq in range(1, count + 1):
        at = START + dt.timedelta(seconds=seq)
        own = new_id()
        yield {
            "conversation_id": conversation_id,
            "seq": seq,
            "id": own,
            "org_id": "",
            "user_id": "ada",
            "parent_id": parent,
            "version": 1,
            "digest": 0,
            "role": "user" if seq % 2 else "assistant",
            "type": "text",
            "content": f"message {seq}",
            "content_is_parts": False,
            "status": "delivered",
            "created_at": at,
            "updated_at": at,
        }
        parent = own


@pytest.fixture
def size(long):
    """How many messages there are."""
    return 50_000 if long else 10_000


@pytest.fixture
def large(app, ada, bob, size):
    """Ada's conversation of that size; Bob has a few."""
    bob.create_conversation(messages=[{"role": "user", "content": name} for name in "xyz"])
    chat = ada.create_conversation("large", id="large")
    models = app.conversations.models
    rows = list(message_rows(chat["id"], size))
    table = models.Conversation.__table__
    counted = {"last_seq": size, "message_count": size, "head_id": rows[-1]["id"], "version": 2}
    with app.app_context(), app.db.engine.begin() as connection:
        connection.execute(sa.insert(models.Message.__table__), rows)
        connection.execute(sa.update(table).where(table.c.id == chat["id"]).values(counted))
        connection.exec_driver_sql("ANALYZE")
    return chat["id"]


@pytest.fixture
def many(app, bob, long):
    """Ada's 5,000 conversations, or 20,000; Bob has three."""
    for name in "xyz":
        bob.create_conversation(name)
    table = app.conversations.models.Conversation.__table__
    with app.app_context(), app.db.engine.begin() as connection:
        connection.execute(sa.insert(table), list(conversation_rows("ada", 20_000 if long else 5_000)))
        connection.exec_driver_sql("ANALYZE")


@pytest.fixture
def plans(app):
    """The plans that the database chose for the statements of a call: `plans(call)`."""

    def of(call):
        seen = []

        def note(connection, cursor, statement, parameters, context, executemany):
            if statement.lstrip().upper().startswith(("SELECT", "WITH")):
                seen.append((statement, parameters))

        with app.app_context():
            engine = app.db.engine
        sa.event.listen(engine, "before_cursor_execute", note)
        call()
        sa.event.remove(engine, "before_cursor_execute", note)
        explain = "EXPLAIN QUERY PLAN " if engine.name == "sqlite" else "EXPLAIN "
        with engine.connect() as connection:
            found = [connection.exec_driver_sql(explain + sql, parameters).all() for sql, parameters in seen]
        return "\n".join(str(row[-1]) for plan in found for row in plan)

    return of


def fast(plan, table, *, sorts=0):
    """The table is not read from end to end, and nothing large is sorted."""
    lines = [line.strip() for line in plan.splitlines()]
    scans = [line for line in lines if line.startswith(f"SCAN {table}") or f"Seq Scan on {table}" in line]
    assert not [line for line in scans if "INDEX" not in line], plan
    assert len([line for line in lines if line.startswith("Sort ") or "TEMP B-TREE" in line]) <= sorts, plan
    assert [line for line in lines if "INDEX" in line or "Index" in line], plan


def test_a_large_history_is_read_by_index(app, ada, bob, large, size, plans):
    """History and pages at the end, in the middle and at the beginning of a large conversation walk the primary key."""
    half = size // 2
    middle = ada.get_messages(large, before=half)["messages"]
    assert [message["seq"] for message in middle] == list(range(half - 50, half))
    calls = {
        "history": lambda: ada.get_conversation_history(large, 15),
        "history by client id": lambda: ada.get_conversation_history("large", 15),
        "newest": lambda: ada.get_messages(large),
        "middle": lambda: ada.get_messages(large, before=half),
        "first": lambda: ada.get_messages(large, after=0),
        "forward": lambda: ada.get_messages(large, after=half, limit=100),
        "by id": lambda: ada.get_messages(large, before=middle[0]["id"]),
        "one": lambda: ada.get_message(large, middle[0]["id"]),
    }
    for call in calls.values():
        # the window is at most one page: sorting it again is nothing
        fast(plans(call), "conversation_messages", sorts=2)
    assert bob.conversation_exists(large) is False
    assert ada.save_message(large, "user", "one more")["seq"] == size + 1
    assert ada.save_message(large, "user", "x", client_id="k")["seq"] == size + 2
    assert ada.pop_message(large)["seq"] == size + 2
    fast(plans(ada.load_conversations), "conversation_messages", sorts=4)
    assert ada.get_conversation(large)["message_count"] == size + 1
    assert in_use(app) == 0


def test_long_lists_are_read_by_index(ada, bob, many, plans):
    """Each page of a long list, in the default order and by updated_at, walks an index of the owner's."""
    for order in ("-last_activity_at", "last_activity_at", "-updated_at", "updated_at"):
        first = ada.list_conversations(order=order, limit=100)
        deep = ada.list_conversations(order=order, cursor=first["next_cursor"], limit=100)
        assert not {one["id"] for one in first["conversations"]} & {one["id"] for one in deep["conversations"]}
        for cursor in (None, first["next_cursor"]):
            plan = plans(lambda: ada.list_conversations(order=order, cursor=cursor))  # noqa: B023 - called at once
            fast(plan, "conversations")
            assert ("activity" if "activity" in order else "updated") in plan, plan
    # Ada owns nearly all rows here: for a filter without an index of its own, reading them all is the right plan
    fast(plans(lambda: ada.list_conversations(tag="t")), "conversations", sorts=1)
    assert len(bob.list_conversations()["conversations"]) == 3


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_pages_know_no_offset(app, ada, statements):
    """Pages continue by key: no statement of a page by cursor skips rows by OFFSET."""
    chat = ada.create_conversation(messages=[{"role": "user", "content": "x"}] * 3)
    ada.create_conversation()
    with statements(app) as seen:
        page = ada.list_conversations(limit=1)
        ada.list_conversations(limit=1, cursor=page["next_cursor"])
        place = ada.get_messages(chat["id"], limit=1)["next_cursor"]
        ada.get_messages(chat["id"], limit=1, before=place)
    assert not [statement for statement in seen if "OFFSET" in statement.upper()]


def test_every_key_starts_with_the_distribution_column(app):
    """Messages can be partitioned or distributed by conversation: each of their unique keys begins with it."""
    table = app.conversations.models.Message.__table__
    keys = [list(table.primary_key.columns)]
    keys += [list(one.columns) for one in table.constraints if isinstance(one, sa.UniqueConstraint)]
    keys += [list(index.columns) for index in table.indexes if index.unique]
    assert [key[0].name for key in keys] == ["conversation_id"] * len(keys)
    assert {"conversation_id", "user_id", "org_id"} <= set(table.columns.keys())


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_behind_a_transaction_pooler(make_app, threads):
    """Without server-side prepared statements and with any connection for any transaction, as behind PgBouncer, all works."""
    app = make_app(
        SQLALCHEMY_ENGINE_OPTIONS={"poolclass": sa.NullPool, "connect_args": {"prepare_threshold": None}},
    )
    ada = app.conversations.as_user("ada", app=app)
    chat = ada.create_conversation()
    threads(4, lambda i: [ada.save_message(chat["id"], "user", f"{i} {n}") for n in range(5)])
    assert ada.get_conversation(chat["id"])["message_count"] == 20
    leftovers = "SELECT count(*) FROM pg_prepared_statements"
    with app.app_context():
        assert app.db.session.scalar(sa.text(leftovers)) == 0


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_hash_partitioned_messages(make_app, database):
    """The tables work unchanged when an operator partitions the messages by conversation."""
    app = make_app(tables=False, SQLALCHEMY_DATABASE_URI=database.empty())
    with app.app_context(), app.db.engine.begin() as connection:
        message = app.conversations.models.Message.__table__
        for table in app.conversations.models.tables.values():
            if table is not message:
                table.create(connection)
        ddl = str(sa.schema.CreateTable(message).compile(connection)).rstrip()
        connection.exec_driver_sql(f"{ddl} PARTITION BY HASH (conversation_id)")
        for n in range(4):
            connection.exec_driver_sql(
                f"CREATE TABLE messages_{n} PARTITION OF conversation_messages "
                f"FOR VALUES WITH (MODULUS 4, REMAINDER {n})"
            )
        for index in message.indexes:
            index.create(connection)
    ada, bob = (app.conversations.as_user(name, app=app) for name in ("ada", "bob"))
    for n in range(8):
        chat = ada.create_conversation(messages=[{"role": "user", "content": str(n), "client_id": "k"}])
        ada.save_message(chat["id"], "assistant", "answer")
        ada.save_message(chat["id"], "user", str(n), client_id="k")
    assert [m["content"] for m in ada.get_messages(chat["id"])["messages"]] == ["7", "answer"]
    assert bob.list_conversations()["conversations"] == []
    with app.app_context():
        found = sa.text("SELECT count(DISTINCT tableoid) FROM conversation_messages")
        assert app.db.session.scalar(found) > 1
