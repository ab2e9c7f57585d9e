"""From a request to a call: routes, access checks, parsed bodies, and Idempotency-Keys."""

from __future__ import annotations

import dataclasses
import functools
import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, cast

from flask import Blueprint, Flask, Response, current_app, request
from flask.sansio.blueprints import BlueprintSetupState
from marshmallow import Schema, ValidationError
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, PathConverter, Rule

from .. import errors
from ..identity.csrf import check_csrf
from ..identity.guest import withhold_guest_cookie
from ..identity.settings import current_flask_app
from ..proxies import state
from ..schemas import canonical, rules
from ..service import http
from . import responses
from .case import renamed, snake, to_camel, to_snake

logger = logging.getLogger("flask_conversations")

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


@dataclasses.dataclass(frozen=True)
class Route:
    """One method of one path: its input, its answers, and its view function."""

    method: str
    path: str
    view: Callable[..., Any]
    summary: str
    query: type[Schema] | None = None
    body: type[Schema] | None = None
    answers: Mapping[int, type | str] = dataclasses.field(default_factory=dict)
    public: bool = False
    many: bool = False
    preconditions: bool = False
    """Whether `CONVERSATIONS_REQUIRE_PRECONDITIONS` applies."""
    if_match: bool = False
    """Whether the view compares If-Match."""
    turns: Callable[[dict[str, Any]], bool] | None = None
    """Whether a request begins a turn, which stores its Idempotency-Key itself: it is too long for one transaction."""
    limit: Literal["create", "send"] | None = None
    """The rate limit that a request counts against."""
    verbatim: bool = False
    """Whether another protocol defines the names in the body: they are not converted to the case of the mount."""
    alternative: Alternative | None = None
    """The route for clients of another protocol at the same URL."""

    @property
    def name(self) -> str:
        return self.view.__name__.strip("_")


@dataclasses.dataclass(frozen=True)
class Alternative:
    """A route of another protocol, and the test for its bodies."""

    route: Route
    takes: Callable[[Mapping[str, Any]], bool]


class Routes(list[Route]):
    """The routes of one module, collected by decorators."""

    def add(self, method: str, path: str, **options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Register the decorated function; its docstring's first line is the summary."""

        def register(view: Callable[..., Any]) -> Callable[..., Any]:
            summary = (view.__doc__ or "").strip().splitlines()[0]
            self.append(Route(method, path, view, summary, **options))
            return view

        return register


@dataclasses.dataclass(frozen=True)
class Mount:
    """The name, resource and JSON case of one blueprint."""

    name: str
    resource: str
    case: str


def mount(blueprint: Blueprint, routes: Sequence[Route], place: Mount) -> None:
    """Add *routes* to a blueprint, and a fallback route for OPTIONS, 405 and 404."""
    by_path: dict[str, list[Route]] = {}
    for route in routes:
        by_path.setdefault(f"/{place.resource}{route.path}", []).append(route)
    blueprint.record(lambda setup: _refuse_conflicts(setup.app.url_map, _url_methods(setup, by_path)))
    _log_later_routes(blueprint, by_path)
    refuse = _refusal(place, by_path)
    fixed_paths = {path.rpartition("/")[2] for path in by_path if path.count("/") == 2}
    for path, some in by_path.items():
        for route in some:
            view = _view(route, place)
            if route.path == "/<conversation_id>":
                view = _except_fixed_paths(fixed_paths, view, refuse)
            blueprint.add_url_rule(path, route.name, view, methods=[route.method], provide_automatic_options=False)
    _answer_the_rest(blueprint, place, refuse)
    _answer_hosts_limits(blueprint, place)


class _Rest(PathConverter):
    """The rest of a URL behind our resource, also an empty one. All other routes, a host's too, take precedence."""

    regex, part_isolating = "(?:/.*)?", False
    weight = 1_000_000


def _answer_the_rest(blueprint: Blueprint, place: Mount, refuse: Callable[[str], Response]) -> None:
    """Answer a wrong method or path under our resource with a problem too."""
    blueprint.record(lambda setup: setup.app.url_map.converters.update(conversations_rest=_Rest))
    blueprint.add_url_rule(
        f"/{place.resource}<conversations_rest:rest>",
        "nothing_here",
        lambda rest: refuse(rest),
        methods=[*METHODS, "OPTIONS"],
        provide_automatic_options=False,
    )


def _refusal(place: Mount, by_path: Mapping[str, list[Route]]) -> Callable[[str], Response]:
    """The view of the fallback route. Its argument is the part of the path behind our resource."""
    methods_of = {path: {route.method for route in routes} for path, routes in by_path.items()}
    rules = [Rule(path, methods=methods) for path, methods in methods_of.items()]
    addresses = Map(rules, merge_slashes=False).bind("")

    def refuse(rest: str) -> Response:
        _set_mount(place)
        address = f"/{place.resource}{rest}"
        methods = methods_of.get(address) or addresses.allowed_methods(address)
        if not methods:
            return responses.problem(errors.NotFound("There is nothing at this address."))
        allowed = ", ".join(
            [*(method for method in METHODS if method in methods), *(["HEAD"] if "GET" in methods else []), "OPTIONS"]
        )
        if request.method == "OPTIONS":
            return Response(status=204, headers={"Allow": allowed})
        refusal = responses.problem(errors.MethodNotAllowed())
        refusal.headers["Allow"] = allowed
        return refusal

    return refuse


def _except_fixed_paths(
    fixed_paths: set[str], view: Callable[..., Response], refuse: Callable[[str], Response]
) -> Callable[..., Response]:
    """*view*, but *refuse* for the *fixed_paths*, which have routes with other methods."""

    def answer(conversation_id: str) -> Response:
        return (
            refuse(f"/{conversation_id}") if conversation_id in fixed_paths else view(conversation_id=conversation_id)
        )

    return answer


def _answer_hosts_limits(blueprint: Blueprint, place: Mount) -> None:
    """Answer a request that a rate limit of the host has refused before our view."""

    def answer(error: HTTPException) -> Response:
        _set_mount(place)
        refusal = responses.http_problem(error)
        wait = state().limiter.hosts_wait()
        if wait is not None:
            refusal.headers["Retry-After"] = str(wait)
        return refusal

    blueprint.register_error_handler(429, answer)


UrlMethods = Mapping[str, set[str]]
"""The methods by URL pattern, in which parameters have no names."""


def _url_methods(setup: BlueprintSetupState, by_path: Mapping[str, list[Route]]) -> UrlMethods:
    prefix = (setup.url_prefix or "").rstrip("/")
    return {_url_pattern(prefix + path): {route.method for route in routes} for path, routes in by_path.items()}


def _refuse_conflicts(urls: Map, ours: UrlMethods) -> None:
    """Raise `ConfigurationError` if a route of the host has one of our URLs."""
    for refusal in _conflicts(urls, ours):
        raise errors.ConfigurationError(refusal)


def _conflicts(urls: Map, ours: UrlMethods, own_name: str | None = None) -> Iterator[str]:
    """Yield a message for each route of the host that has one of our URLs."""
    for rule in urls.iter_rules():
        taken = ours.get(_url_pattern(rule.rule), set()) & (rule.methods or set())
        if taken and rule.endpoint.rpartition(".")[0] != own_name:
            yield (
                f"{sorted(taken)[0]} {rule.rule} is also answered by {rule.endpoint!r}. Mount the conversations elsewhere with "
                "CONVERSATIONS_URL_PREFIX or CONVERSATIONS_RESOURCE, or remove that route."
            )


def _log_later_routes(blueprint: Blueprint, by_path: Mapping[str, list[Route]]) -> None:
    """Log, at our first request, later routes of the host with our URLs: Flask has no hook for added routes."""
    waiting: list[tuple[Flask, UrlMethods, str]] = []
    lock = threading.Lock()

    def record_setup(setup: BlueprintSetupState) -> None:
        name = setup.name if not setup.name_prefix else f"{setup.name_prefix}.{setup.name}"
        waiting.append((cast("Flask", setup.app), _url_methods(setup, by_path), name))

    def log() -> None:
        if not waiting:
            return
        app = current_flask_app()
        with lock:  # the first requests may come at the same time
            unchecked = [each for each in waiting if each[0] is app]
            waiting[:] = [each for each in waiting if each[0] is not app]
        for _, ours, name in unchecked:
            for problem in _conflicts(app.url_map, ours, name):
                logger.error("%s", problem)

    blueprint.record(record_setup)
    blueprint.before_request(log)


def _url_pattern(rule: str) -> str:
    return re.sub(r"<[^>]*>", "<>", rule)


def _view(route: Route, place: Mount) -> Callable[..., Response]:
    def view(**arguments: str) -> Response:
        _set_mount(place)
        try:
            return _dispatch(route, place, arguments)
        except errors.ConversationsError as error:
            return responses.problem(_with_renamed_fields(error, place.case), place.case)
        except HTTPException as error:
            return responses.http_problem(error)
        except Exception as error:  # noqa: BLE001 -- the outermost handler: a bug must not show internals
            return responses.unexpected(error)

    return view


def _set_mount(place: Mount) -> None:
    responses.of_this_request().update(case=place.case, mount=place)


def _with_renamed_fields(error: errors.ConversationsError, case: str) -> errors.ConversationsError:
    if case == "camel" and isinstance(error, errors.ValidationFailed):
        error.rename_fields(to_camel)
    return error


def _dispatch(route: Route, place: Mount, arguments: dict[str, Any]) -> Response:
    request.max_content_length = _max_bytes()
    current = state()
    if not route.public:
        check_csrf(request, current.resolved(), current.config)
    if route.alternative is not None and route.alternative.takes(_json_body()):
        route = route.alternative.route
    if route.limit is not None:
        count_against(route.limit)
    if route.query is not None:
        arguments["query"] = _loaded(route.query, _query(place), "exclude")
    if route.body is not None:
        arguments["body"] = _loaded(route.body, _json_body() if route.verbatim else _request_body(place))
    if route.preconditions:
        _require_precondition(arguments.get("body") or {})
    with current.request_committed():
        begins_turn = route.turns is not None and route.turns(arguments)
        if route.method == "POST" and not route.public and not begins_turn and "Idempotency-Key" in request.headers:
            return _answer_once(route, place, arguments)
        return _response(route.view(**arguments), place)


def count_against(limit: str) -> None:
    """Count this request. Raises `RateLimited` above the limit."""
    current = state()
    wait = current.limiter.hit(limit, current.current_identity())
    if wait is not None:
        # no guest cookie for a client that has not created anything yet
        withhold_guest_cookie()
        raise errors.RateLimited(f"Too many requests. Try again in {_seconds(wait)}.", retry_after=wait)


def _seconds(number: int) -> str:
    return "1 second" if number == 1 else f"{number} seconds"


def _max_bytes() -> int:
    ours = state().config.max_request_bytes
    hosts = current_app.config.get("MAX_CONTENT_LENGTH")
    return int(ours if hosts is None else min(ours, hosts))


def _response(result: Any, place: Mount) -> Response:
    """The response of a view: its `Response`, or its payload with optional status and headers."""
    if isinstance(result, Response):
        return result
    payload, status, headers = result if isinstance(result, tuple) else (result, 200, {})
    return responses.json_answer(payload, status, headers, case=place.case)


def _query(place: Mount) -> dict[str, Any]:
    values = request.args.to_dict()
    if place.case == "camel":
        values = renamed(values)
    order = values.get("order")
    if place.case == "camel" and order:
        values["order"] = snake(order)
    return values


def _request_body(place: Mount) -> dict[str, Any]:
    return to_snake(_json_body()) if place.case == "camel" else _json_body()


def _json_body() -> dict[str, Any]:
    """The JSON object in the body with its original names; parsed once."""
    if "sent" not in (stored := responses.of_this_request()):
        stored["sent"] = _object()
    return cast("dict[str, Any]", stored["sent"])


def _object() -> dict[str, Any]:
    raw = _raw_body()
    if not raw.strip():
        if request.mimetype and not _is_json(request.mimetype):
            raise errors.UnsupportedMediaType
        return {}
    if not _is_json(request.mimetype):
        raise errors.UnsupportedMediaType
    try:
        value = rules.parse_json(raw)
    except errors.ValidationFailed:
        raise
    except ValueError:
        raise errors.MalformedRequest("The body is not valid JSON.") from None
    if not isinstance(value, dict):
        raise errors.ValidationFailed({"body": ["Not a valid object."]})
    _refuse_depth(value)
    return value


def _raw_body() -> bytes:
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise errors.UnsupportedMediaType("The body must not be compressed.")
    if "Transfer-Encoding" in request.headers and not request.environ.get("wsgi.input_terminated"):
        # without the end of the body from the server, werkzeug would read it as empty
        raise errors.MalformedRequest("This server does not read chunked bodies: send a Content-Length.")
    body = request.get_data(cache=True)
    if request.content_length is None and len(body) >= _max_bytes():
        # werkzeug cuts a body without a length at the limit
        raise errors.PayloadTooLarge
    return body


def _refuse_depth(body: dict[str, Any]) -> None:
    """Raise `ValidationFailed` for a member that is nested too deeply, before any recursion into it."""
    too_deep = {
        name: ["Nested too deeply."] for name, value in body.items() if rules.is_deeper(value, rules.MAX_DEPTH + 4)
    }
    if too_deep:
        raise errors.ValidationFailed(too_deep)


def _is_json(mimetype: str) -> bool:
    return mimetype == "application/json" or (mimetype.startswith("application/") and mimetype.endswith("+json"))


@functools.cache
def _schema_instance(schema: type[Schema]) -> Schema:
    """A shared instance of *schema*: loading does not change it, and creating one takes longer than a read from the cache."""
    return schema()


def _loaded(
    schema: type[Schema], values: Mapping[str, Any], unknown: Literal["exclude"] | None = None
) -> dict[str, Any]:
    try:
        return cast("dict[str, Any]", _schema_instance(schema).load(values, unknown=unknown))
    except ValidationError as error:
        raise errors.ValidationFailed(error.messages_dict) from None


def _require_precondition(body: Mapping[str, Any]) -> None:
    """Raise `PreconditionRequired` for a change without a version, if the host requires one."""
    named = body.get("expected_version", body.get("base_version"))
    if state().config.require_preconditions and named is None and "If-Match" not in request.headers:
        raise errors.PreconditionRequired


def _answer_once(route: Route, place: Mount, arguments: dict[str, Any]) -> Response:
    """Answer a POST with an Idempotency-Key: effect and answer are stored in one transaction, a retry gets the same answer."""
    known = idempotency()
    assert known is not None
    key, mark = known
    scope, units = f"POST {route.name}", state().current_units()
    stored = http.answer_once(units, scope, key, mark, lambda: _stored_answer(route.view(**_copied(arguments)), place))
    answer = Response(
        stored.result["body"], stored.result["status"], stored.result["headers"], mimetype=stored.result["mimetype"]
    )
    if stored.replayed:
        answer.status_code = 200
        answer.headers["Idempotency-Replayed"] = "true"
    return answer


def _copied(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """A copy for each call of a view: it is called again after a conflict, and removes members of the body."""
    return {name: dict(value) if isinstance(value, dict) else value for name, value in arguments.items()}


def idempotency() -> tuple[str, str] | None:
    """The Idempotency-Key of the request, and the fingerprint of path, query and body; None without a key."""
    if "Idempotency-Key" not in request.headers:
        return None
    key = request.headers["Idempotency-Key"].strip()
    if not re.fullmatch(r"[\x21-\x7e]{1,255}", key):
        raise errors.MalformedRequest("An Idempotency-Key is 1 to 255 visible ASCII characters.")
    payload = {
        "path": request.path,
        "query": sorted(request.args.items(multi=True)),
        "body": request.get_data().decode("utf-8", "replace"),
    }
    return key, canonical.fingerprint(payload)


def _stored_answer(result: Any, place: Mount) -> dict[str, Any]:
    answer = _response(result, place)
    headers = {
        name: value for name, value in answer.headers.items() if name in ("Location", "ETag", "Idempotency-Replayed")
    }
    return {
        "status": answer.status_code,
        "headers": headers,
        "mimetype": answer.mimetype,
        "body": answer.get_data(as_text=True),
        "conversation_id": _conversation_of(result),
    }


def _conversation_of(result: Any) -> Any:
    """The conversation id in the result of a view; None if it has none."""
    payload = result[0] if isinstance(result, tuple) else result
    if isinstance(payload, list) and payload:
        payload = payload[0]
    return payload.get("conversation_id") or payload.get("id") if isinstance(payload, Mapping) else None
