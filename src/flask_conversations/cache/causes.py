"""Errors of Redis, explained to the operator: the cause and the remedy.

The texts are ours. A text of the server or the driver is only matched, never repeated: it may hold a password or a key.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Sequence

import redis.exceptions as refusals

from ..errors import ConfigurationError

COMMANDS = ("INFO", "TIME", "LPUSH", "RPUSH", "LLEN", "LRANGE", "LREM", "LTRIM", "PEXPIRE", "UNLINK")
"""Commands that the cache's scripts use. The Redis user needs each of them, and EVAL and EVALSHA."""


def cause(error: BaseException) -> str:
    """The cause of an error of redis-py, and the remedy."""
    if isinstance(error, ConfigurationError):
        return str(error)
    chain = list(_chain(error))
    message = " ".join(str(one) for one in chain)
    kind = next((text for one in chain if (text := _BY_CLASS.get(type(one).__name__))), None)
    return (
        _certificate(chain, message)
        or refusal(message)
        or kind
        or _network(chain, message)
        or _several(chain)
        or _other(error)
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and its causes, whose texts say more."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        yield error
        error = error.__cause__ or error.__context__


def _certificate(chain: Sequence[BaseException], message: str) -> str | None:
    if "CERTIFICATE_VERIFY_FAILED" in message:
        low = message.lower()
        if "hostname mismatch" in low or "ip address mismatch" in low:
            return "The certificate of Redis is for another name than the one in the URL. Use that name, or renew the certificate."
        if "expired" in low:
            return "The certificate of Redis has expired. Renew it."
        return "This machine does not trust the signer of Redis's certificate. Add ?ssl_ca_certs=/path/to/ca.pem to the URL."
    if "WRONG_VERSION_NUMBER" in message or "RECORD_LAYER_FAILURE" in message:
        return "Redis does not speak TLS on this port. Use redis:// or its TLS port."
    if "CERTIFICATE_REQUIRED" in message or "certificate required" in message.lower():
        return "Redis asks for a certificate of ours. Add ?ssl_certfile=...&ssl_keyfile=... to the URL."
    if "handshake operation timed out" in message:
        return "Redis did not answer the TLS handshake in time. If it does not speak TLS on this port, use redis://."
    if any(isinstance(one, ssl.SSLError) for one in chain):
        return "The TLS handshake with Redis failed. Compare the versions and ciphers that both allow."
    return None


_BY_MESSAGE = {
    "WRONGPASS": "The user or the password for Redis is wrong. Correct CONVERSATIONS_REDIS_URL.",
    "invalid username-password": "The user or the password for Redis is wrong. Correct CONVERSATIONS_REDIS_URL.",
    "invalid password": "The password for Redis is wrong. Correct CONVERSATIONS_REDIS_URL.",
    "called without any password": "Redis has no password, and the URL has one. Take it out, or set requirepass.",
    "NOAUTH": "Redis asks for a password. Put it into the URL: redis://:password@host:6379/0",
    "Authentication required": "Redis asks for a password. Put it into the URL: redis://:password@host:6379/0",
    "HELLO must be called": "Redis asks for a password. Put it into the URL: redis://:password@host:6379/0",
    "DENIED": "Redis runs in protected mode and refuses other machines. Set a password, and bind to the right address.",
    "MISCONF": "Redis cannot write its snapshot, and so takes no writes. Free its disk, or take out save.",
    "unable to persist on disk": "Redis cannot write its snapshot, and so takes no writes. Free its disk, or take out save.",
    "unknown command `SENTINEL`": "The server in the URL is no Sentinel. Use redis:// for a single Redis.",
    "unknown command 'SENTINEL'": "The server in the URL is no Sentinel. Use redis:// for a single Redis.",
    "LOADING": "Redis is loading its data. Wait until it has.",
    "MASTERDOWN": "This Redis is a replica that has lost its master. Name the master, or use redis+sentinel://.",
    "READONLY": "This Redis is a replica and takes no writes. Name the master, or use redis+sentinel://.",
    "read only replica": "This Redis is a replica and takes no writes. Name the master, or use redis+sentinel://.",
    "NOREPLICAS": "Redis has fewer replicas than min-replicas-to-write wants, and so takes no writes.",
    "BUSY": "Redis is busy with a script of another client. SCRIPT KILL ends it.",
    "OOM": "Redis is full. Set maxmemory-policy allkeys-lru (or volatile-ttl), or give it more memory.",
    "used memory > 'maxmemory'": "Redis is full. Set maxmemory-policy allkeys-lru (or volatile-ttl), or give it more memory.",
    "max number of clients": "Redis has reached maxclients. Raise it, or find the clients that keep connections open.",
    "invalid DB index": "Redis has no database of that number. Correct the end of the URL; 0 is always there.",
    "DB index is out of range": "Redis has no database of that number. Correct the end of the URL; 0 is always there.",
    "Cluster mode is not enabled": "This Redis is no cluster: use redis:// instead of redis+cluster://. Or its user may not "
    "ask for the slots: ACL SETUSER <name> +cluster|slots +command, on every node.",
    "cluster support disabled": "This Redis is no cluster. Use redis:// instead of redis+cluster://.",
    "CLUSTERDOWN": "The Redis Cluster is down: some of its slots have no server.",
    "MOVED": "This Redis is a node of a cluster. Use redis+cluster://host:port,host:port.",
    "SELECT is not allowed in cluster": "This Redis is a node of a cluster. Use redis+cluster://host:port,host:port.",
}
"""The remedy, by a part of the error's text; the first match counts."""

_BY_CLASS = {
    "MovedError": _BY_MESSAGE["MOVED"],
    "AskError": _BY_MESSAGE["MOVED"],
    "ClusterDownError": _BY_MESSAGE["CLUSTERDOWN"],
    "MasterDownError": _BY_MESSAGE["MASTERDOWN"],
    "BusyLoadingError": _BY_MESSAGE["LOADING"],
    "ReadOnlyError": _BY_MESSAGE["READONLY"],
    "OutOfMemoryError": _BY_MESSAGE["OOM"],
    "AuthenticationError": _BY_MESSAGE["WRONGPASS"],
}
"""The remedy by class, for errors whose text redis-py has shortened."""

NO_KEYS = (
    "The user may not use the keys of the cache. Give it ~conversation:*, with CONVERSATIONS_CACHE_PREFIX before it if that "
    "is set: ACL SETUSER <name> ~conversation:*"
)


def refusal(message: str) -> str | None:
    """The refusal in an error's *message*, and the remedy; None if it is unknown."""
    for part, text in _BY_MESSAGE.items():
        if part in message:
            return text
    if is_denied(message):
        if denies_keys(message):
            return NO_KEYS
        name = message.split("'")[1].upper() if message.count("'") > 1 else "a command"
        commands = dict.fromkeys(("EVAL", "EVALSHA", *COMMANDS, *([] if name == "a command" else [name])))
        wanted = " ".join(f"+{one.lower()}" for one in commands)
        return f"The user may not run {name}. Run: ACL SETUSER <name> {wanted}"
    if "unknown command" in message and "eval" in message.lower():
        return "This server has no scripts (EVAL): it is no Redis, or the command was renamed."
    return None


def _network(chain: Sequence[BaseException], message: str) -> str | None:
    low = message.lower()
    if (
        _any(chain, socket.gaierror)
        or "name or service not known" in low
        or "name resolution" in low
        or "nodename nor" in low
    ):
        return "The host name of Redis is not known to this machine. Correct CONVERSATIONS_REDIS_URL, or the DNS."
    if _any(chain, ConnectionRefusedError) or "connection refused" in low:
        return "No server listens at the address in CONVERSATIONS_REDIS_URL. Start Redis, or correct host and port."
    if _any(chain, FileNotFoundError) or "no such file" in low:
        return "A file in the URL does not exist: a socket, or a certificate. Correct CONVERSATIONS_REDIS_URL."
    if _any(chain, PermissionError) or "permission denied" in low:
        return "This user may not open the socket of Redis. Set unixsocketperm, or add the user to its group."
    if _any(chain, refusals.MaxConnectionsError) or "no connection available" in low:
        return "All connections of this process to Redis are in use."
    if _any(chain, refusals.TimeoutError, TimeoutError) or "timeout" in low or "timed out" in low:
        return (
            "Redis did not answer in time (CONVERSATIONS_REDIS_TIMEOUT): it is down, overloaded, or behind a firewall."
        )
    if "unreachable" in low or "no route" in low:
        return "The network has no route to Redis."
    return None


def _several(chain: Sequence[BaseException]) -> str | None:
    if any(type(one).__name__ == "MasterNotFoundError" for one in chain):
        return (
            "No Sentinel names a master of that name. Correct hosts and service name in redis+sentinel://host:port/service; a "
            "password of the Sentinels' own is ?sentinel_password=...."
        )
    if any(isinstance(one, refusals.RedisClusterException) for one in chain):
        return "No node of the Redis Cluster that can be reached knows its slots. Correct redis+cluster://host:port,host:port."
    return None


def _any(chain: Sequence[BaseException], *kinds: type[BaseException]) -> bool:
    return any(isinstance(one, kinds) for one in chain)


def _other(error: BaseException) -> str:
    if isinstance(error, (refusals.InvalidResponse, ValueError, UnicodeError)) or "Protocol" in str(error):
        return "The server at this address is no Redis: it speaks another protocol. Correct CONVERSATIONS_REDIS_URL."
    if isinstance(error, refusals.ConnectionError):
        return "Redis closed the connection. It may speak TLS only (rediss://), or a proxy or firewall has cut it."
    if isinstance(error, (TypeError, AttributeError)):
        return f"CONVERSATIONS_CACHE is no client of redis-py ({type(error).__name__})."
    return f"Redis refused ({type(error).__name__}). Look into its log."


def is_denied(message: str) -> bool:
    message = message.lower()
    return any(part in message for part in ("noperm", "no permission", "can't run this command", "can't access"))


def denies_keys(message: str) -> bool:
    """Whether the refusal is about keys and not about a command, in the words of Redis 7.0 or of Redis 7.2 and Valkey."""
    return "one of the keys" in message or "access a key" in message
