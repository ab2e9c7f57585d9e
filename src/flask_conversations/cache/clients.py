"""Redis clients with short timeouts, without retries, and with a bounded number of connections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry
from redis.sentinel import Sentinel

from ..errors import ConfigurationError

MAX_CONNECTIONS = 50
"""Connections of one process; a call that gets none within the timeout works from the database."""

Client: TypeAlias = Any
"""A client of redis-py: of a server, of Sentinel's master, of a cluster, or the host's own; their types have no common base."""

Connect = Callable[[], Client]
"""Makes a client. Nothing is sent to a server before it is called."""

_FORMS = (
    "redis://[user:password@]host:port/db, rediss://... with TLS, unix:///path?db=0, "
    "redis+sentinel://[user:password@]host:port,host:port/service[/db], redis+cluster://[user:password@]host:port,host:port, "
    "rediss+sentinel://... or rediss+cluster://..."
)


def connector(url: str, timeout: float) -> Connect:
    """A maker of clients for the server, the Sentinels or the cluster at *url*; *timeout* in seconds is for each step.

    Raises `ConfigurationError` for an invalid address, without repeating it: it may hold a password.
    """
    scheme = url.partition("://")[0]
    makers: dict[str, Callable[[str, float], Connect]] = {
        "redis": _single,
        "rediss": _single,
        "unix": _single,
        "redis+sentinel": _sentinel,
        "rediss+sentinel": _sentinel,
        "redis+cluster": _cluster,
        "rediss+cluster": _cluster,
    }
    if scheme not in makers:
        raise ConfigurationError(f"The Redis URL has none of the forms {_FORMS}.")
    try:
        return makers[scheme](url, timeout)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"The Redis URL cannot be read. Its form must be one of {_FORMS}.") from error


def _timeouts(timeout: float) -> dict[str, Any]:
    """No retries: a command whose answer is lost may have been executed."""
    return {"socket_timeout": timeout, "socket_connect_timeout": timeout, "retry": Retry(NoBackoff(), 0)}


def _single(url: str, timeout: float) -> Connect:
    own_pool = {"max_connections": MAX_CONNECTIONS, "timeout": timeout, **_timeouts(timeout)}
    parts = urlsplit(url)
    if parts.scheme == "rediss":
        own_pool["ssl_check_hostname"] = _checks_name(dict(parse_qsl(parts.query)))
    pool = redis.BlockingConnectionPool.from_url(url, **own_pool)
    return lambda: redis.Redis(connection_pool=pool)


def _sentinel(url: str, timeout: float) -> Connect:
    nodes, path, options = _several(url, 26379)
    service, _, db = path.partition("/")
    if not service:
        raise ValueError("no service name")
    options["db"] = int(db or 0)
    own = {name.removeprefix("sentinel_"): options.pop(name) for name in list(options) if name.startswith("sentinel_")}

    def connect() -> Client:
        sentinel = Sentinel(nodes, sentinel_kwargs={**_timeouts(timeout), **own})  # type: ignore[no-untyped-call]  # of redis-py
        own_pool = {"max_connections": MAX_CONNECTIONS, **options, **_timeouts(timeout)}
        return sentinel.master_for(service, **own_pool)  # type: ignore[no-untyped-call]  # of redis-py

    return connect


def _cluster(url: str, timeout: float) -> Connect:
    nodes, path, options = _several(url, 6379)
    if path:
        raise ValueError("a cluster has no database numbers")
    # before version 6 the client has a number of retries besides the retry policy
    retries = {"cluster_error_retry_attempts": 0} if int(redis.__version__.split(".")[0]) < 6 else {}
    return lambda: RedisCluster(
        startup_nodes=[ClusterNode(host, port) for host, port in nodes],  # type: ignore[no-untyped-call]  # of redis-py
        require_full_coverage=False,
        max_connections=MAX_CONNECTIONS,
        **{**retries, **options, **_timeouts(timeout)},
    )


def _checks_name(query: dict[str, Any]) -> bool:
    """Whether a certificate must be for the host of the address: the default, which old clients lack."""
    option = query.get("ssl_check_hostname")
    if option is not None:
        return str(option).lower() not in ("0", "f", "false", "n", "no")
    return str(query.get("ssl_cert_reqs", "required")).lower() != "none"


def _several(url: str, default_port: int) -> tuple[list[tuple[str, int]], str, dict[str, Any]]:
    """Hosts, path and options of an address with several hosts."""
    parts = urlsplit(url)
    login, _, hosts = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    options: dict[str, Any] = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
    if user:
        options["username"] = unquote(user)
    if password:
        options["password"] = unquote(password)
    if parts.scheme.startswith("rediss"):
        options.update(ssl=True, ssl_check_hostname=_checks_name(options))
    nodes = []
    for each in hosts.split(","):
        single = urlsplit(f"//{each}")
        if not single.hostname:
            raise ValueError("a host is missing")
        nodes.append((single.hostname, single.port or default_port))
    return nodes, parts.path.strip("/"), options
