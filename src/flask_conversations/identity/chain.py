"""Several identity resolvers, tried in order."""

from __future__ import annotations

from typing import Any, ClassVar

from flask import Flask

from ..config import Config
from ..errors import ConfigurationError
from .resolving import as_resolver, load_resolver
from .source import ask, has_authorization, note_cookie_borne


class ChainIdentity:
    """The first of *resolvers* that answers.

    An unsafe answer ends the chain. After an Authorization header that a `JWTIdentity` refuses, only other `JWTIdentity` are
    asked: a caller with a bad token is not let in as a guest or by a cookie.
    """

    knows_source: ClassVar[bool] = True

    def __init__(self, *resolvers: Any) -> None:
        if not resolvers:
            raise ConfigurationError("ChainIdentity is empty. Give it the resolvers to ask, in order.")
        self.resolvers = [as_resolver(resolver) for resolver in resolvers]

    @property
    def reads_authorization(self) -> bool:
        return any(_reads_authorization(resolver) for resolver in self.resolvers)

    def check(self, app: Flask, config: Config) -> None:
        """Raise `ConfigurationError` if one of the resolvers is not set up."""
        for resolver in self.resolvers:
            load_resolver(resolver, app, config)

    def __call__(self) -> Any:
        header_was_refused = False
        for resolver in self.resolvers:
            if header_was_refused and not _reads_authorization(resolver):
                continue
            answer, cookie_borne = ask(resolver)
            if answer is not None:
                note_cookie_borne(cookie_borne)
                return answer
            header_was_refused = header_was_refused or (_reads_authorization(resolver) and has_authorization())
        return None


def _reads_authorization(resolver: Any) -> bool:
    return bool(getattr(resolver, "reads_authorization", False))
