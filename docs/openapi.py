"""Write static/openapi.json from the routes and their schemas: `python docs/openapi.py`. A test checks that it is current.

apispec turns the marshmallow schemas that the API itself loads into JSON Schema. The schemas of answers follow from the types
that the service and the routes return, and the sentences of the catalogue of fields describe their members.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import json
import re
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from marshmallow import Schema

from flask_conversations import api, errors
from flask_conversations.api.ai_sdk import requests
from flask_conversations.api.description import STATIC
from flask_conversations.api.routing import Route
from flask_conversations.schemas import fields, http_schemas, types

FILE = STATIC / "openapi.json"
RESOURCE = "/conversations"

ABOUT = """\
Durable chat conversations, each user's apart from all others.

- Every request acts for the user it carries the proof of: a bearer token, or the host app's login cookie. Another user's \
conversation answers like one that does not exist.
- A request with a cookie that changes something must come from a page of the same site, or carry `X-CSRF-Token`.
- Errors are `application/problem+json` (RFC 9457) with a `code` for programs. Unknown members of a body are refused.
- Text contains neither NUL nor lone surrogates; numbers are finite and smaller than 2^1023; JSON nests at most 64 levels. \
Anything else is 422.
- An id in a path is the id or the client's own id of the thing.
- Each path also answers HEAD where it answers GET, OPTIONS with 204 and `Allow`, and any other method with 405 and `Allow`.
- Every answer carries `X-Request-ID`.
"""

ID = "019aa5d2-7f1c-7c3e-9a44-3b1f0c5d8e21"
QUESTION_ID = "019aa5d2-8a07-7b61-8f0d-6c2e9b7a4410"
ANSWER_ID = "019aa5d2-93b5-7d92-a1c8-0e5f7d3b6a92"

CONVERSATION = {
    "id": ID,
    "client_id": None,
    "org_id": "acme",
    "user_id": "ada",
    "title": "What is a bee's favourite food?",
    "title_source": "auto",
    "preview": "Nectar, and pollen for the young.",
    "status": "active",
    "starred": False,
    "folder": None,
    "tags": ["bees"],
    "context_type": "page",
    "context_id": "42",
    "page_context": None,
    "metadata": {"opened_from": "sidebar"},
    "temporary": False,
    "message_count": 2,
    "version": 3,
    "checksum": "8c1f3a5b7d9e0246",
    "etag": "3-5f0c9a17",
    "created_at": "2026-11-21T10:15:00.000000Z",
    "updated_at": "2026-11-21T10:15:04.250000Z",
    "last_message_at": "2026-11-21T10:15:04.250000Z",
    "last_activity_at": "2026-11-21T10:15:04.250000Z",
    "archived_at": None,
    "resolved_at": None,
    "deleted_at": None,
}


def message(**members: Any) -> dict[str, Any]:
    """The example of a message."""
    return {
        "id": QUESTION_ID,
        "conversation_id": ID,
        "client_id": None,
        "seq": 1,
        "parent_id": None,
        "version": 2,
        "role": "user",
        "type": "text",
        "content": "What is a bee's favourite food?",
        "parts": None,
        "raw": None,
        "status": "delivered",
        "action_type": None,
        "action_params": None,
        "action_result": None,
        "action_status": None,
        "component_type": None,
        "component_data": None,
        "attachments": [],
        "contexts": [],
        "metadata": None,
        "model": None,
        "tokens_used": None,
        "usage": None,
        "latency_ms": None,
        "rating": None,
        "feedback": None,
        "created_at": "2026-11-21T10:15:01.000000Z",
        "updated_at": "2026-11-21T10:15:01.000000Z",
        "edited_at": None,
        **members,
    }


QUESTION = message(client_id="draft-17")
ANSWER = message(
    id=ANSWER_ID,
    seq=2,
    parent_id=QUESTION_ID,
    version=3,
    role="assistant",
    content="Nectar, and pollen for the young.",
    model="bee-1",
    tokens_used=9,
    usage={"input_tokens": 12, "output_tokens": 9},
    rating="up",
    feedback={"rating": "up", "reason": "helpful", "comment": None},
    created_at="2026-11-21T10:15:04.250000Z",
    updated_at="2026-11-21T10:15:09.500000Z",
)
BRANCH = {
    "conversation_id": ID,
    "name": "in winter",
    "head_id": ANSWER_ID,
    "active": False,
    "created_at": "2026-11-21T10:16:00.000000Z",
    "preview": "Nectar, and pollen for the young.",
}
PAGE = {"messages": [QUESTION, ANSWER], "next_cursor": None, "has_more": False}
TURN = {
    "id": "019aa5d2-8b10-7e02-b7a1-41d0c2f9e3a7",
    "conversation_id": ID,
    "kind": "send",
    "protocol": None,
    "state": "idle",
    "outcome": "completed",
    "question_id": QUESTION_ID,
    "answer_id": ANSWER_ID,
    "error": None,
    "created_at": "2026-11-21T10:15:01.000000Z",
    "started_at": "2026-11-21T10:15:01.000000Z",
    "updated_at": "2026-11-21T10:15:04.250000Z",
    "ended_at": "2026-11-21T10:15:04.250000Z",
}
STATE = {
    "conversation": CONVERSATION,
    **PAGE,
    "siblings": {},
    "state": "idle",
    "turn": TURN,
    "pending_actions": [],
    "waiting": [],
    "branches": [{**BRANCH, "name": "main", "active": True}],
    "version": 3,
    "checksum": "8c1f3a5b7d9e0246",
}

EXAMPLES: dict[type, Any] = {
    http_schemas.ConversationIn: {
        "title": "Bees",
        "tags": ["bees"],
        "messages": [{"role": "user", "content": "What is a bee's favourite food?"}],
    },
    http_schemas.ConversationPatch: {"title": "All about bees", "starred": True},
    http_schemas.Snapshot: {
        "title": "All about bees",
        "messages": [
            {"role": "user", "content": "What is a bee's favourite food?"},
            {"role": "assistant", "content": "Nectar, and pollen for the young."},
            {"role": "user", "content": "And in winter?"},
        ],
        "base_version": 3,
    },
    http_schemas.MessageIn: {"content": "What is a bee's favourite food?", "client_id": "draft-17"},
    http_schemas.MessagePatch: {"content": "What do bees eat?"},
    http_schemas.FeedbackIn: {"rating": "up", "reason": "helpful"},
    http_schemas.BranchIn: {"from_message_id": ANSWER_ID, "name": "in winter"},
    http_schemas.ForkIn: {"at_message_id": ANSWER_ID, "title": "Bees in winter"},
    http_schemas.Empty: {},
    http_schemas.SendIn: {"content": "What is a bee's favourite food?", "client_id": "draft-17"},
    http_schemas.EditIn: {"message_id": QUESTION_ID, "content": "What do bees eat in winter?"},
    http_schemas.RegenerateIn: {"message_id": ANSWER_ID},
    http_schemas.ApproveIn: {"tool_call_ids": ["call_7"], "approved": True},
    types.State: STATE,
    types.Conversation: CONVERSATION,
    http_schemas.ConversationPage: {"conversations": [CONVERSATION], "next_cursor": None, "has_more": False},
    http_schemas.ConversationWithMessages: {**CONVERSATION, **PAGE},
    http_schemas.SavedSnapshot: {**CONVERSATION, **PAGE, "outcome": "saved", "conflicts": []},
    types.Message: ANSWER,
    types.MessagePage: {**PAGE, "version": 3},
    types.Branch: BRANCH,
    types.BranchList: {"branches": [{**BRANCH, "name": "main", "active": True}, BRANCH]},
    http_schemas.BranchDeleted: {"success": True, "conversation_id": ID, "name": "in winter"},
    http_schemas.Deleted: {"success": True, "id": ID, "permanent": False},
    http_schemas.Claimed: {"claimed": 2},
}

MEANINGS: dict[type, str] = {
    types.Conversation: "The conversation",
    http_schemas.ConversationPage: "A page of conversations",
    http_schemas.ConversationWithMessages: "The conversation with its newest messages",
    http_schemas.SavedSnapshot: "The conversation as it is now, and what became of the snapshot",
    types.Message: "The message",
    types.MessagePage: "A page of messages",
    types.State: "All that a page shows of the conversation",
    types.Branch: "The branch",
    types.BranchList: "The branches",
    http_schemas.BranchDeleted: "Which branch was forgotten",
    http_schemas.Deleted: "What was deleted",
    http_schemas.Claimed: "How many conversations moved",
    requests.UIMessagePage: "A page of messages as the AI SDK shows them",
}

HEADERS = {
    "ETag": ("The version of what is answered, for If-Match and If-None-Match.", {"type": "string"}),
    "Location": ("The address of what was created.", {"type": "string", "format": "uri-reference"}),
    "X-Request-ID": ("The id of this request: the caller's `X-Request-ID`, else our own.", {"type": "string"}),
    "Idempotency-Replayed": (
        "`true` on the answer to a request that was answered before and not done again.",
        {"type": "string", "enum": ["true"]},
    ),
    "Retry-After": ("Seconds to wait before another try.", {"type": "string"}),
    "WWW-Authenticate": ("How to log in.", {"type": "string"}),
}

PARAMETERS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "conversation_id": ("conversation_id", "path", "The conversation: its id or client id.", {"type": "string"}),
    "message_id": ("message_id", "path", "The message: its id or client id.", {"type": "string"}),
    "branch": ("branch", "path", "The name of a branch; to switch, or the id of a message.", {"type": "string"}),
    "filename": ("filename", "path", "The name of the file.", {"type": "string"}),
    "If-Match": (
        "If-Match",
        "header",
        "Do it only if this is the entity tag as it is now, else 412. A weak tag counts like a strong one.",
        {"type": "string"},
    ),
    "If-None-Match": ("If-None-Match", "header", "Answer 304 if this is still the entity tag.", {"type": "string"}),
    "Idempotency-Key": (
        "Idempotency-Key",
        "header",
        "The same key with the same request is done once; later answers repeat the first. Kept for a day.",
        {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[\\x21-\\x7e]+$"},
    ),
    "Last-Event-ID": (
        "Last-Event-ID",
        "header",
        "The `id` of the last event that has arrived: what follows is what came after it.",
        {"type": "string"},
    ),
    "Prefer": (
        "Prefer",
        "header",
        "`respond-async`: answer 202 at once, and let the turn go on.",
        {"type": "string"},
    ),
    "X-CSRF-Token": (
        "X-CSRF-Token",
        "header",
        "Proof that a request with a cookie comes from this site, where the browser does not say so itself.",
        {"type": "string"},
    ),
    "X-Request-ID": (
        "X-Request-ID",
        "header",
        "An id of the caller's own for this request, taken over if it is 1 to 128 of `A-Za-z0-9._-`.",
        {"type": "string"},
    ),
}

REFUSALS: dict[str, tuple[type[errors.ConversationsError], str, list[str]]] = {
    "Malformed": (errors.MalformedRequest, "The body is no JSON, or a header is malformed", []),
    "Unauthorized": (errors.IdentityRequired, "No user is logged in", ["WWW-Authenticate"]),
    "Forbidden": (
        errors.CsrfFailed,
        "No proof that a request with a cookie comes from this site; or another user's conversation, where the host says so",
        [],
    ),
    "NotFound": (errors.ConversationNotFound, "There is no such thing, or it is not yours", []),
    "Conflict": (
        errors.VersionConflict,
        "The id is taken, the version is another, or the first request with this key is still running",
        ["ETag", "Retry-After"],
    ),
    "PreconditionFailed": (errors.PreconditionFailed, "If-Match failed; `current` is the conversation now", ["ETag"]),
    "TooLarge": (errors.PayloadTooLarge, "The body is larger than this server takes", []),
    "UnsupportedMediaType": (errors.UnsupportedMediaType, "The body is not sent as JSON, or is compressed", []),
    "Invalid": (errors.ValidationFailed, "Some fields are not valid; `errors` names them", []),
    "PreconditionRequired": (errors.PreconditionRequired, "The host wants If-Match or a version with each change", []),
    "RateLimited": (errors.RateLimited, "Too many requests", ["Retry-After"]),
    "Failed": (errors.ConversationsError, "A bug; the log knows the request by its id", []),
    "Unavailable": (errors.StorageUnavailable, "The storage does not answer at the moment", ["Retry-After"]),
}
"""Component name -> the error of its example, what it means, and its headers."""


def description() -> dict[str, Any]:
    """The description of the default mount."""
    spec = APISpec(
        title="Flask-Conversations",
        version=importlib.metadata.version("flask-conversations"),
        openapi_version="3.1.0",
        plugins=[
            MarshmallowPlugin(schema_name_resolver=lambda schema: getattr(schema, "__name__", type(schema).__name__))
        ],
        info={"description": ABOUT, "license": {"name": "MIT", "identifier": "MIT"}},
        servers=[{"url": "/api"}],
        security=[{"bearer": []}, {"cookie": []}],
        tags=[
            {"name": "Conversations", "description": "What a user talks about, and where it stands."},
            {"name": "Messages", "description": "What was said."},
            {"name": "Turns", "description": "Questions that the server answers, and what happens meanwhile."},
            {"name": "Branches", "description": "Other ways on from a message."},
            {"name": "Description", "description": "This description. Public: no login is asked for."},
        ],
    )
    spec.components.schema("Part", PART)
    reference(spec, http_schemas.Problem)
    components(spec)
    for path in dict.fromkeys(route.path for route in api.all_routes()):
        some = [route for route in api.all_routes() if route.path == path]
        spec.path(
            re.sub(r"<(\w+)>", r"{\1}", RESOURCE + path),
            operations={r.method.lower(): operation(spec, r) for r in some},
        )
    return {"openapi": spec.openapi_version.public, **with_documentation(spec.to_dict())}


PART = {
    "type": "object",
    "description": "A part of a content: text, or anything else with a type, which is kept as it is.",
    "properties": {
        "type": {"type": "string"},
        "text": {"type": "string", "description": "The text of a part of type `text`, which must have one."},
    },
    "required": ["type"],
    "additionalProperties": True,
}

NOUNS = {types.Message: fields.MESSAGE, types.Conversation: fields.CONVERSATION, types.Turn: fields.TURN}
"""The types whose members the catalogue describes, and those that extend them."""

PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


def reference(spec: APISpec, kind: type) -> dict[str, Any]:
    """A reference to the component of a TypedDict, which is made once."""
    if kind.__name__ not in spec.components.schemas:
        spec.components.schemas[kind.__name__] = {}  # a type may refer to itself
        noun = next(
            (noun for base, noun in NOUNS.items() if base.__annotations__.keys() <= kind.__annotations__.keys()), {}
        )
        members = {name: schema_of(spec, hint) for name, hint in get_type_hints(kind, include_extras=True).items()}
        for name, member in members.items():
            if name in noun and noun[name].sentence:
                member["description"] = noun[name].sentence
        spec.components.schemas[kind.__name__] = {
            "type": "object",
            "properties": members,
            "required": [name for name in members if name in kind.__required_keys__],  # type: ignore[attr-defined]
            "description": inspect.cleandoc(kind.__doc__ or ""),
        }
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


def schema_of(spec: APISpec, hint: Any) -> dict[str, Any]:
    """The JSON Schema of a type that is used in `schemas.types`."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return {**schema_of(spec, arguments[0]), **arguments[1].keywords}
    if origin is Literal:
        return {"type": "string", "enum": list(arguments)}
    if origin in (Union, UnionType):
        return either([schema_of(spec, one) for one in arguments])
    if origin is list:
        return {"type": "array", "items": schema_of(spec, arguments[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": schema_of(spec, arguments[1]) or True}
    if is_typeddict(hint):
        return reference(spec, hint)
    return {} if hint is Any else {"type": PLAIN[hint]}


def either(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    """The schema of a union: one with several types where it can be."""
    if all("type" in one for one in schemas):
        return {name: value for one in schemas for name, value in one.items()} | {
            "type": [one["type"] for one in schemas]
        }
    return {"anyOf": schemas}


def with_documentation(document: dict[str, Any]) -> dict[str, Any]:
    """The docstrings of the forms are their descriptions; each example stands with its schema, once."""
    schemas = document["components"]["schemas"]
    for form in forms(http_schemas.Form):
        if form.__name__ in schemas:
            schemas[form.__name__]["description"] = form.__doc__
    for kind, example in EXAMPLES.items():
        schemas[kind.__name__]["examples"] = [example]
    return document


def forms(kind: type[Schema]) -> Iterator[type[Schema]]:
    """All forms that derive from *kind*."""
    for form in kind.__subclasses__():
        yield form
        yield from forms(form)


def components(spec: APISpec) -> None:
    for name, (text, schema) in HEADERS.items():
        spec.components.header(name, {"description": text, "schema": schema})
    for name, (spelling, place, text, schema) in PARAMETERS.items():
        described = {"name": spelling, "description": text, "schema": schema}
        spec.components.parameter(component_name(name), place, described)
    for name, (error, text, headers) in REFUSALS.items():
        spec.components.response(name, refusal(error, text, headers))
    bearer = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "A token of the host app."}
    cookie = {
        "type": "apiKey",
        "in": "cookie",
        "name": "session",
        "description": "The host app's login, under the name that it has there.",
    }
    spec.components.security_scheme("bearer", bearer)
    spec.components.security_scheme("cookie", cookie)


def component_name(name: str) -> str:
    return name.replace("-", "")


def refusal(error: type[errors.ConversationsError], text: str, headers: list[str]) -> dict[str, Any]:
    problem = error({"title": ["Not a valid string."]}) if error is errors.ValidationFailed else error()
    example = {
        "type": "about:blank",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "code": problem.code,
        "request_id": "f1d2c3b4a5968778695a4b3c2d1e0f00",
        "retryable": problem.retryable,
    }
    if isinstance(problem, errors.ValidationFailed):
        example["errors"] = problem.errors
    if isinstance(problem, errors.VersionConflict):
        example["current"] = CONVERSATION
    return {
        "description": text,
        "headers": header_refs(*headers, "X-Request-ID"),
        "content": {
            "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}
        },
    }


def operation(spec: APISpec, route: Route) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "tags": [tag(route)],
        "parameters": list(parameters(route)),
        "responses": {str(status): answer for status, answer in sorted(responses(spec, route))},
    }
    if route.body is not None:
        found["requestBody"] = {
            "required": any(field.required for field in route.body().fields.values()),
            "content": {"application/json": {"schema": body_of(route)}},
        }
    if route.public:
        found["security"] = []
    return found


def body_of(route: Route) -> Any:
    """The schema of a body; of either where the AI SDK is answered at the same address."""
    return {"oneOf": [route.body, route.alternative.route.body]} if route.alternative is not None else route.body


def tag(route: Route) -> str:
    if route.public:
        return "Description"
    if "/branches" in route.path or route.path.endswith("/fork"):
        return "Branches"
    if "/actions/" in route.path or route.path.endswith(("/state", "/stream")):
        return "Turns"
    return "Messages" if "/messages" in route.path else "Conversations"


def parameters(route: Route) -> Iterator[Any]:
    yield from (component_name(name) for name in re.findall(r"<(\w+)>", route.path))
    if route.query is not None:
        yield {"in": "query", "schema": route.query}
    if route.if_match:
        yield component_name("If-Match")
    if 304 in route.answers:
        yield component_name("If-None-Match")
    if 204 in route.answers:
        yield component_name("Last-Event-ID")
    if 202 in route.answers:
        yield component_name("Prefer")
    if route.method == "POST":
        yield component_name("Idempotency-Key")
    if route.method != "GET":
        yield component_name("X-CSRF-Token")
    yield component_name("X-Request-ID")


def responses(spec: APISpec, route: Route) -> Iterator[tuple[int, Any]]:
    yield from ((status, answer(spec, route, status, what)) for status, what in route.answers.items())
    yield from ((REFUSALS[name][0].status, {"$ref": f"#/components/responses/{name}"}) for name in refusals(route))


def refusals(route: Route) -> Iterator[str]:
    if "<" in route.path:
        yield "NotFound"
    yield from ("RateLimited", "Failed")
    if route.public:
        return
    yield from ("Unauthorized", "Forbidden", "Unavailable")
    if route.body is not None:
        yield from ("TooLarge", "UnsupportedMediaType")
    if route.body is not None or route.query is not None:
        yield "Invalid"
    if route.body is not None or route.if_match or 204 in route.answers:
        yield "Malformed"
    if route.method == "POST" or route.preconditions or "/branches/" in route.path:
        yield "Conflict"
    if route.if_match:
        yield "PreconditionFailed"
    if route.preconditions:
        yield "PreconditionRequired"


def answer(spec: APISpec, route: Route, status: int, what: type | str) -> dict[str, Any]:
    headers = header_refs(*answer_headers(route, status, what), "X-Request-ID")
    if isinstance(what, str):
        return {"description": what, "headers": headers, **plain_content(route, status)}
    one = reference(spec, what)
    schema = {"type": "array", "items": one} if route.many else one
    meaning = MEANINGS.get(what, str(what.__doc__).partition(".")[0]) + (", in an array" if route.many else "")
    content = {"application/json": {"schema": schema}}
    if route.turns is not None and status == 200:
        content["text/event-stream"] = {"schema": {"type": "string", "description": "The events of the turn."}}
    if route.alternative is not None and status == 200:
        content["text/event-stream"] = {"schema": {"type": "string", "description": "The UI message stream."}}
    return {
        "description": meaning if status != 200 or 201 not in route.answers else f"{meaning}, saved before",
        "headers": headers,
        "content": content,
    }


def plain_content(route: Route, status: int) -> dict[str, Any]:
    """What public routes answer besides our own JSON."""
    if status in (204, 304):
        return {}
    if 204 in route.answers:
        return {"content": {"text/event-stream": {"schema": {"type": "string"}}}}
    kinds = {"/openapi.json": "application/json", "/docs": "text/html"}
    schema = {"type": "object"} if route.path == "/openapi.json" else {}
    return {"content": {kinds.get(route.path, "*/*"): {"schema": schema}}}


def answer_headers(route: Route, status: int, what: type | str) -> Iterator[str]:
    tagged = (
        204 not in route.answers
        if isinstance(what, str)
        else what in (types.Message, types.State) or "etag" in what.__annotations__
    )
    if tagged and not route.many and route.method != "DELETE":
        yield "ETag"
    if 201 in route.answers and what is not types.Branch:  # the name of a branch is no address
        yield "Location"
    if route.method == "POST" and status == 200:
        yield "Idempotency-Replayed"


def header_refs(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def text() -> str:
    """The text of the file."""
    return json.dumps(description(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
