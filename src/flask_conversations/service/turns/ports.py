"""What the execution of a turn asks of the registry that keeps it alive."""

from __future__ import annotations

from typing import Any, Protocol

from ...streams import Relay
from .timing import Timing


class Registry(Protocol):
    """The turns of one process."""

    timing: Timing
    relay: Relay | None

    def forget(self, execution: Any) -> None:
        """The execution has ended."""

    def wait(self, seconds: float) -> None:
        """Wait until a turn of this process has ended, at most *seconds*."""
