"""What is told of a turn while it runs: events at positions that mean the same whoever tells them, and Redis as a messenger."""

from .relay import END, Relay, open_relay
from .units import BROKEN_OFF, QUESTION, STARTED, Sent, end_of, parts_of, said_after

__all__ = [
    "BROKEN_OFF",
    "END",
    "QUESTION",
    "STARTED",
    "Relay",
    "Sent",
    "end_of",
    "open_relay",
    "parts_of",
    "said_after",
]
