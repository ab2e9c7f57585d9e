"""Write reference/settings.md from the fields of `Config`: `python docs/settings.py`. A test checks that it is current."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import re
from pathlib import Path

from flask_conversations import config
from flask_conversations.config import PREFIX, Config

PAGE = Path(__file__).parent / "reference" / "settings.md"

INTRODUCTION = """\
# Settings

Keys of `app.config`. With `app.config.from_prefixed_env()` each can also be set in the environment: `FLASK_{key}`.
An unknown key that begins with `{prefix}` raises an error when the app starts, since it is most likely a typing mistake.
A setting that is also an option of `Conversations(...)` or `init_app(...)` may be given there; the option wins.

<!-- Made by docs/settings.py from the docstrings of Config: change those. -->
"""


def page() -> str:
    """The text of the page."""
    defaults = {field.name: field.default for field in dataclasses.fields(Config)}
    lines = [INTRODUCTION.format(prefix=PREFIX, key=PREFIX + "TRASH_DAYS")]
    for heading, fields in sections(inspect.getsource(config)).items():
        lines += [f"## {heading}", ""]
        for name, (kind, sentence) in fields.items():
            default = "unset" if defaults[name] is None else f"`{defaults[name]!r}`"
            lines += [f"`{PREFIX}{name.upper()}`", f": {sentence}", f"  Type `{kind}`, default {default}.", ""]
    if idle := sorted(getattr(config, "LATER", ())):
        names = ", ".join(f"`{PREFIX}{name.upper()}`" for name in idle)
        lines += ["## Accepted, without effect in this version", "", names + ".", ""]
    return "\n".join(lines)


def sections(source: str) -> dict[str, dict[str, tuple[str, str]]]:
    """Type and docstring of each field, under the `# -- heading ---` comment above it."""
    headings = [(i, line) for i, line in enumerate(source.splitlines(), 1) if re.match(r"\s*# -- ", line)]
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for field, docstring in fields_of(source):
        above = [line for i, line in headings if i < field.lineno]
        heading = above[-1].strip("# -").strip() if above else "general"
        sentence = " ".join(inspect.cleandoc(docstring).split())
        found.setdefault(heading[:1].upper() + heading[1:], {})[field.target.id] = (
            ast.unparse(field.annotation),
            sentence,
        )
    return found


def fields_of(source: str) -> list[tuple[ast.AnnAssign, str]]:
    body = next(
        node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == "Config"
    ).body
    return [(node, docstring(after)) for node, after in itertools.pairwise(body) if isinstance(node, ast.AnnAssign)]


def docstring(node: ast.stmt) -> str:
    """The text of *node* if it is a docstring, else nothing, which the test of the page complains about."""
    is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return node.value.value if is_text else ""


if __name__ == "__main__":
    PAGE.write_text(page())
