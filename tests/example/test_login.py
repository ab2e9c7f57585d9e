"""Who is who in the example app: passwords, the session of the page, the token of API clients."""

from __future__ import annotations

import stat

import jwt
import pytest
import sqlalchemy as sa

from example_app import create_app, people
from example_app.extensions import db

from .conftest import PASSWORDS, log_in, with_token


def test_a_session_and_a_token_are_the_same_person(example):
    """What Ada writes on the page her API client finds, and Bob finds it in neither way."""
    page, api = log_in(example, "ada"), with_token(example, "ada")
    begun = page.post("/chat", json={"message": "Hello"}).json["conversation_id"]
    assert [each["id"] for each in api.get("/api/conversations").json["conversations"]] == [begun]
    for bob in (log_in(example, "bob"), with_token(example, "bob")):
        assert bob.get("/api/conversations").json["conversations"] == []
        assert bob.get(f"/api/conversations/{begun}").status_code == 404
        assert bob.post("/chat", json={"message": "Hello", "conversation_id": begun}).status_code == 404
        assert bob.post("/chat", json={"conversation_id": begun}).status_code == 404


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_the_token_names_the_person_and_no_browser_session(example):
    """It carries id, email and department, ends within the hour, and has no `sid`."""
    token = example.test_client().post("/login", json={"name": "ada", "password": PASSWORDS["ada"]}).json["token"]
    claims = jwt.decode(token, options={"verify_signature": False})
    assert set(claims) == {"sub", "email", "dept", "iat", "exp", "aud"}
    assert claims["exp"] - claims["iat"] == 3600
    assert (claims["email"], claims["dept"]) == ("ada@example.com", "engines")


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_wrong_password_opens_nothing(example, subtests):
    """Not by form and not by JSON; the answer does not tell a wrong password from an unknown name."""
    for password in ("", "builder", "LOVELACE", "lovelace "):
        with subtests.test(password=password):
            client = example.test_client()
            by_form = client.post("/login", data={"name": "ada", "password": password})
            by_json = client.post("/login", json={"name": "ada", "password": password})
            unknown = client.post("/login", json={"name": "eve", "password": password})
            assert (by_form.status_code, by_json.status_code, unknown.status_code) == (401, 401, 401)
            assert by_json.json == unknown.json
            assert client.get("/").headers["Location"] == "/login"
            assert client.get("/api/conversations").status_code == 401


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_odd_logins_are_refused(example, subtests):
    """JSON of any other form is a failed login, not an error of ours."""
    for body in ([], "ada", None, {"name": 1, "password": 2}, {"name": "ada"}, {"name": None}):
        with subtests.test(body=body):
            assert example.test_client().post("/login", json=body).status_code == 401


def test_logout_and_the_next_login_start_from_nothing(example):
    """After Ada's logout the same browser has no identity, then Bob's."""
    browser = log_in(example, "ada")
    browser.post("/chat", json={"message": "Hello"})
    assert browser.post("/logout").headers["Location"] == "/login"
    assert browser.get("/api/conversations").status_code == 401
    assert browser.post("/chat", json={"message": "Hello"}).status_code == 401
    browser.post("/login", data={"name": "bob", "password": PASSWORDS["bob"]})
    assert browser.get("/api/conversations").json["conversations"] == []
    assert b"Bob Builder" in browser.get("/").data


def test_a_user_who_was_removed_is_logged_out(example):
    """A session that outlives its user leads to the login, not to an error."""
    browser = log_in(example, "ada")
    with example.app_context():
        db.session.execute(sa.delete(people.User).where(people.User.name == "ada"))
        db.session.commit()
    assert browser.get("/").headers["Location"] == "/login"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_foreign_pages_can_neither_log_in_nor_write(example):
    """Another site sends its visitors' cookies in vain."""
    foreign = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}
    login = {"name": "bob", "password": PASSWORDS["bob"]}
    assert example.test_client().post("/login", data=login, headers=foreign).status_code == 403
    ada = log_in(example, "ada")
    assert ada.post("/api/conversations", json={}, headers=foreign).status_code == 403
    # without asking the server first, a page can send other sites only such content types
    assert ada.post("/chat", data='{"message": "x"}', content_type="text/plain", headers=foreign).status_code == 415
    assert ada.get("/api/conversations").json["conversations"] == []


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_the_page_is_not_kept_and_loads_nothing_foreign(browser_of):
    """No cache keeps it for the next person, and no markup in it could run."""
    answer = browser_of("ada").get("/")
    assert answer.headers["Cache-Control"] == "no-store"
    assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
    assert b"<script>" not in answer.data
    assert b"Ada Lovelace" in answer.data
    assert b"Bob" not in answer.data


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_passwords_are_hashed(example):
    """The database holds no password."""
    with example.app_context():
        hashes = db.session.scalars(sa.select(people.User.password_hash)).all()
    assert len(hashes) == 2
    assert not any(password in kept for password in PASSWORDS.values() for kept in hashes)


def test_people_are_added_once(example):
    """`flask --app example_app add-people` may be run again."""
    assert example.test_cli_runner().invoke(args=["add-people"]).exit_code == 0
    with example.app_context():
        assert db.session.scalars(sa.select(people.User.name).order_by(people.User.id)).all() == ["ada", "bob"]


def test_keys_are_made_once_and_for_the_owner_only(tmp_path):
    """A login outlives a restart, and no other user of the machine can read the keys."""
    first, second = (create_app(instance_path=str(tmp_path)) for _ in range(2))
    assert first.config["SECRET_KEY"] == second.config["SECRET_KEY"] != first.config["CONVERSATIONS_JWT_KEY"]
    assert len(first.config["SECRET_KEY"]) >= 43
    assert stat.S_IMODE((tmp_path / "secret_key").stat().st_mode) == 0o600
    assert create_app({"SECRET_KEY": "given"}, instance_path=str(tmp_path)).config["SECRET_KEY"] == "given"
