"""What one key of the cache holds, and what each script makes of it: the Lua of the package as functions without side effects.

`test_conformance.py` holds them against the real scripts, the checker builds on them. Time is not in here: that a reservation has
died, or that an entry is too old, is an argument.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple

from .designs import SHIPPED, Design

LIMIT = 3
"""How many messages the checker's entries keep. The smallest number with a middle."""

Window = tuple[Hashable, ...]
"""Messages, the newest first; without any for a conversation that has none."""


class Base(NamedTuple):
    """An entry."""

    run: Any
    version: int
    rev: Any
    window: Window


class Lease(NamedTuple):
    """A reader's right to fill the key."""

    token: Any
    run: Any


class Key(NamedTuple):
    """What the one Redis key of a conversation holds."""

    marks: tuple[Any, ...] = ()
    """Tokens of reservations, the newest first."""
    lease: Lease | None = None
    base: Base | None = None


NOTHING = Key()

Answer = tuple[Any, ...]


def servable(key: Key, run: Any, design: Design = SHIPPED) -> Base | None:
    """The entry that any reader would be given."""
    if (key.marks and design.marks_close) or key.lease is not None:
        return None
    return loaded(key, run, design).base


def loaded(key: Key, run: Any, design: Design = SHIPPED) -> Key:
    """How every script begins: an entry of another run of the server is none."""
    if design.entries_bound and key.base is not None and key.base.run != run:
        return key._replace(base=None)
    return key


def read(
    key: Key,
    run: Any,
    token: Any,
    min_version: int,
    *,
    foreign: bool = False,
    old: bool = False,
    design: Design = SHIPPED,
) -> tuple[Key, Answer]:
    key = loaded(key, run, design)
    if (key.marks and design.marks_close) or key.lease is not None:
        return key, ("miss",)
    if key.base is not None:
        if foreign:
            return key, ("foreign",)
        if not old and (key.base.version >= min_version or not design.min_version_asked):
            return key, ("hit", key.base)
    return Key(key.marks, Lease(token, run), None), ("lease", run)


def populate(
    key: Key, run: Any, token: Any, lease_run: Any, version: int, rev: Any, window: Window, *, design: Design = SHIPPED
) -> tuple[Key, Answer]:
    key = loaded(key, run, design)
    if design.leased:
        fits = key.lease is not None and key.lease.token == token
        if fits and design.leases_bound:
            fits = key.lease == (token, lease_run) and run == lease_run
    else:
        fits = key.base is None and not key.marks
    if not fits:
        return key, ("late",)
    return Key(key.marks, None, Base(run, version, rev, window)), ("stored",)


def reserve(
    key: Key, run: Any, token: Any, from_: int | None, rev: Any, inserted: bool, *, design: Design = SHIPPED
) -> tuple[Key, Answer]:
    key = loaded(key, run, design)
    marks, lease, base = key
    if design.reserve_ends_lease:
        lease = None
    if token not in marks:
        alone = not marks
        if design.reserve_heals and alone and base is not None and from_ is not None and base.version != from_:
            base = None
        marks = (token, *marks)
        if alone and from_ == 0 and base is None and inserted and not design.apply_creates:
            base = Base(run, 0, rev, ())
    return Key(marks, lease, base), ("reserved",)


def apply(
    key: Key,
    run: Any,
    token: Any,
    from_: int,
    to: int,
    rev: Any,
    messages: Window | None,
    limit: int = LIMIT,
    *,
    design: Design = SHIPPED,
) -> tuple[Key, Answer]:
    """*messages*, the oldest first, are what was appended; none for a conversation that is created empty."""
    key = loaded(key, run, design)
    marks, lease, base = key
    if design.apply_ends_lease:
        lease = None
    own, marks = token in marks, _without(marks, token)
    if base is None and (design.apply_blind or (design.apply_creates and from_ == 0)):
        base = Base(run, from_, rev, ())
    if base is not None and base.version >= to and not design.apply_blind:
        return Key(marks, lease, base), ("later",)
    chained = base is not None and (base.version == from_ or design.apply_blind)
    if base is not None and chained and (own or not design.apply_needs_mark) and messages is not None:
        window = (*reversed(messages), *base.window)[:limit]
        return Key(marks, lease, Base(run, to, rev, window)), ("applied",)
    return Key(marks, lease, base if design.gap_stays else None), ("gap",)


def drop(key: Key, run: Any, token: Any, *, design: Design = SHIPPED) -> tuple[Key, Answer]:
    return Key(_without(key.marks, token), None if design.drop_ends_lease else key.lease, None), ("dropped",)


def unreserve(key: Key, run: Any, token: Any, *, design: Design = SHIPPED) -> tuple[Key, Answer]:
    key = loaded(key, run, design)
    if token not in key.marks:
        return key, ("unreserved",)
    base = key.base
    if base is not None and base.version == 0 and design.unborn_forgotten:
        base = None  # the conversation was not created after all
    return Key(_without(key.marks, token), key.lease, base), ("unreserved",)


def release(key: Key, run: Any, token: Any, *, design: Design = SHIPPED) -> tuple[Key, Answer]:
    key = loaded(key, run, design)
    held = key.lease is not None and key.lease.token == token
    return (key._replace(lease=None) if held else key), ("released",)


def died(key: Key, token: Any, *, design: Design = SHIPPED) -> Key:
    """A reservation is older than reservations get: its writer may have committed, so what lies below goes with it."""
    return Key(_without(key.marks, token), key.lease, None if design.dead_takes_base else key.base)


SCRIPTS = {one.__name__: one for one in (read, populate, reserve, apply, drop, unreserve, release)}


def _without(marks: tuple[Any, ...], token: Any) -> tuple[Any, ...]:
    return tuple(mark for mark in marks if mark != token)
