"""The requests of the AI SDK's chat, and the new message in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypedDict

from ...errors import ValidationFailed
from ...schemas import rules, types
from ...schemas.http_schemas import BranchQuery, Form, Ruled, message_id, own_id

SUBMIT, REGENERATE = "submit-message", "regenerate-message"

MEMBER = "trigger"
"""The member of a body that only the AI SDK sends."""


@rules.rule({"type": "array", "minItems": 1, "items": {"type": "object"}})
def _messages(value: Any) -> list[Any]:
    """A list of at least one message, each with an id. Their content is not validated, because only one of them is used."""
    if not isinstance(value, list) or not value:
        raise rules.Invalid("Must be a list of at least one message.")
    if not all(isinstance(one, dict) and isinstance(one.get("id"), str) for one in value):
        raise rules.Invalid("Each must be an object with an id.")
    return value


class ChatIn(Form):
    """The AI SDK's request: a new message, or a question to be answered again."""

    id = Ruled(
        own_id,
        "The chat: the id or client id of the conversation, which is created if it does not exist.",
        required=True,
    )
    messages = Ruled(
        _messages,
        "The messages of the page. Only the last one is used; the server has stored the others.",
        required=True,
    )
    trigger = Ruled(rules.one_of((SUBMIT, REGENERATE)), required=True)
    message_id = message_id(
        "The message that is answered again, edited, or whose tool calls were decided.", data_key="messageId"
    )


class ChatOfConversationIn(ChatIn):
    """The same request with the conversation in the path."""

    id = Ruled(rules.anything, "Ignored: the path names the conversation.")


class UIMessagesQuery(BranchQuery):
    """The initial messages of a chat."""


class UIMessage(TypedDict):
    """A message in the format of the AI SDK."""

    id: str
    role: Annotated[str, types.Keywords(enum=["system", "user", "assistant"])]
    metadata: dict[str, Any]
    parts: list[dict[str, Any]]


class UIMessagePage(types.Page):
    """A page of messages in the format of the AI SDK, oldest first, with the cursor of the next page."""

    messages: list[UIMessage]
    version: types.Number


def question_of(messages: Sequence[Mapping[str, Any]], place: int) -> dict[str, Any]:
    """The message at *place* in the format of `save_message`. Raises `ValidationFailed` with its errors."""
    message, problems = messages[place], rules.Problems()
    problems.take("role", rules.one_of(("user",)), message.get("role"))
    client_id = problems.take("id", rules.client_id, message["id"])
    metadata = problems.take("metadata", rules.optional(rules.json_object), message.get("metadata"))
    parts = message.get("parts")
    if not isinstance(parts, list) or not parts:
        problems.errors["parts"] = ["Must be a list of at least one part."]
        parts = []
    part_problems = rules.Problems()
    content = [part_problems.take(str(index), _part, part) for index, part in enumerate(parts)]
    if part_problems.errors:
        problems.errors["parts"] = part_problems.errors
    if problems.errors:
        raise ValidationFailed({"messages": {str(place): problems.errors}})
    question = {"role": "user", "content": _simplified(content), "client_id": client_id}
    return {**question, "metadata": metadata} if metadata else question


def _simplified(parts: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    if len(parts) == 1 and parts[0]["type"] == "text":
        return str(parts[0]["text"])
    return parts


def _part(part: Any) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text":
        return {"type": "text", "text": _text_member(part, "text")}
    if kind == "file":
        file = {"type": "file", "mediaType": _text_member(part, "mediaType"), "url": _text_member(part, "url")}
        if not file["url"].startswith(("https://", "http://", "data:", "/")):
            raise rules.Invalid("The url of a file must begin with https:, http:, data: or a slash.")
        return {**file, "filename": _text_member(part, "filename")} if part.get("filename") is not None else file
    if isinstance(kind, str) and kind.startswith("data-") and "data" in part:
        return {name: rules.json_value(part[name]) for name in ("type", "id", "data") if name in part}
    raise rules.Invalid("A question may have parts of type text, file and data-*.")


def _text_member(part: Mapping[str, Any], name: str) -> str:
    try:
        return str(rules.text()(part.get(name)))
    except rules.Invalid as problem:
        raise rules.Invalid(f"{name}: {problem}") from None


def decisions_of(messages: Sequence[Mapping[str, Any]], place: int) -> dict[str, bool]:
    """The user's decisions about the tool calls of a message, by call id. Raises `ValidationFailed` if there are none."""
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
