"""The REST API: a blueprint that knows JSON and status codes, and leaves rules, SQL and transactions to the service."""

from __future__ import annotations

import re

from flask import Blueprint, Response

from ..errors import ConfigurationError, ConversationsError
from . import actions, branches, conversations, description, messages, responses, stream
from .ai_sdk import chats
from .routing import Mount, Route, mount

__all__ = ["all_routes", "create_blueprint", "problem"]


def all_routes() -> list[Route]:
    """Every route of the API, fixed paths before those with parameters."""
    nouns = (conversations, messages, branches, actions, stream, chats, description)
    return sorted((route for noun in nouns for route in noun.routes), key=lambda route: route.path.count("<"))


def create_blueprint(*, name: str, resource: str, url_prefix: str, json_case: str) -> Blueprint:
    """The API under one name and spelling. Raises `ConfigurationError` for a resource or spelling that cannot be."""
    if json_case not in ("snake", "camel"):
        raise ConfigurationError(f"json_case is {json_case!r}, but must be 'snake' or 'camel'.")
    if not re.fullmatch(r"[A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*", resource):
        raise ConfigurationError(f"resource is {resource!r}, but must be a path segment such as 'conversations'.")
    blueprint = Blueprint(name, __name__, url_prefix=url_prefix or None)
    blueprint.after_request(responses.finished)
    mount(blueprint, all_routes(), Mount(name, resource, json_case))
    return blueprint


def problem(error: ConversationsError) -> Response:
    """The answer to an error of ours that a host's own route lets through; a set-up mistake stays an exception."""
    if isinstance(error, ConfigurationError):
        raise error
    return responses.finished(responses.problem(error))
