"""A seeded stream of requests, good and bad, drawn from the OpenAPI description, to be played against several apps alike."""

from __future__ import annotations

import dataclasses
import json
import random
import re
import uuid
from typing import Any
from urllib.parse import quote, urlencode

from flask_conversations.api.case import snake

USERS = ("ada", "ada", "ada", "bob", "bob", None)
"""Who asks; None is a stranger."""

STRINGS = ["", " ", "\t\n", "0", "null", "New Conversation", "a" * 64, "a" * 65, "b" * 255, "c" * 256, "d" * 5000]
STRINGS += ["\x00", "a\x00b", "\ud800", "x\udfff", "\x1b[2J", "\x7f", "\u2028", "\ufeff", "\U0010ffff", "é", "e\u0301"]
STRINGS += [
    "😀" * 90,
    "שלום",
    "١٢",
    "１２",
    "' OR 1=1 --",
    '"; DROP TABLE x',
    "%",
    "_",
    "\\",
    "${x}",
    "{{7*7}}",
    "<script>",
]
NUMBERS = [
    -1,
    0,
    1,
    2,
    100,
    101,
    2**31,
    2**53 + 1,
    2**63 - 1,
    2**63,
    -(2**63) - 1,
    10**300,
    10**400,
    0.5,
    -0.0,
    1e300,
    1e-300,
]
TIMES = ["2026-11-21T10:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999-14:00", "0001-01-01T00:00:00"]
TIMES += ["2026-02-30T00:00:00Z", "2026-11-21", "2026-11-21T24:00:00Z", "2026-11-21 10:00:00.123456789+0530", "now"]
QUERY = [
    "",
    " ",
    "-1",
    "0",
    "1",
    "2",
    "1e3",
    "１２",
    str(10**19),
    "9" * 500,
    " 5",
    "+5",
    "0x10",
    "1.0",
    "true",
    "TRUE",
    "null",
    "\x00",
]
QUERY += ["~", "~abc", "~eyJhIjoxfQ.sig", "a" * 5000, "é", "9223372036854775807", "9223372036854775808", "None", "[]"]
ODD_IDS = [
    "{<id>}",
    "urn:uuid:<id>",
    "<ID>",
    "<hex>",
    "<id>%00",
    "<id>%2Fx",
    "..%2F<id>",
    ".",
    "..",
    "...",
    "%20<id>",
    "<id>%20",
]
ODD_IDS += [
    "a" * 5000,
    "é",
    "%F0%9F%98%80",
    "%FF",
    "nobody's",
    "0",
    "-1",
    "null",
    "00000000-0000-0000-0000-000000000000",
    "~",
]
TAGS = ["QUERY", "TRACE", "PROPFIND", "BREW", "POST", "PUT", "PATCH", "DELETE", "GET", "HEAD", "OPTIONS"]
ENTITY_TAGS = [
    "*",
    '""',
    '"',
    "garbage",
    'W/"1-1"',
    '"1-1", "2-2"',
    '"a"b',
    "\xff",
    "," * 1000,
    '"' + "x" * 5000 + '"',
    "1",
]
KEYS = ["", " ", "k" * 255, "k" * 256, "é", "two words", "\t", "\x7f"]


@dataclasses.dataclass
class Call:
    """One request; `<<c3>>` and the like stand for what each app answered earlier in this place."""

    number: int
    user: str | None
    method: str
    path: str
    operation: dict[str, Any] | None
    query: str = ""
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    body: str | None = None
    content_type: str | None = None
    raw: bytes | None = None
    """Sent instead of `body`, when no text would do."""

    def __str__(self) -> str:
        body = repr(self.raw if self.raw is not None else self.body)
        return f"#{self.number} {self.user}: {self.method} {self.path}?{self.query} {self.headers} {body[:2000]}"


class Seen:
    """What one app has answered so far: ids, cursors and entity tags, by the order in which they came."""

    def __init__(self) -> None:
        self.conversations: list[str] = []
        self.owners: list[str | None] = []
        self.gone: set[str] = set()
        """The conversations and messages that were deleted, as marks."""
        self.messages: list[tuple[int, str]] = []
        self.cursors: list[str] = []
        self.etags: list[str] = []
        self._places: dict[str, int] = {}
        self._noted: set[str] = set()

    def learn(self, user: str | None, answer: Any, etag: str | None) -> None:
        """Remember what *answer* shows to *user*."""
        if etag:
            self.etags = [*self.etags[-200:], etag]
        self._walk(answer)
        self.owners += [user] * (len(self.conversations) - len(self.owners))

    def lose(self, path: str) -> None:
        """Remember that what *path* names was deleted."""
        self.gone.update(re.findall(r"<<[cm]\d+>>", path)[-1:])

    def _walk(self, value: Any) -> None:
        if isinstance(value, list):
            for one in value:
                self._walk(one)
        elif isinstance(value, dict):
            if isinstance(value.get("next_cursor"), str):
                self.cursors = [*self.cursors[-200:], value["next_cursor"]]
            if "title_source" in value and value["id"] not in self._places:
                self._places[value["id"]] = len(self.conversations)
                self.conversations.append(value["id"])
            elif "seq" in value and value["conversation_id"] in self._places and value["id"] not in self._noted:
                self._noted.add(value["id"])
                self.messages.append((self._places[value["conversation_id"]], value["id"]))
            for name in ("conversation", "conversations", "messages", "current"):
                self._walk(value.get(name))

    def shape(self) -> tuple[int, ...]:
        """What must be alike in all apps."""
        return len(self.conversations), len(self.messages), len(self.cursors), len(self.etags)

    def filled(self, text: str) -> str:
        """*text* with this app's values in place of the marks."""
        return re.sub(r"<<(\w)(\d+)>>", self._value, text)

    def _value(self, mark: re.Match[str]) -> str:
        place = int(mark[2])
        if mark[1] == "m":
            return self.messages[place][1]
        if mark[1] == "u":  # a cursor cut short
            return self.cursors[place][:-5]
        return {"c": self.conversations, "k": self.cursors, "e": self.etags}[mark[1]][place]


class Stream:
    """Draws requests from a description. *seen* is that of any of the apps: they agree in its shape."""

    def __init__(self, document: dict[str, Any], seed: int, seen: Seen) -> None:
        self.random = random.Random(seed)
        self.document, self.seen, self.prefix = document, seen, document["servers"][0]["url"]
        self.count = 0
        self.operations = [
            (method.upper(), path, operation)
            for path, operations in document["paths"].items()
            for method, operation in operations.items()
        ]
        self.weights = [self._weight(operation) for *_, operation in self.operations]
        self.user: str | None = None

    @staticmethod
    def _weight(operation: dict[str, Any]) -> int:
        often = {"create_conversation": 6, "save_message": 12, "save_conversation": 6, "update_conversation": 5}
        often |= {"list_conversations": 5, "get_conversation": 4, "list_messages": 5, "update_message": 4}
        public = {"get_docs_page": 0, "get_static_file": 1, "get_description": 0}
        return (often | public).get(operation["operationId"], 2)

    def draw(self) -> Call:
        """The next request."""
        self.count += 1
        self.user = self.random.choice(USERS) if self.random.random() < 0.4 else "ada"
        method, path, operation = self.random.choices(self.operations, self.weights)[0]
        call = Call(self.count, self.user, method, self._path(path), operation)
        self._fill_query(call, operation)
        self._fill_headers(call, operation)
        if "requestBody" in operation:
            self._fill_body(call, operation["requestBody"]["content"]["application/json"]["schema"])
        if self.random.random() < 0.02:
            call.method, call.operation = self.random.choice(TAGS), None
        return call

    # -- paths, queries, headers --------------------------------------------------------------------------------------
    def _path(self, path: str) -> str:
        conversation, message = self._pair()
        file = self.random.choice(["docs.css", "docs.html", "..", "x.py"])
        branch = self.random.choice(["main", "branch-2", "in%20winter", self._id(message)])
        values = {"conversation_id": self._id(conversation), "message_id": self._id(message), "filename": file}
        values["branch"] = branch
        return self.prefix + re.sub(r"\{(\w+)\}", lambda found: values[snake(found[1])], path)

    def _pair(self) -> tuple[str, str]:
        """A conversation and a message of it, mostly the user's own."""
        for _ in range(8):
            place = self._recent(len(self.seen.messages))
            if self.seen.messages and self.random.random() < 0.9:
                conversation = self.seen.messages[place][0]
                pair = f"<<c{conversation}>>", f"<<m{place}>>"
                if self.seen.owners[conversation] == self.user and not self.seen.gone & {*pair}:
                    return pair
        return self._conversation(), self._message()

    def _id(self, mark: str) -> str:
        if self.random.random() < 0.95:
            return mark
        odd = self.random.choice(ODD_IDS)
        known = str(uuid.UUID(int=self.random.getrandbits(128), version=4))
        odd = odd.replace("<hex>", known.replace("-", "")).replace("<ID>", known.upper()).replace("<id>", known)
        return odd if "%" in odd else quote(odd)

    def _recent(self, length: int) -> int:
        return max(0, length - 1 - int(self.random.expovariate(1 / 20)))

    def _conversation(self) -> str:
        return f"<<c{self._recent(len(self.seen.conversations))}>>" if self.seen.conversations else "none"

    def _message(self) -> str:
        return f"<<m{self._recent(len(self.seen.messages))}>>" if self.seen.messages else "none"

    def _fill_query(self, call: Call, operation: dict[str, Any]) -> None:
        pairs = []
        for parameter in operation["parameters"]:
            parameter = self._resolved(parameter)
            if parameter["in"] == "query" and self.random.random() < 0.25:
                pairs.append((parameter["name"], self._query_value(parameter)))
        if self.random.random() < 0.03:
            pairs.append((self.random.choice(["unknown", "limit", "limit[]", "LIMIT", "_method"]), "DELETE"))
        call.query = urlencode(pairs, safe="<>")

    def _query_value(self, parameter: dict[str, Any]) -> str:
        if self.random.random() < 0.3:
            return self.random.choice(QUERY)
        if parameter["name"] in ("cursor", "before", "after"):
            return self._cursor(parameter["name"])
        value = self._value(parameter["schema"], parameter["name"])
        return {True: "true", False: "false"}[value] if isinstance(value, bool) else _encodable(str(value))

    def _cursor(self, name: str) -> str:
        if name != "cursor" and self.random.random() < 0.5:
            return self.random.choice([self._message(), str(self.random.randrange(9))])
        if not self.seen.cursors:
            return "~"
        mark = f"<<k{self._recent(len(self.seen.cursors))}>>"
        return self.random.choice([mark, mark, mark, mark + "x", "~" + mark, mark.replace("k", "u")])

    def _fill_headers(self, call: Call, operation: dict[str, Any]) -> None:
        names = {self._resolved(parameter)["name"] for parameter in operation["parameters"]}
        if names & {"If-Match", "If-None-Match"} and self.random.random() < 0.3:
            name = "If-Match" if "If-Match" in names else "If-None-Match"
            call.headers[name] = self._entity_tag()
        if "Idempotency-Key" in names and self.random.random() < 0.2:
            bad = self.random.random() < 0.2
            call.headers["Idempotency-Key"] = self.random.choice(KEYS) if bad else f"key-{self.random.randrange(40)}"
        if self.random.random() < 0.02:
            call.headers["X-HTTP-Method-Override"] = call.headers["X-Method-Override"] = "DELETE"
        if self.random.random() < 0.02:
            call.headers["X-Request-ID"] = self.random.choice(["mine-1", "<x>", "a" * 9000, "\xe9"])

    def _entity_tag(self) -> str:
        if self.seen.etags and self.random.random() < 0.7:
            mark = f"<<e{len(self.seen.etags) - 1 - min(len(self.seen.etags) - 1, self.random.randrange(5))}>>"
            return self.random.choice([mark, mark, "W/" + mark, mark + ', "x"'])
        return self.random.choice(ENTITY_TAGS)

    # -- bodies -------------------------------------------------------------------------------------------------------
    def _fill_body(self, call: Call, schema: dict[str, Any]) -> None:
        body = self._value(schema)
        luck = self.random.random()
        if luck < 0.2:
            body = self._spoilt(body)
        call.content_type = "application/json"
        call.body = _json(body)
        if luck > 0.96:
            self._break(call, call.body)
        if self.random.random() < 0.01:
            kinds = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "application/xml"]
            call.content_type = self.random.choice(kinds)

    def _break(self, call: Call, text: str) -> None:
        """A body that is no JSON, or JSON that no route should take."""
        broken: list[bytes] = [b"", b"{", b"[]", b"null", b'"x"', b"1", b"\xef\xbb\xbf{}", b'{"title":"\xff"}', b"{}{}"]
        broken += [b'{"metadata":' + b"[" * 70 + b"]" * 70 + b"}", b'{"metadata":{"a":' * 2000, b"[" * 100_000]
        broken += [b'{"metadata":{"a":NaN}}', b'{"metadata":{"a":-Infinity}}', b'{"metadata":{"a":1e999}}', b"{'a':1}"]
        broken += [b'{"metadata":{"a":' + b"9" * 5000 + b"}}", b'{"title":"a","title":"b"}', b'{"title":"a",}', b"\x00"]
        broken += [text.encode()[: len(text) // 2], text.encode("utf-16")]
        call.raw, call.body = self.random.choice(broken), None

    def _spoilt(self, body: Any) -> Any:
        """*body* with one member lost, foreign or of another type."""
        if not isinstance(body, dict):
            return self._anything()
        names = list(body)
        kind = self.random.randrange(4)
        if kind == 0:
            foreign = [
                "user_id",
                "org_id",
                "owner",
                "seq",
                "version",
                "deleted_at",
                "x",
                "__proto__",
                "a\x00b",
                "\ud800",
                "",
            ]
            return {**body, self.random.choice(foreign): self._anything()}
        if not names:
            return {"x": 1}
        name = self.random.choice(names)
        if kind == 1:
            return {other: value for other, value in body.items() if other != name}
        if kind == 2 and isinstance(body[name], (dict, list)):
            return {**body, name: self._spoilt_inside(body[name])}
        return {**body, name: self._anything()}

    def _spoilt_inside(self, value: Any) -> Any:
        if isinstance(value, dict):
            return self._spoilt(value)
        if not value:
            return [self._anything()]
        place = self.random.randrange(len(value))
        return [*value[:place], self._spoilt(value[place]), *value[place + 1 :]]

    def _anything(self) -> Any:
        texts, numbers = self.random.choice(STRINGS), self.random.choice(NUMBERS)
        nested: Any = 1
        for _ in range(self.random.choice([1, 2, 63, 64, 65, 200])):
            nested = [nested] if self.random.random() < 0.5 else {"a": nested}
        return self.random.choice(
            [texts, texts, numbers, numbers, None, True, False, [], {}, [texts], {"a": texts}, nested]
        )

    def _value(self, schema: dict[str, Any], name: str = "") -> Any:
        schema = self._resolved(schema)
        special = self._special(snake(name))
        if special is not None:
            return special
        if "oneOf" in schema:
            return self._value(self.random.choice(schema["oneOf"]), name)
        if "enum" in schema:
            return self.random.choice(schema["enum"])
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = self.random.choice(kind)
        return getattr(self, f"_{kind}")(schema) if kind else self._any_value()

    def _special(self, name: str) -> Any:
        """Members that mean something get a meaning, mostly."""
        if name == "role":
            return self.random.choice(["user"] * 5 + ["assistant"] * 5 + ["system", "tool"])
        if name == "content":
            return self._content()
        if name == "parent_id":
            return self.random.choice([None, self._message(), self._message(), "nobody"])
        if name in ("id", "client_id"):
            return self._own_id(name)
        if name in ("base_version", "expected_version", "min_version"):
            return self.random.randrange(12)
        return None

    def _own_id(self, name: str) -> Any:
        mine = f"{name}-{self.random.randrange(60)}"
        others = [
            None,
            None,
            mine,
            mine,
            mine,
            str(uuid.UUID(int=self.random.getrandbits(128), version=4)),
            self._conversation(),
        ]
        return self.random.choice(
            [*others, self._message(), "search", "OPENAPI.JSON", "...", "urn:uuid:x", "{x}", "a b"]
        )

    def _content(self) -> Any:
        """Text that says whose it is, so that it can be missed where it must not turn up."""
        said = f"{self.user} says {self.random.randrange(1000)}"
        text = {"type": "text", "text": said}
        image = {"type": "image_url", "image_url": {"url": "https://img.example/1"}, "some_key": [1.0, 1e300]}
        odd = self.random.choice(["\n\n  two\nlines", "😀" * 70, "a" * 200, "word " * 50, "", "   "])
        return self.random.choice([said, said, said, said, said + odd, odd, [text], [text, image], [image], []])

    def _string(self, schema: dict[str, Any]) -> str:
        if schema.get("format") == "date-time":
            return self.random.choice(TIMES)
        if self.random.random() < 0.05:
            return self.random.choice(STRINGS)
        return self.random.choice(["bees", "honey", "Zoë", "summer 2026", "1", "x" * schema.get("maxLength", 3)])[:300]

    def _integer(self, schema: dict[str, Any]) -> int:
        least, most = schema.get("minimum", 0), schema.get("maximum", 2**63 - 1)
        return self.random.choice([least, least + 1, least + 2, min(most, 100), min(most, 2**31), most])

    def _number(self, schema: dict[str, Any]) -> float:
        return self.random.choice([0, 0.5, 12.25, 1e15, 3])

    def _boolean(self, schema: dict[str, Any]) -> bool:
        return self.random.random() < 0.5

    def _null(self, schema: dict[str, Any]) -> None:
        return None

    def _array(self, schema: dict[str, Any]) -> list[Any]:
        size = self.random.choice([0, 1, 1, 2, 3])
        return [self._value(schema.get("items", {})) for _ in range(size)]

    def _object(self, schema: dict[str, Any]) -> dict[str, Any]:
        if "properties" not in schema:
            return self.random.choice(
                [{}, {"a": 1}, {"a_b": {"c_d": [1, 2.5, None, True]}}, {"é": "ü", "": ""}, {"n": 1e300}]
            )
        required = schema.get("required", ())
        return {
            name: self._value(member, name)
            for name, member in schema["properties"].items()
            if name in required or self.random.random() < 0.2
        }

    def _any_value(self) -> Any:
        return self.random.choice([None, True, 0, -1.5, "x", [1, [2]], {"k": {"k": None}}])

    def _resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in schema:
            found: Any = self.document
            for step in schema["$ref"].removeprefix("#/").split("/"):
                found = found[step]
            schema = found
        return schema


def _json(value: Any) -> str:
    """JSON with every character escaped that UTF-8 could not carry; the marks stay legible."""
    return json.dumps(value, ensure_ascii=True)


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
