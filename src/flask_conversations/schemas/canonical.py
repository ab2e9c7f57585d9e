"""The canonical form of a message, and the checksum that two sides compare.

A message's digest is the first 8 bytes of the SHA-256 of `[id, role, content]` in the JSON Canonicalization Scheme (RFC 8785),
`content` being text or a list of parts exactly as in the message's JSON. The checksum of a conversation is the XOR of the
digests of its messages, written as 16 hexadecimal digits: each change of a message updates it without the other messages,
and a client with all messages can compute it, a browser too (`docs/reference/checksum.md`). It detects differences; it is no
signature.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def digest(message_id: str, role: str, content: str | list[Any]) -> int:
    """The digest of one message as a signed 64-bit number, the way the database keeps it."""
    form = f"[{_encode(message_id)},{_encode(role)},{canonical(content)}]"
    return int.from_bytes(hashlib.sha256(form.encode("utf-8", "surrogatepass")).digest()[:8], "big", signed=True)


def checksum_text(value: int) -> str:
    """The checksum as clients see it: 16 hexadecimal digits."""
    return f"{value & 0xFFFF_FFFF_FFFF_FFFF:016x}"


def checksum(messages: Iterable[Mapping[str, Any]]) -> str:
    """The checksum of a conversation that holds these messages, in any order."""
    total = 0
    for message in messages:
        total ^= digest(message["id"], message["role"], message["content"])
    return checksum_text(total)


def fingerprint(payload: Mapping[str, Any]) -> str:
    """The SHA-256 of a request's canonical form: equal for a retry, different for another request."""
    return hashlib.sha256(canonical(payload).encode("utf-8", "surrogatepass")).hexdigest()


def canonical(value: Any) -> str:
    """*value* in the JSON Canonicalization Scheme."""
    if isinstance(value, str):
        return _encode(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        return _number(value)
    if isinstance(value, Mapping):
        members = sorted(value.items(), key=lambda item: item[0].encode("utf-16-be", "surrogatepass"))
        return "{" + ",".join(f"{_encode(key)}:{canonical(one)}" for key, one in members) + "}"
    return "[" + ",".join(canonical(one) for one in value) + "]"


def _number(value: float) -> str:
    """A number as ECMAScript writes it: both sides hold it as a double."""
    try:
        double = float(value)
    except OverflowError:
        return "null"
    if not math.isfinite(double):
        return "null"
    if double == 0:
        return "0"
    mantissa, exponent = f"{abs(double)!r}e0".split("e")[:2] if "e" in repr(double) else (repr(abs(double)), "0")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    return ("-" if double < 0 else "") + _positional(digits, point)


def _positional(digits: str, point: int) -> str:
    """`0.digits` times ten to the *point*, by the rules of Number::toString."""
    if len(digits) <= point <= 21:
        return digits + "0" * (point - len(digits))
    if 0 < point <= 21:
        return f"{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return "0." + "0" * -point + digits
    exponent = point - 1
    mantissa = digits[0] + ("." + digits[1:] if len(digits) > 1 else "")
    return f"{mantissa}e{'+' if exponent > 0 else '-'}{abs(exponent)}"
