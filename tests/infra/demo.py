"""The example app as a process of its own, as `make demo` starts it."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

TREE = Path(__file__).parents[2]


class Demo:
    """`python -m example_app` with its data in a folder: `.url`, and what it `.said` at its start."""

    def __init__(self, data: Path, *arguments: str, **settings: str) -> None:
        self.data, self.arguments, self.settings = data, arguments, settings
        self.port = "0"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "example_app", "--port", self.port, "--data", str(self.data), *self.arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        self.process = subprocess.Popen(command, cwd=TREE, env=environment(self.settings), **pipes)
        self.said = self._read_start()
        self.url, self.port = re.search(r"http://127\.0\.0\.1:(\d+)", self.said).group(0, 1)
        # whatever else it says must not fill the pipe
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def _read_start(self) -> str:
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if line.startswith("Ctrl-C"):
                return "".join(lines)
        raise AssertionError(f"The example app did not start:\n{''.join(lines)}")

    def restart(self) -> None:
        """End the process and start another one on the same port and data."""
        self.stop()
        self.start()

    def forget(self) -> None:
        """Remove every conversation, and start again what a test has stopped."""
        if self.process.poll() is not None:
            self.start()
        with contextlib.closing(sqlite3.connect(self.data / "example.sqlite3", timeout=30)) as connection, connection:
            ours = ("idempotency", "turns", "branches", "tags", "messages")
            for table in (*(f"conversation_{name}" for name in ours), "conversations"):
                connection.execute(f"DELETE FROM {table}")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)


def environment(settings: dict[str, str]) -> dict[str, str]:
    """Ours without what would change the example app, and with *settings*."""
    ours = ("FLASK_", "OPENAI_", "TEST_", "DATABASE_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | settings
