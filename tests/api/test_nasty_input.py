"""Bad input gets a problem that names the field; nothing is stored in half, nothing leaks; the same on both databases."""

from __future__ import annotations

import gzip
import io
import itertools
import json
from typing import Any

import pytest
import sqlalchemy as sa

from tests.api.judge import Judge
from tests.infra.apps import client_of

DEEP = 100_000
JSON = "application/json"


class Bench:
    """An app with a conversation of Ada's and a secret of Bob's, and Ada's client."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.client = client_of(app, "ada")
        self.judge = Judge(self.client.get("/api/conversations/openapi.json").get_json())
        ada, bob = (app.conversations.as_user(user, app=app) for user in ("ada", "bob"))
        self.chat = ada.create_conversation("mine", id="mine")["id"]
        self.message = ada.save_message(self.chat, "user", "hello", client_id="m-1")["id"]
        self.secret = bob.create_conversation("bob's secret", id="secret-of-bob")["id"]
        self.secret_message = bob.save_message(self.secret, "user", "bob's secret")["id"]
        for _ in range(3):
            bob.create_conversation("bob's secret")
        self.bobs_cursor = client_of(app, "bob").get("/api/conversations?limit=1").get_json()["next_cursor"]
        for _ in range(3):
            ada.create_conversation()
        self.cursor = self.client.get("/api/conversations?limit=1").get_json()["next_cursor"]

    def refuses(self, status: int, field: str | None, method: str, path: str, **request: Any) -> Any:
        """Send what must be refused with *status*, naming *field*, and check that nothing else happened."""
        before = self.rows()
        answer = self.client.open("/api/conversations" + path.format(**vars(self)), method=method, **request)
        assert answer.status_code == status, answer.get_data(as_text=True)[:1000]
        problem = self.judge.problem(answer)
        if field is not None:
            assert field in named(problem["errors"]), problem
        assert "bob's secret" not in answer.get_data(as_text=True)
        assert len(answer.data) < 20_000
        assert self.rows() == before, "something was stored"
        return problem

    def rows(self) -> dict[str, list[Any]]:
        """Everything that is stored."""
        with self.app.app_context():
            session, tables = self.app.db.session, self.app.db.metadata.tables
            found = {name: sorted(map(str, session.execute(sa.select(table)))) for name, table in tables.items()}
            session.rollback()
            return found


def named(problems: Any) -> set[str]:
    """The names of all fields, on every level."""
    if not isinstance(problems, dict):
        return set()
    return set(problems).union(*map(named, problems.values()))


@pytest.fixture
def bench(app):
    return Bench(app)


def text(value: str) -> dict[str, Any]:
    return {"data": value.encode(), "content_type": JSON}


BODIES: dict[str, tuple[int, str | None, str]] = {
    # name: status, field, body of POST /conversations
    "title is a number": (422, "title", '{"title": 1}'),
    "title is a list": (422, "title", '{"title": ["x"]}'),
    "title is true": (422, "title", '{"title": true}'),
    "title is too long": (422, "title", json.dumps({"title": "x" * 256})),
    "title of 10 MB": (422, "title", json.dumps({"title": "x" * 10_000_000})),
    "starred is text": (422, "starred", '{"starred": "yes"}'),
    "starred is a number": (422, "starred", '{"starred": 1}'),
    "starred is null": (422, "starred", '{"starred": null}'),
    "tags is text": (422, "tags", '{"tags": "a,b"}'),
    "a tag is a number": (422, "tags", '{"tags": ["a", 1]}'),
    "51 tags": (422, "tags", json.dumps({"tags": [str(n) for n in range(51)]})),
    "metadata is a list": (422, "metadata", '{"metadata": []}'),
    "messages is an object": (422, "messages", '{"messages": {"0": {}}}'),
    "messages is text": (422, "messages", '{"messages": "hello"}'),
    "a message is null": (422, "messages", '{"messages": [null]}'),
    "a message without content": (422, "content", '{"messages": [{"role": "user"}]}'),
    "the second of two messages is bad": (
        422,
        "content",
        '{"messages": [{"role": "user", "content": "x"}, {"role": "user", "content": 1}]}',
    ),
    "an unknown field": (422, "titel", '{"titel": "x"}'),
    "an unknown field in a message": (422, "nope", '{"messages": [{"role": "user", "content": "x", "nope": 1}]}'),
    "another owner": (422, "user_id", '{"user_id": "bob"}'),
    "another organisation": (422, "org_id", '{"org_id": "acme"}'),
    "a version of one's own": (422, "version", '{"version": 7}'),
    "a field of the table": (422, "last_seq", '{"last_seq": 7}'),
    "prototype pollution": (422, "__proto__", '{"__proto__": {"admin": true}}'),
    "an unknown name of 1 MB": (422, None, json.dumps({"x" * 1_000_000: 1})),
    "an unknown name with a lone surrogate": (422, None, r'{"\ud800": 1}'),
    "an unknown name with NUL": (422, None, r'{"a\u0000b": 1}'),
    "NUL": (422, "title", r'{"title": "a\u0000b"}'),
    "NUL, raw": (400, None, '{"title": "a\x00b"}'),
    "NUL deep inside": (422, "metadata", r'{"metadata": {"a": [{"b": "\u0000"}]}}'),
    "NUL in a name": (422, "metadata", r'{"metadata": {"\u0000": 1}}'),
    "a lone surrogate": (422, "title", r'{"title": "\ud800"}'),
    "a lone low surrogate": (422, "title", r'{"title": "x\udfff"}'),
    "surrogates the wrong way round": (422, "title", r'{"title": "\udc00\ud800"}'),
    "a lone surrogate in a name": (422, "metadata", r'{"metadata": {"\ud800": 1}}'),
    "a lone surrogate in a tag": (422, "tags", r'{"tags": ["\ud800"]}'),
    "a lone surrogate in a message": (422, "content", r'{"messages": [{"role": "user", "content": "\ud800"}]}'),
    "NaN": (400, None, '{"metadata": {"a": NaN}}'),
    "Infinity": (400, None, '{"metadata": {"a": Infinity}}'),
    "-Infinity": (400, None, '{"metadata": {"a": -Infinity}}'),
    "1e999": (422, "metadata", '{"metadata": {"a": 1e999}}'),
    "-1e999": (422, "metadata", '{"metadata": {"a": -1e999}}'),
    "a number of 400 digits": (422, "metadata", '{"metadata": {"a": ' + "9" * 400 + "}}"),
    "nested 65 deep": (422, "metadata", '{"metadata": ' + '{"a":' * 65 + "1" + "}" * 65 + "}"),
    "nested 500 deep": (422, "metadata", '{"metadata": ' + '{"a":' * 500 + "1" + "}" * 500 + "}"),
    "no JSON": (400, None, "{"),
    "two values": (400, None, "{}{}"),
    "a trailing comma": (400, None, '{"title": "x",}'),
    "single quotes": (400, None, "{'title': 'x'}"),
    "a list": (422, "body", "[]"),
    "text": (422, "body", '"x"'),
    "a number": (422, "body", "1"),
    "null": (422, "body", "null"),
    "a name given twice": (422, "title", '{"title": "a", "title": "b"}'),
    "a name given twice inside": (422, "role", '{"messages": [{"role": "user", "role": "system", "content": "x"}]}'),
    "a blank id": (422, "id", '{"id": ""}'),
    "an id with a space": (422, "id", '{"id": "a b"}'),
    "an id with a slash": (422, "id", '{"id": "a/b"}'),
    "an id of dots": (422, "id", '{"id": ".."}'),
    "an id that is a path": (422, "id", '{"id": "search"}'),
    "an id that is a path, capitals": (422, "id", '{"id": "Search"}'),
    "an id of 129 characters": (422, "id", json.dumps({"id": "a" * 129})),
    "an id in other letters": (422, "id", '{"id": "é"}'),
    "an id in other digits": (422, "id", '{"id": "１２"}'),
    "a UUID in braces": (422, "id", '{"id": "{019aa5d2-7f1c-7c3e-9a44-3b1f0c5d8e21}"}'),
    "an id with a line end": (422, "id", r'{"id": "a\n"}'),
    "an id that is a number": (422, "id", '{"id": 1}'),
    "a system message": (422, "role", '{"messages": [{"role": "system", "content": "x"}]}'),
    "a tool message": (422, "role", '{"messages": [{"role": "tool", "content": "x"}]}'),
    "a developer message after a good one": (
        422,
        "role",
        '{"messages": [{"role": "user", "content": "x"}, {"role": "developer", "content": "x"}]}',
    ),
    "a role that is none": (422, "role", '{"messages": [{"role": "admin", "content": "x"}]}'),
    "a role with capitals": (422, "role", '{"messages": [{"role": "System", "content": "x"}]}'),
    "a message in the year 10000": (
        422,
        "created_at",
        '{"messages": [{"role": "user", "content": "x", "created_at": "10000-01-01T00:00:00Z"}]}',
    ),
    "a message before all time": (
        422,
        "created_at",
        '{"messages": [{"role": "user", "content": "x", "created_at": "0001-01-01T00:00:00+14:00"}]}',
    ),
}


def test_a_bad_body_creates_nothing(bench, subtests):
    """POST /conversations refuses it as a whole."""
    for name, (status, field, body) in BODIES.items():
        with subtests.test(name):
            bench.refuses(status, field, "POST", "", **text(body))


def test_a_body_nested_100000_deep(bench):
    """Brackets, braces, and both, closed or not."""
    for body in (
        "[" * DEEP,
        '{"a":' * DEEP,
        "[" * DEEP + "]" * DEEP,
        '{"metadata":' + '{"a":[' * DEEP + "]}" * DEEP + "}",
    ):
        bench.refuses(400, None, "POST", "", **text(body))


def test_a_number_of_5000_digits(bench):
    """Python itself refuses to read it from 3.11 on; before that, we do."""
    before = bench.rows()
    for digits in ("9" * 5000, "-" + "1" * 5000, "0." + "1" * 5000 + "e999"):
        answer = bench.client.post("/api/conversations", **text('{"metadata": {"a": %s}}' % digits))  # noqa: UP031
        assert answer.status_code in (400, 422)
        bench.judge.problem(answer)
    assert bench.rows() == before


MESSAGES: dict[str, tuple[int, str | None, Any]] = {
    "no content": (422, "content", {}),
    "content null": (422, "content", {"content": None}),
    "content a number": (422, "content", {"content": 1}),
    "content an object": (422, "content", {"content": {"type": "text", "text": "x"}}),
    "parts that are text": (422, "content", {"content": ["x"]}),
    "a part without type": (422, "content", {"content": [{"text": "x"}]}),
    "a text part without text": (422, "content", {"content": [{"type": "text"}]}),
    "a tool message": (422, "role", {"content": "x", "role": "tool"}),
    "a system message": (422, "role", {"content": "x", "role": "system"}),
    "role null": (422, "role", {"content": "x", "role": None}),
    "a seq of one's own": (422, "seq", {"content": "x", "seq": 1}),
    "another conversation": (422, "conversation_id", {"content": "x", "conversation_id": "secret-of-bob"}),
    "another owner": (422, "user_id", {"content": "x", "user_id": "bob"}),
    "a client id with a space": (422, "client_id", {"content": "x", "client_id": "a b"}),
    "a client id of dots": (422, "client_id", {"content": "x", "client_id": "..."}),
    "a parent that is a number": (422, "parent_id", {"content": "x", "parent_id": 1}),
    "a parent that does not exist": (422, "parent_id", {"content": "x", "parent_id": "nobody"}),
    "a parent with NUL": (422, "parent_id", {"content": "x", "parent_id": "\x00"}),
    "tokens below zero": (422, "tokens_used", {"content": "x", "tokens_used": -1}),
    "tokens above 2^63": (422, "tokens_used", {"content": "x", "tokens_used": 2**63}),
    "tokens as a float": (422, "tokens_used", {"content": "x", "tokens_used": 1.0}),
    "tokens as text": (422, "tokens_used", {"content": "x", "tokens_used": "1"}),
    "tokens as true": (422, "tokens_used", {"content": "x", "tokens_used": True}),
    "a latency below zero": (422, "latency_ms", {"content": "x", "latency_ms": -0.5}),
    "attachments as an object": (422, "attachments", {"content": "x", "attachments": {}}),
    "a status that is none": (422, "status", {"content": "x", "status": "sent"}),
    "a blank type": (422, "type", {"content": "x", "type": ""}),
    "a model of 256 characters": (422, "model", {"content": "x", "model": "m" * 256}),
}


def test_a_bad_message_is_not_saved(bench, subtests):
    """POST .../messages refuses it, and the conversation does not change."""
    for name, (status, field, body) in MESSAGES.items():
        with subtests.test(name):
            bench.refuses(status, field, "POST", "/{chat}/messages", json=body)


def test_another_users_ids_inside_ones_own_request(bench):
    """They are ids of nothing: nothing is read, changed or shown."""
    for parent in (bench.secret_message, bench.secret):
        problem = bench.refuses(
            422, "parent_id", "POST", "/{chat}/messages", json={"content": "x", "parent_id": parent}
        )
        unknown = bench.refuses(
            422, "parent_id", "POST", "/{chat}/messages", json={"content": "x", "parent_id": bench.chat}
        )
        assert problem["errors"] == unknown["errors"]
    for name in ("before", "after"):
        bench.refuses(422, name, "GET", f"/{{chat}}/messages?{name}={bench.secret_message}")
    bench.refuses(404, None, "PATCH", f"/{{chat}}/messages/{bench.secret_message}", json={"content": "x"})
    bench.refuses(404, None, "DELETE", f"/{{chat}}/messages/{bench.secret_message}")
    bench.refuses(404, None, "PUT", f"/{{chat}}/messages/{bench.secret_message}/feedback", json={"rating": "up"})
    bench.refuses(409, None, "POST", "", json={"id": bench.secret})


def test_another_users_message_ids_in_a_snapshot(bench):
    """A snapshot with a message id of Bob's touches nothing of Bob's, and shows nothing of it."""
    bob = bench.app.conversations.as_user("bob", app=bench.app)
    before = bob.get_messages(bench.secret)
    for force in (False, True):
        stolen = {"id": bench.secret_message, "role": "user", "content": "mine now", "conversation_id": bench.secret}
        answer = bench.client.put(
            f"/api/conversations/{bench.chat}", json={"messages": [stolen], "force_overwrite": force}
        )
        assert "bob's secret" not in answer.get_data(as_text=True)
        assert answer.status_code < 500
        assert bob.get_messages(bench.secret) == before


def test_a_snapshot_with_roles_a_client_may_not_write(bench):
    """Nothing of it is saved, neither the fields nor the good messages."""
    for force in (False, True):
        for role in ("system", "tool", "developer"):
            body = {"title": "new", "messages": [{"role": "user", "content": "a"}, {"role": role, "content": "b"}]}
            bench.refuses(422, "role", "PUT", "/{chat}", json={**body, "force_overwrite": force})


QUERIES = {
    "limit": [
        "-1",
        "0",
        "1e3",
        "１２",
        "",
        " 5",
        "5 ",
        "+5",
        "0x10",
        "1.0",
        "٣",
        "5;",
        "1_0",
        "\x00",
        "9" * 401,
        "null",
    ],
    "offset": ["-1", "1e3", "１", "", str(10**19), "0x0", "1.5"],
    "cursor": ["", "x", "~", "~x", "~e30.x", "null", "\x00", "a" * 4097, "~" + "a" * 4000, "é"],
    "status": ["", "Active", "gone", "active,archived"],
    "starred": ["", "yes", "2", "tru"],
    "order": ["", "id", "-", "--title", "title desc", "title;--", "last_activity_at,id"],
    "include": ["", "everything"],
    "min_version": ["-1", "x", str(10**19)],
    "tag": ["a\x00", "t" * 65],
    "folder": ["\x00", "f" * 256],
}


def test_a_bad_query(bench, subtests):
    """The parameter is named, and no page is shown."""
    for name, values in QUERIES.items():
        for value in values:
            with subtests.test(name, value=value):
                bench.refuses(422, name, "GET", "", query_string={name: value})


def test_a_limit_above_100_is_100(bench):
    """Whatever its size, as long as it is a number."""
    for value in ("101", str(10**19), "9" * 400):
        assert bench.client.get("/api/conversations", query_string={"limit": value}).status_code == 200


def test_forged_cursors(bench):
    """Another user's, one cut short, one changed, one of another list: 422, and no page."""
    good = bench.cursor
    flipped = good[:-5] + ("A" if good[-5] != "A" else "B") + good[-4:]
    for bad in (bench.bobs_cursor, good[:-1], good[1:], good + "A", flipped, good.swapcase(), good + "\x00"):
        bench.refuses(422, "cursor", "GET", "", query_string={"cursor": bad})
    bench.refuses(422, "cursor", "GET", "", query_string={"cursor": good, "order": "title"})
    bench.refuses(422, "cursor", "GET", "", query_string={"cursor": good, "starred": "true"})
    bench.refuses(422, "before", "GET", "/{chat}/messages", query_string={"before": good})
    bench.refuses(422, "offset", "GET", "", query_string={"cursor": good, "offset": "1"})
    assert bench.client.get("/api/conversations", query_string={"cursor": good}).status_code == 200


UUID = "019aa5d2-7f1c-7c3e-9a44-3b1f0c5d8e21"
NOBODY = ["nobody", UUID, UUID.upper(), UUID.replace("-", ""), f"%7B{UUID}%7D", f"urn:uuid:{UUID}", "0", "-1", "null"]
NOBODY += [
    "%00",
    f"{UUID}%00",
    "a" * 5000,
    "%C3%A9",
    "%F0%9F%98%80",
    "%EF%BC%91",
    "%20",
    "%0A",
    "...",
    "....",
    "~",
    "*",
]
NOBODY += ["%22", "%27%20OR%201=1", "%FF", "%ED%A0%80", "%25", "%2e%2e%2e", "secret-of-bob", "SECRET-OF-BOB"]


def test_unknown_ids(bench, subtests):
    """Whatever the form of an id that is not one's own, the answer is the same 404."""
    for method in ("GET", "PATCH", "PUT", "DELETE"):
        with subtests.test(method):
            body = {"json": {"title": "x"}} if method in ("PATCH", "PUT") else {}
            found = [bench.refuses(404, None, method, f"/{own_id}", **body) for own_id in [*NOBODY, bench.secret]]
            assert len({(one["code"], one["detail"], one["title"]) for one in found}) == 1
    nested = [bench.refuses(404, None, "GET", f"/{own_id}/messages") for own_id in [*NOBODY, bench.secret]]
    assert len({(one["code"], one["detail"]) for one in nested}) == 1


def test_unknown_message_ids(bench):
    """The same below a conversation of one's own."""
    for own_id in [*NOBODY, bench.secret_message]:
        assert bench.refuses(404, None, "GET", f"/{{chat}}/messages/{own_id}")["code"] == "message_not_found"


def test_ones_own_id_in_odd_forms(bench):
    """Capitals are the same UUID; other forms are other ids."""
    assert bench.client.get(f"/api/conversations/{bench.chat.upper()}").status_code == 200
    for odd in (bench.chat.replace("-", ""), f"%7B{bench.chat}%7D", f"urn:uuid:{bench.chat}", f"{bench.chat}%00"):
        bench.refuses(404, None, "GET", f"/{odd}")


def test_slashes_and_dots_in_a_path(bench):
    """They make another path, which is not ours to answer; none of them reaches a conversation."""
    for path in (f"/x%2F{bench.chat}", f"/{bench.chat}%2Fmessages%2Fx%2Fy", "/..%2F..%2Fetc%2Fpasswd", "/%2e%2e/x/y/z"):
        assert bench.client.get("/api/conversations" + path).status_code == 404


def test_bodies_that_are_no_text(bench):
    """A byte order mark, invalid UTF-8, other encodings, overlong forms, bytes of a surrogate."""
    bad = [
        b"\xef\xbb\xbf{}",
        b'{"title": "\xff"}',
        b'{"title": "\xc0\xaf"}',
        b'{"title": "\xed\xa0\x80"}',
        b"\x00",
        b"\xfe\xff",
    ]
    bad += ['{"title": "x"}'.encode(name) for name in ("utf-16", "utf-16-le", "utf-32", "utf-7")[:3]]
    for body in bad:
        bench.refuses(400, None, "POST", "", data=body, content_type=JSON)


def test_a_body_over_the_limit(make_app):
    """413 before it is read, with and without a Content-Length."""
    bench = Bench(make_app(CONVERSATIONS_MAX_REQUEST_BYTES=2000))
    for size in (2001, 5000, 1_000_000):
        body = b'{"title":"' + b"x" * (size - 12) + b'"}'
        bench.refuses(413, None, "POST", "", data=body, content_type=JSON)
        bench.refuses(413, None, "PUT", "/{chat}", data=body, content_type=JSON)
        bench.refuses(413, None, "POST", "", **chunked(body, understood=True))
    assert bench.client.post("/api/conversations", **text('{"title":"' + "x" * 200 + '"}')).status_code == 201


def chunked(body: bytes, *, understood: bool) -> dict[str, Any]:
    """A request without Content-Length; servers that understand chunks mark the end of the stream."""
    environ: dict[str, Any] = {"wsgi.input_terminated": understood, "CONTENT_LENGTH": ""}
    return {
        "input_stream": io.BytesIO(body),
        "content_type": JSON,
        "headers": {"Transfer-Encoding": "chunked"},
        "environ_overrides": environ,
    }


def test_a_chunked_body(bench):
    """Read where the server can; where it cannot, refused, and not taken for an empty one."""
    body = b'{"title": "in chunks"}'
    answer = bench.client.post("/api/conversations", **chunked(body, understood=True))
    assert answer.get_json()["title"] == "in chunks"
    bench.refuses(400, None, "POST", "", **chunked(body, understood=False))


def test_content_types_that_are_not_json(bench):
    """415, also for what would parse as JSON; a compressed body too."""
    for kind in (
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "application/jsonp",
        "x",
    ):
        bench.refuses(415, None, "POST", "", data=b'{"title": "x"}', content_type=kind)
    bench.refuses(415, None, "POST", "", data=b'{"title": "x"}')
    for coding in ("gzip", "br", "deflate", "gzip, gzip", "x"):
        packed = gzip.compress(b'{"title": "x"}')
        bench.refuses(415, None, "POST", "", data=packed, content_type=JSON, headers={"Content-Encoding": coding})


def test_content_types_that_are_json(bench):
    """With parameters, in capitals, and with a suffix."""
    for kind in ("application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.api+json"):
        answer = bench.client.post("/api/conversations", data=b'{"title": "x"}', content_type=kind)
        assert answer.status_code == 201


def test_methods_are_not_overridden(bench):
    """Whatever a header, a parameter or a member says."""
    names = ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")
    headers = dict.fromkeys(names, "DELETE")
    assert bench.client.get(f"/api/conversations/{bench.chat}?_method=DELETE", headers=headers).status_code == 200
    bench.refuses(405, None, "POST", "/{chat}?_method=DELETE", headers=headers, json={"_method": "DELETE"})
    assert bench.client.get(f"/api/conversations/{bench.chat}").status_code == 200


def test_unknown_methods(bench, subtests):
    """405, or the host's own answer; never done."""
    before = bench.rows()
    for method in ("TRACE", "BREW", "PROPFIND", "get"):
        with subtests.test(method):
            assert bench.client.open(f"/api/conversations/{bench.chat}", method=method).status_code in (200, 405)
            assert bench.rows() == before


def test_idempotency_keys_that_are_none(bench, subtests):
    """400, and the request is not done."""
    for key in ("", " ", "k" * 256, "k" * 10_000, "two words", "é", "\t", "a\x7f", "\x80"):
        with subtests.test(key=key[:300]):
            headers = {"Idempotency-Key": key}
            bench.refuses(400, None, "POST", "", json={"title": "x"}, headers=headers)
            bench.refuses(400, None, "POST", "/{chat}/messages", json={"content": "x"}, headers=headers)


def test_an_idempotency_key_for_two_requests(bench):
    """422 for the second, and for the first with another query; a refused request leaves its key free."""
    key = {"Idempotency-Key": "k"}
    bench.refuses(422, "title", "POST", "", json={"title": 1}, headers=key)
    assert bench.client.post("/api/conversations", json={"title": "a"}, headers=key).status_code == 201
    for path, body in (("", {"title": "b"}), ("?x=1", {"title": "a"}), ("", {"title": "a", "starred": False})):
        assert bench.refuses(422, None, "POST", path, json=body, headers=key)["code"] == "idempotency_key_reused"


NO_TAGS = ["", "x", "1-1", '"', '"a"b', '"a" "b"', "*, *", 'w/"', "\x80", ",", '"a",', '"' * 4001, "1" * 9000]


def test_if_match_that_is_no_entity_tag(bench, subtests):
    """400, and nothing is changed."""
    for tag, (method, path) in itertools.product(
        NO_TAGS, (("PATCH", "/{chat}"), ("DELETE", "/{chat}"), ("DELETE", "/{chat}/messages/{message}"))
    ):
        with subtests.test(f"{method} {path}", tag=tag[:10]):
            body = {"json": {"title": "x"}} if method == "PATCH" else {}
            bench.refuses(400, None, method, path, headers={"If-Match": tag}, **body)


def test_if_match_of_another_version(bench):
    """412 with the conversation as it is now; a tag of Bob's conversation is no other."""
    bobs = client_of(bench.app, "bob").get(f"/api/conversations/{bench.secret}").headers["ETag"]
    for tag in ('"1-1"', '""', 'W/"x", "y"', bobs, '"' + "x" * 5000 + '"'):
        for method, body in (("PATCH", {"title": "x"}), ("PUT", {"title": "x"}), ("DELETE", None)):
            extra = {"json": body} if body else {}
            problem = bench.refuses(412, None, method, "/{chat}", headers={"If-Match": tag}, **extra)
            assert problem["current"]["id"] == bench.chat


def test_huge_and_odd_headers(bench):
    """They change nothing; a request id that is no plain one is replaced."""
    for value in ("x" * 100_000, "<script>", "a b", "é", ""):
        answer = bench.client.get("/api/conversations", headers={"X-Request-ID": value, "X-Anything": value})
        assert answer.status_code == 200
        assert answer.headers["X-Request-ID"] != value
        assert len(answer.headers["X-Request-ID"]) == 32
    for name in ("Accept", "Accept-Language", "If-None-Match", "Range", "If-Modified-Since", "If-Range", "Forwarded"):
        answer = bench.client.get(f"/api/conversations/{bench.chat}", headers={name: "\x80garbage\x7f," * 1000})
        assert answer.status_code == 200, name


def test_bad_ratings(bench, subtests):
    """Only up, down, none, and whole numbers from -10 to 10."""
    for value in ("UP", "", 11, -11, 1.5, True, [], {}, "1", 10**400):
        with subtests.test(value=value):
            bench.refuses(422, "rating", "PUT", "/{chat}/messages/{message}/feedback", json={"rating": value})
    bench.refuses(
        422, "comment", "PUT", "/{chat}/messages/{message}/feedback", json={"rating": 1, "comment": "x" * 10_001}
    )


def test_bad_versions(bench, subtests):
    """A version is a whole number."""
    for value in (-1, 1.0, "1", True, [], 2**63, 10**400):
        with subtests.test(value=value):
            bench.refuses(422, "expected_version", "PATCH", "/{chat}", json={"title": "x", "expected_version": value})
            bench.refuses(422, "base_version", "PUT", "/{chat}", json={"title": "x", "base_version": value})
            body = {"content": "x", "expected_version": value}
            bench.refuses(422, "expected_version", "PATCH", "/{chat}/messages/{message}", json=body)


def test_any_json_value_comes_back_equal(bench, subtests):
    """Bare numbers too, which a column of type JSON on SQLite would rewrite."""
    names = ("action_params", "action_result", "component_data")
    for value in (0, -1, 2**63, 10**300, 0.1, 1e300, 1e-300, True, False, "", "1", "null", [], {}, [1.0]):
        with subtests.test(value=value):
            body = {"content": "x", **dict.fromkeys(names, value)}
            saved = bench.client.post(f"/api/conversations/{bench.chat}/messages", json=body).get_json()[0]
            read = bench.client.get(f"/api/conversations/{bench.chat}/messages/{saved['id']}").get_json()
            for message in (saved, read):
                for name in names:
                    assert (message[name], type(message[name])) == (value, type(value))
