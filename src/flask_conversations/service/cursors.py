"""Cursors: signed positions in a list, so that a changed or foreign cursor is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from itsdangerous import BadData, URLSafeSerializer

from ..identity.base import Identity
from ..schemas.rules import Invalid

MARK = "~"
"""The first character of every cursor. No client id begins with it."""


class Cursors:
    """Signs and verifies the cursors of one identity."""

    def __init__(self, secrets: Callable[[], list[str]], identity: Identity | None) -> None:
        self._secrets = secrets
        self._owner = f"{identity.org_id or ''}\n{identity.user_id}" if identity else "\n\n"

    def seal(self, kind: str, place: list[Any]) -> str:
        """A cursor that `open` accepts for the same *kind* and identity only."""
        return MARK + str(self._serializer(kind).dumps(place))

    def open(self, kind: str, cursor: Any) -> list[Any]:
        """The position in a cursor. Raises `Invalid` for an invalid or foreign one."""
        if not isinstance(cursor, str) or not cursor.startswith(MARK) or len(cursor) > 4096:
            raise Invalid("Not a valid cursor.")
        try:
            place: list[Any] = self._serializer(kind).loads(cursor[len(MARK) :])
        except BadData:
            raise Invalid("Not a valid cursor.") from None
        return place

    def _serializer(self, kind: str) -> URLSafeSerializer:
        # itsdangerous signs with the last key and accepts all
        return URLSafeSerializer(self._secrets()[::-1], salt=f"flask-conversations.cursor\n{kind}\n{self._owner}")
