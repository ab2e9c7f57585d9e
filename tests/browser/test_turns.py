"""Answers as they are given: what people see of them and can do with them, in a real browser."""

from __future__ import annotations

import re

from playwright.sync_api import expect

SETTINGS = {"FLASK_DEMO_PAUSE": "0.025"}
COUNTED = " ".join(map(str, range(1, 41))) + "."
ENDLESS = "count to 10000"
"""Its answer takes minutes: it comes for as long as a test looks, however slow the browser is, and is then stopped."""
BEGUN = re.compile(r"^1 2 3\b")


def look(person):
    """What a tab does when its user comes back to it."""
    person.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def watch(person):
    """Record what the page shows at each of its changes: a test that looks from outside may come too late to see it."""
    return person.page.evaluate_handle("""() => {
        const seen = [];
        const text = (selector) => document.querySelector(selector)?.textContent ?? null;
        new MutationObserver(() => seen.push({
            state: document.querySelector("#messages").dataset.state,
            status: document.querySelector(".message.assistant")?.dataset.status ?? null,
            answer: text(".message.assistant .content"),
            title: text(".conversation-list .title"),
            announced: text("#announcer"),
        })).observe(document.body, {attributes: true, characterData: true, childList: true, subtree: true});
        return seen;
    }""")


def test_words_appear_before_the_answer_is_complete(person, errors):
    """The question is there at once, the answer grows, and the list shows the conversation meanwhile."""
    ada = person("ada")
    seen = watch(ada)
    ada.say("count to 40")
    growing = [shown for shown in seen.json_value() if shown["status"] == "streaming" and shown["answer"]]
    answers = [shown["answer"].strip() for shown in growing]
    assert len(set(answers)) > 2
    assert all(COUNTED.startswith(answer) for answer in answers)
    assert answers == sorted(answers, key=len)
    assert answers[0] != COUNTED
    assert {shown["state"] for shown in growing} == {"answering"}
    assert "count to 40" in [shown["title"] for shown in growing if shown["answer"].strip() != COUNTED]
    assert ada.answers.inner_text() == COUNTED
    assert errors == []


def test_who_asks_before_a_new_conversation_is_there_stays_with_the_answer(person):
    """A new conversation that the server is slow to make does not take the place of what was asked meanwhile."""
    ada = person("ada")
    held = []

    def hold_first(route):
        if route.request.method == "POST" and not held:
            held.append(route)
        else:
            route.continue_()

    ada.page.route("**/api/conversations", hold_first)
    button = ada.page.get_by_role("button", name="+ New Conversation")
    button.click()
    ada.say("count to 40")
    held[0].continue_()
    expect(button).to_be_enabled()
    expect(ada.messages).to_have_text(["count to 40", COUNTED])


def test_a_screen_reader_hears_the_answer_once(person):
    """It is read out when it is whole: the words that come one by one are not."""
    ada = person("ada")
    expect(ada.page.locator("#messages")).to_have_attribute("aria-live", "off")
    seen = watch(ada)
    ada.say("count to 40")
    expect(ada.page.locator("#announcer")).to_have_text(COUNTED)
    assert {shown["announced"].strip() for shown in seen.json_value()} == {"", COUNTED}


def test_stop_keeps_what_was_said(person):
    """By its button or by Escape: the part so far stays, is marked, and the next question is answered."""
    ada = person("ada")
    for stop in (lambda: ada.press("Stop the answer"), lambda: ada.page.keyboard.press("Escape")):
        ada.start_anew()
        ada.ask(ENDLESS)
        expect(ada.answers).to_have_text(BEGUN)
        stop()
        ada.wait_for_state("cancelled")
        expect(ada.answers).to_have_text(BEGUN)
        expect(ada.marks).to_have_text(re.compile("You stopped this answer"))
        expect(ada.page.get_by_role("button", name="Stop the answer")).to_be_hidden()
        kept = ada.answers.inner_text()
        ada.page.reload()
        expect(ada.answers).to_have_text(kept.strip())
        assert ada.say("What is my name?") == "You have not told me your name in this conversation."


def test_a_tool_is_asked_for_and_approved(person, errors):
    """The turn waits, over a reload too; once approved, the tool runs and the same answer goes on."""
    ada = person("ada")
    ada.ask("roll a die")
    ada.wait_for_state("awaiting_approval")
    ada.page.reload()
    expect(ada.page.locator(".tool")).to_contain_text("may this tool run?")
    expect(ada.page.get_by_role("button", name="Send")).to_be_disabled()
    ada.press("Approve")
    ada.wait_for_state()
    expect(ada.answers).to_have_count(1)
    expect(ada.answers).to_contain_text(re.compile(r"You rolled [1-6]\."))
    expect(ada.page.locator(".fate")).to_have_text("approved, done")
    assert errors == []


def test_each_of_two_tools_is_decided(person):
    """One is approved and one declined: the turn goes on after the second decision."""
    ada = person("ada")
    ada.ask("roll 2 dice")
    ada.wait_for_state("awaiting_approval")
    expect(ada.page.get_by_role("button", name="Approve")).to_have_count(2)
    ada.press("Decline")
    expect(ada.page.get_by_role("button", name="Approve")).to_have_count(1)
    ada.wait_for_state("awaiting_approval")
    ada.press("Approve")
    ada.wait_for_state()
    expect(ada.page.locator(".fate")).to_have_text(["approved, done", "declined"])
    expect(ada.answers).to_contain_text("The rest stays in the box.")


def test_what_was_decided_in_another_tab_is_decided(person):
    """A decision that comes too late is refused, and the page shows what was decided."""
    ada = person("ada")
    ada.ask("roll a die")
    ada.wait_for_state("awaiting_approval")
    other = ada.new_tab()
    expect(other.page.get_by_role("button", name="Approve")).to_be_visible()
    other.press("Decline")
    other.wait_for_state()
    look(ada)
    expect(ada.answers).to_contain_text("All right, the die stays in the box.")
    expect(ada.page.get_by_role("button", name="Approve")).to_have_count(0)


def test_thoughts_charts_and_failures(person):
    """Reasoning is folded away, a chart is drawn, and a failure says why and offers to try again."""
    ada = person("ada")
    assert "I have thought about it." in ada.say("think about it")
    expect(ada.page.locator(".reasoning div")).to_be_hidden()
    ada.page.locator(".reasoning summary").click()
    expect(ada.page.locator(".reasoning div")).to_contain_text("quickly done")
    ada.say("show a chart")
    expect(ada.page.locator(".chart rect")).to_have_count(2)
    ada.ask("fail after 3 words")
    ada.wait_for_state("failed")
    expect(ada.answers.last).to_have_text("word 1 word 2 word 3")
    expect(ada.marks).to_contain_text("You told me to fail, and so I did.")
    ada.press("Try again")
    expect(ada.page.locator(".place")).to_have_text("2/2")
    ada.start_anew()
    ada.ask("crash")
    ada.wait_for_state("failed")
    expect(ada.marks).to_contain_text("The responder failed.")


def test_regenerate_and_leaf_through(person, errors):
    """A second answer stands beside the first: 2/2, and back to 1/2, which stays after a reload."""
    ada = person("ada")
    first = ada.say("weather in Rome?")
    ada.say("What did I say?")
    ada.page.get_by_role("button", name="Regenerate").first.click(force=True)
    expect(ada.page.locator(".place")).to_have_text("2/2")
    ada.wait_for_state()
    expect(ada.messages).to_have_count(2)
    ada.press("Previous version")
    expect(ada.page.locator(".place")).to_have_text("1/2")
    expect(ada.messages).to_have_count(4)
    assert ada.answers.first.inner_text() == first
    expect(ada.page.locator(".message.assistant").first.get_by_role("button", name="Next version")).to_be_enabled()
    ada.page.reload()
    expect(ada.page.locator(".place")).to_have_text("1/2")
    ada.press("Next version")
    expect(ada.messages).to_have_count(2)
    assert errors == []


def test_a_question_is_put_differently(person):
    """The edited question and its answer take the place of the old ones, which are one arrow away."""
    ada = person("ada")
    ada.say("My name is Ada.")
    ada.say("What is my name?")
    ada.page.get_by_role("button", name="Edit", exact=True).first.click(force=True)
    field = ada.page.get_by_label("Your message, put differently")
    field.fill("My name is Augusta.")
    ada.page.keyboard.press("Enter")
    expect(ada.messages.first).to_have_text("My name is Augusta.")
    ada.wait_for_state()
    expect(ada.messages).to_have_text(["My name is Augusta.", re.compile("Nice to meet you, Augusta")])
    assert ada.say("What is my name?") == "Your name is Augusta."
    ada.page.get_by_role("button", name="Previous version").first.click()
    expect(ada.messages.last).to_have_text("Your name is Ada.")


def test_an_edit_that_is_refused_stays_open(person):
    """What was written is still in its field; Escape leaves the question as it is, and stops nothing."""
    ada = person("ada")
    ada.say("Hello")
    refusal = {"status": 422, "json": {"detail": "Not today."}}
    ada.page.route("**/actions/edit", lambda route: route.fulfill(**refusal))
    ada.press("Edit")
    field = ada.page.get_by_label("Your message, put differently")
    field.fill("Hello again")
    ada.page.keyboard.press("Enter")
    expect(ada.page.get_by_role("alert")).to_contain_text("Not today.")
    expect(field).to_have_value("Hello again")
    field.press("Escape")
    expect(ada.messages.first).to_have_text("Hello")


def test_two_tabs_show_the_same(person):
    """A question of one tab grows its answer in the other; and what waits for its turn shows in both."""
    ada = person("ada")
    ada.say("Hello")
    other = ada.new_tab()
    ada.ask(ENDLESS)
    look(other)
    expect(other.messages.nth(2)).to_have_text(ENDLESS)
    expect(other.messages.nth(3)).to_have_text(BEGUN)
    expect(other.page.get_by_role("button", name="Stop the answer")).to_be_visible()
    other.press("Stop the answer")
    for tab in (ada, other):
        tab.wait_for_state("cancelled")
        expect(tab.marks).to_contain_text("You stopped this answer")
    assert ada.messages.all_inner_texts() == other.messages.all_inner_texts()


def test_a_question_from_elsewhere_waits_for_its_turn(person):
    """What another client asks while an answer comes shows as waiting, and is answered after it, here too."""
    ada = person("ada")
    ada.ask("count to 100")
    expect(ada.answers).to_have_text(BEGUN)
    origin, _, conversation = ada.page.url.partition("/#")
    ada.page.context.request.post(
        f"{origin}/api/conversations/{conversation}/actions/send_message",
        data={"content": "What did I say?"},
        headers={"Origin": origin, "Prefer": "respond-async"},
    )
    expect(ada.messages).to_have_count(4)
    ada.wait_for_state()
    expect(ada.answers.last).to_have_text("You said:\n1. count to 100", use_inner_text=True)


def test_nobody_else_sees_a_turn(person):
    """While Ada's answer comes, Bob gets neither her page, nor her state, nor her stream."""
    ada, bob = person("ada"), person("bob")
    ada.ask(ENDLESS)
    expect(ada.answers).to_have_text(BEGUN)
    origin, _, conversation = ada.page.url.partition("/#")
    for what in ("state", "stream", "messages"):
        answer = bob.page.context.request.get(f"{origin}/api/conversations/{conversation}/{what}")
        assert answer.status == 404
    cancel = bob.page.context.request.post(
        f"{origin}/api/conversations/{conversation}/actions/cancel", data={}, headers={"Origin": origin}
    )
    assert cancel.status == 404
    bob.page.goto("about:blank")
    bob.page.goto(ada.page.url)
    expect(bob.page.get_by_role("alert")).to_contain_text("no longer there")
    expect(bob.page.locator("body")).not_to_contain_text("count")
    expect(ada.page.locator("#messages")).to_have_attribute("data-state", "answering")


def test_nothing_of_an_answer_is_kept_in_the_browser(person):
    """No storage of any kind, and no cached copy: what is shown comes from the server."""
    ada = person("ada")
    ada.say("count to 40")
    assert ada.page.evaluate("[localStorage.length, sessionStorage.length]") == [0, 0]
    assert ada.page.evaluate("indexedDB.databases()") == []
    assert ada.page.evaluate("caches.keys()") == []


def test_markup_in_what_a_model_says_is_text(person):
    """Wherever it stands in an answer: as text, as reasoning, as the name or the arguments of a tool, or in a chart."""
    nasty = "<img src=x onerror=\"document.body.dataset.hacked='yes'\">"
    ada = person("ada")
    parts = [
        {"type": "text", "text": nasty},
        {"type": "reasoning", "text": nasty},
        {"type": "tool_call", "id": "a", "name": nasty, "arguments": {"a": nasty}},
        {"type": "tool_result", "tool_call_id": "a", "content": nasty},
        {"type": "component", "component_type": "chart", "data": {"labels": [nasty], "values": [1]}},
        {"type": "component", "component_type": "table", "data": {"columns": [nasty], "rows": [[nasty], [None]]}},
        {"type": "component", "component_type": nasty, "data": nasty},
        {"type": nasty, "x": nasty},
    ]

    def with_parts(route):
        found = route.fetch()
        if found.status == 304:
            route.fulfill(response=found)
            return
        state = found.json()
        state["messages"][-1]["parts"] = parts
        route.fulfill(response=found, json=state)

    ada.say("Hello")
    ada.page.route("**/state", with_parts)
    ada.page.reload()
    expect(ada.page.locator(".message.assistant .part")).to_have_count(7)
    expect(ada.answers).to_contain_text(nasty)
    assert ada.page.locator(".message img").count() == 0
    assert ada.page.evaluate("document.body.dataset.hacked ?? null") is None
