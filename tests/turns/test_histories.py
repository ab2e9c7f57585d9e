"""Random histories: whatever is asked, answered, broken off, decided, branched, deleted and recovered, in whatever order."""

from __future__ import annotations

from typing import Any

import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from flask_conversations.errors import Conflict, NotFound, ValidationFailed
from flask_conversations.turns import ResponderError, ToolCall, ToolResult

from ..cli.tools import looked
from ..history import validators
from .tools import END, LIVE, Led, abandon, is_idle, tree, turns_of, until

KINDS = st.sampled_from(["text", "fail", "nothing", "tools", "hold"])
PLACES = st.integers(0, 30)


class History(RuleBasedStateMachine):
    """One conversation; `app` and its services are set by the test."""

    app: Any
    ada: Any
    other: Any

    @initialize()
    def begin(self) -> None:
        self.led = Led()
        self.app.conversations.responder(self.respond)
        self.other.conversations.responder(self.respond)
        self.chat = self.ada.create_conversation("T")["id"]
        self.known: set[str] = set()
        self.version = 0
        self.asked = 0

    def respond(self, turn: Any) -> Any:
        kind = turn.message["content"].partition(" ")[0] if turn.message else "text"
        for name in ("openai", "responses", "anthropic"):
            getattr(validators, name)(turn.render(name))
        if turn.approved or turn.denied:
            return [*(ToolResult(call.id, 1) for call in [*turn.approved, *turn.denied]), "done"]
        if kind == "hold":
            return self.led(turn)
        if kind == "fail":
            return failing()
        if kind == "tools":
            return [
                "let me ",
                ToolCall("c1", "t", 1, requires_approval=True),
                ToolCall("c2", "t", 2, requires_approval=True),
            ]
        return None if kind == "nothing" else iter(["some ", "text"])

    @property
    def live(self) -> list[str]:
        return [row.state for row in turns_of(self.app, self.chat) if row.state in LIVE]

    @property
    def messages(self) -> list[Any]:
        return tree(self.app, self.chat)

    def pick(self, place: int, role: str | None = None) -> str | None:
        found = [str(row.id) for row in self.messages if role in (None, row.role)]
        return found[place % len(found)] if found else None

    def act(self, call: Any, kind: str = "text") -> None:
        """Begin a turn, and wait for what its kind leads to; refused is fine, any other error is not."""
        busy = bool(self.live)
        try:
            call(not busy and kind != "hold")
        except (Conflict, NotFound, ValidationFailed):
            return
        if not busy and kind == "hold":
            until(lambda: self.live != ["processing"] or self.led.began.acquire(blocking=False))

    @rule(kind=KINDS)
    def send(self, kind: str) -> None:
        self.asked += 1
        question = f"{kind} {self.asked}"
        self.act(lambda wait: self.ada.send_message(self.chat, question, wait=wait), kind)

    @rule(place=PLACES)
    def regenerate(self, place: int) -> None:
        self.act(lambda wait: self.ada.regenerate(self.chat, self.pick(place), wait=False), "hold")
        self.settle()

    @rule(place=PLACES, kind=KINDS)
    def edit(self, place: int, kind: str) -> None:
        original = self.pick(place, "user")
        if original:
            self.asked += 1
            question = f"{kind} {self.asked}"
            self.act(lambda wait: self.ada.edit_question(self.chat, original, question, wait=wait), kind)

    @rule(calls=st.sampled_from([["c1"], ["c2"], ["c1", "c2"], ["nope"]]), approved=st.booleans())
    def approve(self, calls: list[str], approved: bool) -> None:
        self.act(lambda wait: self.ada.approve_tools(self.chat, calls, approved, wait=True))
        self.settle()

    @rule()
    def speak(self) -> None:
        if "streaming" in self.live or "processing" in self.live:
            self.led.say("a word ")

    @rule()
    def finish(self) -> None:
        self.led.say("the end", END)
        self.settle()
        self.led.cues.clear()

    @rule()
    def cancel(self) -> None:
        self.ada.cancel(self.chat)
        self.settle()

    @rule()
    def lose_the_worker(self) -> None:
        abandon(self.app, self.chat)
        self.led = Led()
        self.other.conversations.as_user("ada", app=self.other).recover()
        assert self.ada.get_state(self.chat)["state"] not in ("processing", "streaming")

    @rule(place=PLACES)
    def switch(self, place: int) -> None:
        message = self.pick(place)
        if message:
            self.ada.branches.switch(self.chat, message)

    @rule(place=PLACES)
    def delete(self, place: int) -> None:
        message = self.pick(place)
        if message:
            self.ada.delete_message(self.chat, message)
            self.known.discard(message)

    @rule(role=st.sampled_from(["user", "assistant"]))
    def save(self, role: str) -> None:
        self.ada.save_message(self.chat, role, "aside")

    @rule()
    def clear(self) -> None:
        self.ada.clear_conversation(self.chat)
        self.known.clear()

    def settle(self) -> None:
        """Until every turn has ended, waits behind a held one, or for an approval."""

        def quiet() -> bool:
            live = self.live
            return not live or live[0] == "awaiting_approval" or self.is_held(live)

        until(quiet, "the turns have settled")

    def is_held(self, live: list[str]) -> bool:
        active = next((row for row in turns_of(self.app, self.chat) if row.state in ("processing", "streaming")), None)
        if active is None:
            return False
        execution = self.app.extensions["flask_conversations"].turns.find(str(active.id))
        held = [turn for turn in self.led.turns if execution is not None and turn._stopping is execution.stopping]
        return bool(held) and not self.led.cues

    @invariant()
    def nothing_is_destroyed(self) -> None:
        if not hasattr(self, "chat"):
            return
        found = {str(row.id) for row in self.messages}
        assert self.known <= found
        self.known = found
        version = self.ada.get_conversation(self.chat)["version"]
        assert version >= self.version
        self.version = version

    @invariant()
    def one_turn_at_a_time_and_everything_adds_up(self) -> None:
        if not hasattr(self, "chat"):
            return
        active = [row for row in turns_of(self.app, self.chat) if row.state in LIVE and row.state != "waiting"]
        assert len(active) <= 1
        if not self.app.extensions["flask_conversations"].turns._executions:
            assert [str(one) for one in looked(self.app)] == []
        for name in ("openai", "responses", "anthropic"):
            getattr(validators, name)(self.ada.get_conversation_history(self.chat, format=name))

    def teardown(self) -> None:
        if not hasattr(self, "chat"):
            return
        abandon(self.app, self.chat)
        until(self.nothing_lives, "the turns have ended")
        is_idle(self.app, self.ada, self.chat)
        self.ada.delete_conversation(self.chat, permanent=True)

    def nothing_lives(self) -> bool:
        """End what no other rule ends; those that wait for an approval go first, since others may wait behind them."""
        if self.live[:1] == ["awaiting_approval"]:
            self.ada.cancel(self.chat)
        self.ada.recover()
        return not self.live


def failing() -> Any:
    yield "so far"
    raise ResponderError("No.")


def explore(app: Any, other: Any, examples: int, steps: int) -> None:
    ada = app.conversations.as_user("ada", app=app)
    machine = type("OneHistory", (History,), {"app": app, "ada": ada, "other": other})
    settings = hypothesis.settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    run_state_machine_as_test(machine, settings=settings)


def test_random_histories_stay_sound(worker, long):
    """After every step: nothing is destroyed, one turn at a time, counters and checksums right, the history valid."""
    explore(worker(), worker(), *((100, 30) if long else (8, 15)))
