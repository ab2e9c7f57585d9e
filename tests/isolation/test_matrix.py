"""The isolation matrix: every route, every kind of caller, every state of the object, cold and warm."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pytest
import redis

from .declared import CALLERS, CALLERS_403, STATES, VARIANTS, on_each_database
from .matrix import BODIES, CHANGING, HEADER_SETS, QUERIES, Matrix, rows
from .world import World, settings

CALLERS_WITH_HEADERS = ("colleague in the same organisation", "same user id in another organisation", "guest")
"""Callers who also send headers that only the owner could know."""


def states_for(caller: str, table: Mapping[str, Any], long: bool) -> Sequence[str]:
    """All states for the owner, and in the long run; else a third of them, so that any three callers in a row have all."""
    if long or caller.startswith("owner"):
        return STATES
    place = list(table).index(caller)
    return [state for n, state in enumerate(STATES) if n % 3 == place % 3 or state == "never"]


def run(
    make_app: Callable[..., Any],
    status: int,
    caller: str,
    table: Mapping[str, Any],
    long: bool,
    *,
    cache: Mapping[str, Any] = MappingProxyType({}),
    empty: Callable[[], Any] = lambda: None,
) -> Matrix:
    """Cold, warm if there is a cache to warm, and with the other headers; *empty* is called before the first."""
    app = make_app(**settings(status), **cache)
    matrix = Matrix(World(app, caller), caller, table[caller], states_for(caller, table, long))
    empty()
    matrix.run()
    if app.extensions["flask_conversations"].cache is not None:
        matrix.world.warm_up()
        matrix.run(again=True)
    for header_set in HEADER_SETS if caller in CALLERS_WITH_HEADERS else ():
        matrix.run(header_set, again=True)
    return matrix


@on_each_database(CALLERS)
def test_every_cell_is_as_declared(make_app, caller, long, record_property):
    """Status as declared; foreign and missing answer alike, byte for byte and statement for statement; refusals change nothing."""
    matrix = run(make_app, 404, caller, CALLERS, long)
    record_property("cells", matrix.cells)
    assert not matrix.wrong, "\n".join(matrix.wrong[:20])


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.parametrize(
    ("caller", "strict"),
    [
        pytest.param(
            caller, strict, marks=[pytest.mark.long] * (strict or caller not in ("owner", CALLERS_WITH_HEADERS[0]))
        )
        for strict, callers in ((False, CALLERS), (True, ("owner", *CALLERS_WITH_HEADERS)))
        for caller in callers
    ],
)
def test_every_cell_is_as_declared_with_a_cache(make_app, redis_url, caller, strict, long, record_property):
    """The same with the newest messages in Redis, cold and warm. On SQLite: `pytest --cache on` and `--cache strict`."""
    cache = {"CONVERSATIONS_REDIS_URL": redis_url, "CONVERSATIONS_CACHE_STRICT": strict}
    with redis.Redis.from_url(redis_url) as client:
        matrix = run(make_app, 404, caller, CALLERS, long, cache=cache, empty=client.flushdb)
    record_property("cells", matrix.cells)
    assert not matrix.wrong, "\n".join(matrix.wrong[:20])


@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.long)], indirect=True)
@pytest.mark.parametrize("caller", CALLERS_403)
def test_every_cell_is_as_declared_with_foreign_status_403(make_app, caller, long, record_property):
    """`CONVERSATIONS_FOREIGN_STATUS = 403` admits that a conversation is there, and nothing else."""
    matrix = run(make_app, 403, caller, CALLERS_403, long)
    record_property("cells", matrix.cells)
    assert not matrix.wrong, "\n".join(matrix.wrong[:20])


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("caller", [*CALLERS, *(f"{name} (403)" for name in CALLERS_403)])
def test_every_route_is_declared(make_app, caller):
    """A route of the URL map without a row fails, and so does a row without a route, for each caller."""
    table = CALLERS_403[caller.removesuffix(" (403)")] if caller.endswith(" (403)") else CALLERS[caller]
    there = set(rows(make_app(**settings(404))))
    assert there - set(table) == set(), "declare these in tests/isolation/declared.py"
    assert set(table) - there == set(), "these routes are no more"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_the_matrix_is_large_enough(make_app, record_property):
    """At least 3,000 different cells, the second and later runs of each not counted."""
    there = rows(make_app(**settings(404)))
    cells = sum(len(STATES) if "{" in row or "+id" in row else 1 for row in there) * (len(CALLERS) + len(CALLERS_403))
    print(f"{cells} cells: {len(there)} rows, {len(STATES)} states, {len(CALLERS)} + {len(CALLERS_403)} callers")
    record_property("different cells declared", cells)
    assert cells >= 3000


def test_every_variant_has_a_query_or_a_body():
    """A variant that sends the same as its route would prove nothing."""
    assert set(VARIANTS) == {row for row in (*BODIES, *QUERIES) if row in VARIANTS}
    assert all(row in BODIES for row in VARIANTS if row.startswith(CHANGING) and "+" in row)
