"""What can be left out of the protocol: each field is one of its ingredients, and the shipped protocol has them all."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Design:
    """A protocol of the family of the shipped one."""

    # what the scripts do
    marks_close: bool = True
    """A reservation makes the key unservable."""
    entries_bound: bool = True
    """An entry counts only on the run of the server that stored it."""
    leases_bound: bool = True
    """A lease counts only on the run of the server that granted it."""
    leased: bool = True
    """The key is filled under a lease; without: whenever it is empty."""
    min_version_asked: bool = True
    """An entry older than what the caller has seen is none."""
    reserve_ends_lease: bool = True
    reserve_heals: bool = True
    """RESERVE drops an entry that has not the version its caller, who holds the row lock, knows."""
    apply_ends_lease: bool = True
    apply_needs_mark: bool = True
    """APPLY touches the entry only if its own reservation has closed the key all the time."""
    apply_blind: bool = False
    """APPLY appends to whatever is there."""
    apply_creates: bool = False
    """The first APPLY makes the entry of a new conversation, in place of the RESERVE before it."""
    gap_stays: bool = False
    """APPLY leaves an entry alone that it cannot continue."""
    drop_ends_lease: bool = True
    dead_takes_base: bool = True
    """A reservation that dies takes the entry below it along."""
    unborn_forgotten: bool = True
    """The entry that RESERVE made for a new conversation does not outlive a rollback."""

    # what writers do
    reserves: bool = True
    reserves_early: bool = False
    """RESERVE before the row lock."""
    one_flag: bool = False
    """One reservation for all writers instead of one for each."""
    unconfirmed_drops: bool = True
    """A RESERVE that was not answered is settled with DROP."""
    breakers_apart: bool = True
    """Writers have a circuit breaker of their own, and what ends a write is sent if what began it was."""
    breaker_patient: bool = True
    """...which opens only if RESERVE and what settles it have both failed."""
    late_drops: bool = True
    """A commit that took too long is settled with DROP."""
    changes_drop: bool = True
    """What is no append is settled with DROP; without: opened like a rollback."""
    unknown_stays: bool = True
    """A commit whose outcome is unknown leaves its reservation."""
    keeps_pending: bool = True
    """A process that could not settle a key keeps an invalidation pending: it drops the key before it reads it."""
    pending_numbered: bool = True
    """A drop clears only the invalidation that was pending when it was sent."""

    # what readers do
    shared: bool = False
    """The populate runs under a share lock of the row that does not wait."""
    compares: bool = True
    """...and only if the locked row has the version that the statement has read."""
    one_statement: bool = True
    """Version and messages are read in one statement."""
    bypasses: bool = True
    """Transactions with changes or an older snapshot of their own go past the cache."""
    strict: bool = False
    """A hit is asked of the database first."""
    probes_rev: bool = True
    """...and not only for its version."""

    def without(self, **changes: bool) -> Design:
        return dataclasses.replace(self, **changes)


SHIPPED = Design()
"""Any database, and inside a transaction of the host's: reserve, commit, apply, and a leased populate."""

SHARED = Design(shared=True)
"""PostgreSQL: the same, and the populate keeps writers out."""

STRICT = Design(strict=True)
"""CONVERSATIONS_CACHE_STRICT."""
