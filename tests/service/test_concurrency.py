"""Many at once: nothing lost, nothing twice, no call waits for ever."""

from __future__ import annotations

import itertools
import threading
import time

import pytest
import sqlalchemy as sa

from flask_conversations.errors import ClientIdConflict, NotFound, StorageUnavailable, VersionConflict

from .tools import check, check_invisible, contents, everything, in_use, rows, sequence

SAVES, WRITERS = 25, 8


@pytest.fixture
def app(make_app):
    """An app whose lock timeout is long enough for 8 writers on a slow disk."""
    return make_app(CONVERSATIONS_LOCK_TIMEOUT=30)


def test_eight_writers_lose_nothing(app, ada, bob, threads):
    """8 threads that save 25 messages each into one conversation leave 200, in a dense sequence, counted and summed exactly."""
    chat = ada.create_conversation("T")
    saved = threads(WRITERS, lambda i: [ada.save_message(chat["id"], "user", f"{i}/{n}") for n in range(SAVES)])
    found = check(ada, chat["id"])
    assert (found["message_count"], found["version"]) == (200, 201)
    assert sequence(app, chat["id"]) == list(range(1, 201))
    by_seq = sorted(itertools.chain.from_iterable(saved), key=lambda message: message["seq"])
    assert by_seq == everything(ada, chat["id"])
    for of_one in saved:
        assert [m["seq"] for m in of_one] == sorted(m["seq"] for m in of_one)
    assert in_use(app) == 0
    check_invisible(bob, chat["id"])


def test_ten_concurrent_sends_store_ten_messages(app, http, ada, threads):
    """S3.2: ten requests at the same time store ten messages."""
    chat = ada.create_conversation()
    path = f"/api/conversations/{chat['id']}/messages"
    answers = threads(10, lambda i: http("ada").post(path, json={"content": str(i)}).status_code)
    assert answers == [201] * 10
    assert sorted(contents(ada, chat["id"])) == list("0123456789")
    check(ada, chat["id"])
    assert in_use(app) == 0


def test_concurrent_retries_store_one(ada, threads):
    """Ten sends with the same client_id are one message, and each gets it."""
    chat = ada.create_conversation()
    saved = threads(10, lambda i: ada.save_message(chat["id"], "user", "same", client_id="k"))
    assert saved == [saved[0]] * 10
    assert everything(ada, chat["id"]) == [saved[0]]
    assert check(ada, chat["id"])["version"] == 2


def test_concurrent_different_messages_with_one_client_id(ada, threads):
    """Of different messages under one client_id one is stored, the others are conflicts."""
    chat = ada.create_conversation()
    results = threads(6, lambda i: ada.save_message(chat["id"], "user", str(i), client_id="k"), errors=True)
    won = [result for result in results if isinstance(result, dict)]
    assert everything(ada, chat["id"]) == won
    assert {type(result) for result in results if result not in won} == {ClientIdConflict}
    check(ada, chat["id"])


@pytest.mark.parametrize("own_id", ["c-1", "0198aaaa-0000-7000-8000-000000000001"])
def test_concurrent_creations_with_ones_own_id_are_one(app, ada, threads, own_id):
    """Eight devices that create the same conversation get the same one, with its messages once."""
    message = {"role": "user", "content": "hi"}
    made = threads(8, lambda i: ada.create_conversation(str(i), id=own_id, messages=[message]))
    assert made == [made[0]] * 8
    assert (rows(app)["conversations"], rows(app)["conversation_messages"]) == (1, 1)


def test_two_users_race_for_one_id(app, ada, bob, threads):
    """One of two users gets the id, the other a conflict, and neither sees the other's."""
    own_id = "0198aaaa-0000-7000-8000-000000000001"
    results = threads(8, lambda i: [ada, bob][i % 2].create_conversation(str(i), id=own_id), errors=True)
    owners = {result["user_id"] for result in results if isinstance(result, dict)}
    assert len(owners) == 1
    assert {type(result) for result in results if not isinstance(result, dict)} == {ClientIdConflict}
    assert rows(app)["conversations"] == 1


def test_concurrent_requests_with_one_idempotency_key(app, ada, threads):
    """Six retries at the same time create one conversation."""
    made = threads(6, lambda i: ada.create_conversation("T", idempotency_key="k"))
    assert made == [made[0]] * 6
    assert rows(app)["conversations"] == 1


def test_each_message_is_popped_once(ada, threads):
    """Eight poppers share twelve messages; those that come too late get None."""
    chat = ada.create_conversation(messages=[{"role": "user", "content": str(n)} for n in range(12)])
    popped = threads(8, lambda i: [ada.pop_message(chat["id"]) for _ in range(2)])
    found = [message["content"] for message in itertools.chain.from_iterable(popped) if message]
    assert sorted(found, key=int) == [str(n) for n in range(12)]
    assert check(ada, chat["id"])["message_count"] == 0


def test_exactly_one_update_wins(ada, threads):
    """Of eight updates that saw the same version one is stored; the others learn what it was."""
    chat = ada.create_conversation()
    results = threads(8, lambda i: ada.update_conversation(chat["id"], title=str(i), expected_version=1), errors=True)
    (won,) = [result for result in results if isinstance(result, dict)]
    lost = [result for result in results if result is not won]
    assert {type(result) for result in lost} == {VersionConflict}
    assert all(result.current == won for result in lost)
    assert ada.get_conversation(chat["id"]) == won


def test_different_verbs_at_once_keep_the_counters_exact(app, ada, bob, threads):
    """Saves, edits, deletions, ratings and renames at the same time leave a conversation that adds up."""
    chat = ada.create_conversation(
        messages=[{"role": "user", "content": str(n), "client_id": f"k{n}"} for n in range(8)]
    )

    def work(i):
        ada.save_message(chat["id"], "user", f"new {i}")
        ada.update_message(chat["id"], f"k{i}", content=f"edited {i}")
        ada.update_conversation(chat["id"], title=str(i))
        ada.rate_message(chat["id"], f"k{i}", i)
        if i % 2:
            ada.delete_message(chat["id"], f"k{i}")
        return ada.save_messages(chat["id"], [{"role": "user", "content": f"{i} {n}"} for n in range(2)])

    batches = threads(8, work)
    found = check(ada, chat["id"])
    assert (found["message_count"], found["version"]) == (8 + 8 - 4 + 16, 1 + 5 * 8 + 4)
    assert all(first["seq"] + 1 == second["seq"] for first, second in batches)
    assert sequence(app, chat["id"]) == list(range(1, 33))
    check_invisible(bob, chat["id"])


def test_saving_against_deleting(ada, threads):
    """A save either comes before the deletion, and is restored with it, or finds no conversation."""
    chat = ada.create_conversation()

    def work(i):
        if i == 3:
            return ada.delete_conversation(chat["id"])
        return [ada.save_message(chat["id"], "user", f"{i}/{n}") for n in range(5)]

    results = threads(6, work, errors=True)
    assert results[3] is True
    assert all(isinstance(result, (list, bool, NotFound)) for result in results)
    ada.restore_conversation(chat["id"])
    check(ada, chat["id"])


def test_saving_against_permanent_deletion_leaves_no_orphans(app, ada, threads):
    """After a permanent deletion in the middle of saves no row is left."""
    chat = ada.create_conversation()

    def work(i):
        if i == 3:
            return ada.delete_conversation(chat["id"], permanent=True)
        return [ada.save_message(chat["id"], "user", f"{i}/{n}") for n in range(5)]

    results = threads(6, work, errors=True)
    assert results[3] is True
    assert all(isinstance(result, (list, bool, NotFound)) for result in results)
    assert not any(rows(app).values())


def test_two_conversations_in_one_transaction_either_way_round(make_app, database, threads):
    """Groups that save into two conversations, half of them in the opposite order, all succeed or fail cleanly, and none hangs."""
    settings = {"CONVERSATIONS_LOCK_TIMEOUT": 30}
    if database.name == "postgresql":
        # which looks for a deadlock after a second otherwise
        settings["SQLALCHEMY_ENGINE_OPTIONS"] = {"connect_args": {"options": "-c deadlock_timeout=50ms"}}
    app = make_app(**settings)
    ada = app.conversations.as_user("ada", app=app)
    chats = [ada.create_conversation()["id"] for _ in range(2)]

    def work(i):
        for attempt in itertools.count():
            try:
                with ada.transaction():
                    for chat_id in chats[:: 1 if i % 2 else -1]:
                        ada.save_message(chat_id, "user", f"{i}")
                return attempt
            except StorageUnavailable:
                assert attempt < 50

    threads(4, work)
    for chat_id in chats:
        assert sorted(contents(ada, chat_id)) == list("0123")
        assert check(ada, chat_id)["version"] == 5
    assert in_use(app) == 0


def test_locking_first_avoids_deadlocks(ada, threads):
    """Groups that lock their conversations in the order of the ids never get into each other's way."""
    chats = [ada.create_conversation()["id"] for _ in range(2)]

    def work(i):
        with ada.transaction():
            for chat_id in sorted(chats):
                ada.lock_conversation(chat_id)
            for chat_id in chats[:: 1 if i % 2 else -1]:
                ada.save_message(chat_id, "user", f"{i}")

    threads(6, work)
    assert [check(ada, chat_id)["message_count"] for chat_id in chats] == [6, 6]


def test_a_reader_never_sees_half_a_batch(ada, threads):
    """While batches of three are saved, every page shows whole batches, counted by the version it names."""
    chat = ada.create_conversation()
    done = threading.Event()

    def work(i):
        if i < 2:
            for n in range(10):
                ada.save_messages(chat["id"], [{"role": "user", "content": f"{i}/{n}"}] * 3)
            done.set()
            return None
        seen, is_last = [], False
        while not is_last:
            is_last = done.is_set()
            page = ada.get_messages(chat["id"], limit=100)
            seen.append((len(page["messages"]), page["version"]))
        return seen

    seen = threads(3, work)[2]
    assert all(count == 3 * (version - 1) for count, version in seen)
    assert seen == sorted(seen)
    assert seen[-1] >= (30, 11)


def test_a_guest_is_claimed_once_and_loses_nothing(app, conversations, ada, bob, threads):
    """Two users who claim one guest while the guest still writes: each conversation has one owner, with all its messages."""
    guest = conversations.as_user("guest:1", app=app)
    chats = [guest.create_conversation(tags=["t"])["id"] for _ in range(4)]

    def work(i):
        if i < 2:
            return (ada, bob)[i].claim("guest:1")
        saved = 0
        for chat_id in chats * 3:
            try:
                guest.save_message(chat_id, "user", "x")
                saved += 1
            except NotFound:
                continue
        return saved

    *claimed, saved = threads(3, work)
    assert sum(claimed) == 4
    owners = {service: service.list_conversations(tag="t")["conversations"] for service in (ada, bob, guest)}
    assert [len(owners[service]) for service in (ada, bob, guest)] == [*claimed, 0]
    found = [check(service, one["id"]) for service, listed in owners.items() for one in listed]
    assert sum(one["message_count"] for one in found) == saved
    message, conversation = (getattr(conversations.models, name) for name in ("Message", "Conversation"))
    with app.app_context():
        orphaned = sa.select(sa.func.count()).where(
            message.conversation_id == conversation.id, message.user_id != conversation.user_id
        )
        assert app.db.session.scalar(orphaned) == 0


# -- locks ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def short_lock_app(make_app):
    """An app that waits for locks for 0.1 seconds."""
    return make_app(CONVERSATIONS_LOCK_TIMEOUT=0.1)


def held(app, conversation_id):
    """A connection that holds the conversation's lock, as a slow transaction would."""
    with app.app_context():
        connection = app.db.engine.connect()
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    table = app.conversations.models.Conversation.__table__
    connection.execute(sa.update(table).where(table.c.id == conversation_id).values(folder="held"))
    return connection


def test_a_held_lock_is_a_clear_error_and_no_hang(short_lock_app):
    """Every writing verb gives up after the lock timeout with a retryable error; reads do not wait at all."""
    ada = short_lock_app.conversations.as_user("ada", app=short_lock_app)
    chat = ada.create_conversation(messages=[{"role": "user", "content": "a", "client_id": "k"}])
    with held(short_lock_app, chat["id"]) as connection:
        for call in (
            lambda: ada.save_message(chat["id"], "user", "x"),
            lambda: ada.save_messages(chat["id"], [{"role": "user", "content": "x"}]),
            lambda: ada.update_conversation(chat["id"], title="x"),
            lambda: ada.archive_conversation(chat["id"]),
            lambda: ada.delete_message(chat["id"], "k"),
            lambda: ada.delete_conversation(chat["id"]),
            lambda: ada.pop_message(chat["id"]),
        ):
            began = time.monotonic()
            with pytest.raises(StorageUnavailable) as refused:
                call()
            assert refused.value.retryable
            assert 0.08 < time.monotonic() - began < 3
        began = time.monotonic()
        assert contents(ada, chat["id"]) == ["a"]
        assert ada.list_conversations()["conversations"][0]["folder"] is None
        assert time.monotonic() - began < 1
        connection.rollback()
    assert ada.save_message(chat["id"], "user", "b")["seq"] == 2
    check(ada, chat["id"])
    assert in_use(short_lock_app) == 0


def test_the_hosts_session_works_after_a_held_lock(short_lock_app):
    """The session that met the lock can be used at once: inside a group, joined, and alone."""
    hers = short_lock_app.conversations.as_user("ada", app=short_lock_app).create_conversation()
    with short_lock_app.app_context():
        ada = short_lock_app.conversations.as_user("ada")
        with held(short_lock_app, hers["id"]) as connection:
            with pytest.raises(StorageUnavailable):
                ada.save_message(hers["id"], "user", "x")
            assert ada.get_conversation(hers["id"]) == hers
            with pytest.raises(StorageUnavailable), ada.transaction():
                ada.save_message(hers["id"], "user", "x")
            with ada.joined(), pytest.raises(StorageUnavailable):
                ada.save_message(hers["id"], "user", "x")
            short_lock_app.db.session.rollback()
            connection.rollback()
        ada.save_message(hers["id"], "user", "after")
        assert contents(ada, hers["id"]) == ["after"]
        check(ada, hers["id"])
    assert in_use(short_lock_app) == 0


def test_a_held_lock_is_503_over_rest(short_lock_app):
    """REST says try again later, with Retry-After and without internals."""
    ada = short_lock_app.conversations.as_user("ada", app=short_lock_app)
    chat = ada.create_conversation()
    client = short_lock_app.test_client()
    with held(short_lock_app, chat["id"]) as connection:
        answer = client.post(
            f"/api/conversations/{chat['id']}/messages", json={"content": "x"}, headers={"X-Test-User": "ada"}
        )
        connection.rollback()
    assert (answer.status_code, answer.get_json()["retryable"]) == (503, True)
    assert int(answer.headers["Retry-After"]) > 0
    assert "UPDATE" not in answer.get_data(as_text=True)
    assert in_use(short_lock_app) == 0


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_other_conversations_are_not_held_up(short_lock_app):
    """On PostgreSQL a lock holds up its own conversation only."""
    ada = short_lock_app.conversations.as_user("ada", app=short_lock_app)
    chat, other = ada.create_conversation(), ada.create_conversation()
    with held(short_lock_app, chat["id"]) as connection:
        assert ada.save_message(other["id"], "user", "a")["seq"] == 1
        connection.rollback()


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_the_lock_timeout_ends_with_the_transaction(short_lock_app):
    """The host's own statements keep the host's lock timeout."""
    with short_lock_app.app_context():
        short_lock_app.conversations.as_user("ada").create_conversation(id="c-1")
        short_lock_app.conversations.as_user("ada").save_message("c-1", "user", "x")
        assert short_lock_app.db.session.scalar(sa.text("SHOW lock_timeout")) == "0"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_sqlite_is_prepared(app, ada):
    """On SQLite the journal is a write-ahead log, the wait is bounded, and a write begins as one."""
    begun = []
    with app.app_context():
        engine = app.db.engine
    ada.create_conversation(id="c-1")
    pooled = engine.raw_connection()
    assert pooled.driver_connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert pooled.driver_connection.execute("PRAGMA busy_timeout").fetchone() == (30_000,)
    pooled.driver_connection.set_trace_callback(begun.append)
    pooled.close()
    ada.save_message("c-1", "user", "x")
    assert begun[0] == "BEGIN IMMEDIATE"
    assert begun[-1] == "COMMIT"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_the_write_ahead_log_can_be_left_off(make_app):
    """CONVERSATIONS_SQLITE_WAL = False leaves the host's journal mode alone."""
    app = make_app(CONVERSATIONS_SQLITE_WAL=False)
    app.conversations.as_user("ada", app=app).create_conversation()
    with app.app_context():
        assert app.db.session.scalar(sa.text("PRAGMA journal_mode")) == "delete"


# -- pools and isolation levels ---------------------------------------------------------------------------------------


def test_a_pool_of_one_connection_is_enough(make_app, threads):
    """No call needs a second connection: signals, titlers and nested calls included."""
    from flask_conversations import signals

    app = make_app(
        SQLALCHEMY_ENGINE_OPTIONS={"poolclass": sa.QueuePool, "pool_size": 1, "max_overflow": 0, "pool_timeout": 20},
        CONVERSATIONS_LOCK_TIMEOUT=30,
        options={"titler": lambda text: "Better"},
    )
    ada = app.conversations.as_user("ada", app=app)
    chat = ada.create_conversation()

    def echo(sender, message, **_):
        if message["role"] == "user":
            ada.save_message(chat["id"], "assistant", "echo")

    with signals.message_saved.connected_to(echo, sender=app):
        threads(4, lambda i: ada.save_message(chat["id"], "user", str(i)))
    assert check(ada, chat["id"])["message_count"] == 8
    assert ada.get_conversation(chat["id"])["title"] == "Better"
    assert in_use(app) == 0


def test_an_exhausted_pool_is_a_clear_error(make_app):
    """When every connection is taken, a call fails with a retryable error instead of waiting for ever."""
    app = make_app(
        SQLALCHEMY_ENGINE_OPTIONS={"poolclass": sa.QueuePool, "pool_size": 1, "max_overflow": 0, "pool_timeout": 0.2}
    )
    ada = app.conversations.as_user("ada", app=app)
    chat = ada.create_conversation()
    with app.app_context(), app.db.engine.connect():
        for call in (lambda: ada.get_conversation(chat["id"]), lambda: ada.save_message(chat["id"], "user", "x")):
            with pytest.raises(StorageUnavailable):
                call()
    assert ada.save_message(chat["id"], "user", "x")["seq"] == 1


@pytest.mark.parametrize("level", ["SERIALIZABLE", "REPEATABLE READ"])
@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_stricter_isolation_levels_work_or_say_so(make_app, threads, level):
    """On a host's stricter isolation level a save is stored, or refused with a retryable error and stored nowhere."""
    app = make_app(SQLALCHEMY_ENGINE_OPTIONS={"isolation_level": level, "pool_size": 10})
    ada = app.conversations.as_user("ada", app=app)
    chat = ada.create_conversation()

    def work(i):
        saved = []
        for n in range(5):
            try:
                saved.append(ada.save_message(chat["id"], "user", f"{i}/{n}")["content"])
            except StorageUnavailable:
                continue
        return saved

    saved = list(itertools.chain.from_iterable(threads(4, work)))
    assert sorted(saved) == sorted(contents(ada, chat["id"]))
    assert len(saved) >= 10
    check(ada, chat["id"])
    assert in_use(app) == 0
