"""In the host's own routes: our errors are answers, `require_identity` guards, and several apps share one extension."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from flask import g
from flask_sqlalchemy import SQLAlchemy

from flask_conversations import Conversations, current_conversations, errors
from tests.infra.apps import client_of, identity_from_headers

from .tools import NOBODYS_UUID, URL, created, problem


@pytest.fixture
def app(make_app):
    """A host with a chat route of its own, as its authors would write it."""
    app = make_app()

    @app.post("/chat/<conversation_id>")
    def chat(conversation_id: str) -> Any:
        current_conversations.save_message(conversation_id, "user", "question")
        current_conversations.save_message(conversation_id, "assistant", "answer")
        return current_conversations.get_conversation_history(conversation_id, limit=20)

    @app.get("/raise/<name>")
    def fail(name: str) -> Any:
        raise getattr(errors, name)

    return app


def test_a_hosts_route_acts_for_the_user_of_the_request(hers, his):
    """`current_conversations` is the requester's, for reading and for writing."""
    made = created(hers)
    answer = hers.post(f"/chat/{made['id']}")
    assert [one["content"] for one in answer.json] == ["question", "answer"]
    assert hers.get(f"{URL}/{made['id']}").json["message_count"] == 2
    problem(his.post(f"/chat/{made['id']}"), 404, "conversation_not_found")
    assert hers.get(f"{URL}/{made['id']}").json["message_count"] == 2


def test_our_errors_become_their_http_answers(hers, http):
    """404, 401 with WWW-Authenticate, 422: problems, although the view catches no error."""
    problem(hers.post(f"/chat/{NOBODYS_UUID}"), 404, "conversation_not_found")
    answer = http(None).post(f"/chat/{NOBODYS_UUID}")
    problem(answer, 401, "identity_required")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


STATUSES = {
    "NotFound": 404,
    "Forbidden": 403,
    "IdentityRequired": 401,
    "ValidationFailed": 422,
    "VersionConflict": 409,
    "ClientIdConflict": 409,
    "TurnInProgress": 409,
    "RateLimited": 429,
    "StorageUnavailable": 503,
}


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_each_error_has_its_status(hers, subtests):
    """With Retry-After where waiting helps, and the same headers as our own routes."""
    for name, status in STATUSES.items():
        with subtests.test(name):
            answer = hers.get(f"/raise/{name}")
            assert (answer.status_code, answer.json["status"]) == (status, status)
            assert answer.mimetype == "application/problem+json"
            assert ("Retry-After" in answer.headers) is (getattr(errors, name).retry_after is not None)
            assert answer.headers["Cache-Control"] == "private, no-store"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_hosts_own_errors_stay_its_own(app, hers):
    """We answer for our errors, in our routes, and for nothing else."""
    answer = hers.get("/nowhere")
    assert (answer.status_code, answer.mimetype) == (404, "text/html")


# -- require_identity --------------------------------------------------------------------------------------------------
@pytest.fixture(params=["sync", "async"])
def guarded(request, make_app):
    """A view behind `@require_identity`, as an ordinary function and as a coroutine."""
    app = make_app()
    if request.param == "sync":

        @app.get("/me/<word>")
        @app.conversations.require_identity
        def me(word: str) -> Any:
            return {"user": g.identity.user_id, "org": g.identity.org_id, "word": word}

    else:

        @app.get("/me/<word>")
        @app.conversations.require_identity
        async def me(word: str) -> Any:
            await asyncio.sleep(0)
            return {"user": g.identity.user_id, "org": g.identity.org_id, "word": word}

    return app


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_require_identity_sets_who_asks(guarded):
    """`g.identity` is the requester's, in each request anew; the view keeps its name and arguments."""
    for user, org in [("ada", "acme"), ("bob", None), ("ada", None)]:
        assert client_of(guarded, user, org).get("/me/x").json == {"user": user, "org": org, "word": "x"}
    assert guarded.view_functions["me"].__name__ == "me"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_require_identity_lets_nobody_through(guarded):
    """401 as a problem, and the view has not run."""
    answer = guarded.test_client().get("/me/x")
    problem(answer, 401, "identity_required")
    assert "WWW-Authenticate" in answer.headers


def test_async_routes_use_the_same_calls(make_app):
    """`current_conversations.aio` in a coroutine view is the requester too."""
    app = make_app()

    @app.get("/list")
    async def listed() -> Any:
        return await current_conversations.aio.list_conversations()

    created(client_of(app, "ada"), title="hers")
    assert [one["title"] for one in client_of(app, "ada").get("/list").json["conversations"]] == ["hers"]
    assert client_of(app, "bob").get("/list").json["conversations"] == []


# -- several apps ------------------------------------------------------------------------------------------------------
def test_two_apps_share_one_extension_object(make_app, database):
    """Each has its own database, settings and rows; calls in one never land in the other."""
    db = SQLAlchemy()
    conversations = Conversations(db, identity=identity_from_headers)
    one = make_app(db=db, conversations=conversations)
    other = make_app(
        db=db,
        conversations=conversations,
        tables=False,
        SQLALCHEMY_DATABASE_URI=database.empty(),
        CONVERSATIONS_URL_PREFIX="/other",
        CONVERSATIONS_JSON_CASE="camel",
    )
    with other.app_context():
        db.create_all()
    in_one, in_other = client_of(one, "ada"), client_of(other, "ada")
    made = in_one.post(URL, json={"title": "in one"}).json
    assert in_other.post("/other/conversations", json={"title": "in other"}).json["createdAt"]
    assert [c["title"] for c in in_one.get(URL).json["conversations"]] == ["in one"]
    assert [c["title"] for c in in_other.get("/other/conversations").json["conversations"]] == ["in other"]
    assert in_other.get(f"/other/conversations/{made['id']}").status_code == 404
    assert in_other.get(URL).status_code == 404
    assert conversations.as_user("ada", app=one).conversation_exists(made["id"])
    assert not conversations.as_user("ada", app=other).conversation_exists(made["id"])


def test_with_two_apps_the_context_says_which(make_app, database):
    """A service without `app=` works in the app context it is called in, and says so when there is none."""
    db = SQLAlchemy()
    conversations = Conversations(db, identity=identity_from_headers)
    one = make_app(db=db, conversations=conversations)
    other = make_app(db=db, conversations=conversations, tables=False, SQLALCHEMY_DATABASE_URI=database.empty())
    with other.app_context():
        db.create_all()
    ada = conversations.as_user("ada")
    with one.app_context():
        made = ada.create_conversation("in one")
    with other.app_context():
        assert not ada.conversation_exists(made["id"])
    with pytest.raises(errors.ConfigurationError, match="app"):
        ada.list_conversations()


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_without_a_resolver_no_app_starts(make_app):
    """There is no default user."""
    with pytest.raises(errors.ConfigurationError, match="identity"):
        make_app(options={"identity": None})


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_an_unsafe_resolver_answer_is_nobody(make_app, subtests):
    """401, never one user's conversations, never those of all."""
    answers = []
    client = make_app(options={"identity": lambda: answers[-1]}).test_client()
    for answer in ("", "  ", 7, True, object(), ["ada"], {"user_id": "ada"}, b"ada", "guest:1", "a\0"):
        with subtests.test(answer=repr(answer)):
            answers.append(answer)
            problem(client.get(URL), 401, "identity_required")
            problem(client.post(URL, json={}), 401, "identity_required")


def test_a_resolver_may_answer_a_plain_user_id(make_app):
    """And may be set by a decorator."""
    app = make_app(options={"identity": lambda: "ada"})
    assert app.test_client().post(URL, json={}).json["user_id"] == "ada"

    @app.conversations.identity_loader
    def load() -> str:
        return "bob"

    assert app.test_client().get(URL).json["conversations"] == []
    assert app.test_client().post(URL, json={}).json["user_id"] == "bob"
