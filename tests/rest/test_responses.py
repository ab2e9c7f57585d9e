"""What every answer has: an id, no place in a cache, the right Allow, and never our insides."""

from __future__ import annotations

import contextlib
import logging
import re

import pytest

from tests.infra.apps import client_of

from .tools import NOBODYS_UUID, URL, created, problem


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_every_answer_has_a_request_id(hers, http):
    """The caller's own if it is a plain one, else ours; the same in the body of a problem; a new one each time."""
    assert hers.get(URL, headers={"X-Request-ID": "trace-1.a_B"}).headers["X-Request-ID"] == "trace-1.a_B"
    own = {hers.get(URL).headers["X-Request-ID"] for _ in range(3)}
    assert len(own) == 3
    for bad in ("a b", "ä", "x" * 129, "", '"><script>', "a;b"):
        found = hers.get(URL, headers={"X-Request-ID": bad}).headers["X-Request-ID"]
        assert re.fullmatch("[0-9a-f]{32}", found), bad
    answer = http(None).get(URL, headers={"X-Request-ID": "mine"})
    assert problem(answer, 401, "identity_required")["request_id"] == "mine"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_no_answer_may_be_kept_by_a_cache(hers, http):
    """`private, no-store`, on success, on errors, on 304, on 405 and without an identity; and it varies by who asks."""
    made = created(hers)
    tag = hers.get(f"{URL}/{made['id']}").headers["ETag"]
    answers = [
        hers.get(URL),
        hers.post(URL, json={}),
        hers.get(f"{URL}/{made['id']}", headers={"If-None-Match": tag}),
        hers.get(f"{URL}/{NOBODYS_UUID}"),
        hers.post(f"{URL}/{made['id']}"),
        hers.options(URL),
        http(None).get(URL),
    ]
    for answer in answers:
        assert answer.headers["Cache-Control"] == "private, no-store"
        assert {"Authorization", "Cookie"} <= {part.strip() for part in answer.headers["Vary"].split(",")}
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


ALLOWED = {
    "": "GET, POST, HEAD, OPTIONS",
    "/claim": "POST, OPTIONS",
    "/{id}": "GET, PUT, PATCH, DELETE, HEAD, OPTIONS",
    "/{id}/archive": "POST, OPTIONS",
    "/{id}/restore": "POST, OPTIONS",
    "/{id}/messages": "GET, POST, HEAD, OPTIONS",
    "/{id}/messages/{id}": "GET, PATCH, DELETE, HEAD, OPTIONS",
    "/{id}/messages/{id}/feedback": "PUT, OPTIONS",
}


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_405_and_options_say_what_an_address_takes(hers, http, subtests):
    """A problem with Allow; the same without an identity, and the same for OPTIONS."""
    for path, allowed in ALLOWED.items():
        url = URL + path.format(id=NOBODYS_UUID)
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - set(allowed.split(", ")):
            with subtests.test(f"{method} {path}"):
                for client in (hers, http(None)):
                    answer = client.open(url, method=method)
                    problem(answer, 405, "method_not_allowed")
                    assert answer.headers["Allow"] == allowed
        with subtests.test(f"OPTIONS {path}"):
            options = http(None).options(url)
            assert (options.status_code, options.data, options.headers["Allow"]) == (204, b"", allowed)


# -- bugs and outages --------------------------------------------------------------------------------------------------
def test_a_bug_in_a_hook_is_500_without_its_insides(make_app, caplog):
    """JSON, no text of the exception, no traceback; the log has both, by the request id; nothing is stored."""
    app = make_app(PROPAGATE_EXCEPTIONS=True)

    @app.conversations.guard
    def broken(message):
        raise RuntimeError("the password is hunter2")

    client = client_of(app, "ada")
    made = created(client)
    with caplog.at_level(logging.ERROR, "flask_conversations"):
        answer = client.post(f"{URL}/{made['id']}/messages", json={"content": "x"}, headers={"X-Request-ID": "req-7"})
    body = problem(answer, 500, "internal_error")
    assert "hunter2" not in answer.text
    assert "Traceback" not in answer.text
    assert body["retryable"] is False
    assert "hunter2" in caplog.text
    assert "req-7" in caplog.text
    assert client.get(f"{URL}/{made['id']}").json["message_count"] == 0


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_bug_in_the_resolver_is_no_other_answer(make_app):
    """With a broken resolver no request gets in: 500, never a user's conversations."""
    app = make_app(options={"identity": lambda: 1 / 0})
    answer = app.test_client().get(URL)
    problem(answer, 500, "internal_error")
    assert "division" not in answer.text


def test_without_tables_it_is_503(make_app):
    """With the command for the operator in the log, not in the answer; not worth a retry."""
    client = client_of(make_app(tables=False, CONVERSATIONS_TABLE_PREFIX="missing_"), "ada")
    answer = client.get(URL)
    body = problem(answer, 503, "schema_missing")
    assert "missing_" not in answer.text
    assert "SELECT" not in answer.text
    assert body["retryable"] is False


def hang_up(database):
    """Close all connections to a PostgreSQL database from the server's side."""
    with database.admin.connect() as connection:
        connection.exec_driver_sql(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database.database}'"
        )
    # the connection of the test infrastructure is among them
    database.engine.dispose()


@contextlib.contextmanager
def without_file(database, app):
    """SQLite's folder is somewhere else for a while."""
    with app.app_context():
        app.db.engine.dispose()
    away = database.folder.with_name(database.folder.name + "-away")
    database.folder.rename(away)
    try:
        yield
    finally:
        away.rename(database.folder)


@contextlib.contextmanager
def without_server(database, app):
    """PostgreSQL takes no connections for a while."""

    def allow(word):
        with database.admin.connect() as connection:
            connection.exec_driver_sql(f'ALTER DATABASE "{database.database}" ALLOW_CONNECTIONS {word}')

    allow("false")
    hang_up(database)
    try:
        yield
    finally:
        allow("true")


@pytest.fixture
def outage(database, app):
    """Takes the database away, and brings it back."""
    taken = {"sqlite": without_file, "postgresql": without_server}[database.name]
    return lambda: taken(database, app)


def test_without_its_database_it_is_503_and_well_again_after(app, hers, outage):
    """Retry-After, retryable, no address of the database; reads and writes; then everything is as it was."""
    made = created(hers, "kept")
    with outage():
        for answer in (
            hers.get(URL),
            hers.get(f"{URL}/{made['id']}"),
            hers.post(f"{URL}/{made['id']}/messages", json={"content": "lost"}),
            hers.delete(f"{URL}/{made['id']}"),
        ):
            body = problem(answer, 503, "storage_unavailable")
            assert (body["retryable"], int(answer.headers["Retry-After"]) > 0) == (True, True)
            for inside in ("sqlite", "postgres", "psycopg", "OperationalError", "/"):
                assert inside not in body["detail"]
    found = hers.get(f"{URL}/{made['id']}")
    assert [one["content"] for one in found.json["messages"]] == ["kept"]
    assert hers.post(f"{URL}/{made['id']}/messages", json={"content": "more"}).status_code == 201


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_dropped_connection_is_not_the_clients_business(database, hers):
    """An idle connection that the server has closed is replaced, for reads and writes, without an error."""
    made = created(hers, "kept")
    for ask in (
        lambda: hers.get(f"{URL}/{made['id']}"),
        lambda: hers.post(f"{URL}/{made['id']}/messages", json={"content": "more"}),
        lambda: hers.patch(f"{URL}/{made['id']}", json={"title": "t"}, headers={"If-Match": "*"}),
    ):
        hang_up(database)
        assert ask().status_code in (200, 201)
    assert hers.get(f"{URL}/{made['id']}").json["message_count"] == 2


def test_a_lock_that_is_held_too_long_is_503(make_app, threads):
    """`CONVERSATIONS_LOCK_TIMEOUT`: a clear answer instead of a hang."""
    app = make_app(CONVERSATIONS_LOCK_TIMEOUT=0.2)
    client = client_of(app, "ada")
    made = created(client)
    service = app.conversations.as_user("ada", app=app)
    with service.transaction():
        service.lock_conversation(made["id"])
        (answer,) = threads(1, lambda i: client.patch(f"{URL}/{made['id']}", json={"title": "t"}))
    body = problem(answer, 503, "storage_unavailable")
    assert body["retryable"] is True
    assert client.patch(f"{URL}/{made['id']}", json={"title": "t"}).status_code == 200
