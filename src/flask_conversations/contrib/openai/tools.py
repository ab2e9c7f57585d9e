"""Functions that a model may call: their descriptions, their calls, and the results."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import json
import logging
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ...errors import redacted_traceback
from ...turns import ToolCall, ToolResult

JSON = dict[str, Any]
Function = Callable[..., Any]

MAX_RESULT_LENGTH = 200_000
"""Characters of JSON; a longer result is not shown to the model, whose window it would fill."""

DENIED = "The user did not allow this tool call."

_TURN = "turn"
"""The parameter of a function that the model does not fill."""

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_TYPES: dict[Any, JSON] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    list: {"type": "array"},
    dict: {"type": "object"},
}
_log = logging.getLogger("flask_conversations")


@dataclasses.dataclass(frozen=True)
class Tool:
    """A function that the model may call, with arguments that the model makes up: check them as any input from outside."""

    name: str
    function: Function
    """Called with the arguments by name, and with `turn=` if it has such a parameter. Its result has to be JSON."""
    description: str = ""
    """When to call it, for the model; by default the function's docstring."""
    parameters: JSON | None = None
    """A JSON schema of the arguments; by default from annotations that are plain types."""
    requires_approval: bool = False
    """Whether the turn waits for the user's consent before it runs."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"A tool's name is at most 64 letters, digits, _ and -, not {self.name!r}.")
        if not callable(self.function):
            raise TypeError(f"The function of the tool {self.name!r} cannot be called.")
        if not self.description:
            object.__setattr__(self, "description", inspect.getdoc(self.function) or "")
        if self.parameters is None:
            object.__setattr__(self, "parameters", _parameters(self))


def definition_of(tool: Tool) -> JSON:
    """*tool* in the format of OpenAI's chat completions."""
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


Tools = Mapping[str, "Function | Tool"] | Iterable["Function | Tool"]


def by_name(tools: Tools | None) -> dict[str, Tool]:
    """The tools by name, from any form in which they may be given."""
    if isinstance(tools, Mapping):
        found = [dataclasses.replace(t, name=n) if isinstance(t, Tool) else Tool(n, t) for n, t in tools.items()]
    else:
        found = [t if isinstance(t, Tool) else Tool(getattr(t, "__name__", ""), t) for t in tools or ()]
    named = {tool.name: tool for tool in found}
    if len(named) < len(found):
        raise ValueError("Two tools have the same name.")
    return named


def run(tools: Mapping[str, Tool], call: ToolCall, turn: Any) -> ToolResult:
    """Run the tool of *call*. Any failure becomes a result, in words that give no details away."""
    tool = tools.get(call.name)
    if tool is None:
        return ToolResult(call.id, "There is no tool of this name.", is_error=True)
    arguments = arguments_of(call)
    if arguments is None:
        return ToolResult(call.id, "The arguments are no JSON object.", is_error=True)
    if not _fit(tool, arguments, turn):
        return ToolResult(call.id, "The arguments do not fit the tool.", is_error=True)
    try:
        with _context(turn):
            result = tool.function(**arguments, **_extra(tool, turn))
    except Exception as error:  # noqa: BLE001  the tool is the host's: its failure is a result, and the turn goes on
        _log.error("The tool %s has failed: %s", tool.name, redacted_traceback(error))
        return ToolResult(call.id, "The tool failed.", is_error=True)
    return _result(call, result)


def arguments_of(call: ToolCall) -> JSON | None:
    """The arguments as an object, None if they are something else."""
    found = call.arguments
    if isinstance(found, str):
        try:
            found = json.loads(found) if found.strip() else {}
        except (ValueError, RecursionError):
            return None
    if found is None:
        return {}
    return dict(found) if isinstance(found, Mapping) else None


def _result(call: ToolCall, result: Any) -> ToolResult:
    try:
        text = json.dumps(result, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        _log.error("The tool %s has returned a %s, which is no JSON.", call.name, type(result).__name__)
        return ToolResult(call.id, "The tool's result cannot be shown.", is_error=True)
    if len(text) > MAX_RESULT_LENGTH:
        return ToolResult(call.id, f"The tool's result is too long: {len(text)} characters.", is_error=True)
    return ToolResult(call.id, json.loads(text))


def _fit(tool: Tool, arguments: JSON, turn: Any) -> bool:
    try:
        inspect.signature(tool.function).bind(**arguments, **_extra(tool, turn))
    except TypeError:
        return False
    return True


def _extra(tool: Tool, turn: Any) -> JSON:
    return {_TURN: turn} if _TURN in inspect.signature(tool.function).parameters else {}


def _context(turn: Any) -> contextlib.AbstractContextManager[Any]:
    """The app's context while a tool runs, and no longer: `db.session` works, and gives its connection back."""
    app = getattr(turn, "app", None)
    return app.app_context() if app is not None else contextlib.nullcontext()


def _parameters(tool: Tool) -> JSON:
    """A JSON schema of the function's parameters. Raises `ValueError` where it would have to guess."""
    try:
        hints = typing.get_type_hints(tool.function)
    except (NameError, TypeError):
        hints = {}
    properties, required = {}, []
    for name, parameter in inspect.signature(tool.function).parameters.items():
        if name == _TURN:
            continue
        schema = _schema(hints.get(name))
        if schema is None or parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise ValueError(
                f"The parameter {name!r} of the tool {tool.name!r} has no annotation with a plain type. Give a JSON schema:"
                f" Tool({tool.name!r}, ..., parameters={{...}})."
            )
        properties[name] = schema
        if parameter.default is parameter.empty:
            required.append(name)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _schema(hint: Any) -> JSON | None:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        some = [each for each in typing.get_args(hint) if each is not type(None)]
        return _schema(some[0]) if len(some) == 1 else None
    if typing.get_origin(hint) is list:
        items = _schema(typing.get_args(hint)[0])
        return {"type": "array", "items": items} if items else None
    if typing.get_origin(hint) is typing.Literal and all(isinstance(each, str) for each in typing.get_args(hint)):
        return {"type": "string", "enum": [*typing.get_args(hint)]}
    return dict(_TYPES[hint]) if isinstance(hint, type) and hint in _TYPES else None
