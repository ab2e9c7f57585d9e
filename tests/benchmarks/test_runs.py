"""The benchmark runs; what it measures says something on a quiet machine only."""

from __future__ import annotations

import pytest

from benchmarks.__main__ import main


@pytest.mark.slow
@pytest.mark.parametrize("database", [pytest.param("sqlite", marks=pytest.mark.long), "postgresql"], indirect=True)
def test_a_quick_run_measures_every_row(database, capsys):
    """`--quick` goes through all cases with every program."""
    main(["--quick", "--database", database.name, "--only", "database"])
    said = capsys.readouterr().out
    for row in ("newest 15, no cache", "any page of 50", "list, newest 20", "append", "a turn"):
        assert f"| {row}" in said
    assert "warm cache" not in said


@pytest.mark.slow
@pytest.mark.long
def test_a_quick_run_of_the_cached_half_measures_every_row(capsys):
    """`--only cache` starts a Redis too, and gunicorn: each mode is there, with its statements and round trips."""
    main(["--quick", "--database", "sqlite", "--only", "cache"])
    said = capsys.readouterr().out
    assert "list, newest 20" not in said
    for row in ("newest 15, warm cache", "a turn: history of 15, two saves", "append with a cache"):
        for mode in ("off", "on", "strict"):
            assert f"{row}, {mode} " in said
    assert "8 writers in 2 processes on one conversation" in said
    assert "dense, nothing lost" in said
    assert "not dense" not in said
    assert "GET of 15 messages over HTTP" in said
    cells = {tuple(cell.strip() for cell in line.split("|")[1:5]) for line in said.splitlines() if line.startswith("|")}
    assert ("newest 15, warm cache", "on", "0", "1") in cells


def test_figures_are_written_only_where_a_whole_half_was_measured(capsys):
    """A page that mixes runs, or shows a part, would say less than it seems to."""
    for arguments in (["--quick"], ["--only", "append"], ["--database", "sqlite"]):
        with pytest.raises(SystemExit):
            main(["--write", *arguments])
    assert "--write replaces all figures" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.long)], indirect=True)
def test_a_quick_run_of_turns_measures_every_row(database, capsys):
    """`--only turns`: a question and its answer in three ways, streams, and a poll that costs one statement."""
    main(["--quick", "--database", database.name, "--only", "turns"])
    said = capsys.readouterr().out
    for row in ("service.send_message", "POST .../messages", "with service.turn(): reply"):
        assert f"| {row} |" in said
    assert "1 SQL statement (goal ≤ 1: yes)" in said
    assert "a second of processor time" in said
