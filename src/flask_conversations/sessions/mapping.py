"""The mapping from an app's keys to deques of the current identity."""

from __future__ import annotations

import functools
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, TypeVar

from flask import Flask, has_app_context, has_request_context

from ..errors import IdentityRequired
from ..identity import Identity
from ..identity.settings import current_flask_app
from ..proxies import state
from . import keys
from .comparison import Comparison
from .deques import SessionDeque
from .hybrid import HybridBackend
from .items import thaw
from .keys import Key
from .memory import Memory, Mode, Owner

if TYPE_CHECKING:
    from typing_extensions import Self

    from ..service import ConversationService

T = TypeVar("T")

logger = logging.getLogger("flask_conversations")

_MISSING: Any = object()


class Sessions(MutableMapping[Key, SessionDeque]):
    """A persistent `defaultdict(lambda: deque(maxlen=maxlen))`, created by `conversations.sessions(maxlen)`.

    In a request it has only the keys of the identity of the request; elsewhere use `as_user`. A key is one
    conversation. A missing key reads as an empty deque and is created by the first append.
    """

    def __init__(
        self,
        as_user: Callable[..., ConversationService],
        maxlen: int | None = None,
        *,
        write: str = "database",
        read: str = "database",
        forget: bool = False,
    ) -> None:
        if maxlen is not None and (not isinstance(maxlen, int) or isinstance(maxlen, bool) or maxlen < 1):
            raise ValueError(f"maxlen is {maxlen!r}, but must be a whole number from 1 on, or None.")
        self.maxlen = maxlen
        self._as_user, self._forget = as_user, forget
        self._memory = Memory(Mode(write, read))
        self._bound: tuple[Identity, Flask | None] | None = None

    def as_user(self, user_id: str | Identity, org_id: str | None = None, *, app: Flask | None = None) -> Self:
        """The same sessions for one user, outside a request: worker, CLI, shell, test. With *app* no context is needed."""
        if isinstance(user_id, Identity) and hasattr(user_id, "_get_current_object"):
            # the proxy would be another identity in the next request
            user_id = user_id._get_current_object()
        identity = self._as_user(user_id, org_id, app=app).identity
        assert identity is not None
        return self._of(identity, app)

    def _of(self, identity: Identity, app: Flask | None) -> Self:
        if app is None and has_app_context():
            # for threads that are started here
            app = current_flask_app()
        bound = object.__new__(type(self))
        bound.__dict__.update(self.__dict__, _bound=(identity, app))
        return bound

    # --- as a dict

    def __getitem__(self, key: Key) -> SessionDeque:
        keys.client_id(key)
        return SessionDeque(self._backend(), key)

    def __setitem__(self, key: Key, items: Iterable[Any]) -> None:
        """Replace the deque by *items* in one transaction: an overlap with its end keeps its messages, all others are deleted."""
        keys.client_id(key)
        self._backend().put(key, self._listed(items))

    def __delitem__(self, key: Key) -> None:
        """Delete the conversation like `delete_conversation`: into the trash, or permanently with `forget`."""
        keys.client_id(key)
        if not self._backend().delete(key):
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, (str, int)) and not isinstance(key, bool) and self._backend().exists(key)

    def __iter__(self) -> Iterator[Key]:
        return self._backend().keys()

    def __reversed__(self) -> Iterator[Key]:
        return self._backend().keys(newest_first=True)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __bool__(self) -> bool:
        return next(iter(self), _MISSING) is not _MISSING

    def __eq__(self, other: object) -> bool:
        return self.copy() == dict(other) if isinstance(other, Mapping) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as for every mutable container

    def __repr__(self) -> str:
        # neither keys nor items: a repr ends up in logs and error reports
        return f"<Sessions, maxlen={self.maxlen}, write={self.mode.write!r}, read={self.mode.read!r}>"

    def get(self, key: Key, default: Any = None) -> Any:
        """The deque of an existing key, else *default*."""
        found = self[key]
        return found if key in self else default

    def setdefault(self, key: Key, default: Iterable[Any] | None = None) -> SessionDeque:
        """The deque of *key*, which is created with *default* if it does not exist."""
        found = self[key]
        if key not in self:
            self._backend().create(key, self._listed(() if default is None else default))
        return found

    def pop(self, key: Key, default: Any = _MISSING) -> Any:
        """Delete *key* as `del` does and return a plain deque of its items."""
        backend = self._backend()
        items = backend.newest(key)
        if items is None or not backend.delete(key):
            if default is _MISSING:
                raise KeyError(key)
            return default
        return deque(map(thaw, items), self.maxlen)

    def popitem(self) -> tuple[Key, Any]:
        """Delete the newest key, as a dict does, and return it with a plain deque of its items."""
        for key in reversed(self):
            return key, self.pop(key)
        raise KeyError("popitem(): there are no sessions")

    def clear(self) -> None:
        """Delete every key of this identity."""
        backend = self._backend()
        for key in list(backend.keys()):
            backend.delete(key)

    def copy(self) -> dict[Key, deque[Any]]:
        """A plain dict of plain deques, as they are now."""
        return {key: items.copy() for key, items in self.items()}

    __copy__ = copy

    def __or__(self, other: Any) -> Any:
        return {**self.copy(), **other} if isinstance(other, Mapping) else NotImplemented

    def __ior__(self, other: Any) -> Self:
        self.update(other)
        return self

    def _listed(self, items: Iterable[Any]) -> list[Any]:
        if isinstance(items, (str, bytes, Mapping)) or not isinstance(items, Iterable):
            raise TypeError(f"A session is a deque or a list of items, not {type(items).__name__}.")
        return list(deque(items, self.maxlen))

    # --- hybrid

    @property
    def mode(self) -> Mode:
        """The halves that are written, and the half that is read."""
        return self._memory.mode

    def switch(self, *, write: str | None = None, read: str | None = None) -> None:
        """Change the mode of this process, for all users. Nothing is lost: a half is synchronized before it is read."""
        now = self.mode
        self._memory.switch(Mode(write or now.write, read or now.read))

    def sync(self, *, everyone: bool = False) -> None:
        """Send the pending changes of this process to the database. Raises the errors of the database.

        It covers the current identity; with *everyone*, for the operator, all identities.
        """
        for backend in self._backends(everyone):
            backend.sync()

    def compare(self, *, everyone: bool = False) -> Comparison:
        """The differences between the deques in this process's memory and in the database: counts and indexes, no content."""
        found = [each for backend in self._backends(everyone) for each in backend.differences()]
        differences = [each for each in found if each is not None]
        # a key may be the id of a browser session: no logs
        logger.info("Sessions: %d of %d deques differ between memory and database.", len(differences), len(found))
        return {
            "write": self.mode.write,
            "read": self.mode.read,
            "compared": len(found),
            "differences": differences,
            "failures": self._memory.failures,
        }

    def _backends(self, everyone: bool) -> list[HybridBackend]:
        if not everyone:
            return [self._backend()]
        app = self._bound[1] if self._bound else None
        owners = dict.fromkeys(cell.owner for cell in self._memory.cells())
        return [self._of(Identity(user_id, org_id), app)._backend() for org_id, user_id in owners]

    # --- identity

    def _backend(self) -> HybridBackend:
        """The backend of the current identity; it keeps that identity after the request and in other threads."""
        identity, app = self._bound or (_current_identity(), None)
        if app is None and has_app_context():
            app = current_flask_app()
        owner: Owner = identity.org_id, identity.user_id
        service = functools.partial(_service, self._as_user, identity, app)
        return HybridBackend(owner, service, self._memory, self.maxlen, forget=self._forget)


def _current_identity() -> Identity:
    if not has_request_context():
        raise IdentityRequired(
            "There is no request here, and so no current identity. Take the deque during a request, "
            "history = SESSIONS[key], or name the user: SESSIONS.as_user('ada', app=app)[key]."
        )
    return state().current_identity()


def _service(as_user: Callable[..., ConversationService], identity: Identity, app: Flask | None) -> ConversationService:
    """The service for one call: on the host's session inside the app's context, else on its own session."""
    is_here = has_app_context() and current_flask_app() is app
    return as_user(identity, app=None if is_here else app)
