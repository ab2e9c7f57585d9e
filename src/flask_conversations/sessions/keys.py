"""Which conversation a key of the dict names: any text or whole number as a client id, two keys never the same one."""

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
"""The member of a conversation's metadata that keeps a key too long for a client id."""

_PLAIN = re.compile(r"[A-Za-z0-9._:-]{1,100}", re.ASCII)
_CLIENT_ID = re.compile(r"session(?:\.[0-9a-f]{12})?(|-int|-b64|-sha256):(.*)", re.ASCII | re.DOTALL)
_LONGEST = 75
"""Bytes of a key whose Base64 fits into a client id."""


def client_id(key: Any) -> str:
    """The client id of a key's first conversation. Raises `TypeError` for a key that is neither text nor a whole number."""
    if isinstance(key, int) and not isinstance(key, bool) and len(str(key)) <= 100:
        return f"session-int:{key}"
    if not isinstance(key, str):
        raise TypeError(f"A key of the sessions is text or a whole number, not {type(key).__name__}.")
    if _PLAIN.fullmatch(key):
        return f"session:{key}"
    spelled = key.encode("utf-8", "surrogatepass")
    if len(spelled) <= _LONGEST:
        return f"session-b64:{_base64(spelled)}"
    return f"session-sha256:{hashlib.sha256(spelled).hexdigest()}"


def next_client_id(key: Key, predecessor_id: str) -> str:
    """The client id of the conversation that follows one in the trash, the same for all who begin it at the same moment."""
    return client_id(key).replace("session", f"session.{predecessor_id.replace('-', '')[-12:]}", 1)


def metadata(key: Key) -> dict[str, Any] | None:
    """What a new conversation must remember, so that `key_of` finds the key again."""
    if client_id(key).startswith("session-sha256:"):
        return {MEMBER: _base64(str(key).encode("utf-8", "surrogatepass"))}
    return None


def key_of(conversation: Mapping[str, Any]) -> Key | None:
    """The key that a conversation belongs to; None if it was not made through the sessions."""
    match = _CLIENT_ID.fullmatch(conversation["client_id"] or "")
    if match is None:
        return None
    kind, name = match.groups()
    try:
        key = _read(kind, name, conversation["metadata"])
        # another spelling of the same value, chosen by hand, is no key
        return key if client_id(key) == f"session{kind}:{name}" else None
    except (KeyError, TypeError, ValueError):
        return None


def _read(kind: str, name: str, remembered: Any) -> Key:
    if kind == "-int":
        return int(name)
    if kind == "-b64":
        return _text(name)
    return name if kind == "" else _text(remembered[MEMBER])


def _base64(spelled: bytes) -> str:
    return base64.urlsafe_b64encode(spelled).decode().rstrip("=")


def _text(spelled: str) -> str:
    return base64.urlsafe_b64decode(spelled + "=" * (-len(spelled) % 4)).decode("utf-8", "surrogatepass")
