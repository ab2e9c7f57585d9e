"""What tests of the commands share: running them, and spoiling rows the way something that is not us would."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from click.testing import Result
from flask import Flask

from flask_conversations.ops.finding import Finding
from flask_conversations.ops.verify import Verification
from flask_conversations.service.unit_of_work import Units

MARK = "a-word-that-no-report-may-repeat"


def run(app: Flask, *arguments: str, code: int = 0, **options: Any) -> str:
    """The output of `flask conversations <arguments>`, which ends with *code*."""
    result: Result = app.test_cli_runner().invoke(args=["conversations", *arguments], **options)
    assert result.exit_code == code, (result.output, result.exception, result.exc_info)
    assert "Traceback" not in result.output
    assert MARK not in result.output
    return str(result.output)


def verified(app: Flask, *arguments: str, code: int = 0) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The findings of `verify --json`, and its summary."""
    said = run(app, "verify", "--json", *arguments, code=code)
    # on a slow machine there are lines of progress between, which a terminal gets from the standard error
    lines = [json.loads(line) for line in said.splitlines() if not line.endswith(" ...")]
    return lines[:-1], lines[-1]["summary"]


def kinds(findings: list[dict[str, Any]]) -> set[str]:
    return {finding["kind"] for finding in findings}


def looked(app: Flask) -> list[Finding]:
    """What a walk over everything finds, without the command around it."""
    with app.app_context():
        backend = app.extensions["flask_conversations"].backend
        return [each for one in Verification(Units(lambda: backend, None)).walk() for each in one.findings]


def spoil(app: Flask, *statements: str, **parameters: Any) -> None:
    """Run raw SQL in one transaction that no foreign key looks at; *parameters* that are ids are written as this database does."""
    with app.app_context(), app.db.engine.begin() as connection:  # type: ignore[attr-defined]
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        else:
            parameters = {name: _bare(value) for name, value in parameters.items()}
        for statement in statements:
            connection.execute(sa.text(statement), {k: v for k, v in parameters.items() if f":{k}" in statement})


def _bare(value: Any) -> Any:
    is_id = isinstance(value, str) and len(value) == 36 and value.count("-") == 4
    return value.replace("-", "") if is_id else value
