"""Ends connections whose turn was cancelled while the model kept silent: a thread that waits for bytes cannot look."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

SECONDS = 0.25
"""How long a cancelled turn may wait for it."""


class Line:
    """The connection that a turn waits on."""

    def __init__(self, is_cancelled: Callable[[], bool]) -> None:
        self.is_cancelled = is_cancelled
        self._socket: Any = None

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """Told by httpx what it does: remember the socket, and the one that TLS makes of it."""
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            self._socket = info["return_value"].get_extra_info("socket")

    def cut(self) -> None:
        """Wake the threads that wait for bytes: the stream has ended."""
        with contextlib.suppress(OSError, TypeError):
            # not the method of an SSLSocket, which takes the state away that another thread is using
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class Watch:
    """One thread for all turns of this process that wait for an endpoint. It ends with the last of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: set[Line] = set()
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def over(self, line: Line) -> Iterator[None]:
        """Watch *line* while the block runs."""
        with self._lock:
            self._lines.add(line)
            # a fork takes the thread away
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="conversations-openai", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._lines.discard(line)

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            pause.wait(SECONDS)
            with self._lock:
                if not self._lines:
                    self._thread = None
                    return
                lines = [*self._lines]
            for line in lines:
                if line.is_cancelled():
                    line.cut()
