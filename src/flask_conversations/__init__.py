"""Durable, isolated conversations for Flask chat apps, on the host's own Flask-SQLAlchemy."""

from __future__ import annotations

from . import errors, signals
from .errors import (
    ClientIdConflict,
    ConfigurationError,
    ConversationsError,
    Forbidden,
    IdentityRequired,
    NotFound,
    RateLimited,
    StorageUnavailable,
    TurnInProgress,
    ValidationFailed,
    VersionConflict,
)
from .extension import Conversations
from .identity import Identity
from .proxies import current_conversations, current_identity
from .service import ConversationService
from .tables import ConversationMixin, MessageMixin

__version__ = "0.1.0"

__all__ = [
    "ClientIdConflict",
    "ConfigurationError",
    "ConversationMixin",
    "ConversationService",
    "Conversations",
    "ConversationsError",
    "Forbidden",
    "Identity",
    "IdentityRequired",
    "MessageMixin",
    "NotFound",
    "RateLimited",
    "StorageUnavailable",
    "TurnInProgress",
    "ValidationFailed",
    "VersionConflict",
    "current_conversations",
    "current_identity",
    "errors",
    "signals",
]
