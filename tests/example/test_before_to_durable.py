"""The chat of the tutorial: with its `SESSIONS` dict, and after the tutorial's patch."""

from __future__ import annotations

import importlib.util
import subprocess

import jwt
import pytest

from tests.infra import services
from tests.infra.demo import TREE


@pytest.fixture(scope="module")
def make_durable():
    """The script `docs/make_durable.py` as a module."""
    spec = importlib.util.spec_from_file_location("make_durable", TREE / "docs" / "make_durable.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_ten_lines_are_enough(make_durable):
    """The patch fits before.py, writes ten lines at most, and leaves nothing of the dict."""
    patch = make_durable.PATCH.read_text()
    written, _ = make_durable.changed_lines(patch)
    assert written <= 10
    durable = make_durable.patched(make_durable.BEFORE.read_text(), patch)
    assert "SESSIONS" not in durable
    assert "get_session_history" not in durable
    assert "Conversations(" in durable


def test_the_patch_is_one_for_git_too(make_durable, tmp_path):
    """`git apply` makes the same of before.py as the script does."""
    before = tmp_path / "example_app" / "before.py"
    before.parent.mkdir()
    before.write_text(make_durable.BEFORE.read_text())
    subprocess.run([services.need_program("git"), "apply", str(make_durable.PATCH)], cwd=tmp_path, check=True)
    assert before.read_text() == make_durable.patched(make_durable.BEFORE.read_text(), make_durable.PATCH.read_text())


@pytest.mark.slow
def test_before_loses_what_durable_keeps(make_durable, tmp_path):
    """Over a restart, for two people: one forgets both and mixes them up in one browser, the other does neither."""
    patch = make_durable.PATCH.read_text()
    before, durable = tmp_path / "before.py", tmp_path / "durable.py"
    before.write_text(make_durable.BEFORE.read_text())
    durable.write_text(make_durable.patched(before.read_text(), patch))
    unknown = "You have not told me your name in this conversation."
    assert answers(make_durable.story(before)) == ["Your name is Ada.", "Your name is Ada.", unknown, unknown, unknown]
    assert answers(make_durable.story(durable)) == [
        "Your name is Ada.",
        unknown,
        "Your name is Ada.",
        "Your name is Bob.",
        "404, there is no such conversation",
    ]


def answers(lines: list[str]) -> list[str]:
    return [sentence.partition(":")[2].strip() for sentence in lines]


def test_the_cookie_of_the_old_chat(monkeypatch):
    """`before.py` gives out the browser's id as such chats do: a UUID, httpOnly, Lax, for the whole site, for a week."""
    from example_app import before

    monkeypatch.setitem(before.app.config, "SECRET_KEY", "a key of the tests, long enough for HS256")
    client = before.app.test_client()
    answer = client.post("/login", json={"name": "ada", "password": "lovelace"})
    cookie = client.get_cookie("sid")
    assert (len(cookie.value), cookie.value.count("-")) == (36, 4)
    assert (cookie.http_only, cookie.same_site, cookie.path, cookie.max_age) == (True, "Lax", "/", 7 * 24 * 3600)
    claims = jwt.decode(answer.json["token"], options={"verify_signature": False})
    assert claims["sid"] == cookie.value
    assert client.post("/chat", json={"message": "Hello"}).status_code == 401
    assert client.post("/login", json={"name": "ada", "password": "wrong"}).status_code == 401
