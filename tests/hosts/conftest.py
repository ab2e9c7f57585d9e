"""Hosts whose connections are closed after the test."""

from __future__ import annotations

import contextlib
import functools
from typing import Any

import pytest
from flask import Flask

from .works import dispose, hosted


@pytest.fixture
def host(database):
    """Makes apps on an empty database of their own: `host(**config)`."""
    made: list[Flask] = []
    empty = functools.cache(database.empty)

    def make(at: str | None = None, **config: Any) -> Flask:
        made.append(hosted(at or empty(), **config))
        return made[-1]

    yield make
    for app in made:
        with contextlib.suppress(KeyError, RuntimeError):
            dispose(app, app.extensions["sqlalchemy"])
