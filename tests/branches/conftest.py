"""A conversation to branch off."""

from __future__ import annotations

from typing import Any

import pytest

from .tools import said


@pytest.fixture
def chat(ada: Any, bob: Any) -> str:
    """Ada's conversation of `m1` to `m6`; Bob has one of his own."""
    bob.create_conversation("bob's", messages=said("b1", "b2"))
    return str(ada.create_conversation(messages=said(*(f"m{n}" for n in range(1, 7))))["id"])
