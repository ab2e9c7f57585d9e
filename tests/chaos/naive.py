"""The control: the cache as it is usually written. COMMIT, LPUSH, LTRIM; a read takes the list, or SELECTs and RPUSHes.

It has to be caught by the very judge that finds nothing wrong with ours.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any

import redis

LIMIT = 15
TTL = 3600


class NaiveCache:
    """Saves and reads conversations of *service*, which has no cache, with a list in Redis beside it."""

    def __init__(self, service: Any, client: redis.Redis) -> None:
        self.service, self.client = service, client

    def appended(self, conversation_id: str, messages: list[dict[str, Any]]) -> None:
        """After the commit."""
        key = self._key(conversation_id)
        try:
            for message in messages:
                self.client.lpush(key, json.dumps([message["id"], message["content"]]))
            self.client.ltrim(key, 0, LIMIT - 1)
            self.client.expire(key, TTL)
        except redis.RedisError:
            pass

    def changed(self, conversation_id: str) -> None:
        """After a commit that did anything else."""
        with contextlib.suppress(redis.RedisError):
            self.client.delete(self._key(conversation_id))

    def newest(self, conversation_id: str, limit: int) -> list[list[str]]:
        """The newest *limit* messages, the oldest first, each its id and content."""
        key = self._key(conversation_id)
        try:
            found = self.client.lrange(key, 0, limit - 1)
            if found:
                return [json.loads(each) for each in reversed(found)]
        except (redis.RedisError, ValueError):
            found = []
        page = self.service.get_messages(conversation_id, limit=LIMIT)["messages"]
        elements = [[message["id"], message["content"]] for message in page]
        try:
            if elements:
                self.client.rpush(key, *(json.dumps(each) for each in reversed(elements)))
                self.client.expire(key, TTL)
        except redis.RedisError:
            pass
        return elements[-limit:]

    @staticmethod
    def _key(conversation_id: str) -> str:
        return f"conversation:{conversation_id}:messages"
