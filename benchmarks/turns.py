"""Turns without a model: what a question and its answer cost beside two saves by hand, what a stream costs, and a poll."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import sqlalchemy as sa
from flask import Flask

from . import core, driver, ours
from .data import TEXT, Data
from .programs import turn
from .timing import Times, in_turn

GOAL = 500.0
"""Milliseconds within which a message is sent, without the model, for 95 of 100."""

SILENT = 200
"""Streams that are open while the model says nothing."""

WORDS = 100
"""Events of the answers whose telling is measured."""


@dataclasses.dataclass(frozen=True)
class Line:
    """One way to have a question answered."""

    work: str
    statements: float
    """SQL statements of a call, from any thread, without COMMIT."""
    commits: float
    """Transactions that have written something."""
    ours: Times
    beside: dict[str, Times]


@dataclasses.dataclass(frozen=True)
class Found:
    """What was measured of turns on one database."""

    lines: list[Line]
    first_event: Times
    """Milliseconds from the call to the first words of the answer in the stream."""
    events: dict[int, float]
    """Events a second that one process tells, by how many streams are open."""
    idle_cpu: float
    """Part of a core that silent streams take."""
    poll: Times
    poll_statements: float
    """A poll of an unchanged conversation, answered 304."""
    state: Times
    """The same when it has changed."""


def reply(turn: Any) -> Any:
    """At once; or word by word; or nothing until it is cancelled."""
    question = turn.message["content"]
    if question.startswith("words"):
        return (f"w{number} " for number in range(WORDS))
    return _silence(turn) if question.startswith("silence") else TEXT


def _silence(turn: Any) -> Iterator[str]:
    yield "first "
    while not turn.cancelled:
        time.sleep(0.5)


def measured(url: str, data: Data, rounds: int, *, quick: bool = False) -> Found:
    """All of it."""
    with contextlib.ExitStack() as stack:
        app, extension = ours.make_app(url, responder=reply, lock_timeout=60)
        stack.callback(_close, app)
        service = extension.as_user(data.user, app=app)
        lines = list(_sends(url, app, service, data, rounds, stack))
        first_event = in_turn({"ours": lambda _: _until_first_words(service, data.chats[-1])}, rounds)["ours"]
        counts = (1, 5) if quick else (1, 20)
        events = {count: _events_a_second(service, count) for count in counts}
        return Found(
            lines, first_event, events, _idle_cpu(service, 5 if quick else SILENT), *_polls(app, service, data, rounds)
        )


def _sends(url: str, app: Flask, service: Any, data: Data, rounds: int, stack: contextlib.ExitStack) -> Iterator[Line]:
    chats = {name: data.chats.pop() for name in ("service", "http", "host", "Core", "driver")}
    client = app.test_client()

    def post(_: int) -> None:
        answer = client.post(
            f"/api/conversations/{chats['http']}/messages", json={"content": TEXT}, headers={"X-User": data.user}
        )
        assert answer.status_code == 201, answer.get_data(as_text=True)

    def host(_: int) -> None:
        with service.turn(chats["host"], TEXT) as asked:
            asked.reply(TEXT, usage={"history": len(asked.history)})

    programs: dict[str, Any] = {"Core": core.Core(url), "driver": driver.connect(url)}
    calls: dict[str, Callable[[int], object]] = {
        "service.send_message": lambda _: service.send_message(chats["service"], TEXT),
        "POST .../messages": post,
        "with service.turn(): reply": host,
    }
    for name, program in programs.items():
        stack.callback(program.close)
        ready = stack.enter_context(program.in_thread())
        calls[name] = lambda _, ready=ready, name=name: turn(ready, data.user, chats[name], TEXT, TEXT)  # type: ignore[misc]
    times = in_turn(calls, rounds)
    for name in list(calls)[:3]:
        yield Line(name, *_costs(app, calls[name]), times[name], {one: times[one] for one in programs})


def _costs(app: Flask, call: Callable[[int], object], calls: int = 10) -> tuple[float, float]:
    """SQL statements and writing transactions of one call, of several on average."""
    seen: list[str] = []
    commits: list[int] = []
    wrote: set[int] = set()
    with app.app_context():
        (engine,) = app.extensions["sqlalchemy"].engines.values()

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        seen.append(statement)
        if any(word in statement for word in ("INSERT INTO", "UPDATE ", "DELETE FROM")):
            wrote.add(id(connection))

    def committed(connection: Any) -> None:
        if id(connection) in wrote:
            wrote.discard(id(connection))
            commits.append(1)

    call(0)
    sa.event.listen(engine, "before_cursor_execute", note)
    sa.event.listen(engine, "commit", committed)
    for number in range(calls):
        call(number)
    sa.event.remove(engine, "before_cursor_execute", note)
    sa.event.remove(engine, "commit", committed)
    return len(seen) / calls, len(commits) / calls


def _until_first_words(service: Any, chat: str) -> None:
    asked = service.send_message(chat, "words", wait=False)
    for sent in service.follow(chat, asked["turn"]["id"]):
        if sent is not None and sent.event == "message.delta":
            break
    service.cancel(chat)


def _events_a_second(service: Any, count: int) -> float:
    """Words told to as many readers at once, each of an answer of its own, by processor time: what one process can tell."""
    chats = [service.create_conversation()["id"] for _ in range(count)]
    told = [0] * count

    def listen(number: int) -> None:
        asked = service.send_message(chats[number], "words", wait=False)
        for sent in service.follow(chats[number], asked["turn"]["id"]):
            told[number] += len(sent.data["delta"].split()) if sent is not None and sent.event == "message.delta" else 0

    threads = [threading.Thread(target=listen, args=[number]) for number in range(count)]
    began = time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.process_time() - began
    assert told == [WORDS] * count
    return sum(told) / took


def _idle_cpu(service: Any, count: int, seconds: float = 10.0) -> float:
    chats = [service.create_conversation()["id"] for _ in range(count)]
    heard = threading.Semaphore(0)

    def listen(chat: str) -> None:
        asked = service.send_message(chat, "silence", wait=False)
        for sent in service.follow(chat, asked["turn"]["id"]):
            if sent is not None and sent.event == "message.delta":
                heard.release()

    threads = [threading.Thread(target=listen, args=[chat]) for chat in chats]
    for thread in threads:
        thread.start()
    for _ in threads:
        heard.acquire(timeout=120)
    time.sleep(1.5)  # the first words are saved by then: what follows is silence
    began, cpu = time.monotonic(), time.process_time()
    time.sleep(min(seconds, count))
    part = (time.process_time() - cpu) / (time.monotonic() - began)
    for chat in chats:
        service.cancel(chat)
    for thread in threads:
        thread.join(60)
    return part


def _polls(app: Flask, service: Any, data: Data, rounds: int) -> tuple[Times, float, Times]:
    client = app.test_client()
    path = f"/api/conversations/{data.short}/state"
    etag = client.get(path, headers={"X-User": data.user}).headers["ETag"]

    def poll(_: int) -> None:
        assert client.get(path, headers={"X-User": data.user, "If-None-Match": etag}).status_code == 304

    def state(_: int) -> None:
        assert client.get(path, headers={"X-User": data.user}).status_code == 200

    times = in_turn({"poll": poll, "state": state}, rounds)
    return times["poll"], _costs(app, poll)[0], times["state"]


def _close(app: Flask) -> None:
    with app.app_context():
        for engine in app.extensions["sqlalchemy"].engines.values():
            engine.dispose()


def table(found: Found) -> str:
    """The figures as Markdown."""
    rows = [
        "| a question and its answer | SQL | commits | ours | p95 | Core | driver | ours : Core | p95 | ours : driver "
        "| goal | reached |",
        "| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --- | --- |",
    ]
    for line in found.lines:
        hand = line.beside["Core"], line.beside["driver"]
        reached = "yes" if line.ours.p95 < GOAL else "**no**"
        rows.append(
            f"| {line.work} | {line.statements:g} | {line.commits:g} | {line.ours.p50:.2f} ms | {line.ours.p95:.2f} ms "
            f"| {hand[0].p50:.2f} ms | {hand[1].p50:.2f} ms | {line.ours.p50 / hand[0].p50:.2f} "
            f"| {line.ours.p95 / hand[0].p95:.2f} | {line.ours.p50 / hand[1].p50:.2f} | p95 < {GOAL:g} ms | {reached} |"
        )
    rates = ", ".join(f"{rate:,.0f} with {count}" for count, rate in found.events.items())
    one = "yes" if found.poll_statements <= 1 else "**no**"
    return "\n".join(
        [
            *rows,
            "",
            f"From the call to the first words in a stream: {found.first_event.p50:.1f} ms, p95 {found.first_event.p95:.1f} ms.",
            "",
            f"Words that one process tells in a second of processor time, by open streams: {rates}. "
            f"{SILENT} streams whose model is silent take {found.idle_cpu:.1%} of a core.",
            "",
            f"A poll of `/state` that finds nothing new: {found.poll.p50:.2f} ms, {found.poll_statements:g} SQL statement "
            f"(goal ≤ 1: {one}); the state itself: {found.state.p50:.2f} ms.",
        ]
    )
