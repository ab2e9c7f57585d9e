"""Guards: functions of the host that may change or refuse a message before it is stored."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from werkzeug.utils import import_string

from ..errors import ConfigurationError, ConversationsError, ValidationFailed
from ..identity.base import Identity


@dataclasses.dataclass(frozen=True)
class GuardContext:
    """The destination of a message: the second argument of a guard."""

    conversation_id: str
    identity: Identity | None


Guard = Callable[[dict[str, Any], GuardContext], Any]


def configured(guards: Any) -> list[Guard]:
    """The guards that a setting names: functions or their import paths, one or several. Raises `ConfigurationError`."""
    if isinstance(guards, str):
        guards = [path.strip() for path in guards.split(",") if path.strip()]
    elif callable(guards):
        guards = [guards]
    elif not isinstance(guards, (list, tuple)):
        raise ConfigurationError(f"CONVERSATIONS_GUARDS is {guards!r}, but must be functions or their import paths.")
    return [guard(_imported(each)) for each in guards]


def _imported(named: Any) -> Callable[..., Any]:
    try:
        found = import_string(named) if isinstance(named, str) else named
    except ImportError as error:
        raise ConfigurationError(f"CONVERSATIONS_GUARDS names {named!r}, which cannot be imported: {error}") from error
    if not callable(found):
        raise ConfigurationError(f"CONVERSATIONS_GUARDS names {named!r}, which is not a function.")
    return cast("Callable[..., Any]", found)


def guard(function: Callable[..., Any]) -> Guard:
    """*function* as a guard: it may take the message alone, or the message and a `GuardContext`."""
    positional = [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD, parameter.VAR_POSITIONAL)
    ]
    takes_context = len(positional) > 1 or any(one.kind is one.VAR_POSITIONAL for one in positional)
    return function if takes_context else lambda message, context: function(message)


def guarded(guards: Sequence[Guard], message: dict[str, Any], context: GuardContext) -> dict[str, Any]:
    """The message after all guards.

    A guard returns the changed message, its new text, or None to accept it. False or a `ValueError` refuses it with
    `ValidationFailed`; a `ConversationsError` passes through.
    """
    for each in guards:
        message = _apply(each, dict(message), context)
    return message


def _apply(each: Guard, message: dict[str, Any], context: GuardContext) -> dict[str, Any]:
    original = dict(message)
    try:
        answer = each(message, context)
    except ConversationsError:
        raise
    except ValueError as refusal:
        raise ValidationFailed({"content": [str(refusal) or "Refused."]}) from refusal
    if answer is False:
        raise ValidationFailed({"content": ["Refused."]})
    if isinstance(answer, str):
        return {**original, "content": answer}
    return dict(answer) if isinstance(answer, Mapping) else original
