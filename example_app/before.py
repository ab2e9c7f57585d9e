"""The chat as it was before: histories in a dict of this process, by browser session. A restart forgets them all.

FLASK_SECRET_KEY=... flask --app example_app.before run
"""

from __future__ import annotations

import time
import uuid
from collections import defaultdict, deque
from typing import Any

import jwt
from flask import Flask, abort, g, jsonify, request

from example_app.responder import respond

MAX_HISTORY = 20
PASSWORDS = {"ada": "lovelace", "bob": "builder"}

app = Flask(__name__)
app.config.from_prefixed_env()

SESSIONS: dict[str, deque[Any]] = defaultdict(lambda: deque(maxlen=2 * MAX_HISTORY))  # lost with the process


def get_session_history(sid: str, n: int) -> list[Any]:
    return list(SESSIONS[sid])[-n:]


@app.post("/chat")
def chat() -> Any:
    payload = request.get_json()
    question = payload["message"]
    sid = g.identity["sid"]
    history = get_session_history(sid, MAX_HISTORY)
    SESSIONS[sid].append({"role": "user", "content": question})
    answer = respond([*history, {"role": "user", "content": question}], app.config).text
    SESSIONS[sid].append({"role": "assistant", "content": answer})
    return {"answer": answer}


@app.before_request
def identify() -> None:
    """Identify the user by the token that the front end sends."""
    if request.endpoint == "login":
        return
    token = request.headers.get("Authorization", "").removeprefix("Bearer ")
    required = ["email", "dept", "sid", "iat", "exp"]
    try:
        claims = jwt.decode(token, app.config["SECRET_KEY"], algorithms=["HS256"], options={"require": required})
    except jwt.InvalidTokenError:
        abort(401)
    g.identity = {"user_id": claims["email"], "dept_id": claims["dept"], "sid": claims["sid"]}


@app.post("/login")
def login() -> Any:
    """A token for an hour, and a cookie that tells this browser from others for a week."""
    name, password = request.get_json()["name"], request.get_json()["password"]
    if PASSWORDS.get(name) != password:
        abort(401)
    sid, now = request.cookies.get("sid") or str(uuid.uuid4()), int(time.time())
    claims = {"email": f"{name}@example.com", "dept": "research", "sid": sid, "iat": now, "exp": now + 3600}
    response = jsonify(token=jwt.encode(claims, app.config["SECRET_KEY"], algorithm="HS256"))
    response.set_cookie("sid", sid, max_age=7 * 24 * 3600, path="/", httponly=True, samesite="Lax")
    return response
