"""The host app behind real servers: its responder does what the question says. Settings come as `HOST_...` from outside."""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from flask import Flask, Response, jsonify, request
from flask_sqlalchemy import SQLAlchemy

from flask_conversations import Conversations, current_conversations
from flask_conversations.proxies import state
from flask_conversations.turns import Event
from tests.infra.apps import identity_from_headers

from .script import COST, SCRIPT, words


def create_app() -> Flask:
    """An app that takes its user from the header `X-Test-User`, unchecked."""
    app = Flask("host")
    app.config.update(SECRET_KEY="a key of the tests, long enough for HS256", CONVERSATIONS_LOCK_TIMEOUT=10, GATES="")
    app.config.from_prefixed_env("HOST")
    db = SQLAlchemy()
    conversations = Conversations(db, identity=identity_from_headers, responder=reply)
    db.init_app(app)
    conversations.init_app(app)
    _add_routes(app, db)
    return app


def reply(turn: Any) -> Iterator[str | Event]:
    """Say the script, or `words`, with a `pause` (seconds) after each; wait `first`, and before event number `gate`."""
    plan = json.loads(turn.message["content"])
    said = words(plan["words"]) if "words" in plan else SCRIPT
    _sleep(turn, plan.get("first", 0))
    for number, event in enumerate(said):
        if number == plan.get("gate"):
            _wait_at_gate(turn, plan)
        yield event
        _sleep(turn, plan.get("pause", 0))
    if plan.get("gate") == len(said):
        _wait_at_gate(turn, plan)
    yield COST


def _sleep(turn: Any, seconds: float) -> None:
    until = time.monotonic() + seconds
    while not turn.cancelled and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, 0.5))


def _wait_at_gate(turn: Any, plan: dict[str, Any]) -> None:
    """Until the test has made the file with the client id of the question."""
    gate = Path(turn.app.config["GATES"], turn.message["client_id"])
    until = time.monotonic() + 120
    while not (gate.exists() or turn.cancelled or time.monotonic() > until):
        time.sleep(plan.get("poll", 0.01))


def _add_routes(app: Flask, db: SQLAlchemy) -> None:
    @app.get("/pid")
    def pid() -> Response:
        return jsonify(os.getpid())

    @app.get("/inside")
    def inside() -> Response:
        """What the worker holds at the moment."""
        turns = state().turns
        return jsonify(
            pid=os.getpid(),
            streams=turns.streams,
            turns=len(turns._executions),
            connections=db.engine.pool.checkedout(),  # type: ignore[attr-defined]
            threads=[thread.name for thread in threading.enumerate()],
            greenlets=_greenlets() if request.args.get("greenlets") == "1" else None,
            cpu=sum(os.times()[:2]),
        )

    @app.post("/aio/<conversation_id>")
    async def aio(conversation_id: str) -> Any:
        """An async view of the host."""
        answer: Any = await current_conversations.aio.send_message(conversation_id, request.get_data(as_text=True))
        return jsonify(answer)

    @app.post("/recorded/<conversation_id>")
    def recorded(conversation_id: str) -> Response:
        """A route that calls its own model, which is asynchronous, and streams what it says."""
        current_conversations.save_message(conversation_id, "user", request.get_data(as_text=True))
        return Response(
            current_conversations.record_stream(conversation_id, _model(), model="m-2"), mimetype="text/plain"
        )

    @app.post("/recorded-async/<conversation_id>")
    async def recorded_async(conversation_id: str) -> Response:
        """The same in an async view."""
        await current_conversations.aio.save_message(conversation_id, "user", request.get_data(as_text=True))
        return Response(
            current_conversations.record_stream(conversation_id, _model(), model="m-2"), mimetype="text/plain"
        )


async def _model() -> AsyncIterator[str]:
    import asyncio

    for word in words(40):
        await asyncio.sleep(0.01)
        yield word


def _greenlets() -> int:
    if "gevent" not in sys.modules:
        return 0
    import greenlet

    gc.collect()
    return sum(isinstance(one, greenlet.greenlet) and bool(one) for one in gc.get_objects())
