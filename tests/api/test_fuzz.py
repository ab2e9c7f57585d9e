"""The same random requests, good and bad, to an app on SQLite and one on PostgreSQL: both answer alike, and as described."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from flask_conversations.api.case import to_snake
from flask_conversations.schemas import canonical
from tests.api.judge import Judge
from tests.api.requests_at_random import Call, Seen, Stream
from tests.infra.apps import Apps, client_of
from tests.infra.databases import Sqlite

REQUESTS, FEW_REQUESTS = 2600, 700
"""In each stream, to each of two databases; a few where there is no time for all."""
SEEDS = [1, 4, *(pytest.param(seed, marks=pytest.mark.long) for seed in (2, 3))]
"""Those that divide by 4 speak camelCase."""
CAMEL = {
    "CONVERSATIONS_JSON_CASE": "camel",
    "CONVERSATIONS_RESOURCE": "chat-threads",
    "CONVERSATIONS_URL_PREFIX": "/v1",
}
AUDITED = 0.05
"""Of how many requests it is looked up that a refusal has stored nothing."""

MASKED = {"id", "conversation_id", "parent_id", "etag", "checksum", "next_cursor", "request_id", "message_id"}
MADE_UP = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")


class Player:
    """Sends calls to one app, and remembers what it answered."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.seen = Seen()
        self.clients = {user: client_of(app, user) for user in ("ada", "bob", None)}
        state = app.extensions["flask_conversations"]
        where = f"{state.config.url_prefix}/{state.config.resource}/openapi.json"
        document = self.clients[None].get(where).get_json()
        self.document, self.judge = document, Judge(document)

    def play(self, call: Call) -> tuple[int, Any]:
        """Status and normalised body of the answer to *call*."""
        answer = self._send(call)
        if answer.mimetype == "text/html" and answer.status_code in (404, 308, 405):
            return answer.status_code, "no route of ours"
        if call.method == "HEAD" or (call.operation is None and answer.status_code in (204, 405)):
            assert not answer.data or answer.status_code == 405
            return answer.status_code, answer.headers.get("Allow")
        body = self.judge.judge(call.operation and call.operation["operationId"], answer)
        self._check_secrets(call, answer.get_data(as_text=True))
        body = to_snake(body)
        if answer.status_code < 400:
            self.seen.learn(call.user, body, answer.headers.get("ETag"))
        else:
            self.seen.learn(call.user, body.get("current"), None)
        if answer.status_code == 200 and call.method == "DELETE":
            self.seen.lose(call.path)
        return answer.status_code, _normal(body)

    def _send(self, call: Call) -> Any:
        fill = self.seen.filled
        data = call.raw if call.raw is not None else fill(call.body).encode() if call.body is not None else None
        return self.clients[call.user].open(
            fill(call.path),
            method=call.method,
            query_string=fill(call.query),
            headers={name: fill(value) for name, value in call.headers.items()},
            data=data,
            content_type=call.content_type,
        )

    def _check_secrets(self, call: Call, text: str) -> None:
        others = {"ada", "bob"} - {call.user}
        assert not [user for user in others if f"{user} says" in text], "the answer shows another user's message"

    def rows(self) -> dict[str, int]:
        """How many rows there are, and the sum of all versions."""
        with self.app.app_context():
            tables = self.app.db.metadata.tables
            conversations, messages = tables["conversations"], tables["conversation_messages"]
            queries = {
                **{
                    name: sa.select(sa.func.count()).select_from(tables[name])
                    for name in tables
                    if "schema" not in name
                },
                "versions": sa.select(sa.func.sum(conversations.c.version)),
                "edits": sa.select(sa.func.sum(messages.c.version)),
            }
            found = {name: self.app.db.session.scalar(query) for name, query in queries.items()}
            self.app.db.session.rollback()
            return found

    def stored(self) -> Any:
        """All that is stored, normalised; what is counted and summed is right."""
        found = []
        for user in ("ada", "bob"):
            service = self.app.conversations.as_user(user, app=self.app)
            for own_id in self.seen.conversations:
                if service.conversation_exists(own_id):
                    found.append(_normal(_checked(service, own_id, self._count(own_id))))
        return found

    def _count(self, own_id: str) -> int:
        c = self.app.db.metadata.tables["conversation_messages"].c
        with self.app.app_context():
            query = sa.select(sa.func.count()).where(c.conversation_id == own_id, c.deleted_at.is_(None))
            return int(self.app.db.session.scalar(query))


def _checked(service: Any, own_id: str, count: int) -> Any:
    """A conversation with all messages of its branch, whose counters, checksum and order are right."""
    conversation = service.get_conversation(own_id)
    messages, before = [], None
    while True:
        page = service.get_messages(own_id, limit=100, before=before)
        messages = page["messages"] + messages
        before = page["next_cursor"]
        if before is None:
            break
    assert conversation["message_count"] == count
    if len(messages) == count:  # else there are branches, of which a page shows one
        assert canonical.checksum(messages) == conversation["checksum"]
    places = [message["seq"] for message in messages]
    assert places == sorted(set(places))
    ids = {message["id"] for message in messages}
    assert all(message["parent_id"] is None or message["parent_id"] in ids for message in messages)
    return {**conversation, "messages": messages}


def _normal(value: Any, name: str = "") -> Any:
    """*value* without what differs from app to app: made-up ids, times and what is computed from them."""
    if isinstance(value, dict):
        return {MADE_UP.sub("<id>", key): _normal(one, key) for key, one in value.items()}
    if isinstance(value, list):
        return [_normal(one, name) for one in value]
    if isinstance(value, str):
        value = MADE_UP.sub("<id>", value)
    masked = name in MASKED or name.endswith("_at")
    return type(value).__name__ if masked else value


@pytest.fixture
def twins(request: pytest.FixtureRequest, tmp_path: Path, sqlite_templates: dict[str, Path]) -> Iterator[list[Player]]:
    """A player on SQLite and, if there is one, one on PostgreSQL."""
    databases: list[Any] = [Sqlite(tmp_path, sqlite_templates)]
    if "postgresql" not in request.config.getoption("--without"):
        databases.append(request.getfixturevalue("postgresql_database"))
    makers = [Apps(database) for database in databases]
    yield [Player(make(**(CAMEL if request.getfixturevalue("seed") % 4 == 0 else {}))) for make in makers]
    for make in makers:
        make.close()
    if len(databases) == 2:
        databases[1].clean()


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_random_requests(twins, seed, long, record_property):
    """No 5xx, nothing undescribed, nothing stored by a refusal, nothing shown to others, the same on both databases."""
    stream = Stream(twins[0].document, seed, twins[0].seen)
    requests = REQUESTS if long else FEW_REQUESTS
    audit = random.Random(seed)
    statuses: Counter[int] = Counter()
    for _ in range(requests):
        call = stream.draw()
        audited = audit.random() < AUDITED
        before = [player.rows() for player in twins] if audited else []
        try:
            outcomes = [player.play(call) for player in twins]
            assert all(outcome == outcomes[0] for outcome in outcomes), "\n".join(map(json.dumps, outcomes))
            assert len({player.seen.shape() for player in twins}) == 1, [player.seen.shape() for player in twins]
            if audited and outcomes[0][0] >= 400:
                assert [player.rows() for player in twins] == before, "a refused request has stored something"
        except Exception as error:
            raise AssertionError(f"seed {seed}, {call}\n{error}") from error
        statuses[outcomes[0][0]] += 1
    stored = [json.dumps(player.stored()) for player in twins]
    assert all(one == stored[0] for one in stored)
    assert statuses[201] > requests / 40
    assert statuses[200] > requests / 10
    record_property("requests", requests * len(twins))
    print(f"{requests} requests to each of {len(twins)} databases: {dict(sorted(statuses.items()))}")
