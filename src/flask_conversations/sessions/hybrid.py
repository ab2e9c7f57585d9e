"""Where the deques of one identity are: in the database, or in both halves, of which one is believed."""

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
from .memory import FAILED, Cell, Change, Memory, Owner
from .stored import Stored

if TYPE_CHECKING:
    from ..service import ConversationService

R = TypeVar("R")
Items: TypeAlias = "tuple[Any, ...] | None"


class HybridBackend:
    """The verbs of the deques of one identity. *service* is asked for at each call, for where the call happens to be made."""

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
            return self._settled(key).newest(key, count)
        items = self._loaded(key).items
        return None if items is None else list(items[max(0, len(items) - count) :] if count is not None else items)

    def exists(self, key: Key) -> bool:
        return self._loaded(key).items is not None if self._reads_memory else self._settled(key).exists(key)

    def keys(self, *, newest_first: bool = False) -> Iterator[Key]:
        if not self._reads_memory:
            self.settle()
            yield from self._stored.keys(newest_first=newest_first)
            return
        stored = self._stored_keys()
        here = {cell.key: cell for cell in self._memory.cells(self._owner)}
        ours = {key for key, cell in here.items() if cell.owed or self._is_loaded(cell) or stored is None}
        known = [key for key in stored or () if key not in ours or (here[key].items is not None and not here[key].owed)]
        known += [key for key in here if key in ours and here[key].items is not None and key not in set(known)]
        yield from reversed(known) if newest_first else known

    def _stored_keys(self) -> list[Key] | None:
        """The keys in the database; None if it fails."""
        if self._memory.rests:
            return None
        try:
            with self._memory.attempt():
                return list(self._stored.keys())
        except FAILED:
            return None

    # --- writing

    def extend(self, key: Key, items: Sequence[Any]) -> None:
        if self._memory.mode.write == "database":
            self._settled(key).extend(key, items)
            return
        batch = [frozen(copy.deepcopy(item)) for item in items]
        # a change that is sent twice after an unknown outcome is saved once
        at = dt.datetime.now(dt.timezone.utc)
        marks = [{"client_id": f"session-{uuid.uuid4().hex}", "created_at": at} for _ in batch]
        if batch:
            self._write(
                key,
                lambda old: (None, self._cut((*(old or ()), *batch))),
                lambda stored: stored.extend(key, batch, marks),
                appends=True,
            )

    def create(self, key: Key, items: Sequence[Any]) -> None:
        batch = self._copied(items)
        self._write(key, lambda old: (None, batch if old is None else old), lambda stored: stored.create(key, batch))

    def put(self, key: Key, items: Sequence[Any]) -> None:
        batch = self._copied(items)
        self._write(key, lambda old: (None, batch), lambda stored: stored.put(key, batch))

    def change(self, key: Key, change: Callable[[deque[Any]], R], *, fallen: int = 0) -> R:
        def in_memory(old: Items) -> tuple[R, Items]:
            items = deque(old or (), self.maxlen)
            result = change(items)
            return result, tuple(map(frozen, items)) if items or old is not None else None

        return self._write(key, in_memory, lambda stored: stored.change(key, change, fallen=fallen))  # type: ignore[no-any-return]

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
        """Change the half that is read, then the other; what the database fails to take is owed to it."""
        memory = self._memory
        if memory.mode.write == "database":
            return in_database(self._settled(key))
        cell = memory.cell(self._owner, key)
        with cell.lock:
            if self._reads_memory:
                self._load(cell)
                result = self._remember(cell, in_memory)
                cell.owed.append(in_database)
                self._try_to_settle(cell)
                return result
            stored = self._settled(key)
            with memory.attempt():
                result = in_database(stored)
            if cell.era != memory.era or not appends:
                cell.items, cell.loaded, cell.era = None, 0, memory.era
            if appends:
                self._remember(cell, in_memory)
            else:
                # memory may have had a part of it only
                self._fetch(cell)
            return result

    def _remember(self, cell: Cell, in_memory: Callable[[Items], tuple[Any, Items]]) -> Any:
        result, items = in_memory(cell.items)
        if cell.items is None and items is not None:
            self._memory.move_to_end(cell)
        cell.items = items
        return result

    def _settled(self, key: Key) -> Stored:
        """The database, which has all that this process knows of *key*. Raises what the database raises."""
        cell = self._memory.find(self._owner, key)
        if cell is not None and cell.owed:
            with cell.lock:
                self._memory.settle(cell, self._stored)
        return self._stored

    def _loaded(self, key: Key) -> Cell:
        cell = self._memory.cell(self._owner, key)
        if not self._is_loaded(cell):
            with cell.lock:
                self._load(cell)
        return cell

    def _is_loaded(self, cell: Cell) -> bool:
        return cell.loaded == self._memory.turn

    def _load(self, cell: Cell) -> None:
        """Fetch what memory may lack, once a turn. Where the database fails, memory is what there is."""
        if self._is_loaded(cell):
            return
        self._try_to_settle(cell)
        if not cell.owed and not self._memory.rests:
            self._fetch(cell)

    def _fetch(self, cell: Cell) -> None:
        turn, era = self._memory.turn, self._memory.era
        try:
            with self._memory.attempt():
                found = self._stored.newest(cell.key)
        except FAILED:
            return
        cell.items = None if found is None else tuple(found)
        cell.loaded, cell.era = turn, era

    def _try_to_settle(self, cell: Cell) -> None:
        if cell.owed and self._memory.mode.write == "both" and not self._memory.rests:
            try:
                self._memory.settle(cell, self._stored)
            except FAILED:
                return

    def _copied(self, items: Sequence[Any]) -> tuple[Any, ...]:
        return self._cut(tuple(frozen(copy.deepcopy(item)) for item in items))

    def _cut(self, items: tuple[Any, ...]) -> tuple[Any, ...]:
        return items if self.maxlen is None else items[max(0, len(items) - self.maxlen) :]

    # --- for the operator

    def settle(self) -> None:
        """Bring the database up to date with this identity's deques. Raises what the database raises."""
        for cell in self._memory.cells(self._owner):
            with cell.lock:
                self._memory.settle(cell, self._stored)

    def differences(self) -> Iterator[Difference | None]:
        """How the halves differ, for each deque that this process has in memory: None where they agree."""
        for cell in self._memory.cells(self._owner):
            with cell.lock:
                is_known = cell.era == self._memory.era
                is_whole = is_known and self._is_loaded(cell)
                items = cell.items if is_known or cell.owed else None
                stored = self._stored.newest(cell.key, None if is_whole else len(items or ()))
                yield difference(cell, items, stored, is_whole=is_whole)
