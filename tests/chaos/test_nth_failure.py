"""For every n: the n-th SQL statement and the n-th Redis command of each kind of call fails, in every way they can."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import sqlalchemy as sa

from flask_conversations.cache import breaker
from flask_conversations.errors import ConversationNotFound, StorageUnavailable
from tests.infra.proxy import Proxy
from tests.service.tools import check, everything, in_use, sequence

MAX_STATEMENTS = 60
"""More statements than any call sends."""


def _group(service: Any, chat: Any) -> None:
    with service.transaction() as inner:
        inner.save_message(chat["id"], "user", "grouped")
        inner.pop_message(chat["id"])
        inner.save_message(chat["id"], "assistant", "grouped too")


def _saved_with_client_id(service: Any, chat: Any) -> None:
    service.save_message(chat["id"], "user", "once", client_id="once")


WRITES = {
    "create": lambda service, chat: service.create_conversation(messages=[{"role": "user", "content": "new"}]),
    "save": lambda service, chat: service.save_message(chat["id"], "user", "more"),
    "save once": _saved_with_client_id,
    "save several": lambda service, chat: service.save_messages(chat["id"], [{"role": "user", "content": "more"}] * 3),
    "group": _group,
    "edit": lambda service, chat: service.update_message(chat["id"], chat["messages"][1], content="edited"),
    "pop": lambda service, chat: service.pop_message(chat["id"]),
    "delete": lambda service, chat: service.delete_message(chat["id"], chat["messages"].pop(1)),
    "clear": lambda service, chat: service.clear_conversation(chat["id"]),
    "rename": lambda service, chat: service.update_conversation(chat["id"], title="other"),
    "trash": lambda service, chat: service.delete_conversation(chat["id"]),
}
READS = {
    "history": lambda service, chat: service.get_conversation_history(chat["id"]),
    "page": lambda service, chat: service.get_messages(chat["id"]),
    "list": lambda service, chat: service.list_conversations(),
    "get": lambda service, chat: service.get_conversation(chat["id"]),
}
CALLS = {**WRITES, **READS}


class Bench:
    """One app that fails, one that does not, and a conversation for each case."""

    def __init__(self, app: Any, plain: Any) -> None:
        self.app, self.plain = app, plain.conversations.as_user("ada", app=plain)
        self.cases = self.failed = 0

    def chat(self, *, warm: bool) -> dict[str, Any]:
        messages = [{"role": "user", "content": f"message {n}"} for n in range(3)]
        made = self.plain.create_conversation(messages=messages)
        made["messages"] = [message["id"] for message in everything(self.plain, made["id"])]
        if warm:
            self.app.conversations.as_user("ada", app=self.app).get_messages(made["id"])
        return made

    def facts(self, chat: Any) -> Any:
        """What an undisturbed reader sees of the conversation; None if it is not there."""
        with contextlib.suppress(ConversationNotFound):
            found = self.plain.get_conversation(chat["id"])
            texts = [message["content"] for message in everything(self.plain, chat["id"])]
            return found["title"], texts
        return None

    def loop(self, calls: Iterable[str], failing: Callable[[int], Any], *, warm: bool, must_succeed: bool) -> None:
        """Each call with its first, second, ... step failing, until it has no n-th step any more."""
        for name in calls:
            for n in range(1, MAX_STATEMENTS):
                chat = self.chat(warm=warm)
                hit = self.run(name, chat, failing(n), must_succeed=must_succeed)
                self.again(name, chat)
                if not hit:
                    break

    def run(self, name: str, chat: Any, failing: Any, *, must_succeed: bool) -> bool:
        """Make the call on a host's own session, see that whatever comes of it is right; whether something failed in it."""
        before, failed = self.facts(chat), False
        with self.app.app_context():
            service = self.app.conversations.as_user("ada")
            try:
                with failing as fault:
                    answer = CALLS[name](service, chat)
            except StorageUnavailable:
                if must_succeed:
                    raise
                failed = True
            else:
                self.right(name, answer, before)
            # the session of the host is usable
            assert self.app.db.session.execute(sa.text("SELECT 1")).scalar() == 1
        self.cases, self.failed = self.cases + 1, self.failed + failed
        assert in_use(self.app) == 0
        after = self.facts(chat)
        if name in READS:
            assert after == before
        elif failed:
            # all of it or nothing
            assert after in (before, self.expected(name, before))
        else:
            assert after == self.expected(name, before)
        self.same_everywhere(chat)
        return bool(fault.hit)

    @staticmethod
    def right(name: str, answer: Any, before: Any) -> None:
        if name == "history":
            assert [message["content"] for message in answer] == before[1]
        if name == "page":
            assert [message["content"] for message in answer["messages"]] == before[1]

    @staticmethod
    def expected(name: str, before: Any) -> Any:
        title, texts = before
        return {
            "create": before,
            "save": (title, [*texts, "more"]),
            "save once": (title, [*texts, "once"]),
            "save several": (title, [*texts, "more", "more", "more"]),
            "group": (title, [*texts, "grouped too"]),
            "edit": (title, [texts[0], "edited", *texts[2:]]),
            "pop": (title, texts[:-1]),
            "delete": (title, [texts[0], *texts[2:]]),
            "clear": (title, []),
            "rename": ("other", texts),
            "trash": None,
        }[name]

    def same_everywhere(self, chat: Any) -> None:
        """The cache says what the database says, twice: as it is now, and as that has left it."""
        service = self.app.conversations.as_user("ada", app=self.app)
        if self.facts(chat) is None:
            for _ in range(2):
                with pytest.raises(ConversationNotFound):
                    service.get_messages(chat["id"])
            return
        for _ in range(2):
            assert service.get_messages(chat["id"]) | {"next_cursor": None} == (
                self.plain.get_messages(chat["id"]) | {"next_cursor": None}
            )
        stored = sequence(self.app, chat["id"])
        assert stored == list(range(1, len(stored) + 1))
        check(self.plain, chat["id"])

    def again(self, name: str, chat: Any) -> None:
        """A retry works."""
        chat = chat if self.facts(chat) is not None and len(self.facts(chat)[1]) == 3 else self.chat(warm=False)
        CALLS[name](self.app.conversations.as_user("ada", app=self.app), chat)
        self.same_everywhere(chat)


@pytest.fixture(autouse=True)
def no_breaker(monkeypatch):
    """A breaker that opened would spare the calls the failures that are meant for them."""
    monkeypatch.setattr(breaker, "FIRST_PAUSE", 0.0)


@pytest.fixture
def calls(long):
    """All kinds of calls, or those that differ most."""
    return list(CALLS) if long else ["save once", "save several", "group", "pop", "page"]


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.parametrize("failure", ["cut_before", "cut_after"])
def test_any_statement_may_fail_on_postgresql(make_app, database, redis_url, failure, calls, figure):
    """The connection breaks before or after the n-th statement: a right answer or a retryable error, and a whole state."""
    plain = make_app(CONVERSATIONS_CACHE=False)
    with Proxy(database.url) as proxy:
        app = make_app(SQLALCHEMY_DATABASE_URI=proxy.url, CONVERSATIONS_REDIS_URL=redis_url)
        bench = Bench(app, plain)
        bench.loop(calls, lambda n: getattr(proxy, failure)(nth=n), warm=False, must_succeed=False)
    figure(
        f"n-th statement, {failure.replace('_', ' ')}: {bench.cases} cases, {bench.failed} retryable errors, 0 wrong"
    )


class Countdown:
    """Lets the n-th statement, or commit, of an app on SQLite fail."""

    def __init__(self, engine: sa.Engine) -> None:
        self.left: int | None = None
        for event in ("before_cursor_execute", "commit"):
            sa.event.listen(engine, event, self._step)

    def __call__(self, n: int) -> Countdown:
        self.n = n
        return self

    def __enter__(self) -> Countdown:
        self.left, self.hit = self.n, False
        return self

    def __exit__(self, *error: object) -> None:
        self.left = None

    def _step(self, *_: Any) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                self.hit = True
                raise sa.exc.OperationalError("a statement", None, OSError("disk I/O error"))


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_any_statement_may_fail_on_sqlite(make_app, redis_url, calls, figure):
    """The n-th statement, or the commit, is an error of the disk: a right answer or a retryable error, and a whole state."""
    plain = make_app(CONVERSATIONS_CACHE=False)
    app = make_app(CONVERSATIONS_REDIS_URL=redis_url)
    with app.app_context():
        countdown = Countdown(app.db.engine)
    bench = Bench(app, plain)
    bench.loop(calls, countdown, warm=False, must_succeed=False)
    figure(f"n-th statement on SQLite: {bench.cases} cases, {bench.failed} retryable errors, 0 wrong")


REDIS_FAILURES = {
    "cut before": lambda proxy, n: proxy.cut_before(nth=n),
    "cut after": lambda proxy, n: proxy.cut_after(nth=n),
    "cut within the reply": lambda proxy, n: proxy.cut_reply(nth=n, after=7),
    "garbage": lambda proxy, n: proxy.garble(nth=n),
    "garbage, executed": lambda proxy, n: proxy.garble(nth=n, executed=True),
    "an answer of another kind": lambda proxy, n: proxy.answer(b"+OK\r\n", nth=n),
    "READONLY": lambda proxy, n: proxy.answer(b"-READONLY You can't write against a read only replica.\r\n", nth=n),
    "doubled": lambda proxy, n: proxy.double(nth=n),
    "swallowed": lambda proxy, n: proxy.swallow(nth=n),
    "reply lost": lambda proxy, n: proxy.lose_reply(nth=n),
    "all from here": lambda proxy, n: proxy.cut_before(nth=n, times=None),
}


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
def test_any_redis_command_may_fail(make_app, redis_url, warm, calls, long, figure):
    """Whatever becomes of the n-th command: no error, a right answer, and a cache that agrees with the database."""
    plain = make_app(CONVERSATIONS_CACHE=False)
    with Proxy(redis_url) as proxy:
        app = make_app(CONVERSATIONS_REDIS_URL=proxy.url, CONVERSATIONS_REDIS_TIMEOUT=0.03)
        bench = Bench(app, plain)
        in_turn = itertools.cycle(REDIS_FAILURES.values())
        every = [lambda n, fail=fail: fail(proxy, n) for fail in REDIS_FAILURES.values()]
        for failing in every if long else [lambda n: next(in_turn)(proxy, n)] * 2:
            bench.loop(calls, failing, warm=warm, must_succeed=True)
    figure(f"n-th Redis command, {'warm' if warm else 'cold'}: {bench.cases} cases, 0 errors, 0 wrong")
