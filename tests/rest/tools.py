"""What REST tests share: URLs, and the check of a problem."""

from __future__ import annotations

from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

URL = "/api/conversations"
NOBODYS_UUID = "5b1f7a3e-9d57-4c61-9a7d-6a1f5a0f7c11"


def created(client: FlaskClient, *texts: str, **fields: Any) -> dict[str, Any]:
    """A new conversation of that client's, with user messages."""
    messages = {"messages": [{"role": "user", "content": text} for text in texts]} if texts else {}
    answer = client.post(URL, json={**messages, **fields})
    assert answer.status_code == 201, answer.text
    return answer.json


def said(client: FlaskClient, conversation_id: str, text: str, **fields: Any) -> dict[str, Any]:
    """A new message of that client's."""
    answer = client.post(f"{URL}/{conversation_id}/messages", json={"content": text, **fields})
    assert answer.status_code == 201, answer.text
    return answer.json[0]


def contents(client: FlaskClient, conversation_id: str) -> list[Any]:
    return [message["content"] for message in client.get(f"{URL}/{conversation_id}").json["messages"]]


def problem(answer: TestResponse, status: int, code: str) -> dict[str, Any]:
    """The body of a problem, once status, media type and code are right."""
    assert answer.status_code == status, answer.text
    assert answer.mimetype == "application/problem+json"
    body: dict[str, Any] = answer.json
    assert {"type", "title", "status", "detail", "code", "request_id", "retryable"} <= set(body)
    assert (body["status"], body["code"]) == (status, code)
    assert body["request_id"] == answer.headers["X-Request-ID"]
    return body
