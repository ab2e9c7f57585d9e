"""The benchmark runs, on both databases; what it measures says something on a quiet machine only."""

from __future__ import annotations

import pytest

from benchmarks.__main__ import main


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)
def test_a_quick_run_measures_every_row(database, capsys):
    """`--quick` goes through all cases with every program, and finds that nobody lost a message."""
    main(["--quick", "--database", database.name])
    said = capsys.readouterr().out
    for row in ("newest 15, no cache", "any page of 50", "list, newest 20", "append", "a turn"):
        assert f"| {row}" in said
    assert "dense, nothing lost" in said
