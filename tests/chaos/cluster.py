"""A real gunicorn with several workers, and clients that send each message until the server acknowledges it."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.infra import ports

TREE = Path(__file__).parents[2]
HOST = "127.0.0.1"
TIMEOUT = 40


class Gunicorn:
    """The master and its workers."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process, self.port = process, port
        self.kills = 0

    @property
    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]

    def kill_one(self, chance: random.Random) -> None:
        """kill -9 of a worker, as the system does when memory runs out. The master starts another."""
        workers = self.workers
        if workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(chance.choice(workers), signal.SIGKILL)
                self.kills += 1

    def answers(self) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
            with contextlib.closing(connection):
                connection.request("GET", "/pid")
                return connection.getresponse().status == 200
        return False


@contextlib.contextmanager
def gunicorn(
    folder: Path,
    *,
    workers: int = 3,
    app: str = "tests.chaos.host:create_app()",
    arguments: Sequence[str] = ("--preload",),
    **settings: Any,
) -> Iterator[Gunicorn]:
    """gunicorn with *app* and *settings* of it; *arguments* are further ones of gunicorn, and the last of a kind counts."""
    port = ports.free()
    command = [sys.executable, "-m", "gunicorn", "--bind", f"{HOST}:{port}", "--workers", str(workers)]
    command += [
        "--worker-class",
        "gthread",
        "--threads",
        "2",
        "--log-level",
        "critical",
        "--graceful-timeout",
        "1",
        *arguments,
    ]
    command += ["--no-control-socket"] if _has_control_socket() else []
    command += [app]
    environment = {
        **os.environ,
        "PYTHONPATH": str(TREE),
        **{f"HOST_{name}": str(value) for name, value in settings.items()},
    }
    with open(folder / "gunicorn.log", "wb") as log:
        # a session of its own: its workers go with it
        process = subprocess.Popen(command, cwd=TREE, env=environment, stdout=log, stderr=log, start_new_session=True)
    server = Gunicorn(process, port)
    try:
        deadline = time.monotonic() + TIMEOUT
        while not server.answers():
            log_tail = (folder / "gunicorn.log").read_text()[-3000:]
            assert process.poll() is None, log_tail
            assert time.monotonic() < deadline, log_tail
            time.sleep(0.05)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def _has_control_socket() -> bool:
    from gunicorn.config import KNOWN_SETTINGS

    return any(setting.name == "control_socket_disable" for setting in KNOWN_SETTINGS)


@dataclasses.dataclass
class Clients:
    """The clients of one gunicorn, and the answers that they got."""

    port: int
    conversations: list[str]
    user: str = "ada"
    acknowledged: dict[tuple[str, str], str] = dataclasses.field(default_factory=dict)
    """Message id by conversation and client id."""
    answers: Counter[Any] = dataclasses.field(default_factory=Counter)
    wrong: list[str] = dataclasses.field(default_factory=list)
    healthy_at: list[float] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def sending(self, n: int = 4) -> Iterator[Clients]:
        threads = [threading.Thread(target=self._send, args=[number]) for number in range(n)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(TIMEOUT)

    def _send(self, number: int) -> None:
        connection, count = None, 0
        chance = random.Random(number)
        while not self._stop.is_set():
            count += 1
            conversation_id, client_id = chance.choice(self.conversations), f"c{number}-{count}"
            body = {"content": f"{client_id} says something", "client_id": client_id}
            # until a worker acknowledges it, whatever happens meanwhile
            for _ in range(2000):
                status, answer, connection = self._ask(
                    connection, f"/api/conversations/{conversation_id}/messages", body
                )
                with self._lock:
                    self.answers[status] += 1
                    if status in (200, 201):
                        self.healthy_at.append(time.monotonic())
                        self.acknowledged[conversation_id, client_id] = answer[0]["id"]
                        break
                    if status not in (503, "connection"):
                        self.wrong.append(f"{status}: {answer}")
                        break
                time.sleep(0.02)

    def _ask(self, connection: Any, path: str, body: Any) -> tuple[Any, Any, Any]:
        connection = connection or http.client.HTTPConnection(HOST, self.port, timeout=20)
        try:
            headers = {"Content-Type": "application/json", "X-Test-User": self.user}
            connection.request("POST", path, json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read()), connection
        except (OSError, http.client.HTTPException, ValueError):
            connection.close()
            return "connection", None, None
