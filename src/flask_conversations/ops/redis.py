"""The checks of `doctor` on the cache's Redis."""

from __future__ import annotations

import hashlib
import secrets
import statistics
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import redis.exceptions as refusals

from ..cache.causes import NO_KEYS, cause, denies_keys, is_denied, refusal
from ..cache.clients import Client, Connect
from ..config import Config
from .finding import FAIL, OK, WARN, Finding

OLDEST = (6, 2)

SLOW = 0.010
"""Seconds for one script call above which the cache is hardly faster than the database."""

CALLS = 5
"""Script calls that are timed."""

SAMPLE = 20
"""Keys whose expiry is checked."""

_PROBE = """
local key, refused = KEYS[1], {}
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
try('TIME')
try('LPUSH', key, 'a')
try('RPUSH', key, 'b')
try('LLEN', key)
try('LRANGE', key, 0, 0)
try('LREM', key, 1, 'b')
try('LTRIM', key, 0, 0)
try('PEXPIRE', key, 1000)
try('UNLINK', key)
return {server or '', memory or '', refused}
"""
# redis-py and Redis name scripts by this digest; it protects nothing
_PROBE_DIGEST = hashlib.sha1(_PROBE.encode(), usedforsecurity=False).hexdigest()


class _Probed(NamedTuple):
    """The results of the probe."""

    server: Mapping[str, str]
    memory: Mapping[str, str]
    refused: Sequence[str]


def examine(connect: Connect, config: Config) -> list[Finding]:
    """Examine the Redis that *connect* makes a client of. Never raises, and leaves no key behind."""
    key = f"{config.cache_prefix}conversation:{{doctor-{secrets.token_hex(8)}}}:messages"
    try:
        client = connect()
        probed = _probed(client.eval(_PROBE, 1, key))
    except Exception as error:  # noqa: BLE001 - the finding reports it
        return [Finding("cache", FAIL, f"{cause(error)} (Meanwhile everything is read from the database.)")]
    found = [Finding("cache", OK, f"{_kind(client)} answers.")]
    found += _version(probed)
    found += _permissions(probed)
    found += _memory(probed)
    try:
        found += _latency(client, key, config)
        found += _expiry(client, config)
    except Exception as error:  # noqa: BLE001 - as above
        found.append(Finding("cache", FAIL, f"{cause(error)} It had answered a moment before."))
    return found


def _probed(answer: Sequence[Any]) -> _Probed:
    server, memory, refused = answer
    return _Probed(_fields(server), _fields(memory), [_text(one) for one in refused])


def _fields(info: str | bytes) -> dict[str, str]:
    pairs = (line.partition(":") for line in _text(info).splitlines() if ":" in line)
    return {name: value.strip() for name, _, value in pairs}


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _kind(client: Client) -> str:
    if "Cluster" in type(client).__name__:
        return "The Redis Cluster"
    pool = getattr(client, "connection_pool", None)
    return "The master that Sentinel names" if "Sentinel" in type(pool).__name__ else "Redis"


# -- the checks of a server that answers ----------------------------------------------------------------------------------


def _version(probed: _Probed) -> Iterator[Finding]:
    valkey = probed.server.get("valkey_version")
    version = valkey or probed.server.get("redis_version")
    if version is None:
        # reported already, as a missing permission
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
    lacking = [name for name, _, message in map(_split, probed.refused) if is_denied(message)]
    if lacking:
        yield Finding("cache permissions", FAIL, _lacks(dict.fromkeys(lacking), first))
    else:
        yield Finding("cache writing", FAIL, refusal(first) or "Redis refuses what the scripts do. Look into its log.")


def _split(refused: str) -> tuple[str, str, str]:
    return refused.partition(" ")


def _lacks(commands: Collection[str], message: str) -> str:
    if denies_keys(message):
        return NO_KEYS
    wanted = " ".join(f"+{name.lower()}" for name in commands)
    return f"The user may not run {', '.join(commands)}. Run: ACL SETUSER <name> {wanted}"


def _memory(probed: _Probed) -> Iterator[Finding]:
    policy = probed.memory.get("maxmemory_policy")
    if policy is None:
        return
    maximum = int(probed.memory.get("maxmemory", "0") or 0)
    if policy.startswith(("allkeys", "volatile")) and maximum:
        yield Finding("cache memory", OK, f"At most {maximum / 1_048_576:.0f} MB, then {policy}.")
    elif maximum:
        yield Finding(
            "cache memory",
            WARN,
            f"At most {maximum / 1_048_576:.0f} MB, then noeviction: once it is full, nothing is cached until keys expire. "
            f"Set maxmemory-policy allkeys-lru, or volatile-ttl where others keep data there that must stay.",
        )
    else:
        yield Finding(
            "cache memory",
            OK,
            "No limit. Every key of the cache expires; a conversation in use takes about 22 KB (15 messages of 1 KB).",
        )


def _latency(client: Client, key: str, config: Config) -> Iterator[Finding]:
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


def _expiry(client: Client, config: Config) -> Iterator[Finding]:
    """Check the expiry of some keys: a key without one would stay for ever."""
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
