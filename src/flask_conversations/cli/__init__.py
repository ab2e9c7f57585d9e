"""`flask conversations ...`: the commands for operators."""

from __future__ import annotations

from flask.cli import AppGroup

from . import bench as bench
from . import doctor as doctor
from . import prune as prune
from . import recover as recover
from . import tables as tables
from . import verify as verify
from .group import group


def commands() -> AppGroup:
    """The group `flask conversations`, for `app.cli.add_command`."""
    return group
