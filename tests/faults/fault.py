"""One planted fault."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """A wrong text that takes the place of a right one, for the length of a run of the tests that should see it."""

    name: str
    """What goes wrong, in a few words: unique, and safe on a command line."""
    path: str
    """The file, from the top of the tree."""
    right: str
    """What stands there: exactly once in the file."""
    wrong: str
    """What stands there instead."""
    tests: tuple[str, ...]
    """The folders or files of tests that should fail, or the one test: as pytest takes them."""
