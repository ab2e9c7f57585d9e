"""Whether the two halves agree: counts and places, and never what was said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

from .keys import Key
from .memory import Cell


class Difference(TypedDict):
    """One deque that is not the same in memory and in the database."""

    user_id: str
    org_id: str | None
    key: Key
    memory: int | None
    """How many items; None if there is no such key."""
    database: int | None
    first_difference: int | None
    """The index of the first item that differs; None if all agree and only changes are owed or were refused."""
    owed: int
    """Changes that the database has not got yet: the next write to this deque, or `sync()`, brings them."""
    refused: int
    """Changes that the database will never take, because it cannot store the item, for instance."""


class Comparison(TypedDict):
    """What `compare()` answers."""

    write: str
    read: str
    compared: int
    """Deques that this process has in memory."""
    differences: list[Difference]
    failures: int
    """How often the database has failed since the process began."""


def difference(
    cell: Cell, items: Sequence[Any] | None, stored: list[Any] | None, *, is_whole: bool
) -> Difference | None:
    """How the *items* of a cell differ from what is *stored*; one that is not whole claims to know the newest only."""
    memory = None if items is None else list(items)
    same = memory == stored or (memory is None and not is_whole)
    if same and not cell.owed and not cell.refused:
        return None
    org_id, user_id = cell.owner
    return {
        "user_id": user_id,
        "org_id": org_id,
        "key": cell.key,
        "memory": None if memory is None else len(memory),
        "database": None if stored is None else len(stored),
        "first_difference": None if same else _first_difference(memory or [], stored or []),
        "owed": len(cell.owed),
        "refused": cell.refused,
    }


def _first_difference(memory: list[Any], stored: list[Any]) -> int:
    pairs = enumerate(zip(memory, stored, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(memory), len(stored)))
