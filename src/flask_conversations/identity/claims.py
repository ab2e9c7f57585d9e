"""The identity from the claims of a verified token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ..config import Config
from .base import Identity, UnsafeIdentity


def identity_from_claims(claims: Mapping[str, Any], config: Config) -> Identity:
    """The identity that the claims name, by the `jwt_*_claim` settings.

    Raises `UnsafeIdentity` if the user claim, or the organisation where one is configured, is missing or unfit.
    """
    return Identity(
        user_id=_user_id(claims, claim_names(config.jwt_user_claim)),
        org_id=_org_id(claims, config.jwt_org_claim),
        session_id=_session_id(claims, config.jwt_session_claim),
        scopes=_scopes(claims),
        claims=MappingProxyType(dict(claims)),
    )


def claim_names(configured: str | Sequence[str]) -> tuple[str, ...]:
    return (configured,) if isinstance(configured, str) else tuple(configured)


def _user_id(claims: Mapping[str, Any], names: Sequence[str]) -> str:
    """The first claim in the token decides: a blank one is refused, not skipped."""
    name = next((name for name in names if claims.get(name) is not None), None)
    if name is None:
        raise UnsafeIdentity("the token has no user claim.")
    if name == "email" and claims.get("email_verified") in (False, "false"):
        raise UnsafeIdentity("the token's email address is not verified.")  # it may be the address of another user
    user_id: str = claims[name]
    return user_id


def _org_id(claims: Mapping[str, Any], name: str | None) -> str | None:
    if not name:
        return None
    if claims.get(name) is None:
        raise UnsafeIdentity("the token has no organisation claim.")
    org_id: str = claims[name]
    return org_id


def _session_id(claims: Mapping[str, Any], name: str | None) -> str | None:
    """Nothing depends on it, so an unfit one is left out."""
    found = claims.get(name) if name else None
    try:
        return None if found is None else Identity("anyone", session_id=found).session_id
    except UnsafeIdentity:
        return None


def _scopes(claims: Mapping[str, Any]) -> frozenset[str]:
    found = next((claims[name] for name in ("scope", "scp", "scopes") if name in claims), ())
    if isinstance(found, str):
        found = found.split()
    if not isinstance(found, (list, tuple)):
        return frozenset()
    return frozenset(scope for scope in found if isinstance(scope, str) and scope)
