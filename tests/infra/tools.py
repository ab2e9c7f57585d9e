"""What tests measure and provoke with: the SQL that ran, and threads that start together."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import sqlalchemy as sa
from flask import Flask

T = TypeVar("T")
TIMEOUT = 60
"""Seconds until threads that do not end fail the test."""


@contextlib.contextmanager
def statements(app: Flask) -> Iterator[list[str]]:
    """The SQL that *app* sends meanwhile, from any thread. BEGIN and COMMIT do not count."""
    seen: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if not statement.upper().startswith(("BEGIN", "COMMIT")):
            seen.append(statement)

    with app.app_context():
        engines = list(app.extensions["sqlalchemy"].engines.values())
    for engine in engines:
        sa.event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        for engine in engines:
            sa.event.remove(engine, "before_cursor_execute", note)


def threads(n: int, fn: Callable[[int], T], *, errors: bool = False) -> list[T]:
    """What `fn(0)` to `fn(n - 1)` returned, each in a thread, all let go at once.

    The first exception is raised; with *errors* each stands in the list in the place of its result.
    """
    results: list[Any] = [TimeoutError(f"Still running after {TIMEOUT} s.")] * n
    barrier = threading.Barrier(n)

    def run(i: int) -> None:
        barrier.wait(TIMEOUT)
        try:
            results[i] = fn(i)
        except Exception as error:  # noqa: BLE001 - the caller gets it
            results[i] = error

    running = [threading.Thread(target=run, args=[i], daemon=True) for i in range(n)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(TIMEOUT)
    failed = [result for result in results if isinstance(result, Exception)]
    if failed and not errors:
        raise failed[0]
    return results
