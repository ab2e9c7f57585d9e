"""The connection is lost while an answer comes: the page that comes back finds question and answer, once, in the right status."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.infra.demo import Demo

from . import gate
from .person import Person

SETTINGS = {"FLASK_DEMO_PAUSE": "0.025"}  # longer than the server waits for more before it sends a word
QUESTION = "count to 40"
ANSWER = " ".join(map(str, range(1, 41))) + "."
EVERYWHERE = ["message.created", "message.started", *range(1, 41), "message.completed"]
SOMEWHERE = ["message.created", 2, 40, "message.completed", "message.started", 1, 20, "message.completed"]
"""Events of an answer where its page is cut off: half of them in each way, where there is no time for all."""
AT_ONCE = 8
"""Tabs of one browser that wait for their answers at the same time."""


class Tab:
    """A tab with a conversation of its own, which stops at an event of its answer."""

    def __init__(self, ada, where):
        origin = ada.demo.url
        made = ada.page.context.request.post(f"{origin}/api/conversations", data={}, headers={"Origin": origin}).json()
        self.ada, self.where, self.address = ada, where, f"{origin}/#{made['id']}"
        self.stored = f"{origin}/api/conversations/{made['id']}"
        self.person = ada.new_tab(self.address, prepare=gate.put_into)
        gate.stop_at(self.page, where)
        self.person.ask(QUESTION)

    @property
    def page(self):
        return self.person.page

    def is_there(self):
        """In the end there are the question and the answer, on the page and in the database."""
        self.person.wait_for_state()
        expect(self.person.messages).to_have_text([QUESTION, ANSWER])
        expect(self.person.marks).to_have_count(0)
        kept = self.page.context.request.get(f"{self.stored}/messages").json()["messages"]
        assert [(each["content"], each["status"]) for each in kept] == [(QUESTION, "delivered"), (ANSWER, "delivered")]
        self.page.close()


def close(tab):
    tab.page.close()
    tab.person = tab.ada.new_tab(tab.address)


def reload(tab):
    tab.page.reload()


def go_away(tab):
    tab.page.goto("about:blank")
    tab.page.goto(tab.address)


def one_by_one(*cuts):
    """Each tab is cut off as soon as it has stopped, in one of the ways after the other."""

    def all_of(tabs):
        waiting = dict(enumerate(tabs))
        while waiting:
            for place in [place for place, tab in waiting.items() if gate.is_stopped(tab.page)]:
                cuts[place % len(cuts)](waiting.pop(place))

    return all_of


def go_offline(tabs):
    """The network of the whole browser is gone for a moment; no page is reloaded."""
    for tab in tabs:
        gate.expect_stopped(tab.page)
    context = tabs[0].page.context
    context.set_offline(True)
    for tab in tabs:
        expect(tab.page.locator("#connection")).to_be_visible()
    context.set_offline(False)


WAYS = {
    "in-turns": [one_by_one(close, reload, go_away), go_offline],
    "close": [one_by_one(close)],
    "reload": [one_by_one(reload)],
    "go-away": [one_by_one(go_away)],
    "go-offline": [go_offline],
}


@pytest.mark.parametrize(
    "ways", [pytest.param(ways, id=name, marks=[pytest.mark.long] * (len(ways) == 1)) for name, ways in WAYS.items()]
)
def test_an_answer_is_whole_wherever_its_page_was_cut_off(person, errors, ways, long):
    """Who comes back, or only gets the network back, sees all of an answer of 40 words, and nothing twice."""
    ada = person("ada")
    events, at_once = (EVERYWHERE, AT_ONCE) if long else (SOMEWHERE, len(SOMEWHERE) // 2)
    for number, first in enumerate(range(0, len(events), at_once)):
        tabs = [Tab(ada, where) for where in events[first : first + at_once]]
        ways[number % len(ways)](tabs)
        for tab in tabs:
            tab.is_there()
    assert errors == []


def test_the_part_so_far_stays_on_the_page_meanwhile(person):
    """Without a network the page keeps the events it has received, says so, and goes on behind them, not from the beginning."""
    ada = person("ada")
    tab = Tab(ada, 7)
    gate.expect_stopped(tab.page)
    resumed = []
    tab.page.on("request", lambda request: resumed.append(request) if request.url.endswith("/stream") else None)
    tab.page.context.set_offline(True)
    expect(tab.page.locator("#connection")).to_contain_text("connection was lost")
    expect(tab.person.messages).to_have_text([QUESTION, re.compile(r"^1 2 3 4 5 6 7\b")])
    tab.page.context.set_offline(False)
    tab.is_there()
    assert all(re.fullmatch(r"[0-9a-f-]{36}:\d+", each.headers["last-event-id"]) for each in resumed)
    assert resumed


def test_where_no_stream_can_be_had_the_state_is_asked_for(person):
    """A server or a proxy that refuses streams: the answer comes all the same."""
    ada = person("ada")
    tab = Tab(ada, 3)
    gate.expect_stopped(tab.page)
    tab.page.route("**/stream", lambda route: route.fulfill(status=503, json={"detail": "No room."}))
    tab.page.context.set_offline(True)
    expect(tab.page.locator("#connection")).to_be_visible()
    tab.page.context.set_offline(False)
    tab.is_there()


def test_a_question_whose_reply_was_lost_is_asked_once(person):
    """The server has the question, but the page gets no reply: it asks again, and gets the same turn."""
    ada = person("ada")
    lost = []

    def lose_first(route):
        if lost:
            route.continue_()
            return
        lost.append(route.fetch())
        route.abort("connectionreset")

    ada.page.route("**/messages", lose_first)
    ada.ask(QUESTION)
    ada.wait_for_state()
    expect(ada.messages).to_have_text([QUESTION, ANSWER])
    assert lost[0].ok


def test_a_server_without_room_for_streams_answers_all_the_same(browser, tmp_path):
    """The page asks for the state instead, which grows too."""
    demo = Demo(tmp_path / "data", FLASK_DEMO_PAUSE="0.1", FLASK_CONVERSATIONS_STREAM_LIMIT="0")
    context = browser.new_context(locale="en-GB")
    try:
        ada = Person(context.new_page(), demo, "ada")
        ada.ask(QUESTION)
        ada.wait_for_state()
        expect(ada.messages).to_have_text([QUESTION, ANSWER])
    finally:
        context.close()
        demo.stop()


@pytest.fixture
def frail(chromium, tmp_path):
    """An example app to be killed, whose turns are known to be dead soon after."""
    started = Demo(tmp_path / "data", FLASK_DEMO_PAUSE="0.1", FLASK_CONVERSATIONS_TURN_LEASE="2")
    yield started
    started.stop()


@pytest.mark.parametrize(
    "is_open", [pytest.param(True, id="open"), pytest.param(False, id="closed", marks=pytest.mark.long)]
)
def test_the_server_is_killed_and_the_part_so_far_is_marked(browser, frail, is_open):
    """With -9 in the middle of an answer: the page shows what was kept of it, says that it is not whole, and tries again."""
    context = browser.new_context(locale="en-GB")
    ada = Person(context.new_page(), frail, "ada")
    ada.ask(QUESTION)
    expect(ada.answers).to_have_text(re.compile(r"\b12\b"))
    address = ada.page.url
    frail.process.kill()
    frail.process.wait()
    if is_open:
        expect(ada.page.locator("#connection")).to_be_visible()
    else:
        ada.page.close()
    frail.start()
    ada = ada if is_open else ada.new_tab(address, context=context)

    expect(ada.marks).to_contain_text("This answer was interrupted")
    ada.wait_for_state()
    part = ada.answers.inner_text()
    assert part
    assert ANSWER.startswith(part.strip())
    ada.press("Try again")
    expect(ada.answers).to_have_text(ANSWER)
    ada.wait_for_state()
    expect(ada.marks).to_have_count(0)
    expect(ada.messages).to_have_count(2)
    ada.press("Previous version")
    expect(ada.messages).to_have_text([QUESTION, part.strip()])
    expect(ada.marks).to_contain_text("This answer was interrupted")
    context.close()
