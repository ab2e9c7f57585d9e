"""A cache as it is written by hand: the newest messages in a Redis list, pushed after the commit, filled after a miss.

It is quick, and it is what our tests use as a control: writers and readers that meet, a crash or a rollback leave it wrong.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import redis

from .programs import Program

LIMIT, TTL = 15, 3600


class WithRedis:
    """Another program, with the newest messages in Redis. The owner is in the key: a stranger finds nothing there."""

    def __init__(self, program: Program, redis_url: str) -> None:
        self.name = f"{program.name} and redis-py"
        self.program = program
        self.redis_url = redis_url
        self.redis = redis.Redis.from_url(redis_url)

    @contextlib.contextmanager
    def in_thread(self) -> Iterator[WithRedis]:
        with self.program.in_thread() as own:
            yield WithRedis(own, self.redis_url)

    def append(self, user: str, conversation_id: str, role: str, content: str) -> Any:
        saved = self.program.append(user, conversation_id, role, content)
        key = _key(user, conversation_id)
        with self.redis.pipeline(transaction=False) as pipeline:
            pipeline.lpush(key, json.dumps(saved)).ltrim(key, 0, LIMIT - 1).expire(key, TTL).execute()
        return saved

    def newest(self, user: str, conversation_id: str, limit: int) -> list[dict[str, Any]]:
        key = _key(user, conversation_id)
        with self.redis.pipeline(transaction=False) as pipeline:
            found, _ = pipeline.lrange(key, 0, limit - 1).expire(key, TTL).execute()
        if found:
            return [json.loads(text) for text in reversed(found)]
        messages = self.program.newest(user, conversation_id, limit)
        if messages:
            with self.redis.pipeline(transaction=False) as pipeline:
                texts = [json.dumps(message) for message in reversed(messages)]
                pipeline.rpush(key, *texts).expire(key, TTL).execute()
        return messages

    def page(self, user: str, conversation_id: str, limit: int, before: Any) -> list[dict[str, Any]]:
        return self.program.page(user, conversation_id, limit, before)

    def place(self, user: str, conversation_id: str, seq: int) -> Any:
        return self.program.place(user, conversation_id, seq)

    def conversations(self, user: str, limit: int) -> list[dict[str, Any]]:
        return self.program.conversations(user, limit)

    def close(self) -> None:
        self.redis.close()
        self.program.close()


def _key(user: str, conversation_id: str) -> str:
    return f"by-hand:{user}:{{{conversation_id}}}"
