"""The checks of `doctor`: the database, its tables, the settings and the cache."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from flask import Flask

from ..errors import ConversationsError
from . import database, redis, settings
from .finding import FAIL, OK, WARN, Finding

if TYPE_CHECKING:
    from ..state import State


def examine(app: Flask, state: State) -> Iterator[Finding]:
    """A finding for each check, one after the other as they are made."""
    yield from database.examine(state)
    yield from settings.examine(app, state)
    yield from _cache(state)


def _cache(state: State) -> Iterator[Finding]:
    """The settings of the cache, and its Redis."""
    try:
        cache = getattr(state.backend, "cache", None)
    except ConversationsError:
        # reported already, by the checks of the database
        return
    if cache is None and state.config.redis_url and state.config.cache is not False:
        yield Finding(
            "cache",
            FAIL,
            "CONVERSATIONS_REDIS_URL is invalid, so there is no cache. The log of the start lists the valid forms.",
        )
        return
    if cache is None:
        yield Finding(
            "cache", OK, "There is none: everything is read from the database. Set CONVERSATIONS_REDIS_URL to have one."
        )
        return
    if state.config.cache_limit < state.config.history_limit:
        yield Finding(
            "cache limit",
            WARN,
            f"The cache keeps {state.config.cache_limit} messages and a history has {state.config.history_limit}: those of longer "
            "conversations come from the database. Set CONVERSATIONS_CACHE_LIMIT to CONVERSATIONS_HISTORY_LIMIT or more.",
        )
    yield from redis.examine(cache.connect, state.config)
