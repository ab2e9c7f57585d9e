"""Every setting is documented, with its default, and nothing is documented that is not there."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from flask_conversations.config import Config
from flask_conversations.service.turns.timing import Timing

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("settings_page", DOCS / "settings.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_current(generator):
    """The page in the tree is what the docstrings say today."""
    assert generator.PAGE.read_text() == generator.page(), "run: python docs/settings.py"


def test_every_setting_has_a_sentence_and_its_default(generator):
    """One entry per field of Config, none without a sentence."""
    entries = dict(re.findall(r"^`CONVERSATIONS_(\w+)`\n: (.*\n.*)$", generator.page(), re.M))
    fields = {field.name.upper(): field.default for field in dataclasses.fields(Config)}
    assert entries.keys() == fields.keys()
    for name, text in entries.items():
        assert re.match(r"\S.*[.)]\n", text), f"{name} has no sentence"
        assert text.endswith(f"default {'unset' if fields[name] is None else f'`{fields[name]!r}`'}.")


def test_no_page_names_a_setting_that_does_not_exist():
    """A key in any page is a field of Config, or one that is accepted for later."""
    from flask_conversations import config

    known = {field.name.upper() for field in dataclasses.fields(Config)}
    known |= {name.upper() for name in getattr(config, "LATER", ())}
    pages = [*DOCS.rglob("*.md"), DOCS.parent / "README.md"]
    text = "\n".join(page.read_text() for page in pages if "_build" not in page.parts)
    named = set(re.findall(r"\bCONVERSATIONS_([A-Z0-9_]*[A-Z0-9])\b", text))
    assert named <= known, f"no such settings: {sorted(named - known)}"


PACE = {
    "checkpoint_interval": (0.5, "every 0.5 seconds while there is more"),
    "poll_interval": (0.25, "four times a second"),
    "relay_poll_interval": (0.1, "ten times a second"),
    "relay_timeout": (2, "every two seconds"),
    "database_poll_interval": (0.5, "twice a second"),
    "closed_relay_ttl": (5, "expires 5 seconds after the end"),
    "relay_ttl": (120, "120 seconds after the last word"),
    "keepalive_interval": (15, "after 15 seconds at most"),
    "storage_timeout": (60, "up to a minute"),
}
"""What people may rely on, in seconds, and the words of docs/explanation/turns.md."""


def test_turns_keep_the_pace_of_their_page():
    """The tests of turns run at another pace, so that nothing else would notice."""
    page = " ".join((DOCS / "explanation" / "turns.md").read_text().split())
    kept = dataclasses.asdict(Timing())
    for name, (seconds, words) in PACE.items():
        assert kept[name] == seconds, name
        assert words in page, name
