"""For the tests of host apps: a test client that acts as a given user, without the login of the app."""

from __future__ import annotations

from typing import Any, cast

from flask import Flask
from flask.testing import FlaskClient

from . import ConversationService
from .identity import Identity
from .identity.resolving import ACTING_IDENTITY
from .proxies import EXTENSION

__all__ = ["ConversationsClient"]


class ConversationsClient(FlaskClient):
    """A test client whose requests come from *user*; without a user if that is None.

    The app's identity resolver is not called, so no token, cookie or login is needed. Requests count as sent by a page of the
    same site, so that no CSRF token is needed either. Everything else is Flask's test client: `client.post(path, json=...)`.
    """

    def __init__(self, app: Flask, user: str | Identity | None = "ada", org: str | None = None, **options: Any) -> None:
        super().__init__(app, app.response_class, **options)
        self.identity = _identity(user, org)
        sent = {ACTING_IDENTITY: self.identity, "HTTP_SEC_FETCH_SITE": "same-origin"}
        cast("dict[str, Any]", self.environ_base).update(sent)

    @property
    def service(self) -> ConversationService:
        """The service of this user, to arrange a test or to check the effect of a request."""
        if self.identity is None:
            raise ValueError("A client without a user has no conversations: make one with a user.")
        app: Flask = self.application
        service: ConversationService = app.extensions[EXTENSION].service_for(self.identity)
        return service


def _identity(user: str | Identity | None, org: str | None) -> Identity | None:
    return user if user is None or isinstance(user, Identity) else Identity(user, org)
