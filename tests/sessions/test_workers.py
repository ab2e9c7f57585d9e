"""Several workers, threads and apps on one database: every append is stored, in one conversation per key."""

from __future__ import annotations

import threading

import pytest
from flask import Flask, request

from flask_conversations import current_conversations, current_identity
from flask_conversations.errors import IdentityRequired

from .conftest import said


@pytest.fixture
def workers(make_app):
    """Ada's sessions in two apps on one database, as two workers have them."""
    apps = [make_app(), make_app()]
    return [app.conversations.sessions(20).as_user("ada", app=app) for app in apps]


def test_what_one_worker_appends_the_other_reads(workers):
    """At once, and after a deletion too."""
    one, other = workers
    one["s1"].append(said("a"))
    other["s1"].append(said("b"))
    assert list(one["s1"]) == list(other["s1"]) == [said("a"), said("b")]
    del other["s1"]
    assert "s1" not in one
    one["s1"].append(said("c"))
    assert list(other["s1"]) == [said("c")]


@pytest.mark.parametrize("deleted", [False, True], ids=["new", "deleted"])
def test_two_workers_begin_a_key_at_once(workers, threads, ada, deleted):
    """Both messages are stored, in one conversation; also where the key's last conversation is in the trash."""
    for each in range(5):
        key = f"s{each}"
        if deleted:
            workers[0][key].append(said("old"))
            del workers[1][key]
        threads(4, lambda n, key=key: workers[n % 2][key].append(said(f"{n}")))
        assert sorted(item["content"] for item in workers[0][key]) == ["0", "1", "2", "3"]
    assert len(ada.list_conversations()["conversations"]) == 5


def test_threads_append_and_pop(workers, threads):
    """As many items as were appended are popped, each once."""

    def work(n):
        mine = workers[n % 2]
        for each in range(5):
            mine["s1"].append(said(f"{n}-{each}"))
        return [mine["s1"].pop()["content"] for _ in range(5)]

    popped = [content for found in threads(4, work) for content in found]
    assert sorted(popped) == sorted(f"{n}-{each}" for n in range(4) for each in range(5))
    assert list(workers[0]["s1"]) == []


def test_setdefault_at_once_loses_no_append(workers, threads):
    """`SESSIONS.setdefault(key, deque()).append(...)` in two workers: both messages are there."""
    for each in range(5):
        threads(4, lambda n, key=f"s{each}": workers[n % 2].setdefault(key, []).append(said(f"{n}")))
        assert sorted(item["content"] for item in workers[0][f"s{each}"]) == ["0", "1", "2", "3"]


def test_both_halves_have_the_same_order(make_app, threads):
    """In hybrid mode, what threads of one process append is in one order in memory and in the database."""
    app = make_app()
    ours = app.conversations.sessions(write="both", read="memory").as_user("ada", app=app)
    threads(4, lambda n: [ours["s1"].append(said(f"{n}-{each}")) for each in range(5)])
    assert len(ours["s1"]) == 20
    assert ours.compare()["differences"] == []


@pytest.fixture
def chat(app: Flask, conversations):
    """A chat as apps have it, with its `SESSIONS` in a module."""
    SESSIONS = conversations.sessions(4)

    @app.post("/chat/<sid>")
    def chat(sid):
        history = list(SESSIONS[sid])[-4:]
        SESSIONS[sid].append(said(request.json["message"]))
        SESSIONS[sid].append(said(f"{len(history)} before", "assistant"))
        return {"history": history}

    @app.get("/stream/<sid>")
    def stream(sid):
        history = SESSIONS[sid]

        def answer():
            yield "word"
            history.append(said("word", "assistant"))

        return app.response_class(answer())

    @app.get("/thread/<sid>")
    def in_a_thread(sid):
        mine = SESSIONS.as_user(current_identity)
        thread = threading.Thread(target=lambda: mine[sid].append(said("later")), daemon=True)
        thread.start()
        thread.join(30)
        return ""

    @app.get("/grouped/<sid>")
    def grouped(sid):
        with current_conversations.transaction():
            SESSIONS[sid].append(said("never"))
            raise IdentityRequired

    return SESSIONS


def test_each_request_has_the_sessions_of_its_user(chat, app, http, ada):
    """The same key, two people: two conversations. A stranger is sent to log in."""
    assert http("ada").post("/chat/s1", json={"message": "I am Ada"}).json == {"history": []}
    assert http("bob").post("/chat/s1", json={"message": "I am Bob"}).json == {"history": []}
    assert http("ada").post("/chat/s1", json={"message": "Who?"}).json["history"][0] == said("I am Ada")
    assert http("ada", org="acme").post("/chat/s1", json={"message": "?"}).json == {"history": []}
    assert http(None).post("/chat/s1", json={"message": "?"}).status_code == 401
    assert len(chat.as_user("bob", app=app)["s1"]) == 2
    assert [each["title"] for each in ada.list_conversations()["conversations"]] == ["I am Ada"]


def test_a_deque_outlives_its_request(chat, app, http):
    """A streamed answer is appended after the context has gone, and is its user's."""
    assert http("ada").get("/stream/s1").text == "word"
    assert list(chat.as_user("ada", app=app)["s1"]) == [said("word", "assistant")]
    assert "s1" not in chat.as_user("bob", app=app)


def test_a_thread_is_given_the_sessions_of_a_user(chat, app, http):
    """`SESSIONS.as_user(current_identity)` stays that user's, in a thread without any context."""
    assert http("ada").get("/thread/s1").status_code == 200
    assert list(chat.as_user("ada", app=app)["s1"]) == [said("later")]
    assert "s1" not in chat.as_user("bob", app=app)


def test_a_call_joins_the_transaction_around_it(chat, app, http):
    """On the host's session: what the request rolls back was never said."""
    assert http("ada").get("/grouped/s1").status_code == 401
    assert "s1" not in chat.as_user("ada", app=app)


def test_the_host_may_commit(make_app):
    """With `CONVERSATIONS_AUTOCOMMIT = False` an append is the host's to commit."""
    app = make_app(CONVERSATIONS_AUTOCOMMIT=False)
    ours = app.conversations.sessions().as_user("ada")
    with app.app_context():
        ours["s1"].append(said("undone"))
        app.db.session.rollback()
        ours["s1"].append(said("done"))
        app.db.session.commit()
    with app.app_context():
        assert list(ours["s1"]) == [said("done")]


def test_an_append_is_one_save(app, ours, statements):
    """To an existing key: as many statements as `save_message` takes, and one to read."""
    ours["s1"].append(said("a"))
    with statements(app) as seen:
        ours["s1"].append(said("b"))
    assert len(seen) <= 2
    history = ours["s1"]
    iterator = iter(history)
    ours["s1"].append(said("c"))
    history.append(said("d"))
    assert [len(history), len(list(iterator))] == [3, 2]
    for read in (lambda: list(ours["s1"]), lambda: ours["s1"][-1], lambda: bool(ours["s1"]), lambda: "s1" in ours):
        with statements(app) as seen:
            read()
        assert len(seen) == 1
