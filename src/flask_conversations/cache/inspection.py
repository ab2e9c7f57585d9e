"""The content of a key of the cache, to compare it with the database."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from redis.exceptions import RedisError, ResponseError

from . import entries
from .clients import Client

_OWNER = re.compile(rb'"_o":"([0-9a-f]{32})"')


@dataclasses.dataclass(frozen=True)
class Inspection:
    """The content of one key."""

    state: str
    """`absent`, `reserved`, `leased`, `entry` or `corrupt`."""
    version: int = 0
    rev: int = 0
    owner: str = ""
    messages: tuple[dict[str, Any], ...] = ()
    """The newest first."""


def inspect_key(client: Client, key: str, conversation_id: str) -> Inspection | None:
    """Read *key*; None if Redis does not answer."""
    try:
        elements = [one if isinstance(one, bytes) else str(one).encode() for one in client.lrange(key, 0, -1)]
    except ResponseError as error:
        return Inspection("corrupt") if "WRONGTYPE" in str(error) else None
    except (RedisError, OSError):
        return None
    if not elements:
        return Inspection("absent")
    for start, state in ((b'{"_r":', "reserved"), (b'{"_l":', "leased")):
        if elements[0].startswith(start):
            return Inspection(state)
    owner = _OWNER.search(elements[0])
    try:
        entry = entries.read(elements, conversation_id, owner[1].decode() if owner else "")
    except entries.CorruptEntry:
        return Inspection("corrupt")
    return Inspection("entry", entry.version, entry.rev, owner[1].decode() if owner else "", tuple(entry.messages()))


def size(client: Client, key: str) -> int | None:
    """The bytes that *key* takes in Redis, overhead included; None if they are unknown."""
    try:
        found = client.memory_usage(key, samples=0)
    except (RedisError, OSError):
        return None
    return None if found is None else int(found)
