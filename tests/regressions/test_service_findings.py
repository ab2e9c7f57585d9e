"""What a hostile reading of the service found, each with its interleaving written out."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import uuid

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_conversations import Conversations, NotFound, ValidationFailed, signals
from flask_conversations.ids import new_id


@pytest.fixture
def chat(ada):
    return ada.create_conversation("chat")["id"]


def contents(service, conversation_id):
    return [message["content"] for message in service.get_messages(conversation_id)["messages"]]


def test_a_service_of_another_app_never_shares_a_group(tmp_path):
    """`with A.transaction(): B.create(...)` writes to B's database, although both apps share one extension object."""
    conversations = Conversations(SQLAlchemy(), identity=lambda: None)
    apps = [app_on(conversations, tmp_path / name) for name in ("one.sqlite3", "two.sqlite3")]
    first, second = (conversations.as_user("ada", app=app) for app in apps)

    with first.transaction():
        made = second.create_conversation("for the second app")

    assert second.conversation_exists(made["id"])
    assert not first.conversation_exists(made["id"])


def app_on(conversations, path):
    app = Flask(path.stem)
    app.config.update(SECRET_KEY="for this test only", TESTING=True, SQLALCHEMY_DATABASE_URI=f"sqlite:///{path}")
    conversations.db.init_app(app)
    conversations.init_app(app)
    with app.app_context():
        conversations.db.create_all()
    return app


def test_a_guard_that_writes_is_part_of_the_call(app, conversations, ada, bob, chat):
    """A guard writes through the service, then the call fails: what the guard wrote is undone with it."""
    entered = threading.local()

    @conversations.guard
    def tag_it(message, context):
        if not getattr(entered, "now", False) and message["content"] == "guarded":
            entered.now = True
            try:
                conversations.as_user("ada").update_conversation(context.conversation_id, tags=["half"])
            finally:
                entered.now = False

    with app.app_context():
        service = conversations.as_user("ada")
        with pytest.raises(ValidationFailed):
            service.save_messages(chat, [{"role": "user", "content": "guarded"}, {"role": "nobody", "content": "x"}])
    conversations._guards.clear()

    assert ada.get_conversation(chat)["tags"] == []
    assert ada.get_conversation(chat)["version"] == 1


def test_the_system_takes_no_client_id(app, conversations, ada, bob):
    """A client id is unique for its owner only: to the system, which sees all owners, it names nothing."""
    mine, theirs = ada.create_conversation(id="notes"), bob.create_conversation(id="notes")
    system = conversations.as_system(app=app)
    with pytest.raises(NotFound):
        system.save_message("notes", "user", "whose?")
    with pytest.raises(NotFound):
        system.archive_conversation("notes")
    assert system.get_conversation(theirs["id"])["message_count"] == 0
    assert ada.get_conversation("notes")["id"] == mine["id"]


def test_a_uuid_client_id_names_the_message(ada, bob, chat):
    """What browsers call `crypto.randomUUID()` is taken as the id, and still makes a retry harmless."""
    key = str(uuid.uuid4())
    saved = ada.save_message(chat, "user", "hello", client_id=key)
    assert saved["id"] == saved["client_id"] == key
    assert ada.save_message(chat, "user", "hello", client_id=key) == saved
    assert ada.get_message(chat, key.upper()) == saved
    assert ada.save_message(chat, "assistant", "hi", parent_id=key)["parent_id"] == key
    with pytest.raises(NotFound):
        bob.get_message(chat, key)


def test_a_retry_finds_its_message_though_its_parent_is_gone(ada, chat):
    """save(client_id, parent) · parent deleted · the same save again: the first message, not an error."""
    question = ada.save_message(chat, "user", "question")
    answer = ada.save_message(chat, "assistant", "answer", client_id="a1", parent_id=question["id"])
    ada.delete_message(chat, question["id"])
    assert ada.save_message(chat, "assistant", "answer", client_id="a1", parent_id=question["id"])["id"] == answer["id"]


@pytest.mark.parametrize("named_by", ["id", "client_id"])
def test_a_deletion_beats_an_older_copy(ada, chat, named_by):
    """Device A deletes a message; device B saves its older copy: the message stays deleted, and B's new one is kept."""
    first = ada.save_message(chat, "user", "to be deleted", client_id="gone-1")
    ada.delete_message(chat, first["id"])
    copy = [{named_by: first[named_by], "role": "user", "content": "to be deleted"}, {"role": "user", "content": "new"}]

    outcome = ada.save_conversation({"id": chat, "messages": copy}, base_version=2)

    assert outcome["outcome"] == "merged"
    assert contents(ada, chat) == ["new"]
    ada.save_conversation({"id": chat, "messages": copy}, force_overwrite=True)
    assert contents(ada, chat) == ["to be deleted", "new"]


def test_an_older_copy_does_not_take_the_title_away(ada):
    """create · first message titles it · the copy from before is saved: the title stays."""
    conversation = ada.create_conversation()
    ada.save_message(conversation["id"], "user", "Hello there")
    for base in (None, 1):
        ada.save_conversation(
            {"id": conversation["id"], "title": "New Conversation", "messages": []}, base_version=base
        )
        assert ada.get_conversation(conversation["id"])["title"] == "Hello there"


def test_an_older_copy_does_not_unarchive(ada, chat):
    """Archived on one device, saved from an older copy on the other: it stays archived, and the conflict is reported."""
    ada.archive_conversation(chat)
    outcome = ada.save_conversation({"id": chat, "status": "active"}, base_version=1)
    assert [conflict["field"] for conflict in outcome["conflicts"]] == ["status"]
    assert ada.get_conversation(chat)["status"] == "archived"


def test_two_devices_that_create_the_same_conversation_keep_both(ada, threads):
    """Both save a snapshot under the same new id at the same moment: one creates, the other merges."""
    own_id = new_id()
    threads(
        2, lambda i: ada.save_conversation({"id": own_id, "messages": [{"role": "user", "content": f"device {i}"}]})
    )
    assert sorted(contents(ada, own_id)) == ["device 0", "device 1"]


def test_an_inner_group_undoes_itself(ada, chat):
    """The inner group fails and is caught, the outer one ends well: only the outer one's calls are kept."""

    def fail_inside():
        with ada.transaction():
            ada.save_message(chat, "user", "inner")
            raise LookupError

    with ada.transaction():
        ada.save_message(chat, "user", "outer")
        with pytest.raises(LookupError):
            fail_inside()
    assert contents(ada, chat) == ["outer"]


def test_coroutines_inside_a_group_do_not_share_its_session(ada, chat):
    """Eight coroutines gathered within a sync group save eight messages, each in a thread and session of its own."""

    async def gathered():
        calls = (ada.aio.save_message(chat, "user", str(i)) for i in range(8))
        return await asyncio.gather(*calls)

    with ada.transaction():
        ada.get_conversation(chat)
        asyncio.run(gathered())
    assert ada.get_conversation(chat)["message_count"] == len(contents(ada, chat)) == 8


def test_no_lock_is_held_while_the_titler_thinks(make_app):
    """While Ada's titler works, Bob saves: his call needs no lock of hers."""
    saved_meanwhile = []

    def titler(text):
        saved_meanwhile.append(bob.save_message(his, "user", "meanwhile")["seq"])
        return "A better title"

    app = make_app(CONVERSATIONS_TITLER=titler, CONVERSATIONS_LOCK_TIMEOUT=0.3)
    ada, bob = (app.conversations.as_user(name, app=app) for name in ("ada", "bob"))
    his = bob.create_conversation("his own title")["id"]
    hers = ada.create_conversation()["id"]

    ada.save_message(hers, "user", "Hello")

    assert saved_meanwhile == [1]
    assert ada.get_conversation(hers)["title"] == "A better title"


@pytest.mark.parametrize("autocommit", [True, False])
def test_what_a_receiver_writes_is_kept(make_app, autocommit):
    """A host commits a joined call; the receiver of its signal saves something of its own: that is durable too."""
    app = make_app(CONVERSATIONS_AUTOCOMMIT=autocommit)
    conversations, db = app.conversations, app.db
    with app.app_context():
        log = conversations.as_user("ada").create_conversation("log")["id"]
        chat = conversations.as_user("ada").create_conversation("chat")["id"]
        db.session.commit()

        def record(sender, message, **_):
            if message["conversation_id"] == chat:
                conversations.as_user("ada").save_message(log, "system", "seen")

        with signals.message_saved.connected_to(record, sender=app):
            service = conversations.as_user("ada")
            with service.joined():
                service.save_message(chat, "user", "hello")
                db.session.commit()
    assert contents(conversations.as_user("ada", app=app), log) == ["seen"]


def test_the_rest_api_commits_what_it_does(make_app):
    """Where the host commits, the API's own requests are committed all the same, and undone if they fail."""
    app = make_app(CONVERSATIONS_AUTOCOMMIT=False)
    headers = {"X-Test-User": "ada"}
    made = app.test_client().post("/api/conversations", json={"title": "kept"}, headers=headers)
    assert made.status_code == 201
    assert app.test_client().get(made.headers["Location"], headers=headers).json["title"] == "kept"


def test_a_failed_call_gives_the_lock_back(app, conversations, ada, bob, chat):
    """The host has only read; the call fails and is caught; others can write while the request goes on."""
    his = bob.create_conversation()["id"]
    with app.app_context():
        conversations.db.session.connection()
        service = conversations.as_user("ada")
        with pytest.raises(NotFound):
            service.save_message(new_id(), "user", "nowhere")
        assert bob.save_message(his, "user", "not kept waiting")["seq"] == 1


def test_an_edit_leaves_no_old_text_behind(ada, bob, chat):
    """The framework's own item, which said the old text, goes with it; tool calls beside the text stay."""
    calls = [{"type": "tool_call", "id": "c1", "name": "weather", "arguments": {}}]
    saved = ada.save_message(chat, "assistant", "old", raw={"role": "assistant", "content": "old"}, parts=calls)
    edited = ada.update_message(chat, saved["id"], content="new")
    assert (edited["content"], edited["raw"], edited["parts"]) == ("new", None, calls)
    assert "old" not in str(ada.get_conversation_history(chat))


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_thread_of_the_host_that_connects_meanwhile_is_not_disturbed(app, make_app, threads):
    """Our first use falls into the moment in which SQLAlchemy goes through the host's listeners for a new connection.

    The app is one on which nothing of ours has run; the list of the listeners must not change under the host's feet.
    """
    another = make_app(tables=False)
    another.conversations.as_user("ada", app=another).create_conversation(id="c-1")
    ada, saved = app.conversations.as_user("ada", app=app), []
    with app.app_context():
        engine = app.db.engine
    first = engine.connect()

    def connected(*_):
        if not saved:
            saved.append(None)
            saved[0] = threads(8, lambda i: ada.save_message("c-1", "user", str(i), client_id=str(i)))

    sa.event.listen(engine, "connect", connected)
    sa.event.listen(engine, "connect", lambda *_: None)
    with first, engine.connect() as second:
        assert second.execute(sa.text("SELECT 1")).scalar() == 1
    assert sorted(message["content"] for message in saved[0]) == list("01234567")
    assert [message["seq"] for message in ada.get_messages("c-1")["messages"]] == list(range(1, 9))


@pytest.fixture
def quick_collection():
    """`gc.collect()` looks at what the test makes, and not at everything that the suite holds."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("quick_collection")
def test_an_app_in_the_place_of_one_that_is_gone_announces_like_the_first():
    """A test suite makes an app per test: a session factory in the memory of a dead one is listened to all the same.

    SQLAlchemy's registry knows its targets by their `id()`. Apps are made here until a factory stands where one has stood.
    """
    places: set[int] = set()
    for _ in range(300):
        conversations, app = Conversations(SQLAlchemy(), identity=lambda: None), Flask("one of many")
        app.config.update(SECRET_KEY="for this test only", TESTING=True, SQLALCHEMY_DATABASE_URI="sqlite://")
        conversations.db.init_app(app)
        conversations.init_app(app, register_blueprint=False)
        with app.app_context():
            conversations.db.create_all()
        announced = []
        with signals.conversation_created.connected_to(lambda sender, said=announced, **payload: said.append(payload)):
            conversations.as_user("ada", app=app).create_conversation()
        assert len(announced) == 1
        place = id(conversations.db.session)
        if place in places:
            return
        places.add(place)
        del conversations, app
        gc.collect()
    pytest.fail("no place came again: this test has proven nothing")


def test_conversations_with_messages_are_the_active_ones(http, ada, bob, chat):
    """As in the list without messages; an unknown filter is named."""
    away = ada.create_conversation("away")["id"]
    ada.archive_conversation(away)
    assert [one["id"] for one in ada.load_conversations()["conversations"]] == [chat]
    listed = http("ada").get("/api/conversations?include=messages").get_json()["conversations"]
    assert [one["id"] for one in listed] == [chat]
    assert bob.load_conversations()["conversations"] == []
    with pytest.raises(ValidationFailed, match="statu"):
        ada.load_conversations(statu="active")


@pytest.mark.parametrize("name", ["name", "rule", "work_", "statu"])
def test_an_unknown_field_is_named_whatever_it_is_called(ada, chat, name):
    """Also one that a function of ours has for an argument."""
    with pytest.raises(ValidationFailed, match=name):
        ada.update_conversation(chat, **{name: "x"})


@pytest.mark.parametrize("how", ["commit", "rollback", "remove"])
def test_a_guard_may_end_the_transaction(app, conversations, ada, chat, how):
    """It has its own rows to see to; the message is saved all the same."""

    @conversations.guard
    def ends(message, context):
        app.db.session.execute(sa.text("SELECT 1"))
        getattr(app.db.session, how)()

    ada.save_message(chat, "user", "one")
    with app.app_context():
        conversations.as_user("ada").save_messages(chat, [{"role": "user", "content": "two"}])
    assert [one["content"] for one in ada.get_messages(chat)["messages"]] == ["one", "two"]


def test_all_threads_share_one_backend(make_app):
    """Whichever of them is the first to need it: the lock of a shared connection is a part of it."""
    app = make_app()
    state = app.extensions["flask_conversations"]
    state._backend = None
    together, found = threading.Barrier(8), []

    def look():
        together.wait()
        with app.app_context():
            found.append(state.backend)

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert {id(backend) for backend in found} == {id(state.backend)}


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_group_that_fails_keeps_no_lock(app, ada, chat):
    """In a transaction of the host that has only read, as after a single call that fails."""
    with app.app_context():
        service = app.conversations.as_user("ada")
        with service.joined():
            app.db.session.execute(sa.text("SELECT 1"))
            with contextlib.suppress(ZeroDivisionError), service.transaction():
                service.save_message(chat, "user", "lost")
                raise ZeroDivisionError
            with app.db.engine.connect() as other:
                other.exec_driver_sql("PRAGMA busy_timeout = 0")
                other.exec_driver_sql("BEGIN IMMEDIATE")
                other.rollback()
    assert contents(ada, chat) == []


def test_parents_of_messages_of_a_new_conversation(ada, subtests):
    """Nothing can be answered in a conversation that is not there yet; no parent is stored unchecked."""
    for parent in (True, "\ud800", "a" * 200, "00000000-0000-7000-8000-000000000000"):
        with subtests.test(repr(parent)), pytest.raises(ValidationFailed):
            ada.create_conversation(messages=[{"role": "user", "content": "a", "parent_id": parent}])
    assert ada.list_conversations()["conversations"] == []
