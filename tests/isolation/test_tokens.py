"""Bad tokens at every door: each of `bad_authorizations` at every protected route is 401, and nothing happens."""

from __future__ import annotations

import pytest

from flask_conversations.identity import JWTIdentity
from tests.identity.bad_tokens import bad_authorizations, good_authorization

from .matrix import PUBLIC, rows

KEY = "a key of the token tests, long enough for HS256"
PROBLEM = {"type", "title", "status", "detail", "code", "request_id", "retryable"}


@pytest.fixture
def app(make_app):
    return make_app(options={"identity": JWTIdentity()}, CONVERSATIONS_JWT_KEY=KEY)


def doors(app, id="0d6ee3a4-6d5f-4a53-b2a1-6b6c7ef9d0c4"):
    """Method and address of every protected route."""
    protected = [rule for rule in app.url_map.iter_rules() if ".nothing_here" not in rule.endpoint]
    served = {(method, rule.rule) for rule in protected for method in rule.methods}
    for row in rows(app):
        method, _, path = row.partition(" ")
        address = "/api/conversations" + path.rstrip("/")
        known = address.replace("{c}", "<conversation_id>").replace("{m}", "<message_id>")
        if (method, known) in served and not path.endswith(PUBLIC):
            yield method, address.replace("{c}", id).replace("{m}", id)


def test_no_bad_token_opens_any_door(app, statements):
    """At least 60 bad tokens x every protected route: 401 problem+json with WWW-Authenticate, no 5xx, not one SQL statement."""
    tokens, wrong, count = bad_authorizations(KEY), [], 0
    client = app.test_client()
    with statements(app) as seen:
        for method, address in doors(app):
            for name, header in tokens.items():
                answer = client.open(address, method=method, headers={"Authorization": header}, json={})
                count += 1
                explained = answer.mimetype == "application/problem+json" and "WWW-Authenticate" in answer.headers
                if answer.status_code != 401 or not explained:
                    wrong.append((name, method, address, answer.status_code))
    print(f"{len(tokens)} bad tokens, {count} requests")
    assert wrong == []
    assert seen == []
    assert len(tokens) >= 60
    assert count >= 60 * 15


def test_the_answer_tells_nothing_of_what_was_wrong(app):
    """Every refused token and no token at all get the same answer, so that guessing learns nothing."""
    client = app.test_client()
    headers = [{}, *({"Authorization": header} for header in bad_authorizations(KEY).values())]
    answers = {client.get("/api/conversations", headers={**one, "X-Request-ID": "one"}).data for one in headers}
    assert len(answers) == 1
    assert set(client.get("/api/conversations").json) == PROBLEM


def test_the_good_token_opens_every_door(app):
    """The control: with nothing wrong, no route answers 401."""
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = good_authorization(KEY)
    made = client.post("/api/conversations", json={}).json["id"]
    found = {door: client.open(door[1], method=door[0], json={}).status_code for door in doors(app, made)}
    assert {door for door, status in found.items() if status in (401, 403) or status >= 500} == set()


def test_tokens_elsewhere_than_in_the_header_count_for_nothing(app):
    """Not in the query, not in a form or JSON body, not in a cookie that is not configured."""
    token = good_authorization(KEY).removeprefix("Bearer ")
    client = app.test_client()
    for name in ("token", "access_token", "jwt", "authorization", "session"):
        client.set_cookie(name, token)
        assert client.get(f"/api/conversations?{name}={token}", headers={"X-Authorization": token}).status_code == 401
        assert client.post("/api/conversations", json={name: token}).status_code == 401
        assert client.post("/api/conversations", data={name: token}).status_code == 401
