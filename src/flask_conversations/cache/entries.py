"""The format of an entry in Redis: message JSON behind a header that scripts and readers check without parsing the JSON.

    {"_v":12,"_e":"0123456789ab","_t":1790000000000,"_s":1,"_c":"<id>","_o":"<owner>","_w":7,"_k":3610407,"_d":5,"id":"...",...}

`_v` is the conversation's version at which this was its newest message, `_e` the run of the Redis server, `_t` its time in
milliseconds (the scripts write these three), `_s` the number of this format, `_c` the conversation, `_o` a tag of its owner,
`_w` its `rev`, `_d` a mask of the members left out because they have their default, `_k` the CRC-32 of the text behind the
header, begun with `_d`. An empty conversation is one element with `"_empty":1` in place of `_k` and the rest.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from zlib import crc32

from ..schemas.fields import MESSAGE, shown
from ..schemas.messages import DEFAULTS

FORMAT = 1
"""Raised whenever entries of another release could be misread: when a `cached` number of the catalogue changes its meaning."""

MAX_BYTES = 1 << 20
"""A larger entry is not kept: it would cost every reader more than the database does. `common.lua` has the same number."""

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode

_HEADER = re.compile(
    rb'\{"_v":(\d{1,19}),"_e":"[0-9a-f]{12}","_t":\d{1,16},"_s":%d,"_c":"([0-9a-f-]{36})","_o":"([0-9a-f]{32})",'
    rb'"_w":(-?\d{1,20}),(?:"_k":(\d{1,10}),"_d":(\d{1,10}),|"_empty":1\}$)' % FORMAT
)


class CorruptEntry(ValueError):
    """An element that no release of this format has written for this conversation."""


class Entry(NamedTuple):
    """The newest messages of a conversation as they are stored, with its version and `rev`."""

    conversation_id: str
    version: int
    rev: int
    bodies: list[tuple[bytes, int]]
    """Of each message, the newest first: the text behind the header, and the mask of the members left out."""

    def compact(self) -> list[dict[str, Any]]:
        """The messages without most members that have their default: enough for a history."""
        text = b"[{" + b",{".join([body for body, _ in self.bodies]) + b"]" if self.bodies else b"[]"
        # as text: with bytes, json would first detect the encoding
        messages: list[dict[str, Any]] = json.loads(text.decode())
        for message in messages:
            message.setdefault("status", DEFAULTS["status"])
        return messages

    def messages(self) -> list[dict[str, Any]]:
        """The messages with all members."""
        return [
            # new lists: the caller may change them
            {**_PLAIN, "attachments": [], "contexts": [], "conversation_id": self.conversation_id, **message}
            for message in self.compact()
        ]

    def texts(self) -> list[bytes]:
        """The messages with all members as JSON, assembled without decoding them."""
        start = b'{"conversation_id":"%s",' % self.conversation_id.encode()
        return [start + _left_out_text(mask) + body for body, mask in self.bodies]

    def seq_of(self, place: int) -> int:
        """The seq of one message."""
        return int(json.loads(b"{" + self.bodies[place][0])["seq"])

    @property
    def is_whole(self) -> bool:
        """Whether there is no older message: the oldest one here has no parent, or there is none at all."""
        return not self.bodies or bool(self.bodies[-1][1] & _IS_FIRST)


_PLAIN: dict[str, Any] = {**dict.fromkeys(shown(MESSAGE)), **DEFAULTS}
_BITS = {name: 1 << field.cached for name, field in MESSAGE.items() if field.cached is not None}
_IS_FIRST = _BITS["parent_id"]


@functools.lru_cache(maxsize=1024)
def owner_tag(org_id: str | None, user_id: str) -> str:
    """A digest of the owner: Redis holds no names."""
    return hashlib.sha256(json.dumps([org_id or "", user_id]).encode()).hexdigest()[:32]


def empty_tail(conversation_id: str, owner: str, rev: int) -> bytes:
    """The element of a conversation without messages, without the beginning that the script writes."""
    return f'{_start(conversation_id, owner, rev)}"_empty":1}}'.encode()


def tails(messages: Sequence[Mapping[str, Any]], conversation_id: str, owner: str, rev: int) -> list[bytes] | None:
    """The elements of *messages*, without the beginning that the script writes.

    None if they are too large, or corrupt so that JSON cannot encode them.
    """
    start = _start(conversation_id, owner, rev)
    try:
        found = [_tail(start, message) for message in messages]
    except (ValueError, TypeError):
        return None
    return found if sum(map(len, found)) <= MAX_BYTES else None


def _start(conversation_id: str, owner: str, rev: int) -> str:
    return f'"_s":{FORMAT},"_c":"{conversation_id}","_o":"{owner}","_w":{rev},'


def _tail(start: str, message: Mapping[str, Any]) -> bytes:
    mask, kept = 0, {}
    for name, value in message.items():
        if name in DEFAULTS and value == DEFAULTS[name]:
            mask |= _BITS[name]
        elif name != "conversation_id":
            kept[name] = value
    body = _encode(kept)[1:].encode()
    return f'{start}"_k":{crc32(body, mask)},"_d":{mask},'.encode() + body


@functools.lru_cache(maxsize=256)
def _left_out_text(mask: int) -> bytes:
    return "".join(f'"{name}":{_encode(DEFAULTS[name])},' for name, bit in _BITS.items() if mask & bit).encode()


def read(elements: Sequence[bytes], conversation_id: str, owner: str) -> Entry:
    """The entry of *elements*, the newest first. Raises `CorruptEntry` unless all are whole and of this owner's conversation."""
    wanted, its_owner = conversation_id.encode(), owner.encode()
    same = b',"_s":%d,"_c":"%s","_o":"%s","_w":' % (FORMAT, wanted, its_owner)
    version = rev = 0
    bodies = []
    for place, element in enumerate(elements):
        # the first header in full; of the others the part that all have in common
        if place == 0:
            header = _HEADER.match(element)
            if header is None or header[2] != wanted or header[3] != its_owner:
                raise CorruptEntry
            version, rev = int(header[1]), int(header[4])
            if header[5] is None:
                if len(elements) > 1:
                    raise CorruptEntry
                break
        stamp, _, rest = element.partition(same)
        try:
            _, check, mask, body = rest.split(b",", 3)
            bodies.append((body, int(mask[5:])))
            intact = stamp.startswith(b'{"_v":') and crc32(*bodies[-1]) == int(check[5:])
        except ValueError:
            raise CorruptEntry from None
        if not intact:
            raise CorruptEntry
    return Entry(conversation_id, version, rev, bodies)
