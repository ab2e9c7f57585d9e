"""Messages over HTTP: append, page, edit, rate, delete, and one's own ids for safe retries."""

from __future__ import annotations

import pytest

from tests.infra.apps import client_of

from .tools import NOBODYS_UUID, URL, contents, created, problem, said


@pytest.fixture
def chat(hers):
    """The address of a conversation of Ada's."""
    return f"{URL}/{created(hers)['id']}"


def test_a_message_is_answered_with_an_array(hers, his, chat):
    """201, Location, `[message]`; a stranger can neither write nor read it."""
    answer = hers.post(f"{chat}/messages", json={"content": "hello"})
    (message,) = answer.json
    assert answer.status_code == 201
    assert answer.headers["Location"].endswith(f"{chat}/messages/{message['id']}")
    assert (message["role"], message["content"], message["seq"], message["status"]) == ("user", "hello", 1, "delivered")
    assert hers.get(answer.headers["Location"]).json == message
    problem(his.post(f"{chat}/messages", json={"content": "x"}), 404, "conversation_not_found")
    problem(his.get(answer.headers["Location"]), 404, "conversation_not_found")


def test_every_field_comes_back(hers, chat):
    """What a client may say of a message is what it reads."""
    fields = {
        "role": "assistant",
        "content": [{"type": "text", "text": "x"}, {"type": "odd", "deep": {"a": [1]}}],
        "type": "card",
        "status": "pending",
        "model": "m",
        "tokens_used": 3,
        "usage": {"input": 1},
        "latency_ms": 1.5,
        "component_type": "chart",
        "component_data": [1, 2],
        "attachments": [{"name": "a"}],
        "contexts": ["c"],
        "metadata": {"k": "v"},
        "client_id": "m-1",
    }
    message = hers.post(f"{chat}/messages", json=fields).json[0]
    found = hers.get(f"{chat}/messages/m-1").json
    assert found == message
    assert {name: found[name] for name in fields} == fields


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_role_that_clients_may_not_write_is_422(hers, chat, subtests):
    """Nothing is stored."""
    for role in ("system", "tool", "developer", "root", "", None, 1):
        with subtests.test(role=role):
            answer = hers.post(f"{chat}/messages", json={"content": "x", "role": role})
            assert "role" in problem(answer, 422, "validation_failed")["errors"]
            assert contents(hers, chat.removeprefix(f"{URL}/")) == []


def test_a_host_decides_which_roles_clients_write(make_app):
    """`CONVERSATIONS_CLIENT_ROLES`."""
    client = client_of(make_app(CONVERSATIONS_CLIENT_ROLES="user"), "ada")
    made = created(client)
    assert client.post(f"{URL}/{made['id']}/messages", json={"content": "x", "role": "assistant"}).status_code == 422


KEPT = ("id", "seq", "version", "user_id", "org_id", "conversation_id", "created_at", "rating", "checksum", "x")


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_what_the_server_keeps_cannot_be_sent(hers, chat, subtests):
    """No other seq, owner or version, and nothing unknown."""
    for field in KEPT:
        with subtests.test(field):
            answer = hers.post(f"{chat}/messages", json={"content": "x", field: 1})
            assert set(problem(answer, 422, "validation_failed")["errors"]) == {field}
    assert hers.get(chat).json["message_count"] == 0


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_content_that_is_none_is_422(hers, chat, subtests):
    """Text, or a list of parts; nothing is stored."""
    for content in (None, 7, True, {}, {"text": "x"}, [7], [{"text": "x"}], [{"type": "text"}], "a\0b"):
        with subtests.test(content=content):
            answer = hers.post(f"{chat}/messages", json={"content": content})
            assert "content" in problem(answer, 422, "validation_failed")["errors"]
    problem(hers.post(f"{chat}/messages", json={}), 422, "validation_failed")
    assert hers.get(chat).json["message_count"] == 0


# -- retries -----------------------------------------------------------------------------------------------------------
def test_a_retry_returns_the_first_message(hers, chat):
    """The same client id and payload: 200, Idempotency-Replayed, the same message, and no second one."""
    body = {"content": "x", "client_id": "m-1", "metadata": {"a": 1, "b": 2}}
    first = hers.post(f"{chat}/messages", json=body)
    again = hers.post(f"{chat}/messages", json={**body, "metadata": {"b": 2, "a": 1}})
    assert (first.status_code, again.status_code) == (201, 200)
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (again.json, again.headers["Location"]) == (first.json, first.headers["Location"])
    assert hers.get(chat).json["message_count"] == 1


def test_another_message_with_the_same_client_id_is_a_conflict(hers, chat):
    """409, and the first stays."""
    said(hers, chat.removeprefix(f"{URL}/"), "x", client_id="m-1")
    for other in ({"content": "y"}, {"content": "x", "role": "assistant"}, {"content": "x", "metadata": {"a": 1}}):
        problem(hers.post(f"{chat}/messages", json={"client_id": "m-1", **other}), 409, "client_id_conflict")
    assert hers.get(chat).json["message_count"] == 1


def test_a_client_id_belongs_to_its_conversation(hers, his, chat):
    """The same one in another conversation, and another user's, is another message."""
    said(hers, chat.removeprefix(f"{URL}/"), "x", client_id="m-1")
    assert said(hers, created(hers)["id"], "y", client_id="m-1")["content"] == "y"
    assert said(his, created(his)["id"], "z", client_id="m-1")["content"] == "z"


def test_ten_retries_at_once_are_one_message(app, threads, hers, chat):
    """One 201, nine 200, one message."""
    body = {"content": "x", "client_id": "m-1"}
    answers = threads(10, lambda i: client_of(app, "ada").post(f"{chat}/messages", json=body))
    assert sorted(one.status_code for one in answers) == [200] * 9 + [201]
    assert len({one.json[0]["id"] for one in answers}) == 1
    assert hers.get(chat).json["message_count"] == 1


def test_ten_writers_at_once_are_ten_messages_in_order(app, threads, hers, chat):
    """A dense sequence, an exact count."""
    answers = threads(10, lambda i: client_of(app, "ada").post(f"{chat}/messages", json={"content": str(i)}))
    assert {one.status_code for one in answers} == {201}
    found = hers.get(chat).json
    assert [one["seq"] for one in found["messages"]] == list(range(1, 11))
    assert (found["message_count"], found["version"]) == (10, 11)


# -- parents -----------------------------------------------------------------------------------------------------------
def test_a_message_can_answer_an_older_one(hers, chat):
    """Its parent is the one it names; otherwise the newest."""
    id = chat.removeprefix(f"{URL}/")
    first, second = said(hers, id, "1"), said(hers, id, "2")
    other = said(hers, id, "2 again", parent_id=first["id"])
    assert (second["parent_id"], other["parent_id"]) == (first["id"], first["id"])
    assert contents(hers, id) == ["1", "2 again"]


def test_a_parent_of_another_conversation_is_422(hers, his, chat):
    """One's own, a stranger's and none at all get the same words."""
    own = hers.get(f"{URL}/{created(hers, 'x')['id']}").json["messages"][0]["id"]
    foreign = his.get(f"{URL}/{created(his, 'x')['id']}").json["messages"][0]["id"]
    headers = {"X-Request-ID": "r"}
    answers = [
        hers.post(f"{chat}/messages", json={"content": "y", "parent_id": id}, headers=headers)
        for id in (own, foreign, NOBODYS_UUID)
    ]
    assert len({one.data for one in answers}) == 1
    assert set(problem(answers[0], 422, "validation_failed")["errors"]) == {"parent_id"}


# -- pages -------------------------------------------------------------------------------------------------------------
def test_pages_go_back_to_the_beginning_and_on_to_the_end(hers, his, ada):
    """By cursor, by message id, by seq; a stranger sees no page."""
    made = ada.create_conversation(messages=[{"role": "user", "content": str(number)} for number in range(1, 8)])
    url = f"{URL}/{made['id']}/messages"

    def page(query):
        return hers.get(f"{url}?limit=3&{query}").json

    def texts(found):
        return [one["content"] for one in found["messages"]]

    newest = page("")
    assert (texts(newest), newest["has_more"]) == (["5", "6", "7"], True)
    older = page(f"before={newest['next_cursor']}")
    assert texts(older) == ["2", "3", "4"]
    oldest = page(f"before={older['next_cursor']}")
    assert (texts(oldest), oldest["next_cursor"], oldest["has_more"]) == (["1"], None, False)
    assert texts(page(f"before={newest['messages'][0]['id']}")) == texts(page("before=5")) == texts(older)
    forward = page("after=1")
    assert texts(forward) == ["2", "3", "4"]
    assert texts(page(f"after={forward['next_cursor']}")) == ["5", "6", "7"]
    assert his.get(f"{url}?after=1").status_code == 404


def test_a_page_that_makes_no_sense_is_422(hers, chat, subtests):
    """Nothing is guessed."""
    for query in ("limit=0", "before=1&after=1", "before=x", "after=" + NOBODYS_UUID, "branch=nowhere", "before=~a"):
        with subtests.test(query):
            problem(hers.get(f"{chat}/messages?{query}"), 422, "validation_failed")


# -- one message -------------------------------------------------------------------------------------------------------
@pytest.fixture
def message(hers, chat):
    """The address of a message of Ada's."""
    return f"{chat}/messages/{said(hers, chat.removeprefix(f'{URL}/'), 'old')['id']}"


def test_a_message_has_a_tag_of_its_own(hers, message):
    """304 while it is unchanged, whatever happens around it."""
    tag = hers.get(message).headers["ETag"]
    hers.post(message.rpartition("/")[0], json={"content": "more"})
    assert hers.get(message, headers={"If-None-Match": tag}).status_code == 304
    hers.patch(message, json={"content": "new"})
    assert hers.get(message, headers={"If-None-Match": tag}).status_code == 200


def test_an_edit_says_that_it_was_one(hers, his, chat, message):
    """`edited_at`, one step of the version, the preview; a stranger edits nothing."""
    assert his.patch(message, json={"content": "his"}).status_code == 404
    edited = hers.patch(message, json={"content": "new", "metadata": {"a": 1}})
    assert (edited.status_code, edited.json["content"], edited.json["metadata"]) == (200, "new", {"a": 1})
    assert edited.json["edited_at"] is not None
    assert edited.json["seq"] == 1
    found = hers.get(chat).json
    assert (found["version"], found["preview"], found["message_count"]) == (3, "new", 1)


def test_an_edit_can_name_the_version_it_is_for(hers, chat, message):
    """If-Match with the message's tag or the conversation's: 412; expected_version: 409; both with `current`."""
    tag, version = hers.get(message).headers["ETag"], hers.get(message).json["version"]
    assert hers.patch(message, json={"content": "1"}, headers={"If-Match": tag}).status_code == 200
    late = hers.patch(message, json={"content": "2"}, headers={"If-Match": tag})
    assert problem(late, 412, "precondition_failed")["current"]["preview"] == "1"
    stale = hers.patch(message, json={"content": "2", "expected_version": version})
    assert problem(stale, 409, "version_conflict")["current"]["preview"] == "1"
    whole = hers.get(chat).headers["ETag"]
    assert hers.patch(message, json={"content": "2"}, headers={"If-Match": whole}).status_code == 200
    problem(hers.patch(message, json={"content": "3"}, headers={"If-Match": "bad"}), 400, "malformed_request")


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_only_content_and_metadata_can_be_edited(hers, message, subtests):
    """422, and the message stays."""
    for field in ("role", "seq", "user_id", "id", "client_id", "rating", "x"):
        with subtests.test(field):
            answer = hers.patch(message, json={field: "x", "content": "new"})
            assert set(problem(answer, 422, "validation_failed")["errors"]) == {field}
            assert hers.get(message).json["content"] == "old"


def test_a_message_of_another_role_is_not_the_clients_to_edit(hers, ada):
    """What a client may not write it may not rewrite either: 422 for a system prompt."""
    made = ada.create_conversation(messages=[{"role": "system", "content": "be kind"}])
    id = ada.get_messages(made["id"])["messages"][0]["id"]
    answer = hers.patch(f"{URL}/{made['id']}/messages/{id}", json={"content": "be evil"})
    problem(answer, 422, "validation_failed")
    assert contents(hers, made["id"]) == ["be kind"]


def test_a_deleted_message_is_shown_once_more(hers, his, chat, message):
    """200 with the message as it was; then 404, and the count is right; a stranger deletes nothing."""
    assert his.delete(message).status_code == 404
    answer = hers.delete(message)
    assert (answer.status_code, answer.json["content"]) == (200, "old")
    problem(hers.get(message), 404, "message_not_found")
    problem(hers.delete(message), 404, "message_not_found")
    assert hers.get(chat).json["message_count"] == 0
    said(hers, chat.removeprefix(f"{URL}/"), "next")
    assert hers.get(chat).json["messages"][0]["seq"] == 2


def test_a_message_is_rated_and_unrated(hers, his, message):
    """`up`, `down`, a number, null; with reason and comment; a stranger has no say."""
    assert his.put(f"{message}/feedback", json={"rating": "up"}).status_code == 404
    rated = hers.put(f"{message}/feedback", json={"rating": "down", "reason": "wrong", "comment": "see docs"})
    assert rated.status_code == 200
    assert rated.json["feedback"] == {"rating": "down", "reason": "wrong", "comment": "see docs"}
    assert hers.put(f"{message}/feedback", json={"rating": 4}).json["rating"] == 4
    unrated = hers.put(f"{message}/feedback", json={"rating": None}).json
    assert (unrated["rating"], unrated["edited_at"]) == (None, None)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_another_rating_is_422(hers, message, subtests):
    """Nothing is stored."""
    for rating in ("good", "", 11, -11, 1.5, True, [], {}):
        with subtests.test(rating=rating):
            answer = hers.put(f"{message}/feedback", json={"rating": rating})
            assert "rating" in problem(answer, 422, "validation_failed")["errors"]
            assert hers.get(message).json["rating"] is None
    problem(hers.put(f"{message}/feedback", json={}), 422, "validation_failed")
    assert hers.get(message).json["rating"] is None


def test_a_message_of_another_conversation_is_404(hers, message):
    """Messages are addressed by conversation and message, both right."""
    other = f"{URL}/{created(hers)['id']}/messages/{message.rpartition('/')[2]}"
    for answer in (hers.get(other), hers.patch(other, json={"content": "x"}), hers.delete(other)):
        problem(answer, 404, "message_not_found")
    problem(hers.put(f"{other}/feedback", json={"rating": "up"}), 404, "message_not_found")
    assert hers.get(message).json["content"] == "old"
