"""PUT: a client saves its copy, and nothing that another device has saved is lost."""

from __future__ import annotations

import itertools

from .tools import NOBODYS_UUID, URL, contents, created, problem, said


def user(*texts):
    return [{"role": "user", "content": text} for text in texts]


def test_a_copy_that_extends_is_appended(hers, his):
    """Messages without ids: what is there stays, what is new follows; a stranger's PUT is 404."""
    made = created(hers, "a", "b")
    url = f"{URL}/{made['id']}"
    answer = hers.put(url, json={"messages": [*user("a", "b"), {"role": "assistant", "content": "c"}]})
    assert (answer.status_code, answer.json["outcome"], answer.json["conflicts"]) == (200, "saved", [])
    assert [one["content"] for one in answer.json["messages"]] == ["a", "b", "c"]
    assert answer.json["version"] == 2
    problem(his.put(url, json={"messages": user("his")}), 404, "conversation_not_found")
    assert contents(hers, made["id"]) == ["a", "b", "c"]


def test_a_merely_older_copy_changes_nothing(hers):
    """Nothing is deleted by omission, and the version stands still."""
    made = created(hers, "a", "b", "c")
    before = hers.get(f"{URL}/{made['id']}").data
    for copy in (user("a"), user("a", "b"), user("b"), []):
        answer = hers.put(f"{URL}/{made['id']}", json={"messages": copy})
        assert (answer.status_code, answer.json["version"]) == (200, 1)
    assert hers.get(f"{URL}/{made['id']}").data == before


def test_two_devices_that_both_add_are_both_kept(hers):
    """Each from the same base version: the answer of the second is `merged` and has all."""
    made = created(hers, "a")
    url = f"{URL}/{made['id']}"
    hers.put(url, json={"messages": user("a", "from the phone"), "base_version": 1})
    answer = hers.put(url, json={"messages": user("a", "from the desk"), "base_version": 1})
    assert (answer.status_code, answer.json["outcome"]) == (200, "merged")
    assert contents(hers, made["id"]) == ["a", "from the phone", "from the desk"]


def test_a_retry_adds_nothing(hers):
    """The same copy again, after a lost answer: nothing twice, not even equal messages in it."""
    made = created(hers)
    copy = {"messages": user("yes", "yes", "no"), "base_version": 1}
    first = hers.put(f"{URL}/{made['id']}", json=copy).json
    again = hers.put(f"{URL}/{made['id']}", json=copy).json
    assert contents(hers, made["id"]) == ["yes", "yes", "no"]
    assert again["version"] == first["version"]


def test_messages_with_ids_are_the_same_message(hers):
    """By id or client id: an equal one is known, a changed one is edited, a new one is appended."""
    made = created(hers)
    url = f"{URL}/{made['id']}"
    first = said(hers, made["id"], "a", client_id="m-1")
    copy = [{"id": first["id"], "role": "user", "content": "A"}, {"client_id": "m-2", "role": "user", "content": "b"}]
    answer = hers.put(url, json={"messages": copy, "base_version": 2})
    assert [one["content"] for one in answer.json["messages"]] == ["A", "b"]
    assert next(one["id"] for one in answer.json["messages"]) == first["id"]
    hers.put(url, json={"messages": [{"client_id": "m-1", "role": "user", "content": "A"}]})
    assert contents(hers, made["id"]) == ["A", "b"]


def test_force_overwrite_makes_the_copy_the_truth(hers, his):
    """What it lacks is gone, what stays keeps its id; one step of the version; a stranger forces nothing."""
    made = created(hers, "a", "b", "c", title="old")
    url = f"{URL}/{made['id']}"
    ids = {one["content"]: one["id"] for one in hers.get(url).json["messages"]}
    assert his.put(url, json={"messages": [], "force_overwrite": True}).status_code == 404
    answer = hers.put(url, json={"title": "new", "messages": user("a", "c", "d"), "force_overwrite": True})
    assert answer.status_code == 200
    assert [one["content"] for one in answer.json["messages"]] == ["a", "c", "d"]
    assert [one["id"] for one in answer.json["messages"]][:2] == [ids["a"], ids["c"]]
    assert (answer.json["title"], answer.json["version"], answer.json["message_count"]) == ("new", 2, 3)


def test_force_overwrite_from_a_stale_base_says_overwritten(hers):
    """The client that forces learns that there was something to overwrite."""
    made = created(hers, "a")
    said(hers, made["id"], "b")
    body = {"messages": user("a"), "base_version": 1, "force_overwrite": True}
    assert hers.put(f"{URL}/{made['id']}", json=body).json["outcome"] == "overwritten"


def test_a_field_that_both_changed_is_a_conflict(hers):
    """409 with the current conversation and its ETag; the other device's title stays, and so do its messages."""
    made = created(hers, title="old")
    url = f"{URL}/{made['id']}"
    hers.put(url, json={"title": "phone", "base_version": 1})
    answer = hers.put(url, json={"title": "desk", "messages": user("x"), "base_version": 1})
    assert problem(answer, 409, "version_conflict")["current"]["title"] == "phone"
    assert answer.headers["ETag"] == hers.get(url).headers["ETag"]
    assert (hers.get(url).json["title"], contents(hers, made["id"])) == ("phone", [])


def test_fields_merge_one_by_one(hers):
    """Two devices that changed different fields are both right."""
    made = created(hers, title="old")
    url = f"{URL}/{made['id']}"
    hers.put(url, json={"title": "phone", "base_version": 1})
    answer = hers.put(url, json={"starred": True, "folder": "desk", "base_version": 1})
    assert (answer.status_code, answer.json["outcome"]) == (200, "merged")
    assert (answer.json["title"], answer.json["starred"], answer.json["folder"]) == ("phone", True, "desk")


def test_the_same_change_on_both_is_no_conflict(hers):
    """They agree."""
    made = created(hers, title="old")
    url = f"{URL}/{made['id']}"
    hers.put(url, json={"title": "same", "base_version": 1})
    assert hers.put(url, json={"title": "same", "base_version": 1}).status_code == 200


def test_an_edit_that_collides_with_an_edit_is_a_conflict(hers):
    """The same message, changed on both sides: 409, and the first stays."""
    made = created(hers)
    message = said(hers, made["id"], "a")
    url = f"{URL}/{made['id']}"
    for text, status in (("phone", 200), ("desk", 409)):
        copy = [{"id": message["id"], "role": "user", "content": text}]
        assert hers.put(url, json={"messages": copy, "base_version": 2}).status_code == status
    assert contents(hers, made["id"]) == ["phone"]


def test_a_copy_brings_no_roles_that_clients_may_not_write(hers, ada, subtests):
    """New ones are 422; those that the host's own code has written may come along as they are."""
    for role, force in itertools.product(("system", "tool", "developer"), (True, False)):
        with subtests.test(role, force=force):
            said_before = [{"role": "user", "content": "q"}, {"role": role, "content": "kept"}]
            url = f"{URL}/{ada.create_conversation(messages=said_before)['id']}"

            def put(messages, url=url, force=force):
                return hers.put(url, json={"messages": messages, "force_overwrite": force})

            stored = hers.get(url).json["messages"]
            echoed = put([*stored, *user("more")])
            assert echoed.status_code == 200, echoed.text
            problem(put([*stored, {"role": role, "content": "evil"}]), 422, "validation_failed")
            problem(put([stored[0], {**stored[1], "content": "evil"}]), 422, "validation_failed")
            assert [one["content"] for one in hers.get(url).json["messages"]] == ["q", "kept", "more"]


def test_what_get_gives_can_be_put_back(hers):
    """The full representation of GET, echoed, is accepted and changes nothing, by force neither."""
    made = created(hers, "a", title="t", tags=["x"], metadata={"y": 1}, folder="f", starred=True)
    url = f"{URL}/{made['id']}"
    message = hers.get(url).json["messages"][0]
    hers.put(f"{url}/messages/{message['id']}/feedback", json={"rating": "up", "comment": "good"})
    got = hers.get(url)
    for force in (True, False):
        answer = hers.put(url, json={**got.json, "force_overwrite": force})
        assert answer.status_code == 200, answer.text
        assert hers.get(url).data == got.data


def test_if_match_guards_a_copy(hers):
    """412 with `current` and ETag before anything is merged."""
    made = created(hers, "a")
    url = f"{URL}/{made['id']}"
    tag = hers.get(url).headers["ETag"]
    said(hers, made["id"], "b")
    answer = hers.put(url, json={"messages": user("a", "c")}, headers={"If-Match": tag})
    assert problem(answer, 412, "precondition_failed")["current"]["message_count"] == 2
    assert answer.headers["ETag"] == hers.get(url).headers["ETag"]
    assert contents(hers, made["id"]) == ["a", "b"]


def test_put_creates_nothing(hers):
    """A copy of what is not there is 404: POST creates, with one's own id."""
    problem(hers.put(f"{URL}/{NOBODYS_UUID}", json={"messages": user("a")}), 404, "conversation_not_found")
    problem(hers.put(f"{URL}/no-such-draft", json={"messages": user("a")}), 404, "conversation_not_found")
    problem(hers.put(f"{URL}/~what", json={"messages": user("a")}), 404, "conversation_not_found")
    assert hers.get(f"{URL}?status=all").json["conversations"] == []


def test_another_users_message_id_in_ones_own_copy_is_just_an_id(hers, his):
    """It neither moves nor shows nor changes the other's message."""
    theirs = created(hers, "secret")
    message = hers.get(f"{URL}/{theirs['id']}").json["messages"][0]
    mine = created(his)
    answer = his.put(
        f"{URL}/{mine['id']}", json={"messages": [{"id": message["id"], "role": "user", "content": "his"}]}
    )
    assert answer.status_code == 200
    assert "secret" not in answer.text
    assert contents(hers, theirs["id"]) == ["secret"]
    assert hers.get(f"{URL}/{theirs['id']}").json["messages"][0] == message


def test_an_unknown_member_is_422(hers):
    """With its place, and nothing is saved."""
    made = created(hers)
    answer = hers.put(f"{URL}/{made['id']}", json={"messages": [{"role": "user", "content": "a", "sql": "x"}]})
    assert problem(answer, 422, "validation_failed")["errors"] == {"messages": {"0": {"sql": ["Unknown field."]}}}
    assert contents(hers, made["id"]) == []
