"""The client id of the conversation of a key: any text or whole number has its own."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from typing import Any, TypeAlias

Key: TypeAlias = "str | int"

CONTEXT = "session"
"""The `context_type` of the conversations; the `context_id` is the client id that the key's first conversation has."""

MEMBER = "session_key"
"""The member of a conversation's metadata with a key that is too long for a client id."""

_PLAIN = re.compile(r"[A-Za-z0-9._:-]{1,100}", re.ASCII)
_CLIENT_ID = re.compile(r"session(?:\.[0-9a-f]{12})?(|-int|-b64|-sha256):(.*)", re.ASCII | re.DOTALL)
_MAX_BASE64_BYTES = 75
"""The maximum length of a key in bytes whose Base64 fits into a client id."""


def client_id(key: Any) -> str:
    """The client id of a key's first conversation. Raises `TypeError` for a key that is neither text nor a whole number."""
    if isinstance(key, int) and not isinstance(key, bool) and len(str(key)) <= 100:
        return f"session-int:{key}"
    if not isinstance(key, str):
        raise TypeError(f"A key of the sessions is text or a whole number, not {type(key).__name__}.")
    if _PLAIN.fullmatch(key):
        return f"session:{key}"
    encoded = key.encode("utf-8", "surrogatepass")
    if len(encoded) <= _MAX_BASE64_BYTES:
        return f"session-b64:{_base64(encoded)}"
    return f"session-sha256:{hashlib.sha256(encoded).hexdigest()}"


def next_client_id(key: Key, predecessor_id: str) -> str:
    """The client id of the conversation after one in the trash; concurrent callers get the same."""
    return client_id(key).replace("session", f"session.{predecessor_id.replace('-', '')[-12:]}", 1)


def metadata(key: Key) -> dict[str, Any] | None:
    """The metadata of a new conversation from which `key_of` reads the key; None if the client id suffices."""
    if client_id(key).startswith("session-sha256:"):
        return {MEMBER: _base64(str(key).encode("utf-8", "surrogatepass"))}
    return None


def key_of(conversation: Mapping[str, Any]) -> Key | None:
    """The key of a conversation; None if the sessions have not created it."""
    match = _CLIENT_ID.fullmatch(conversation["client_id"] or "")
    if match is None:
        return None
    kind, name = match.groups()
    try:
        key = _read(kind, name, conversation["metadata"])
        # another encoding of the same value, chosen by a client, is not a key
        return key if client_id(key) == f"session{kind}:{name}" else None
    except (KeyError, TypeError, ValueError):
        return None


def _read(kind: str, name: str, remembered: Any) -> Key:
    if kind == "-int":
        return int(name)
    if kind == "-b64":
        return _text(name)
    return name if kind == "" else _text(remembered[MEMBER])


def _base64(encoded: bytes) -> str:
    return base64.urlsafe_b64encode(encoded).decode().rstrip("=")


def _text(encoded: str) -> str:
    return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode("utf-8", "surrogatepass")
