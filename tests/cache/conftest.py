"""Apps with a cache, one without on the same database, and Ada on each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from flask import Flask

from ..infra.proxy import Proxy
from .tools import Stored, as_user


@pytest.fixture(params=[False, True], ids=["default", "strict"])
def strict(request: pytest.FixtureRequest) -> bool:
    """Once as it is by default, and once with every hit checked against the database."""
    return bool(request.param)


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as found:
        yield found


@pytest.fixture
def stored(client: redis.Redis) -> Stored:
    """What is in Redis."""
    return Stored(client)


@pytest.fixture
def app(make_app: Callable[..., Flask], redis_url: str) -> Flask:
    """An app with a cache, as it is by default."""
    return make_app(CONVERSATIONS_REDIS_URL=redis_url, CONVERSATIONS_CACHE_STRICT=False)


@pytest.fixture
def uncached(make_app: Callable[..., Flask]) -> Flask:
    """An app without a cache on the same database: what it says is the truth."""
    return make_app(CONVERSATIONS_CACHE=False)


@pytest.fixture
def cold(uncached: Flask) -> Any:
    """Ada, as the database has it."""
    return as_user(uncached)


@pytest.fixture
def proxy(redis_url: str) -> Iterator[Proxy]:
    with Proxy(redis_url) as found:
        yield found


@pytest.fixture
def proxied(make_app: Callable[..., Flask], proxy: Proxy) -> Flask:
    """An app whose way to Redis leads through `proxy`; patient, as nothing here is about time."""
    return make_app(CONVERSATIONS_REDIS_URL=proxy.url, CONVERSATIONS_REDIS_TIMEOUT=5, CONVERSATIONS_CACHE_STRICT=False)
