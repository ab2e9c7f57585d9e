"""Whatever is done in whatever order: the sessions are what the dict of before would be."""

from __future__ import annotations

import itertools
from collections import deque
from typing import Any

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from .conftest import plain


def examples(long: bool) -> settings:
    return settings(max_examples=100 if long else 10, deadline=None, suppress_health_check=list(HealthCheck))


KEYS = st.sampled_from(["a", "b", "c d"])
ITEMS = st.sampled_from(
    [{"role": "user", "content": each} for each in "xyz"] + [{"role": "assistant", "content": "x", "n": 1}]
)
LISTS = st.lists(ITEMS, max_size=4)
PLACES = st.integers(-4, 4)
SIMPLE = ["pop", "popleft", "clear", "reverse", "copy"]
CHANGES = st.one_of(
    st.tuples(st.sampled_from(["append", "append", "append", "appendleft", "remove", "count"]), ITEMS),
    st.tuples(st.sampled_from(["extend", "extendleft"]), LISTS),
    st.tuples(st.sampled_from(["rotate", "__getitem__", "__delitem__"]), PLACES),
    st.tuples(st.sampled_from(["insert", "__setitem__"]), PLACES, ITEMS),
    st.tuples(st.sampled_from(SIMPLE)),
)
OF_THE_MAPPING = st.one_of(
    st.tuples(st.sampled_from(["__setitem__", "setdefault"]), KEYS, LISTS),
    st.tuples(st.just("trim"), KEYS, st.integers(1, 3)),
    st.tuples(st.sampled_from(["__delitem__", "__contains__"]), KEYS),
    st.tuples(st.just("pop"), KEYS, st.none()),
    st.tuples(st.sampled_from(["popitem", "clear"])),
)
STEPS = st.lists(
    st.tuples(st.just("deque"), KEYS, CHANGES) | st.tuples(st.just("mapping"), OF_THE_MAPPING), max_size=14
)
MAXLENS = st.sampled_from([1, 2, 3, None])
MODES = st.sampled_from([("database", "database"), ("both", "database"), ("both", "memory"), ("memory", "memory")])

number = itertools.count()


def test_like_a_defaultdict_of_deques(sessions_of, bobs, long):
    """The same results, the same errors, the same content after each step; in every mode, and nothing of it is Bob's."""

    @examples(long)
    @given(steps=STEPS, maxlen=MAXLENS, write_read=MODES, forget=st.booleans())
    def is_like_it(steps, maxlen, write_read, forget):
        write, read = write_read
        # a user of its own for each example: the database is the same
        ours = sessions_of(f"ada-{next(number)}", maxlen, write=write, read=read, forget=forget)
        theirs = plain(maxlen)
        for step in steps:
            note(repr((ours.mode, step)))
            assert outcome(ours, step, maxlen) == outcome(theirs, step, maxlen), step
            assert lists(ours) == lists(theirs)
            assert list(ours) == list(theirs)
        if write == "both":
            assert ours.compare()["differences"] == []
        ours.switch(write="database", read="database")
        assert lists(ours) == lists(theirs)
        assert not bobs

    is_like_it()


def test_switching_loses_nothing(sessions_of, long):
    """The mode changes before each step: what is read is always what the dict of before would be."""

    @examples(long)
    @given(steps=STEPS, maxlen=MAXLENS, modes=st.lists(MODES, min_size=14, max_size=14))
    def loses_nothing(steps, maxlen, modes):
        ours = sessions_of(f"ada-{next(number)}", maxlen)
        theirs = plain(maxlen)
        for step, (write, read) in zip(steps, modes, strict=False):
            if step == ("mapping", ("popitem",)):
                # which key is the youngest is what the database says, and it learns of some keys later than of others
                continue
            ours.switch(write=write, read=read)
            note(repr((ours.mode, step)))
            assert outcome(ours, step, maxlen) == outcome(theirs, step, maxlen), step
            assert lists(ours) == lists(theirs)
        ours.switch(write="both")
        ours.sync()
        assert ours.compare()["differences"] == []

    loses_nothing()


def lists(sessions: Any) -> dict[str, list[Any]]:
    return {key: list(items) for key, items in sessions.items()}


def outcome(sessions: Any, step: Any, maxlen: int | None) -> Any:
    """What a step returns or raises; a deque as the list of its items."""
    try:
        if step[0] == "mapping":
            result = of_mapping(sessions, step[1], maxlen)
        else:
            _, key, (name, *arguments) = step
            result = of_deque(sessions, key, name, arguments)
    except (IndexError, KeyError, ValueError) as error:
        return type(error)
    return list(result) if hasattr(result, "maxlen") else result


def of_mapping(sessions: Any, call: Any, maxlen: int | None) -> Any:
    name, *arguments = call
    if name == "trim":
        key, count = arguments
        if key in sessions:
            sessions[key] = deque(list(sessions[key])[-count:], maxlen)
        return None
    if name in ("__setitem__", "setdefault"):
        arguments[1] = deque(arguments[1], maxlen)
    result = getattr(sessions, name)(*arguments)
    return (result[0], list(result[1])) if name == "popitem" else result


def of_deque(sessions: Any, key: str, name: str, arguments: Any) -> Any:
    adds = name in ("append", "appendleft", "insert") or (name in ("extend", "extendleft") and arguments[0])
    if key not in sessions and not adds:
        # a look at a missing key makes nothing here, where a defaultdict makes an empty deque
        return getattr(sessions[key] if type(sessions).__name__ == "Sessions" else deque(), name)(*arguments)
    return getattr(sessions[key], name)(*arguments)
