"""Whatever is stored, and wherever it is cut, each provider accepts the result."""

from __future__ import annotations

import copy
import itertools
from typing import Any

from hypothesis import strategies as st

from flask_conversations import history
from flask_conversations.history import render

from .histories import POISONED, WINDOWS, holds_for_all, message, tidy
from .validators import VALIDATORS

JSON = dict[str, Any]


def every_cut_is_valid(messages: list[JSON]) -> None:
    for start, end in itertools.combinations_with_replacement(range(len(messages) + 1), 2):
        for format, validate in VALIDATORS.items():
            validate(render(messages[start:end], format=format))


def test_every_cut_of_every_history_is_valid(long: bool) -> None:
    """Orphans, unanswered calls, double ids, empty texts, any status and any raw item: no provider refuses a window."""
    holds_for_all(long, every_cut_is_valid, messages=WINDOWS)


def test_every_cut_of_a_tidy_history_is_valid(long: bool) -> None:
    """A window that begins or ends amid parallel tool calls is valid too."""
    holds_for_all(long, every_cut_is_valid, examples=10, messages=tidy())


def test_rows_that_nobody_should_have_written_never_raise(long: bool) -> None:
    """Parts that are no list, a raw item of odd shape, content None, an unknown role: the rest is rendered."""

    def promise(messages: list[Any]) -> None:
        for format, validate in VALIDATORS.items():
            validate(render(messages, format=format))
            validate(render(messages, format=format, max_tokens=20))
        assert isinstance(history.system_prompt(messages), str)

    holds_for_all(long, promise, messages=POISONED)


def test_every_budget_leaves_a_valid_history(long: bool) -> None:
    """A budget never splits a call from its answer."""

    def promise(messages: list[JSON], max_tokens: int) -> None:
        for format, validate in VALIDATORS.items():
            validate(render(messages, format=format, max_tokens=max_tokens, count_tokens=len))

    holds_for_all(long, promise, messages=WINDOWS, max_tokens=st.integers(1, 60))


def test_rendering_changes_nothing_that_is_stored(long: bool) -> None:
    """The messages may come out of a cache that others read too."""

    def promise(messages: list[JSON]) -> None:
        before = copy.deepcopy(messages)
        for format in VALIDATORS:
            render(messages, format=format, max_tokens=30)
            # repr, because NaN is in there and equals nothing
            assert repr(messages) == repr(before), format

    holds_for_all(long, promise, messages=WINDOWS)


def test_a_tidy_history_loses_nothing(long: bool) -> None:
    """Every text, call and answer is there, in order."""

    def promise(messages: list[JSON]) -> None:
        rendered = render(messages)
        assert [m["role"] for m in rendered] == [m["role"] for m in messages]
        for stored, shown in zip(messages, rendered, strict=True):
            if stored["role"] == "tool":
                assert shown["content"] == stored["parts"][0]["content"]
            else:
                assert (shown["content"] or "") == stored["content"]
                assert len(shown.get("tool_calls", ())) == len(stored["parts"] or ())

    holds_for_all(long, promise, messages=tidy())


def test_no_text_of_an_ordinary_message_is_lost(long: bool) -> None:
    """Whatever stands around it, a plain user message is in every provider's history."""

    def promise(messages: list[JSON]) -> None:
        said = message("user", "remember the umbrella")
        for format in VALIDATORS:
            assert "remember the umbrella" in repr(render([*messages, said], format=format)), format

    holds_for_all(long, promise, messages=WINDOWS)


def test_a_budget_keeps_the_newest_messages_that_fit(long: bool) -> None:
    """The result is the system text and the longest end of the answered conversation within the budget."""

    def promise(texts: list[str], system: str, max_tokens: int) -> None:
        talk = [
            message(("user", "assistant")[index % 2], text) for index, text in enumerate(texts[: len(texts) // 2 * 2])
        ]
        kept = render([message("system", system), *talk], max_tokens=max_tokens, count_tokens=len)
        kept = [m["content"] for m in kept if m["role"] != "system"]
        left = max_tokens - len(system)
        said = [m["content"] for m in talk]
        if kept and kept != said[-len(kept) :]:
            assert kept == said[-2:-1], "only the newest question may stand alone"
            assert len(said[-1]) > left
        assert sum(map(len, kept)) <= max(left, 0)
        assert len(kept) == len(said) or len("".join(said[-len(kept) - 1 :])) > left

    holds_for_all(
        long,
        promise,
        texts=st.lists(st.sampled_from(("a", "bb", "cccc", "dddddddd")), max_size=12),
        system=st.sampled_from(("", "be kind")),
        max_tokens=st.integers(1, 40),
    )
