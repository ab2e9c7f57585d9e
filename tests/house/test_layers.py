"""Arrows point down: what each module of the package may import, as docs/explanation/architecture.md draws it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "flask_conversations"
SOURCE = Path(__file__).parents[2] / "src" / PACKAGE

LEAVES = {
    "config",
    "counters",
    "errors",
    "identity",
    "schemas",
    "signals",
    "proxies",
    "column_types",
    "turns",
    "guards",
}
ROOT = "__init__"
"""The public names: `from flask_conversations import ...`."""

MAY_IMPORT = {
    # leaves: importable by all
    "errors": set(),
    "signals": set(),
    "proxies": set(),
    "turns": {"errors"},
    "guards": set(),
    "column_types": set(),
    "counters": set(),
    "config": {"errors"},
    "identity": {"config", "errors"},
    "schemas": {"errors"},
    # state
    "models": {"errors", "column_types"},
    "database": {"config", "errors"},
    "transaction": {"errors", "signals"},
    "cache": {"config", "counters", "errors", "identity", "schemas"},
    "store": LEAVES | {"models"},
    "streams": LEAVES | {"cache"},
    "migrations": {"config", "errors", "models", "column_types"},
    # rules
    "service": LEAVES | {"models", "store", "cache", "transaction", "streams"},
    # doors
    "api": LEAVES,
    "cli": LEAVES | {"service", "migrations"},
    "contrib": LEAVES | {ROOT},
    "testing": LEAVES | {ROOT},
    # wiring: the extension object, and what it is on one app
    "state": LEAVES | {"cache", "database", "models", "service", "streams", "transaction"},
    "extension": {
        "state",
        "api",
        "cache",
        "cli",
        "contrib",
        "database",
        "migrations",
        "models",
        "service",
        "store",
        "streams",
        "transaction",
    }
    | LEAVES,
    ROOT: LEAVES | {"extension", "service", "models"},
}

KNOWS = {"redis": {"cache", "extension", "streams", "contrib"}, "alembic": {"migrations", "cli", "extension"}}
"""Foreign packages that only these parts touch."""

NEVER = {"api": {"sqlalchemy"}, "schemas": {"sqlalchemy", "flask"}, "store": {"flask"}, "proxies": {"sqlalchemy"}}
"""Foreign packages that a part has no business with."""

MODULES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_arrows_point_down(module):
    """A module imports only what its part may import."""
    part = part_of(module)
    assert part in MAY_IMPORT, f"{part} is new: draw it into the architecture page and into this test"
    for imported, line in ours(module):
        allowed = imported == part or imported in MAY_IMPORT[part]
        assert allowed, f"{module.relative_to(SOURCE)}:{line}: {part} may not import {imported}"


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_each_foreign_package_has_its_place(module):
    """Redis is spoken in the cache, SQL below the service, and so on."""
    part = part_of(module)
    for name, line in imports(module):
        top = name.split(".")[0]
        misplaced = (top in KNOWS and part not in KNOWS[top]) or top in NEVER.get(part, ())
        assert not misplaced, f"{module.relative_to(SOURCE)}:{line}: {part} does not speak {top}"


def test_the_rule_catches_an_arrow_that_goes_up(tmp_path):
    """The parser sees every way to write an import, but for types alone."""
    lines = ["from ..extension import X", "from .. import extension", "import flask_conversations.extension"]
    lines += ["def f():\n    from flask_conversations.extension import Y", "from . import messages"]
    lines += ["if TYPE_CHECKING:\n    from ..service import Z"]
    module = tmp_path / PACKAGE / "store" / "tags.py"
    module.parent.mkdir(parents=True)
    module.write_text("\n".join(lines))
    found = [name for name, _ in ours(module, tmp_path / PACKAGE)]
    assert sorted(found) == ["extension"] * 4 + ["store"]


def part_of(module: Path, source: Path = SOURCE) -> str:
    return module.relative_to(source).parts[0].removesuffix(".py")


def ours(module: Path, source: Path = SOURCE) -> Iterator[tuple[str, int]]:
    """The parts of our package that *module* imports, with the line."""
    for name, line in imports(module, source):
        top, _, rest = name.partition(".")
        if top == PACKAGE:
            part = rest.split(".")[0]
            exists = (source / part).is_dir() or (source / f"{part}.py").is_file() or source != SOURCE
            yield (part if part and exists else ROOT), line


def imports(module: Path, source: Path = SOURCE) -> Iterator[tuple[str, int]]:
    """The dotted names that *module* imports when it runs, relative ones resolved."""
    tree = ast.parse(module.read_text())
    for_types = {id(inner) for node in ast.walk(tree) if is_type_checking(node) for inner in ast.walk(node)}
    package = [PACKAGE, *module.relative_to(source).parts[:-1]]
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = [*base, *([node.module] if node.module else [])]
            yield from ((".".join([*start, alias.name]), node.lineno) for alias in node.names)


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
