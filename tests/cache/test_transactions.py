"""The cache and transactions: groups, savepoints, hosts that commit or roll back themselves, and a Redis that breaks."""

from __future__ import annotations

import itertools
import threading

import pytest
import sqlalchemy as sa
from flask_sqlalchemy import SQLAlchemy

from flask_conversations import Conversations
from flask_conversations.errors import NotFound, StorageUnavailable

from ..infra.apps import identity_from_headers
from ..service.tools import Failure, failing, sql
from .tools import ASSISTANT, USER, as_user, assert_at_rest, cache_of, counted, key, said

ON_POSTGRESQL = pytest.mark.parametrize("database", ["postgresql"], indirect=True)
ON_SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


def texts(service, conversation_id, limit=15):
    return [message["content"] for message in service.get_conversation_history(conversation_id, limit)]


IN_BOTH_MODES = pytest.mark.parametrize("app", [False, True], indirect=True, ids=["default", "strict"])
"""For reads inside a transaction. Strict mode changes nothing of what is written; `agrees` reads in both."""


@pytest.fixture
def app(request, make_app, redis_url):
    return make_app(CONVERSATIONS_REDIS_URL=redis_url, CONVERSATIONS_CACHE_STRICT=getattr(request, "param", False))


@pytest.fixture
def strictly(make_app, redis_url):
    return make_app(CONVERSATIONS_REDIS_URL=redis_url, CONVERSATIONS_CACHE_STRICT=True)


@pytest.fixture
def host(make_app, redis_url):
    """An app whose host commits."""
    return make_app(CONVERSATIONS_REDIS_URL=redis_url, CONVERSATIONS_AUTOCOMMIT=False, CONVERSATIONS_CACHE_STRICT=False)


@pytest.fixture
def chat(app):
    return as_user(app).create_conversation(messages=said("one"))["id"]


@pytest.fixture
def agrees(app, strictly, cold, stored, uncached):
    """Asserts that Redis and the database say these texts in either mode, and nothing is left under way."""

    def check(chat, *expected):
        assert_at_rest(stored, uncached)
        assert texts(cold, chat) == list(expected)
        for reader in (app, strictly, app):
            assert texts(as_user(reader), chat) == list(expected)
        assert counted(strictly, "disagreed") == 0
        assert_at_rest(stored, uncached)

    return check


# -- groups of our own


def test_several_saves_in_one_group_are_applied_together(app, chat, stored, agrees):
    """Three appends of one transaction bring the entry three versions further, in order."""
    ada = as_user(app)
    with ada.transaction():
        ada.save_message(chat, USER, "two")
        assert stored.contents(chat) == ["one"], "nothing uncommitted is in Redis"
        ada.save_messages(chat, said("three", "four"))
        ada.save_message(chat, ASSISTANT, "five")
    assert stored.contents(chat) == ["five", "four", "three", "two", "one"]
    agrees(chat, "one", "two", "three", "four", "five")


def test_more_than_the_entry_holds_in_one_group(app, chat, stored, agrees):
    """Batches and single messages, far more than 15: the entry has the newest, without a hole."""
    ada = as_user(app)
    with ada.transaction():
        ada.save_messages(chat, said(*(f"a {n}" for n in range(20))))
        ada.save_message(chat, USER, "b")
        ada.save_messages(chat, said(*(f"c {n}" for n in range(20))))
        ada.save_messages(chat, said("d", "e"))
    assert stored.contents(chat) == ["e", "d", *(f"c {n}" for n in range(19, 6, -1))]
    agrees(chat, *(f"c {n}" for n in range(7, 20)), "d", "e")


def test_an_edit_between_appends_empties_the_entry(app, chat, stored, agrees):
    """What is no plain append leaves nothing behind, wherever in the group it stands."""
    ada = as_user(app)
    for place in range(3):
        with ada.transaction():
            for n in range(3):
                ada.save_message(chat, USER, f"m {n}")
                if n == place:
                    ada.update_message(chat, ada.get_messages(chat)["messages"][0]["id"], content=f"edited {place}")
        assert stored.texts(chat) == []
        ada.get_conversation_history(chat)
    agrees(chat, "edited 2", *["m 0", "m 1", "m 2"] * 3)


def test_a_group_over_several_conversations(app, stored, agrees):
    """Each conversation of a transaction is settled for itself: created, appended to, renamed, deleted."""
    ada = as_user(app)
    first, second, third = (ada.create_conversation(messages=said("x"))["id"] for _ in range(3))
    with ada.transaction():
        ada.save_message(first, USER, "more")
        ada.update_conversation(second, title="T")
        ada.delete_conversation(third)
        born = ada.create_conversation(messages=said("born"))["id"]
        ada.save_message(born, USER, "grown")
    assert [stored.contents(one) for one in (first, second, third, born)] == [
        ["more", "x"],
        [],
        [],
        ["grown", "born"],
    ]
    agrees(first, "x", "more")
    agrees(second, "x")
    agrees(born, "born", "grown")


def test_a_group_that_fails_leaves_the_entry_as_it_was(app, chat, client, stored, agrees):
    """An error rolls the group back: not a round trip, and the entry serves on."""
    ada = as_user(app)
    before = stored.texts(chat)
    reserved = counted(app, "reserved")
    with failing(ada.transaction()):
        ada.save_message(chat, USER, "never")
        ada.create_conversation(messages=said("never"))
    assert stored.texts(chat) == before
    assert len(client.keys("*")) == 1
    assert counted(app, "reserved") == reserved
    agrees(chat, "one")


def test_a_group_inside_a_group_that_fails(app, chat, agrees):
    """What a rolled back inner group had appended is in no entry; what stands around it is."""
    ada = as_user(app)
    with ada.transaction():
        ada.save_message(chat, USER, "two")
        with failing(ada.transaction()):
            ada.save_message(chat, USER, "never")
            ada.save_message(chat, USER, "never either")
        ada.save_message(chat, USER, "three")
    agrees(chat, "one", "two", "three")


def test_an_inner_group_that_fails_with_an_edit_leaves_an_append(app, chat, agrees):
    """The edit is undone with its savepoint: what is left is an append, and shows."""
    ada = as_user(app)
    first = ada.get_messages(chat)["messages"][0]["id"]
    with ada.transaction():
        ada.save_message(chat, USER, "two")
        with failing(ada.transaction()):
            ada.update_message(chat, first, content="never")
    agrees(chat, "one", "two")


@IN_BOTH_MODES
def test_own_writes_are_seen_inside_and_by_nobody_outside(app, chat, cold, stored, agrees):
    """Inside an open transaction a read shows what it has written; Redis and everybody else still have what is committed."""
    ada = as_user(app)
    with ada.transaction():
        ada.save_message(chat, USER, "two")
        assert texts(ada, chat) == ["one", "two"]
        assert [one["content"] for one in ada.get_messages(chat)["messages"]] == ["one", "two"]
        outside = []
        for reader in (as_user(app), cold):
            thread = threading.Thread(target=lambda one: outside.append(texts(one, chat)), args=[reader])
            thread.start()
            thread.join()
        assert outside == [["one"], ["one"]]
        assert "two" not in stored.contents(chat)
        stored.client.flushdb()
        assert texts(ada, chat) == ["one", "two"]
        assert stored.texts(chat) == [], "an uncommitted state fills nothing"
    agrees(chat, "one", "two")


@IN_BOTH_MODES
def test_other_conversations_are_read_as_ever_inside_a_group(app, chat, agrees):
    """Reading another conversation in the middle of a transaction is right, whichever way it goes."""
    ada = as_user(app)
    other = ada.create_conversation(messages=said("other"))["id"]
    with ada.transaction():
        ada.save_message(chat, USER, "two")
        assert texts(ada, other) == ["other"]
        with failing(ada.transaction()):
            ada.save_message(other, USER, "never")
            assert texts(ada, other) == ["other", "never"]
        assert texts(ada, other) == ["other"]
    agrees(other, "other")
    agrees(chat, "one", "two")


def test_a_message_changed_by_the_caller_before_the_commit(app, chat, agrees):
    """The dict that `save_message` returns is the caller's: Redis gets what is in the database."""
    ada = as_user(app)
    with ada.transaction():
        saved = ada.save_message(chat, USER, "two", metadata={"a": [1]}, attachments=["x"])
        saved["content"] = "forged"
        saved["metadata"]["a"].append(2)
        saved["attachments"].clear()
        for each in ada.save_messages(chat, said("three")):
            each.clear()
    agrees(chat, "one", "two", "three")
    assert ada.get_messages(chat)["messages"][1]["metadata"] == {"a": [1]}


def test_what_the_caller_handed_in_and_changed_before_the_commit(app, chat, cold):
    """Objects given to `save_message` may change afterwards: database and Redis have what was given."""
    ada = as_user(app)
    metadata = {"a": [1]}
    with ada.transaction():
        ada.save_message(chat, USER, "two", metadata=metadata)
        metadata["a"].append(2)
        metadata["b"] = 1
    assert ada.get_messages(chat) == cold.get_messages(chat)


# -- hosts


@IN_BOTH_MODES
def test_joined_calls_are_settled_by_the_hosts_commit(app, chat, stored, agrees):
    """`joined()`: nothing is in Redis before the host's commit, everything after it."""
    ada = as_user(app)
    with app.app_context():
        service = app.conversations.as_user("ada")
        with service.joined():
            service.save_message(chat, USER, "two")
            service.save_message(chat, USER, "three")
            assert texts(service, chat) == ["one", "two", "three"]
        assert stored.contents(chat) == ["one"]
        app.db.session.commit()
        assert stored.contents(chat) == ["three", "two", "one"]
    agrees(chat, "one", "two", "three")
    assert texts(ada, chat) == ["one", "two", "three"]


def test_a_host_that_commits_itself(host, uncached, cold, stored):
    """CONVERSATIONS_AUTOCOMMIT = False: the host's commit applies, its rollback leaves everything as it was."""
    with host.app_context():
        ada = host.conversations.as_user("ada")
        chat = ada.create_conversation(messages=said("one"))["id"]
        assert stored.client.keys("*") == []
        host.db.session.commit()
        assert stored.contents(chat) == ["one"]
        ada.save_message(chat, USER, "two")
        assert texts(ada, chat) == ["one", "two"]
        host.db.session.rollback()
        assert stored.contents(chat) == ["one"]
        assert texts(ada, chat) == ["one"]
        ada.save_message(chat, USER, "three")
        host.db.session.commit()
        assert stored.contents(chat) == ["three", "one"]
        ada.save_message(chat, USER, "four")
        host.db.session.close()
        ada.save_message(chat, USER, "five")
        host.db.session.remove()
    assert_at_rest(stored, uncached)
    assert texts(cold, chat) == ["one", "three"]


def test_a_savepoint_of_the_host(host, uncached, cold, stored):
    """What the host's rolled back savepoint contained is applied by nobody; a released one is, at any depth."""
    with host.app_context():
        session, ada = host.db.session, host.conversations.as_user("ada")
        chat = ada.create_conversation(messages=said("one"))["id"]
        session.commit()
        ada.save_message(chat, USER, "two")
        with failing(session.begin_nested()):
            ada.save_message(chat, USER, "never")
            with session.begin_nested():
                ada.save_message(chat, USER, "never, though released")
        with session.begin_nested(), session.begin_nested():
            ada.save_message(chat, USER, "three")
        assert texts(ada, chat) == ["one", "two", "three"]
        session.commit()
    assert_at_rest(stored, uncached)
    assert texts(as_user(host), chat) == texts(cold, chat) == ["one", "two", "three"]


def test_a_savepoint_that_the_hosts_commit_releases(host, uncached, stored):
    """`session.commit()` with a savepoint still open commits both, once."""
    with host.app_context():
        session, ada = host.db.session, host.conversations.as_user("ada")
        chat = ada.create_conversation(messages=said("one"))["id"]
        session.commit()
        session.begin_nested()
        ada.save_message(chat, USER, "two")
        session.commit()
    assert stored.contents(chat) == ["two", "one"]
    assert_at_rest(stored, uncached)


def test_a_savepoint_of_the_connection(host, uncached, cold, stored):
    """A savepoint that the host makes below its session is not known to it: what was in it is in no entry."""
    with host.app_context():
        session, ada = host.db.session, host.conversations.as_user("ada")
        chat = ada.create_conversation(messages=said("one"))["id"]
        session.commit()
        below = session.connection().begin_nested()
        ada.save_message(chat, USER, "never")
        below.rollback()
        session.commit()
    assert texts(cold, chat) == ["one"]
    assert texts(as_user(host), chat) == ["one"]
    assert_at_rest(stored, uncached)


def test_a_host_object_that_cannot_be_written(make_app, redis_url, stored, uncached, cold):
    """The host's commit fails on its own pending row: the entry is as it was, and nothing is reserved for long."""
    db = SQLAlchemy()

    class Note(db.Model):
        __tablename__ = "host_notes"
        id: sa.orm.Mapped[int] = sa.orm.mapped_column(primary_key=True)
        text: sa.orm.Mapped[str] = sa.orm.mapped_column(nullable=False)

    conversations = Conversations(db, identity=identity_from_headers)
    app = make_app(
        conversations=conversations,
        db=db,
        CONVERSATIONS_REDIS_URL=redis_url,
        CONVERSATIONS_AUTOCOMMIT=False,
        CONVERSATIONS_CACHE_STRICT=False,
    )
    with app.app_context():
        Note.__table__.create(db.engine, checkfirst=True)
        try:
            ada = conversations.as_user("ada")
            chat = ada.create_conversation(messages=said("one"))["id"]
            db.session.commit()
            before, reserved = stored.texts(chat), counted(app, "reserved")
            ada.save_message(chat, USER, "never")
            db.session.add(Note(text=None))
            with pytest.raises(sa.exc.IntegrityError):
                db.session.commit()
            db.session.rollback()
            assert stored.texts(chat) == before
            assert counted(app, "reserved") == reserved
            assert texts(ada, chat) == ["one"]
            ada.save_message(chat, USER, "two")
            db.session.add(Note(text="fine"))
            db.session.commit()
            assert stored.contents(chat) == ["two", "one"]
        finally:
            db.session.remove()
            Note.__table__.drop(db.engine)
    assert_at_rest(stored, uncached)
    assert texts(cold, chat) == ["one", "two"]


def test_a_host_that_fails_after_the_commit(host, uncached, cold, stored):
    """A listener of the host's that raises after the commit gets its error, and Redis is right all the same."""

    def raising(_):
        raise Failure

    with host.app_context():
        session, ada = host.db.session, host.conversations.as_user("ada")
        chat = ada.create_conversation(messages=said("one"))["id"]
        session.commit()
        ada.save_message(chat, USER, "two")
        sa.event.listen(session(), "after_commit", raising)
        with pytest.raises(Failure):
            session.commit()
        sa.event.remove(session(), "after_commit", raising)
        session.remove()
    assert texts(cold, chat) == ["one", "two"]
    assert texts(as_user(host), chat) == ["one", "two"]


@ON_POSTGRESQL
@IN_BOTH_MODES
@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_host_with_a_snapshot_is_not_told_of_what_came_later(app, chat, level, client, agrees):
    """In REPEATABLE READ and SERIALIZABLE a read keeps to its transaction's snapshot, and fills nothing from it."""
    with app.app_context():
        session, ada = app.db.session, app.conversations.as_user("ada")
        session.connection(execution_options={"isolation_level": level})
        session.execute(sa.text("SELECT 1"))
        assert texts(ada, chat) == ["one"]
        other = threading.Thread(target=as_user(app).save_message, args=[chat, USER, "two"])
        other.start()
        other.join()
        assert texts(ada, chat) == ["one"]
        client.delete(key(chat))
        assert texts(ada, chat) == ["one"]
        assert client.exists(key(chat)) == 0
        session.rollback()
        assert texts(ada, chat) == ["one", "two"]
    agrees(chat, "one", "two")


@ON_POSTGRESQL
@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_an_engine_with_a_higher_level(make_app, redis_url, level, uncached, cold, stored):
    """Where every transaction is of a higher level, calls of our own use the cache, and those in a host's do not."""
    app = make_app(
        CONVERSATIONS_REDIS_URL=redis_url,
        CONVERSATIONS_CACHE_STRICT=False,
        SQLALCHEMY_ENGINE_OPTIONS={"isolation_level": level},
    )
    ada = as_user(app)
    chat = ada.create_conversation(messages=said("one"))["id"]
    stored.client.flushdb()
    for _ in range(2):
        assert texts(ada, chat) == ["one"]
    assert counted(app, "filled", "hits") == [1, 1]
    ada.save_message(chat, USER, "two")
    assert texts(ada, chat) == ["one", "two"]
    with app.app_context():
        service = app.conversations.as_user("ada")
        app.db.session.execute(sa.text("SELECT 1"))
        asked = counted(app, "hits", "misses")
        assert texts(service, chat) == ["one", "two"]
        assert counted(app, "hits", "misses") == asked
    assert_at_rest(stored, uncached)


@ON_SQLITE
@IN_BOTH_MODES
def test_sqlite_inside_a_transaction_asks_nobody(app, chat, client):
    """A SQLite transaction has a snapshot: who is inside one reads from the database."""
    with app.app_context():
        session, ada = app.db.session, app.conversations.as_user("ada")
        session.execute(sa.text("CREATE TABLE host_things (id INTEGER)"))
        session.execute(sa.text("INSERT INTO host_things VALUES (1)"))
        asked = counted(app, "hits", "misses")
        assert texts(ada, chat) == ["one"]
        assert counted(app, "hits", "misses") == asked
        session.rollback()
        assert texts(ada, chat) == ["one"]
        assert counted(app, "hits") == asked[0] + 1


@IN_BOTH_MODES
def test_a_host_that_has_only_read_still_uses_the_cache(app, chat, client, stored, uncached):
    """Flask-Login loads a user before the view: a session that is merely in a transaction reads from Redis, and fills it."""
    with app.app_context():
        session, ada = app.db.session, app.conversations.as_user("ada")
        for cold in (False, True):
            session.execute(sa.text("SELECT 1"))
            assert session().in_transaction()
            if cold:
                client.flushdb()
            asked = counted(app, "hits", "filled")
            assert texts(ada, chat) == ["one"]
            assert counted(app, "hits", "filled") == [asked[0] + (not cold), asked[1] + cold]
            assert session().in_transaction(), "the host's transaction is left as it was"
    assert_at_rest(stored, uncached)


def test_two_apps_on_one_session(make_app, redis_url, stored, uncached, cold):
    """Two extensions share a host's session and its transaction, with one Redis or with two prefixes: both are right."""
    db = SQLAlchemy(session_options={"scopefunc": threading.get_ident})
    apps = [
        make_app(
            conversations=Conversations(db, identity=identity_from_headers),
            db=db,
            CONVERSATIONS_REDIS_URL=redis_url,
            CONVERSATIONS_CACHE_PREFIX=prefix,
            CONVERSATIONS_AUTOCOMMIT=False,
            CONVERSATIONS_CACHE_STRICT=False,
        )
        for prefix in ("", "", "other:")
    ]
    services = [one.conversations.as_user("ada") for one in apps]

    def call(place, name, *arguments, **options):
        with apps[place].app_context():
            return getattr(services[place], name)(*arguments, **options)

    def commit():
        with apps[0].app_context():
            db.session.commit()

    with apps[0].app_context():
        chat = call(0, "create_conversation", messages=said("one"))["id"]
        commit()
    try:
        call(0, "save_message", chat, USER, "two")
        call(1, "save_message", chat, USER, "three")
        commit()
        assert stored.contents(chat) == ["three", "two", "one"]
        call(2, "save_message", chat, USER, "four")
        call(1, "save_message", chat, USER, "five")
        call(0, "save_message", chat, USER, "six")
        commit()
        for place in (0, 1, 2):
            assert [one["content"] for one in call(place, "get_messages", chat)["messages"]] == [
                "one",
                "two",
                "three",
                "four",
                "five",
                "six",
            ][:6], place
    finally:
        with apps[0].app_context():
            db.session.remove()


# -- commits that fail, and a Redis that fails around them


@pytest.fixture
def refusing(uncached):
    """The database refuses commits of new rows meanwhile: what is written is undone at the commit, known to be."""
    made = []

    def refuse(table):
        sql(
            uncached,
            "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '40001'; END $$",
        )
        sql(
            uncached,
            f"CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON {table} DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION refuse()",
        )
        made.append(table)

    def allow():
        while made:
            sql(uncached, f"DROP TRIGGER refuse ON {made.pop()}")
            sql(uncached, "DROP FUNCTION refuse")

    refuse.allow = allow
    yield refuse
    allow()


@ON_POSTGRESQL
def test_a_commit_that_the_database_refuses(app, chat, refusing, stored, agrees):
    """A serialization failure at COMMIT is known to be one: the entry is opened again at once, and serves."""
    refusing("conversation_messages")
    before = stored.texts(chat)
    with pytest.raises(StorageUnavailable):
        as_user(app).save_message(chat, USER, "never")
    assert stored.texts(chat) == before
    assert counted(app, "undone") == 4
    hits = counted(app, "hits")
    assert texts(as_user(app), chat) == ["one"]
    assert counted(app, "hits") == hits + 1
    refusing.allow()
    as_user(app).save_message(chat, USER, "two")
    agrees(chat, "one", "two")


@ON_POSTGRESQL
def test_a_new_conversation_that_the_database_refuses(app, refusing, client, agrees):
    """What was never created has no entry, not even an empty one: it does not exist, as before."""
    own_id = "6b1f5a1e-9a0e-4c5c-9d3b-0d4a1f2b3c4d"
    refusing("conversations")
    with pytest.raises(StorageUnavailable):
        as_user(app).create_conversation(id=own_id)
    assert client.keys("*") == []
    with pytest.raises(NotFound):
        texts(as_user(app), own_id)
    refusing.allow()
    as_user(app).create_conversation(id=own_id, messages=said("one"))
    agrees(own_id, "one")


@ON_POSTGRESQL
def test_a_role_that_may_only_read(make_app, redis_url, uncached, cold, client):
    """A worker whose database role has SELECT and nothing else reads as without a cache."""
    chat = cold.create_conversation(messages=said("one"))["id"]
    reader = make_app(CONVERSATIONS_REDIS_URL=redis_url, tables=False)
    with reader.app_context():
        engine = reader.db.engine
    sql(uncached, "CREATE ROLE only_reads")
    sql(uncached, "GRANT USAGE ON SCHEMA public TO only_reads")
    sql(uncached, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO only_reads")

    @sa.event.listens_for(engine, "connect")
    def become(connection, _):
        connection.execute("SET ROLE only_reads")
        connection.commit()

    try:
        for _ in range(2):
            assert texts(as_user(reader), chat) == ["one"]
    finally:
        engine.dispose()
        sql(uncached, "DROP OWNED BY only_reads")
        sql(uncached, "DROP ROLE only_reads")


def close_breakers(app):
    """As if their time had passed."""
    for breaker in (cache_of(app).server.reading, cache_of(app).server.writing):
        breaker.succeeded()


STEPS = {"RESERVE": 1, "APPLY": 2}
FAULTS = ("cut_before", "cut_after", "cut_reply", "garble", "swallow", "lose_reply", "double", "error", "nonsense")
WRITES = {
    "append": lambda ada, chat: ada.save_message(chat, USER, "two"),
    "edit": lambda ada, chat: ada.update_message(chat, ada.get_messages(chat)["messages"][0]["id"], content="1"),
    "delete": lambda ada, chat: ada.delete_conversation(chat),
    "create": lambda ada, chat: ada.create_conversation(messages=said("new")),
}


def break_it(proxy, fault, nth):
    if fault == "error":
        return proxy.answer(b"-ERR something else\r\n", "EVALSHA", nth=nth)
    if fault == "nonsense":
        return proxy.answer(b"*2\r\n$5\r\nother\r\n$7\r\napplied\r\n", "EVALSHA", nth=nth)
    return getattr(proxy, fault)("EVALSHA", nth=nth)


def test_redis_fails_around_a_commit(make_app, redis_url, proxy, cold, subtests):
    """Whatever becomes of RESERVE or of APPLY and DROP, the caller hears nothing of it, and the next read is right."""
    app = make_app(CONVERSATIONS_REDIS_URL=proxy.url, CONVERSATIONS_REDIS_TIMEOUT=0.1, CONVERSATIONS_CACHE_STRICT=False)
    other = make_app(CONVERSATIONS_REDIS_URL=redis_url, CONVERSATIONS_REDIS_TIMEOUT=5, CONVERSATIONS_CACHE_STRICT=False)
    ada = as_user(app)
    for step, fault, name in itertools.product(STEPS, FAULTS, WRITES):
        with subtests.test(name, fault=fault, step=step):
            close_breakers(app)
            chat = ada.create_conversation(messages=said("one"))["id"]
            ada.get_conversation_history(chat)
            # an edit reads before it writes, inside the same call
            with break_it(proxy, fault, STEPS[step] + (name == "edit")) as broken:
                WRITES[name](ada, chat)
            assert len(broken.hit) == 1
            for reader in (ada, as_user(other), ada):
                if name == "delete":
                    with pytest.raises(NotFound):
                        texts(reader, chat)
                else:
                    assert texts(reader, chat) == texts(cold, chat)
                    assert reader.get_messages(chat)["messages"] == cold.get_messages(chat)["messages"]


def test_redis_is_away_for_a_while(proxied, proxy, cold, uncached, stored, client):
    """Refused, then back: reads and writes go on, this process serves nothing that it could not settle, and all heals."""
    ada = as_user(proxied)
    chat = ada.create_conversation(messages=said("one"))["id"]
    proxy.refuse()
    proxy.cut_all()
    ada.save_message(chat, USER, "two")
    assert stored.contents(chat) == ["one"], "Redis knows nothing of it"
    assert texts(ada, chat) == ["one", "two"]
    proxy.accept()
    close_breakers(proxied)
    assert texts(ada, chat) == ["one", "two"]
    assert counted(proxied, "stale_keys") == 0
    assert texts(ada, chat) == texts(cold, chat)
    assert_at_rest(stored, uncached)


def test_nothing_that_goes_wrong_after_the_commit_reaches_the_caller(app, chat, cold, monkeypatch, caplog):
    """Even a mistake of our own after the commit is logged and not raised: the commit stands."""

    class Broken:
        def run(self, *_):
            raise RuntimeError("a mistake")

    from flask_conversations.cache import core

    monkeypatch.setattr(core, "APPLY", Broken())
    assert as_user(app).save_message(chat, USER, "two")["content"] == "two"
    monkeypatch.undo()
    assert texts(cold, chat) == ["one", "two"]
    assert texts(as_user(app), chat) == ["one", "two"]
