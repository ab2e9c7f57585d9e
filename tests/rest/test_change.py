"""Changing: fields, status, and who was first."""

from __future__ import annotations

import pytest

from tests.infra.apps import client_of

from .tools import NOBODYS_UUID, URL, created, problem


def test_fields_change_and_stay(hers, his):
    """Each field of the owner's; the stranger's attempt is 404 and changes nothing."""
    made = created(hers, title="old", tags=["a"])
    fields = {
        "title": "new",
        "starred": True,
        "tags": ["b", "c"],
        "folder": "f",
        "metadata": {"x": 1},
        "status": "archived",
    }
    answer = hers.patch(f"{URL}/{made['id']}", json=fields)
    assert answer.status_code == 200
    assert his.patch(f"{URL}/{made['id']}", json={"title": "his"}).status_code == 404
    found = hers.get(f"{URL}/{made['id']}").json
    assert {name: found[name] for name in fields} == fields
    assert found["version"] == 2
    assert hers.get(f"{URL}?status=archived&tag=b").json["conversations"][0]["id"] == made["id"]
    assert hers.get(f"{URL}?status=archived&tag=a").json["conversations"] == []


def test_a_title_can_be_taken_back(hers):
    """Null is the default title again, which the next message replaces."""
    made = created(hers, title="mine")
    assert hers.patch(f"{URL}/{made['id']}", json={"title": None}).json["title"] == "New Conversation"
    hers.post(f"{URL}/{made['id']}/messages", json={"content": "what is this about"})
    assert hers.get(f"{URL}/{made['id']}").json["title"] == "what is this about"


def test_a_title_of_the_users_own_stays(hers):
    """No message replaces it."""
    made = created(hers)
    hers.patch(f"{URL}/{made['id']}", json={"title": "mine"})
    hers.post(f"{URL}/{made['id']}/messages", json={"content": "what is this about"})
    assert hers.get(f"{URL}/{made['id']}").json["title"] == "mine"


def test_an_empty_patch_is_no_change(hers):
    """200, and the version stands still."""
    made = created(hers)
    answer = hers.patch(f"{URL}/{made['id']}", json={})
    assert (answer.status_code, answer.json["version"]) == (200, 1)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_what_is_not_the_clients_to_set_is_422(hers, subtests):
    """The whole patch is refused."""
    url = f"{URL}/{created(hers, title='old')['id']}"
    for field in ("user_id", "org_id", "id", "version", "seq", "created_at", "messages", "temporary", "x"):
        with subtests.test(field):
            answer = hers.patch(url, json={field: "bob", "title": "new"})
            assert set(problem(answer, 422, "validation_failed")["errors"]) == {field}
            assert hers.get(url).json["title"] == "old"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_status_that_is_no_status_is_422(hers, subtests):
    """The trash is reached by DELETE, not by PATCH."""
    url = f"{URL}/{created(hers)['id']}"
    for status in ("deleted", "gone", "", 1, None):
        with subtests.test(status=status):
            answer = hers.patch(url, json={"status": status})
            assert set(problem(answer, 422, "validation_failed")["errors"]) == {"status"}
            assert hers.get(url).json["status"] == "active"


# -- who was first -----------------------------------------------------------------------------------------------------
def test_if_match_lets_the_first_through_and_stops_the_second(hers):
    """412 with the current representation under `current` and its ETag; nothing is lost."""
    made = hers.post(URL, json={"title": "0"})
    url, etag = f"{URL}/{made.json['id']}", made.headers["ETag"]
    first = hers.patch(url, json={"title": "1"}, headers={"If-Match": etag})
    second = hers.patch(url, json={"title": "2"}, headers={"If-Match": etag})
    assert first.status_code == 200
    current = problem(second, 412, "precondition_failed")["current"]
    assert (current["title"], current["version"]) == ("1", 2)
    assert second.headers["ETag"] == first.headers["ETag"]
    assert hers.patch(url, json={"title": "2"}, headers={"If-Match": second.headers["ETag"]}).status_code == 200


def test_if_match_takes_every_form_of_a_match(hers, subtests):
    """Strong, weak (proxies that compress make them weak), a list, and the star."""
    for form in ("{etag}", "W/{etag}", '"other", {etag}', '"a","b" , W/{etag}', "*"):
        with subtests.test(form):
            made = hers.post(URL, json={})
            headers = {"If-Match": form.format(etag=made.headers["ETag"])}
            assert hers.patch(f"{URL}/{made.json['id']}", json={"title": "t"}, headers=headers).status_code == 200


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_malformed_if_match_is_400_and_never_ignored(hers, subtests):
    """Who asks for a condition gets it, or no change."""
    made = created(hers, title="old")
    url = f"{URL}/{made['id']}"
    for form in ("1", "{bare}", '"open', "a, b", '"a" "b"', "", "W/*", '*, "a"'):
        with subtests.test(form):
            answer = hers.patch(url, json={"title": "new"}, headers={"If-Match": form.format(bare=made["etag"])})
            problem(answer, 400, "malformed_request")
            assert hers.get(url).json["title"] == "old"


def test_if_match_of_a_stranger_is_404(hers, his):
    """Neither 412 nor the current representation."""
    made = hers.post(URL, json={"title": "secret"})
    for tag in (made.headers["ETag"], '"1-0"', "*"):
        for method in ("patch", "put", "delete"):
            body = {"json": {"title": "x"}} if method != "delete" else {}
            answer = getattr(his, method)(f"{URL}/{made.json['id']}", headers={"If-Match": tag}, **body)
            assert "secret" not in answer.text
            problem(answer, 404, "conversation_not_found")


def test_if_match_star_means_that_it_is_there(hers):
    """On what is not there it is 404, as without."""
    problem(hers.patch(f"{URL}/{NOBODYS_UUID}", json={}, headers={"If-Match": "*"}), 404, "conversation_not_found")


def test_a_stale_expected_version_is_a_conflict(hers):
    """In the body instead of a header: 409 with the current conversation and its ETag."""
    made = created(hers, title="0")
    url = f"{URL}/{made['id']}"
    assert hers.patch(url, json={"title": "1", "expected_version": 1}).status_code == 200
    answer = hers.patch(url, json={"title": "2", "expected_version": 1})
    current = problem(answer, 409, "version_conflict")["current"]
    assert (current["title"], current["version"]) == ("1", 2)
    assert answer.headers["ETag"] == hers.get(url).headers["ETag"]


def test_of_two_at_once_one_wins(app, threads, hers):
    """Ten patches for the same version at the same moment: one 200, nine 412, one step."""
    made = hers.post(URL, json={"title": "0"})
    url, headers = f"{URL}/{made.json['id']}", {"If-Match": made.headers["ETag"]}
    answers = threads(10, lambda i: client_of(app, "ada").patch(url, json={"title": str(i)}, headers=headers))
    assert sorted(one.status_code for one in answers) == [200] + [412] * 9
    assert hers.get(url).json["version"] == 2


def test_a_host_can_demand_preconditions(make_app):
    """`CONVERSATIONS_REQUIRE_PRECONDITIONS`: 428 without If-Match or version, for PATCH and PUT."""
    client = client_of(make_app(CONVERSATIONS_REQUIRE_PRECONDITIONS=True), "ada")
    made = client.post(URL, json={})
    url, tag = f"{URL}/{made.json['id']}", {"If-Match": made.headers["ETag"]}
    for method in (client.patch, client.put):
        problem(method(url, json={"title": "t"}), 428, "precondition_required")
    assert client.patch(url, json={"title": "t"}, headers=tag).status_code == 200
    assert client.patch(url, json={"title": "u", "expected_version": 2}).status_code == 200
    assert client.put(url, json={"title": "v", "base_version": 3}).status_code == 200


# -- status ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("action", "status", "moment"), [("archive", "archived", "archived_at"), ("resolve", "resolved", "resolved_at")]
)
def test_a_conversation_moves_and_comes_back(hers, his, action, status, moment):
    """Out of the active list and back; once there, it stays; a stranger moves nothing."""
    made = created(hers, "x")
    url = f"{URL}/{made['id']}"
    assert his.post(f"{url}/{action}").status_code == 404
    moved = hers.post(f"{url}/{action}")
    assert (moved.status_code, moved.json["status"], bool(moved.json[moment])) == (200, status, True)
    assert hers.post(f"{url}/{action}").json == moved.json
    assert hers.get(URL).json["conversations"] == []
    back = hers.post(f"{url}/unarchive").json
    assert (back["status"], back[moment], back["message_count"]) == ("active", None, 1)
    assert his.post(f"{url}/unarchive").status_code == 404


def test_actions_take_no_fields(hers):
    """An empty object is fine, a member is 422."""
    made = created(hers)
    for action in ("archive", "unarchive", "resolve", "restore"):
        assert hers.post(f"{URL}/{made['id']}/{action}", json={}).status_code == 200
        answer = hers.post(f"{URL}/{made['id']}/{action}", json={"user_id": "bob"})
        assert set(problem(answer, 422, "validation_failed")["errors"]) == {"user_id"}
