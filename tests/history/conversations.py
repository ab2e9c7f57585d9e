"""Strategies: whole conversations as turns leave them, with every status, with branches, and with summaries."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from .histories import ARGUMENTS, JSON, NAMES, RESULTS, message

SAYINGS = st.sampled_from(("Let me look. ", "21 degrees.", " ", "\n", "你好 ", "It is about"))
CALL_IDS = st.sampled_from(("call_0", "call_1", "toolu_9", "id with spaces", "x" * 80))
OUTPUTS = st.sampled_from(("21 degrees", "", " ", None, {"celsius": 21}, [1, 2], [{"type": "text", "text": "warm"}]))
STATUSES = st.sampled_from(("delivered", "delivered", "pending", "streaming", "interrupted", "failed"))


@st.composite
def said(draw: st.DrawFn) -> list[JSON]:
    """The parts of an answer in the order in which they were said: any number of steps, broken off anywhere."""
    parts: list[JSON] = []
    for _ in range(draw(st.integers(0, 4))):
        if draw(st.booleans()):
            parts.append({"type": "reasoning", "text": draw(SAYINGS)})
        if draw(st.booleans()):
            parts.append({"type": "text", "text": draw(SAYINGS)})
        ids = draw(st.lists(CALL_IDS, max_size=3, unique=True))
        parts += [_call(draw, call_id) for call_id in ids]
        answered = draw(st.permutations(ids)) if ids else []
        for call_id in answered[: draw(st.integers(0, len(answered)))]:
            if draw(st.integers(0, 4)) == 0:
                parts.append({"type": "component", "component_type": "chart", "data": [1]})
            result = {"type": "tool_result", "tool_call_id": call_id, "content": draw(OUTPUTS)}
            parts.append({**result, "is_error": True} if draw(st.booleans()) else result)
    if draw(st.booleans()):
        parts.append({"type": "text", "text": draw(SAYINGS)})
    return parts[: draw(st.integers(0, len(parts)))] if draw(st.booleans()) else parts


def _call(draw: st.DrawFn, call_id: str) -> JSON:
    call = {"type": "tool_call", "id": call_id, "name": draw(NAMES.filter(bool)), "arguments": draw(ARGUMENTS)}
    if draw(st.booleans()):
        return call
    decision = draw(st.sampled_from((None, "approved", "denied")))
    return {**call, "requires_approval": True, **({"approval": decision} if decision else {})}


def answer(parts: list[JSON], **fields: Any) -> JSON:
    """The one message that a turn stores, whatever was said in it."""
    is_plain = all(part["type"] == "text" for part in parts)
    content = "".join(part["text"] for part in parts if part["type"] == "text")
    return message("assistant", content, parts=None if is_plain else parts, **fields)


@st.composite
def rows(draw: st.DrawFn, seq: int) -> JSON:
    """One stored message: a question, an answer, an instruction, a summary, or what a host's own route saved."""
    kind = draw(st.sampled_from(("question", "question", "answer", "answer", "answer", "note", "summary", "tool")))
    own: JSON = {"id": f"m{seq}", "seq": seq, "type": "text", "metadata": None}
    if kind == "question":
        return message("user", f"question {seq}", **own)
    if kind == "note":
        return message(draw(st.sampled_from(("system", "developer"))), f"note {seq}", **own)
    if kind == "summary":
        until = draw(st.integers(0, seq + 2) | st.none() | st.just("4"))
        return message(
            "system", f"summary {seq}", **{**own, "type": "summary", "metadata": {"summary": {"until_seq": until}}}
        )
    if kind == "tool":
        return message("tool", "answered", parts=[draw(RESULTS)], **own)
    status = draw(STATUSES)
    error = {"error": {"code": "responder_failed", "detail": "The responder failed."}} if status == "failed" else None
    return answer(draw(said()), **{**own, "status": status, "metadata": error})


@st.composite
def conversations(draw: st.DrawFn) -> list[JSON]:
    """The path to one of the messages of a tree of them, oldest first."""
    tree: dict[str, JSON] = {}
    for seq in range(1, draw(st.integers(1, 9)) + 1):
        ids = [*tree]
        parent = draw(st.sampled_from([ids[-1], ids[-1], *ids])) if ids else None
        tree[f"m{seq}"] = {**draw(rows(seq)), "parent_id": parent}
    path: list[JSON] = []
    here: str | None = draw(st.sampled_from([*tree]))
    while here is not None:
        path.insert(0, tree[here])
        here = path[0]["parent_id"]
    return path
