"""Deleting: into the trash and back, or for good."""

from __future__ import annotations

import pytest

from tests.infra.apps import client_of

from .tools import NOBODYS_UUID, URL, contents, created, problem


def test_a_deleted_conversation_is_gone_everywhere_at_once(hers, his):
    """200 with `success`; then 404 on every path; the stranger could not, and cannot."""
    made = created(hers, "x", title="t")
    url = f"{URL}/{made['id']}"
    message = hers.get(url).json["messages"][0]["id"]
    problem(his.delete(url), 404, "conversation_not_found")
    answer = hers.delete(url)
    assert (answer.status_code, answer.json) == (200, {"success": True, "id": made["id"], "permanent": False})
    for path in (url, f"{url}/messages", f"{url}/messages/{message}"):
        problem(hers.get(path), 404, "conversation_not_found")
    problem(hers.delete(url), 404, "conversation_not_found")
    problem(hers.post(f"{url}/messages", json={"content": "y"}), 404, "conversation_not_found")
    assert hers.get(f"{URL}?status=all").json["conversations"] == []


def test_the_answer_names_the_id_it_was_asked_for(hers):
    """By client id too."""
    created(hers, id="draft")
    assert hers.delete(f"{URL}/draft").json == {"success": True, "id": "draft", "permanent": False}


def test_what_is_in_the_trash_comes_back_as_it_was(hers, his):
    """Messages, title and status; a stranger restores nothing."""
    made = created(hers, "x", title="t")
    url = f"{URL}/{made['id']}"
    hers.post(f"{url}/archive")
    hers.delete(url)
    assert his.post(f"{url}/restore").status_code == 404
    restored = hers.post(f"{url}/restore")
    assert (restored.status_code, restored.json["status"], restored.json["deleted_at"]) == (200, "archived", None)
    assert contents(hers, made["id"]) == ["x"]


def test_restoring_what_is_not_in_the_trash_changes_nothing(hers):
    """200 and the conversation as it is."""
    made = created(hers)
    assert hers.post(f"{URL}/{made['id']}/restore").json == made


def test_permanently_is_permanently(hers):
    """Out of the list or out of the trash: no restore brings it back."""
    for first in (True, False):
        made = created(hers, "x")
        url = f"{URL}/{made['id']}"
        if first:
            hers.delete(url)
        answer = hers.delete(f"{url}?permanent=true")
        assert answer.json == {"success": True, "id": made["id"], "permanent": True}
        problem(hers.post(f"{url}/restore"), 404, "conversation_not_found")
        assert hers.get(f"{URL}?status=deleted").json["conversations"] == []


def test_a_missing_one_is_404(hers, his):
    """As is a stranger's, with the same bytes."""
    made, headers = created(hers), {"X-Request-ID": "r"}
    missing, foreign = (his.delete(f"{URL}/{id}", headers=headers) for id in (NOBODYS_UUID, made["id"]))
    problem(missing, 404, "conversation_not_found")
    assert missing.data == foreign.data


def test_if_match_guards_a_deletion(hers):
    """A conversation with newer writes is not deleted unseen."""
    made = hers.post(URL, json={})
    url = f"{URL}/{made.json['id']}"
    hers.post(f"{url}/messages", json={"content": "just now"})
    problem(hers.delete(url, headers={"If-Match": made.headers["ETag"]}), 412, "precondition_failed")
    assert hers.delete(url, headers={"If-Match": hers.get(url).headers["ETag"]}).status_code == 200


def test_if_match_works_for_what_is_in_the_trash(hers):
    """The trash list shows the tag, so that emptying it can be guarded too."""
    made = created(hers)
    hers.delete(f"{URL}/{made['id']}")
    (trashed,) = hers.get(f"{URL}?status=deleted").json["conversations"]
    url = f"{URL}/{made['id']}?permanent=true"
    problem(hers.delete(url, headers={"If-Match": '"1-0"'}), 412, "precondition_failed")
    assert hers.delete(url, headers={"If-Match": f'"{trashed["etag"]}"'}).status_code == 200


def test_without_a_trash_deleting_is_for_good(make_app):
    """`CONVERSATIONS_TRASH_DAYS = 0`, and the answer says so."""
    client = client_of(make_app(CONVERSATIONS_TRASH_DAYS=0), "ada")
    made = created(client)
    assert client.delete(f"{URL}/{made['id']}").json["permanent"] is True
    assert client.post(f"{URL}/{made['id']}/restore").status_code == 404


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_permanent_that_is_neither_true_nor_false_is_422(hers):
    """Nothing is deleted on a guess."""
    made = created(hers)
    for value in ("maybe", "", "2"):
        problem(hers.delete(f"{URL}/{made['id']}?permanent={value}"), 422, "validation_failed")
    assert hers.get(f"{URL}/{made['id']}").status_code == 200
