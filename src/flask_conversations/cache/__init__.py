"""The cache in Redis. Its data may be lost at any time; reads then go to the database."""

from __future__ import annotations

import logging

from ..config import Config
from ..errors import ConfigurationError
from .changes import Change, CommitHandle
from .clients import connector
from .core import Cache, Found, Lease
from .entries import CorruptEntry, Entry, owner_tag

__all__ = [
    "Cache",
    "Change",
    "CommitHandle",
    "CorruptEntry",
    "Entry",
    "Found",
    "Lease",
    "open_cache",
    "owner_tag",
]

logger = logging.getLogger("flask_conversations")


def open_cache(config: Config) -> Cache | None:
    """The configured cache, or None. Nothing is sent to Redis yet.

    An invalid address is logged once, and the app works from the database.
    """
    if config.cache is False:
        return None
    if config.cache is not None:
        client = config.cache
        return Cache(lambda: client, config)
    if not config.redis_url:
        return None
    try:
        return Cache(connector(config.redis_url, config.redis_timeout), config)
    except ConfigurationError as error:
        logger.warning("%s Working from the database, without a cache.", error)
        return None
