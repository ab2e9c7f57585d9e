"""The value of `SESSIONS[key]`: a deque that reads from and writes to its backend."""

from __future__ import annotations

import functools
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, MutableSequence
from typing import TYPE_CHECKING, Any, NoReturn, SupportsIndex, TypeVar

from .items import thaw
from .keys import Key

if TYPE_CHECKING:
    from .hybrid import HybridBackend

R = TypeVar("R")


@functools.total_ordering
class SessionDeque(MutableSequence[Any]):
    """Works like a `collections.deque`. Each call reads or writes the current state once.

    It belongs to the identity that it was created for, and may be used after the request and in another thread.
    """

    __hash__ = None  # type: ignore[assignment]  # as for every mutable container

    def __init__(self, backend: HybridBackend, key: Key) -> None:
        self._backend, self._key = backend, key
        self._snapshot: Callable[[], _Snapshot | None] = lambda: None

    @property
    def maxlen(self) -> int | None:
        return self._backend.maxlen

    # --- adding: one save, no reading

    def append(self, item: Any) -> None:
        """Save *item* as the newest message; committed when this returns."""
        self.extend([item])

    def extend(self, items: Iterable[Any]) -> None:
        """Save all of *items*, or none."""
        self._snapshot = lambda: None
        self._backend.extend(self._key, list(items))

    def __iadd__(self, items: Iterable[Any]) -> SessionDeque:  # type: ignore[misc]  # `+` gives a plain deque
        self.extend(items)
        return self

    # --- reading

    def copy(self) -> deque[Any]:
        """A plain deque of the items as they are now."""
        return deque(self._backend.newest(self._key) or (), self.maxlen)

    __copy__ = copy

    def __deepcopy__(self, memo: Any) -> deque[Any]:
        return self.copy()

    def __reduce__(self) -> NoReturn:
        raise TypeError("A deque of a session cannot be pickled: pickle a copy of it, SESSIONS[key].copy().")

    def __len__(self) -> int:
        # list(...) calls iter() and then len(): both use one read
        snapshot = self._snapshot()
        return len(self.copy()) if snapshot is None or snapshot.started else len(snapshot.items)

    def __bool__(self) -> bool:
        return bool(self._backend.newest(self._key, 1))

    def __iter__(self) -> Iterator[Any]:
        snapshot = _Snapshot(self.copy())
        self._snapshot = weakref.ref(snapshot)
        return snapshot

    def __reversed__(self) -> Iterator[Any]:
        return iter(list(self.copy())[::-1])

    def __contains__(self, item: object) -> bool:
        return item in self.copy()

    def __getitem__(self, index: Any) -> Any:
        place = _index(index)
        if place < 0:
            return _at(self._backend.newest(self._key, -place) or [], place)
        return _at(self.copy(), place)

    def index(self, item: Any, *bounds: int) -> int:
        return self.copy().index(item, *bounds)

    def count(self, item: Any) -> int:
        return self.copy().count(item)

    def __add__(self, other: Any) -> Any:
        return self.copy() + _plain(other)

    def __radd__(self, other: Any) -> Any:
        return other + self.copy()

    def __mul__(self, times: int) -> deque[Any]:
        return self.copy() * times

    __rmul__ = __mul__

    def __eq__(self, other: object) -> bool:
        return self.copy() == _plain(other) if isinstance(other, (deque, SessionDeque)) else NotImplemented

    def __lt__(self, other: Any) -> bool:
        return self.copy() < _plain(other) if isinstance(other, (deque, SessionDeque)) else NotImplemented

    def __repr__(self) -> str:
        # without the items: a repr ends up in logs and error reports
        return f"<SessionDeque, maxlen={self.maxlen}>"

    # --- changing: read, change and write back while the conversation is locked

    def _change(self, change: Callable[[deque[Any]], R], *, evicted: int = 0) -> R:
        self._snapshot = lambda: None
        return self._backend.change(self._key, change, evicted=evicted)

    def pop(self, *nothing: Any) -> Any:
        """Delete the newest item and return it. Raises `IndexError` if there is none."""
        if nothing:
            raise TypeError(f"SessionDeque.pop() takes no arguments ({len(nothing)} given)")
        return thaw(self._change(lambda items: items.pop()))

    def popleft(self) -> Any:
        """Remove the oldest item and return it; its message stays stored, as with items beyond `maxlen`."""
        return thaw(self._change(lambda items: items.popleft(), evicted=1))

    def clear(self) -> None:
        """Delete all messages of the conversation, including those that have left the deque."""
        self._snapshot = lambda: None
        self._backend.clear(self._key)

    def __setitem__(self, index: Any, item: Any) -> None:
        place = _index(index)
        self._change(lambda items: items.__setitem__(place, item))

    def __delitem__(self, index: Any) -> None:
        place = _index(index)
        if place == 0:
            # the popleft() of code that was written for a list
            self._change(lambda items: items.__delitem__(0), evicted=1)
        else:
            self._change(lambda items: items.__delitem__(place))

    def remove(self, item: Any) -> None:
        self._change(lambda items: items.remove(item))

    def insert(self, index: int, item: Any) -> None:
        """Like every change before the newest item, this saves all later items again."""
        self._change(lambda items: items.insert(index, item))

    def appendleft(self, item: Any) -> None:
        self._change(lambda items: items.appendleft(item))

    def extendleft(self, items: Iterable[Any]) -> None:
        batch = list(items)
        self._change(lambda items: items.extendleft(batch))

    def reverse(self) -> None:
        self._change(lambda items: items.reverse())

    def rotate(self, n: int = 1) -> None:
        self._change(lambda items: items.rotate(n))


class _Snapshot(Iterator[Any]):
    """An iteration over the items as they were when it began."""

    def __init__(self, items: deque[Any]) -> None:
        self.items, self.started = items, False
        self._rest = iter(items)

    def __next__(self) -> Any:
        self.started = True
        return next(self._rest)


def _index(index: Any) -> int:
    if not isinstance(index, SupportsIndex):
        raise TypeError(f"sequence index must be integer, not '{type(index).__name__}'")
    return index.__index__()


def _at(items: Any, place: int) -> Any:
    try:
        return items[place]
    except IndexError:
        raise IndexError("deque index out of range") from None


def _plain(other: Any) -> Any:
    return other.copy() if isinstance(other, SessionDeque) else other
