"""Cookies and other sites: CSRF for whom a cookie identifies, and CORS that the host allows."""

from __future__ import annotations

import pytest
from flask import render_template_string, session
from flask_cors import CORS

from flask_conversations.identity import SessionIdentity

from .tools import NOBODYS_UUID, URL, problem

SPA = "https://chat.example"
EVIL = "https://evil.example"


@pytest.fixture
def app(make_app):
    """An API for a page on another origin, with logins by session cookie."""
    app = make_app(options={"identity": SessionIdentity()}, CONVERSATIONS_TRUSTED_ORIGINS=[SPA])
    CORS(
        app,
        origins=[SPA, "https://other.example"],
        supports_credentials=True,
        expose_headers=["ETag", "Location", "Idempotency-Replayed"],
    )

    @app.post("/login/<name>")
    def login(name: str) -> str:
        session["user_id"] = name
        return ""

    app.add_url_rule("/csrf", view_func=lambda: render_template_string("{{ conversations_csrf_token() }}"))
    return app


@pytest.fixture
def ada(app):
    """Ada's browser, logged in by cookie."""
    client = app.test_client()
    client.post("/login/ada")
    return client


CHANGES = [
    ("POST", ""),
    ("POST", "/claim"),
    ("PATCH", "/{id}"),
    ("PUT", "/{id}"),
    ("DELETE", "/{id}"),
    ("POST", "/{id}/archive"),
    ("POST", "/{id}/messages"),
    ("PATCH", f"/{{id}}/messages/{NOBODYS_UUID}"),
    ("PUT", f"/{{id}}/messages/{NOBODYS_UUID}/feedback"),
    ("DELETE", f"/{{id}}/messages/{NOBODYS_UUID}"),
]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_foreign_page_changes_nothing(ada, subtests):
    """403 `csrf_failed`, before the body is read or anything is looked up; reading stays possible."""
    made = ada.post(URL, json={"title": "t"}, headers={"Origin": SPA}).json
    before = ada.get(f"{URL}/{made['id']}").data
    for method, path in CHANGES:
        with subtests.test(f"{method} {path}"):
            for headers in ({"Origin": EVIL}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}, {}):
                answer = ada.open(URL + path.format(id=made["id"]), method=method, headers=headers, data="not json")
                problem(answer, 403, "csrf_failed")
            assert ada.get(f"{URL}/{made['id']}", headers={"Origin": EVIL}).data == before


def test_a_token_is_a_proof_too(ada):
    """`conversations_csrf_token()` in the host's template, sent as X-CSRF-Token; another user's token is none."""
    token = ada.get("/csrf").text
    assert ada.post(URL, json={}, headers={"X-CSRF-Token": token}).status_code == 201
    other = ada.application.test_client()
    other.post("/login/bob")
    problem(other.post(URL, json={}, headers={"X-CSRF-Token": token}), 403, "csrf_failed")


# -- CORS --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_preflight_needs_no_login(app, subtests):
    """A browser sends it without cookies; the answer lets the page go on."""
    for method, path in CHANGES:
        with subtests.test(f"{method} {path}"):
            headers = {
                "Origin": SPA,
                "Access-Control-Request-Method": method,
                "Access-Control-Request-Headers": "content-type, idempotency-key, if-match",
            }
            answer = app.test_client().options(URL + path.format(id=NOBODYS_UUID), headers=headers)
            assert answer.status_code in (200, 204)
            assert answer.headers["Access-Control-Allow-Origin"] == SPA
            assert answer.headers["Access-Control-Allow-Credentials"] == "true"
            assert method in answer.headers["Access-Control-Allow-Methods"]
            assert "if-match" in answer.headers["Access-Control-Allow-Headers"]


def test_a_trusted_page_works_with_credentials(ada):
    """The whole way: create, read, write, with its headers exposed and its cookie sent."""
    made = ada.post(URL, json={}, headers={"Origin": SPA})
    assert made.status_code == 201
    assert made.headers["Access-Control-Allow-Origin"] == SPA
    assert made.headers["Access-Control-Allow-Credentials"] == "true"
    assert "ETag" in made.headers["Access-Control-Expose-Headers"]
    assert {"origin", "cookie"} <= {part.strip().lower() for part in ",".join(made.headers.getlist("Vary")).split(",")}
    assert (
        ada.post(f"{URL}/{made.json['id']}/messages", json={"content": "x"}, headers={"Origin": SPA}).status_code == 201
    )


def test_errors_can_be_read_by_the_trusted_page(app, ada):
    """401, 404 and 422 carry the headers too: a page that cannot read its errors is blind."""
    answers = [
        app.test_client().get(URL, headers={"Origin": SPA}),
        ada.get(f"{URL}/{NOBODYS_UUID}", headers={"Origin": SPA}),
        ada.post(URL, json={"x": 1}, headers={"Origin": SPA}),
    ]
    assert [one.status_code for one in answers] == [401, 404, 422]
    assert {one.headers["Access-Control-Allow-Origin"] for one in answers} == {SPA}


def test_we_allow_no_origin_ourselves(make_app):
    """CORS is the host's: without flask-cors no answer has such a header, and an untrusted one gets none with it."""
    plain = make_app(options={"identity": SessionIdentity()}).test_client()
    for method in ("GET", "OPTIONS"):
        headers = {"Origin": EVIL, "Access-Control-Request-Method": "POST"}
        assert not [
            name
            for name, _ in plain.open(URL, method=method, headers=headers).headers
            if "access-control" in name.lower()
        ]


def test_an_untrusted_page_is_not_allowed(ada):
    """Neither by CORS nor by CSRF."""
    assert "Access-Control-Allow-Origin" not in ada.get(URL, headers={"Origin": EVIL}).headers
