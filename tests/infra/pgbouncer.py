"""A PgBouncer before a PostgreSQL: few connections, and each transaction may get another one."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import sqlalchemy as sa

from example_app.servers import Guarded, scratch_folder

from . import ports, services

HOST = "127.0.0.1"
SETTINGS = """
[databases]
{database} = host={host} port={server_port} dbname={database}

[pgbouncer]
listen_addr = {listen}
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users.txt
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = 200
server_reset_query =
"""


@contextlib.contextmanager
def pgbouncer(url: str, *, pool_size: int = 4) -> Iterator[str]:
    """The URL of a PgBouncer in transaction mode before the PostgreSQL at *url*, which listens on a unix socket."""
    program = services.need_program("pgbouncer")
    server, port = sa.make_url(url), ports.free()
    with scratch_folder() as folder:
        (folder / "users.txt").write_text(f'"{server.username}" ""\n')
        settings = SETTINGS.format(
            database=server.database,
            host=server.query["host"],
            server_port=server.query["port"],
            listen=HOST,
            port=port,
            folder=folder,
            pool_size=pool_size,
        )
        (folder / "pgbouncer.ini").write_text(settings)
        with Guarded([program, "-q", folder / "pgbouncer.ini"], folder, lambda: _listens(port), drop_root=True):
            yield f"postgresql+psycopg://{server.username}@{HOST}:{port}/{server.database}"


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False
