"""Idempotency-Keys: the first request with a key has an effect, an equal later one gets the stored answer.

Format: IETF draft "The Idempotency-Key HTTP Header Field".
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any

from ..config import Config
from ..errors import IdempotencyKeyReused, RequestInProgress
from ..ids import now
from ..schemas import rules
from ..store import requests
from .outcome import Outcome
from .unit_of_work import UnitOfWork


def answer_once(work: UnitOfWork, scope: str, key: str, fingerprint: str, effect: Callable[[], Any]) -> Outcome:
    """Call *effect* and store its JSON-ready answer under *key*; for a repeated key, return the stored answer.

    Raises `IdempotencyKeyReused` if the key was used for a request with another fingerprint.
    """
    store = work.store
    if requests.reserve(store, scope, key, fingerprint, kept_since=horizon(work.config)):
        result = effect()
        requests.answer(store, scope, key, result, _conversation_of(result))
        return Outcome(result, False)
    first = requests.answered(store, scope, key)
    if first is None or first.answer is None:
        raise RequestInProgress
    if first.fingerprint != fingerprint:
        raise IdempotencyKeyReused
    return Outcome(first.answer, True)


def horizon(config: Config) -> dt.datetime:
    """The moment before which stored answers have expired."""
    return now() - dt.timedelta(hours=config.idempotency_hours)


def _conversation_of(answer: Any) -> str | None:
    """The conversation id in an answer; None if it has none."""
    named = answer.get("conversation_id") or answer.get("id") if isinstance(answer, Mapping) else None
    return rules.uuid_or_none(named)
