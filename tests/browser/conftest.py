"""The example app in a browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bed.demo import Demo


@pytest.fixture(scope="module")
def running_demo(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The example app, started once: that takes longer than most tests."""
    app = Demo(tmp_path_factory.mktemp("demo"))
    yield app
    app.stop()


@pytest.fixture
def demo(running_demo: Demo) -> Iterator[Demo]:
    """The running example app, with nobody's conversations yet."""
    yield running_demo
    running_demo.forget()
