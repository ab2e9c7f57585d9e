"""What a hostile reading of the REST API found."""

from __future__ import annotations

import itertools

import pytest
import sqlalchemy as sa

from flask_conversations import Conversations
from tests.rest.tools import URL, created, problem, said

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
NOWHERE = ("/", "/x/", "/x/nothing", "/x/messages/y/feedback/z", "//x", "/x//messages")


@pytest.fixture
def camel(make_app):
    """Ada's client on a mount in camelCase."""
    from tests.infra.apps import client_of

    return client_of(make_app(CONVERSATIONS_JSON_CASE="camel"), "ada")


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_wrong_address_below_the_resource_is_a_problem(http, subtests):
    """No HTML and no redirect, for any method and any caller."""
    for method, path in itertools.product(METHODS, NOWHERE):
        with subtests.test(f"{method} {path}"):
            answer = http(None).open(URL + path, method=method, json={} if method != "GET" else None)
            problem(answer, 404, "not_found")


def test_real_addresses_keep_their_methods(http):
    """405 and OPTIONS say what an address takes, and nothing else answers there."""
    refused = http("ada").patch(URL)
    problem(refused, 405, "method_not_allowed")
    assert refused.headers["Allow"] == http("ada").options(URL).headers["Allow"] == "GET, POST, HEAD, OPTIONS"


def test_the_hosts_own_routes_below_the_resource_answer(make_app):
    """A host route that is more than a wildcard goes before ours, even one that takes a whole path."""
    app = make_app()
    app.add_url_rule(f"{URL}/<chat>/summary", "summary", lambda chat: "summary")
    app.add_url_rule(f"{URL}/<chat>/files/<path:name>", "files", lambda chat, name: name)
    client = app.test_client()
    assert client.get(f"{URL}/x/summary").text == "summary"
    assert client.get(f"{URL}/x/files/a/b").text == "a/b"


def test_a_deleted_conversation_leaves_no_kept_answer(app, conversations, http):
    """The answers to POSTs with a key go with the conversation, also when it was addressed by its client id."""
    hers = http("ada")
    chat = created(hers, id="mine")
    once = {"Idempotency-Key": "k1"}
    hers.post(f"{URL}/mine/messages", json={"content": "secret"}, headers=once)
    hers.post(f"{URL}/mine/archive", headers=once)
    hers.post(URL, json={"title": "another"}, headers=once)
    hers.delete(f"{URL}/{chat['id']}?permanent=true")

    with app.app_context():
        table = conversations.models.tables["conversation_idempotency"]
        (kept,) = conversations.db.session.execute(sa.select(table)).all()
    assert "another" in kept.answer["body"]
    problem(hers.post(f"{URL}/mine/messages", json={"content": "secret"}, headers=once), 404, "conversation_not_found")


def test_a_kept_answer_in_camel_case_is_found_too(app, camel):
    """The spelling of a mount does not hide which conversation an answer is about."""
    once = {"Idempotency-Key": "k1"}
    chat = camel.post(URL, json={}).json["id"]
    camel.post(f"{URL}/{chat}/messages", json={"content": "secret"}, headers=once)
    camel.delete(f"{URL}/{chat}?permanent=true")
    answer = camel.post(f"{URL}/{chat}/messages", json={"content": "secret"}, headers=once)
    problem_in_camel(answer, 404)


def problem_in_camel(answer, status):
    assert (answer.status_code, answer.mimetype) == (status, "application/problem+json")
    assert "requestId" in answer.json
    return answer.json


def test_two_requests_in_one_app_context_have_their_own_ids_and_spelling(make_app):
    """An app context of the host's, or of its tests, outlives a request: nothing of one shows in the next."""
    app = make_app()
    app.register_blueprint(app.conversations.create_blueprint("camel", "chats", "/api", "camel"))
    client = app.test_client()
    with app.app_context():
        one = client.get("/api/chats", headers={"X-Request-ID": "one"})
        two = client.get(URL)
        assert "requestId" in one.json
        assert "request_id" in two.json
        assert (one.headers["X-Request-ID"], one.json["requestId"]) == ("one", "one")
        assert two.headers["X-Request-ID"] != "one"


def test_a_detail_names_fields_as_the_caller_knows_them(camel):
    """In camelCase the sentence and the errors say `contextType`."""
    body = problem_in_camel(camel.post(URL, json={"contextType": 7}), 422)
    assert body["detail"].endswith("See: contextType.")
    assert list(body["errors"]) == ["contextType"]


@pytest.mark.parametrize("nested", [False, True])
def test_one_member_in_both_spellings_is_refused(camel, nested):
    """Of `clientId` and `client_id` neither is silently the one that counts."""
    both = {"role": "user", "content": "x", "clientId": "a", "client_id": "b"}
    if not nested:
        both = {"contextType": "a", "context_type": "b"}
    body = problem_in_camel(camel.post(URL, json={"messages": [both]} if nested else both), 422)
    assert body["errors"] == {"clientId" if nested else "contextType": ["Given twice."]}
    assert camel.get(f"{URL}?contextType=a&context_type=b").status_code == 422
    assert camel.get(URL).json["conversations"] == []


def test_null_clears_a_messages_metadata(http):
    """PATCH with `metadata: null`; a PATCH without it leaves it. Bob sees nothing of it."""
    hers = http("ada")
    chat = created(hers)["id"]
    address = f"{URL}/{chat}/messages/{said(hers, chat, 'x', metadata={'a': 1})['id']}"
    assert hers.patch(address, json={"content": "y"}).json["metadata"] == {"a": 1}
    assert hers.patch(address, json={"metadata": None}).json["metadata"] is None
    problem(http("bob").patch(address, json={"metadata": None}), 404, "conversation_not_found")


@pytest.mark.parametrize("query", ["min_version=1", "min_version=1&include=messages"])
def test_a_list_takes_the_version_seen_before(http, query):
    """`min_version` is judged by the service too."""
    assert http("ada").get(f"{URL}?{query}").status_code == 200


def test_cursors_hold_without_a_secret_key(make_app):
    """An app with JWT keys in a list and no SECRET_KEY pages through its lists."""
    from flask_conversations.state import _secrets

    app = make_app(SECRET_KEY=None, CONVERSATIONS_JWT_KEY=["a" * 40, "b" * 40])
    assert isinstance(app.conversations, Conversations)
    assert _secrets(app, app.extensions["flask_conversations"].config) == ["a" * 40, "b" * 40]
