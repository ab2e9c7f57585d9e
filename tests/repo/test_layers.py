"""Arrows point down: what each module of the package may import, as docs/explanation/architecture.md draws it."""

from __future__ import annotations

import ast
import re
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
    "history",
    "ids",
}
ROOT = "__init__"
"""The public names: `from flask_conversations import ...`."""

MAY_IMPORT = {
    # leaves: importable by all
    "errors": set(),
    "signals": set(),
    "proxies": set(),
    "turns": {"errors"},
    "history": {"errors"},
    "ids": set(),
    "guards": set(),
    "column_types": set(),
    "counters": set(),
    "config": {"errors"},
    "identity": {"config", "errors"},
    "schemas": {"errors"},
    # state
    "tables": {"column_types", "ids", "schemas"},
    "models": {"errors", "tables"},
    "database": {"config", "errors"},
    "transaction": {"errors", "signals"},
    "cache": {"config", "counters", "errors", "identity", "schemas"},
    "store": LEAVES | {"models", "tables"},
    "streams": LEAVES | {"cache"},
    "migrations": {"config", "errors", "models", "column_types", "tables"},
    # rules
    "service": LEAVES | {"models", "store", "cache", "tables", "transaction", "streams"},
    # doors
    "api": LEAVES | {"service", "streams"},
    "ops": LEAVES | {"cache", "database", "migrations", "models", "service", "store", "tables"},
    "cli": LEAVES | {"database", "migrations", "ops", "service"},
    "contrib": LEAVES | {ROOT},
    "sessions": LEAVES | {"service"},
    "rate_limits": LEAVES,
    "testing": LEAVES | {ROOT},
    # wiring: the extension object, and what it is on one app
    "state": LEAVES | {"cache", "database", "models", "service", "streams", "transaction"},
    "extension": {
        "state",
        "api",
        "cache",
        "cli",
        "contrib",
        "rate_limits",
        "sessions",
        "database",
        "migrations",
        "models",
        "service",
        "store",
        "streams",
        "tables",
        "transaction",
    }
    | LEAVES,
    ROOT: LEAVES | {"extension", "service", "tables"},
}

KNOWS = {
    "redis": {"cache", "extension", "ops", "streams", "contrib", "rate_limits"},
    "alembic": {"migrations", "cli", "extension"},
}
"""Foreign packages that only these parts touch."""

ONLY = {"api": {"service": {"http"}}}
"""What a part imports of another one, where that is not all of it."""

NEVER = {"api": {"sqlalchemy"}, "schemas": {"sqlalchemy", "flask"}, "store": {"flask"}, "proxies": {"sqlalchemy"}}
"""Foreign packages that a part has no business with."""

FLOORS = (
    "cursors guards outcome savepoints turns turns.answers turns.timing turns.types turns.ports",
    "backend",
    "unit_of_work",
    "branches edits idempotency titles windows messages reading conversations summaries forks snapshots",
    "turns.questions turns.states turns.recovery",
    "turns.transitions turns.views",
    "turns.following turns.turn turns.execution",
    "turns.hosting turns.registry",
    "turns.operations",
    "facade http",
)
"""The modules of `service`, from the ground up: each imports from its own floor and from those below."""

MODULES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_arrows_point_down(module):
    """A module imports only what its part may import."""
    part = part_of(module)
    assert part in MAY_IMPORT, f"{part} is new: draw it into the architecture page and into this test"
    for imported, line in ours(module):
        allowed = imported == part or imported in MAY_IMPORT[part]
        assert allowed, f"{module.relative_to(SOURCE)}:{line}: {part} may not import {imported}"
    for name, line in imports(module):
        _, imported, *rest = [*name.split("."), ""]
        only = ONLY.get(part, {}).get(imported)
        assert only is None or rest[0] in only, f"{module.relative_to(SOURCE)}:{line}: {part} may not import {name}"


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_each_foreign_package_has_its_place(module):
    """Redis is spoken in the cache, SQL below the service, and so on."""
    part = part_of(module)
    for name, line in imports(module):
        top = name.split(".")[0]
        misplaced = (top in KNOWS and part not in KNOWS[top]) or top in NEVER.get(part, ())
        assert not misplaced, f"{module.relative_to(SOURCE)}:{line}: {part} does not speak {top}"


def test_the_service_has_floors():
    """Each module of the service is on a floor, and imports nothing from a higher one."""
    floors = {f"service.{name}": floor for floor, names in enumerate(FLOORS) for name in names.split()}
    arrows = graph(SOURCE)
    assert {name for name in arrows if name.startswith("service.")} == set(floors)
    up = [f"{name} imports {other}" for name in floors for other in arrows[name] if floors.get(other, 0) > floors[name]]
    assert up == []


def test_the_page_names_every_module():
    """The tree in docs/explanation/architecture.md is the tree."""
    words = set(re.findall(r"\w+", (SOURCE.parents[1] / "docs" / "explanation" / "architecture.md").read_text()))
    steps = SOURCE / "migrations" / "versions"
    assert [str(m) for m in MODULES if m.stem != "__init__" and m.parent != steps and m.stem not in words] == []


def test_no_modules_import_each_other():
    """No circle of any size, imports for types alone included."""
    assert circles(graph(SOURCE)) == []


def test_the_rule_catches_circles(tmp_path):
    """Of two, of three, and through the name of a package."""
    source = tmp_path / PACKAGE
    for name, line in {
        "a": "from .b import x",
        "b": "if TYPE_CHECKING:\n    from . import a",
        "c": "from . import d, e",
        "d": "def f():\n    from .pack.e import x",
        "e": "import flask_conversations.a",
        "pack/e": "from ..pack import x",
        "pack/__init__": "from ..c import x",
        "__init__": "",
    }.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / f"{name}.py").write_text(line)
    assert circles(graph(source)) == [["a", "b"], ["c", "d", "pack", "pack.e"]]


def graph(source: Path) -> dict[str, set[str]]:
    """By module, the modules of the package that it names in an import."""
    modules = {name_of(module, source): module for module in source.rglob("*.py")}
    found: dict[str, set[str]] = {}
    for name, module in modules.items():
        found[name] = set()
        for imported, _ in imports(module, source, for_types=True):
            top, _, rest = imported.partition(".")
            while rest and rest not in modules:
                rest = rest.rpartition(".")[0]
            if top == PACKAGE and rest and rest != name:
                found[name].add(rest)
    return found


def name_of(module: Path, source: Path) -> str:
    parts = module.relative_to(source).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """The groups of modules that import each other, however many are between them."""
    reached = {name: reachable(arrows, name) for name in arrows}
    groups = {tuple(sorted(other for other in reached[name] if name in reached[other])) for name in arrows}
    return sorted([*group] for group in groups if len(group) > 1)


def reachable(arrows: dict[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        for name in arrows[waiting.pop()] - found:
            found.add(name)
            waiting.append(name)
    return found


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


def imports(module: Path, source: Path = SOURCE, *, for_types: bool = False) -> Iterator[tuple[str, int]]:
    """The dotted names that *module* imports when it runs, relative ones resolved; with *for_types* those for types too."""
    tree = ast.parse(module.read_text())
    left_out = {id(inner) for node in ast.walk(tree) if is_type_checking(node) for inner in ast.walk(node)}
    package = [PACKAGE, *module.relative_to(source).parts[:-1]]
    for node in ast.walk(tree):
        if id(node) in left_out and not for_types:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = [*base, *([node.module] if node.module else [])]
            yield from ((".".join([*start, alias.name]), node.lineno) for alias in node.names)


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
