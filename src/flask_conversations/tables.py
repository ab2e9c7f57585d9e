"""Each of our tables, once: its name, its class, its owner columns, and what becomes of its rows with their conversation."""

from __future__ import annotations

import dataclasses

CONVERSATIONS = "conversations"
MESSAGES = "conversation_messages"
TAGS = "conversation_tags"
BRANCHES = "conversation_branches"
TURNS = "conversation_turns"
IDEMPOTENCY = "conversation_idempotency"
QUERY_LOG = "conversation_query_log"
VERSION = "conversation_schema"


@dataclasses.dataclass(frozen=True)
class Table:
    """What the rest of the package does with one table."""

    name: str
    """Without the host's prefix."""
    model: str
    """The member of `Models` that is its class."""
    has_owner: bool = False
    """Whether its rows carry the owner of their conversation: they follow when the conversation is claimed."""
    orphans: str | None = None
    """What `verify` says of rows whose conversation is gone; such rows are erased with their conversation. None where rows stay."""
    repairable: bool = True
    """Whether `verify --repair` deletes those rows."""


TABLES = (
    Table(CONVERSATIONS, "Conversation"),
    Table(
        MESSAGES,
        "Message",
        has_owner=True,
        orphans="{count} messages of a conversation that is not there: no user sees them. Delete them by hand.",
        repairable=False,
    ),
    Table(TAGS, "Tag", has_owner=True, orphans="{count} tags of a conversation that is not there."),
    Table(BRANCHES, "Branch", has_owner=True, orphans="{count} branches of a conversation that is not there."),
    Table(TURNS, "Turn", has_owner=True, orphans="{count} turns of a conversation that is not there."),
    Table(IDEMPOTENCY, "Idempotency", orphans="{count} kept answers about a conversation that is not there."),
    Table(QUERY_LOG, "QueryLog"),
    Table(VERSION, "SchemaVersion"),
)
