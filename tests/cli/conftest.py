"""Apps without a cache: rows are spoilt here behind the back of everything that could keep a copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask

from ..infra.apps import Apps


@pytest.fixture
def make_app(database: Any) -> Iterator[Callable[..., Flask]]:
    """Makes an app on `database`, without a cache unless the test says otherwise."""
    apps = Apps(database, {"CONVERSATIONS_CACHE": False})
    yield apps
    apps.close()
