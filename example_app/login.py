"""Logging in and out: a session for the page, a token for API clients."""

from __future__ import annotations

import time
from typing import Any

import jwt
from flask import Blueprint, abort, current_app, redirect, render_template, request, session, url_for

from .extensions import db
from .people import User, with_password

bp = Blueprint("login", __name__)


@bp.get("/login")
def page() -> Any:
    """The login form; redirects a logged-in user to the chat."""
    if current_user() is not None:
        return redirect(url_for("chat.page"))
    return _form()


@bp.post("/login")
def login() -> Any:
    """Log in: a form gets a session and a redirect to the chat, JSON gets a token."""
    if request.is_json:
        return _token()
    # a foreign page must not log its visitors in as another user, who could then read what they write
    if request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site"):
        abort(403)
    user = with_password(request.form.get("name", "").strip().lower(), request.form.get("password", ""))
    if user is None:
        return _form("Name and password do not match."), 401
    session.clear()  # remove the data of the previous login
    session["user_id"] = str(user.id)
    return redirect(url_for("chat.page"))


@bp.post("/logout")
def logout() -> Any:
    """Log out."""
    session.clear()
    return redirect(url_for("login.page"))


def current_user() -> User | None:
    """The user of the session, if they still exist."""
    return db.session.get(User, int(session["user_id"])) if "user_id" in session else None


def _form(error: str | None = None) -> Any:
    return render_template("login.html", error=error, name=request.form.get("name", ""))


def _token() -> Any:
    given = request.get_json()
    name, password = (given.get("name"), given.get("password")) if isinstance(given, dict) else (None, None)
    user = with_password(name, password) if isinstance(name, str) and isinstance(password, str) else None
    if user is None:
        return {"error": "Name and password do not match."}, 401
    seconds = current_app.config["TOKEN_SECONDS"]
    return {"token": token_for(user, seconds), "token_type": "Bearer", "expires_in": seconds}


def token_for(user: User, seconds: int) -> str:
    """A JSON Web Token for *user*, valid for *seconds*. It needs no session id: conversations belong to the user."""
    now = int(time.time())
    claims = {"sub": str(user.id), "email": user.email, "dept": user.dept, "iat": now, "exp": now + seconds}
    claims["aud"] = current_app.config["CONVERSATIONS_JWT_AUDIENCE"]
    return jwt.encode(claims, current_app.config["CONVERSATIONS_JWT_KEY"], algorithm="HS256")
