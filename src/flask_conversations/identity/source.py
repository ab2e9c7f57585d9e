"""The source of a resolver's answer: a proof that a browser sends by itself, or one that only the caller could add."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import flask.globals
from flask import request

NOTE = "flask_conversations.identity.cookie_borne"
SENT_BY_BROWSERS = frozenset({"basic", "digest", "negotiate", "ntlm"})
"""Authorization schemes that a browser repeats by itself, also for a request that a foreign page started."""

# Flask 3.2 keeps the session in the app context, and deprecates request_ctx
_context: Any = vars(flask.globals).get("request_ctx", flask.globals.app_ctx)


def note_cookie_borne(cookie_borne: bool) -> None:
    """Note on this request whether the answer of the resolver comes from a cookie."""
    request.environ[NOTE] = cookie_borne


def ask(resolver: Callable[[], Any]) -> tuple[Any, bool]:
    """Run *resolver*, and return its answer and whether that came from a cookie.

    Our own resolvers note it themselves. For any other it is assumed if it read the session, or if the request has
    a cookie and no Authorization header that a browser would not send by itself.
    """
    request.environ.pop(NOTE, None)
    with _session_watched() as session_was_read:
        answer = resolver()
    noted: bool | None = request.environ.pop(NOTE, None)
    if noted is not None and getattr(resolver, "knows_source", False):
        return answer, noted
    return answer, bool(noted) or (has_cookie() and (session_was_read() or not has_explicit_authorization()))


def has_cookie() -> bool:
    return "Cookie" in request.headers


def has_authorization() -> bool:
    return "Authorization" in request.headers


def has_explicit_authorization() -> bool:
    """Whether the caller added an Authorization header that no browser adds by itself."""
    scheme = request.headers.get("Authorization", "").partition(" ")[0].lower()
    return scheme != "" and scheme not in SENT_BY_BROWSERS


@contextmanager
def _session_watched() -> Iterator[Callable[[], bool]]:
    """Watch whether the session is read inside, even if it was read before."""
    session = _session()
    if session is None or not hasattr(session, "accessed"):
        yield lambda: True
        return
    before, session.accessed = session.accessed, False
    read = False
    try:
        yield lambda: read
    finally:
        read = session.accessed
        session.accessed = before or read


def _session() -> Any:
    """The session, without reading `flask.session`, which counts as an access from Flask 3.1.3 on."""
    context = _context._get_current_object()
    return vars(context).get("_session", vars(context).get("session"))
