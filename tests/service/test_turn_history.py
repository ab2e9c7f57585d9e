"""The history of conversations with turns: from the database and from the cache, on any branch, every provider accepts it."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from ..history.validators import VALIDATORS

CALL = {"type": "tool_call", "id": "c", "name": "weather", "arguments": {"city": "Paris"}}
RESULT = {"type": "tool_result", "tool_call_id": "c", "content": "21"}
PARTS = [{"type": "text", "text": "Let me look. "}, CALL, RESULT, {"type": "text", "text": "21 there."}]
WAITING = [{"type": "text", "text": "May I? "}, {**CALL, "id": "d", "requires_approval": True}]


@pytest.fixture(params=["off", "on"])
def app(request: Any, make_app: Any) -> Any:
    cached = {} if request.param == "off" else {"CONVERSATIONS_REDIS_URL": request.getfixturevalue("redis_url")}
    return make_app(**cached, options={"token_counter": len})


@pytest.fixture
def chat(ada: Any) -> Any:
    """A turn with a tool, one that failed without a word, and one that waits for an approval."""
    made = ada.create_conversation()
    own = made["id"]
    asked = ada.save_message(own, "user", "How warm is Paris?")
    ada.save_message(own, "assistant", "Let me look. 21 there.", parts=PARTS)
    ada.save_message(own, "user", "And Rome?")
    ada.save_message(own, "assistant", "", status="failed", metadata={"error": {"code": "responder_failed"}})
    ada.save_message(own, "user", "Hello?")
    ada.save_message(own, "assistant", "May I? ", parts=WAITING, status="pending")
    return {**made, "asked": asked["id"]}


def test_a_turn_is_given_out_as_it_went(ada, chat):
    """Call and answer between the texts; the failed turn is no message, the call that waits is not there yet."""
    for _ in range(2):
        history = ada.get_conversation_history(chat["id"])
        assert [(m["role"], m["content"]) for m in history] == [
            ("user", "How warm is Paris?"),
            ("assistant", "Let me look. "),
            ("tool", "21"),
            ("assistant", "21 there."),
            ("user", "And Rome?"),
            ("user", "Hello?"),
            ("assistant", "May I? "),
        ]


def test_any_limit_and_any_budget_is_accepted(ada, chat, subtests):
    """Wherever the window begins, and whatever of it fits; the host's counter counts each step of a turn."""
    for format, validate in VALIDATORS.items():
        with subtests.test(format):
            for limit, max_tokens in itertools.product(range(8), (None, 0, 20, 60)):
                validate(ada.get_conversation_history(chat["id"], limit, format=format, max_tokens=max_tokens))


def test_another_branch_has_its_own_history(ada, chat):
    """An answer beside another one: only the path to the newest message is in the history."""
    ada.save_message(chat["id"], "assistant", "Warm.", parent_id=chat["asked"])
    assert [m["content"] for m in ada.get_conversation_history(chat["id"])] == ["How warm is Paris?", "Warm."]
    ada.summarize(chat["id"], "Paris is warm.")
    ada.save_message(chat["id"], "user", "Thanks")
    for format in VALIDATORS:
        VALIDATORS[format](ada.get_conversation_history(chat["id"], format=format))
    assert [m["role"] for m in ada.get_conversation_history(chat["id"])] == ["system", "user"]


def test_the_counter_is_the_one_that_is_configured(make_app):
    """By its import path too; calls, their arguments and answers are paid for, reasoning and components are not."""
    app = make_app(CONVERSATIONS_TOKEN_COUNTER="builtins.len")
    ada = app.conversations.as_user("ada", app=app)
    chat = ada.create_conversation()
    extra = [{"type": "reasoning", "text": "hm" * 99}, {"type": "component", "component_type": "x", "data": "y" * 99}]
    ada.save_message(chat["id"], "assistant", "Let me look. 21 there.", parts=[*extra, *PARTS])
    last, first = len("21 there."), len("Let me look. ") + len("weather") + len('{"city":"Paris"}') + len("21")
    assert len(ada.get_conversation_history(chat["id"], max_tokens=last + first)) == 3
    assert len(ada.get_conversation_history(chat["id"], max_tokens=last + first - 1)) == 1
