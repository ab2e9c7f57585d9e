"""The AI SDK's chat: `useChat` posts all requests to one URL; the id of its chat is the id of a conversation."""

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
    """Get a page of messages in the format of the AI SDK, as the initial messages of a chat."""
    return http.get_ui_messages(state().current_units(), conversation_id, **query)


def answer_chat(body: dict[str, Any]) -> Response:
    """Answer a chat; its first message creates the conversation."""
    return _answer(body["id"], body, may_create=True)


def answer_chat_in(conversation_id: str, body: dict[str, Any]) -> Response:
    """Answer a chat in an existing conversation."""
    return _answer(conversation_id, body, may_create=False)


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


def _answer(chat: str, body: dict[str, Any], *, may_create: bool) -> Response:
    messages, message_id = body["messages"], body.get("message_id")
    if body[requests.MEMBER] == requests.REGENERATE:
        count_against("send")
        return _regenerate(chat, messages, message_id, may_create)
    places = [place for place, message in enumerate(messages) if message["id"] == message_id]
    place = places[-1] if places else len(messages) - 1
    if messages[place].get("role") == "assistant":
        return _apply_decisions(chat, messages, place)
    count_against("send")
    if place != len(messages) - 1:
        raise errors.ValidationFailed({"messageId": ["Must be the last of the messages."]})
    question = _question(messages)
    known = _find_message(chat, question["client_id"]) if message_id is not None else None
    if known is not None:
        return _edit_question(chat, question, known)
    return _ask(chat, question, may_create)


def _question(messages: list[dict[str, Any]]) -> dict[str, Any]:
    question = requests.question_of(messages, len(messages) - 1)
    message_schema.refuse_unwritable(question, state().config.client_roles)
    return question


def _ask(chat: str, question: dict[str, Any], may_create: bool) -> Response:
    """Ask a question; with *may_create* in a new conversation if there is none with the id."""
    created = _create(chat) if may_create else False
    try:
        return stream.of_new_turn(chat, "send", question, protocol="ui")
    except errors.ConversationsError as error:
        if created and error.status < 500:
            _delete_empty(chat)
        raise


def _create(chat: str) -> bool:
    """Create the conversation unless it exists; True if it was created."""
    try:
        http.check_conversation(state().current_units(), chat)
    except errors.ConversationNotFound:
        count_against("create")
        return not http.create_conversation(state().current_units(), id=chat).replayed
    return False


def _delete_empty(chat: str) -> None:
    """Remove the conversation that was created for a refused question, if it is still there and empty."""
    # the client gets the error of the question, also if the empty conversation cannot be deleted
    with contextlib.suppress(errors.ConversationsError), current_conversations.transaction():
        if current_conversations.lock_conversation(chat)["message_count"] == 0:
            current_conversations.delete_conversation(chat, permanent=True)


def _edit_question(chat: str, question: dict[str, Any], stored: Mapping[str, Any]) -> Response:
    """Ask an edited question. The chat keeps the id of the first version: its newest version on the active branch is edited."""
    active = _active_version(chat, stored)
    newest = current_conversations.get_messages(chat, limit=2)["messages"]
    if active["content"] != question["content"] or active["id"] not in [message["id"] for message in newest]:
        edited = {name: value for name, value in question.items() if name != "client_id"}
        return stream.of_new_turn(chat, "edit", edited, active["id"], protocol="ui")
    if active["client_id"] == question["client_id"]:
        return stream.of_new_turn(chat, "send", question, protocol="ui")
    return _answer_again(chat, active)


def _regenerate(chat: str, messages: list[dict[str, Any]], message_id: str | None, may_create: bool) -> Response:
    """Answer a question again. A question that is not stored is asked now: the chat also regenerates to retry a lost request."""
    last = messages[-1]
    target = message_id or last["id"]
    known = _find_message(chat, target)
    if known is None and last["id"] == target and last.get("role") == "user":
        return _ask(chat, _question(messages), may_create)
    if known is None:
        http.check_conversation(state().current_units(), chat)
        raise errors.MessageNotFound
    if known["role"] == "user":
        return _answer_again(chat, _active_version(chat, known))
    return stream.of_new_turn(chat, "regenerate", None, known["id"], protocol="ui")


def _answer_again(chat: str, question: Mapping[str, Any]) -> Response:
    """Answer a question again, or follow the turn that is still answering it."""
    running = http.current_turn(state().current_units(), chat)
    if running is not None and running["question_id"] == question["id"]:
        stream.refuse_too_many()
        return stream.of_turn(chat, running, protocol="ui", replayed=True)
    return stream.of_new_turn(chat, "regenerate", None, question["id"], protocol="ui")


def _find_message(chat: str, message_id: str) -> Any:
    """The message with that id or client id; None if there is none."""
    try:
        return current_conversations.get_message(chat, message_id)
    except (errors.ConversationNotFound, errors.MessageNotFound):
        return None


def _active_version(chat: str, question: Mapping[str, Any]) -> Mapping[str, Any]:
    """The version of *question* on the active branch."""
    after = question["parent_id"] or 0
    here = current_conversations.get_messages(chat, after=after, limit=1)["messages"]
    stands = bool(here) and here[0]["parent_id"] == question["parent_id"] and here[0]["role"] == "user"
    return here[0] if stands else question


def _apply_decisions(chat: str, messages: list[dict[str, Any]], place: int) -> Response:
    """Apply the user's decisions, and send the events behind them. Decided calls are skipped."""
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
        if _undecided(answer, decisions):
            raise
    return stream.of_turn(chat, turn, protocol="ui", calls=decisions, continued=True)


def _decide(chat: str, answer: Mapping[str, Any], decisions: Mapping[str, bool]) -> None:
    undecided = _undecided(answer, decisions)
    for approved in (True, False):
        if names := [name for name in undecided if decisions[name] is approved]:
            current_conversations.approve_tools(chat, names, approved, message_id=answer["id"], wait=False)


def _undecided(answer: Mapping[str, Any], decisions: Mapping[str, bool]) -> list[str]:
    """The calls whose stored decision differs from the user's."""
    known = {part["id"]: part.get("approval") for part in answer["parts"] or () if part["type"] == "tool_call"}
    return [name for name, yes in decisions.items() if known.get(name) != ("approved" if yes else "denied")]
