"""The built-in responder as a stream: the answer of the fixed rules word by word, and every other kind of event.

Besides the rules it knows these phrases: "count to 40", "what is the weather in Rome", "roll a die" (or "roll 2 dice"), "show a
chart", "think about it", "fail" (or "fail after 3 words") and "crash".
"""

from __future__ import annotations

import random
import re
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from flask_conversations.turns import Component, Event, Reasoning, ResponderError, ToolCall, ToolResult, Usage

from . import rules

Said = Iterator[str | Event]

MORE = (
    'I can also count ("count to 40"), make up the weather ("what is the weather in Rome?"), ask before I use a tool ("roll a'
    ' die"), show a chart, think about it, and fail or crash when you tell me to.'
)
DENIED = "The user did not allow this tool call."


def answer(turn: Any, *, pause: float = 0.0) -> Said:
    """The answer to *turn*, with *pause* seconds before each word. Ends early when the turn is cancelled."""
    decided = turn.approved or turn.denied
    for said in _after_decision(turn) if decided else _to_question(turn):
        if isinstance(said, (str, Reasoning)) and pause:
            time.sleep(pause)
        if turn.cancelled:
            return
        yield said


def _to_question(turn: Any) -> Said:
    # first, so that an interrupted answer has it too
    yield Usage(model=rules.BUILT_IN)
    asked = rules.text_of(turn.message)  # an empty question is not in the history
    if not asked.strip():
        yield from _words("You sent no words, and I cannot read anything else.")
        return
    for pattern, trick in TRICKS:
        found = re.search(pattern, asked, re.IGNORECASE)
        if found:
            yield from trick(found, turn)
            return
    text = rules.answer(turn.history)
    yield from _words(f"{text}\n\n{MORE}" if text == rules.ABOUT else text)


def _count(found: re.Match[str], turn: Any) -> Said:
    last = min(int(found[1]), 10_000)
    yield from (f"{number}{'.' if number == last else ' '}" for number in range(1, last + 1))


def _weather(found: re.Match[str], turn: Any) -> Said:
    place = found[1].strip()
    yield from _words("Let me look that up. ")
    call = ToolCall(_new_id(), "made_up_weather", {"place": place})
    yield call
    sky, degrees = random.choice(("sun", "clouds", "rain")), random.randint(-5, 35)
    yield ToolResult(call.id, {"sky": sky, "degrees": degrees})
    yield from _words(f"In {place} there is {sky} at {degrees} degrees, or so I made up.")


def _ask_to_roll(found: re.Match[str], turn: Any) -> Said:
    number = min(int(found[1]), 6) if found[1].isdigit() else 1
    yield from _words("I need your consent for that. ")
    yield from (ToolCall(_new_id(), "roll_a_die", {"sides": 6}, requires_approval=True) for _ in range(number))


def _after_decision(turn: Any) -> Said:
    rolled = []
    for call in turn.approved:
        rolled.append(random.randint(1, 6))
        yield ToolResult(call.id, {"rolled": rolled[-1]})
    for call in turn.denied:
        yield ToolResult(call.id, DENIED, is_error=True)
    if rolled:
        yield from _words(f"You rolled {' and '.join(map(str, rolled))}.")
    if turn.denied:
        yield from _words(" The rest stays in the box." if rolled else "All right, the die stays in the box.")


def _show_chart(found: re.Match[str], turn: Any) -> Said:
    said = [str(each.get("content") or "") for each in turn.history if each["role"] == "user"]
    yield from _words("How many words your messages have: ")
    yield Component(
        "chart", {"kind": "bar", "labels": [*range(1, len(said) + 1)], "values": [len(each.split()) for each in said]}
    )


def _think(found: re.Match[str], turn: Any) -> Said:
    yield from map(Reasoning, _words("You want me to think. I am a few fixed rules, so that is quickly done."))
    yield from _words("I have thought about it.")


def _fail(found: re.Match[str], turn: Any) -> Said:
    yield from (f"word {number} " for number in range(1, int(found[1] or 0) + 1))
    raise ResponderError("You told me to fail, and so I did.")


def _crash(found: re.Match[str], turn: Any) -> Said:
    yield from _words("Here it comes: ")
    raise RuntimeError("A user told the demo to crash.")


TRICKS: list[tuple[str, Callable[[re.Match[str], Any], Said]]] = [
    (r"^\W*count to (\d{1,6})\b", _count),
    (r"\bweather in ([\w' .-]+)", _weather),
    (r"\broll (a|\d{1,2}) (?:die|dice)\b", _ask_to_roll),
    (r"\bshow (?:me )?a chart\b", _show_chart),
    (r"^\W*think\b", _think),
    (r"^\W*fail(?: after (\d{1,3}) words?)?\W*$", _fail),
    (r"^\W*crash\W*$", _crash),
]


def _words(text: str) -> list[str]:
    """The words of *text*, each with the space after it."""
    return re.findall(r"\s*\S+\s*|\s+", text)


def _new_id() -> str:
    return f"call_{uuid.uuid4().hex}"
