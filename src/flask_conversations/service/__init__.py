"""The service layer: one service bound to one identity, the only interface for hosts, routes, commands and adapters."""

from .facade import AsyncBranches, AsyncConversationService, Branches, ConversationService
from .guards import GuardContext

__all__ = ["AsyncBranches", "AsyncConversationService", "Branches", "ConversationService", "GuardContext"]
