"""The page of the chat, and routes for scripts that return a whole answer.

The page does not use these routes: it uses the extension's REST API.
"""

from __future__ import annotations

import time
from typing import Any, NoReturn

from flask import (
    Blueprint,
    abort,
    current_app,
    jsonify,
    make_response,
    redirect,
    render_template,
    request,
    session,
    url_for,
)

from flask_conversations import current_conversations

from . import responder
from .extensions import conversations, db
from .login import current_user

bp = Blueprint("chat", __name__)

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""The page loads only its own files: a script injected by a message would not run."""


@bp.get("/")
def page() -> Any:
    """The sidebar and the chat of the logged-in user."""
    user = current_user()
    if user is None:
        session.clear()
        return redirect(url_for("login.page"))
    answers = responder.description(current_app.config)
    html = render_template("chat.html", user=user, answers=answers, database=db.engine.dialect.name)
    # not cached by the browser: after a logout, the back button must not show it to the next user
    return html, {"Cache-Control": "no-store", "Content-Security-Policy": CONTENT_SECURITY_POLICY}


@bp.post("/chat")
@bp.post("/api/chat")
@conversations.require_identity
def chat() -> Any:
    """Answer `{"message", "conversation_id"}`. Without an id, begin a conversation; without a message, answer the last one."""
    payload = _payload()
    conversation_id: Any = payload.get("conversation_id")

    if "message" in payload or not conversation_id:
        conversation_id = _keep(_question(payload.get("message")), conversation_id)
    history = current_conversations.get_conversation_history(conversation_id, limit=current_app.config["MAX_HISTORY"])
    if not history or history[-1]["role"] != "user":
        return {"error": "There is no question to answer.", "conversation_id": conversation_id}, 409

    started = time.monotonic()
    try:
        answer = responder.respond(history, current_app.config)
    except responder.NoAnswer as reason:
        # the question is kept: the same request without a message answers it
        return {"error": str(reason), "conversation_id": conversation_id}, 502
    saved = current_conversations.save_message(
        conversation_id,
        "assistant",
        answer.text,
        model=answer.model,
        tokens_used=answer.tokens_used,
        latency_ms=round((time.monotonic() - started) * 1000),
    )
    return {"conversation_id": conversation_id, "answer": answer.text, "message": saved}


@bp.post("/chat/agent")
@bp.post("/api/chat/agent")
@conversations.require_identity
def chat_agent() -> Any:
    """Answer `{"messages", "conversation_id", "filters"}` with a tool that looks up conversations, and store the tool's result."""
    payload = _payload()
    asked, filters = payload.get("messages"), payload.get("filters") or {}
    if not isinstance(asked, list) or not asked or not isinstance(asked[-1], dict) or not isinstance(filters, dict):
        _refuse("Send {messages: [{role, content}, ...], conversation_id, filters: {status, starred, tag}}.")
    question = _question(asked[-1].get("content"))
    filters = {name: filters[name] for name in ("status", "starred", "tag") if name in filters}
    found = current_conversations.list_conversations(limit=10, **filters)
    titles = [each["title"] for each in found["conversations"]]

    conversation_id = _keep(question, payload.get("conversation_id"))
    answer = responder.answer_with_titles(titles, more=found["has_more"])
    saved = current_conversations.save_message(
        conversation_id,
        "assistant",
        answer.text,
        model=answer.model,
        action_type="list_conversations",
        action_params=filters,
        action_result={"titles": titles},
        action_status="completed",
    )
    return {"conversation_id": conversation_id, "answer": answer.text, "message": saved}


def _payload() -> dict[str, Any]:
    """The JSON object of the request. Only application/json is read, which no foreign page can send with the visitor's cookie."""
    payload = request.get_json()
    if not isinstance(payload, dict):
        _refuse("Send a JSON object.")
    return payload


def _keep(question: str, conversation_id: str | None) -> str:
    """Save *question*, in a new conversation if no id is given, in one transaction. Returns the id of the conversation."""
    with current_conversations.transaction():
        conversation_id = conversation_id or current_conversations.create_conversation("New Conversation")["id"]
        current_conversations.save_message(conversation_id, "user", question)
    return conversation_id


def _question(text: Any) -> str:
    if not isinstance(text, str) or not text.strip():
        _refuse("The message is empty.")
    return text


def _refuse(reason: str) -> NoReturn:
    abort(make_response(jsonify(error=reason), 422))
