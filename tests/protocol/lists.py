"""The list that Redis really holds, and the model's key that it means: for `test_conformance.py`."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

from .states import Base, Key, Lease

MESSAGE = re.compile(r'\{"_v":(\d+),"_e":"([0-9a-f]+)","_t":(\d+),"_s":(\d+),"_c":"([^"]*)","_o":"([^"]*)",')
STAMPED = re.compile(r'\{"_v":\d+,"_e":"[0-9a-f]+","_t":\d+,(.*)$', re.S)
MOST = 5000


@dataclasses.dataclass(frozen=True)
class Loaded:
    """What the scripts make of a list before they do anything."""

    key: Key
    """Windows hold elements without version, run and time; an entry of another run is left out."""
    owner: str | None = None
    time: int | None = None
    reason: str = "absent"
    """Why there is no entry, as READ says it with a lease."""


def load(elements: list[str] | None, run: str, now: int, reserve_ms: int, conversation: str) -> Loaded:
    """*elements* is the list from left to right; None for a key of another type."""
    if elements is None or len(elements) > MOST:
        return Loaded(Key(), reason="corrupt")
    marks, died, place = [], False, 0
    while place < len(elements) and elements[place].startswith('{"_r":'):
        time = re.search(r'"_t":(\d+)\}$', elements[place])
        if time is None or abs(now - int(time[1])) > reserve_ms:
            died = True
        else:
            marks.append(json.loads(elements[place])["_r"])
        place += 1
    rest = elements[place:]
    if rest and rest[0].startswith('{"_l":'):
        found = re.fullmatch(r'\{"_l":"([0-9A-Za-z]+)","_e":"([0-9a-f]+)","_t":(\d+)\}', rest[0])
        if len(elements) > 1 or found is None:
            return Loaded(Key(), reason="corrupt")
        return Loaded(Key((), Lease(found[1], found[2])), time=int(found[3]))
    if died or not rest:
        return Loaded(Key(tuple(marks)))
    head = MESSAGE.match(rest[0])
    if head is None or head[4] != "1" or head[5] != conversation:
        return Loaded(Key(tuple(marks)), reason="corrupt")
    if head[2] != run:
        return Loaded(Key(tuple(marks)), reason="restarted")
    base = Base(run, int(head[1]), None, window(rest))
    return Loaded(Key(tuple(marks), None, base), owner=head[6], time=int(head[3]))


def window(elements: list[str]) -> tuple[Any, ...]:
    """What the elements say, apart from their stamps; nothing for that of an empty conversation."""
    if re.search(r'"_w":-?\d+,"_empty":1\}$', elements[0]):
        return ()
    return tuple(tail(element) for element in elements)


def tail(element: str) -> str:
    """The element as its writer has sent it."""
    found = STAMPED.match(element)
    return element if found is None else found[1]
