"""Responses: JSON, problems (RFC 9457), entity tags, and the headers of every answer."""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from flask import Request, Response, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from .. import errors
from ..schemas.common import encoded
from .case import to_camel

if TYPE_CHECKING:
    from werkzeug.local import LocalProxy

_request = cast("LocalProxy[Request]", request)

logger = logging.getLogger("flask_conversations")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)


def json_answer(
    payload: Any, status: int = 200, headers: Mapping[str, str] | None = None, *, case: str = "snake"
) -> Response:
    """*payload* as JSON with names in *case*."""
    body = encoded(to_camel(payload) if case == "camel" else payload)
    return ready_answer(body, status, headers)


def ready_answer(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A response with encoded JSON text."""
    return Response(body, status, dict(headers or {}), mimetype="application/json")


def request_id() -> str:
    """The id of this request: the client's `X-Request-ID` if it is valid, else a new one."""
    stored = of_this_request()
    if "id" not in stored:
        given = request.headers.get("X-Request-ID", "")
        stored["id"] = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
    return str(stored["id"])


def of_this_request() -> dict[str, Any]:
    """The data of the current request: its id, its mount, and its JSON body."""
    # on the request, not on g: g belongs to an app context, which may outlive a request and serve the next
    stored: dict[str, Any] = vars(_request._get_current_object()).setdefault("_flask_conversations_api", {})
    return stored


def problem(error: errors.ConversationsError, case: str | None = None) -> Response:
    """The answer to a `ConversationsError`, in a route of the API or of the host."""
    case = case or of_this_request().get("case", "snake")
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "request_id": request_id(),
        "retryable": error.retryable,
    }
    if isinstance(error, errors.ValidationFailed) and error.errors:
        body["errors"] = error.errors
    if isinstance(error, errors.VersionConflict) and error.current is not None:
        body["current"] = error.current
    if error.status >= 500:
        # the detail goes to the log for the operator; the client gets the docstring of the class
        logger.error("%s (request %s): %s", error.detail, request_id(), errors.redacted_traceback(error))
        body["detail"] = (type(error).__doc__ or "").strip().splitlines()[0]
    answer = json_answer(body, error.status, _problem_headers(error), case=case or "snake")
    answer.mimetype = "application/problem+json"
    return answer


def _problem_headers(error: errors.ConversationsError) -> dict[str, str]:
    headers = {}
    if error.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="conversations"'
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, errors.VersionConflict) and error.current is not None:
        headers["ETag"] = f'"{error.current["etag"]}"'
    return headers


_BY_STATUS = {
    400: errors.MalformedRequest,
    404: errors.NotFound,
    405: errors.MethodNotAllowed,
    413: errors.PayloadTooLarge,
    415: errors.UnsupportedMediaType,
    429: errors.RateLimited,
}


def http_problem(error: HTTPException) -> Response:
    """A werkzeug error in a route of the API as a problem, for example from a rate limit of the host."""
    if error.response is not None:
        return cast("Response", error.response)
    if isinstance(error, RequestEntityTooLarge):
        return problem(errors.PayloadTooLarge())
    status = error.code or 500
    known = _BY_STATUS.get(status)
    ours = known() if known else errors.ConversationsError(error.description)
    if known is None:
        ours.status, ours.title, ours.code = status, error.name, error.name.lower().replace(" ", "_")
        ours.retryable = status in (429, 502, 503, 504)
    answer = problem(ours)
    for name, value in error.get_headers():
        if name.lower() not in ("content-type", "content-length"):
            answer.headers[name] = value
    return answer


def unexpected(error: Exception) -> Response:
    """Log an unexpected error of the API or of a hook, and answer without internals."""
    logger.error("Unexpected error (request %s): %s", request_id(), errors.redacted_traceback(error))
    return problem(errors.ConversationsError())


def finished(answer: Response) -> Response:
    """Add the headers of every answer of the API."""
    headers = answer.headers
    headers["X-Request-ID"] = request_id()
    headers.setdefault("X-Content-Type-Options", "nosniff")
    # most answers have neither; parsing them with werkzeug takes longer than a read from the cache
    if "Cache-Control" not in headers:
        headers["Cache-Control"] = "private, no-store"
    elif answer.cache_control.public:
        return answer
    if "Vary" not in headers:
        headers["Vary"] = "Authorization, Cookie"
    else:
        answer.vary.update(("Authorization", "Cookie"))
    return answer


def matches(header: str | None, etag: str) -> bool:
    """Whether a list of entity tags names *etag*. Weak tags match too, because compressing proxies add the prefix."""
    if header is None:
        return False
    tags = re.findall(r'\*|(?:[Ww]/)?"([^"]*)"', header)
    return header.strip() == "*" or etag in tags


def is_entity_tags(header: str) -> bool:
    """Whether a header is `*` or a list of quoted tags."""
    tag = r'(?:[Ww]/)?"[^"\x00-\x20]*"'
    return re.fullmatch(rf"\s*(?:\*|{tag}(?:\s*,\s*{tag})*)\s*", header) is not None
