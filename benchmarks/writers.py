"""Eight writers in two processes, all on one conversation: how many messages a second, and is the sequence dense?"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from . import cached
from .core import conversations, messages
from .data import TEXT

PROCESSES, THREADS = 2, 4


def throughput(
    url: str, redis_url: str, user: str, chats: Mapping[str, str], *, seconds: float, runs: int
) -> dict[str, list[float]]:
    """Messages per second of each program (see `cached.opened`) on its conversation in *chats*, run by run in turn."""
    found: dict[str, list[float]] = {name: [] for name in chats}
    for _ in range(runs):
        for name, chat in chats.items():
            found[name].append(_run(name, url, redis_url, user, chat, seconds))
    return found


def _run(name: str, url: str, redis_url: str, user: str, chat: str, seconds: float) -> float:
    context = multiprocessing.get_context("spawn")
    ready, answers = context.Barrier(PROCESSES), context.Queue()
    workers = [
        context.Process(target=_process, args=(name, url, redis_url, user, chat, seconds, ready, answers))
        for _ in range(PROCESSES)
    ]
    for worker in workers:
        worker.start()
    counts: list[int] = [answers.get(timeout=seconds + 120) for _ in workers]
    for worker in workers:
        worker.join()
    return sum(counts) / seconds


def _process(
    name: str, url: str, redis_url: str, user: str, chat: str, seconds: float, ready: Any, answers: Any
) -> None:
    program = cached.opened(name, url, redis_url)
    counts = [0] * THREADS
    start = threading.Barrier(THREADS + 1)

    def write(place: int) -> None:
        with program.in_thread() as mine:
            mine.append(user, chat, "user", TEXT)
            start.wait()
            end = time.perf_counter() + seconds
            while time.perf_counter() < end:
                mine.append(user, chat, "user", TEXT)
                counts[place] += 1

    threads = [threading.Thread(target=write, args=(place,)) for place in range(THREADS)]
    for thread in threads:
        thread.start()
    ready.wait(60)
    start.wait(60)
    for thread in threads:
        thread.join()
    program.close()
    answers.put(sum(counts))


def is_dense(url: str, chat: str) -> bool:
    """Whether the sequence of the conversation is 1, 2, 3, ... and its counter says the same."""
    engine = sa.create_engine(url)
    own = messages.c.conversation_id == chat
    with engine.connect() as connection:
        count, least, most = connection.execute(
            sa.select(sa.func.count(), sa.func.min(messages.c.seq), sa.func.max(messages.c.seq)).where(own)
        ).one()
        counted = connection.scalar(sa.select(conversations.c.message_count).where(conversations.c.id == chat))
    engine.dispose()
    return bool(count == most == counted and least == 1)
