"""Protocols of the registry and of an execution, which avoid circular imports."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ...counters import Counters
from ...store.rows import TurnRow
from ...streams import Pause, Relay
from .answers import Answer
from .timing import Timing
from .types import StartedTurn, TurnView


class Execution(Protocol):
    """A turn that this process executes: see `TurnExecution`."""

    turn: TurnRow
    answer: Answer
    answer_started: bool
    pauses: Sequence[Pause]
    ended: threading.Event
    outcome: TurnView | None

    @property
    def next_position(self) -> int: ...

    def wait_for_more(self, position: int, timeout: float) -> None: ...

    def stop(self) -> None: ...


class Registry(Protocol):
    """The turns that this process executes: see `TurnRegistry`. The types that are `Any` here import this module."""

    timing: Timing
    relay: Relay | None
    responder: Callable[[Any], Any] | None
    counters: Counters

    def find(self, turn_id: str) -> Execution | None: ...

    def start(self, units: Any, started: StartedTurn, token: str, responder: Callable[[Any], Any]) -> Execution: ...

    def adopt(self, units: Any, started: StartedTurn, token: str, responder: Callable[[Any], Any]) -> Any: ...

    def forget(self, execution: Any) -> None: ...

    def wait(self, seconds: float) -> None: ...

    def recover_once(self) -> None: ...
