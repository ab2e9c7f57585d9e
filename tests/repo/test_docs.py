"""The examples in README and docs run as they stand.

The Python blocks of a page run in order, in one namespace and one empty folder. A comment on the line before a block changes
that: `<!-- not run: reason -->` leaves it out, `<!-- starts anew -->` gives it a namespace of its own from there on.
A block whose info string is `python title=app.py` is also written to that file, so that later blocks can import it.
"""

from __future__ import annotations

import dataclasses
import doctest
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

TREE = Path(__file__).parents[2]
PAGES = [TREE / "README.md", *sorted(page for page in TREE.glob("docs/**/*.md") if "_build" not in page.parts)]
FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>```+|:::+)(?P<info>.*)$")
NOT_RUN = re.compile(r"<!-- not run: \S.* -->")
STARTS_ANEW = "<!-- starts anew -->"


@dataclasses.dataclass
class Block:
    """One fenced block: where it stands, what it is written in, the line above it, and its text."""

    page: Path
    line: int
    info: str
    above: str
    text: str

    @property
    def is_python(self) -> bool:
        return bool(re.match(r"(\{code-block\} *)?(python|py|pycon|python3)\b", self.info))

    @property
    def title(self) -> str | None:
        found = re.search(r"title=\"?([\w./-]+)", self.info)
        return found[1] if found else None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TREE)))
def test_the_examples_of_a_page_run(page, tmp_path, monkeypatch):
    """Every Python block runs, or says why not."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    modules = set(sys.modules)
    namespace: dict[str, Any] = {"__name__": "example"}
    for block in blocks_of(page):
        if not block.is_python or NOT_RUN.fullmatch(block.above):
            continue
        if block.above == STARTS_ANEW:
            namespace = {"__name__": "example"}
        if block.title:
            (tmp_path / block.title).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / block.title).write_text(block.text)
        run(block, namespace)
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


def test_blocks_are_found(tmp_path):
    """Fences in lists and with options, the line above, and what stands in a longer fence."""
    page = tmp_path / "page.md"
    page.write_text(
        "1. Do this:\n\n   <!-- not run: needs a model -->\n   ```python\n   x = 1\n   ```\n\n"
        "````md\n```python\nnot ours\n```\n````\n\n```{code-block} python\n:linenos:\n\ny = 2\n```\n```sh\nls\n```\n"
    )
    found = [(block.is_python, bool(NOT_RUN.fullmatch(block.above)), block.text.strip()) for block in blocks_of(page)]
    assert found == [
        (True, True, "x = 1"),
        (False, False, "```python\nnot ours\n```"),
        (True, False, "y = 2"),
        (False, False, "ls"),
    ]


def blocks_of(page: Path) -> list[Block]:
    blocks, lines = [], page.read_text().splitlines()
    opened: tuple[int, str, str] | None = None
    for number, line in enumerate(lines):
        fence = FENCE.match(line)
        if opened is None and fence and fence["ticks"].startswith("`"):
            opened = number, fence["ticks"], fence["info"].strip()
        elif opened is not None and fence and fence["ticks"] == opened[1] and not fence["info"].strip():
            start, _, info = opened
            text = textwrap.dedent("\n".join(lines[start + 1 : number])) + "\n"
            text = re.sub(r"\A(:[\w-]+:.*\n)+", lambda options: "\n" * options[0].count("\n"), text)
            blocks.append(Block(page, start + 2, info, lines[start - 1].strip() if start else "", text))
            opened = None
    assert opened is None, f"{page}:{opened and opened[0] + 1}: this block never ends"
    return blocks


def run(block: Block, namespace: dict[str, Any]) -> None:
    where = f"{block.page}:{block.line}"
    if ">>> " in block.text:
        test = doctest.DocTestParser().get_doctest(block.text, namespace, where, str(block.page), block.line)
        results = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
        said: list[str] = []
        results.run(test, out=said.append, clear_globs=False)
        namespace.update(test.globs)
        assert not results.summarize(verbose=False).failed, "".join(said)
    else:
        # the newlines make a traceback show the line of the page
        exec(compile("\n" * (block.line - 1) + block.text, str(block.page), "exec", dont_inherit=True), namespace)
