"""Planted faults: wrong texts in the source that the suite has to see. `python -m tests.faults --help`."""

from . import edges, rules, state_and_http

ALL = [*rules.FAULTS, *state_and_http.FAULTS, *edges.FAULTS]
"""Every planted fault."""
