"""Whatever is stored, and wherever it is cut, each provider accepts the result."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flask_conversations.service import history
from flask_conversations.service.history import render

from .histories import POISONED, WINDOWS, message, tidy
from .validators import VALIDATORS

JSON = dict[str, Any]

thorough = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))

each_format = pytest.mark.parametrize("format", VALIDATORS)


@each_format
@thorough
@given(messages=WINDOWS)
def test_every_cut_of_every_history_is_valid(format: str, messages: list[JSON]) -> None:
    """Orphans, unanswered calls, double ids, empty texts, any status and any raw item: no window is refused."""
    for start in range(len(messages) + 1):
        for end in range(start, len(messages) + 1):
            VALIDATORS[format](render(messages[start:end], format=format))


@each_format
@thorough
@given(messages=tidy())
def test_every_cut_of_a_tidy_history_is_valid(format: str, messages: list[JSON]) -> None:
    """A window that begins or ends amid parallel tool calls is valid too."""
    for start in range(len(messages) + 1):
        for end in range(start, len(messages) + 1):
            VALIDATORS[format](render(messages[start:end], format=format))


@each_format
@thorough
@given(messages=POISONED)
def test_rows_that_nobody_should_have_written_never_raise(format: str, messages: list[Any]) -> None:
    """Parts that are no list, a raw item of odd shape, content None, an unknown role: the rest is rendered."""
    VALIDATORS[format](render(messages, format=format))
    history.system_prompt(messages)


@each_format
@thorough
@given(messages=WINDOWS, max_tokens=st.integers(1, 60))
def test_every_budget_leaves_a_valid_history(format: str, messages: list[JSON], max_tokens: int) -> None:
    """A budget never splits a call from its answer."""
    VALIDATORS[format](render(messages, format=format, max_tokens=max_tokens, count_tokens=len))


@each_format
@thorough
@given(messages=WINDOWS)
def test_rendering_changes_nothing_that_is_stored(format: str, messages: list[JSON]) -> None:
    """The messages may come out of a cache that others read too."""
    before = copy.deepcopy(messages)
    render(messages, format=format, max_tokens=30)
    # repr, because NaN is in there and equals nothing
    assert repr(messages) == repr(before)


@thorough
@given(messages=tidy())
def test_a_tidy_history_loses_nothing(messages: list[JSON]) -> None:
    """Every text, call and answer is there, in order."""
    rendered = render(messages)
    assert [m["role"] for m in rendered] == [m["role"] for m in messages]
    for stored, shown in zip(messages, rendered, strict=True):
        if stored["role"] == "tool":
            assert shown["content"] == stored["parts"][0]["content"]
        else:
            assert (shown["content"] or "") == stored["content"]
            assert len(shown.get("tool_calls", ())) == len(stored["parts"] or ())


@thorough
@given(messages=WINDOWS)
def test_no_text_of_an_ordinary_message_is_lost(messages: list[JSON]) -> None:
    """Whatever stands around it, a plain user message is in every provider's history."""
    said = message("user", "remember the umbrella")
    for format in VALIDATORS:
        assert "remember the umbrella" in repr(render([*messages, said], format=format))


@thorough
@given(
    texts=st.lists(st.sampled_from(("a", "bb", "cccc", "dddddddd")), max_size=12),
    system=st.sampled_from(("", "be kind")),
    max_tokens=st.integers(1, 40),
)
def test_a_budget_keeps_the_newest_messages_that_fit(texts: list[str], system: str, max_tokens: int) -> None:
    """The result is the system text and the longest end of the answered conversation within the budget."""
    talk = [message(("user", "assistant")[index % 2], text) for index, text in enumerate(texts[: len(texts) // 2 * 2])]
    kept = render([message("system", system), *talk], max_tokens=max_tokens, count_tokens=len)
    kept = [m["content"] for m in kept if m["role"] != "system"]
    left = max_tokens - len(system)
    said = [m["content"] for m in talk]
    if kept and kept != said[-len(kept) :]:
        assert kept == said[-2:-1], "only the newest question may stand alone"
        assert len(said[-1]) > left
    assert sum(map(len, kept)) <= max(left, 0)
    assert len(kept) == len(said) or len("".join(said[-len(kept) - 1 :])) > left
