"""Times and ids as rows carry them."""

from __future__ import annotations

import datetime as dt
import secrets
import threading
import time


def now() -> dt.datetime:
    """The present moment, aware and in UTC."""
    return dt.datetime.now(dt.timezone.utc)


_clock = threading.Lock()
_last_ns = 0


def new_id() -> str:
    """A UUIDv7 (RFC 9562): rising within this process, ordered by creation time across processes."""
    global _last_ns
    with _clock:
        _last_ns = max(time.time_ns(), _last_ns + 256)
        ns = _last_ns
    milliseconds, rest = divmod(ns, 1_000_000)
    fraction = rest * 4096 // 1_000_000
    digits = f"{milliseconds << 80 | 7 << 76 | fraction << 64 | 2 << 62 | secrets.randbits(62):032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def new_rev() -> int:
    """A random 63-bit number that tells two histories of the same version apart, after a restored backup say."""
    return secrets.randbits(63)
