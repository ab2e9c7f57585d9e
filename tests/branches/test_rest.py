"""Branches, siblings and forks over HTTP."""

from __future__ import annotations

from urllib.parse import quote

from ..infra.apps import client_of
from ..service.tools import NEVER
from .tools import ids, named, said, texts

BASE = "/api/conversations"


def test_create_list_switch_delete(ada, bob, http, chat):
    """201 with the branch, 200 with all, 200 with the conversation and its ETag, 200 with what was forgotten."""
    client, stranger = http("ada"), http("bob")
    at = f"{BASE}/{chat}/branches"
    made = client.post(at, json={"from_message_id": ids(ada, chat)["m2"], "name": "über 2/3".replace("/", "-")})
    assert made.status_code == 201
    name = quote(made.json["name"])
    assert client.get(at).json == ada.branches.list(chat)
    assert client.get(at).json["branches"][1] == made.json
    switched = client.post(f"{at}/{name}/switch")
    assert (switched.status_code, switched.json) == (200, ada.get_conversation(chat))
    assert switched.headers["ETag"] == f'"{switched.json["etag"]}"'
    assert client.get(f"{BASE}/{chat}").headers["ETag"] == switched.headers["ETag"]
    assert texts(client.get(f"{BASE}/{chat}/messages").json) == ["m1", "m2"]
    assert texts(client.get(f"{BASE}/{chat}/messages?branch=main&limit=2").json) == ["m5", "m6"]
    refused = client.delete(f"{at}/{name}")
    assert (refused.status_code, refused.json["code"]) == (409, "branch_in_use")
    assert client.post(f"{at}/main/switch", json={}).status_code == 200
    gone = client.delete(f"{at}/{name}")
    assert (gone.status_code, gone.json) == (200, {"success": True, "conversation_id": chat, "name": made.json["name"]})
    missing = client.delete(f"{at}/{name}")
    assert (missing.status_code, missing.json["code"]) == (404, "branch_not_found")
    for method, path in (
        ("get", at),
        ("post", f"{at}/main/switch"),
        ("delete", f"{at}/x"),
        ("post", f"{BASE}/{chat}/fork"),
    ):
        assert getattr(stranger, method)(path).json["code"] == "conversation_not_found"


def test_a_switch_shows_a_message(ada, bob, http, chat):
    """The id of a message in the place of a name: what the arrows of a UI send."""
    found = ids(ada, chat)
    second = ada.save_message(chat, "user", "other", parent_id=found["m3"])["id"]
    page = http("ada").get(f"{BASE}/{chat}?include=siblings").json
    assert page["siblings"] == {second: {"index": 2, "count": 2, "ids": [found["m4"], second]}}
    first = page["siblings"][second]["ids"][0]
    assert http("ada").post(f"{BASE}/{chat}/branches/{first}/switch").json["preview"] == "m6"
    assert texts(http("ada").get(f"{BASE}/{chat}").json)[-1] == "m6"
    assert http("bob").get(f"{BASE}/{chat}?include=siblings").status_code == 404


def test_siblings_in_camel_case(make_app):
    """The members are ours, the ids are not touched."""
    app = make_app(CONVERSATIONS_JSON_CASE="camel")
    ada = app.conversations.as_user("ada", app=app)
    chat = ada.create_conversation(messages=said("m1", "m2"))["id"]
    second = ada.save_message(chat, "user", "other", parent_id=ids(ada, chat)["m1"])["id"]
    client = client_of(app, "ada")
    page = client.get(f"{BASE}/{chat}/messages?include=siblings").json
    assert page["siblings"][second]["index"] == 2
    made = client.post(f"{BASE}/{chat}/branches", json={"fromMessageId": second, "name": "x"}).json
    assert (made["headId"], made["conversationId"]) == (second, chat)
    forked = client.post(f"{BASE}/{chat}/fork", json={"atMessageId": second}).json
    assert forked["metadata"] == {"forked_from": {"conversation_id": chat, "message_id": second}}


def test_siblings_come_only_where_asked_for(ada, bob, http, chat):
    """Without `include` there is no such member, and `include` takes nothing else."""
    client = http("ada")
    for path in (f"{BASE}/{chat}", f"{BASE}/{chat}/messages"):
        assert "siblings" not in client.get(path).json
        assert client.get(f"{path}?include=siblings").json["siblings"] == {}
        refused = client.get(f"{path}?include=everything")
        assert (refused.status_code, set(refused.json["errors"])) == (422, {"include"})
        assert http("bob").get(f"{path}?include=siblings").status_code == 404


def test_a_fork_is_created(ada, bob, http, chat):
    """201 with the conversation, where it is, and its ETag."""
    client = http("ada")
    answer = client.post(f"{BASE}/{chat}/fork", json={"at_message_id": ids(ada, chat)["m2"], "title": "Other"})
    assert answer.status_code == 201
    assert answer.json == ada.get_conversation(answer.json["id"])
    assert answer.headers["Location"].endswith(f"{BASE}/{answer.json['id']}")
    assert answer.headers["ETag"] == f'"{answer.json["etag"]}"'
    assert texts(client.get(answer.headers["Location"]).json) == ["m1", "m2"]
    assert client.post(f"{BASE}/{chat}/fork").status_code == 201
    assert http("bob").get(answer.headers["Location"]).status_code == 404


def test_a_retry_is_done_once(ada, bob, http, chat):
    """With an Idempotency-Key a second request has the first one's answer."""
    client, found = http("ada"), ids(ada, chat)
    for path, body in (
        ("branches", {"from_message_id": found["m2"]}),
        ("fork", {}),
        (f"branches/{found['m2']}/switch", {}),
    ):
        headers = {"Idempotency-Key": f"key-{path[:8]}"}
        first, again = (client.post(f"{BASE}/{chat}/{path}", json=body, headers=headers) for _ in range(2))
        assert first.json == again.json
        assert again.headers["Idempotency-Replayed"] == "true"
        assert "Idempotency-Replayed" not in first.headers
    assert len(named(ada, chat)) == 2
    assert len(ada.list_conversations()["conversations"]) == 2
    assert len(bob.list_conversations()["conversations"]) == 1


BAD = [
    ("branches", {}, "from_message_id"),
    ("branches", {"from_message_id": None}, "from_message_id"),
    ("branches", {"from_message_id": 7}, "from_message_id"),
    ("branches", {"from_message_id": ""}, "from_message_id"),
    ("branches", {"from_message_id": "nowhere"}, "from_message_id"),
    ("branches", {"from_message_id": "x" * 129}, "from_message_id"),
    ("branches", {"from_message_id": NEVER, "name": ""}, "name"),
    ("branches", {"from_message_id": NEVER, "name": "a/b"}, "name"),
    ("branches", {"from_message_id": NEVER, "name": ".."}, "name"),
    ("branches", {"from_message_id": NEVER, "name": NEVER}, "name"),
    ("branches", {"from_message_id": NEVER, "name": "a\nb"}, "name"),
    ("branches", {"from_message_id": NEVER, "name": 7}, "name"),
    ("branches", {"from_message_id": NEVER, "head_id": NEVER}, "head_id"),
    ("branches/main/switch", {"name": "x"}, "name"),
    ("fork", {"at_message_id": "nowhere"}, "at_message_id"),
    ("fork", {"at_message_id": ""}, "at_message_id"),
    ("fork", {"title": "x" * 256}, "title"),
    ("fork", {"user_id": "bob"}, "user_id"),
]


def test_bad_input_is_refused_by_name(ada, http, chat, subtests):
    """422, and nothing has changed."""
    before = ada.get_conversation(chat)
    for path, body, field in BAD:
        with subtests.test(path, body=body):
            answer = http("ada").post(f"{BASE}/{chat}/{path}", json=body)
            assert (answer.status_code, set(answer.json["errors"])) == (422, {field})
            assert ada.get_conversation(chat) == before
            assert len(ada.list_conversations()["conversations"]) == 1


def test_a_taken_name_and_a_missing_one(ada, bob, http, chat):
    """409 `branch_exists`, 404 `branch_not_found`, 422 for a page of a branch that is not there."""
    client = http("ada")
    body = {"from_message_id": ids(ada, chat)["m2"], "name": "main"}
    taken = client.post(f"{BASE}/{chat}/branches", json=body)
    assert (taken.status_code, taken.json["code"]) == (409, "branch_exists")
    for name in ("nowhere", "x" * 300, NEVER, "%00", "%2F"):
        answer = client.post(f"{BASE}/{chat}/branches/{name}/switch")
        assert answer.status_code == 404, name
    page = client.get(f"{BASE}/{chat}/messages?branch=nowhere")
    assert (page.status_code, set(page.json["errors"])) == (422, {"branch"})
    assert http("bob").get(f"{BASE}/{chat}/messages?branch=nowhere").status_code == 404


def test_if_match_is_honoured(ada, bob, http, chat):
    """A switch or a deletion for another version than the present one: 412 with what is there now."""
    client = http("ada")
    ada.branches.create(chat, ids(ada, chat)["m2"], "other")
    at, stale = f"{BASE}/{chat}/branches/other", {"If-Match": '"1-0"'}
    for answer in (client.post(f"{at}/switch", headers=stale), client.delete(at, headers=stale)):
        assert (answer.status_code, answer.json["current"]) == (412, ada.get_conversation(chat))
    fresh = {"If-Match": client.get(f"{BASE}/{chat}").headers["ETag"]}
    assert client.delete(at, headers=fresh).status_code == 200
    assert http("bob").delete(at, headers=fresh).status_code == 404
