"""Checks that an answer is one that the OpenAPI description allows, and that it leaks nothing."""

from __future__ import annotations

import copy
import functools
import json
from typing import Any

import jsonschema_rs

LEAKS = ("Traceback", "sqlalchemy", "psycopg", "sqlite3", "SELECT ", "INSERT ", "UPDATE conv", "site-packages", '.py"')


class Judge:
    """Knows one description. Raises `AssertionError` for an answer that contradicts it."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = closed(document)
        self._problem = self._validator({"$ref": "#/components/schemas/Problem"})

    @functools.cache  # noqa: B019 -- as long as the judge
    def _of(self, operation_id: str, status: int) -> tuple[Any, dict[str, Any]]:
        operation = next(
            one
            for path in self.document["paths"].values()
            for one in path.values()
            if one["operationId"] == operation_id
        )
        assert str(status) in operation["responses"], f"{operation_id} does not describe {status}"
        answer = operation["responses"][str(status)]
        if "$ref" in answer:
            answer = self.document["components"]["responses"][answer["$ref"].rpartition("/")[2]]
        schema = answer.get("content", {}).get("application/json", {}).get("schema")
        return (self._validator(schema) if schema else None), answer

    def _validator(self, schema: dict[str, Any]) -> Any:
        return jsonschema_rs.Draft202012Validator({**schema, "components": self.document["components"]})

    def judge(self, operation_id: str | None, answer: Any) -> Any:
        """The JSON of *answer*, None if it has none."""
        assert answer.status_code < 500, f"{answer.status_code}: {answer.get_data(as_text=True)[:500]}"
        assert answer.headers.get("X-Request-ID"), "no request id"
        text = answer.get_data(as_text=True)
        assert "\\ud8" not in text.lower(), "a lone surrogate in the answer"
        leaked = [leak for leak in LEAKS if leak in text]
        assert not leaked or answer.mimetype.startswith("text/"), f"the answer leaks {leaked}"
        if answer.status_code >= 400:
            return self.problem(answer, operation_id)
        if operation_id is None:
            return None
        validator, described = self._of(operation_id, answer.status_code)
        self._check_headers(answer, described)
        if validator is None:
            return None
        assert answer.mimetype == "application/json", answer.mimetype
        body = json.loads(text, parse_constant=_refuse)
        _check(validator, body)
        return body

    def problem(self, answer: Any, operation_id: str | None = None) -> Any:
        """The JSON of an error: a problem, with its own status inside, described for this operation."""
        assert answer.mimetype == "application/problem+json", f"{answer.status_code} {answer.mimetype}"
        body = json.loads(answer.get_data(as_text=True), parse_constant=_refuse)
        _check(self._problem, body)
        assert body["status"] == answer.status_code
        assert body.get("request_id", body.get("requestId")) == answer.headers["X-Request-ID"]
        assert answer.status_code != 422 or body.get("errors") or body["code"] == "idempotency_key_reused", body
        if operation_id is not None:
            self._of(operation_id, answer.status_code)
        return body

    def _check_headers(self, answer: Any, described: dict[str, Any]) -> None:
        sometimes = {"Idempotency-Replayed", "Retry-After"}
        missing = [name for name in described["headers"] if name not in answer.headers and name not in sometimes]
        assert not missing, f"the answer lacks {missing}"


def closed(document: dict[str, Any]) -> dict[str, Any]:
    """The description with every object closed that names its members: an answer may have no other members."""
    document = copy.deepcopy(document)
    for name, schema in document["components"]["schemas"].items():
        if "properties" in schema and name != "Part":
            schema["additionalProperties"] = False
    return document


def _check(validator: Any, body: Any) -> None:
    wrong = [
        f"{'/'.join(map(str, error.instance_path))}: {error.message}"[:500] for error in validator.iter_errors(body)
    ]
    assert not wrong, wrong[:3]


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} in an answer")
