"""The README and the quickstart, typed in as they stand: files, commands and all."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.infra import services
from tests.infra.demo import TREE, environment
from tests.repo.test_docs import blocks_of

NOT_TYPED = ("make ", "pip ", "python3 -m venv", ". .venv", "python docs/")


class Terminal:
    """A shell in an empty folder, in which this environment is active."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.server, self.said = folder, None, []
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        scripts = str(Path(sys.executable).parent)
        self.env = environment({"PATH": scripts + os.pathsep + os.environ["PATH"], "FLASK_RUN_PORT": str(self.port)})

    def type(self, command: str) -> None:
        if command.startswith(NOT_TYPED):
            return
        if command == "flask run":
            self.run_server()
            return
        command = command.replace("127.0.0.1:5000", f"127.0.0.1:{self.port}").replace("curl ", "curl -f ")
        done = subprocess.run(command, shell=True, cwd=self.folder, env=self.env, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        self.said.append(done.stdout)

    def run_server(self) -> None:
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.server = subprocess.Popen(["flask", "run"], cwd=self.folder, env=self.env, **silent)
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.05)
        raise AssertionError("flask run does not answer.")

    def close(self) -> None:
        if self.server:
            self.server.terminate()
            self.server.wait(30)


@pytest.fixture
def terminal(tmp_path):
    """An empty folder with a shell."""
    services.need_program("curl")
    terminal = Terminal(tmp_path)
    yield terminal
    terminal.close()


def follow(page: Path, terminal: Terminal) -> None:
    for block in blocks_of(page):
        if block.title:
            (terminal.folder / block.title).write_text(block.text)
        if block.info == "sh":
            for command in block.text.splitlines():
                terminal.type(command)


@pytest.mark.slow
def test_the_readme_runs_as_pasted(terminal):
    """Its example migrates, serves, answers and lists the conversation; the app has about twenty lines."""
    follow(TREE / "README.md", terminal)
    answer, listed = terminal.said[-2:]
    assert "You said Hello, after 0 messages." in answer
    assert '"message_count":2' in listed
    lines = [line for line in (terminal.folder / "app.py").read_text().splitlines() if line.strip()]
    assert len(lines) <= 20


def test_the_first_command_of_the_readme_is_the_demo_and_the_second_the_tests():
    """Who reads no further has seen the main thing."""
    commands = [
        line for block in blocks_of(TREE / "README.md") if block.info == "sh" for line in block.text.splitlines()
    ]
    assert commands[:2] == ["make demo", "make test"]


@pytest.mark.slow
def test_the_quickstart_runs_as_typed(terminal):
    """Ada finds what she said, Bob finds nothing, and the Python of its last step prints the conversation."""
    page = TREE / "docs" / "tutorial" / "quickstart.md"
    follow(page, terminal)
    *_, adas, _, bobs = terminal.said
    assert '"title":"Good morning"' in adas
    assert '"conversations":[]' in bobs
    last = [block for block in blocks_of(page) if block.is_python][-1]
    (terminal.folder / "look.py").write_text(last.text)
    terminal.type(f"{sys.executable} look.py")
    assert "Good morning 2" in terminal.said[-1]


def test_the_tutorial_shows_what_the_script_says():
    """The two boxes of the tutorial hold what `docs/make_durable.py` is tested to say."""
    tutorial = (TREE / "docs" / "tutorial" / "from-sessions-to-durable.md").read_text()
    boxes = re.findall(r"```text\n(.*?)```", tutorial, re.DOTALL)
    assert [box.splitlines()[0] for box in boxes] == ["before.py", "durable.py"]
    source = (TREE / "tests" / "example" / "test_before_to_durable.py").read_text()
    for box in boxes:
        for line in box.splitlines()[1:]:
            answer = line.partition(":")[2].strip()
            assert answer in source
