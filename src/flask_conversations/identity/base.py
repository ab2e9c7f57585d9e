"""The frozen identity that every query is filtered by, with the checks of its ids."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

MAX_ID_LENGTH = 255
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_ALIASES = {"sid": "session_id", "dept_id": "org_id"}


class UnsafeIdentity(ValueError):
    """The answer of a resolver does not safely identify one user."""


@dataclasses.dataclass(frozen=True)
class Identity:
    """One user or guest, in one organisation or none, as the resolver found them.

    `user_id` and `org_id` together own conversations; neither may be blank. `session_id` is kept for the query log only.
    Raises `UnsafeIdentity` (a `ValueError`) for ids that are not text, blank, too long or not storable.
    """

    user_id: str
    org_id: str | None = None
    session_id: str | None = None
    anonymous: bool = False
    scopes: frozenset[str] = frozenset()
    claims: Mapping[str, Any] = dataclasses.field(default_factory=lambda: MappingProxyType({}), hash=False)

    def __post_init__(self) -> None:
        _check_id("user_id", self.user_id)
        for name in ("org_id", "session_id"):
            if getattr(self, name) is not None:
                _check_id(name, getattr(self, name))

    def get(self, key: str, default: Any = None) -> Any:
        """A field by its name or by the seed apps' names (`sid`, `dept_id`), else a claim: for code that used a dict."""
        name = _ALIASES.get(key, key)
        if name in ("user_id", "org_id", "session_id"):
            found = getattr(self, name)
            return default if found is None else found
        return self.claims.get(key, default)

    def __getitem__(self, key: str) -> Any:
        missing = object()
        found = self.get(key, missing)
        if found is missing:
            raise KeyError(key)
        return found


def _check_id(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise UnsafeIdentity(f"{name} must be text, not {type(value).__name__}.")
    if not value.strip():
        raise UnsafeIdentity(f"{name} is blank.")
    if len(value) > MAX_ID_LENGTH:
        raise UnsafeIdentity(f"{name} has more than {MAX_ID_LENGTH} characters.")
    if _UNSAFE.search(value):
        raise UnsafeIdentity(f"{name} has control characters or lone surrogates.")
