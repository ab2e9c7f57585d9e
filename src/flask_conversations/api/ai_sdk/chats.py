"""The AI SDK's chat: `useChat` posts all that it does to one address, and means a conversation by the id of its chat."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from flask import Response

from ... import errors
from ...proxies import current_conversations, state
from ...schemas import messages as message_schema
from ...service import http
from .. import stream
from ..routing import Alternative, Route, Routes, count_against
from . import requests

routes = Routes()


@routes.add(
    "GET", "/<conversation_id>/ui-messages", query=requests.UIMessagesQuery, answers={200: requests.UIMessagePage}
)
def list_ui_messages(conversation_id: str, query: dict[str, Any]) -> Any:
    """Get a page of messages as the AI SDK shows them, for a chat to begin with."""
    return http.get_ui_messages(state().current_units(), conversation_id, **query)


def answer_chat(body: dict[str, Any]) -> Response:
    """Answer a chat, as the conversation that its first message creates."""
    return _answered(body["id"], body, may_create=True)


def answer_chat_in(conversation_id: str, body: dict[str, Any]) -> Response:
    """Answer a chat in a conversation that is there."""
    return _answered(conversation_id, body, may_create=False)


def _always(arguments: dict[str, Any]) -> bool:
    return True


def _is_chat(body: Mapping[str, Any]) -> bool:
    return requests.MEMBER in body


CHAT = Alternative(
    Route("POST", "", answer_chat, "Answer a chat", body=requests.ChatIn, turns=_always, verbatim=True), _is_chat
)
CHAT_IN = Alternative(
    Route(
        "POST",
        "/<conversation_id>/messages",
        answer_chat_in,
        "Answer a chat",
        body=requests.ChatOfConversationIn,
        turns=_always,
        verbatim=True,
    ),
    _is_chat,
)


def _answered(chat: str, body: dict[str, Any], *, may_create: bool) -> Response:
    messages, message_id = body["messages"], body.get("message_id")
    if body[requests.MEMBER] == requests.REGENERATE:
        count_against("send")
        return _again(chat, messages, message_id, may_create)
    places = [place for place, message in enumerate(messages) if message["id"] == message_id]
    place = places[-1] if places else len(messages) - 1
    if messages[place].get("role") == "assistant":
        return _decided(chat, messages, place)
    count_against("send")
    if place != len(messages) - 1:
        raise errors.ValidationFailed({"messageId": ["Must be the last of the messages."]})
    question = _question(messages)
    known = _stored(chat, question["client_id"]) if message_id is not None else None
    if known is not None:
        return _put_differently(chat, question, known)
    return _asked(chat, question, may_create)


def _question(messages: list[dict[str, Any]]) -> dict[str, Any]:
    question = requests.question_of(messages, len(messages) - 1)
    message_schema.refuse_unwritable(question, state().config.client_roles)
    return question


def _asked(chat: str, question: dict[str, Any], may_create: bool) -> Response:
    """Ask a question, in a new conversation if there is none by that name."""
    created = _create(chat) if may_create else False
    try:
        return stream.of_new_turn(chat, "send", question, protocol="ui")
    except errors.ConversationsError as error:
        if created and error.status < 500:
            _take_back(chat)
        raise


def _create(chat: str) -> bool:
    """Have a conversation by that name; whether it had to be created."""
    try:
        http.check_conversation(state().current_units(), chat)
    except errors.ConversationNotFound:
        count_against("create")
        return not http.create_conversation(state().current_units(), id=chat).replayed
    return False


def _take_back(chat: str) -> None:
    """Remove the conversation that was created for a refused question, if it is still there and empty."""
    # the client is told why the question was refused, whatever becomes of an empty conversation
    with contextlib.suppress(errors.ConversationsError), current_conversations.transaction():
        if current_conversations.lock_conversation(chat)["message_count"] == 0:
            current_conversations.delete_conversation(chat, permanent=True)


def _put_differently(chat: str, question: dict[str, Any], stored: Mapping[str, Any]) -> Response:
    """Ask a stored question differently. The chat keeps its id: the one that counts is the newest that stands in its place."""
    standing = _as_it_stands(chat, stored)
    newest = current_conversations.get_messages(chat, limit=2)["messages"]
    if standing["content"] != question["content"] or standing["id"] not in [message["id"] for message in newest]:
        differently = {name: value for name, value in question.items() if name != "client_id"}
        return stream.of_new_turn(chat, "edit", differently, standing["id"], protocol="ui")
    if standing["client_id"] == question["client_id"]:
        return stream.of_new_turn(chat, "send", question, protocol="ui")
    return _answered_again(chat, standing)


def _again(chat: str, messages: list[dict[str, Any]], message_id: str | None, may_create: bool) -> Response:
    """Answer a question again. One that has never arrived is asked now: the chat does the same to try again."""
    last = messages[-1]
    target = message_id or last["id"]
    known = _stored(chat, target)
    if known is None and last["id"] == target and last.get("role") == "user":
        return _asked(chat, _question(messages), may_create)
    if known is None:
        http.check_conversation(state().current_units(), chat)
        raise errors.MessageNotFound
    if known["role"] == "user":
        return _answered_again(chat, _as_it_stands(chat, known))
    return stream.of_new_turn(chat, "regenerate", None, known["id"], protocol="ui")


def _answered_again(chat: str, question: Mapping[str, Any]) -> Response:
    """Answer a question again, unless a turn is still at work on it."""
    running = http.current_turn(state().current_units(), chat)
    if running is not None and running["question_id"] == question["id"]:
        stream.refuse_too_many()
        return stream.of_turn(chat, running, protocol="ui", replayed=True)
    return stream.of_new_turn(chat, "regenerate", None, question["id"], protocol="ui")


def _stored(chat: str, message_id: str) -> Any:
    """The message by that id or client id; None if there is none."""
    try:
        return current_conversations.get_message(chat, message_id)
    except (errors.ConversationNotFound, errors.MessageNotFound):
        return None


def _as_it_stands(chat: str, question: Mapping[str, Any]) -> Mapping[str, Any]:
    """The question on the active branch that stands where this one was asked."""
    after = question["parent_id"] or 0
    here = current_conversations.get_messages(chat, after=after, limit=1)["messages"]
    stands = bool(here) and here[0]["parent_id"] == question["parent_id"] and here[0]["role"] == "user"
    return here[0] if stands else question


def _decided(chat: str, messages: list[dict[str, Any]], place: int) -> Response:
    """Do as the user has decided, and tell what happens from there on. What was decided before is not done twice."""
    decisions = requests.decisions_of(messages, place)
    answer = current_conversations.get_message(chat, messages[place]["id"])
    turn = current_conversations.get_state(chat, limit=1)["turn"]
    if turn is None or turn["answer_id"] != answer["id"]:
        raise errors.Conflict("These tool calls belong to a turn that is over.")
    stream.refuse_too_many()
    try:
        _decide(chat, answer, decisions)
    except errors.Conflict:
        answer = current_conversations.get_message(chat, answer["id"])
        if _undone(answer, decisions):
            raise
    return stream.of_turn(chat, turn, protocol="ui", calls=decisions, continued=True)


def _decide(chat: str, answer: Mapping[str, Any], decisions: Mapping[str, bool]) -> None:
    undone = _undone(answer, decisions)
    for approved in (True, False):
        if names := [name for name in undone if decisions[name] is approved]:
            current_conversations.approve_tools(chat, names, approved, message_id=answer["id"], wait=False)


def _undone(answer: Mapping[str, Any], decisions: Mapping[str, bool]) -> list[str]:
    """The calls of which something else is known than what the user has decided."""
    known = {part["id"]: part.get("approval") for part in answer["parts"] or () if part["type"] == "tool_call"}
    return [name for name, yes in decisions.items() if known.get(name) != ("approved" if yes else "denied")]
