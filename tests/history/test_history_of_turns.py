"""What a turn has stored as one message is several for a provider, in the order in which it was said."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import strategies as st

from flask_conversations.history import DENIED, render

from .conversations import answer, conversations, said
from .histories import holds_for_all, message
from .validators import VALIDATORS

JSON = dict[str, Any]

FOR_A_MODEL = [name for name in VALIDATORS if name != "ui"]

ASKED = message("user", "How warm is it?", id="m1", seq=1)


def text(words: str) -> JSON:
    return {"type": "text", "text": words}


def call(call_id: str, **fields: Any) -> JSON:
    return {"type": "tool_call", "id": call_id, "name": "weather", "arguments": {"city": call_id}, **fields}


def result(call_id: str, content: Any = "21", **fields: Any) -> JSON:
    return {"type": "tool_result", "tool_call_id": call_id, "content": content, **fields}


PARTS = [
    {"type": "reasoning", "text": "Hm."},
    text("Let me look."),
    call("a"),
    call("b"),
    result("b", "12"),
    result("a", "21"),
    text("And Rome?"),
    call("c"),
    {"type": "component", "component_type": "chart", "data": [21, 12]},
    result("c", {"celsius": 30}),
    text("30 there."),
]
TOLD = answer(PARTS, id="m2", seq=2)


def test_openai_gets_a_turn_as_the_messages_it_was() -> None:
    """The text, its calls, their answers, the next text: parallel calls stay together, later ones come later."""
    rendered = render([ASKED, TOLD])
    VALIDATORS["openai"](rendered)
    assert [
        (m["role"], m["content"], [c["id"] for c in m.get("tool_calls", ())], m.get("tool_call_id"))
        for m in rendered[1:]
    ] == [
        ("assistant", "Let me look.", ["a", "b"], None),
        ("tool", "21", [], "a"),
        ("tool", "12", [], "b"),
        ("assistant", "And Rome?", ["c"], None),
        ("tool", '{"celsius":30}', [], "c"),
        ("assistant", "30 there.", [], None),
    ]


def test_responses_get_a_turn_as_items_in_order() -> None:
    """Messages, calls and outputs as they came; no reasoning, which the API only takes back with its id."""
    items = render([ASKED, TOLD], format="responses")
    VALIDATORS["responses"](items)
    assert [item.get("type", item.get("content")) for item in items[1:]] == [
        "Let me look.",
        *["function_call", "function_call_output"] * 2,
        "And Rome?",
        "function_call",
        "function_call_output",
        "30 there.",
    ]


def test_anthropic_gets_a_turn_as_blocks_that_alternate() -> None:
    """Each step's calls end a message of the assistant, their answers begin one of the user."""
    rendered = render([ASKED, TOLD], format="anthropic")
    VALIDATORS["anthropic"](rendered)
    assert [
        (m["role"], [m["content"]] if isinstance(m["content"], str) else [block["type"] for block in m["content"]])
        for m in rendered[1:]
    ] == [
        ("assistant", ["text", "tool_use", "tool_use"]),
        ("user", ["tool_result", "tool_result"]),
        ("assistant", ["text", "tool_use"]),
        ("user", ["tool_result"]),
        ("assistant", ["30 there."]),
    ]


def test_langchain_names_each_message_of_a_turn() -> None:
    """The first has the id of the stored one, the further ones ids of their own that are the same each time."""
    rendered = render([ASKED, TOLD], format="langchain")
    VALIDATORS["langchain"](rendered)
    assert [m["data"].get("id") for m in rendered if m["type"] == "ai"] == ["m2", "m2:2", "m2:3"]


def test_the_ai_sdk_gets_a_turn_as_one_message_with_its_steps() -> None:
    """Everything at its place, an answer in its call; steps are marked, or `useChat` would send the last one once more."""
    shown = render([ASKED, TOLD], format="ui")
    VALIDATORS["ui"](shown)
    assert [
        (part["type"], part.get("state") or part.get("text") or part.get("data")) for part in shown[1]["parts"]
    ] == [
        ("reasoning", "Hm."),
        ("text", "Let me look."),
        ("tool-weather", "output-available"),
        ("tool-weather", "output-available"),
        ("step-start", None),
        ("text", "And Rome?"),
        ("tool-weather", "output-available"),
        ("data-chart", [21, 12]),
        ("step-start", None),
        ("text", "30 there."),
    ]


@pytest.mark.parametrize(
    ("fields", "answers", "status", "state", "approval"),
    [
        ({"requires_approval": True}, [], "pending", "approval-requested", {"id": "a"}),
        ({"requires_approval": True}, [], "interrupted", "output-error", None),
        (
            {"requires_approval": True, "approval": "approved"},
            [],
            "streaming",
            "approval-responded",
            {"id": "a", "approved": True},
        ),
        (
            {"requires_approval": True, "approval": "approved"},
            [result("a")],
            "delivered",
            "output-available",
            {"id": "a", "approved": True},
        ),
        (
            {"requires_approval": True, "approval": "denied"},
            [],
            "delivered",
            "output-denied",
            {"id": "a", "approved": False},
        ),
        ({}, [result("a", "No such city.", is_error=True)], "delivered", "output-error", None),
        ({}, [], "streaming", "input-available", None),
    ],
)
def test_the_ai_sdk_gets_the_state_of_an_approval(fields, answers, status, state, approval) -> None:  # type: ignore[no-untyped-def]
    """Its own states, with the call's id as that of the approval, which is what comes back."""
    shown = render([answer([call("a", **fields), *answers], id="m2", status=status)], format="ui")
    VALIDATORS["ui"](shown)
    part = shown[0]["parts"][0]
    assert (part["state"], part.get("approval")) == (state, approval)


def test_a_model_gets_the_denial_of_its_call() -> None:
    """It would ask again otherwise; what the responder itself says of it comes first."""
    denied = call("a", requires_approval=True, approval="denied")
    assert render([answer([denied, text("Well then.")])])[1:] == [
        {"role": "tool", "tool_call_id": "a", "content": DENIED},
        {"role": "assistant", "content": "Well then."},
    ]
    assert render([answer([denied, result("a", "Not today.")])])[1]["content"] == "Not today."


@pytest.mark.parametrize("status", ["pending", "streaming", "interrupted", "failed"])
def test_a_turn_that_was_broken_off_says_what_it_had_said(status: str) -> None:
    """Steps that were finished and the text so far are history; a call without a result goes."""
    broken = answer([text("Let me look."), call("a"), result("a"), text("And Ro"), call("b")], status=status)
    assert [(m["role"], m["content"]) for m in render([ASKED, broken])[1:]] == [
        ("assistant", "Let me look."),
        ("tool", "21"),
        ("assistant", "And Ro"),
    ]
    assert render([ASKED, answer([call("b")], status=status)]) == render([ASKED])


@pytest.mark.parametrize("status", ["failed", "interrupted", "streaming"])
def test_questions_without_an_answer_between_them_are_accepted(status: str) -> None:
    """A turn that ended without a word is no message: OpenAI takes two questions in a row, Anthropic gets them as one."""
    talk = [ASKED, answer([], status=status), message("user", "Hello?")]
    assert [m["role"] for m in render(talk)] == ["user", "user"]
    assert render(talk, format="anthropic") == [
        {"role": "user", "content": [{"type": "text", "text": "How warm is it?"}, {"type": "text", "text": "Hello?"}]}
    ]


def test_an_id_that_each_step_uses_anew_is_another_call_each_time() -> None:
    """Some models number their calls from zero whenever they are asked."""
    rendered = render([answer([call("call_0"), result("call_0", "1"), call("call_0"), result("call_0", "2")])])
    VALIDATORS["openai"](rendered)
    assert [m["content"] for m in rendered if m["role"] == "tool"] == ["1", "2"]


def test_more_calls_than_a_provider_takes_at_once_are_several_messages() -> None:
    """OpenAI refuses more than 128 in one message."""
    ids = [f"c{number}" for number in range(300)]
    rendered = render([answer([*map(call, ids), *map(result, ids)])])
    VALIDATORS["openai"](rendered)
    assert len([m for m in rendered if m["role"] == "tool"]) == 300


def test_a_component_is_for_the_eye_only() -> None:
    """No model is given one, not even where the parts are the content; a page is."""
    chart = {"type": "component", "component_type": "chart", "data": [1]}
    for stored in (message("assistant", "Look:", parts=[chart]), message("assistant", [text("Look:"), chart])):
        for format in VALIDATORS:
            assert ("chart" in repr(render([stored], format=format))) is (format == "ui")


def test_an_edited_text_stands_where_the_last_words_stood() -> None:
    """The tools around it stay; the words that were edited away are gone."""
    edited = {**TOLD, "content": "It is 30."}
    rendered = render([edited])
    assert [m["content"] for m in rendered if m["role"] == "assistant"] == [None, None, "It is 30."]


def test_a_final_text_beside_answered_calls_was_said_last() -> None:
    """A host that keeps the text in the content and all tools in the parts means the answer."""
    stored = message("assistant", "21 there.", parts=[call("a"), result("a")])
    assert [m["role"] for m in render([stored])] == ["assistant", "tool", "assistant"]


def test_a_budget_keeps_the_newest_steps_of_a_turn() -> None:
    """A long chain of tools in one message gives up its own oldest links, and never a call without its answer."""
    steps = [part for n in range(5) for part in (text(f"Step {n}."), call(f"c{n}"), result(f"c{n}"))]
    kept = render([ASKED, answer([*steps, text("Done.")])], max_tokens=60, count_tokens=len)
    VALIDATORS["openai"](kept)
    assert [m["content"] for m in kept] == ["Step 4.", "21", "Done."]
    still_open = render([ASKED, answer(steps, status="streaming")], max_tokens=60, count_tokens=len)
    assert [m["content"] for m in still_open] == ["How warm is it?", "Step 4.", "21"]


def test_every_cut_of_every_conversation_is_valid(long: bool) -> None:
    """Turns in every state, on any branch, with any summary: whatever the limit, no provider refuses the window."""

    def promise(stored: list[JSON]) -> None:
        for limit in range(len(stored) + 1):
            window = stored[len(stored) - limit :]
            for format, validate in VALIDATORS.items():
                validate(render(window, format=format))
            ids = [m["data"]["id"] for m in render(window, format="langchain") if "id" in m["data"]]
            assert len(set(ids)) == len(ids), "frameworks would take one for a version of the other"

    holds_for_all(long, promise, stored=conversations())


def test_every_budget_of_every_conversation_is_valid(long: bool) -> None:
    """A budget cuts between steps only, and keeps the question that is still open."""

    def promise(stored: list[JSON], max_tokens: int) -> None:
        for limit in range(1, len(stored) + 1):
            window = stored[len(stored) - limit :]
            for format, validate in VALIDATORS.items():
                rendered = render(window, format=format, max_tokens=max_tokens, count_tokens=len)
                validate(rendered)
                if window[-1]["role"] == "user":
                    assert window[-1]["content"] in repr(rendered), format

    holds_for_all(long, promise, stored=conversations(), max_tokens=st.integers(0, 120))


def test_a_summary_takes_the_place_of_what_it_sums_up(long: bool) -> None:
    """The newest counts and no other; no question up to its place is there, every later one is, and nothing is said twice."""

    def promise(stored: list[JSON]) -> None:
        summaries = [m for m in stored if isinstance(_until(m), int)]
        until = min(_until(summaries[-1]), summaries[-1]["seq"]) if summaries else 0
        for format in FOR_A_MODEL:
            shown = repr(render(stored, format=format))
            for one in summaries:
                assert shown.count(f"{one['content']}") == (one is summaries[-1]), format
            for one in stored:
                if one["role"] == "user":
                    assert shown.count(one["content"]) == (one["seq"] > until), format

    holds_for_all(long, promise, stored=conversations())


def _until(stored: JSON) -> Any:
    return stored["metadata"]["summary"]["until_seq"] if stored["type"] == "summary" else None


def test_a_model_sees_what_the_page_shows(long: bool) -> None:
    """Texts and answers of tools, in one order, for the page and for every provider."""

    def promise(parts: list[JSON], status: str) -> None:
        stored = [ASKED, answer(parts, id="m2", status=status)]
        page = _tidied(_of_page(render(stored, format="ui")))
        for format, flat in (("openai", _of_openai), ("responses", _of_responses), ("anthropic", _of_anthropic)):
            assert _tidied(flat(render(stored, format=format))) == page

    holds_for_all(long, promise, parts=said(), status=st.sampled_from(("delivered", "interrupted", "streaming")))


ANSWER = "<answer>"


def _tidied(said: Iterator[str]) -> list[str]:
    """Texts without white space, those in a row as one, and where tools have answered."""
    tidy: list[str] = []
    for one in said:
        words = "".join(one.split())
        if tidy and ANSWER not in (words, tidy[-1]):
            tidy[-1] += words
        elif words:
            tidy.append(words)
    return tidy


def _of_page(messages: list[JSON]) -> Iterator[str]:
    answers = 0
    for part in [part for m in messages for part in m["parts"]]:
        if part["type"] == "text":
            yield part["text"]
        elif part["type"] == "step-start":
            yield from [ANSWER] * answers
            answers = 0
        answers += str(part.get("state")).startswith("output") and part.get("errorText") != CUT
    yield from [ANSWER] * answers


CUT = "The answer was interrupted before the tool had run."


def _of_openai(messages: list[JSON]) -> Iterator[str]:
    yield from (ANSWER if m["role"] == "tool" else m["content"] or "" for m in messages)


def _of_responses(items: list[JSON]) -> Iterator[str]:
    yield from (ANSWER if item.get("type") == "function_call_output" else item.get("content", "") for item in items)


def _of_anthropic(messages: list[JSON]) -> Iterator[str]:
    for m in messages:
        blocks = [{"type": "text", "text": m["content"]}] if isinstance(m["content"], str) else m["content"]
        yield from (ANSWER if block["type"] == "tool_result" else block.get("text", "") for block in blocks)
