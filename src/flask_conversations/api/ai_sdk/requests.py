"""What the AI SDK's chat sends and gets: its request, and the message in it that is new."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypedDict

from ...errors import ValidationFailed
from ...schemas import rules, types
from ...schemas.http_schemas import BranchQuery, Form, Ruled, message_id, own_id

SUBMIT, REGENERATE = "submit-message", "regenerate-message"

MEMBER = "trigger"
"""The member of a body that tells the AI SDK from every other client."""


@rules.rule({"type": "array", "minItems": 1, "items": {"type": "object"}})
def _messages(value: Any) -> list[Any]:
    """At least one message. What they say is not looked at: only the one that is asked about counts."""
    if not isinstance(value, list) or not value:
        raise rules.Invalid("Must be a list of at least one message.")
    if not all(isinstance(one, dict) and isinstance(one.get("id"), str) for one in value):
        raise rules.Invalid("Each must be an object with an id.")
    return value


class ChatIn(Form):
    """The AI SDK's request: a new message, or a question to be answered again."""

    id = Ruled(
        own_id,
        "The chat: the id or client id of the conversation, which is created if it is not there.",
        required=True,
    )
    messages = Ruled(
        _messages,
        "What the page shows. Only the last message is taken; the server knows the others itself.",
        required=True,
    )
    trigger = Ruled(rules.one_of((SUBMIT, REGENERATE)), required=True)
    message_id = message_id(
        "The message that is answered again, put differently, or whose tool calls were decided.", data_key="messageId"
    )


class ChatOfConversationIn(ChatIn):
    """The same where the path names the conversation."""

    id = Ruled(rules.optional(rules.json_value), "Not taken: the path names the conversation.")


class UIMessagesQuery(BranchQuery):
    """Which messages a chat begins with."""


class UIMessage(TypedDict):
    """A message as the AI SDK shows it."""

    id: str
    role: Annotated[str, types.Keywords(enum=["system", "user", "assistant"])]
    metadata: dict[str, Any]
    parts: list[dict[str, Any]]


class UIMessagePage(types.Page):
    """Some messages as the AI SDK shows them, oldest first, and where the next ones begin."""

    messages: list[UIMessage]
    version: types.Number


def question_of(messages: Sequence[Mapping[str, Any]], place: int) -> dict[str, Any]:
    """The message at *place* as ours. Raises `ValidationFailed` naming it and what is wrong."""
    message, problems = messages[place], rules.Problems()
    problems.take("role", rules.one_of(("user",)), message.get("role"))
    client_id = problems.take("id", rules.client_id, message["id"])
    metadata = problems.take("metadata", rules.optional(rules.json_object), message.get("metadata"))
    parts = message.get("parts")
    if not isinstance(parts, list) or not parts:
        problems.errors["parts"] = ["Must be a list of at least one part."]
        parts = []
    taken = rules.Problems()
    content = [taken.take(str(index), _part, part) for index, part in enumerate(parts)]
    if taken.errors:
        problems.errors["parts"] = taken.errors
    if problems.errors:
        raise ValidationFailed({"messages": {str(place): problems.errors}})
    question = {"role": "user", "content": _shortest(content), "client_id": client_id}
    return {**question, "metadata": metadata} if metadata else question


def _shortest(parts: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    if len(parts) == 1 and parts[0]["type"] == "text":
        return str(parts[0]["text"])
    return parts


def _part(part: Any) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text":
        return {"type": "text", "text": _of(part, "text")}
    if kind == "file":
        file = {"type": "file", "mediaType": _of(part, "mediaType"), "url": _of(part, "url")}
        if not file["url"].startswith(("https://", "http://", "data:", "/")):
            raise rules.Invalid("The url of a file must begin with https:, http:, data: or a slash.")
        return {**file, "filename": _of(part, "filename")} if part.get("filename") is not None else file
    if isinstance(kind, str) and kind.startswith("data-") and "data" in part:
        return {name: rules.json_value(part[name]) for name in ("type", "id", "data") if name in part}
    raise rules.Invalid("A question may have parts of type text, file and data-*.")


def _of(part: Mapping[str, Any], name: str) -> str:
    try:
        return str(rules.text()(part.get(name)))
    except rules.Invalid as problem:
        raise rules.Invalid(f"{name}: {problem}") from None


def decisions_of(messages: Sequence[Mapping[str, Any]], place: int) -> dict[str, bool]:
    """What the user has decided of the tool calls in a message, by their ids. Raises `ValidationFailed` if that is nothing."""
    parts = messages[place].get("parts")
    found = {}
    for part in parts if isinstance(parts, list) else ():
        approval = part.get("approval") if isinstance(part, dict) else None
        if isinstance(approval, dict) and part.get("state") == "approval-responded":
            name, approved = part.get("toolCallId"), approval.get("approved")
            if isinstance(name, str) and isinstance(approved, bool):
                found[name] = approved
    if not found:
        raise ValidationFailed(
            {
                "messages": {
                    str(place): ["Must be a question, or an answer with tool calls that the user has decided about."]
                }
            }
        )
    return found
