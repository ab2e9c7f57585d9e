"""Reads while everything breaks: each is what the database had at a moment of the read, and the naive cache is caught at it."""

from __future__ import annotations

import pytest

from .stress import run_stress


@pytest.fixture
def plain(make_app):
    """An app without a cache, which makes the conversations and keeps the event log."""
    return make_app(CONVERSATIONS_REDIS_URL=None, CONVERSATIONS_CACHE=False)


@pytest.mark.parametrize(
    ("database", "mode"),
    [
        pytest.param("postgresql", "default"),
        pytest.param("postgresql", "strict", marks=pytest.mark.long),
        pytest.param("sqlite", "default", marks=pytest.mark.long),
        pytest.param("sqlite", "strict", marks=pytest.mark.long),
    ],
    indirect=["database"],
)
def test_reads_are_never_wrong_under_chaos(plain, database, mode, tmp_path, long, seed, figure):
    """Evictions, restarts, old dumps, a failover, cut, doubled and late commands, failing statements: no read is wrong.

    Nothing acknowledged is lost, nothing rolled back is stored, callers see no error but a retryable one. The naive cache beside
    it, under the same faults and before the same judge, is wrong.
    """
    seconds = 40 if long else 2
    result = run_stress(plain, tmp_path, seed=seed, seconds=seconds, strict=mode == "strict")
    ours, naive = result.ours, result.naive
    where = f"chaos, {mode}, {database.name}"
    figure(
        f"{where}: {ours.wrong} wrong of {ours.reads} reads ({ours.cache['hits']} from the cache, "
        f"{ours.judge.verdicts['older']} older than another worker's write that could not reach Redis), "
        f"{ours.writes} writes, {sum(result.injected.values())} faults, seed {seed}; "
        f"naive: {naive.wrong} wrong of {naive.reads} ({naive.share_wrong:.1%})"
    )
    assert not ours.errors, "\n".join(ours.errors[:3])
    assert not naive.errors, "\n".join(naive.errors[:3])
    assert not ours.judge.lost
    assert not ours.judge.phantoms
    assert not ours.judge.wrong, "\n".join(f"{kind}: {ours.judge.explain(read)}" for kind, read in ours.judge.wrong[:4])
    if mode == "strict":
        assert not ours.judge.verdicts["older"]
    assert ours.reads >= (5_000 if long else 40)
    used = [ours.cache[name] for name in ("hits", "applied", "filled")]
    assert all(used) if long else any(used)
    assert naive.share_wrong > (0.01 if long else 0)
