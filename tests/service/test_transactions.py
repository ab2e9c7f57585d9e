"""Transactions: one call is one; groups, the host's own work, savepoints and commits, and what errors leave behind."""

from __future__ import annotations

import contextlib

import pytest
import sqlalchemy as sa
from flask_sqlalchemy import SQLAlchemy

from flask_conversations import signals
from flask_conversations.errors import (
    ClientIdConflict,
    ConfigurationError,
    NotFound,
    ValidationFailed,
    VersionConflict,
)

from .tools import NEVER, check, check_invisible, contents, failing, in_use, rows


@pytest.fixture(scope="module")
def host_db():
    """A host's own db with a table of its own, mapped once."""
    db = SQLAlchemy()
    db.Model.__allow_unmapped__ = True

    class Note(db.Model):
        id = db.Column(db.Integer, primary_key=True)
        text = db.Column(db.String(20), unique=True, nullable=False)

    db.Note = Note
    return db


@pytest.fixture
def host(make_app, host_db):
    """An app whose host has notes of its own, inside its context."""
    app = make_app(db=host_db)
    app.Note = host_db.Note
    with app.app_context():
        yield app


@pytest.fixture
def hers(host):
    """Ada's service on the host's session."""
    return host.conversations.as_user("ada")


@pytest.fixture
def elsewhere(host):
    """Ada's service on sessions of its own: what others can see."""
    return host.conversations.as_user("ada", app=host)


def notes(app):
    """The notes that are committed."""
    with app.db.engine.connect() as connection:
        return sorted(connection.scalars(sa.select(app.Note.text)))


# -- single calls -----------------------------------------------------------------------------------------------------


def test_each_call_is_committed_when_it_returns(host, hers, elsewhere):
    """What a call has saved is seen by every other connection at once, and no transaction stays open."""
    chat = hers.create_conversation()
    assert not host.db.session().in_transaction()
    saved = hers.save_message(chat["id"], "user", "a")
    assert elsewhere.get_messages(chat["id"])["messages"] == [saved]
    assert not host.db.session().in_transaction()


def test_a_read_leaves_no_transaction_open(host, hers):
    """Reading opens nothing that stays; a transaction of the host's stays as open as it was."""
    chat = hers.create_conversation()
    hers.get_conversation(chat["id"])
    assert not host.db.session().in_transaction()
    host.db.session.execute(sa.select(host.Note))
    assert host.db.session().in_transaction()
    hers.list_conversations()
    assert host.db.session().in_transaction()


def test_the_hosts_pending_objects_are_committed_with_the_call(host, hers):
    """A call commits the host's session, as documented: what the host had added is stored with it."""
    host.db.session.add(host.Note(text="pending"))
    hers.create_conversation()
    assert notes(host) == ["pending"]


def test_a_failing_call_keeps_the_hosts_pending_objects(host, hers):
    """A call that is refused takes nothing of the host's with it: the host can still commit."""
    host.db.session.add(host.Note(text="pending"))
    for call in (
        lambda: hers.get_conversation(NEVER),
        lambda: hers.save_message(NEVER, "user", "x"),
        lambda: hers.save_messages(NEVER, [{"role": "boss"}]),
        lambda: hers.create_conversation(tags="x"),
    ):
        with pytest.raises((NotFound, ValidationFailed)):
            call()
    assert notes(host) == []
    host.db.session.commit()
    assert notes(host) == ["pending"]


def test_the_hosts_own_mistake_is_the_hosts_error(host, hers):
    """A pending object that the database refuses fails as it would without us, and the session works afterwards."""
    host.db.session.add(host.Note(text="same"))
    host.db.session.commit()
    host.db.session.add(host.Note(text="same"))
    with pytest.raises(sa.exc.IntegrityError):
        hers.create_conversation()
    assert rows(host)["conversations"] == 0
    hers.create_conversation("after")
    host.db.session.add(host.Note(text="other"))
    host.db.session.commit()
    assert notes(host) == ["other", "same"]


def test_the_session_works_after_every_error(host, hers):
    """Whatever a call raises, the next one works on the same session."""
    chat = hers.create_conversation(id="c-1")
    errors = [
        lambda: hers.get_conversation(NEVER),
        lambda: hers.save_message("c-1", "boss", "x"),
        lambda: hers.update_conversation("c-1", title="x", expected_version=9),
        lambda: hers.delete_message("c-1", NEVER),
        lambda: hers.list_conversations(cursor="~forged"),
        lambda: hers.save_messages("c-1", [{"role": "user", "content": "x", "id": NEVER}] * 2),
    ]
    for number, call in enumerate(errors, 1):
        with pytest.raises((NotFound, ValidationFailed, VersionConflict)):
            call()
        assert not host.db.session().in_transaction()
        assert hers.save_message("c-1", "user", "x")["seq"] == number
    check(hers, chat["id"])


# -- groups -----------------------------------------------------------------------------------------------------------


def test_a_group_is_committed_together(host, hers, elsewhere):
    """Inside a group one sees one's own work and no other caller does, until the end of the block."""
    with hers.transaction() as same:
        assert same is hers
        chat = hers.create_conversation(id="c-1")
        hers.save_message("c-1", "user", "a")
        assert contents(hers, "c-1") == ["a"]
        if host.db.engine.name == "postgresql":
            assert not elsewhere.conversation_exists("c-1")
    assert check(elsewhere, "c-1")["id"] == chat["id"]


def test_a_group_that_raises_leaves_nothing(host, hers, elsewhere):
    """An error that leaves the block undoes all of it, the host's objects too."""
    chat = hers.create_conversation("T")
    with failing(hers.transaction()):
        host.db.session.add(host.Note(text="in the group"))
        hers.save_message(chat["id"], "user", "a")
        hers.update_conversation(chat["id"], title="U")
        hers.create_conversation()
    assert elsewhere.get_conversation(chat["id"]) == chat
    assert (rows(host)["conversations"], rows(host)["conversation_messages"], notes(host)) == (1, 0, [])
    hers.save_message(chat["id"], "user", "after")
    assert contents(elsewhere, chat["id"]) == ["after"]


def test_an_error_caught_inside_undoes_that_call_only(host, hers, elsewhere):
    """A host may catch an error inside the group: the failed call is undone whole, what surrounds it is kept."""
    with hers.transaction():
        chat = hers.create_conversation(id="c-1")
        hers.save_message("c-1", "user", "a", client_id="k")
        host.db.session.add(host.Note(text="kept"))
        for error, call in (
            (ValidationFailed, lambda: hers.save_messages("c-1", [{"role": "user", "content": "b"}, {"role": "user"}])),
            (ClientIdConflict, lambda: hers.save_message("c-1", "user", "other", client_id="k")),
            (NotFound, lambda: hers.get_conversation(NEVER)),
            (VersionConflict, lambda: hers.update_conversation("c-1", title="x", expected_version=99)),
        ):
            with pytest.raises(error):
                call()
        hers.save_message("c-1", "user", "c")
    assert contents(elsewhere, "c-1") == ["a", "c"]
    assert check(elsewhere, chat["id"])["version"] == 3
    assert notes(host) == ["kept"]


def test_groups_nest(host, hers, elsewhere):
    """Only the outermost group commits; an inner one that fails and is caught is the host's to answer for."""
    with hers.transaction():
        chat = hers.create_conversation()
        with hers.transaction(), host.conversations.as_user("bob").transaction():
            hers.save_message(chat["id"], "user", "a")
        assert host.db.session().in_transaction()
        hers.save_message(chat["id"], "user", "b")
    assert contents(elsewhere, chat["id"]) == ["a", "b"]
    with failing(hers.transaction()), hers.transaction():
        hers.save_message(chat["id"], "user", "c")
    assert contents(elsewhere, chat["id"]) == ["a", "b"]


def test_two_users_in_one_group(host, hers):
    """A group covers every service on the session, each still seeing its own only."""
    his = host.conversations.as_user("bob")
    with failing(hers.transaction()):
        chat = hers.create_conversation()
        his.create_conversation()
        check_invisible(his, chat["id"])
    assert rows(host)["conversations"] == 0


def test_a_version_steps_once_per_call_in_a_group(hers):
    """Each call of a group is one step of the version."""
    with hers.transaction():
        chat = hers.create_conversation()
        for text in "abc":
            hers.save_message(chat["id"], "user", text)
        hers.update_conversation(chat["id"], title="T", starred=True)
    assert check(hers, chat["id"])["version"] == 5


def test_a_group_outside_any_context(app, ada, bob):
    """With app=, a group opens one context for all its calls and leaves no connection."""
    with ada.transaction():
        chat = ada.create_conversation()
        ada.save_message(chat["id"], "user", "a")
        assert in_use(app) == 1
    assert in_use(app) == 0
    assert contents(ada, chat["id"]) == ["a"]
    check_invisible(bob, chat["id"])


def test_a_read_in_a_group_locks_nothing_but_sees_all(hers):
    """A locked conversation can be read and changed inside the group that locked it."""
    chat = hers.create_conversation()
    with hers.transaction():
        assert hers.lock_conversation(chat["id"]) == chat
        hers.save_message(chat["id"], "user", "a")
        assert check(hers, chat["id"])["message_count"] == 1


# -- the host commits -------------------------------------------------------------------------------------------------


def test_joined_calls_wait_for_the_host(host, hers, elsewhere):
    """Inside joined() calls only flush: the host's commit stores them, with the host's own rows."""
    with hers.joined():
        chat = hers.create_conversation(id="c-1")
        hers.save_message("c-1", "user", "a")
        host.db.session.add(host.Note(text="with it"))
        assert contents(hers, "c-1") == ["a"]
        assert host.db.session().in_transaction()
        host.db.session.commit()
    assert check(elsewhere, chat["id"])["message_count"] == 1
    assert notes(host) == ["with it"]


def test_joined_calls_go_with_the_hosts_rollback(host, hers, elsewhere):
    """The host's rollback undoes them, and no signal was sent."""
    sent = []
    with signals.conversation_created.connected_to(lambda sender, **_: sent.append(1), sender=host), hers.joined():
        hers.create_conversation(id="c-1")
        host.db.session.rollback()
    assert not elsewhere.conversation_exists("c-1")
    assert (sent, rows(host)["conversations"]) == ([], 0)


def test_an_error_in_joined_mode_keeps_the_hosts_work(host, hers, elsewhere):
    """A refused call undoes itself only; what the host and earlier calls did can still be committed."""
    with hers.joined():
        chat = hers.create_conversation()
        host.db.session.add(host.Note(text="kept"))
        with pytest.raises(NotFound):
            hers.save_message(NEVER, "user", "x")
        with pytest.raises(ValidationFailed):
            hers.save_messages(chat["id"], [{"role": "user", "content": "x", "id": NEVER}] * 2)
        host.db.session.commit()
    assert check(elsewhere, chat["id"])["message_count"] == 0
    assert notes(host) == ["kept"]


def test_a_group_that_fails_in_joined_mode_keeps_the_hosts_work(host, hers):
    """The host's pending objects are written before the group begins, and stay when it is undone."""
    with hers.joined():
        host.db.session.add(host.Note(text="before the group"))
        with contextlib.suppress(ZeroDivisionError), hers.transaction():
            hers.create_conversation("in the group")
            raise ZeroDivisionError
        host.db.session.commit()
    assert notes(host) == ["before the group"]
    assert hers.list_conversations()["conversations"] == []


def test_without_autocommit_every_call_is_joined(make_app, host_db):
    """CONVERSATIONS_AUTOCOMMIT = False leaves every commit to the host, groups included."""
    app = make_app(db=host_db, CONVERSATIONS_AUTOCOMMIT=False)
    with app.app_context():
        hers = app.conversations.as_user("ada")
        hers.create_conversation("undone")
        app.db.session.rollback()
        with hers.transaction():
            chat = hers.create_conversation("kept")
        assert app.db.session().in_transaction()
        app.db.session.commit()
    with app.app_context():
        found = app.conversations.as_user("ada").list_conversations()["conversations"]
    assert [one["id"] for one in found] == [chat["id"]]


def test_without_autocommit_a_titler_does_not_hold_the_session(make_app):
    """A titler works after the host's commit and leaves no transaction open behind it."""
    app = make_app(CONVERSATIONS_AUTOCOMMIT=False, options={"titler": lambda text: "Better"})
    with app.app_context():
        hers = app.conversations.as_user("ada")
        chat = hers.create_conversation()
        hers.save_message(chat["id"], "user", "plain words")
        app.db.session.commit()
        assert not app.db.session().in_transaction()
    assert app.conversations.as_user("ada", app=app).get_conversation(chat["id"])["title"] == "Better"
    assert in_use(app) == 0


def test_a_request_that_does_not_commit_stores_nothing(make_app):
    """Without autocommit, what a view forgets to commit is gone after the request, and so is its connection."""
    app = make_app(CONVERSATIONS_AUTOCOMMIT=False)

    @app.post("/chat")
    def chat():
        from flask_conversations import current_conversations

        return current_conversations.create_conversation()

    assert app.test_client().post("/chat", headers={"X-Test-User": "ada"}).status_code == 200
    assert rows(app)["conversations"] == 0
    assert in_use(app) == 0


# -- the host's savepoints --------------------------------------------------------------------------------------------


def test_a_call_inside_the_hosts_savepoint(host, hers, elsewhere):
    """In a savepoint of the host's, a joined call lives and dies with it."""
    session = host.db.session
    with hers.joined():
        outer = hers.create_conversation("outer")
        with failing(session.begin_nested()):
            inner = hers.create_conversation("inner")
        with session.begin_nested():
            kept = hers.create_conversation("kept")
        session.commit()
    assert elsewhere.conversation_exists(outer["id"])
    assert elsewhere.conversation_exists(kept["id"])
    assert not elsewhere.conversation_exists(inner["id"])


def test_the_hosts_savepoint_survives_a_failing_call(host, hers, elsewhere):
    """A refused call inside the host's savepoint leaves the savepoint usable."""
    session = host.db.session
    with hers.joined():
        with session.begin_nested():
            session.add(host.Note(text="kept"))
            with pytest.raises(NotFound):
                hers.save_message(NEVER, "user", "x")
            chat = hers.create_conversation()
        session.commit()
    assert notes(host) == ["kept"]
    assert elsewhere.conversation_exists(chat["id"])


# -- without a context ------------------------------------------------------------------------------------------------


def test_outside_a_context_the_error_says_what_to_do(app, conversations):
    """Without app= and without context a call raises an error that names the way out."""
    other = type(conversations)(app.db, identity=lambda: None)
    with pytest.raises((ConfigurationError, RuntimeError), match="app"):
        other.as_user("ada").list_conversations()


def test_without_autocommit_a_service_of_its_own_still_commits(make_app):
    """With app= there is no host transaction to wait for: each call and group is stored."""
    app = make_app(CONVERSATIONS_AUTOCOMMIT=False)
    ada = app.conversations.as_user("ada", app=app)
    chat = ada.create_conversation()
    with ada.transaction():
        ada.save_message(chat["id"], "user", "a")
    assert contents(ada, chat["id"]) == ["a"]
    with ada.joined():
        ada.save_message(chat["id"], "user", "nobody commits")
    assert contents(ada, chat["id"]) == ["a"]
    assert in_use(app) == 0
