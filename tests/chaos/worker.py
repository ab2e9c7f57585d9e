"""A worker process under chaos: `python -m tests.chaos.worker '{...}'` writes and reads, and puts down what it saw and when.

Its clock is the monotonic one, which all processes of a machine share.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import redis
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from redis.backoff import NoBackoff
from redis.retry import Retry

from flask_conversations import Conversations
from flask_conversations.cache import breaker
from flask_conversations.cache.scripts import Script
from flask_conversations.errors import MessageNotFound, NotFound, StorageUnavailable, TransactionAborted

from ..infra.service import messages_json
from . import event_log
from .naive import NaiveCache
from .oracle import Read, Written

LIMITS = (1, 5, 14, 15, 20)


@dataclasses.dataclass
class Order:
    """The instructions of a worker."""

    number: int
    database_url: str
    redis_url: str
    conversations: list[str]
    out: str
    seed: int
    strict: bool = False
    naive: bool = False
    max_staleness: float = 30.0
    writers: int = 1
    readers: int = 1
    failing: float = 0.0
    """Share of SQL statements that fail (SQLite, which no proxy stands before)."""
    pause: float = 0.0
    """Seconds, at most, between two writes."""


class HostRollback(Exception):
    """Raised by a host to roll its transaction back."""


class Worker:
    """One app with its threads."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.app = self._app()
        self.service = self.app.conversations.as_user("ada", app=self.app)  # type: ignore[attr-defined]
        self.stranger = self.app.conversations.as_user("bob", app=self.app)  # type: ignore[attr-defined]
        self.naive = None
        if order.naive:
            client = redis.Redis.from_url(
                order.redis_url, socket_timeout=0.1, socket_connect_timeout=0.1, retry=Retry(NoBackoff(), 0)
            )
            self.naive = NaiveCache(self.service, client)
        self.now = threading.local()
        self.stopping = threading.Event()
        self.written: list[Written] = []
        self.read: list[Read] = []
        self.errors: list[str] = []
        self.unavailable = 0
        self.known: dict[str, list[str]] = {each: [] for each in order.conversations}
        self.own_version: dict[str, int] = dict.fromkeys(order.conversations, 0)
        self._observe()

    def _app(self) -> Flask:
        order = self.order
        db = SQLAlchemy()
        conversations = Conversations(db, identity=lambda: None)
        app = Flask(__name__)
        app.config.update(
            SQLALCHEMY_DATABASE_URI=order.database_url,
            TESTING=True,
            SECRET_KEY="x" * 32,
            CONVERSATIONS_CACHE_MAX_STALENESS=order.max_staleness,
            CONVERSATIONS_CACHE_STRICT=order.strict,
            CONVERSATIONS_LOCK_TIMEOUT=10,
        )
        if not order.naive:
            app.config["CONVERSATIONS_REDIS_URL"] = order.redis_url
        db.init_app(app)
        conversations.init_app(app)
        app.db, app.conversations = db, conversations  # type: ignore[attr-defined]
        return app

    def _observe(self) -> None:
        with self.app.app_context():
            engine = self.app.db.engine  # type: ignore[attr-defined]
            state = self.app.extensions["flask_conversations"]
            cache = state.backend.cache
        event_log.watch(engine)

        def committing(connection: Any) -> None:
            if getattr(self.now, "committing", 0) is None:
                self.now.committing = time.monotonic()

        sa.event.listen(engine, "commit", committing)
        if self.order.failing:
            self._let_statements_fail(engine)
        if cache is not None:
            self._note_calls()

    def _let_statements_fail(self, engine: sa.Engine) -> None:
        chance = random.Random(self.order.seed)

        def fail(connection: Any, cursor: Any, statement: str, parameters: Any, *rest: Any) -> None:
            if getattr(self.now, "may_fail", False) and chance.random() < self.order.failing:
                raise sa.exc.OperationalError(statement, parameters, OSError("disk I/O error"))

        sa.event.listen(engine, "before_cursor_execute", fail)

    def _note_calls(self) -> None:
        """Remember of the write in progress whether Redis has answered before and after its commit."""
        run, now = Script.run, self.now

        def noted(script: Script, client: Any, key: str, token: str, *arguments: Any) -> Any:
            ours = getattr(now, "conversation_id", None) or "none"
            if script.name == "reserve":
                now.reserving = time.monotonic()
            answer = run(script, client, key, token, *arguments)
            if ours in key and answer and answer[0] == token.encode():
                now.reserved |= script.name == "reserve"
                now.settled |= script.name in ("apply", "drop")
            return answer

        Script.run = noted  # type: ignore[method-assign]

    def _failed(self, what: str, error: Exception) -> None:
        self.errors.append(f"{what}: {error!r}\n" + "".join(traceback.format_tb(error.__traceback__)[-12:]))

    # writing

    def write(self, thread: int) -> None:
        chance = random.Random(f"{self.order.seed}/{self.order.number}/{thread}")
        verbs: list[Callable[..., Any]] = [self.append, self.append_several, self.group, self.hosted]
        verbs += [self.edit, self.pop, self.delete, self.rename, self.half]
        weights = [50, 8, 8, 5, 10, 5, 5, 3, 6]
        number = 0
        while not self.stopping.is_set():
            number += 1
            conversation_id = chance.choice(self.order.conversations)
            (verb,) = chance.choices(verbs, weights)
            self.one_write(verb, conversation_id, f"{self.order.number}.{thread}.{number}", chance)
            if self.order.pause:
                time.sleep(chance.random() * self.order.pause)

    def one_write(self, verb: Any, conversation_id: str, text: str, chance: random.Random) -> None:
        now = self.now
        now.committing, now.may_fail, now.change = None, True, None
        now.conversation_id, now.reserving, now.reserved, now.settled = conversation_id, None, False, False
        acknowledged = None
        try:
            version = verb(conversation_id, text, chance)
            acknowledged = time.monotonic()
            if version:
                self.own_version[conversation_id] = max(version, self.own_version[conversation_id])
        except (StorageUnavailable, TransactionAborted):
            self.unavailable += 1
        except (HostRollback, MessageNotFound):
            pass
        except Exception as error:  # noqa: BLE001 - whatever it is, the run fails with it
            self._failed(verb.__name__, error)
        now.may_fail, committing = False, now.committing
        self.written.append(
            Written(
                self.order.number,
                conversation_id,
                now.change,
                committing,
                acknowledged,
                now.reserving,
                now.reserved,
                now.settled,
            )
        )
        now.committing, now.conversation_id = 0, None

    def _appended(self, conversation_id: str, messages: list[dict[str, Any]]) -> int:
        self.known[conversation_id].extend(message["id"] for message in messages)
        if self.naive:
            self.naive.appended(conversation_id, messages)
        return int(messages[-1]["version"])

    def _changed(self, conversation_id: str, version: int = 0) -> int:
        if self.naive:
            self.naive.changed(conversation_id)
        return version

    def append(self, conversation_id: str, text: str, chance: random.Random) -> int:
        saved = self.service.save_message(conversation_id, "user", text)
        self.now.change = (saved["id"], text)
        return self._appended(conversation_id, [saved])

    def append_several(self, conversation_id: str, text: str, chance: random.Random) -> int:
        batch = [{"role": "user", "content": f"{text}/{n}"} for n in range(chance.randint(2, 4))]
        saved = self.service.save_messages(conversation_id, batch)
        self.now.change = (saved[-1]["id"], saved[-1]["content"])
        return self._appended(conversation_id, saved)

    def group(self, conversation_id: str, text: str, chance: random.Random) -> int:
        """Several calls and a broken savepoint in one transaction, which may be rolled back as a whole."""
        saved = []
        with self.service.transaction() as service:
            saved.append(service.save_message(conversation_id, "user", f"{text}/a"))
            with contextlib.suppress(HostRollback), service.transaction():
                service.save_message(conversation_id, "user", f"{text}/gone")
                raise HostRollback
            saved.append(service.save_message(conversation_id, "assistant", f"{text}/b"))
            self.now.change = (saved[-1]["id"], saved[-1]["content"])
            if chance.random() < 0.3:
                raise HostRollback
        return self._appended(conversation_id, saved)

    def hosted(self, conversation_id: str, text: str, chance: random.Random) -> int:
        """The host commits, or rolls back."""
        with self.app.app_context():
            session = self.app.db.session  # type: ignore[attr-defined]
            service = self.app.conversations.as_user("ada")  # type: ignore[attr-defined]
            try:
                with service.joined():
                    saved = service.save_message(conversation_id, "user", text)
                    self.now.change = (saved["id"], text)
                if chance.random() < 0.5:
                    raise HostRollback
                self._commit(session)
            except BaseException:
                # a host's own rollback may meet the broken connection as well
                with contextlib.suppress(sa.exc.DBAPIError):
                    session.rollback()
                raise
        return self._appended(conversation_id, [saved])

    @staticmethod
    def _commit(session: Any) -> None:
        try:
            session.commit()
        except sa.exc.DBAPIError as error:
            raise StorageUnavailable from error

    def _one_known(self, conversation_id: str, chance: random.Random) -> str:
        known = self.known[conversation_id]
        if not known:
            raise MessageNotFound
        return chance.choice(known[-20:])

    def edit(self, conversation_id: str, text: str, chance: random.Random) -> int:
        message_id = self._one_known(conversation_id, chance)
        self.now.change = (message_id, text)
        edited = self.service.update_message(conversation_id, message_id, content=text)
        return self._changed(conversation_id, edited["version"])

    def delete(self, conversation_id: str, text: str, chance: random.Random) -> int:
        message_id = self._one_known(conversation_id, chance)
        gone = self.service.delete_message(conversation_id, message_id)
        self.now.change = (gone["id"], None)
        return self._changed(conversation_id)

    def pop(self, conversation_id: str, text: str, chance: random.Random) -> int:
        gone = self.service.pop_message(conversation_id)
        if gone:
            self.now.change = (gone["id"], None)
        return self._changed(conversation_id)

    def rename(self, conversation_id: str, text: str, chance: random.Random) -> int:
        renamed = self.service.update_conversation(conversation_id, title=text)
        return int(renamed["version"])

    def half(self, conversation_id: str, text: str, chance: random.Random) -> int:
        """An append and a deletion in one transaction."""
        with self.service.transaction() as service:
            saved = service.save_message(conversation_id, "user", text)
            gone = service.pop_message(conversation_id)
            assert gone["id"] == saved["id"]
            kept = service.save_message(conversation_id, "user", f"{text}/kept")
            self.now.change = (kept["id"], kept["content"])
        self.known[conversation_id].append(kept["id"])
        return self._changed(conversation_id, kept["version"])

    # reading

    def reads(self, thread: int) -> None:
        chance = random.Random(f"{self.order.seed}/{self.order.number}/reader/{thread}")
        while not self.stopping.is_set():
            self.now.committing, self.now.may_fail = 0, True
            conversation_id = chance.choice(self.order.conversations)
            limit = chance.choice(LIMITS)
            try:
                if chance.random() < 0.02:
                    self.foreign(conversation_id)
                else:
                    self.one_read(conversation_id, limit, chance)
            except (StorageUnavailable, TransactionAborted):
                self.unavailable += 1
            except Exception as error:  # noqa: BLE001 - as above
                self._failed("read", error)

    def one_read(self, conversation_id: str, limit: int, chance: random.Random) -> None:
        own = self.own_version[conversation_id] if chance.random() < 0.3 else 0
        began = time.monotonic()
        version = None
        if self.naive:
            messages: list[Any] = [content for _, content in self.naive.newest(conversation_id, min(limit, 15))]
            limit, own = min(limit, 15), 0
        elif chance.random() < 0.5:
            history = self.service.get_conversation_history(conversation_id, limit, min_version=own or None)
            messages = [message["content"] for message in history]
        else:
            page = self._page(conversation_id, limit, own or None, chance)
            messages, version = [(each["id"], each["content"]) for each in page["messages"]], page["version"]
            assert all(each["conversation_id"] == conversation_id for each in page["messages"])
        ended = time.monotonic()
        self.read.append(
            Read(self.order.number, conversation_id, began, ended, limit, messages, version, own),
        )

    def _page(self, conversation_id: str, limit: int, own: int | None, chance: random.Random) -> Any:
        if chance.random() < 0.5:
            return messages_json(self.service, conversation_id, limit=limit, min_version=own)
        return self.service.get_messages(conversation_id, limit=limit, min_version=own)

    def foreign(self, conversation_id: str) -> None:
        with contextlib.suppress(NotFound):
            self.stranger.get_messages(conversation_id, limit=5)
            self.errors.append("Bob has read what is Ada's.")

    # the whole

    def run(self) -> None:
        print("ready", flush=True)
        sys.stdin.readline()
        threads = [threading.Thread(target=self.write, args=[n]) for n in range(self.order.writers)]
        threads += [threading.Thread(target=self.reads, args=[n]) for n in range(self.order.readers)]
        for thread in threads:
            thread.start()
        sys.stdin.readline()
        self.stopping.set()
        for thread in threads:
            thread.join(15)
            if thread.is_alive():
                frames = sys._current_frames()[thread.ident or 0]
                self.errors.append("A thread hangs: " + "".join(traceback.format_stack(frames)[-14:]))
        self.report()

    def report(self) -> None:
        with self.app.app_context():
            left = self.app.db.engine.pool.checkedout()  # type: ignore[attr-defined]
        if left:
            self.errors.append(f"{left} connections were not given back.")
        stats = self.app.conversations.get_stats(app=self.app)  # type: ignore[attr-defined]
        report = {
            "written": [dataclasses.astuple(each) for each in self.written],
            "read": [dataclasses.astuple(each) for each in self.read],
            "errors": self.errors[:20],
            "unavailable": self.unavailable,
            "cache": stats["cache"] or {},
        }
        Path(self.order.out).write_text(json.dumps(report))


@contextlib.contextmanager
def _restless_breaker() -> Iterator[None]:
    """It opens and closes often: what happens in between is what is of interest here."""
    breaker.FIRST_PAUSE, breaker.MAX_PAUSE = 0.05, 0.3
    yield


def main(text: str) -> None:
    with _restless_breaker():
        Worker(Order(**json.loads(text))).run()
    # threads that hang must not keep it
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
