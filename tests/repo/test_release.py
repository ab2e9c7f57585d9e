"""What a release must carry."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

TREE = Path(__file__).parents[2]


def test_the_changelog_has_this_version():
    """The changelog has the changes of the release."""
    version = importlib.metadata.version("flask-conversations")
    changelog = (TREE / "CHANGELOG.md").read_text()
    assert re.search(rf"^## \[?{re.escape(version)}\]?", changelog, re.MULTILINE), f"CHANGELOG.md lacks {version}"


def test_the_package_is_typed():
    """Type checkers of hosts read our annotations."""
    assert (TREE / "src" / "flask_conversations" / "py.typed").exists()
