"""What a hostile reading of the store found, each with its interleaving written out."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import sqlite3
import threading
import time
import uuid

import pytest
import sqlalchemy as sa

from flask_conversations.errors import (
    ClientIdConflict,
    ConversationNotFound,
    StorageUnavailable,
    TransactionAborted,
    ValidationFailed,
)
from flask_conversations.ids import now
from flask_conversations.service.cursors import Cursors
from flask_conversations.state import _jwt_keys

POSTGRESQL = pytest.mark.parametrize("database", ["postgresql"], indirect=True)
LONG_AGO = dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)


@pytest.fixture
def tables(app, conversations):
    with app.app_context():
        return conversations.models.tables


@pytest.fixture
def engine(app):
    with app.app_context():
        return app.db.engine


@pytest.fixture
def short_lock_app(make_app):
    """An app that waits a tenth of a second for a lock."""
    return make_app(CONVERSATIONS_LOCK_TIMEOUT=0.1)


@pytest.fixture
def in_trash(ada, engine, tables):
    """A conversation of Ada's whose time in the trash is over."""
    chat = ada.create_conversation("old")["id"]
    ada.delete_conversation(chat)
    with engine.begin() as connection:
        c = tables["conversations"]
        connection.execute(sa.update(c).where(c.c.id == chat).values(deleted_at=LONG_AGO))
    return chat


@contextlib.contextmanager
def quickly():
    started = time.monotonic()
    yield
    assert time.monotonic() - started < 2


@POSTGRESQL
def test_prune_leaves_what_is_restored_meanwhile(app, conversations, ada, bob, in_trash):
    """Ada restores, and prunes before her host commits: prune passes the conversation by, without waiting."""
    with app.app_context():
        restoring = conversations.as_user("ada")
        with restoring.joined():
            restoring.restore_conversation(in_trash)
            with quickly():
                assert pruned_elsewhere(app, conversations) == 0
        app.db.session.commit()

    assert ada.conversation_exists(in_trash)
    assert not bob.conversation_exists(in_trash)
    assert pruned_elsewhere(app, conversations) == 0


def pruned_elsewhere(app, conversations):
    with app.app_context():
        return conversations.as_system(app=app).prune()


def test_prune_deletes_what_is_due_still(app, conversations, ada, in_trash):
    """Restored before the prune begins, it stays; back in the trash for long, it goes."""
    ada.restore_conversation(in_trash)
    assert pruned_elsewhere(app, conversations) == 0
    assert ada.conversation_exists(in_trash)


@POSTGRESQL
@pytest.mark.parametrize("own_id", ["mine", "0198aaaa-0000-7000-8000-000000000001"])
def test_creating_with_an_id_that_is_being_taken_waits_a_bounded_time(short_lock_app, own_id):
    """The first transaction has inserted the id and does not end: the second one gets `StorageUnavailable`."""
    ada = short_lock_app.conversations.as_user("ada", app=short_lock_app)
    with short_lock_app.app_context():
        mine = short_lock_app.conversations.as_user("ada")
        with mine.joined():
            mine.create_conversation(id=own_id)
            with quickly(), pytest.raises(StorageUnavailable):
                ada.create_conversation(id=own_id)
        short_lock_app.db.session.rollback()

    assert ada.create_conversation(id=own_id)["version"] == 1


@POSTGRESQL
def test_an_idempotency_key_in_use_is_waited_for_a_bounded_time(short_lock_app):
    """The first request holds its key and does not end: the second one gets `StorageUnavailable`."""
    ada = short_lock_app.conversations.as_user("ada", app=short_lock_app)
    with short_lock_app.app_context():
        mine = short_lock_app.conversations.as_user("ada")
        with mine.joined():
            mine.create_conversation("T", idempotency_key="k")
            with quickly(), pytest.raises(StorageUnavailable):
                ada.create_conversation("T", idempotency_key="k")
        short_lock_app.db.session.rollback()


@POSTGRESQL
def test_a_claim_waits_a_bounded_time(short_lock_app):
    """The guest is in the middle of a save that does not end: the claim gets `StorageUnavailable`."""
    ada, guest = (short_lock_app.conversations.as_user(name, app=short_lock_app) for name in ("ada", "guest:g"))
    chat = guest.create_conversation()["id"]
    with short_lock_app.app_context():
        saving = short_lock_app.conversations.as_user("guest:g")
        with saving.joined():
            saving.save_message(chat, "user", "wait")
            with quickly(), pytest.raises(StorageUnavailable):
                ada.claim("guest:g")
        short_lock_app.db.session.rollback()

    assert ada.claim("guest:g") == 1


def until_a_session_waits(engine):
    """Return once a connection of this database waits for a lock."""
    waiting = sa.text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    deadline = time.monotonic() + 10
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while not connection.scalar(waiting):
            assert time.monotonic() < deadline, "no session waits"
            time.sleep(0.01)


@POSTGRESQL
def test_a_claim_takes_along_what_the_guest_is_saving(app, conversations, ada, bob, threads, engine, tables):
    """The guest's save is not committed when the claim begins: the message moves with the conversation."""
    guest = conversations.as_user("guest:g", app=app)
    chat = guest.create_conversation(tags=["t"])["id"]

    saved = threading.Event()

    def act(i):
        if i == 0:
            with app.app_context():
                saving = conversations.as_user("guest:g")
                with saving.joined():
                    saving.save_message(chat, "user", "late")
                saved.set()
                until_a_session_waits(engine)
                app.db.session.commit()
        else:
            assert saved.wait(10)
            ada.claim("guest:g")

    threads(2, act)

    with engine.connect() as connection:
        for name in ("conversations", "conversation_messages", "conversation_tags"):
            assert set(connection.scalars(sa.select(tables[name].c.user_id))) == {"ada"}
    assert [message["content"] for message in ada.get_messages(chat)["messages"]] == ["late"]
    assert not bob.conversation_exists(chat)


def test_a_claim_moves_messages_and_tags(app, conversations, ada, engine, tables):
    """Every row of the guest's conversations has the new owner, and no other row has."""
    guest, other = (conversations.as_user(name, app=app) for name in ("guest:g", "guest:h"))
    for service in (guest, other, ada):
        service.create_conversation(tags=["t"], messages=[{"role": "user", "content": "x"}])

    assert ada.claim("guest:g") == 1

    with engine.connect() as connection:
        for name in ("conversations", "conversation_messages", "conversation_tags"):
            owners = sorted(connection.scalars(sa.select(tables[name].c.user_id)))
            assert owners == ["ada", "ada", "guest:h"]


def test_a_time_that_no_time_zone_can_hold_is_refused(ada):
    """PostgreSQL would answer it in the zone of the session as a time before year 1 or after 9999."""
    chat = ada.create_conversation()
    for moment in ("0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "9999-12-31T23:59:59Z"):
        with pytest.raises(ValidationFailed) as refused:
            ada.save_message(chat["id"], "user", "x", created_at=moment)
        assert list(refused.value.errors) == ["created_at"]
        assert ada.get_messages(chat["id"])["messages"] == []


def test_a_message_from_the_future_does_not_pin_the_list(ada):
    """A message of the year 8000 leaves its conversation's activity at the present."""
    chat, later = ada.create_conversation("future"), ada.create_conversation("later")
    ada.save_message(chat["id"], "user", "x", created_at="8000-01-01T00:00:00Z")
    assert ada.get_conversation(chat["id"])["last_activity_at"] <= now().isoformat()
    ada.save_message(later["id"], "user", "y")
    assert [one["title"] for one in ada.list_conversations()["conversations"]] == ["later", "future"]


def test_an_imported_old_message_does_not_turn_the_clock_back(ada):
    """`last_message_at` is that of the newest message by time."""
    chat = ada.create_conversation()
    fresh = ada.save_message(chat["id"], "user", "fresh")
    ada.save_message(chat["id"], "user", "old", created_at="2020-01-01T00:00:00Z")
    assert ada.get_conversation(chat["id"])["last_message_at"] == fresh["created_at"]


def test_deleting_for_good_forgets_the_kept_answers(ada, bob, engine, tables):
    """No answer kept for an Idempotency-Key shows the text any more; a repeat with the key runs anew. Bob's stay."""
    first = ada.create_conversation("secret", idempotency_key="k")
    bob.create_conversation("bob's", idempotency_key="k")
    assert ada.delete_conversation(first["id"], permanent=True)

    with engine.connect() as connection:
        kept = connection.execute(sa.select(tables["conversation_idempotency"])).all()
    assert [row.user_id for row in kept] == ["bob"]
    again = ada.create_conversation("secret", idempotency_key="k")
    assert again["id"] != first["id"]


def test_prune_forgets_everybodys_old_keys(app, conversations, ada, bob, engine, tables):
    """As the system it expires the keys of all users, as a user only the user's own."""
    table = tables["conversation_idempotency"]
    for service in (ada, bob):
        service.create_conversation(idempotency_key="old")
    with engine.begin() as connection:
        connection.execute(sa.update(table).values(created_at=LONG_AGO))
    ada.create_conversation(idempotency_key="new")

    def owners():
        with engine.connect() as connection:
            return sorted(connection.execute(sa.select(table.c.user_id, table.c.key)).all())

    assert owners() == [("ada", "new"), ("bob", "old")]
    assert ada.prune() == 0
    assert owners() == [("ada", "new"), ("bob", "old")]
    assert conversations.as_system(app=app).prune() == 0
    assert owners() == [("ada", "new")]


def test_all_newest_messages_come_along_after_deletions(app, ada, bob, statements):
    """The newest two that live, wherever deleted ones lie between; in two statements, however many conversations."""
    chats = [ada.create_conversation(str(n), messages=said("one", "two", "three", "four")) for n in range(3)]
    for chat in chats:
        for content in ("two", "four"):
            ada.delete_message(chat["id"], next(m["id"] for m in messages(ada, chat["id"]) if m["content"] == content))
    bob.create_conversation(messages=said("bob's"))

    with statements(app) as seen:
        loaded = ada.load_conversations(messages=2)["conversations"]

    assert [[m["content"] for m in chat["messages"]] for chat in loaded] == [["one", "three"]] * 3
    assert len(seen) == 2
    assert [
        [m["content"] for m in chat["messages"]] for chat in ada.load_conversations(messages=1)["conversations"]
    ] == [["three"]] * 3


def said(*contents):
    return [{"role": "user", "content": content} for content in contents]


def messages(service, conversation_id):
    return service.get_messages(conversation_id)["messages"]


def test_every_read_takes_a_version_seen_before(ada):
    """`min_version` is a keyword of every read, checked like any other."""
    chat = ada.create_conversation()["id"]
    for read in (
        lambda **seen: ada.list_conversations(**seen),
        lambda **seen: ada.load_conversations(**seen),
        lambda **seen: ada.conversation_exists(chat, **seen),
        lambda **seen: ada.get_system_prompt(chat, **seen),
    ):
        assert read(min_version=1) == read()
        with pytest.raises(ValidationFailed) as refused:
            read(min_version="one")
        assert list(refused.value.errors) == ["min_version"]


def test_an_idempotency_key_goes_with_ids_and_times_as_objects(ada, bob):
    """A retry with a `uuid.UUID` and a `datetime` returns the first conversation; another time is another request."""
    own_id, at = uuid.uuid4(), dt.datetime(2024, 1, 2, tzinfo=dt.timezone.utc)

    def create(at):
        message = {"role": "user", "content": "x", "created_at": at}
        return ada.create_conversation("T", id=own_id, messages=[message], idempotency_key="k")

    first = create(at)
    assert first["id"] == str(own_id)
    assert create(at) == first
    with pytest.raises(ValidationFailed):
        create(LONG_AGO)
    with pytest.raises(ClientIdConflict):
        bob.create_conversation(id=own_id, idempotency_key="k")


def test_a_busy_file_that_cannot_switch_to_wal_is_used_as_it_is(tmp_path, make_app, caplog):
    """Another program reads the file when we connect first: the switch waits for a later connection."""
    path = tmp_path / "busy.sqlite3"
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (id INTEGER)")
        other.execute("INSERT INTO theirs VALUES (1)")
        other.commit()
        other.execute("BEGIN")
        other.execute("SELECT * FROM theirs").fetchall()
        with caplog.at_level(logging.DEBUG, "flask_conversations.storage"):
            app = make_app(
                SQLALCHEMY_DATABASE_URI=f"sqlite:///{path}",
                SQLALCHEMY_ENGINE_OPTIONS={},
                CONVERSATIONS_LOCK_TIMEOUT=0.1,
                tables=False,
            )
            with app.app_context(), pytest.raises(StorageUnavailable):
                app.conversations.as_user("ada").list_conversations()
        assert "without WAL" in caplog.text


def test_titles_sort_as_they_are_shown_by_code_points(ada, bob):
    """Untitled ones stand where "New Conversation" stands, on every page; capitals before small letters on every database."""
    for title in ("a", "B", "é", None, "Nachts", "O", "New Conversation "):
        ada.create_conversation(title)
    bob.create_conversation("bob's")

    expected = ["B", "Nachts", "New Conversation", "New Conversation", "O", "a", "é"]
    assert titles(ada, "title") == expected
    assert titles(ada, "-title") == expected[::-1]


def titles(service, order):
    """All titles in that order, read page by page."""
    found, cursor = [], None
    while True:
        page = service.list_conversations(order=order, limit=2, cursor=cursor)
        found += [one["title"] for one in page["conversations"]]
        cursor = page["next_cursor"]
        if cursor is None:
            return found


@POSTGRESQL
@pytest.mark.parametrize("call", ["create_conversation", "list_conversations"])
def test_a_failed_transaction_of_the_hosts_says_to_roll_back(app, conversations, call):
    """The host's own statement has failed and it went on: our error names the remedy, and trying again does not help."""
    with app.app_context():
        ada = conversations.as_user("ada")
        with pytest.raises(sa.exc.ProgrammingError):
            app.db.session.execute(sa.text("SELECT * FROM no_such_table"))
        with pytest.raises(TransactionAborted, match="roll it back first") as failed:
            getattr(ada, call)()
        assert not failed.value.retryable
        app.db.session.rollback()
        getattr(ada, call)()


SHAPES = [[], ["x"], {"a": 1}, 7, None, ["2024-01-01T00:00:00Z", 7], [7, "x"], ["x", "y", "z"]]


def test_a_cursor_of_another_shape_is_refused(app, ada, subtests):
    """A holder of the key can sign any value: a bad one is refused as a cursor, without a crash."""
    chat = ada.create_conversation()["id"]
    with app.app_context():
        cursors = Cursors(app.extensions["flask_conversations"].backend.secrets, ada.identity)
    for place in SHAPES:
        with subtests.test(place=place):
            with pytest.raises(ValidationFailed):
                ada.get_messages(chat, before=cursors.seal("messages", place))
            with pytest.raises(ValidationFailed) as refused:
                ada.list_conversations(cursor=cursors.seal(list_kind(), place))
            assert refused.value.errors == {"cursor": ["Not a valid cursor."]}


def list_kind():
    from flask_conversations.schemas import canonical

    return f"conversations -last_activity_at {canonical.fingerprint({'status': 'active', 'temporary': False})}"


def test_a_cursor_with_a_seq_beyond_all_is_refused(app, ada, bob):
    """A number that no database holds is not handed to one."""
    chat = ada.create_conversation()["id"]
    with app.app_context():
        cursors = Cursors(app.extensions["flask_conversations"].backend.secrets, ada.identity)
        forged = cursors.seal("messages", [chat, 2**70])
    with pytest.raises(ValidationFailed):
        ada.get_messages(chat, before=forged)
    with pytest.raises(ConversationNotFound):
        bob.get_messages(chat)


def test_cursors_are_signed_with_whatever_key_there_is():
    """One JWT key, a list of them or a mapping; keys that are objects are left out."""
    assert _jwt_keys("k") == ["k"]
    assert _jwt_keys(["k", b"l", object()]) == ["k", b"l"]
    assert _jwt_keys({"a": "k", "b": "l"}) == ["k", "l"]
    assert _jwt_keys(None) == []


def test_an_edit_can_clear_metadata(ada, bob):
    """None clears it; left out, it stays."""
    chat = ada.create_conversation(messages=said("x"))["id"]
    (message,) = messages(ada, chat)
    ada.update_message(chat, message["id"], metadata={"a": 1})
    assert ada.update_message(chat, message["id"], content="y")["metadata"] == {"a": 1}
    assert ada.update_message(chat, message["id"], metadata=None)["metadata"] is None
    with pytest.raises(ConversationNotFound):
        bob.update_message(chat, message["id"], metadata=None)
