"""The rules: one service bound to one identity, the only thing that hosts, routes, commands and adapters talk to."""

from .facade import AsyncBranches, AsyncConversationService, Branches, ConversationService
from .guards import GuardContext

__all__ = ["AsyncBranches", "AsyncConversationService", "Branches", "ConversationService", "GuardContext"]
