"""Requests and answers over HTTP: marshmallow schemas of requests, types of answers.

A member of a request follows from its field in the catalogue or from a rule, so REST and the service check a value alike.
Answers that the service returns as well are in `schemas.types`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypedDict

from marshmallow import RAISE, Schema, ValidationError, post_load
from marshmallow.fields import List, Nested, Raw

from . import fields, rules, types
from .messages import KEPT_BY_SERVER
from .types import Conversation, Count, Id, Message

PROTOCOLS = ("events", "ui")


class Ruled(Raw):
    """A member that a rule checks and describes."""

    def __init__(self, rule: rules.Rule, description: str = "", *, described: Any = None, **options: Any) -> None:
        about = {**rule.schema, **({"description": description} if description else {}), **(described or {})}
        if rule.nullable and "oneOf" in about:
            about["oneOf"] = [*about["oneOf"], {"type": "null"}]
        super().__init__(metadata=about, allow_none=rule.nullable, **options)
        self._rule = rule

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        try:
            return self._rule(value)
        except rules.Invalid as problem:
            raise ValidationError(str(problem)) from None


def text(length: int, description: str = "", **options: Any) -> Ruled:
    """Text of at most *length* characters, or null."""
    return Ruled(rules.optional(rules.text(length)), description, **options)


def query_text(length: int, description: str = "") -> Ruled:
    """Text in a query string."""
    return Ruled(rules.text(length), description)


def message_id(description: str, *, required: bool = False, **options: Any) -> Ruled:
    """The id or client id of a message, or null unless *required*."""
    rule = rules.text(rules.MAX_CLIENT_ID, blank=False)
    return Ruled(rule if required else rules.optional(rule), description, required=required, **options)


def limit(default: int) -> Ruled:
    """The size of a page."""
    return Ruled(rules.page_limit(100), "How many; more than 100 means 100.", described={"default": default})


def version(description: str) -> Ruled:
    """A version that the client has seen, or null."""
    return Ruled(rules.optional(rules.integer(0)), description)


@rules.rule(rules.CLIENT_ID)
def own_id(value: Any) -> str:
    """The id of a conversation: a UUID, or a client's own string."""
    return rules.uuid_or_none(value) or str(rules.conversation_client_id(value))


def of_fields(noun: Mapping[str, fields.Field], *names: str, **options: Mapping[str, Any]) -> dict[str, Any]:
    """The members of a request for the fields *names* of *noun*; for all that a client may set if none are named.

    *options* are further arguments of single members.
    """
    chosen = names or [name for name, field in noun.items() if field.set_by == fields.CLIENT]
    found = ((name, noun[name]) for name in chosen)
    return {name: Ruled(f.rule, f.sentence, **options.get(name, {})) for name, f in found if f.rule is not None}


def echoes(*names: str) -> dict[str, Any]:
    """Members that the server keeps: a client may send them back."""
    rule = rules.optional(rules.json_value)
    return {name: Ruled(rule, "Kept by the server: may be sent back, and is ignored.") for name in names}


class Form(Schema):
    """A JSON object in a request: unknown members are refused."""

    class Meta:
        unknown = RAISE


class Empty(Form):
    """No members."""


class MessageIn(Form):
    """A message to append."""

    class Meta(Form.Meta):
        include = of_fields(fields.MESSAGE, role={"load_default": "user"}, content={"required": True})


class MessageOfSnapshot(MessageIn):
    """A message in a client's copy. Members that the server keeps may be sent back, and are ignored."""

    id = text(rules.MAX_CLIENT_ID, "The message's id, or a client id.")

    class Meta(Form.Meta):
        include = of_fields(fields.MESSAGE, "role", "created_at", role={"required": True}) | echoes(
            *sorted(KEPT_BY_SERVER - {"parent_id"})
        )


_AT_CREATION = [n for n, f in fields.CONVERSATION.items() if f.set_by == fields.CLIENT and n != "status"]


class ConversationIn(Form):
    """A conversation to create."""

    id = Ruled(rules.optional(own_id), "A UUID becomes the id; any other string becomes the `client_id`.")
    messages = List(Nested(MessageOfSnapshot))
    temporary = Ruled(rules.boolean)

    class Meta(Form.Meta):
        include = of_fields(fields.CONVERSATION, *_AT_CREATION)


class ConversationPatch(Form):
    """Fields of a conversation to change."""

    expected_version = version("Change nothing, and answer 409, if this is not the version.")

    class Meta(Form.Meta):
        include = of_fields(fields.CONVERSATION)


_OF_PAGE = ("next_cursor", "has_more", "siblings")
_KEPT = [name for name, field in fields.CONVERSATION.items() if field.shown and field.set_by == fields.SERVER]
_KEPT_BY_SERVER = frozenset([*_KEPT, *_OF_PAGE, "outcome", "conflicts"])


class Snapshot(Form):
    """A client's copy of a conversation. Members that the server keeps may be sent back, and are ignored."""

    messages = List(Nested(MessageOfSnapshot))
    base_version = version("The version that the copy was made from.")
    force_overwrite = Ruled(
        rules.boolean, "Replace the conversation with the copy, even if others have changed it since."
    )

    class Meta(Form.Meta):
        include = of_fields(fields.CONVERSATION) | echoes(*sorted(_KEPT_BY_SERVER))

    @post_load
    def taken(self, body: dict[str, Any], **_: Any) -> dict[str, Any]:
        """The members that a client may set."""
        return {name: value for name, value in body.items() if name not in _KEPT_BY_SERVER}


class MessagePatch(Form):
    """Fields of a message to change."""

    expected_version = version("A version at which the message was seen: 409 if it was changed after that.")

    class Meta(Form.Meta):
        include = of_fields(fields.MESSAGE, "content", "metadata")


@rules.rule(rules.rating.schema)
def _rating_as_given(value: Any) -> Any:
    """The rating as it was given: the service checks it again."""
    rules.rating(value)
    return value


class FeedbackIn(Form):
    """The user's rating of a message."""

    rating = Ruled(rules.optional(_rating_as_given), "None takes it back.", required=True)
    reason = text(rules.MAX_LABEL)
    comment = text(rules.MAX_COMMENT)


class BranchIn(Form):
    """A branch to create."""

    from_message_id = message_id("The message that the branch ends with for now.", required=True)
    name = Ruled(
        rules.optional(rules.branch_name),
        "`branch-2`, `branch-3`, ... if not given. No control characters, no `/`, no id of a message.",
    )


class ForkIn(Form):
    """Where a fork begins, and its title."""

    at_message_id = message_id("The last message that is copied, the newest of the active branch if not given.")
    title = text(fields.MAX_TITLE_LENGTH, "That of the original if not given.")


class SendIn(MessageIn):
    """A question to be answered."""

    role = Ruled(rules.one_of(("user",)), load_default="user")

    class Meta(Form.Meta):
        """Without the fields of a message, which are inherited: they would come after this role and replace it."""


class EditIn(Form):
    """A new version of a question."""

    message_id = message_id("The original question.", required=True)

    class Meta(Form.Meta):
        include = of_fields(
            fields.MESSAGE, "content", "client_id", "attachments", "metadata", content={"required": True}
        )


class RegenerateIn(Form):
    """The question to answer again."""

    message_id = message_id("An answer or its question; the newest if not given.")


class ApproveIn(Form):
    """The user's decision about tool calls."""

    tool_call_ids = Ruled(rules.tool_call_ids, required=True)
    approved = Ruled(rules.boolean, load_default=True)


@rules.rule({"type": "boolean"})
def truth(value: Any) -> bool:
    """A boolean in a query string."""
    words: Mapping[str, bool] = {"true": True, "1": True, "false": False, "0": False}
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise rules.Invalid("Must be true or false.")


class Query(Form):
    """The query string of a read."""

    min_version = Ruled(rules.offset, "Be at least as new as this version.")


class ListQuery(Query):
    """Which conversations, and which page of them."""

    limit = limit(20)
    cursor = query_text(4096, "The `next_cursor` of the page before, with the same filters and order.")
    offset = Ruled(rules.offset, "How many to skip.")
    status = Ruled(
        rules.one_of((*fields.STATUSES, "deleted", "all")),
        "`deleted` is the trash, `all` is all but the trash.",
        described={"default": "active"},
    )
    starred = Ruled(truth)
    tag = query_text(64)
    folder = query_text(rules.MAX_LABEL)
    context_type = query_text(rules.MAX_LABEL)
    context_id = query_text(rules.MAX_LABEL)
    order = Ruled(
        rules.one_of(
            sign + name for name in ("last_activity_at", "updated_at", "created_at", "title") for sign in ("-", "")
        ),
        "`-` is descending.",
        described={"default": "-last_activity_at"},
    )
    include = Ruled(rules.one_of(("messages",)), "Each conversation with its newest 50 messages.")


class PlacesQuery(Query):
    """Which of the messages, by those that are before or after them."""

    limit = limit(50)
    before = query_text(4096, "The messages before this `next_cursor`, message id or seq.")


class ConversationQuery(PlacesQuery):
    """How many of the newest messages come along."""

    include = Ruled(
        rules.one_of(("siblings",)), "Which of several answers to the same message a message is, as 2 of 3."
    )


class BranchQuery(PlacesQuery):
    """Which page of the messages of one branch."""

    after = query_text(4096, "The messages after this `next_cursor`, message id or seq.")
    branch = query_text(rules.MAX_BRANCH_NAME, "The name of a branch, that of the active one if not given.")


class MessagesQuery(BranchQuery, ConversationQuery):
    """Which page of the messages."""


class StateQuery(Query):
    """How much of a conversation's state is wanted."""

    limit = limit(50)


class StreamQuery(Form):
    """The protocol of a stream of events."""

    protocol = Ruled(
        rules.one_of(PROTOCOLS), "`ui` is the AI SDK's UI message stream; else the protocol that the turn began with."
    )


class DeleteQuery(Form):
    """How to delete."""

    permanent = Ruled(truth, "For good, past the trash or out of it.")


class ListedConversation(Conversation, total=False):
    """A conversation in a list, with its newest messages where the query asked for them."""

    messages: list[Message]


class ConversationPage(types.Page):
    """Some conversations, and where the next ones begin."""

    conversations: list[ListedConversation]


class _ConversationWithMessages(Conversation, types.Page):
    messages: list[Message]


class ConversationWithMessages(_ConversationWithMessages, total=False):
    """A conversation with its newest messages, oldest first."""

    siblings: types.SiblingsOfPage


class SavedSnapshot(ConversationWithMessages):
    """A conversation after its snapshot was saved."""

    outcome: Literal["saved", "merged", "overwritten"]
    conflicts: Annotated[list[dict[str, Any]], types.Keywords(description="Empty: conflicts are answered with 409.")]


class Deleted(TypedDict):
    """The deleted conversation or message."""

    success: bool
    id: str
    permanent: bool


class BranchDeleted(TypedDict):
    """The branch that was deleted."""

    success: bool
    conversation_id: Id
    name: str


class Claimed(TypedDict):
    """How many conversations moved."""

    claimed: Count


class _Problem(TypedDict):
    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    retryable: bool


class Problem(_Problem, total=False):
    """An error, as RFC 9457 describes it."""

    errors: Annotated[dict[str, Any], types.Keywords(description="The errors by field, nested like the input.")]
    current: Annotated[Conversation, types.Keywords(description="The conversation as it is now, with 409 and 412.")]
