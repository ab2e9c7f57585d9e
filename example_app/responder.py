"""The responder: a few fixed rules that need no network, or an endpoint that speaks OpenAI's chat completions."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from flask_conversations.turns import Event, ResponderError, ToolCall, Usage

from . import demo, rules
from .rules import BUILT_IN, Messages, text_of

if TYPE_CHECKING:
    from flask_conversations.contrib.openai import OpenAIResponder

__all__ = ["Answer", "NoAnswer", "answer", "answer_with_titles", "description", "is_configured", "respond"]

OPENAI = "https://api.openai.com/v1"
DEFAULT_MODEL = "gpt-4o-mini"
NoAnswer = ResponderError


class Answer(NamedTuple):
    """A text, the model that wrote it, and the tokens used if known."""

    text: str
    model: str
    tokens_used: int | None = None


def answer(turn: Any) -> Iterator[str | Event]:
    """The answer to a turn as a stream, for `@conversations.responder`."""
    config = turn.app.config
    return _model(config)(turn) if is_configured(config) else demo.answer(turn, pause=config["DEMO_PAUSE"])


def respond(history: Messages, config: Mapping[str, Any]) -> Answer:
    """The whole answer to the last message of *history*. Raises `NoAnswer` with a sentence for the user."""
    if not is_configured(config):
        return Answer(rules.answer(history), BUILT_IN)
    said = [*_model(config)(_Asked([{"role": each["role"], "content": text_of(each)} for each in history]))]
    usage = next((each for each in said if isinstance(each, Usage)), Usage())
    text = "".join(each for each in said if isinstance(each, str))
    return Answer(text, usage.model or model(config), usage.total_tokens)


def is_configured(config: Mapping[str, Any]) -> bool:
    """Whether an endpoint or a model is configured. A key alone is not enough: many shells have one for other programs."""
    return bool(config.get("OPENAI_BASE_URL") or config.get("OPENAI_MODEL"))


def description(config: Mapping[str, Any]) -> str:
    """A sentence for the page that names the model or the fixed rules."""
    if is_configured(config):
        host = urlsplit(config.get("OPENAI_BASE_URL") or OPENAI).netloc.rpartition("@")[2]
        return f"Answers by {model(config)} at {host}."
    return "Answers by the built-in demo responder: fixed rules, no language model."


def model(config: Mapping[str, Any]) -> str:
    return config.get("OPENAI_MODEL") or DEFAULT_MODEL


@dataclasses.dataclass(frozen=True)
class _Asked:
    """A question outside a turn, for a route that waits for the whole answer."""

    history: Messages
    cancelled: bool = False
    approved: Sequence[ToolCall] = ()
    denied: Sequence[ToolCall] = ()
    answer: Messages = ()


def _model(config: Mapping[str, Any]) -> OpenAIResponder:
    names = ("OPENAI_API_KEY", "OPENAI_TIMEOUT", "OPENAI_RETRIES")
    return _responder(config.get("OPENAI_BASE_URL") or OPENAI, model(config), *map(config.get, names))


@functools.lru_cache(maxsize=8)
def _responder(
    base_url: str, model: str, key: str | None, timeout: float | None, retries: int | None
) -> OpenAIResponder:
    """One responder per settings, cached. Without an endpoint, its library is not imported."""
    from flask_conversations.contrib.openai import OpenAIResponder

    return OpenAIResponder(base_url, model, key, timeout=timeout or 60.0, retries=3 if retries is None else retries)


def answer_with_titles(titles: Sequence[str], *, more: bool) -> Answer:
    """The agent's answer after it looked up the conversations."""
    if not titles:
        return Answer("I looked, and found no conversation.", BUILT_IN)
    lines = [f"- {title}" for title in titles]
    number = f"more than {len(titles)}" if more else str(len(titles))
    return Answer("\n".join([f"I looked, and found {number}:", *lines, *(["- ..."] if more else [])]), BUILT_IN)
