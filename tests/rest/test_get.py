"""Opening a conversation: its newest messages, 304 when nothing changed, and an answer no cache keeps."""

from __future__ import annotations

from .tools import NOBODYS_UUID, URL, created, problem, said


def test_a_conversation_opens_with_its_newest_messages(hers, his):
    """Oldest first; older ones by the cursor; the stranger gets 404."""
    made = created(hers, *[str(number) for number in range(5)])
    url = f"{URL}/{made['id']}"
    page = hers.get(f"{url}?limit=2").json
    assert [one["content"] for one in page["messages"]] == ["3", "4"]
    assert page["has_more"] is True
    older = hers.get(f"{url}?limit=2&before={page['next_cursor']}").json
    assert [one["content"] for one in older["messages"]] == ["1", "2"]
    assert older["message_count"] == 5
    problem(his.get(url), 404, "conversation_not_found")


def test_fifty_messages_if_not_said_otherwise(hers, ada):
    """The default is 50, the most is 100."""
    made = ada.create_conversation(messages=[{"role": "user", "content": str(number)} for number in range(120)])
    assert len(hers.get(f"{URL}/{made['id']}").json["messages"]) == 50
    assert len(hers.get(f"{URL}/{made['id']}?limit=500").json["messages"]) == 100


def test_foreign_and_missing_are_the_same_answer(hers, his):
    """Byte for byte, but for the request id."""
    made = created(hers, "secret")
    answers = [his.get(f"{URL}/{id}", headers={"X-Request-ID": "r"}) for id in (made["id"], NOBODYS_UUID, "no-such-id")]
    assert len({(one.data, tuple(one.headers)) for one in answers}) == 1
    problem(answers[0], 404, "conversation_not_found")


def test_an_unchanged_conversation_is_304(hers):
    """With the entity tag, weak or strong, alone or in a list; without a body, and still not for caches."""
    url = f"{URL}/{created(hers, 'x')['id']}"
    etag = hers.get(url).headers["ETag"]
    for tag in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        answer = hers.get(url, headers={"If-None-Match": tag})
        assert (answer.status_code, answer.data, answer.headers["ETag"]) == (304, b"", etag), tag
        assert answer.headers["Cache-Control"] == "private, no-store"
    for tag in ('"other"', etag.strip('"'), ""):
        assert hers.get(url, headers={"If-None-Match": tag}).status_code == 200, tag


CHANGES = {
    "message": lambda client, url, message: client.post(f"{url}/messages", json={"content": "more"}),
    "title": lambda client, url, message: client.patch(url, json={"title": "other"}),
    "rating": lambda client, url, message: client.put(f"{message}/feedback", json={"rating": "up"}),
    "edit": lambda client, url, message: client.patch(message, json={"content": "z"}),
    "delete message": lambda client, url, message: client.delete(message),
    "archive": lambda client, url, message: client.post(f"{url}/archive"),
    "star": lambda client, url, message: client.patch(url, json={"starred": True}),
}


def test_every_change_is_a_new_entity_tag(hers, subtests):
    """What a client polls for, it sees."""
    for name, change in CHANGES.items():
        with subtests.test(name):
            url = f"{URL}/{created(hers, 'x', 'y')['id']}"
            before = hers.get(url)
            message = f"{url}/messages/{before.json['messages'][0]['id']}"
            assert change(hers, url, message).status_code < 300
            after = hers.get(url, headers={"If-None-Match": before.headers["ETag"]})
            assert after.status_code == 200
            assert after.json["version"] == before.json["version"] + 1
            assert after.headers["ETag"] != before.headers["ETag"]


def test_a_stranger_with_the_right_tag_gets_404(hers, his):
    """Not 304: an entity tag proves nothing, for what is not his or for his own of the same name."""
    url = f"{URL}/{created(hers, id='draft')['id']}"
    tag = {"If-None-Match": hers.get(url).headers["ETag"]}
    problem(his.get(url, headers=tag), 404, "conversation_not_found")
    created(his, id="draft")
    assert his.get(f"{URL}/draft", headers=tag).status_code == 200


def test_head_is_get_without_a_body(hers):
    """Same status, same tag."""
    url = f"{URL}/{created(hers, 'x')['id']}"
    got, head = hers.get(url), hers.head(url)
    assert (head.status_code, head.data, head.headers["ETag"]) == (200, b"", got.headers["ETag"])


def test_the_tag_on_every_change_is_the_one_get_shows(hers):
    """A client can go on with If-Match from any answer."""
    made = hers.post(URL, json={})
    url = f"{URL}/{made.json['id']}"
    for answer in (
        made,
        hers.patch(url, json={"title": "t"}),
        hers.put(url, json={"messages": [{"role": "user", "content": "x"}]}),
        hers.post(f"{url}/archive"),
        hers.post(f"{url}/unarchive"),
    ):
        assert answer.headers["ETag"] == f'"{answer.json["etag"]}"'
    assert hers.get(url).headers["ETag"] == answer.headers["ETag"]


def test_a_page_that_makes_no_sense_is_422(hers, subtests):
    """With the name of the parameter."""
    url = f"{URL}/{created(hers, 'x')['id']}"
    for query in ("limit=0", "before=nothing", "before=-1", "before=~x", "min_version=-1", "min_version=x"):
        with subtests.test(query):
            errors = problem(hers.get(f"{url}?{query}"), 422, "validation_failed")["errors"]
            assert set(errors) == {query.partition("=")[0]}


def test_a_cursor_of_another_conversation_is_refused(hers, his):
    """Of another own conversation, and of another user's."""
    first, second = created(hers, "a", "b"), created(hers, "c", "d")
    theirs = created(his, "e", "f")
    cursor = hers.get(f"{URL}/{first['id']}?limit=1").json["next_cursor"]
    foreign = his.get(f"{URL}/{theirs['id']}?limit=1").json["next_cursor"]
    for bad in (cursor, foreign):
        problem(hers.get(f"{URL}/{second['id']}?before={bad}"), 422, "validation_failed")


def test_reading_changes_nothing(hers):
    """No version, no order, no time."""
    made = created(hers, "x")
    said(hers, made["id"], "y")
    first = hers.get(f"{URL}/{made['id']}")
    hers.get(f"{URL}/{made['id']}/messages")
    hers.get(URL)
    assert hers.get(f"{URL}/{made['id']}").data == first.data
