"""What is told of a turn: its events, each at a position of its own, and Redis as a messenger between workers."""

from .events import (
    Pause,
    StreamEvent,
    Timeline,
    last_position,
    next_position,
    part_events,
    parts_before,
    parts_of,
    pauses_of,
)
from .relay import END, Relay, open_relay

__all__ = [
    "END",
    "Pause",
    "Relay",
    "StreamEvent",
    "Timeline",
    "last_position",
    "next_position",
    "open_relay",
    "part_events",
    "parts_before",
    "parts_of",
    "pauses_of",
]
