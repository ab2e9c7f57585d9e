"""The page that shows the OpenAPI description: offline, under any mount, in a real browser."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from werkzeug.serving import make_server

from flask_conversations.api.description import PAGE_POLICY, STATIC
from flask_conversations.identity import ChainIdentity, JWTIdentity, SessionIdentity
from tests.infra.apps import SECRET


@pytest.fixture
def served() -> Iterator[Callable[[Any], str]]:
    """Serves an app on a free port, until the test ends."""
    servers = []

    def serve(app: Any) -> str:
        server = make_server("127.0.0.1", 0, app, threaded=True)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server in servers:
        server.shutdown()


@pytest.fixture
def watched(page):
    """The page, and what it asked for or complained of."""
    page.asked, page.complaints = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("console", lambda message: page.complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    return page


def test_the_page_loads_nothing_from_elsewhere():
    """No address in its files but the namespaces; no script or style inside the page; no markup out of text."""
    for name in ("docs.html", "docs.js", "docs.css"):
        text = (STATIC / name).read_text("utf-8")
        assert not re.search(r"https?:|//[a-z]", text), name
        assert not re.search(r"innerHTML|insertAdjacent|document\.write|eval\(|new Function|@import|url\(", text), name
    page = (STATIC / "docs.html").read_text("utf-8")
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", page)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_the_page_has_a_strict_policy(app):
    """Its own files only, no framing, nothing inline."""
    answer = app.test_client().get("/api/conversations/docs")
    assert answer.headers["Content-Security-Policy"] == PAGE_POLICY
    assert "unsafe" not in PAGE_POLICY
    assert "default-src 'none'" in PAGE_POLICY
    assert "frame-ancestors 'none'" in PAGE_POLICY


MOUNTS = [
    {},
    {"CONVERSATIONS_RESOURCE": "chat-threads", "CONVERSATIONS_URL_PREFIX": "/v1", "CONVERSATIONS_JSON_CASE": "camel"},
    {"CONVERSATIONS_RESOURCE": "chatbot/contexts", "CONVERSATIONS_URL_PREFIX": ""},
]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("mount", MOUNTS, ids=lambda mount: mount.get("CONVERSATIONS_RESOURCE", "default"))
def test_the_page_shows_every_operation(make_app, served, watched, mount):
    """Under each mount: all operations and schemas, nothing asked of another site, nothing that the policy forbids."""
    app = make_app(**mount)
    where = f"{mount.get('CONVERSATIONS_URL_PREFIX', '/api')}/{mount.get('CONVERSATIONS_RESOURCE', 'conversations')}"
    site = served(app)
    description = app.test_client().get(f"{where}/openapi.json").get_json()
    watched.goto(f"{site}{where}/docs")
    watched.wait_for_selector("#schemas")
    operations = [one["operationId"] for some in description["paths"].values() for one in some.values()]
    for name in operations:
        assert watched.locator(f"details#{name}").count() == 1
        assert watched.locator(f"nav a[href='#{name}']").count() == 1
    for name in description["components"]["schemas"]:
        assert watched.locator(f"details#schema-{name}").count() == 1
    assert all(url.startswith(site) or url.startswith("data:") for url in watched.asked)
    assert watched.complaints == []


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_try_it_with_a_token(make_app, served, watched):
    """A conversation made on the page, with a bearer token typed in; wrong input shows the problem."""
    import time

    import jwt

    app = make_app(options={"identity": JWTIdentity()}, CONVERSATIONS_JWT_KEY=SECRET)
    now = int(time.time())
    token = jwt.encode({"sub": "ada", "iat": now, "exp": now + 600}, SECRET)
    watched.goto(served(app) + "/api/conversations/docs#create_conversation")
    form = watched.locator("#create_conversation form")
    form.get_by_role("button", name="Send").click()
    form.locator(".failed", has_text="401").wait_for()
    watched.get_by_label("Bearer token").fill(token)
    form.get_by_label("Body").fill('{"title": "made <b>here</b>"}')
    form.get_by_role("button", name="Send").click()
    form.locator(".ok", has_text="201").wait_for()
    assert "made <b>here</b>" in form.locator("output").inner_text()
    form.get_by_label("Body").fill('{"title": 1}')
    form.get_by_role("button", name="Send").click()
    form.locator(".failed", has_text="422").wait_for()
    titles = [one["title"] for one in app.conversations.as_user("ada", app=app).list_conversations()["conversations"]]
    assert titles == ["made <b>here</b>"]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_try_it_with_a_login_cookie(make_app, served, watched):
    """The browser's cookie is sent, and the page counts as the same site; path and query come from the form."""
    from flask import session

    app = make_app(options={"identity": ChainIdentity(SessionIdentity())})

    @app.get("/login")
    def login():
        session["user_id"] = "ada"
        return "in"

    chat = app.conversations.as_user("ada", app=app).create_conversation(id="chat/1".replace("/", ":"))
    site = served(app)
    watched.goto(f"{site}/login")
    watched.goto(f"{site}/api/conversations/docs#save_message")
    form = watched.locator("#save_message form")
    form.get_by_label("conversation_id").fill(chat["client_id"])
    form.get_by_role("button", name="Send").click()
    form.locator(".ok", has_text="201").wait_for()
    watched.goto(f"{site}/api/conversations/docs#list_messages")
    form = watched.locator("#list_messages form")
    form.get_by_label("conversation_id").fill(chat["client_id"])
    form.get_by_label("limit").fill("0")
    form.get_by_role("button", name="Send").click()
    form.locator(".failed", has_text="422").wait_for()
    assert "?limit=0" in form.locator("output").inner_text()


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible(make_app, served, watched, scheme):
    """Every field has a label, every landmark a place, and every text enough contrast, by day and by night."""
    watched.emulate_media(color_scheme=scheme)
    watched.goto(served(make_app()) + "/api/conversations/docs")
    watched.wait_for_selector("#schemas")
    watched.evaluate("document.querySelectorAll('details').forEach((one) => one.open = true)")
    watched.wait_for_selector("#claim_conversations form")
    unlabelled = "[...document.querySelectorAll('input, select, textarea')].filter((one) => !one.labels.length).length"
    assert watched.evaluate(unlabelled) == 0
    ids = watched.evaluate("[...document.querySelectorAll('[id]')].map((one) => one.id)")
    assert len(ids) == len(set(ids))
    assert watched.locator("main, nav, header, h1").count() == 4
    assert watched.evaluate(CONTRAST) >= 4.5
    assert watched.evaluate("document.documentElement.scrollWidth <= innerWidth")


CONTRAST = """() => {
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map((one) => one / 255)
      .map((one) => (one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (one) => {
    const found = getComputedStyle(one).backgroundColor;
    return /, 0\\)$/.test(found) && one.parentElement ? behind(one.parentElement) : found;
  };
  const says = (one) => [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  const shown = [...document.querySelectorAll("body *")].filter(says);
  return Math.min(...shown.map((one) => {
    const [a, b] = [light(getComputedStyle(one).color), light(behind(one))].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  }));
}"""
