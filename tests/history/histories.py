"""Strategies: what can be in a conversation's window, from a tidy exchange to rows that should not exist."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .validators import FOREIGN

JSON = dict[str, Any]


def holds_for_all(
    long: bool, promise: Callable[..., None], examples: int = 40, **strategies: st.SearchStrategy[Any]
) -> None:
    """Whatever the strategies make, *promise* returns: for so many examples, and for ten times as many where there is time."""
    options = {"deadline": None, "suppress_health_check": list(HealthCheck)}
    settings(max_examples=examples * 10 if long else examples, **options)(given(**strategies)(promise))()


TEXTS = st.sampled_from(("hi", "", " ", "one two three", "die Straße \n", "你好", "x" * 50, "\n"))
IDS = st.sampled_from(("a", "b", "c", "call_1", "toolu_9", "id with spaces", "x" * 80, "ü|1", ""))
NAMES = st.sampled_from(("weather", "search.web", "größe", "n" * 90, ""))
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=4,
)
ARGUMENTS = st.dictionaries(TEXTS, JSONS, max_size=2) | st.sampled_from(
    ('{"city": "Paris"}', '{"city": "Par', "", "[1]", '{"a": NaN}', "null", 7, None)
)
PIXEL = "data:image/png;base64,iVBORw0KGgo="
URLS = st.sampled_from(
    (PIXEL, "https://example.org/a.png", "/local/file.pdf", "data:application/pdf;base64,JVBERi0=", "")
)


def _parts(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[JSON]:
    return st.fixed_dictionaries(fields)


TEXT_PARTS = _parts(type=st.sampled_from(("text", "input_text", "output_text")), text=TEXTS)
MEDIA_PARTS = st.one_of(
    _parts(type=st.just("image_url"), image_url=_parts(url=st.sampled_from((PIXEL, "https://example.org/b.jpg")))),
    _parts(type=st.just("input_image"), image_url=URLS),
    _parts(type=st.just("image"), source=_parts(type=st.just("url"), url=URLS)),
    _parts(
        type=st.sampled_from(("image", "document")),
        source=st.just({"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}),
    ),
    _parts(type=st.just("document"), source=st.just({"type": "text", "media_type": "text/plain", "data": "words"})),
    _parts(type=st.just("file"), mediaType=st.sampled_from(("image/png", "application/pdf", "")), url=URLS),
    _parts(type=st.just("file"), file=st.just({"file_id": "file-1"})),
    _parts(type=st.just("input_file"), file_data=URLS, filename=TEXTS),
    _parts(type=st.just("input_audio"), input_audio=st.just({"data": "UklGRg==", "format": "wav"})),
)
THOUGHTS = st.one_of(
    _parts(type=st.just("thinking"), thinking=TEXTS, signature=TEXTS),
    _parts(type=st.just("redacted_thinking"), data=TEXTS),
    _parts(type=st.just("reasoning"), id=IDS, summary=st.lists(_parts(type=st.just("summary_text"), text=TEXTS))),
)
OTHERS = st.one_of(
    _parts(type=st.sampled_from(FOREIGN), anything=st.integers()),
    _parts(type=st.just("refusal"), refusal=TEXTS),
    _parts(type=st.sampled_from(("source-url", "step-start", "data-chart")), sourceId=TEXTS, url=TEXTS),
    _parts(type=st.just("data-chart"), data=st.integers()),
)
CALLS = st.one_of(
    _parts(type=st.just("tool_call"), id=IDS, name=NAMES, arguments=ARGUMENTS),
    _parts(type=st.just("tool_use"), id=IDS, name=NAMES, input=ARGUMENTS),
    _parts(type=st.just("function_call"), call_id=IDS, id=st.just("fc_1"), name=NAMES, arguments=ARGUMENTS),
    _parts(type=st.just("tool-call"), toolCallId=IDS, toolName=NAMES, input=ARGUMENTS),
    _parts(
        type=st.sampled_from(("tool-weather", "dynamic-tool")),
        toolName=NAMES,
        toolCallId=IDS,
        state=st.sampled_from(("input-streaming", "input-available", "output-available", "output-error", "odd")),
        input=ARGUMENTS,
        output=TEXTS | TEXT_PARTS,
        errorText=TEXTS,
    ),
)
ANSWERS = TEXTS | st.none() | st.lists(TEXT_PARTS | MEDIA_PARTS, max_size=2) | st.just({"celsius": 21})
RESULTS = st.one_of(
    _parts(type=st.just("tool_result"), tool_call_id=IDS, content=ANSWERS),
    _parts(type=st.just("tool_result"), tool_use_id=IDS, content=ANSWERS, is_error=st.booleans()),
    _parts(type=st.just("function_call_output"), call_id=IDS, output=ANSWERS),
    _parts(type=st.just("tool-result"), toolCallId=IDS, output=st.just({"type": "text", "value": "21"})),
    st.builds(lambda call_id: {"type": "tool_result", "tool_call_id": call_id}, IDS),
)
PARTS = TEXT_PARTS | MEDIA_PARTS | THOUGHTS | OTHERS | CALLS | RESULTS

CHAT_CALLS = _parts(id=IDS, type=st.just("function"), function=_parts(name=NAMES, arguments=ARGUMENTS))
RAWS = st.one_of(
    _parts(role=st.just("assistant"), content=TEXTS | st.none(), tool_calls=st.lists(CHAT_CALLS, max_size=3)),
    _parts(role=st.just("tool"), tool_call_id=IDS, content=ANSWERS),
    _parts(role=st.sampled_from(("user", "assistant")), content=st.lists(PARTS, max_size=3)),
    _parts(
        type=st.just("ai"), data=_parts(content=TEXTS, tool_calls=st.lists(_parts(id=IDS, name=NAMES, args=ARGUMENTS)))
    ),
    _parts(type=st.just("tool"), data=_parts(content=TEXTS, tool_call_id=IDS)),
    CALLS,
    RESULTS,
    THOUGHTS,
)

STATUSES = st.sampled_from(("delivered", "delivered", "pending", "streaming", "interrupted", "failed"))
ROLES = st.sampled_from(("user", "assistant", "assistant", "tool", "tool", "system", "developer"))

ROWS = st.fixed_dictionaries(
    {
        "id": st.uuids().map(str),
        "role": ROLES,
        "content": TEXTS | st.lists(PARTS, max_size=3),
        "status": STATUSES,
        "parts": st.none() | st.lists(PARTS, max_size=3),
        "raw": st.none() | st.none() | RAWS,
    },
    optional={"metadata": st.just({"topic": "rain"}), "model": st.just("m-1")},
)

JUNK = st.none() | st.booleans() | st.integers() | TEXTS | st.lists(JSONS, max_size=2) | st.just({"type": ["odd"]})
POISON = JUNK | st.fixed_dictionaries(
    {"role": JUNK | ROLES},
    optional={
        "id": JUNK,
        "content": JUNK | st.lists(JUNK | PARTS),
        "parts": JUNK | st.lists(JUNK | PARTS),
        "raw": JUNK | st.dictionaries(st.sampled_from(("type", "content", "tool_calls", "data", "parts")), JUNK | RAWS),
        "status": JUNK,
        "metadata": JUNK,
    },
)

WINDOWS = st.lists(ROWS, max_size=8)
POISONED = st.lists(ROWS | POISON, max_size=6)


def message(role: str, content: Any = "", **fields: Any) -> JSON:
    """A message as the store gives it out."""
    return {
        "id": f"m-{role}",
        "role": role,
        "content": content,
        "parts": None,
        "raw": None,
        "status": "delivered",
        **fields,
    }


@st.composite
def tidy(draw: st.DrawFn) -> list[JSON]:
    """A conversation as it should be: questions, answers, and tools that are called in parallel and all answer."""
    history: list[JSON] = []
    for turn in range(draw(st.integers(1, 4))):
        history.append(message("user", f"question {turn}", id=f"u{turn}"))
        for step in range(draw(st.integers(0, 2))):
            ids = [f"call_{turn}_{step}_{number}" for number in range(draw(st.integers(1, 2)))]
            calls = [{"type": "tool_call", "id": i, "name": "look", "arguments": {"n": step}} for i in ids]
            history.append(message("assistant", draw(st.sampled_from(("", "let me look"))), parts=calls))
            history += [
                message("tool", parts=[{"type": "tool_result", "tool_call_id": i, "content": f"found {i}"}])
                for i in ids
            ]
        history.append(message("assistant", f"answer {turn}", id=f"a{turn}"))
    return history
