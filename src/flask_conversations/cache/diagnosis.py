"""What `flask conversations doctor` says of Redis: the cause, in the operator's words, of whatever is wrong with it.

The texts are ours. What a server or a driver says is only read, never repeated: it may hold a password or a key.
"""

from __future__ import annotations

import hashlib
import secrets
import socket
import ssl
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import redis.exceptions as refusals

from ..config import Config
from ..errors import ConfigurationError

OK, WARN, FAIL = "ok", "warn", "FAIL"

OLDEST = (6, 2)

CLOCKS_APART = 5.0
"""Seconds that the clocks of Redis and of this machine may differ before it is said. The cache itself uses that of Redis only."""

SLOW = 0.010
"""Seconds for one script call above which the cache is hardly faster than the database."""

CALLS = 5
"""How many script calls are timed."""

SAMPLE = 20
"""How many keys are asked when they expire."""

COMMANDS = ("INFO", "TIME", "LPUSH", "RPUSH", "LLEN", "LRANGE", "LREM", "LTRIM", "PEXPIRE", "UNLINK")
"""What the scripts of the cache use: the user needs each, and EVAL and EVALSHA."""

_PROBE = """
local key, refused, said = KEYS[1], {}, {}
local function try(name, ...)
  local answer = redis.pcall(name, ...)
  if type(answer) == 'table' and answer.err then
    refused[#refused + 1] = name .. ' ' .. answer.err
    return nil
  end
  return answer
end
local server = try('INFO', 'server')
local memory = try('INFO', 'memory')
local clock = try('TIME')
try('LPUSH', key, 'a')
try('RPUSH', key, 'b')
try('LLEN', key)
try('LRANGE', key, 0, 0)
try('LREM', key, 1, 'b')
try('LTRIM', key, 0, 0)
try('PEXPIRE', key, 1000)
try('UNLINK', key)
return {server or '', memory or '', clock and clock[1] or '', clock and clock[2] or '', refused}
"""
# redis-py and Redis name scripts by this digest; it protects nothing
_PROBE_DIGEST = hashlib.sha1(_PROBE.encode(), usedforsecurity=False).hexdigest()


class Finding(NamedTuple):
    """One line of the doctor: what was looked at, `ok`, `warn` or `FAIL`, and what was seen and is to be done."""

    name: str
    state: str
    text: str


class _Probed(NamedTuple):
    """What the probe has brought back."""

    server: Mapping[str, str]
    memory: Mapping[str, str]
    clock: float | None
    refused: Sequence[str]


def diagnose(connect: Callable[[], Any], config: Config) -> list[Finding]:
    """Look at the Redis that *connect* makes a client of. Never raises; leaves nothing behind."""
    key = f"{config.cache_prefix}conversation:{{doctor-{secrets.token_hex(8)}}}:messages"
    try:
        client = connect()
        probed = _probed(client.eval(_PROBE, 1, key))
    except Exception as error:  # noqa: BLE001 - to say what it was is what this is for
        return [Finding("cache", FAIL, f"{cause(error)} (Meanwhile everything is read from the database.)")]
    found = [Finding("cache", OK, f"{_kind(client)} answers.")]
    found += _version(probed)
    found += _permissions(probed)
    found += _memory(probed)
    found += _clock(probed)
    try:
        found += _latency(client, key, config)
        found += _expiry(client, config)
    except Exception as error:  # noqa: BLE001 - as above
        found.append(Finding("cache", FAIL, f"{cause(error)} It had answered a moment before."))
    return found


def _probed(answer: Sequence[Any]) -> _Probed:
    server, memory, seconds, microseconds, refused = answer
    clock = int(_text(seconds)) + int(_text(microseconds)) / 1e6 if _text(seconds) else None
    return _Probed(_fields(server), _fields(memory), clock, [_text(one) for one in refused])


def _fields(info: Any) -> dict[str, str]:
    pairs = (line.partition(":") for line in _text(info).splitlines() if ":" in line)
    return {name: value.strip() for name, _, value in pairs}


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _kind(client: Any) -> str:
    if "Cluster" in type(client).__name__:
        return "The Redis Cluster"
    pool = getattr(client, "connection_pool", None)
    return "The master that Sentinel names" if "Sentinel" in type(pool).__name__ else "Redis"


# -- what is wrong with a server that answers -----------------------------------------------------------------------------


def _version(probed: _Probed) -> Iterator[Finding]:
    valkey = probed.server.get("valkey_version")
    version = valkey or probed.server.get("redis_version")
    if version is None:
        # said already, as a permission that is missing
        return
    name = "Valkey" if valkey else "Redis"
    if not valkey and _number(version) < OLDEST:
        yield Finding("cache version", WARN, f"Redis {version} is older than 6.2, with which the cache is tested.")
    else:
        yield Finding("cache version", OK, f"{name} {version}, {probed.server.get('redis_mode', 'standalone')}.")


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


def _permissions(probed: _Probed) -> Iterator[Finding]:
    if not probed.refused:
        yield Finding("cache permissions", OK, "The user may run every command that the scripts use.")
        return
    first = probed.refused[0].partition(" ")[2]
    lacking = [name for name, _, said in map(_split, probed.refused) if _is_denied(said)]
    if lacking:
        yield Finding("cache permissions", FAIL, _lacks(dict.fromkeys(lacking), first))
    else:
        yield Finding("cache writing", FAIL, _answer(first) or "Redis refuses what the scripts do. Look into its log.")


def _split(refused: str) -> tuple[str, str, str]:
    return refused.partition(" ")


def _is_denied(said: str) -> bool:
    said = said.lower()
    return any(part in said for part in ("noperm", "no permission", "can't run this command", "can't access"))


def _lacks(commands: Any, said: str) -> str:
    if "one of the keys" in said or "access at least one" in said:
        return _KEYS
    wanted = " ".join(f"+{name.lower()}" for name in commands)
    return f"The user may not run {', '.join(commands)}. Run: ACL SETUSER <name> {wanted}"


def _memory(probed: _Probed) -> Iterator[Finding]:
    policy = probed.memory.get("maxmemory_policy")
    if policy is None:
        return
    most = int(probed.memory.get("maxmemory", "0") or 0)
    if policy.startswith(("allkeys", "volatile")) and most:
        yield Finding("cache memory", OK, f"At most {most / 1_048_576:.0f} MB, then {policy}.")
    elif most:
        yield Finding(
            "cache memory",
            WARN,
            f"At most {most / 1_048_576:.0f} MB, then noeviction: once it is full, nothing is cached until keys expire. "
            f"Set maxmemory-policy allkeys-lru, or volatile-ttl where others keep data there that must stay.",
        )
    else:
        yield Finding(
            "cache memory",
            OK,
            "No limit. Every key of the cache expires, so it needs about 22 KB for each conversation in use "
            "(15 messages of 1 KB); a maxmemory with maxmemory-policy allkeys-lru (or volatile-ttl) bounds it.",
        )


def _clock(probed: _Probed) -> Iterator[Finding]:
    if probed.clock is None:
        return
    apart = abs(time.time() - probed.clock)
    if apart > CLOCKS_APART:
        text = f"The clock of Redis and this machine's are {apart:.0f} s apart. The cache uses that of Redis only; run NTP on both."
        yield Finding("cache clock", WARN, text)
    else:
        yield Finding("cache clock", OK, "The clock of Redis agrees with this machine's.")


def _latency(client: Any, key: str, config: Config) -> Iterator[Finding]:
    took = []
    for _ in range(CALLS):
        start = time.perf_counter()
        client.evalsha(_PROBE_DIGEST, 1, key)
        took.append(time.perf_counter() - start)
    usual = statistics.median(took)
    if usual > SLOW:
        text = f"A script call takes {usual * 1000:.1f} ms: Redis is far away or busy. It should be near the app."
        yield Finding("cache latency", WARN, text)
    else:
        limit = f"the limit is CONVERSATIONS_REDIS_TIMEOUT, {config.redis_timeout:g} s"
        yield Finding("cache latency", OK, f"A script call takes {usual * 1000:.1f} ms; {limit}.")


def _expiry(client: Any, config: Config) -> Iterator[Finding]:
    """Ask a handful of the keys that are there: one without expiry would stay for ever."""
    pattern = f"{_literal(config.cache_prefix)}conversation:{{*}}:messages"
    try:
        keys = client.scan(match=pattern, count=1000)[1][:SAMPLE]
        lasting = [key for key in keys if client.pttl(key) == -1]
    except refusals.ResponseError:
        yield Finding(
            "cache expiry", OK, "Not looked at: the user may not SCAN or PTTL, which the cache itself does not need."
        )
        return
    if lasting:
        yield Finding(
            "cache expiry",
            FAIL,
            f"{len(lasting)} of {len(keys)} keys like ours never expire: something else has written or persisted them. "
            f"Look for it, and delete them.",
        )
    else:
        count = f"The {len(keys)} keys that were looked at expire" if keys else "No conversation is cached now"
        yield Finding("cache expiry", OK, f"{count}.")


def _literal(prefix: str) -> str:
    return "".join(f"\\{char}" if char in "*?[]\\^" else char for char in prefix)


# -- what is wrong with one that does not ---------------------------------------------------------------------------------


def cause(error: BaseException) -> str:
    """What is wrong and what to do, for an error of a client of redis-py."""
    if isinstance(error, ConfigurationError):
        return str(error)
    chain = list(_chain(error))
    said = " ".join(str(one) for one in chain)
    kind = next((text for one in chain if (text := _KINDS.get(type(one).__name__))), None)
    return (
        _certificate(chain, said) or _answer(said) or kind or _network(chain, said) or _several(chain) or _other(error)
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
        return "The certificate of Redis is signed by nobody this machine trusts. Add ?ssl_ca_certs=/path/to/ca.pem to the URL."
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
    "BUSY": "Redis is busy with a script of somebody else's. SCRIPT KILL ends it.",
    "OOM": "Redis is full. Set maxmemory-policy allkeys-lru (or volatile-ttl), or give it more memory.",
    "used memory > 'maxmemory'": "Redis is full. Set maxmemory-policy allkeys-lru (or volatile-ttl), or give it more memory.",
    "max number of clients": "Redis has as many clients as it takes. Raise maxclients, or look for who keeps them open.",
    "invalid DB index": "Redis has no database of that number. Correct the end of the URL; 0 is always there.",
    "DB index is out of range": "Redis has no database of that number. Correct the end of the URL; 0 is always there.",
    "Cluster mode is not enabled": "This Redis is no cluster: use redis:// instead of redis+cluster://. Or its user may not "
    "ask for the slots: ACL SETUSER <name> +cluster|slots +command, on every node.",
    "cluster support disabled": "This Redis is no cluster. Use redis:// instead of redis+cluster://.",
    "CLUSTERDOWN": "The Redis Cluster is down: some of its slots are served by nobody.",
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

_KEYS = (
    "The user may not use the keys of the cache. Give it ~conversation:*, with CONVERSATIONS_CACHE_PREFIX before it if that "
    "is set: ACL SETUSER <name> ~conversation:*"
)


def _answer(said: str) -> str | None:
    for part, text in _ANSWERS.items():
        if part in said:
            return text
    if _is_denied(said):
        if "one of the keys" in said:
            return _KEYS
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
        return "Nobody listens where CONVERSATIONS_REDIS_URL points. Start Redis, or correct host and port."
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
