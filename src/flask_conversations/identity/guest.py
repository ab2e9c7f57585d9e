"""Guests: users without a login, known by a signed cookie that they get on their first request."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from flask import Flask, Response, after_this_request, current_app, request
from itsdangerous import BadData

from ..config import Config
from .base import Identity
from .resolving import GUEST_PREFIX
from .settings import current_config, current_flask_app, require_secret_key, signer
from .source import note_cookie_borne

NEW_GUEST = "flask_conversations.identity.new_guest"
NO_COOKIE = "flask_conversations.identity.no_guest_cookie"
PURPOSE = "guest cookie"


class AnonymousIdentity:
    """The guest of the request's cookie, or a new guest, who gets a cookie. It always answers, so it goes last in a chain."""

    knows_source: ClassVar[bool] = True

    def check(self, app: Flask, config: Config) -> None:
        require_secret_key(app, PURPOSE)

    def __call__(self) -> Identity:
        user_id = request.environ.get(NEW_GUEST) or guest_from_cookie() or _new_guest()
        note_cookie_borne(True)
        return Identity(user_id=user_id, anonymous=True)


def guest_from_cookie() -> str | None:
    """The guest's user id by the signed cookie of this request; None without one, or if it is forged or too old."""
    config = current_config()
    cookie = request.cookies.get(config.guest_cookie)
    if not cookie or not current_app.secret_key:
        return None
    try:
        return _guest(signer(PURPOSE).loads(cookie, max_age=config.guest_days * 86_400))
    except BadData:
        return None


def is_new_guest(identity: Identity) -> bool:
    """Whether this is a guest without a cookie, new with this request."""
    return bool(request.environ.get(NEW_GUEST) == identity.user_id)


def forget_guest() -> None:
    """Delete the guest's cookie with the response to this request, once the conversations belong to another owner."""
    withhold_guest_cookie()
    after_this_request(_delete_cookie)


def withhold_guest_cookie() -> None:
    """Give no cookie to a guest who is new with this request: a refused request must not replace the one they have."""
    request.environ[NO_COOKIE] = True


def _new_guest() -> str:
    require_secret_key(current_flask_app(), PURPOSE)
    user_id = GUEST_PREFIX + str(uuid.uuid4())
    request.environ[NEW_GUEST] = user_id
    after_this_request(_set_cookie)
    return user_id


def _guest(signed: Any) -> str | None:
    return GUEST_PREFIX + signed if isinstance(signed, str) and signed else None


def _set_cookie(response: Response) -> Response:
    if NO_COOKIE in request.environ:
        return response
    config = current_config()
    response.vary.add("Cookie")
    response.set_cookie(
        config.guest_cookie,
        signer(PURPOSE).dumps(request.environ[NEW_GUEST].removeprefix(GUEST_PREFIX)),
        max_age=config.guest_days * 86_400,
        path="/",
        httponly=True,
        samesite="Lax",
        secure=_is_secure(),
    )
    return response


def _delete_cookie(response: Response) -> Response:
    response.delete_cookie(current_config().guest_cookie, path="/", httponly=True, samesite="Lax", secure=_is_secure())
    return response


def _is_secure() -> bool:
    return request.is_secure or bool(current_app.config.get("SESSION_COOKIE_SECURE"))
