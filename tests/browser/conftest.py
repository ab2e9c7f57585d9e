"""The example app in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bed.demo import Demo


@pytest.fixture
def demo(chromium: str, tmp_path: Path) -> Iterator[Demo]:
    """The running example app, with nobody's conversations yet."""
    app = Demo(tmp_path / "data")
    yield app
    app.stop()
