"""The comparison of the two halves: counts and indexes, never content."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

from .keys import Key
from .memory import Cell


class Difference(TypedDict):
    """One deque that differs between memory and database."""

    user_id: str
    org_id: str | None
    key: Key
    memory: int | None
    """The number of items; None if there is no such key."""
    database: int | None
    first_difference: int | None
    """The index of the first different item; None if all items are equal, but changes are pending or were refused."""
    owed: int
    """The number of changes that the next write to this deque, or `sync()`, will send to the database."""
    refused: int
    """The number of changes that the database has refused, for example because it cannot store the item."""


class Comparison(TypedDict):
    """The result of `compare()`."""

    write: str
    read: str
    compared: int
    """The number of deques in this process's memory."""
    differences: list[Difference]
    failures: int
    """The number of database failures since the process began."""


def difference(
    cell: Cell, items: Sequence[Any] | None, stored: list[Any] | None, *, is_whole: bool
) -> Difference | None:
    """The difference between the *items* of a cell and the *stored* ones. A cell that is not whole has the newest items only."""
    memory = None if items is None else list(items)
    same = memory == stored or (memory is None and not is_whole)
    if same and not cell.pending and not cell.refused:
        return None
    org_id, user_id = cell.owner
    return {
        "user_id": user_id,
        "org_id": org_id,
        "key": cell.key,
        "memory": None if memory is None else len(memory),
        "database": None if stored is None else len(stored),
        "first_difference": None if same else _first_difference(memory or [], stored or []),
        "owed": len(cell.pending),
        "refused": cell.refused,
    }


def _first_difference(memory: list[Any], stored: list[Any]) -> int:
    pairs = enumerate(zip(memory, stored, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(memory), len(stored)))
