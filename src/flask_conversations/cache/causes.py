"""Why Redis does not do what the cache asks of it, in the operator's words and with what to do.

The texts are ours. What a server or a driver says is only read, never repeated: it may hold a password or a key.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Sequence

import redis.exceptions as refusals

from ..errors import ConfigurationError

COMMANDS = ("INFO", "TIME", "LPUSH", "RPUSH", "LLEN", "LRANGE", "LREM", "LTRIM", "PEXPIRE", "UNLINK")
"""What the scripts of the cache use: the user needs each, and EVAL and EVALSHA."""


def cause(error: BaseException) -> str:
    """What is wrong and what to do, for an error of a client of redis-py."""
    if isinstance(error, ConfigurationError):
        return str(error)
    chain = list(_chain(error))
    said = " ".join(str(one) for one in chain)
    kind = next((text for one in chain if (text := _KINDS.get(type(one).__name__))), None)
    return (
        _certificate(chain, said) or refusal(said) or kind or _network(chain, said) or _several(chain) or _other(error)
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it came from, which says more."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        error = error.__cause__ or error.__context__


def _certificate(chain: Sequence[BaseException], said: str) -> str | None:
    if "CERTIFICATE_VERIFY_FAILED" in said:
        low = said.lower()
        if "hostname mismatch" in low or "ip address mismatch" in low:
            return "The certificate of Redis is for another name than the one in the URL. Use that name, or renew the certificate."
        if "expired" in low:
            return "The certificate of Redis has expired. Renew it."
        return "This machine does not trust the signer of Redis's certificate. Add ?ssl_ca_certs=/path/to/ca.pem to the URL."
    if "WRONG_VERSION_NUMBER" in said or "RECORD_LAYER_FAILURE" in said:
        return "Redis does not speak TLS on this port. Use redis:// or its TLS port."
    if "CERTIFICATE_REQUIRED" in said or "certificate required" in said.lower():
        return "Redis asks for a certificate of ours. Add ?ssl_certfile=...&ssl_keyfile=... to the URL."
    if "handshake operation timed out" in said:
        return "Redis did not answer the TLS handshake in time. If it does not speak TLS on this port, use redis://."
    if any(isinstance(one, ssl.SSLError) for one in chain):
        return "The TLS handshake with Redis failed. Compare the versions and ciphers that both allow."
    return None


_ANSWERS = {
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
    "unknown command `SENTINEL`": "What the URL names as a Sentinel is none. Use redis:// for a single Redis.",
    "unknown command 'SENTINEL'": "What the URL names as a Sentinel is none. Use redis:// for a single Redis.",
    "LOADING": "Redis is loading its data. Wait until it has.",
    "MASTERDOWN": "This Redis is a replica that has lost its master. Name the master, or use redis+sentinel://.",
    "READONLY": "This Redis is a replica and takes no writes. Name the master, or use redis+sentinel://.",
    "read only replica": "This Redis is a replica and takes no writes. Name the master, or use redis+sentinel://.",
    "NOREPLICAS": "Redis has fewer replicas than min-replicas-to-write wants, and so takes no writes.",
    "BUSY": "Redis is busy with a script of another client. SCRIPT KILL ends it.",
    "OOM": "Redis is full. Set maxmemory-policy allkeys-lru (or volatile-ttl), or give it more memory.",
    "used memory > 'maxmemory'": "Redis is full. Set maxmemory-policy allkeys-lru (or volatile-ttl), or give it more memory.",
    "max number of clients": "Redis has as many clients as it takes. Raise maxclients, or look for who keeps them open.",
    "invalid DB index": "Redis has no database of that number. Correct the end of the URL; 0 is always there.",
    "DB index is out of range": "Redis has no database of that number. Correct the end of the URL; 0 is always there.",
    "Cluster mode is not enabled": "This Redis is no cluster: use redis:// instead of redis+cluster://. Or its user may not "
    "ask for the slots: ACL SETUSER <name> +cluster|slots +command, on every node.",
    "cluster support disabled": "This Redis is no cluster. Use redis:// instead of redis+cluster://.",
    "CLUSTERDOWN": "The Redis Cluster is down: some of its slots have no server.",
    "MOVED": "This Redis is a node of a cluster. Use redis+cluster://host:port,host:port.",
    "SELECT is not allowed in cluster": "This Redis is a node of a cluster. Use redis+cluster://host:port,host:port.",
}
"""What is to be done, by what the server's answer contains; the first that fits."""

_KINDS = {
    "MovedError": _ANSWERS["MOVED"],
    "AskError": _ANSWERS["MOVED"],
    "ClusterDownError": _ANSWERS["CLUSTERDOWN"],
    "MasterDownError": _ANSWERS["MASTERDOWN"],
    "BusyLoadingError": _ANSWERS["LOADING"],
    "ReadOnlyError": _ANSWERS["READONLY"],
    "OutOfMemoryError": _ANSWERS["OOM"],
    "AuthenticationError": _ANSWERS["WRONGPASS"],
}
"""The same for errors whose text redis-py has shortened, by their class."""

NO_KEYS = (
    "The user may not use the keys of the cache. Give it ~conversation:*, with CONVERSATIONS_CACHE_PREFIX before it if that "
    "is set: ACL SETUSER <name> ~conversation:*"
)


def refusal(said: str) -> str | None:
    """What the server has refused, and what to do; None if what it *said* is not known."""
    for part, text in _ANSWERS.items():
        if part in said:
            return text
    if is_denied(said):
        if denies_keys(said):
            return NO_KEYS
        name = said.split("'")[1].upper() if said.count("'") > 1 else "a command"
        commands = dict.fromkeys(("EVAL", "EVALSHA", *COMMANDS, *([] if name == "a command" else [name])))
        wanted = " ".join(f"+{one.lower()}" for one in commands)
        return f"The user may not run {name}. Run: ACL SETUSER <name> {wanted}"
    if "unknown command" in said and "eval" in said.lower():
        return "This server has no scripts (EVAL): it is no Redis, or the command was renamed."
    return None


def _network(chain: Sequence[BaseException], said: str) -> str | None:
    low = said.lower()
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
        return "There is no such file as the URL names: a socket, or a certificate. Correct CONVERSATIONS_REDIS_URL."
    if _any(chain, PermissionError) or "permission denied" in low:
        return "This user may not open the socket of Redis. Set unixsocketperm, or add the user to its group."
    if _any(chain, refusals.MaxConnectionsError) or "no connection available" in low:
        return "All connections of this process to Redis are in use."
    if _any(chain, refusals.TimeoutError, TimeoutError) or "timeout" in low or "timed out" in low:
        return (
            "Redis did not answer in time (CONVERSATIONS_REDIS_TIMEOUT): it is down, overloaded, or behind a firewall."
        )
    if "unreachable" in low or "no route" in low:
        return "There is no way through the network to Redis."
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
        return "What answers there is no Redis: it speaks another protocol. Correct CONVERSATIONS_REDIS_URL."
    if isinstance(error, refusals.ConnectionError):
        return "Redis closed the connection. It may speak TLS only (rediss://), or something between has cut it."
    if isinstance(error, (TypeError, AttributeError)):
        return f"CONVERSATIONS_CACHE is no client of redis-py ({type(error).__name__})."
    return f"Redis refused ({type(error).__name__}). Look into its log."


def is_denied(said: str) -> bool:
    said = said.lower()
    return any(part in said for part in ("noperm", "no permission", "can't run this command", "can't access"))


def denies_keys(said: str) -> bool:
    """Whether the refusal is about keys and not about a command, in the words of Redis 7.0 or of Redis 7.2 and Valkey."""
    return "one of the keys" in said or "access a key" in said
