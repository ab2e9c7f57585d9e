"""The REST API: a blueprint for JSON and status codes. Rules, SQL and transactions are in the service."""

from __future__ import annotations

import functools
import importlib
import pkgutil
import re

from flask import Blueprint, Response

from ..errors import ConfigurationError, ConversationsError
from . import responses
from .routing import Mount, Route, mount

__all__ = ["all_routes", "create_blueprint", "problem"]


@functools.cache
def all_routes() -> tuple[Route, ...]:
    """The routes of every module in this package, fixed paths before those with parameters."""
    names = sorted(found.name for found in pkgutil.walk_packages(__path__, f"{__name__}."))
    modules = [importlib.import_module(name) for name in names]
    routes = [route for module in modules if hasattr(module, "routes") for route in module.routes]
    return tuple(sorted(routes, key=lambda route: route.path.count("<")))


def create_blueprint(*, name: str, resource: str, url_prefix: str, json_case: str) -> Blueprint:
    """The API with one name, resource and JSON case. Raises `ConfigurationError` for an invalid resource or case."""
    if json_case not in ("snake", "camel"):
        raise ConfigurationError(f"json_case is {json_case!r}, but must be 'snake' or 'camel'.")
    if not re.fullmatch(r"[A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*", resource):
        raise ConfigurationError(f"resource is {resource!r}, but must be a path segment such as 'conversations'.")
    blueprint = Blueprint(name, __name__, url_prefix=url_prefix or None)
    blueprint.after_request(responses.finished)
    mount(blueprint, all_routes(), Mount(name, resource, json_case))
    return blueprint


def problem(error: ConversationsError) -> Response:
    """The answer to a `ConversationsError` from a route of the host; a `ConfigurationError` stays an exception."""
    if isinstance(error, ConfigurationError):
        raise error
    return responses.finished(responses.problem(error))
