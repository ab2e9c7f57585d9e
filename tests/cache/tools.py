"""What tests of the cache share: a look into Redis that trusts no client, and what must hold of it at rest."""

from __future__ import annotations

import json
from typing import Any

import redis
from flask import Flask

from flask_conversations.cache import owner_tag

from ..infra.service import messages_json
from ..service.tools import sql

USER, ASSISTANT = "user", "assistant"
HEADER = {"_v", "_e", "_t", "_s", "_c", "_o", "_w", "_k", "_d"}
FORMATS = ("openai", "responses", "anthropic", "langchain", "ui")


def said(*texts: str) -> list[dict[str, Any]]:
    """Messages of a user, one for each text."""
    return [{"role": USER, "content": text} for text in texts]


def key(conversation_id: str, prefix: str = "") -> str:
    return f"{prefix}conversation:{{{conversation_id}}}:messages"


def as_user(app: Flask, user: str = "ada", org: str | None = None) -> Any:
    return app.conversations.as_user(user, org, app=app)  # type: ignore[attr-defined]


def cache_of(app: Flask) -> Any:
    return app.extensions["flask_conversations"].cache


def counted(app: Flask, *names: str) -> Any:
    """Counters of the app's cache: one, or several as a list."""
    stats = cache_of(app).stats()
    return stats[names[0]] if len(names) == 1 else [stats[name] for name in names]


class Stored:
    """One Redis, as redis-cli shows it."""

    def __init__(self, client: redis.Redis, prefix: str = "") -> None:
        self.client, self.prefix = client, prefix

    def key(self, conversation_id: str) -> str:
        return key(conversation_id, self.prefix)

    def texts(self, conversation_id: str) -> list[bytes]:
        return self.client.lrange(self.key(conversation_id), 0, -1)  # type: ignore[return-value]

    def elements(self, conversation_id: str) -> list[dict[str, Any]]:
        return [json.loads(text) for text in self.texts(conversation_id)]

    def contents(self, conversation_id: str) -> list[Any]:
        """What the messages of the entry say, the newest first."""
        return [one["content"] for one in self.elements(conversation_id) if "content" in one]

    def version(self, conversation_id: str) -> int | None:
        """The version of the entry; None without one."""
        found = self.elements(conversation_id)
        return found[0].get("_v") if found else None

    def put_back(self, conversation_id: str, texts: list[bytes], *, ttl: int = 3600) -> None:
        """Write an entry as it was, with an expiry as an entry has it."""
        name = self.key(conversation_id)
        with self.client.pipeline() as pipe:
            pipe.delete(name).rpush(name, *texts).expire(name, ttl).execute()

    def aged(self, texts: list[bytes], seconds: float) -> list[bytes]:
        """The elements as if they had been written *seconds* earlier."""
        return [changed(text, _t=int(json.loads(text)["_t"] - seconds * 1000)) for text in texts]

    @property
    def now_ms(self) -> int:
        seconds, micros = self.client.time()  # type: ignore[misc]
        return int(seconds) * 1000 + int(micros) // 1000

    @property
    def run(self) -> str:
        return str(self.client.info("server")["run_id"])[:12]  # type: ignore[index]


def changed(text: bytes, **header: Any) -> bytes:
    """An element with other values in its header, and otherwise byte for byte as it was."""
    for name, value in header.items():
        old = b'"%s":%s' % (name.encode(), json.dumps(json.loads(text)[name]).encode())
        assert text.count(old) >= 1, name
        text = text.replace(old, b'"%s":%s' % (name.encode(), json.dumps(value).encode()), 1)
    return text


def assert_at_rest(stored: Stored, app: Flask, *, limit: int = 15, ttl: int = 3600) -> int:
    """No call is under way: every key is a right entry with an expiry. How many entries there are.

    *app* is one without a cache: what it says of its database is the truth.
    """
    keys = [name.decode() for name in stored.client.keys("*")]  # type: ignore[union-attr]
    for name in keys:
        conversation_id = name.partition("{")[2].partition("}")[0]
        assert name == stored.key(conversation_id)
        assert stored.client.type(name) == b"list"
        assert 0 < stored.client.pttl(name) <= ttl * 1000, "every key expires"  # type: ignore[operator]
        elements = stored.elements(conversation_id)
        marks = [one for one in elements if "_r" in one or "_l" in one]
        assert not marks, f"a reservation or a lease is left: {marks}"
        check_entry(elements, app, conversation_id, limit)
    return len(keys)


def check_entry(elements: list[dict[str, Any]], app: Flask, conversation_id: str, limit: int) -> None:
    """The entry is the beginning of what the database holds, and says whose it is and of when."""
    rows = sql(
        app,
        "SELECT version, rev, user_id, org_id, status FROM conversations WHERE CAST(id AS TEXT) IN (:a, :b)",
        a=conversation_id,
        b=conversation_id.replace("-", ""),
    )
    assert len(rows) == 1, "an entry of a conversation that is not there"
    row = rows[0]
    assert row.status != "deleted", "an entry of a conversation in the trash"
    truth = as_user(app, row.user_id, row.org_id or None).get_messages(conversation_id, limit=100)["messages"][::-1]
    assert elements[0]["_v"] == row.version
    assert elements[0]["_w"] == row.rev
    assert 1 <= len(elements) <= limit
    if elements[0].get("_empty"):
        assert truth == []
        assert len(elements) == 1
        return
    for element, message in zip(elements, truth, strict=False):
        assert element["_c"] == conversation_id
        assert element["_o"] == owner_tag(row.org_id or None, row.user_id)
        assert element["id"] == message["id"]
        body = {name: value for name, value in element.items() if name not in HEADER}
        assert body == {name: message[name] for name in body}
    assert len(elements) <= len(truth)


def reader_view(
    service: Any, conversation_id: str, limits: tuple[int | None, ...], forms: tuple[str, ...] = FORMATS
) -> dict[str, Any]:
    """Every form in which a reader gets the newest messages of a conversation, as text that shows every difference."""
    found: dict[str, Any] = {}
    for limit in limits:
        for form in forms:
            found[f"{form} {limit}"] = _text(service.get_conversation_history(conversation_id, limit, format=form))
        if limit is not None and 1 <= limit <= 100:
            page = service.get_messages(conversation_id, limit=limit)
            found[f"page {limit}"] = _text(_opened(service, conversation_id, page))
            page = messages_json(service, conversation_id, limit=limit)
            found[f"json {limit}"] = _text(_opened(service, conversation_id, page))
    found["default page"] = _text(_opened(service, conversation_id, service.get_messages(conversation_id)))
    return found


def _opened(service: Any, conversation_id: str, page: dict[str, Any]) -> dict[str, Any]:
    """A page with what its cursor leads to in the place of the cursor, which is another text each time."""
    cursor = page["next_cursor"]
    before = service.get_messages(conversation_id, before=cursor, limit=3)["messages"] if cursor else None
    return {**page, "next_cursor": before and [message["id"] for message in before]}


def _text(found: Any) -> str:
    # as text, since 1 == 1.0 == True
    return json.dumps(found, sort_keys=True)
