"""A worker, Redis or PostgreSQL falls while answers come: the pages say what became of each, and lose nothing that was shown."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.infra.demo import Demo
from tests.infra.openai_stub import Stub, rests, says
from tests.infra.postgresql_servers import PostgresqlServer
from tests.infra.redis_servers import RedisServer

from .person import Person

pytestmark = pytest.mark.slow

QUESTION = "Count to 40, please."
WORDS = [f"{number}{'.' if number == 40 else ' '}" for number in range(1, 41)]
WHOLE = "".join(WORDS)
EVERYWHERE = range(len(WORDS) + 1)
"""Words after which an answer stands still when it happens; before the first and after the last too."""
SOMEWHERE = [0, 20]
"""Those that are tried where there is no time for all."""
AT_ONCE = 14
"""Tabs that wait at as many places when it happens."""
INTERRUPTED = "This answer was interrupted and is not complete."


class Tab:
    """A browser in which she is logged in, with a conversation of its own, whose answer stands still after *words* words.

    Tabs of one browser would share its six connections to a server, which open streams use up.
    """

    def __init__(self, ada: Person, words: int) -> None:
        self.ada, self.words = ada, words
        here, origin = ada.page.context, ada.demo.url
        self.context = here.browser.new_context(locale="en-GB", storage_state=here.storage_state())
        self.request = self.context.request
        made = self.request.post(f"{origin}/api/conversations", data={}, headers={"Origin": origin}).json()
        self.address, self.stored = f"{origin}/#{made['id']}", f"{origin}/api/conversations/{made['id']}"
        self.open()
        self.person.ask(QUESTION)

    def open(self) -> None:
        self.person = self.ada.new_tab(self.address, context=self.context)

    @property
    def said(self) -> str:
        """What the model has said when it stands still."""
        return "".join(WORDS[: self.words])

    def kept(self) -> list[tuple[str, str]]:
        """The messages as the server has them."""
        found = self.request.get(f"{self.stored}/messages").json()["messages"]
        return [(each["content"], each["status"]) for each in found]

    def stands_still(self) -> None:
        """All that was said is on the page and in the database, and more does not come."""
        if not self.words:
            expect(self.person.messages.first).to_have_text(QUESTION)
            return
        expect(self.person.messages).to_have_text([QUESTION, self.said.strip()])
        deadline = time.monotonic() + 20
        while self.kept() != [(QUESTION, "delivered"), (self.said, "streaming")]:
            assert time.monotonic() < deadline, self.kept()
            time.sleep(0.05)

    def reopen(self) -> None:
        self.person.page.close()
        self.open()

    def ends(self, said: str, status: str, mark: str | None) -> None:
        """The question and the answer are there, once, marked as what they are."""
        if mark:
            expect(self.person.marks).to_contain_text(mark)
            expect(self.person.page.get_by_role("button", name="Try again")).to_be_visible()
        self.person.wait_for_state()
        expect(self.person.messages).to_have_text([QUESTION, said.strip()])
        expect(self.person.marks).to_have_count(1 if mark else 0)
        assert self.kept() == [(QUESTION, "delivered"), (said, status)]


def are_whole(tabs: list[Tab]) -> None:
    """Every answer is there to its end, on pages that stayed open and on those that come back."""
    for number, tab in enumerate(tabs):
        if number % 2:
            tab.reopen()
        tab.ends(WHOLE, "delivered", None)


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub(says(*WORDS)) as model:
        yield model


@pytest.fixture
def chat(chromium: str, browser: Any, tmp_path: Any, stub: Stub) -> Iterator[Any]:
    """Starts the example app with these settings, answered by the stub, and lets Ada log in."""
    running: list[Any] = []

    def start(**settings: str) -> Person:
        demo = Demo(tmp_path / "data", FLASK_OPENAI_BASE_URL=stub.url, FLASK_OPENAI_MODEL="m-1", **settings)
        running.append(demo.stop)
        context = browser.new_context(locale="en-GB")
        running.append(context.close)
        return Person(context.new_page(), demo, "ada")

    yield start
    for end in reversed(running):
        end()


@pytest.fixture
def places(long: bool) -> Sequence[int]:
    """Where answers stand still."""
    return EVERYWHERE if long else SOMEWHERE


def at_places(ada: Person, stub: Stub, places: Sequence[int]) -> Iterator[tuple[list[Tab], threading.Event]]:
    """Tabs whose answers stand still at one place after the other, several at a time, and what lets them go on."""
    for first in range(0, len(places), AT_ONCE):
        free = threading.Event()
        tabs = []
        for place in places[first : first + AT_ONCE]:
            stub.script.insert(0, rests(WORDS, place, free))
            asked = len(stub.asked)
            tabs.append(Tab(ada, place))
            stub.wait_asked(asked + 1)
        for tab in tabs:
            tab.stands_still()
        yield tabs, free
        free.set()
        for tab in tabs:
            tab.context.close()


def test_a_worker_is_killed_in_mid_answer(chat, stub, places):
    """With -9: what was said is there and marked, on pages that stayed open and on those that come back, and can be asked again."""
    ada = chat(FLASK_CONVERSATIONS_TURN_LEASE="5")
    for tabs, _ in at_places(ada, stub, places):
        ada.demo.process.kill()
        ada.demo.process.wait()
        expect(tabs[0].person.page.locator("#connection")).to_be_visible()
        ada.demo.start()
        for number, tab in enumerate(tabs):
            if number % 2:
                tab.reopen()
            tab.ends(tab.said, "interrupted", INTERRUPTED)
    last = ada.new_tab(tabs[-1].address)
    last.press("Try again")
    expect(last.answers).to_have_text(WHOLE)
    last.wait_for_state()
    expect(last.marks).to_have_count(0)


def test_redis_falls_in_mid_answer(chat, stub, places):
    """Killed and started empty: every answer is whole on its page, as if nothing had been."""
    with RedisServer() as redis:
        ada = chat(FLASK_CONVERSATIONS_REDIS_URL=redis.url)
        for tabs, free in at_places(ada, stub, places):
            assert redis.client().dbsize() > 0
            redis.kill()
            free.set()
            are_whole(tabs)
            redis.start()


def test_postgresql_falls_in_mid_answer(chat, stub, places):
    """Crashed and started again: an answer that goes on meanwhile is saved once the database is back, and whole on its page."""
    with PostgresqlServer() as server:
        ada = chat(FLASK_SQLALCHEMY_DATABASE_URI=server.create_database("chat"))
        for tabs, free in at_places(ada, stub, places):
            server.stop("immediate")
            free.set()
            server.start()
            are_whole(tabs)
