"""The names that hosts may call: those of docs/reference/api.md, and no others."""

from __future__ import annotations

import inspect

from flask_conversations.service import AsyncBranches, AsyncConversationService, Branches, ConversationService

CALLS = {
    "approve_tools", "archive_conversation", "cancel", "claim", "clear_conversation", "conversation_exists",
    "create_conversation", "delete_conversation", "delete_message", "edit_question", "follow", "fork_conversation",
    "get_conversation", "get_conversation_history", "get_message", "get_messages", "get_state", "get_system_prompt",
    "list_conversations", "load_conversations", "lock_conversation", "pop_message", "prune", "rate_message",
    "record_stream", "recover", "regenerate", "replace_messages", "resolve_conversation", "restore_conversation",
    "save_conversation", "save_message", "save_messages", "send_message", "summarize", "turn",
    "unarchive_conversation", "update_conversation", "update_message",
}  # fmt: skip
SESSIONS = {"transaction", "joined"}
"""Ways to call that belong to one session, and so are no coroutines."""


def test_the_service_has_these_names_and_no_others():
    """A name that is not here is no promise, and must not look like one."""
    assert public(ConversationService) == CALLS | SESSIONS | {"aio", "branches", "identity"}
    assert public(Branches) == {"create", "list", "switch", "delete"}


def test_every_call_is_a_coroutine_too():
    """`service.aio` offers the same calls with the same arguments."""
    for noun, coroutines in ((ConversationService, AsyncConversationService), (Branches, AsyncBranches)):
        calls = public(noun) - SESSIONS - {"aio", "branches", "identity"}
        assert public(coroutines) - {"branches"} == calls
        for name in calls:
            assert inspect.iscoroutinefunction(getattr(coroutines, name))
            assert inspect.signature(getattr(coroutines, name)) == inspect.signature(getattr(noun, name))


def public(noun: type) -> set[str]:
    return {name for name in dir(noun) if not name.startswith("_")}
