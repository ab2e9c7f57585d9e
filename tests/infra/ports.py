"""Ports of 127.0.0.1 that are free."""

from __future__ import annotations

import random
import socket

FIRST, LAST = 15000, 22000
"""Below those that the system gives to outgoing connections, and so that a Redis Cluster can add 10000 for its bus."""


def free(*, bus: bool = False) -> int:
    """A free port; with *bus* the one 10000 above is free too."""
    while True:
        port = random.randrange(FIRST, LAST)
        if _is_free(port) and (not bus or _is_free(port + 10000)):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
