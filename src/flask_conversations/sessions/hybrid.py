"""The backend of one identity's deques: the database, memory, or both."""

from __future__ import annotations

import copy
import datetime as dt
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from .comparison import Difference, difference
from .items import frozen
from .keys import Key
from .memory import TRANSIENT_ERRORS, Cell, Change, Memory, Owner
from .stored import Stored

if TYPE_CHECKING:
    from ..service import ConversationService

R = TypeVar("R")
Items: TypeAlias = "tuple[Any, ...] | None"


class HybridBackend:
    """The operations on the deques of one identity. *service* is called each time, because the context may be another one."""

    def __init__(
        self,
        owner: Owner,
        service: Callable[[], ConversationService],
        memory: Memory,
        maxlen: int | None,
        *,
        forget: bool,
    ) -> None:
        self._owner, self._service, self._memory = owner, service, memory
        self.maxlen, self._forget = maxlen, forget

    # --- reading

    def newest(self, key: Key, count: int | None = None) -> list[Any] | None:
        """The newest *count* items, oldest first; None if there is no such key."""
        if not self._reads_memory:
            return self._synced_stored(key).newest(key, count)
        items = self._loaded(key).items
        return None if items is None else list(items[max(0, len(items) - count) :] if count is not None else items)

    def exists(self, key: Key) -> bool:
        return self._loaded(key).items is not None if self._reads_memory else self._synced_stored(key).exists(key)

    def keys(self, *, newest_first: bool = False) -> Iterator[Key]:
        if not self._reads_memory:
            self.sync()
            yield from self._stored.keys(newest_first=newest_first)
            return
        stored = self._stored_keys()
        cells = {cell.key: cell for cell in self._memory.cells(self._owner)}
        ours = {key for key, cell in cells.items() if cell.pending or self._is_loaded(cell) or stored is None}
        known = [
            key for key in stored or () if key not in ours or (cells[key].items is not None and not cells[key].pending)
        ]
        known += [key for key in cells if key in ours and cells[key].items is not None and key not in set(known)]
        yield from reversed(known) if newest_first else known

    def _stored_keys(self) -> list[Key] | None:
        """The keys in the database; None if it fails."""
        if self._memory.is_backing_off:
            return None
        try:
            with self._memory.attempt():
                return list(self._stored.keys())
        except TRANSIENT_ERRORS:
            return None

    # --- writing

    def extend(self, key: Key, items: Sequence[Any]) -> None:
        if self._memory.mode.write == "database":
            self._synced_stored(key).extend(key, items)
            return
        batch = [frozen(copy.deepcopy(item)) for item in items]
        # a change that is retried after an unknown outcome is saved once
        at = dt.datetime.now(dt.timezone.utc)
        extra_fields = [{"client_id": f"session-{uuid.uuid4().hex}", "created_at": at} for _ in batch]
        if batch:
            self._write(
                key,
                lambda old: (None, self._truncated((*(old or ()), *batch))),
                lambda stored: stored.extend(key, batch, extra_fields),
                appends=True,
            )

    def create(self, key: Key, items: Sequence[Any]) -> None:
        batch = self._copied(items)
        self._write(key, lambda old: (None, batch if old is None else old), lambda stored: stored.create(key, batch))

    def put(self, key: Key, items: Sequence[Any]) -> None:
        batch = self._copied(items)
        self._write(key, lambda old: (None, batch), lambda stored: stored.put(key, batch))

    def change(self, key: Key, change: Callable[[deque[Any]], R], *, evicted: int = 0) -> R:
        def in_memory(old: Items) -> tuple[R, Items]:
            items = deque(old or (), self.maxlen)
            result = change(items)
            return result, tuple(map(frozen, items)) if items or old is not None else None

        result: R = self._write(key, in_memory, lambda stored: stored.change(key, change, evicted=evicted))
        return result

    def clear(self, key: Key) -> None:
        self._write(key, lambda old: (None, None if old is None else ()), lambda stored: stored.clear(key))

    def delete(self, key: Key) -> bool:
        return bool(self._write(key, lambda old: (old is not None, None), lambda stored: stored.delete(key)))

    # --- both halves

    @property
    def _reads_memory(self) -> bool:
        return self._memory.mode.read == "memory"

    @property
    def _stored(self) -> Stored:
        return Stored(self._service(), self.maxlen, forget=self._forget)

    def _write(
        self,
        key: Key,
        in_memory: Callable[[Items], tuple[Any, Items]],
        in_database: Change,
        *,
        appends: bool = False,
    ) -> Any:
        """Change the half that is read, then the other. A change that the database fails to store becomes pending."""
        memory = self._memory
        if memory.mode.write == "database":
            return in_database(self._synced_stored(key))
        cell = memory.cell(self._owner, key)
        with cell.lock:
            if self._reads_memory:
                self._load(cell)
                result = self._apply_in_memory(cell, in_memory)
                cell.pending.append(in_database)
                self._try_to_sync(cell)
                return result
            stored = self._synced_stored(key)
            with memory.attempt():
                result = in_database(stored)
            if cell.write_epoch != memory.write_epoch or not appends:
                cell.items, cell.read_epoch, cell.write_epoch = None, 0, memory.write_epoch
            if appends:
                self._apply_in_memory(cell, in_memory)
            else:
                # memory may have had only a part of the deque
                self._fetch(cell)
            return result

    def _apply_in_memory(self, cell: Cell, in_memory: Callable[[Items], tuple[Any, Items]]) -> Any:
        result, items = in_memory(cell.items)
        if cell.items is None and items is not None:
            self._memory.move_to_end(cell)
        cell.items = items
        return result

    def _synced_stored(self, key: Key) -> Stored:
        """The database half after the pending changes of *key* were sent. Raises the errors of the database."""
        cell = self._memory.find(self._owner, key)
        if cell is not None and cell.pending:
            with cell.lock:
                self._memory.sync(cell, self._stored)
        return self._stored

    def _loaded(self, key: Key) -> Cell:
        cell = self._memory.cell(self._owner, key)
        if not self._is_loaded(cell):
            with cell.lock:
                self._load(cell)
        return cell

    def _is_loaded(self, cell: Cell) -> bool:
        return cell.read_epoch == self._memory.read_epoch

    def _load(self, cell: Cell) -> None:
        """Fetch the deque once per read epoch. If the database fails, the deque in memory is used."""
        if self._is_loaded(cell):
            return
        self._try_to_sync(cell)
        if not cell.pending and not self._memory.is_backing_off:
            self._fetch(cell)

    def _fetch(self, cell: Cell) -> None:
        read_epoch, write_epoch = self._memory.read_epoch, self._memory.write_epoch
        try:
            with self._memory.attempt():
                found = self._stored.newest(cell.key)
        except TRANSIENT_ERRORS:
            return
        cell.items = None if found is None else tuple(found)
        cell.read_epoch, cell.write_epoch = read_epoch, write_epoch

    def _try_to_sync(self, cell: Cell) -> None:
        if cell.pending and self._memory.mode.write == "both" and not self._memory.is_backing_off:
            try:
                self._memory.sync(cell, self._stored)
            except TRANSIENT_ERRORS:
                return

    def _copied(self, items: Sequence[Any]) -> tuple[Any, ...]:
        return self._truncated(tuple(frozen(copy.deepcopy(item)) for item in items))

    def _truncated(self, items: tuple[Any, ...]) -> tuple[Any, ...]:
        return items if self.maxlen is None else items[max(0, len(items) - self.maxlen) :]

    # --- for the operator

    def sync(self) -> None:
        """Send the pending changes of this identity's deques to the database. Raises the errors of the database."""
        for cell in self._memory.cells(self._owner):
            with cell.lock:
                self._memory.sync(cell, self._stored)

    def differences(self) -> Iterator[Difference | None]:
        """Yield the difference between the halves for each deque in this process's memory; None if they are equal."""
        for cell in self._memory.cells(self._owner):
            with cell.lock:
                is_known = cell.write_epoch == self._memory.write_epoch
                is_whole = is_known and self._is_loaded(cell)
                items = cell.items if is_known or cell.pending else None
                stored = self._stored.newest(cell.key, None if is_whole else len(items or ()))
                yield difference(cell, items, stored, is_whole=is_whole)
