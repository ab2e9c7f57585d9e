"""The built-in responder: a few fixed rules that need no network, no model and no key."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

BUILT_IN = "demo-rules"
"""The model name of an answer by the fixed rules."""

ABOUT = (
    "I am the built-in demo responder: a few fixed rules, no language model. I remember your name if you tell me, I can list"
    ' what you said, and otherwise I repeat it. Try "My name is Ada", then "What is my name?".'
)

Messages = Sequence[Mapping[str, Any]]


def answer(history: Messages) -> str:
    """The built-in responder, which is deterministic: the same history always gets the same answer."""
    said = [text_of(each) for each in history if each["role"] == "user"]
    for pattern, reply in RULES:
        if re.search(pattern, said[-1], re.IGNORECASE):
            return reply(said)
    return f"{ABOUT}\n\nYou said: {said[-1]}" if len(said) == 1 else f"You said: {said[-1]}"


def _name(said: Sequence[str]) -> str | None:
    """The last name given in *said*."""
    found = [NAME.search(text) for text in said]
    return next((match[1] for match in reversed(found) if match), None)


def _greet(said: Sequence[str]) -> str:
    return f"Nice to meet you, {_name(said)}. I will remember your name in this conversation."


def _recall(said: Sequence[str]) -> str:
    name = _name(said)
    return f"Your name is {name}." if name else "You have not told me your name in this conversation."


def _repeat_all(said: Sequence[str]) -> str:
    before = said[:-1]
    if not before:
        return "That was the first thing you said in this conversation."
    return "\n".join(["You said:", *(f"{number}. {text}" for number, text in enumerate(before, 1))])


def _introduce(said: Sequence[str]) -> str:
    return ABOUT


NAME = re.compile(r"\b(?:my name is|call me|i am called)\s+([^\W\d_][\w'-]*)", re.IGNORECASE)

RULES: list[tuple[str, Callable[[Sequence[str]], str]]] = [
    (r"\bwhat('s| is| was) my name\b|\bwho am i\b", _recall),
    (NAME.pattern, _greet),
    (r"\bwhat (did|have) i (say|said|ask|tell|told)|\blist what\b|\bsum(marise|marize| up)\b", _repeat_all),
    (r"\b(who|what) are you\b|\bhelp\b|\bare you (a|an) (ai|bot|model|human)\b", _introduce),
]


def text_of(message: Mapping[str, Any]) -> str:
    """The words of a message, whose content may be a list of parts."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "\n".join(str(part["text"]) for part in content if part.get("type") == "text")
