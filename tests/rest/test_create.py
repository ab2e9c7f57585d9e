"""Creating: 201 with Location and ETag, one's own ids, replays, and ids that cannot be had."""

from __future__ import annotations

import uuid

import pytest

from .tools import NOBODYS_UUID, URL, contents, created, problem


def test_a_new_conversation_says_where_it_is(hers, his):
    """201, Location, ETag; the location answers its owner and no other user."""
    answer = hers.post(URL, json={"title": "Plans"})
    assert answer.status_code == 201
    assert answer.headers["Location"].endswith(f"{URL}/{answer.json['id']}")
    assert answer.headers["ETag"] == f'"{answer.json["etag"]}"'
    assert hers.get(answer.headers["Location"]).json["title"] == "Plans"
    assert his.get(answer.headers["Location"]).status_code == 404
    assert uuid.UUID(answer.json["id"]).version == 7
    assert (answer.json["version"], answer.json["message_count"], answer.json["title_source"]) == (1, 0, "user")


def test_without_a_title_it_is_a_new_conversation(hers, subtests):
    """The title is never null, and the first message replaces it."""
    for body in ({}, {"title": None}, {"title": "New Conversation"}, {"title": "  "}):
        with subtests.test(body=body):
            made = hers.post(URL, json=body).json
            assert (made["title"], made["title_source"]) == ("New Conversation", "default")
            hers.post(f"{URL}/{made['id']}/messages", json={"content": "Where is my order?\nIt is late."})
            found = hers.get(f"{URL}/{made['id']}").json
            assert (found["title"], found["title_source"]) == ("Where is my order?", "auto")


def test_an_empty_body_is_enough(hers):
    """No body at all, with or without a media type, is a conversation without anything."""
    assert hers.post(URL).status_code == 201
    assert hers.post(URL, data=b"", content_type="application/json").status_code == 201


def test_messages_can_come_with_it(hers):
    """In one step: version 1, in order, with their client ids."""
    messages = [{"role": "user", "content": "q", "client_id": "m-1"}, {"role": "assistant", "content": "a"}]
    made = hers.post(URL, json={"messages": messages}).json
    found = hers.get(f"{URL}/{made['id']}").json
    assert (found["version"], found["message_count"], found["preview"], found["title"]) == (1, 2, "a", "q")
    assert [(one["seq"], one["role"], one["client_id"]) for one in found["messages"]] == [
        (1, "user", "m-1"),
        (2, "assistant", None),
    ]


def test_every_field_comes_back(hers):
    """What was set is what is read."""
    fields = {
        "title": "T",
        "starred": True,
        "folder": "f",
        "tags": ["a", "b"],
        "context_type": "ticket",
        "context_id": "7",
        "page_context": "page",
        "metadata": {"deep": [1, {"x": None}]},
        "temporary": False,
    }
    made = created(hers, **fields)
    found = hers.get(f"{URL}/{made['id']}").json
    assert {name: found[name] for name in fields} == fields


def test_ones_own_uuid_is_the_id(hers, his):
    """In any spelling; creating again returns the first: 200 and Idempotency-Replayed."""
    own = str(uuid.uuid4())
    first = hers.post(URL, json={"id": own.upper(), "title": "first"})
    again = hers.post(URL, json={"id": own, "title": "second"})
    assert (first.status_code, first.json["id"], first.json["client_id"]) == (201, own, None)
    assert "Idempotency-Replayed" not in first.headers
    assert (again.status_code, again.headers["Idempotency-Replayed"]) == (200, "true")
    assert again.json["title"] == "first"
    assert his.get(f"{URL}/{own}").status_code == 404


def test_any_other_id_is_a_client_id(hers, his):
    """It is kept, every call takes it in place of the id, and each owner has their own."""
    first = hers.post(URL, json={"id": "draft:1_a.B-c", "messages": [{"role": "user", "content": "hers"}]})
    assert (first.status_code, first.json["client_id"]) == (201, "draft:1_a.B-c")
    assert first.json["id"] != "draft:1_a.B-c"
    assert hers.post(URL, json={"id": "draft:1_a.B-c"}).json["id"] == first.json["id"]
    assert his.get(f"{URL}/draft:1_a.B-c").status_code == 404
    assert his.post(URL, json={"id": "draft:1_a.B-c"}).status_code == 201
    assert contents(hers, "draft:1_a.B-c") == ["hers"]
    assert contents(his, "draft:1_a.B-c") == []
    hers.delete(f"{URL}/draft:1_a.B-c")
    assert his.get(f"{URL}/draft:1_a.B-c").status_code == 200


def test_another_users_id_is_a_conflict_that_shows_nothing(hers, his):
    """409 without owner, state or time; the same words whether it lives or lies in the trash; the owner's is untouched."""
    theirs = created(hers, "secret", id=NOBODYS_UUID, title="secret")
    headers = {"X-Request-ID": "same"}
    alive = his.post(URL, json={"id": NOBODYS_UUID, "title": "mine"}, headers=headers)
    hers.delete(f"{URL}/{NOBODYS_UUID}")
    trashed = his.post(URL, json={"id": NOBODYS_UUID, "title": "mine"}, headers=headers)
    body = problem(alive, 409, "client_id_conflict")
    assert alive.data == trashed.data
    assert set(body) == {"type", "title", "status", "detail", "code", "request_id", "retryable"}
    assert "secret" not in alive.text
    assert "ETag" not in alive.headers
    restored = hers.post(f"{URL}/{NOBODYS_UUID}/restore").json
    assert (restored["title"], restored["created_at"]) == ("secret", theirs["created_at"])


def test_an_id_in_ones_own_trash_says_so(hers):
    """Its owner may know that it is in the trash."""
    created(hers, id="draft")
    hers.delete(f"{URL}/draft")
    assert "trash" in problem(hers.post(URL, json={"id": "draft"}), 409, "client_id_conflict")["detail"]


def test_a_permanently_deleted_id_is_created_anew_and_empty(hers):
    """Nothing of the old conversation comes back."""
    created(hers, "old", id=NOBODYS_UUID, title="old", tags=["old"])
    hers.delete(f"{URL}/{NOBODYS_UUID}?permanent=true")
    made = created(hers, id=NOBODYS_UUID)
    assert (made["title"], made["tags"], made["message_count"], made["version"]) == ("New Conversation", [], 0, 1)
    assert contents(hers, NOBODYS_UUID) == []


WORDS = ("search", "sync", "events", "export", "import", "bulk", "tags", "stats", "claim", "openapi.json", "docs")
WORDS += ("static",)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_words_that_are_paths_are_no_ids(hers, subtests):
    """A conversation called `search` could never be opened: 422."""
    for word in WORDS:
        with subtests.test(word):
            assert set(problem(hers.post(URL, json={"id": word}), 422, "validation_failed")["errors"]) == {"id"}


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_other_ids_are_422(hers, subtests):
    """1 to 128 of A-Za-z0-9._:- and nothing else."""
    for id in ("", " ", "a b", "a/b", "ä", "x" * 129, "~x", 7, True, ["a"], {"a": 1}):
        with subtests.test(id=id):
            assert set(problem(hers.post(URL, json={"id": id}), 422, "validation_failed")["errors"]) == {"id"}


KEPT = ("user_id", "org_id", "version", "seq", "checksum", "message_count", "created_at", "owner", "status")


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_what_the_server_keeps_cannot_be_set(hers, subtests):
    """No other owner, version or count, and nothing unknown: 422, and nothing is created."""
    for field in KEPT:
        with subtests.test(field):
            assert set(problem(hers.post(URL, json={field: "bob"}), 422, "validation_failed")["errors"]) == {field}
            assert hers.get(f"{URL}?status=all").json["conversations"] == []


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_role_that_clients_may_not_write_is_refused(hers, subtests):
    """422, and the conversation is not there either."""
    for role in ("system", "tool", "developer"):
        with subtests.test(role):
            messages = [{"role": "user", "content": "q"}, {"role": role, "content": "evil"}]
            assert hers.post(URL, json={"messages": messages}).status_code == 422
            assert hers.get(f"{URL}?status=all").json["conversations"] == []


def test_all_or_nothing(hers):
    """One bad message, and neither the conversation nor its good messages are there."""
    body = {"id": "draft", "messages": [{"role": "user", "content": "good"}, {"role": "user", "content": 7}]}
    errors = problem(hers.post(URL, json=body), 422, "validation_failed")["errors"]
    assert set(errors["messages"]) == {"1"}
    assert hers.get(f"{URL}/draft").status_code == 404


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_malformed_json_is_400_and_another_type_415(hers):
    """A body is JSON, and says so."""
    problem(hers.post(URL, data="{", content_type="application/json"), 400, "malformed_request")
    problem(hers.post(URL, data="title=x"), 415, "unsupported_media_type")
    problem(
        hers.post(URL, data="title=x", content_type="application/x-www-form-urlencoded"), 415, "unsupported_media_type"
    )
    problem(hers.post(URL, json=["a"]), 422, "validation_failed")


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_body_that_is_too_large_is_413(make_app):
    """`CONVERSATIONS_MAX_REQUEST_BYTES`, or the host's own MAX_CONTENT_LENGTH where that is less."""
    from tests.infra.apps import client_of

    for config in ({"CONVERSATIONS_MAX_REQUEST_BYTES": 2000}, {"MAX_CONTENT_LENGTH": 2000}):
        client = client_of(make_app(**config), "ada")
        problem(client.post(URL, json={"page_context": "x" * 3000}), 413, "payload_too_large")
        assert client.post(URL, json={"page_context": "x" * 1000}).status_code == 201
