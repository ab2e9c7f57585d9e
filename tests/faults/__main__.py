"""Plants each fault in a copy of the tree, runs the tests that should see it, and compares with what `record.json` says.

python -m tests.faults                             every fault; exit code 1 if one is missed that the record calls seen
python -m tests.faults etag-ignores-the-revision   only this one, or several
python -m tests.faults --record                    and write down what came out
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.faults import ALL
from tests.faults.fault import Fault

TREE = Path(__file__).parents[2]
COPIED = (
    "src",
    "tests",
    "example_app",
    "benchmarks",
    "docs",
    "pyproject.toml",
    "Makefile",
    "README.md",
    "CHANGELOG.md",
)
RECORD = Path(__file__).with_name("record.json")
"""By fault, the test that saw it first, or null."""
TIMEOUT = 300
"""Seconds after which tests hang: if they don't without the fault, they have seen it."""
HANGS = f"hangs for {TIMEOUT} s"


class Unsound(Exception):
    """Tests that tell nothing of a fault: they fail without it too, or don't begin."""


def main() -> int:
    arguments = _arguments()
    planted = {fault.name: fault for fault in ALL}
    if unknown := sorted(set(arguments.names) - set(planted)):
        sys.exit(f"There is no fault {', '.join(unknown)}.")
    chosen = [planted[name] for name in arguments.names] or list(ALL)
    recorded: dict[str, str | None] = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    seen = _plant_all(chosen, arguments.jobs)
    print(f"{sum(map(bool, seen.values()))} of {len(chosen)} planted faults are seen.")
    if arguments.record:
        RECORD.write_text(json.dumps(recorded | seen, indent=2, sort_keys=True) + "\n")
    lost = [name for name, by in seen.items() if by is None and recorded.get(name)]
    for name in lost:
        print(f"NO LONGER SEEN: {name}. Before, by {recorded[name]}")
    return bool(lost) or len(seen) < len(chosen)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", help="faults; all without")
    parser.add_argument("--record", action="store_true", help="write what came out into record.json")
    parser.add_argument("--jobs", type=int, default=2, help="faults at a time")
    return parser.parse_args()


def _plant_all(faults: list[Fault], jobs: int) -> dict[str, str | None]:
    seen: dict[str, str | None] = {}
    with contextlib.ExitStack() as stack, concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        trees: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for _ in range(jobs):
            trees.put(stack.enter_context(_copy_of_the_tree()))

        def plant(fault: Fault) -> tuple[Fault, str | None, float]:
            tree, start = trees.get(), time.monotonic()
            try:
                return fault, _seen_by(fault, tree), time.monotonic() - start
            finally:
                trees.put(tree)

        for done in concurrent.futures.as_completed([pool.submit(plant, fault) for fault in faults]):
            try:
                fault, by, seconds = done.result()
            except Unsound as reason:
                print(f"NOTHING SAID: {reason}", flush=True)
                continue
            seen[fault.name] = by
            print(
                f"{'seen  ' if by else 'MISSED'} {seconds:4.0f} s  {fault.name}: {by or ' '.join(fault.tests)}",
                flush=True,
            )
    return seen


@contextlib.contextmanager
def _copy_of_the_tree() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        for name in COPIED:
            if (TREE / name).is_dir():
                shutil.copytree(TREE / name, Path(folder, name), ignore=shutil.ignore_patterns("__pycache__", "_build"))
            else:
                shutil.copy(TREE / name, folder)
        yield Path(folder)


def _seen_by(fault: Fault, tree: Path) -> str | None:
    """The first test that fails with the fault and passes without it."""
    file = tree / fault.path
    sound = file.read_text()
    if sound.count(fault.right) != 1:
        raise ValueError(f"{fault.name}: its right text is {sound.count(fault.right)} times in {fault.path}")
    try:
        file.write_text(sound.replace(fault.right, fault.wrong))
        failed = _first_failure(tree, "--cache-clear", *fault.tests)
    finally:
        file.write_text(sound)
    again = ("--cache-clear",) if failed == HANGS else ("--last-failed",)
    if failed is not None and _first_failure(tree, *again, *fault.tests):
        raise Unsound(f"{fault.name}: {failed}, without the fault too")
    return failed


def _first_failure(tree: Path, *arguments: str) -> str | None:
    environment = {**os.environ, "PYTHONPATH": str(tree / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", *arguments]
    try:
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        return HANGS
    if done.returncode == 0:
        return None
    failed = re.search(r"^(?:FAILED|ERROR) (.+?::.+?)(?: - .*)?$", done.stdout, re.MULTILINE)
    if failed is None:
        raise Unsound(f"pytest {' '.join(arguments)}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return failed[1]


if __name__ == "__main__":
    sys.exit(main())
