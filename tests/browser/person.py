"""A person at the page of the example app."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.infra.demo import Demo

expect.set_options(timeout=20_000)  # how long until a test gives up: the page may share its processors with many others
PASSWORDS = {"ada": "lovelace", "bob": "builder"}


class Person:
    """A person at the page."""

    def __init__(self, page: Page, demo: Demo, name: str) -> None:
        self.demo, self.name = demo, name
        self.look_at(page)
        self.log_in()

    def look_at(self, page: Page) -> None:
        self.page = page
        self.list, self.messages = page.locator(".conversation-list"), page.locator(".message .content")
        self.answers, self.marks = page.locator(".message.assistant .content"), page.locator(".mark:not(:empty)")
        self.field = page.get_by_label("Message", exact=True)

    def log_in(self) -> None:
        self.page.goto(self.demo.url)
        self.page.get_by_label("Name").fill(self.name)
        self.page.get_by_label("Password").fill(PASSWORDS[self.name])
        self.page.get_by_role("button", name="Log in").click()
        self.list_is_there()

    def list_is_there(self) -> None:
        expect(self.list).to_have_attribute("aria-busy", "false")
        expect(self.page.locator("#messages")).to_have_attribute("aria-busy", "false")

    def reload(self) -> None:
        self.page.goto(self.demo.url)
        self.list_is_there()

    def new_tab(
        self,
        address: str | None = None,
        *,
        prepare: Callable[[Page], None] = lambda page: None,
        context: BrowserContext | None = None,
    ) -> Person:
        """The same person at another tab of the same browser."""
        other = object.__new__(type(self))
        other.demo, other.name = self.demo, self.name
        other.look_at((context or self.page.context).new_page())
        prepare(other.page)
        other.page.goto(address or self.page.url)
        other.list_is_there()
        return other

    def ask(self, text: str) -> None:
        """Send *text*, and wait for nothing but its being shown."""
        there = self.page.locator(".message.user").count()
        self.field.fill(text)
        self.page.keyboard.press("Enter")
        expect(self.page.locator(".message.user")).to_have_count(there + 1)

    def wait_for_state(self, state: str = "idle") -> None:
        """Wait until nothing is going on any more."""
        expect(self.page.locator("#messages")).to_have_attribute("data-state", state)

    def say(self, text: str) -> str:
        """Send *text*; the whole answer."""
        there = self.answers.count()
        self.ask(text)
        expect(self.answers).to_have_count(there + 1)
        self.wait_for_state()
        return self.answers.last.inner_text()

    def start_anew(self) -> None:
        button = self.page.get_by_role("button", name="+ New Conversation")
        button.click()
        expect(button).to_be_enabled()
        expect(self.page.locator(".welcome")).to_be_visible()

    def begin(self, text: str) -> str:
        """Begin a new conversation with *text*; the answer."""
        self.start_anew()
        return self.say(text)

    def press(self, button: str) -> None:
        """Press the last button of this name, which may show only where the mouse is."""
        self.page.get_by_role("button", name=button, exact=True).last.click(force=True)

    def titles(self) -> list[str]:
        return self.list.locator(".title").all_inner_texts()

    def item(self, title: str) -> Locator:
        return self.list.locator("li").filter(has=self.page.locator(".title", has_text=title))

    def act(self, action: str, title: str) -> None:
        self.item(title).hover()
        self.item(title).get_by_role("button", name=action).click()

    def shelf(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()
        expect(self.list).to_have_attribute("aria-busy", "false")
