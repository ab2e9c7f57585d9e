"""Poll intervals and timeouts of turns and their readers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Intervals and timeouts in seconds. Each registry has one; no setting changes it."""

    # -- the worker that executes the turn

    poll_interval: float = 0.25
    """Interval at which a worker checks its turns for due checkpoints, new events and lease renewals."""
    stop_poll_interval: float = 1.0
    """Interval at which a worker checks whether another worker was asked to cancel one of its turns."""
    checkpoint_interval: float = 0.5
    """Interval between two saves of a growing answer: a dead worker loses no more than that."""
    storage_timeout: float = 60.0
    """Time for which a turn retries to save during a database outage, before it drops the unsaved rest."""
    retry_delay: float = 0.05
    """Delay before the first of these retries; it doubles each time."""
    max_retry_delay: float = 2.0
    """Maximum delay between two of these retries."""
    queue_poll_interval: float = 0.02
    """First interval at which a waiting turn checks whether it may begin; it grows by half each time."""
    max_queue_poll_interval: float = 0.5
    """Maximum of that interval."""

    # -- the worker whose request waits for an answer, or cancels it

    end_poll_interval: float = 0.05
    """First interval at which it checks whether another worker has ended the turn; it grows by half each time."""
    max_end_poll_interval: float = 0.5
    """Maximum of that interval."""
    cancel_timeout: float = 3.0
    """Time for another worker to save its answer and end a cancelled turn; after that the turn is ended here."""
    cancel_poll_interval: float = 0.1
    """Interval at which that is checked."""

    # -- the readers of a stream

    keepalive_interval: float = 15.0
    """Time without an event after which a comment is sent, and the reader's access is checked again."""
    delta_interval: float = 0.02
    """Minimum time between two text events: text that arrives in between is sent as one event."""
    reader_timeout: float = 60.0
    """Duration of a database outage after which readers are disconnected."""
    relay_poll_interval: float = 0.1
    """Interval at which Redis is read if another worker executes the turn."""
    database_poll_interval: float = 0.5
    """Interval at which the database is read if another worker executes the turn and Redis has no new events."""
    relay_timeout: float = 2.0
    """Time after which the database is read even so: the worker that writes to Redis may be dead."""

    # -- the relay: events in Redis for readers on other workers

    relay_ttl: float = 120.0
    """Time to live of the events in Redis after the last addition."""
    closed_relay_ttl: float = 5.0
    """Time to live of the events in Redis after the end of the turn."""
