"""The sessions of Ada and Bob, and what the dict of before would have done."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

import pytest

from tests.infra.apps import shared_db


@pytest.fixture
def sessions_of(app: Any, conversations: Any) -> Callable[..., Any]:
    """Makes sessions of a user: `sessions_of("ada", maxlen=3)`."""
    return lambda user, maxlen=None, **options: conversations.sessions(maxlen, **options).as_user(user, app=app)


@pytest.fixture
def ours(sessions_of: Callable[..., Any]) -> Any:
    """Ada's sessions of three items each."""
    return sessions_of("ada", 3)


@pytest.fixture
def bobs(sessions_of: Callable[..., Any]) -> Any:
    """Bob's sessions of three items each."""
    return sessions_of("bob", 3)


@pytest.fixture
def unreachable(app: Any) -> Callable[[bool], None]:
    """`unreachable(True)` gives `app` an address at which no database answers, `unreachable(False)` its own again."""
    import sqlalchemy as sa

    with app.app_context():
        engines = shared_db().engines
        real = engines[None]
    dead = sa.create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none?connect_timeout=2")

    def switch(out: bool) -> None:
        engines[None] = dead if out else real

    return switch


def plain(maxlen: int | None = 3) -> dict[Any, deque[Any]]:
    """The `SESSIONS` of before."""
    return defaultdict(lambda: deque(maxlen=maxlen))


def said(content: str, role: str = "user", **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}
