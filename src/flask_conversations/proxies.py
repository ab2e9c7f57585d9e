"""Proxies for the current request, like Flask-Login's `current_user`: `current_conversations` and `current_identity`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from flask import current_app
from werkzeug.local import LocalProxy

if TYPE_CHECKING:
    from .identity.base import Identity
    from .service import ConversationService
    from .state import State

EXTENSION = "flask_conversations"


def state() -> State:
    """The extension's state of the current app. Raises `RuntimeError` where there is none."""
    try:
        found: State = current_app.extensions[EXTENSION]
    except KeyError:
        raise RuntimeError("Flask-Conversations is not set up on this app: call conversations.init_app(app).") from None
    return found


current_conversations = cast("ConversationService", LocalProxy(lambda: state().current_service()))
"""The service of the identity that sent the current request. Raises `IdentityRequired` without one."""

current_identity = cast("Identity", LocalProxy(lambda: state().current_identity()))
"""The identity that sent the current request. Raises `IdentityRequired` without one."""
