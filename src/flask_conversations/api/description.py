"""The OpenAPI description of a mount over HTTP, and a page for it that works offline."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flask import Response, request, send_from_directory

from .case import camel, to_camel
from .responses import of_this_request
from .routing import Mount, Routes

routes = Routes()

STATIC = Path(__file__).parent.parent / "static"
"""The files for browsers: this page, and `openapi.json` of the default mount, which `docs/openapi.py` generates."""

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page may load its own files only."""

_TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".json": "application/json"}


@routes.add("GET", "/openapi.json", answers={200: "The description", 304: "Not modified"}, public=True)
def get_description() -> Response:
    """Get this description."""
    place: Mount = of_this_request()["mount"]
    # the client sees this before our path, including the prefix of a host or proxy
    server = (request.root_path + request.path).removesuffix(f"/{place.resource}/openapi.json")
    body, etag = _encoded_description(place.resource, place.case, server)
    answer = Response(body, mimetype="application/json")
    answer.set_etag(etag)
    return _revalidated(answer)


@routes.add("GET", "/docs", answers={200: "The page", 304: "Not modified"}, public=True)
def get_docs_page() -> Response:
    """Get a page that shows this description."""
    answer = _file("docs.html")
    answer.headers["Content-Security-Policy"] = PAGE_POLICY
    answer.headers["Referrer-Policy"] = "no-referrer"
    return answer


@routes.add("GET", "/static/<filename>", answers={200: "The file", 304: "Not modified"}, public=True)
def get_static_file(filename: str) -> Response:
    """Get a file of the package that runs in browsers."""
    return _file(filename)


def _file(name: str) -> Response:
    # not from the system's MIME table: browsers refuse a module of another type
    return _revalidated(send_from_directory(STATIC, name, mimetype=_TYPES.get(Path(name).suffix), conditional=False))


def _revalidated(answer: Response) -> Response:
    """Let any cache keep *answer* and revalidate it each time, so that an upgrade shows at once."""
    answer.cache_control.public = True
    answer.cache_control.no_cache = True
    answer.make_conditional(request)
    return answer


@functools.lru_cache(maxsize=32)
def _encoded_description(resource: str, case: str, server: str) -> tuple[bytes, str]:
    body = json.dumps(described(resource, case, server), ensure_ascii=False, separators=(",", ":")).encode()
    return body, hashlib.sha256(body).hexdigest()[:32]


def described(resource: str, case: str, server: str) -> dict[str, Any]:
    """The shipped description with the JSON case and the paths of one mount."""
    document: dict[str, Any] = json.loads((STATIC / "openapi.json").read_text("utf-8"))
    if case == "camel":
        document = _Camel(document).document
    document["servers"] = [{"url": server or "/"}]
    document["paths"] = {
        f"/{resource}" + path.removeprefix("/conversations"): operations
        for path, operations in document["paths"].items()
    }
    return document


class _Camel:
    """A description with the camelCase names of the API; codes, operation ids and opaque values stay."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._names = {name for name in _own_names(document) if "_" in name}
        self.document: dict[str, Any] = self._converted(document)
        self.document["paths"] = {
            re.sub(r"\{(\w+)\}", lambda found: f"{{{camel(found[1])}}}", path): operations
            for path, operations in self.document["paths"].items()
        }

    def _converted(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._converted(one) for one in value]
        if not isinstance(value, dict):
            return value
        found = {key: self._member(key, one) for key, one in value.items()}
        if _is_parameter(value):
            found["name"] = camel(value["name"])
            if value["name"] == "order":
                found["schema"] = to_camel_values(found["schema"])
        return found

    def _member(self, key: str, value: Any) -> Any:
        if key == "properties":
            return {camel(name): self._converted(one) for name, one in value.items()}
        if key == "required" and isinstance(value, list):
            return [camel(name) for name in value]
        if key in ("example", "examples"):
            return to_camel(value)
        if key == "description" and isinstance(value, str):
            return re.sub(r"`(\w+)`", lambda found: f"`{self._name(found[1])}`", value)
        return self._converted(value)

    def _name(self, word: str) -> str:
        return camel(word) if word in self._names else word


def to_camel_values(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a parameter whose values are member names."""
    return {
        **schema,
        "enum": [camel(value) for value in schema["enum"]],
        "default": camel(schema["default"]),
    }


def _own_names(value: Any) -> Iterator[str]:
    """The names of all members and parameters that a description declares."""
    if isinstance(value, list):
        for one in value:
            yield from _own_names(one)
    elif isinstance(value, dict):
        yield from value.get("properties", {})
        if _is_parameter(value):
            yield value["name"]
        for one in value.values():
            yield from _own_names(one)


def _is_parameter(value: dict[str, Any]) -> bool:
    return value.get("in") in ("query", "path") and isinstance(value.get("name"), str)
