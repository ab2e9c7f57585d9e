"""Closes the connections of cancelled turns: a thread that waits for bytes cannot check for a cancellation."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

POLL_INTERVAL = 0.25
"""Seconds between two checks; a cancelled turn waits no longer for its connection."""


class CancellableConnection:
    """The connection that a turn waits on."""

    def __init__(self, is_cancelled: Callable[[], bool]) -> None:
        self.is_cancelled = is_cancelled
        self._socket: Any = None

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """Keep the socket that httpx opens, and the one that TLS makes of it."""
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            self._socket = info["return_value"].get_extra_info("socket")

    def cut(self) -> None:
        """Wake the threads that wait for bytes: the stream has ended."""
        with contextlib.suppress(OSError, TypeError):
            # not the method of an SSLSocket, which takes the state away that another thread is using
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class ConnectionWatcher:
    """One thread for all turns of this process that wait for an endpoint. It ends with the last of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connections: set[CancellableConnection] = set()
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def watch(self, connection: CancellableConnection) -> Iterator[None]:
        """Watch *connection* while the block runs."""
        with self._lock:
            self._connections.add(connection)
            # a fork takes the thread away
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="conversations-openai", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._connections.discard(connection)

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            pause.wait(POLL_INTERVAL)
            with self._lock:
                if not self._connections:
                    self._thread = None
                    return
                connections = [*self._connections]
            for connection in connections:
                if connection.is_cancelled():
                    connection.cut()
