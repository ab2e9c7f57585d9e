"""The chain of steps of this release, and the steps between two versions of the tables."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Protocol, cast

from ..errors import ConfigurationError
from ..tables import Names
from . import versions


class Step(Protocol):
    """One file of `versions`: ordinary Alembic operations, given only the names of the tables.

    `unmodelled` lists the unprefixed names of tables that it leaves without a model, an index for searching say, or that it
    removes, so that the host's autogenerate does not drop them.
    """

    revision: str
    down_revision: str | None

    def upgrade(self, names: Names) -> None: ...

    def downgrade(self, names: Names) -> None: ...


def _load() -> tuple[Step, ...]:
    found = sorted(module.name for module in pkgutil.iter_modules(versions.__path__))
    return tuple(cast(Step, importlib.import_module(f"{versions.__name__}.{name}")) for name in found)


_CHAIN = _load()

UNMODELLED = tuple(name for step in _CHAIN for name in getattr(step, "unmodelled", ()))
"""Tables of ours that no model describes."""

STEPS = tuple(step.revision for step in _CHAIN)
"""All steps of this release, oldest first."""

HEAD = STEPS[-1]
"""The step that the models of this release need."""


def up(since: str | None, to: str) -> list[Step]:
    """The steps from *since*, exclusive, up to *to*; none if *since* is there already, or further."""
    if (since or "") < to and to not in STEPS:
        raise ConfigurationError(
            f"The step {to!r} of the conversation tables is not in this release of Flask-Conversations, which ends at "
            f"{HEAD!r}. Install the release the step was written with, or a newer one."
        )
    return [step for step in _CHAIN if (since or "") < step.revision <= to]


def down(since: str | None, to: str | None) -> list[Step]:
    """The steps from *since* down to *to*, exclusive, newest first; none if *since* is there already, or lower."""
    if (to or "") < (since or ""):
        refuse_unknown(since)
    return [step for step in reversed(_CHAIN) if (to or "") < step.revision <= (since or "")]


def refuse_unknown(revision: str | None) -> None:
    """Raise if the tables stand at a step that only a newer release knows."""
    if revision is not None and revision not in STEPS:
        raise ConfigurationError(
            f"The conversation tables stand at step {revision!r}, but this release of Flask-Conversations ends at "
            f"{HEAD!r}. Install the release that made that step, or a newer one."
        )
