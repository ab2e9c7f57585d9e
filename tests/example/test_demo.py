"""`make demo` and `make demo-full`: the example app as a process."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest

from example_app.extensions import conversations
from tests.infra import services
from tests.infra.demo import Demo


class Client:
    """A client of the running app with a token."""

    def __init__(self, demo: Demo, name: str, password: str) -> None:
        self.demo, self.headers = demo, {"Content-Type": "application/json"}
        token = self.send("/login", {"name": name, "password": password})["token"]
        self.headers["Authorization"] = f"Bearer {token}"

    def send(self, path: str, body: object = None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.demo.url + path, data, self.headers)
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)

    def titles(self) -> list[str]:
        return [each["title"] for each in self.send("/api/conversations")["conversations"]]


def talk_restart_and_look(demo: Demo) -> None:
    """Two people talk; after a restart each finds exactly their own, with the tokens they had before it."""
    ada, bob = Client(demo, "ada", "lovelace"), Client(demo, "bob", "builder")
    begun = ada.send("/chat", {"message": "My name is Ada."})["conversation_id"]
    bob.send("/chat", {"message": "Bridges"})
    demo.restart()
    assert (ada.titles(), bob.titles()) == (["My name is Ada."], ["Bridges"])
    answer = ada.send("/chat", {"message": "What is my name?", "conversation_id": begun})["answer"]
    assert answer == "Your name is Ada."


@pytest.fixture
def start(tmp_path: Path):
    """Starts the demo with further arguments and settings."""
    started: list[Demo] = []

    def run(*arguments: str, **settings: str) -> Demo:
        started.append(Demo(tmp_path / "data", *arguments, **settings))
        return started[-1]

    yield run
    for demo in started:
        demo.stop()


def test_the_demo_says_where_it_is_and_keeps_everything(start):
    """It names the address, both logins and what answers; a restart loses nothing, and says if a key is set for nothing."""
    demo = start()
    for said in (demo.url, "ada with the password lovelace", "bob with the password builder", "no language model"):
        assert said in demo.said
    assert str(demo.data) in demo.said
    unused = "OPENAI_API_KEY is set but not used"
    assert unused not in demo.said
    demo.settings["OPENAI_API_KEY"] = "sk-none"
    talk_restart_and_look(demo)
    assert unused in demo.said


@pytest.mark.slow
def test_the_full_demo_runs_on_a_postgresql_of_its_own(start):
    """Its data outlive the servers, with its own Redis as a cache or, where there is no Redis, without."""
    services.need("postgresql")
    demo = start("--full")
    assert "Conversations  PostgreSQL" in demo.said
    assert "Cache          Redis" in demo.said or "Cache          none" in demo.said
    talk_restart_and_look(demo)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_the_cache_of_the_full_demo_answers(make_example, redis_url):
    """Given an address as `--full` gives it, histories come from Redis, as long as the responder reads them."""
    app = make_example(CONVERSATIONS_REDIS_URL=redis_url)
    ada = conversations.as_user("1", app=app)
    chat = ada.create_conversation(messages=[{"role": "user", "content": f"m {n}"} for n in range(30)])["id"]
    assert len(ada.get_conversation_history(chat, limit=app.config["MAX_HISTORY"])) == app.config["MAX_HISTORY"]
    assert conversations.get_stats(app=app)["cache"]["hits"] == 1
