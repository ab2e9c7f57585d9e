"""How often turns and their readers look, and how long they wait."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """What turns wait for, in seconds. Each registry holds one; no setting changes it."""

    # -- the worker that answers

    tick: float = 0.25
    """Seconds between two looks of a worker at its turns: what is to be saved, passed on, or renewed."""
    listen: float = 1.0
    """Seconds between two looks whether a user has cancelled a turn through another worker."""
    checkpoint: float = 0.5
    """Seconds after which what was said is saved: no more of it can be lost with a worker."""
    patience: float = 60.0
    """Seconds for which a turn waits for a database that is out, before it gives up what it could not save."""
    retry: float = 0.05
    """Seconds from the first failure of a database that is out to the second try; then twice as long each time."""
    retry_at_most: float = 2.0
    """Seconds that two tries to reach a database that is out are apart at most."""
    line: float = 0.02
    """Seconds from the first to the second look whether a waiting turn may begin; then half as much again each time."""
    line_at_most: float = 0.5
    """Seconds that two looks whether a waiting turn may begin are apart at most."""

    # -- the worker that was asked to wait for an answer, or to end it

    end: float = 0.05
    """Seconds from the first to the second look whether another worker has ended a turn; then half as much again each time."""
    end_at_most: float = 0.5
    """Seconds that two looks whether another worker has ended a turn are apart at most."""
    cancel_patience: float = 3.0
    """Seconds that another worker is given to save what was said, before its turn is ended without that."""
    cancel_look: float = 0.1
    """Seconds between two looks whether it has."""

    # -- the readers of a stream

    heartbeat: float = 15.0
    """Seconds of silence after which a reader is told that the stream is alive, and is asked for again who they are."""
    smooth: float = 0.02
    """Seconds between two events of a text: what comes in between is told at once."""
    reader_patience: float = 60.0
    """Seconds that a database may be out before its readers are sent away."""
    listen_relay: float = 0.1
    """Seconds between two looks into Redis where another worker answers."""
    listen_database: float = 0.5
    """Seconds between two looks into the database where another worker answers."""
    trust: float = 2.0
    """Seconds after which the database is asked all the same: the worker that fills Redis may be dead."""

    # -- Redis, through which the words reach other workers

    kept: float = 120.0
    """Seconds after which what was said is forgotten there, if nothing is added."""
    lingers: float = 5.0
    """Seconds after the end of a turn for which those who listen can still hear of it there."""
