"""The catalogue: every field of a message, a conversation and a turn, once.

The rules of the service, the forms of REST, the columns that the store reads, the JSON and the entries of the cache follow
from it; a test compares it with the tables and with the types in `schemas.types`.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from . import rules

ROLES = ("user", "assistant", "system", "tool", "developer")
MESSAGE_STATUSES = ("pending", "streaming", "delivered", "interrupted", "failed")
STATUSES = ("active", "archived", "resolved")
"""Statuses of a conversation that its owner may set; `deleted` is the trash."""
DEFAULT_TITLE = "New Conversation"
MAX_TITLE_LENGTH = 255

CLIENT, HOST, SERVER = "client", "host", "server"
"""Writers of a field: any client; only the host's code and a client's copy of a whole conversation; only this package."""

REQUIRED: Final = object()
"""The default of a field that each message states."""


@dataclasses.dataclass(frozen=True)
class Field:
    """One field of a noun."""

    sentence: str = ""
    """Its meaning, for the OpenAPI description."""
    rule: rules.Rule | None = None
    """Checks a given value; None if no caller may give one."""
    set_by: str = SERVER
    set_by_turns: bool = False
    """Whether a turn decides it for its answer, so that a responder may not."""
    stored: bool = True
    """Whether it is a column of the same name which the store reads with each row."""
    shown: bool = True
    """Whether it is a member of the noun's JSON."""
    kept: bool = False
    """Whether a deleted message keeps it: all others are cleared."""
    default: Any = REQUIRED
    """The member's value in a plain message."""
    cached: int | None = None
    """Number of the bit in a cache entry by which the member is left out where it has its default.

    A number is never used for another member or default without a new `FORMAT` in `cache.entries`.
    """


_label = rules.optional(rules.text(rules.MAX_LABEL))
_json = rules.optional(rules.json_value)
_object = rules.optional(rules.json_object)
_list = rules.optional(rules.json_list)

MESSAGE: dict[str, Field] = {
    "id": Field("Given by the server, a UUIDv7, unless a client chose a UUID.", kept=True),
    "conversation_id": Field("The conversation that the message belongs to.", kept=True),
    "client_id": Field(
        "Makes a retry safe: the same message with the same id is saved once.",
        rules.optional(rules.client_id),
        CLIENT,
        default=None,
        cached=1,
        kept=True,
    ),
    "seq": Field("1, 2, 3, ... in the order in which the messages of the conversation were saved.", kept=True),
    "parent_id": Field(
        "The message that this one answers, if not the newest.",
        rules.optional(rules.text(rules.MAX_CLIENT_ID)),
        CLIENT,
        default=None,
        cached=0,
        kept=True,
    ),
    "version": Field("The version of the conversation that this message's last change made.", kept=True),
    "role": Field(rule=rules.one_of(ROLES), set_by=CLIENT, kept=True),
    "type": Field(
        "The kind of message this is to the app, `text` if not given.",
        rules.text(32, blank=False),
        CLIENT,
        default="text",
        cached=2,
        kept=True,
    ),
    "content": Field("Text, or a list of parts.", rules.content(), CLIENT),
    "parts": Field(
        "The parts of the content, if it has any.", _list, CLIENT, set_by_turns=True, default=None, cached=3
    ),
    "raw": Field(
        "A framework's own item, given back equal.", _object, CLIENT, set_by_turns=True, default=None, cached=4
    ),
    "status": Field(
        "`delivered` if not given.",
        rules.one_of(MESSAGE_STATUSES),
        CLIENT,
        set_by_turns=True,
        default="delivered",
        cached=5,
        kept=True,
    ),
    "action_type": Field(rule=_label, set_by=CLIENT, default=None, cached=6),
    "action_params": Field(rule=_json, set_by=CLIENT, default=None, cached=7),
    "action_result": Field(rule=_json, set_by=CLIENT, default=None, cached=8),
    "action_status": Field(rule=_label, set_by=CLIENT, default=None, cached=9),
    "component_type": Field(rule=_label, set_by=CLIENT, default=None, cached=10),
    "component_data": Field(rule=_json, set_by=CLIENT, default=None, cached=11),
    "attachments": Field(rule=_list, set_by=CLIENT, default=[], cached=12),
    "contexts": Field(rule=_list, set_by=CLIENT, default=[], cached=13),
    "metadata": Field("The app's own, kept as it is.", _object, CLIENT, default=None, cached=14),
    "model": Field("The model that wrote it.", _label, CLIENT, default=None, cached=15),
    "tokens_used": Field(rule=rules.optional(rules.integer(0)), set_by=CLIENT, default=None, cached=16, kept=True),
    "usage": Field("The provider's account of tokens.", _object, CLIENT, default=None, cached=17),
    "latency_ms": Field(
        "In milliseconds.", rules.optional(rules.milliseconds), CLIENT, default=None, cached=18, kept=True
    ),
    "rating": Field("The owner's rating.", rules.optional(rules.rating), default=None, cached=19),
    "created_at": Field(rule=rules.optional(rules.moment), set_by=HOST, set_by_turns=True, kept=True),
    "updated_at": Field("When any of its fields changed last.", kept=True),
    "edited_at": Field("When its content changed last.", default=None, cached=21, kept=True),
    "feedback": Field("The owner's rating, reason and comment.", stored=False, default=None, cached=20),
    "rating_reason": Field(shown=False),
    "rating_comment": Field(shown=False),
    "content_is_parts": Field("Whether the content was given as parts.", shown=False),
    "digest": Field("Its share of the conversation's checksum.", shown=False),
    "fingerprint": Field("Tells a retry from another message with the same client id.", shown=False),
}
"""A message: its JSON in this order, and behind it the columns that are read with it."""

CONVERSATION: dict[str, Field] = {
    "id": Field("A UUID."),
    "client_id": Field("The client's own id, if it chose one that is no UUID."),
    "org_id": Field("The organisation of its owner."),
    "user_id": Field("Its owner."),
    "title": Field(
        "None or 'New Conversation' is the default title, which the first user message replaces.",
        rules.optional(rules.text(MAX_TITLE_LENGTH)),
        CLIENT,
    ),
    "title_source": Field("`default`, `auto` from the first user message, or `user`."),
    "preview": Field("The beginning of the newest message."),
    "status": Field(rule=rules.one_of(STATUSES), set_by=CLIENT),
    "starred": Field(rule=rules.boolean, set_by=CLIENT),
    "folder": Field(rule=_label, set_by=CLIENT),
    "tags": Field("Up to 50 different tags.", rules.tag_list, CLIENT),
    "context_type": Field("The kind of thing in the app that it is about.", _label, CLIENT),
    "context_id": Field("The app's id of that thing.", _label, CLIENT),
    "page_context": Field(rule=rules.optional(rules.text()), set_by=CLIENT),
    "metadata": Field("The app's own, kept as it is.", _object, CLIENT),
    "temporary": Field("Set at its creation: left out of every list, and deleted after a while."),
    "message_count": Field("Without deleted ones."),
    "version": Field("One more with each change."),
    "checksum": Field("Of its messages; see the page on checksums."),
    "etag": Field("For `If-Match`, without quotes.", stored=False),
    "created_at": Field(),
    "updated_at": Field(),
    "last_message_at": Field(),
    "last_activity_at": Field("When a message came, or a user changed it."),
    "archived_at": Field(),
    "resolved_at": Field(),
    "deleted_at": Field(),
    "rev": Field("Tells two histories of the same version apart.", shown=False),
    "field_versions": Field("The version at which each field was last set.", shown=False),
    "last_seq": Field("The seq of its newest message, deleted or not.", shown=False),
    "head_id": Field("The newest message of the active branch.", shown=False),
    "branched": Field("Whether any message has two answers.", shown=False),
    "branch": Field("The name of the active branch.", shown=False),
}
"""A conversation: its JSON in this order, and behind it the columns that the rules need."""

TURN: dict[str, Field] = {
    "id": Field("A UUID."),
    "conversation_id": Field("The conversation that the turn belongs to."),
    "kind": Field("`send`, `regenerate` or `edit`."),
    "protocol": Field("The protocol of its stream of events, `events` if null."),
    "state": Field("`waiting`, or the state of the conversation because of this turn."),
    "outcome": Field("How it ended.", stored=False),
    "question_id": Field("The message that is answered."),
    "answer_id": Field("The message that is the answer."),
    "error": Field("The code and the detail of its failure."),
    "created_at": Field("When it was requested."),
    "started_at": Field("When it was no longer waiting."),
    "updated_at": Field(),
    "ended_at": Field(),
    "number": Field("1, 2, 3, ... in the order in which the turns were requested.", shown=False),
    "request": Field("The request of a waiting turn, carried out once it begins.", shown=False),
    "client_id": Field("The client id of its question.", shown=False),
    "key": Field("The Idempotency-Key of the request that began it.", shown=False),
    "fingerprint": Field("Tells a retry from another request with the same key.", shown=False),
    "token": Field("Known only to the worker of the turn.", shown=False),
    "cancelled": Field("Whether the worker was asked to stop.", shown=False),
    "calls": Field("Tool calls that wait for an approval, and the decisions.", shown=False),
}
"""A turn: its JSON and the columns that the rules need."""


def stored(noun: dict[str, Field]) -> tuple[str, ...]:
    """The columns that the store reads of *noun*."""
    return tuple(name for name, field in noun.items() if field.stored)


def shown(noun: dict[str, Field]) -> tuple[str, ...]:
    """The members of the JSON of *noun*, in their order."""
    return tuple(name for name, field in noun.items() if field.shown)


def settable(noun: dict[str, Field], *by: str) -> dict[str, rules.Rule]:
    """The rules of the fields of *noun* that may be set by any of *by*."""
    return {name: field.rule for name, field in noun.items() if field.rule is not None and field.set_by in by}
