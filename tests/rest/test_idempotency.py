"""Idempotency-Key: whatever a client posts, it may post again when the answer was lost."""

from __future__ import annotations

import datetime as dt

import pytest
import sqlalchemy as sa

from tests.infra.apps import client_of

from .tools import URL, created, problem

KEY = {"Idempotency-Key": "a-key"}
POSTS = {
    "create": ("", {"title": "t"}),
    "message": ("/{id}/messages", {"content": "x"}),
    "archive": ("/{id}/archive", {}),
    "unarchive": ("/{id}/unarchive", {}),
    "resolve": ("/{id}/resolve", {}),
    "restore": ("/{id}/restore", {}),
    "claim": ("/claim", {}),
    "fork": ("/{id}/fork", {}),
    "send, where nobody answers": ("/{id}/actions/send_message", {"content": "x"}),
}
ELSEWHERE = (
    # tests/branches/test_rest.py
    "branches",
    "branches/<branch>/switch",
    # tests/turns: a turn remembers its key itself
    "actions/edit",
    "actions/regenerate",
    "actions/approve_tools",
    "actions/cancel",
)
"""POST routes of a conversation that need more than one, and whose retries are tested where that is at hand."""


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_every_post_is_covered(app):
    """A POST route that is not in these tests fails here."""
    ours = [rule for rule in app.url_map.iter_rules() if ".nothing_here" not in rule.endpoint]
    posts = {rule.rule for rule in ours if "POST" in rule.methods}
    covered = {URL + path.replace("{id}", "<conversation_id>") for path, _ in POSTS.values()}
    elsewhere = {f"{URL}/<conversation_id>/{path}" for path in ELSEWHERE}
    assert posts == covered | elsewhere


@pytest.fixture
def posts(hers):
    """Name, address and body of each POST, on a conversation of Ada's own for each."""
    return [(name, URL + path.format(id=created(hers)["id"]), body) for name, (path, body) in POSTS.items()]


def test_a_retry_gets_the_first_answer(hers, posts, subtests):
    """The same body, Location and ETag; 200 with Idempotency-Replayed; and no second effect."""
    for post, url, body in posts:
        with subtests.test(post):
            first = hers.post(url, json=body, headers=KEY)
            state = hers.get(f"{URL}?status=all&include=messages").data
            again = hers.post(url, json=body, headers=KEY)
            assert first.status_code in (200, 201)
            assert "Idempotency-Replayed" not in first.headers
            assert (again.status_code, again.headers["Idempotency-Replayed"]) == (200, "true")
            assert again.data == first.data
            for name in ("Location", "ETag", "Content-Type", "Cache-Control"):
                assert again.headers.get(name) == first.headers.get(name)
            assert hers.get(f"{URL}?status=all&include=messages").data == state


def test_the_first_answer_is_kept_whatever_happens_after(hers):
    """A replay shows the conversation as it was answered, not as it is."""
    made = hers.post(URL, json={"title": "t"}, headers=KEY)
    hers.patch(f"{URL}/{made.json['id']}", json={"title": "renamed"})
    assert hers.post(URL, json={"title": "t"}, headers=KEY).data == made.data


def test_another_body_with_the_same_key_is_422(hers, posts, subtests):
    """A key names one request; nothing is done, and the first answer is still there."""
    for post, url, body in posts:
        with subtests.test(post):
            first = hers.post(url, json=body, headers=KEY)
            other = {"title": "other"} if url == URL else {"content": "other"}
            if url == URL or url.endswith("/messages"):
                problem(hers.post(url, json=other, headers=KEY), 422, "idempotency_key_reused")
            else:
                problem(hers.post(f"{url}?x=1", json=body, headers=KEY), 422, "idempotency_key_reused")
            assert hers.post(url, json=body, headers=KEY).data == first.data


def test_two_people_may_use_the_same_key(hers, his, http):
    """Also the same person in another organisation: each has their own, and sees nothing of the other's."""
    people = [hers, his, http("ada", org="acme")]
    ids = {one.post(URL, json={"title": "same"}, headers=KEY).json["id"] for one in people}
    assert len(ids) == 3
    for one in people:
        assert one.post(URL, json={"title": "same"}, headers=KEY).status_code == 200
        assert len(one.get(URL).json["conversations"]) == 1


def test_a_stranger_with_the_owners_key_and_body_gets_nothing(hers, his):
    """The kept answer is the owner's."""
    url = f"{URL}/{created(hers)['id']}/messages"
    hers.post(url, json={"content": "secret"}, headers=KEY)
    problem(his.post(url, json={"content": "secret"}, headers=KEY), 404, "conversation_not_found")


def test_the_same_key_on_another_route_is_another_request(hers):
    """Creating and writing do not get in each other's way."""
    made = hers.post(URL, json={}, headers=KEY).json
    assert hers.post(f"{URL}/{made['id']}/messages", json={"content": "x"}, headers=KEY).status_code == 201


def test_ten_at_once_have_one_effect(app, threads, hers):
    """One 201, nine replays of it, one conversation."""
    answers = threads(10, lambda i: client_of(app, "ada").post(URL, json={"title": "t"}, headers=KEY))
    assert sorted(one.status_code for one in answers) == [200] * 9 + [201]
    assert len({one.data for one in answers}) == 1
    assert len(hers.get(URL).json["conversations"]) == 1


def test_ten_messages_at_once_are_one(app, threads, hers):
    """Without a client id too."""
    url = f"{URL}/{created(hers)['id']}"
    body = {"content": "x"}
    answers = threads(10, lambda i: client_of(app, "ada").post(f"{url}/messages", json=body, headers=KEY))
    assert sorted(one.status_code for one in answers) == [200] * 9 + [201]
    assert hers.get(url).json["message_count"] == 1


def test_a_refused_request_uses_up_no_key(hers):
    """After 422 or 404 the corrected request may go by the same key."""
    problem(hers.post(URL, json={"title": 7}, headers=KEY), 422, "validation_failed")
    assert hers.post(URL, json={"title": "t"}, headers=KEY).status_code == 201


def test_a_request_that_failed_late_leaves_neither_effect_nor_key(make_app):
    """Effect and key are one transaction: if the effect is rolled back, the retry does it."""
    app = make_app()
    broken = [True]

    @app.conversations.guard
    def fail_once(message):
        if broken.pop() if broken else False:
            raise RuntimeError("broken")

    client = client_of(app, "ada")
    body = {"title": "t", "messages": [{"role": "user", "content": "x"}]}
    assert client.post(URL, json=body, headers=KEY).status_code == 500
    assert client.get(URL).json["conversations"] == []
    assert client.post(URL, json=body, headers=KEY).status_code == 201


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_key_that_is_none_is_400(hers, subtests):
    """A key that could not be told from another is refused, never ignored."""
    for key in ("", " ", "a b", "ä", "x" * 256):
        with subtests.test(key=key):
            problem(hers.post(URL, json={}, headers={"Idempotency-Key": key}), 400, "malformed_request")
            assert hers.get(URL).json["conversations"] == []


def test_a_key_is_forgotten_after_its_hours(app, hers):
    """`CONVERSATIONS_IDEMPOTENCY_HOURS`, at least 24: then the key is free again."""
    hers.post(URL, json={"title": "t"}, headers=KEY)
    table = app.extensions["flask_conversations"].models.Idempotency.__table__
    with app.app_context(), app.db.engine.begin() as connection:
        long_ago = dt.datetime.now(dt.timezone.utc) - dt.timedelta(hours=25)
        connection.execute(sa.update(table).values(created_at=long_ago))
    assert hers.post(URL, json={"title": "other"}, headers=KEY).status_code == 201


def test_other_methods_have_no_key(hers):
    """PATCH, PUT and DELETE are idempotent by themselves: the header changes nothing."""
    made = created(hers)
    for title in ("1", "2"):
        assert hers.patch(f"{URL}/{made['id']}", json={"title": title}, headers=KEY).json["title"] == title
