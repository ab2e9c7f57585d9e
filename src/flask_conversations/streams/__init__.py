"""The events of a turn, each with its own position, and their relay between workers through Redis."""

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
