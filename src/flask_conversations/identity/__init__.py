"""The identity of a request, and its resolvers."""

from __future__ import annotations

from .base import Identity
from .chain import ChainIdentity
from .guest import AnonymousIdentity
from .header import HeaderIdentity
from .jwt import JWTIdentity
from .session import FlaskLoginIdentity, SessionIdentity

__all__ = [
    "AnonymousIdentity",
    "ChainIdentity",
    "FlaskLoginIdentity",
    "HeaderIdentity",
    "Identity",
    "JWTIdentity",
    "SessionIdentity",
]
