"""A private PostgreSQL that a test may stop and start again under load.

with PostgresqlServer() as server:
    url = server.create_database("chat")
    server.restart("immediate")
"""

from __future__ import annotations

import contextlib
import signal
from typing import Any, Literal

import sqlalchemy as sa

from example_app.servers import CARELESS, Guarded, Unavailable, prepare_postgresql, scratch_folder, succeeds

from . import ports, services

Mode = Literal["smart", "fast", "immediate"]
SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
HOST = "127.0.0.1"


class PostgresqlServer:
    """One PostgreSQL with its own data, which survive each restart.

    What it acknowledged is there after an `immediate` restart too; *fsync* makes it sure even if the machine lost power, for
    measuring what that costs. *settings* are those of postgresql.conf.
    """

    def __init__(self, *, fsync: bool = False, **settings: str | int) -> None:
        self.fsync = fsync
        self.settings = {"max_connections": 200, **settings}
        self.port = 0
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> PostgresqlServer:
        services.need("postgresql")
        with contextlib.ExitStack() as stack:
            self.folder = stack.enter_context(scratch_folder())
            binaries, data = self._prepare()
            self.port = ports.free()
            place = ["-D", data, "-k", self.folder, "-h", HOST, "-p", self.port]
            # synchronous_commit stays on: without it, the last acknowledged commits are lost by an immediate restart
            careless = [] if self.fsync else [setting for setting in CARELESS if "synchronous_commit" not in setting]
            settings = [f"--{name}={value}" for name, value in self.settings.items()]
            command = [binaries / "postgres", *place, *(f"--{setting}" for setting in careless), *settings]
            ready = [str(binaries / "pg_isready"), "-q", "-h", HOST, "-p", str(self.port)]
            self._process = Guarded(command, self.folder, lambda: succeeds(ready), drop_root=True)
            stack.enter_context(self._process)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        """The database `postgres`, over TCP."""
        return self._url("postgres")

    @property
    def socket_url(self) -> str:
        """The same over the unix socket."""
        return f"postgresql+psycopg://postgres@/postgres?host={self.folder}&port={self.port}"

    def create_database(self, name: str) -> str:
        """An empty database; its URL."""
        engine = sa.create_engine(self.url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with engine.connect() as connection:
            connection.exec_driver_sql(f'CREATE DATABASE "{name}" TEMPLATE template0')
        return self._url(name)

    def stop(self, mode: Mode = "fast") -> None:
        """Stop it: `fast` ends all sessions in order, `immediate` as a crash does, `smart` waits until they leave."""
        self._process.end(SIGNALS[mode])

    def start(self) -> None:
        """Start it again, at the same address with the same data, and wait until it accepts connections."""
        self._process.start()

    def restart(self, mode: Mode = "fast") -> None:
        self.stop(mode)
        self.start()

    def _url(self, database: str) -> str:
        return f"postgresql+psycopg://postgres@{HOST}:{self.port}/{database}"

    def _prepare(self) -> Any:
        try:
            return prepare_postgresql(None, self.folder, fsync=self.fsync)
        except Unavailable as reason:  # the run has a PostgreSQL given by URL, but none that can be started
            services.missing(f"NO POSTGRESQL: {reason}")
