"""What answers in the example app: fixed rules, or an endpoint that may fail in every way."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from example_app import endpoint, responder

from .conftest import log_in


def said(*texts: str) -> list[dict[str, Any]]:
    return [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("history", "answer"),
    [
        (said("What is my name?"), "You have not told me your name in this conversation."),
        (said("My name is Ada", "-", "Who am I?"), "Your name is Ada."),
        (said("call me Zoë", "-", "what's my name"), "Your name is Zoë."),
        (said("My name is Ada", "-", "No, call me Bob", "-", "What was my name?"), "Your name is Bob."),
        (said("One", "-", "Two", "-", "What did I say?"), "You said:\n1. One\n2. Two"),
        (said("What have I said?"), "That was the first thing you said in this conversation."),
        (said("Who are you?"), responder.ABOUT),
        (said("One", "-", "Two"), "You said: Two"),
        ([{"role": "user", "content": [{"type": "text", "text": "help"}, {"type": "image"}]}], responder.ABOUT),
    ],
)
def test_the_built_in_responder_is_plain_and_honest(history, answer):
    """The same history always gets the same answer, and it says that it is no language model."""
    assert responder.rules(history) == answer
    assert "no language model" in responder.ABOUT
    assert responder.rules(said("Hello")).startswith(responder.ABOUT)


def test_a_key_alone_sends_nothing_anywhere():
    """Many shells have a key for other things: only a named endpoint or model is asked."""
    assert not endpoint.is_configured({"OPENAI_API_KEY": "key"})
    assert endpoint.is_configured({"OPENAI_BASE_URL": "http://localhost:1/v1"})
    assert endpoint.is_configured({"OPENAI_MODEL": "any"})
    assert "no language model" in responder.description({})
    named = responder.description({"OPENAI_BASE_URL": "https://user:pass@llm.example/v1", "OPENAI_MODEL": "m"})
    assert named == "Answers by m at llm.example."


class Model:
    """A model behind an endpoint of its own, that answers what a test tells it to."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str], Any]] = []
        self.status, self.headers, self.body = 200, {}, b""
        self.answers("Hello from the model")
        self.release = threading.Event()
        self.release.set()
        model = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                sent = self.rfile.read(int(self.headers["Content-Length"]))
                model.asked.append((self.path, dict(self.headers), json.loads(sent)))
                model.release.wait(10)
                self.send_response(model.status)
                for name, value in model.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(model.body)

            def log_message(self, *arguments: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answers(self, text: Any) -> None:
        answer = {"model": "m-1", "choices": [{"message": {"content": text}}], "usage": {"total_tokens": 42}}
        self.status, self.body = 200, json.dumps(answer).encode()


@pytest.fixture
def model() -> Iterator[Model]:
    """A model to be asked."""
    running = Model()
    yield running
    running.release.set()
    running.server.shutdown()
    running.server.server_close()


@pytest.fixture
def ada(make_example, model):
    """Ada's browser, with an app that asks the model."""
    settings = {"OPENAI_API_KEY": "k", "OPENAI_MODEL": "m", "OPENAI_TIMEOUT": 0.5}
    return log_in(make_example(OPENAI_BASE_URL=f"{model.url}/", **settings), "ada")


def test_an_endpoint_gets_the_history_and_its_answer_is_kept(ada, model):
    """It is asked as OpenAI would be; text, model and tokens are saved."""
    begun = ada.post("/chat", json={"message": "One"}).json["conversation_id"]
    answer = ada.post("/chat", json={"message": "Two", "conversation_id": begun}).json
    path, headers, payload = model.asked[-1]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer k"
    assert payload == {
        "model": "m",
        "messages": [
            {"role": "user", "content": "One"},
            {"role": "assistant", "content": "Hello from the model"},
            {"role": "user", "content": "Two"},
        ],
    }
    assert (answer["message"]["model"], answer["message"]["tokens_used"]) == ("m-1", 42)
    assert b"Answers by m at 127.0.0.1" in ada.get("/").data


def _body(model: Model, body: bytes) -> None:
    model.body = body


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda model: setattr(model, "status", 401), "did not accept the key"),
        (lambda model: setattr(model, "status", 404), "does not know the model m"),
        (lambda model: setattr(model, "status", 429), "too often"),
        (lambda model: setattr(model, "status", 500), "answered with an error (500)"),
        (lambda model: _body(model, b"<html>"), "no chat completion"),
        (lambda model: _body(model, b"[]"), "no chat completion"),
        (lambda model: _body(model, b'{"choices": []}'), "no chat completion"),
        (lambda model: _body(model, b"\xff\xfe"), "no chat completion"),
        (lambda model: model.answers(None), "answered with nothing"),
        (lambda model: model.answers(" "), "answered with nothing"),
        (lambda model: model.release.clear(), "did not answer within 0.5 seconds"),
        (lambda model: (model.server.shutdown(), model.server.server_close()), "cannot be reached"),
    ],
)
def test_without_an_answer_the_question_is_kept_and_can_be_asked_again(ada, model, spoil, reason):
    """The person is told why in a sentence that names no key; asked again, the question is answered, and stands there once."""
    spoil(model)
    failed = ada.post("/chat", json={"message": "Are you there?"})
    assert failed.status_code == 502
    assert reason in failed.json["error"]
    assert "Bearer" not in failed.json["error"]
    begun = failed.json["conversation_id"]
    messages = ada.get(f"/api/conversations/{begun}").json["messages"]
    assert [each["content"] for each in messages] == ["Are you there?"]

    ada.application.config["OPENAI_BASE_URL"] = None
    ada.application.config["OPENAI_MODEL"] = None
    assert ada.post("/chat", json={"conversation_id": begun}).status_code == 200
    messages = ada.get(f"/api/conversations/{begun}").json["messages"]
    assert [each["role"] for each in messages] == ["user", "assistant"]


def test_the_key_follows_no_redirect(ada, model):
    """An endpoint that sends us elsewhere gets no further request, neither there nor back here."""
    model.status, model.headers = 302, {"Location": f"{model.url}/elsewhere"}
    assert ada.post("/chat", json={"message": "Hello"}).status_code == 502
    assert [path for path, *_ in model.asked] == ["/v1/chat/completions"]


def test_no_connection_is_held_while_the_model_thinks(ada, model):
    """A slow model keeps no database connection busy."""
    from example_app.extensions import db

    app, seen = ada.application, []
    app.config["OPENAI_TIMEOUT"] = 10
    model.release.clear()
    asking = threading.Thread(target=lambda: seen.append(ada.post("/chat", json={"message": "Slowly"}).status_code))
    asking.start()
    while not model.asked:
        threading.Event().wait(0.01)
    with app.app_context():
        held = db.engine.pool.checkedout()
    model.release.set()
    asking.join()
    assert (held, seen) == (0, [200])
