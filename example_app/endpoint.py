"""Any server that speaks OpenAI's chat completions, asked with nothing but the standard library."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

OPENAI = "https://api.openai.com/v1"
DEFAULT_MODEL = "gpt-4o-mini"
LARGEST_ANSWER = 4 * 1024 * 1024


class NoAnswer(Exception):
    """The endpoint gave no answer; the message says why, to the person who asked."""


class Completion(NamedTuple):
    """What the endpoint said."""

    text: str
    model: str
    tokens_used: int | None


def is_configured(config: Mapping[str, Any]) -> bool:
    """Whether an endpoint or a model was named. A key alone sends nothing anywhere: many shells have one for other things."""
    return bool(config.get("OPENAI_BASE_URL") or config.get("OPENAI_MODEL"))


def model(config: Mapping[str, Any]) -> str:
    return config.get("OPENAI_MODEL") or DEFAULT_MODEL


def host(config: Mapping[str, Any]) -> str:
    return urlsplit(_base_url(config)).netloc.rpartition("@")[2]


def complete(messages: list[dict[str, str]], config: Mapping[str, Any]) -> Completion:
    """The endpoint's next message. Raises `NoAnswer`."""
    request = _request({"model": model(config), "messages": messages}, config)
    try:
        with _opener.open(request, timeout=config["OPENAI_TIMEOUT"]) as response:
            body = response.read(LARGEST_ANSWER)
    except urllib.error.HTTPError as error:
        raise NoAnswer(_explained(error.code, config)) from error
    except TimeoutError as error:
        raise NoAnswer(f"{host(config)} did not answer within {config['OPENAI_TIMEOUT']:g} seconds.") from error
    except (OSError, ValueError) as error:
        raise NoAnswer(f"{host(config)} cannot be reached: {getattr(error, 'reason', error)}.") from error
    return _read(body, config)


def _request(payload: dict[str, Any], config: Mapping[str, Any]) -> urllib.request.Request:
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if config.get("OPENAI_API_KEY"):
        headers["Authorization"] = f"Bearer {config['OPENAI_API_KEY']}"
    return urllib.request.Request(f"{_base_url(config)}/chat/completions", json.dumps(payload).encode(), headers)


def _base_url(config: Mapping[str, Any]) -> str:
    return (config.get("OPENAI_BASE_URL") or OPENAI).rstrip("/")


def _explained(status: int, config: Mapping[str, Any]) -> str:
    reasons = {
        401: "did not accept the key in OPENAI_API_KEY",
        403: "does not allow this with the key in OPENAI_API_KEY",
        404: f"does not know the model {model(config)}, or OPENAI_BASE_URL is not its address",
        429: "is asked too often at the moment, or the account is used up",
    }
    return f"{host(config)} {reasons.get(status, f'answered with an error ({status})')}."


def _read(body: bytes, config: Mapping[str, Any]) -> Completion:
    try:
        answer = json.loads(body)
        text = answer["choices"][0]["message"]["content"]
        tokens = (answer.get("usage") or {}).get("total_tokens")
        named = answer.get("model")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise NoAnswer(f"{host(config)} answered with something that is no chat completion.") from error
    if not isinstance(text, str) or not text.strip():
        raise NoAnswer(f"{host(config)} answered with nothing.")
    return Completion(
        text,
        named if isinstance(named, str) else model(config),
        tokens if isinstance(tokens, int) else None,
    )


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows nowhere: the key is meant for the address that was configured, and a redirected POST loses its body."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirect)
