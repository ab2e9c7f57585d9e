"""The rules: one service bound to one identity, the only thing that hosts, routes, CLI and adapters talk to."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from .. import transaction
from .base import Backend, alone
from .branches import Branches
from .forks import ForkVerbs
from .guards import GuardContext
from .summaries import SummaryVerbs
from .turns import TurnVerbs
from .units import group

__all__ = ["AsyncConversationService", "Backend", "ConversationService", "GuardContext"]


class ConversationService(TurnVerbs, ForkVerbs, SummaryVerbs):
    """What one identity can do. Each call is one short transaction on the host's `db.session`, committed before it returns.

    Results are plain JSON-ready dicts. Everything is filtered by the identity: another user's conversation does not exist.
    """

    @property
    def branches(self) -> Branches:
        """The branches of a conversation: `create`, `list`, `switch`, `delete`."""
        return Branches(self._backend, self.identity, self._app)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[ConversationService]:
        """Group calls: all are committed together at the end, or none if the block raises.

        The group belongs to the session, and so to the thread and app context that opened it: don't `yield` out of it.
        """
        with self.context(), group(self):
            yield self

    @contextlib.contextmanager
    def joined(self) -> Iterator[ConversationService]:
        """Calls inside only flush; the host commits, and signals follow its commit."""
        with self.context(), transaction.joined(self.session):
            yield self

    @property
    def aio(self) -> AsyncConversationService:
        """The same calls as coroutines."""
        return AsyncConversationService(self)


class AsyncConversationService:
    """Every call of a service as a coroutine: it runs in a thread with an app context and a session of its own."""

    def __init__(self, service: ConversationService) -> None:
        with service.context():
            app = service.backend.app
        self._service: Any = ConversationService(
            lambda: app.extensions["flask_conversations"].backend, service.identity, app
        )

    @property
    def branches(self) -> AsyncConversationService:
        """The calls of `service.branches` as coroutines."""
        noun = AsyncConversationService.__new__(AsyncConversationService)
        noun._service = self._service.branches
        return noun

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        call = getattr(self._service, name)
        if name.startswith("_") or not callable(call) or name in ("transaction", "joined"):
            raise AttributeError(f"The async service has no call {name!r}.")

        @functools.wraps(call)
        async def coroutine(*args: Any, **kwargs: Any) -> Any:
            return await asyncio.to_thread(alone, call, *args, **kwargs)

        return coroutine
