"""Listing: a page at a time, only one's own, in any order and by any filter, and cursors that cannot be forged."""

from __future__ import annotations

import pytest

from .tools import URL, created, problem, said

FIELDS = {"id", "title", "preview", "status", "starred", "tags", "message_count"}
FIELDS |= {"last_message_at", "created_at", "updated_at", "version"}
ORDERS = ["last_activity_at", "updated_at", "created_at", "title"]


def titles(client, query=""):
    return [one["title"] for one in client.get(URL + query).json["conversations"]]


def walked(client, query, field="title"):
    """The titles of all pages, one page after the other."""
    found, more = [], ""
    while True:
        page = client.get(URL + query + more).json
        found += [one[field] for one in page["conversations"]]
        assert page["has_more"] is (page["next_cursor"] is not None)
        if not page["has_more"]:
            return found
        more = f"&cursor={page['next_cursor']}"


def walked_ids(client, query):
    return walked(client, query, "id")


def test_a_list_shows_ones_own_and_nobody_elses(hers, his):
    """Two users, two lists; the fields of a sidebar, and never the messages."""
    created(hers, "hello", title="hers")
    created(his, "secret", title="his")
    page = hers.get(URL).json
    assert [one["title"] for one in page["conversations"]] == ["hers"]
    assert set(page["conversations"][0]) >= FIELDS
    assert "messages" not in page["conversations"][0]
    assert (page["next_cursor"], page["has_more"]) == (None, False)
    assert titles(his) == ["his"]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_nobody_has_an_empty_list_of_their_own(http):
    """Without an identity there is no list, and no default user behind it."""
    problem(http(None).get(URL), 401, "identity_required")


def test_the_last_active_conversation_comes_first(hers):
    """A message brings its conversation to the top; renaming does not."""
    first, second = created(hers, title="first"), created(hers, title="second")
    assert titles(hers) == ["second", "first"]
    said(hers, first["id"], "again")
    assert titles(hers) == ["first", "second"]
    hers.patch(f"{URL}/{second['id']}", json={"starred": True})
    assert titles(hers) == ["first", "second"]


def test_cursors_walk_the_whole_list(hers, his):
    """Each conversation once, whatever the page size; another user's never."""
    for number in range(7):
        created(hers, title=f"h{number}")
        created(his, title=f"b{number}")
    assert walked(hers, "?limit=3") == [f"h{number}" for number in reversed(range(7))]
    assert walked(hers, "?limit=7") == walked(hers, "?limit=100")


def test_every_order_is_total_and_paged(hers, subtests):
    """Also among equal titles: no conversation twice, none left out, and the reverse is the reverse."""
    for title in ["b", "a", "a", "ä", "B", "New Conversation"]:
        created(hers, title=title)
    for order in ORDERS:
        with subtests.test(order):
            up = walked_ids(hers, f"?order={order}")
            assert len(set(up)) == 6
            assert walked_ids(hers, f"?order=-{order}") == up[::-1]
            assert walked_ids(hers, f"?order={order}&limit=2") == up
            assert walked_ids(hers, f"?order=-{order}&limit=2") == up[::-1]


def test_an_offset_skips(hers, his):
    """For clients that count pages; not together with a cursor."""
    for number in range(5):
        created(hers, title=str(number))
    created(his, title="his")
    assert titles(hers, "?limit=2&offset=1") == ["3", "2"]
    assert titles(hers, "?offset=5") == []
    cursor = hers.get(f"{URL}?limit=2").json["next_cursor"]
    errors = problem(hers.get(f"{URL}?cursor={cursor}&offset=1"), 422, "validation_failed")["errors"]
    assert set(errors) == {"offset"}


def test_a_limit_above_100_answers_100(hers, ada):
    """`limit` is capped, never silently raised; the default is 20."""
    for _ in range(101):
        ada.create_conversation()
    assert len(hers.get(f"{URL}?limit=1000").json["conversations"]) == 100
    assert len(hers.get(f"{URL}?limit=100").json["conversations"]) == 100
    assert len(hers.get(URL).json["conversations"]) == 20


def test_filters_find_what_they_name(hers, his):
    """Status, star, tag, folder and context, alone and together, in one's own list only."""
    fields = {"starred": True, "tags": ["a", "ä b"], "folder": "work", "context_type": "ticket", "context_id": "7"}
    created(hers, title="yes", **fields)
    created(hers, title="no")
    created(his, title="his", **fields)
    for query in [
        "starred=true",
        "starred=1",
        "tag=a",
        "tag=ä b",
        "folder=work",
        "context_type=ticket",
        "context_id=7",
    ]:
        assert titles(hers, f"?{query}") == ["yes"], query
    assert titles(hers, "?starred=true&tag=a&folder=work&context_type=ticket&context_id=7") == ["yes"]
    assert titles(hers, "?starred=false") == ["no"]
    assert titles(hers, "?tag=A") == []
    assert titles(hers, "?folder=work&tag=other") == []


def test_each_status_has_its_list(hers, his):
    """Active by default; the archive, the resolved, the trash; `all` is everything but the trash."""
    for number, action in enumerate(["archive", "resolve"]):
        one = created(hers, title=action)
        hers.post(f"{URL}/{one['id']}/{action}")
        created(his, title=str(number))
    hers.delete(f"{URL}/{created(hers, title='trash')['id']}")
    created(hers, title="active")
    assert titles(hers) == titles(hers, "?status=active") == ["active"]
    assert titles(hers, "?status=archived") == ["archive"]
    assert titles(hers, "?status=resolved") == ["resolve"]
    assert titles(hers, "?status=deleted") == ["trash"]
    assert sorted(titles(hers, "?status=all")) == ["active", "archive", "resolve"]


def test_temporary_conversations_are_in_no_list(hers):
    """They can be opened, and are listed nowhere."""
    made = created(hers, "psst", temporary=True)
    assert made["temporary"] is True
    assert titles(hers, "?status=all") == []
    assert hers.get(f"{URL}/{made['id']}").status_code == 200


def test_messages_come_along_if_asked_for(hers, his):
    """`include=messages` brings each conversation's newest messages, oldest first, and no other's."""
    made = created(hers, "one", "two")
    created(his, "secret")
    (found,) = hers.get(f"{URL}?include=messages").json["conversations"]
    assert [message["content"] for message in found["messages"]] == ["one", "two"]
    assert found["id"] == made["id"]
    assert "secret" not in hers.get(f"{URL}?include=messages&status=all").text


NONSENSE = ["limit=0", "limit=-1", "limit=x", "limit=1e3", "limit=１２", "limit=", "offset=-1", "status=gone"]
NONSENSE += ["starred=maybe", "order=id", "order=--title", "order=title;drop", "include=owner"]
NONSENSE += ["cursor=", "cursor=x", "cursor=~x", "tag=%00"]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_query_that_makes_no_sense_is_422(hers, subtests):
    """With the name of the field; nothing is guessed."""
    for query in NONSENSE:
        with subtests.test(query):
            errors = problem(hers.get(f"{URL}?{query}"), 422, "validation_failed")["errors"]
            assert set(errors) == {query.partition("=")[0]}


def test_a_cursor_is_of_one_list_and_one_person(hers, his):
    """A changed cursor, one of another order or filter, and another user's are refused: 422."""
    for number in range(3):
        created(hers, title=str(number))
        created(his, title=str(number))
    cursor = hers.get(f"{URL}?limit=1").json["next_cursor"]
    refused = [hers.get(f"{URL}?cursor={bent}") for bent in (cursor[:-1], cursor + "A", cursor[0] + "A" + cursor[2:])]
    refused += [hers.get(f"{URL}?order=title&cursor={cursor}"), hers.get(f"{URL}?starred=true&cursor={cursor}")]
    refused += [his.get(f"{URL}?cursor={cursor}")]
    for answer in refused:
        assert set(problem(answer, 422, "validation_failed")["errors"]) == {"cursor"}
    assert hers.get(f"{URL}?cursor={cursor}").status_code == 200


def test_a_page_holds_while_the_list_changes(hers):
    """What is added or removed meanwhile neither repeats nor hides the others."""
    for number in range(4):
        created(hers, title=str(number))
    page = hers.get(f"{URL}?limit=2&order=-created_at").json
    hers.delete(f"{URL}/{page['conversations'][1]['id']}")
    created(hers, title="new")
    assert titles(hers, f"?limit=2&order=-created_at&cursor={page['next_cursor']}") == ["1", "0"]


def test_unknown_query_parameters_are_let_through(hers):
    """A host's own parameters (a cache buster, a tracker) disturb nothing."""
    assert hers.get(f"{URL}?_=123&utm_source=x").status_code == 200
