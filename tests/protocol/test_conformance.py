"""The real Lua on a real Redis does what the model says: random steps, with everything compared after each."""

from __future__ import annotations

import dataclasses
import json
import random
from collections import Counter
from typing import Any

import pytest
import redis

from flask_conversations.cache import scripts

from . import lists, states
from .lists import load
from .states import Base, Key

RESERVE_MS, LEASE_MS, TTL_MS, MAX_AGE_MS = 600_000, 1_500_000, 900_000, 300_000
"""Far from each other and from how long a run takes, so that a time to live tells where it comes from."""

TOKENS = ("aa01", "bb02", "cc03", "dd04")
OWNERS = ("0" * 32, "1" * 32)
OTHER_RUN = "f" * 12
KEYS = 50
"""Keys side by side: one round trip for a step of each."""


@dataclasses.dataclass
class Subject:
    """One key, what it holds, and what has been done to it."""

    key: str
    conversation: str
    elements: list[str] | None = dataclasses.field(default_factory=list)
    """None for another type than a list."""
    life: str = "gone"
    past: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a script, as core.py makes it."""

    script: scripts.Script
    token: str
    arguments: tuple[Any, ...]
    tails: tuple[str, ...] = ()

    def send(self, pipeline: Any, key: str) -> None:
        self.script.run(pipeline, key, self.token, RESERVE_MS, *self.arguments, *self.tails)


class Bench:
    """The keys, and the one source of chance."""

    def __init__(self, client: redis.Redis, seed: int) -> None:
        self.client, self.chance = client, random.Random(seed)
        self.run: str = client.info("server")["run_id"][:12]
        for script in states.SCRIPTS:
            client.script_load(getattr(scripts, script.upper()).text)
        names = [f"{seed:08x}-0000-7000-8000-{n:012x}" for n in range(KEYS)]
        self.subjects = [Subject(f"conversation:{{{name}}}:messages", name) for name in names]
        self.seen: Counter[str] = Counter()
        self.now = 0
        self._made = 0

    def step(self) -> int:
        """One step of every key; how many were calls of scripts."""
        calls: list[Call | None] = []
        self.now = self._time()
        pipeline = self.client.pipeline(transaction=False)
        for subject in self.subjects:
            if self.chance.random() < 0.1:
                calls.append(None)
                self._meddle(pipeline, subject)
            else:
                call = self._call(subject)
                calls.append(call)
                call.send(pipeline, subject.key)
            pipeline.lrange(subject.key, 0, -1)
            pipeline.pttl(subject.key)
        answers = pipeline.execute(raise_on_error=False)
        later = self._time()
        for place, (subject, call) in enumerate(zip(self.subjects, calls, strict=True)):
            answer, found, life = answers[3 * place : 3 * place + 3]
            elements = None if isinstance(found, Exception) else [one.decode() for one in found]
            if call is not None:
                self._compare(subject, call, answer, elements, life, later)
            subject.elements, subject.life = elements, _life(life)
        return sum(call is not None for call in calls)

    def _time(self) -> int:
        seconds, micros = self.client.time()
        return seconds * 1000 + micros // 1000

    # -- what is done

    def _call(self, subject: Subject) -> Call:
        chance = self.chance
        token = chance.choice(TOKENS)
        version = chance.randrange(6)
        known = load(subject.elements, self.run, self.now, RESERVE_MS, subject.conversation)
        if known.key.lease is not None and chance.random() < 0.6:
            token = known.key.lease.token
        elif known.key.marks and chance.random() < 0.75:
            token = chance.choice(known.key.marks)
        if known.key.base is not None and chance.random() < 0.6:
            version = known.key.base.version
        name = chance.choices(tuple(states.SCRIPTS), (7, 4, 3, 7, 1, 3, 1))[0]
        script: scripts.Script = getattr(scripts, name.upper())
        if name == "read":
            owner = OWNERS[chance.random() < 0.2]
            least, limit = chance.choice((0, 0, version, version + 1)), chance.choice((0, 1, 2, 15))
            return Call(script, token, (owner, least, limit, LEASE_MS, chance.choice((0, MAX_AGE_MS, MAX_AGE_MS))))
        if name == "populate":
            run = self.run if chance.random() < 0.9 else OTHER_RUN
            tails = self._tails(subject, chance.randrange(1, 5)) if chance.random() < 0.8 else (self._empty(subject),)
            return Call(script, token, (run, TTL_MS, max(version, 1)), tails)
        if name == "reserve":
            version = 0 if chance.random() < 0.3 else version
            return Call(script, token, (version, self._empty(subject) if chance.random() < 0.6 else ""))
        if name == "apply":
            version = 0 if chance.random() < 0.2 else version
            arguments = (version, version + chance.choice((1, 1, 2)), TTL_MS, chance.choice((1, 3, 15)))
            tails = self._tails(subject, chance.choice((0, 1, 1, 2, 3)))
            return Call(script, token, arguments, (self._empty(subject),) if version == 0 and not tails else tails)
        return Call(script, token, (TTL_MS,) if name == "unreserve" else ())

    def _meddle(self, pipeline: Any, subject: Subject) -> None:
        """Put something into the key that no script has put there, or that one put there long ago or elsewhere."""
        chance, what = self.chance, self.chance.randrange(10)
        subject.past.append(f"meddled {what}")
        elements: list[str] | None = []
        if what == 0:
            elements = None
        elif what == 1:
            elements = [chance.choice(("", "{", "null", '{"_v":1}', "\x00é", '{"_r":"x"', '{"_l":', "x" * 10_000))]
        elif what == 2:
            run = chance.choice((self.run, OTHER_RUN))
            elements = [f'{{"_l":"{chance.choice(TOKENS)}","_e":"{run}","_t":{self.now - 5}}}']
        elif what == 3:
            elements = [self._mark(chance.choice(TOKENS), alive=True), '{"_l":"aa01","_e":"0a","_t":1}']
        elif what == 4 and chance.random() < 0.05:
            elements = ["x"] * (lists.MOST + chance.choice((0, 1)))
        elif what > 4:
            tokens = chance.sample(TOKENS, chance.choice((0, 0, 1, 2, 4)))
            elements = [self._mark(token, alive=chance.random() < 0.7) for token in tokens]
            elements += self._entry(subject)
        pipeline.delete(subject.key) if elements is not None else pipeline.set(subject.key, "no list")
        if elements:
            # one reply each: the three of a step are what is counted
            pipeline.command_stack.pop()
            pipeline.eval(_REPLACE, 1, subject.key, chance.choice((0, TTL_MS, RESERVE_MS)), *elements)

    def _mark(self, token: str, *, alive: bool) -> str:
        age = self.chance.choice((0, RESERVE_MS // 2) if alive else (2 * RESERVE_MS, -2 * RESERVE_MS))
        return f'{{"_r":"{token}","_t":{self.now - age}}}'

    def _entry(self, subject: Subject) -> list[str]:
        chance = self.chance
        conversation = subject.conversation if chance.random() < 0.9 else "00000000-0000-7000-8000-000000000000"
        run = self.run if chance.random() < 0.85 else OTHER_RUN
        time = self.now - chance.choice((0, 1000, 1000, 2 * MAX_AGE_MS, -60_000))
        schema = chance.choice((1,) * 9 + (2,))
        owner, version = OWNERS[chance.random() < 0.1], chance.randrange(1, 6)
        tails = list(self._tails(subject, chance.randrange(1, 4), conversation, owner, schema))
        if chance.random() < 0.2:
            return [f'{{"_v":{version},"_e":"{run}","_t":{time},{self._empty(subject, conversation, owner, schema)}']
        entry = [f'{{"_v":{version - n},"_e":"{run}","_t":{time},{tail}' for n, tail in enumerate(tails)]
        return entry + ["rubbish"] * (chance.random() < 0.1)

    def _tails(
        self, subject: Subject, count: int, conversation: str = "", owner: str = OWNERS[0], schema: int = 1
    ) -> tuple[str, ...]:
        self._made += 10
        start = f'"_s":{schema},"_c":"{conversation or subject.conversation}","_o":"{owner}","_w":{-self._made},'
        said = self.chance.choice(('"', "}", "é\U0001f600", '{"_r":"aa01","_t":1}', ',"_empty":1}'))
        return tuple(f'{start}"_k":1,"_d":0,"content":{_json(said)},"seq":{self._made + n}}}' for n in range(count))

    def _empty(self, subject: Subject, conversation: str = "", owner: str = OWNERS[0], schema: int = 1) -> str:
        return f'"_s":{schema},"_c":"{conversation or subject.conversation}","_o":"{owner}","_w":7,"_empty":1}}'

    # -- what is compared

    def _compare(
        self, subject: Subject, call: Call, answer: Any, elements: list[str] | None, life: int, later: int
    ) -> None:
        name, token = call.script.name, call.token
        before = load(subject.elements, self.run, self.now, RESERVE_MS, subject.conversation)
        key, expected = self._expected(call, before)
        subject.past.append(f"{name} {token} {call.arguments} -> {expected[:1]}")
        self.seen[f"{name}: {expected[0]}"] += 1
        story = (subject.past[-12:], subject.elements, call, answer, elements)

        assert isinstance(answer, list), story
        reply = [one.decode() if isinstance(one, bytes) else one for one in answer]
        if expected[0] == "hit":
            limit = max(call.arguments[2], 1)
            expected = ("hit", *(subject.elements or [])[:limit])
        elif expected[0] == "lease":
            reason = before.reason if before.key.base is None else expected[2]
            expected = ("lease", self.run, reason)
        assert reply == [token, *expected], story

        after = load(elements, self.run, later, RESERVE_MS, subject.conversation)
        assert after.key == key, story
        assert elements is not None, story
        assert len(elements) == len(key.marks) + _length(key), story
        assert _life(life) == self._life_after(subject, call, expected[0], key, before.key), story
        self._check_stamps(call, before, expected[0], elements[len(key.marks) :], subject.elements or [], story)

    def _expected(self, call: Call, before: lists.Loaded) -> tuple[Key, tuple[Any, ...]]:
        """What the model makes of it."""
        key, arguments, messages = before.key, call.arguments, _said(call.tails)
        if call.script is scripts.READ:
            owner, least, _, _, max_age = arguments
            age = self.now - (before.time or 0)
            old = bool(max_age) and not 0 <= age <= max_age
            then, answer = states.read(key, self.run, call.token, least, foreign=before.owner != owner, old=old)
            return then, (*answer, "old" if old else "behind") if answer[0] == "lease" else answer
        if call.script is scripts.POPULATE:
            return states.populate(key, self.run, call.token, arguments[0], arguments[2], None, messages)
        if call.script is scripts.RESERVE:
            return states.reserve(key, self.run, call.token, arguments[0], None, bool(arguments[1]))
        if call.script is scripts.APPLY:
            from_, to, _, limit = arguments
            added = messages if call.tails else None
            return states.apply(key, self.run, call.token, from_, to, None, added, limit)
        return states.SCRIPTS[call.script.name](key, self.run, call.token)

    def _life_after(self, subject: Subject, call: Call, outcome: str, key: Key, before: Key) -> str:
        """Which of its times to live the key has now."""
        if key == states.NOTHING:
            return "gone"
        if outcome == "lease":
            return "lease"
        if outcome == "stored":
            return "ttl"
        own = call.token in before.marks
        if call.script is scripts.RESERVE:
            return subject.life if own else "reserve"
        if call.script is scripts.APPLY or (call.script is scripts.UNRESERVE and own):
            return "reserve" if key.marks else "ttl"
        return subject.life

    def _check_stamps(
        self, call: Call, before: lists.Loaded, outcome: str, base: list[str], was: list[str], story: Any
    ) -> None:
        """New elements say where they come from; old ones stay as they were."""
        new, version, time = 0, None, None
        if outcome == "stored":
            new, version, time = len(base), call.arguments[2], before.time
        elif outcome == "applied":
            new, version = min(len(call.tails), call.arguments[3], len(base)), call.arguments[1]
            time = next(int(mark.split('"_t":')[1][:-1]) for mark in was if mark.startswith(f'{{"_r":"{call.token}"'))
        elif outcome == "lease" or (outcome == "reserved" and base and base[0].startswith('{"_v":0,')):
            return
        for element in base[:new]:
            assert element.startswith(f'{{"_v":{version},"_e":"{self.run}","_t":{time},'), story
        for element in base[new:]:
            assert element in was, story


_REPLACE = """
redis.call('DEL', KEYS[1])
for place = 2, #ARGV do redis.call('RPUSH', KEYS[1], ARGV[place]) end
if ARGV[1] ~= '0' then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
"""


def _said(tails: tuple[str, ...]) -> tuple[str, ...]:
    return () if any(tail.endswith('"_w":7,"_empty":1}') for tail in tails) else tails


def _json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _length(key: Key) -> int:
    base: Base | None = key.base
    return (key.lease is not None) + (0 if base is None else max(len(base.window), 1))


def _life(milliseconds: int) -> str:
    if milliseconds < 0:
        return "gone" if milliseconds == -2 else "none"
    named = {"lease": LEASE_MS, "ttl": TTL_MS, "reserve": RESERVE_MS}
    return next(name for name, most in named.items() if most - 120_000 < milliseconds <= most)


EVERYTHING = {
    *(f"read: {what}" for what in ("hit", "foreign", "miss", "lease")),
    *(f"populate: {what}" for what in ("stored", "late")),
    *(f"apply: {what}" for what in ("applied", "later", "gap")),
    *("reserve: reserved", "drop: dropped", "unreserve: unreserved", "release: released"),
}


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.long)])
def test_the_lua_does_what_the_model_says(redis_url, seed, record_property, long):
    """Answer, list, stamps and time to live after each of many random calls, on keys that are corrupted now and then."""
    wanted = 60_000 if long else 12_000
    with redis.Redis.from_url(redis_url) as client:
        bench = Bench(client, seed)
        calls = 0
        while calls < wanted:
            calls += bench.step()
    assert set(bench.seen) == EVERYTHING
    assert min(bench.seen.values()) > wanted / 300, bench.seen
    record_property("conformance_steps", calls)
