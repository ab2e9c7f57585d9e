"""Runs the isolation matrix: sends each cell's request and lists in sentences what was not as declared."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from flask import Flask
from werkzeug.test import TestResponse

from .declared import STATES, VARIANTS, Table
from .world import ADA, MARKER, Target, World, client_of

PREFIX = "/api/conversations"
BLUEPRINT = "flask_conversations"
PUBLIC = ("/openapi.json", "/docs", "/static/<>")
CHANGING = ("POST", "PUT", "PATCH", "DELETE")

BODIES: dict[str, Any] = {
    "POST /{c}/actions/send_message": {"content": "taken over"},
    "POST /{c}/actions/edit": {"message_id": "{m}", "content": "taken over"},
    "POST /{c}/actions/regenerate": {},
    "POST /{c}/actions/approve_tools": {"tool_call_ids": ["call"]},
    "POST /{c}/actions/cancel": {},
    "PATCH /{c}": {"title": "taken over", "starred": True},
    "PUT /{c}": {"title": "taken over", "messages": [{"role": "user", "content": "taken over"}]},
    "PUT /{c} +force": {"messages": [{"role": "user", "content": "taken over"}], "force_overwrite": True},
    "POST /{c}/messages": {"content": "taken over"},
    "POST /{c}/messages +parent": {"content": "taken over", "parent_id": "{m}"},
    "PATCH /{c}/messages/{m}": {"content": "taken over"},
    "PUT /{c}/messages/{m}/feedback": {"rating": "up"},
    "POST /{c}/branches": {"from_message_id": "{m}"},
    "POST /{c}/fork +at": {"at_message_id": "{m}"},
    "POST /": {"title": "a new one"},
    "POST / +id": {"title": "a new one", "id": "{c}"},
}
QUERIES = {
    "GET / ?all": "?status=all&include=messages&limit=100",
    "GET / ?deleted": "?status=deleted&include=messages&limit=100",
    "GET /{c} ?before": "?before={m}",
    "GET /{c}/messages ?after": "?after={m}",
    "GET /{c} ?siblings": "?include=siblings",
    "GET /{c}/messages ?siblings": "?include=siblings",
    "GET /{c}/messages ?branch": "?branch={b}",
    "DELETE /{c} ?permanent": "?permanent=true",
}
HEADER_SETS: dict[str, dict[str, str]] = {
    "with the owner's entity tag and idempotency key": {
        "If-Match": '"{etag}"',
        "If-None-Match": '"{etag}"',
        "Idempotency-Key": "owners-key",
    },
    "with a stale entity tag": {"If-Match": '"1-0"'},
}


METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def rows(app: Flask) -> list[str]:
    """Every method at every path of the blueprint, `{c}`, `{m}` and `{b}` for its parameters, and the variants of those."""
    paths = set()
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith(f"{BLUEPRINT}."):
            path = rule.rule.removeprefix(PREFIX).replace("<conversation_id>", "{c}").replace("<message_id>", "{m}")
            path = path.replace("<branch>", "{b}")
            path = path.replace("<conversations_rest:rest>", "/no/such/path")
            path = re.sub("<.*>", "<>", path)
            paths.add(path or "/")
    found = [f"{method} {path}" for path in paths for method in METHODS]
    return sorted(found) + [variant for variant in VARIANTS if variant.rpartition(" ")[0] in found]


class Matrix:
    """One caller's cells on one world."""

    def __init__(self, world: World, caller: str, declared: Table, states: Sequence[str] = STATES) -> None:
        self.world, self.caller, self.declared, self.states = world, caller, declared, states
        self.client = client_of(world.app, caller)
        self.wrong: list[str] = []
        self.baseline = ""
        self.cells = 0
        self.sql: list[str] = []
        self.is_owner = caller.startswith("owner")

    def run(self, header_set: str = "plain", *, again: bool = False) -> None:
        """All rows; *again* without those that look at nothing; with headers beyond the plain ones, only what is denied."""
        self.baseline = self.world.digest()
        with self._listening():
            for row in rows(self.world.app):
                if row not in self.declared:
                    self.wrong.append(f"{row} is not declared for {self.caller}: add it to tests/isolation/declared.py")
                elif not again or not self._looks_at_nothing(row):
                    self._row(row, header_set)

    def _row(self, row: str, header_set: str) -> None:
        self._denied(row, header_set)
        self._check_unchanged(row, "was refused")
        if header_set == "plain" and self._allowed(row):
            self.world.purge()
            self._check_unchanged(row, "had another object")

    def _denied(self, row: str, header_set: str) -> None:
        """The cells that change nothing, on the objects that stand there; all refusals must be the same, byte for byte."""
        refusals: dict[Any, tuple[bytes, list[str]]] = {}
        for state in self._states(row):
            declared = self.declared[row][state]
            if self._changes(row, declared) or (header_set != "plain" and declared not in (401, 403, 404, 405)):
                continue
            target = self.world.target(state)
            answer = self._send(row, target, HEADER_SETS.get(header_set, {}))
            self._check(row, state, answer, declared, header_set)
            if self._looks_at_nothing(row) and self.sql:
                self.wrong.append(f"{self.caller}: {row} needs no object, and asks the database: {self.sql}")
            if not self.is_owner and declared in (401, 403, 404, 405, 409):
                kind = (declared, self._address(row, state)) if declared in (403, 404) else declared
                self._check_same(row, state, answer, refusals, kind, declared)

    def _address(self, row: str, state: str) -> str:
        """What the database can tell apart of an id without looking: a UUID, a client id, neither."""
        found = "client id" if state in ("key", "same") else "none" if state == "odd" else "uuid"
        # what is the caller's own is found, and only then is the message looked for
        return f"own {found}" if state in self.world.own else found

    def _check_same(
        self, row: str, state: str, answer: TestResponse, seen: dict[Any, Any], kind: Any, status: int
    ) -> None:
        shape = _bytes(answer)
        first = seen.setdefault(kind, (shape, state, list(self.sql)))
        where = f"{self.caller}: {row}: {state} and {first[1]}"
        if shape != first[0]:
            self.wrong.append(f"{where} get different answers: {shape!r} and {first[0]!r}")
        if status in (401, 404) and list(self.sql) != first[2]:
            self.wrong.append(f"{where} ask the database differently: {self.sql} and {first[2]}")
        # missing and foreign look the same whatever the id looks like, but for what is the caller's own
        if status == 404 and not kind[1].startswith("own"):
            base = seen.setdefault("any 404", (shape, state))
            if shape != base[0]:
                self.wrong.append(f"{where}, {base[1]}: not the same 404: {shape!r} and {base[0]!r}")

    def _allowed(self, row: str) -> bool:
        """The cells that may change something, each on an object of its own, with the rows of Ada's compared for others."""
        states = [state for state in self._states(row) if self._changes(row, self.declared[row][state])]
        for state in states:
            target = self.world.fresh(state)
            before = None if self.is_owner else self.world.digest(only_of=ADA)
            answer = self._send(row, target, {})
            self._check(row, state, answer, self.declared[row][state], "plain")
            if before is not None and self.world.digest(only_of=ADA) != before:
                self.wrong.append(f"{self.caller}: {row} on {state} changed something of Ada's")
        return bool(states)

    @staticmethod
    def _changes(row: str, declared: int) -> bool:
        return row.startswith(CHANGING) and declared < 400

    def _states(self, row: str) -> Sequence[str]:
        """One state is enough where nothing looks for the object: that no SQL runs is checked."""
        if self._looks_at_nothing(row):
            return ["full"]
        return self.states if "{" in row or row.endswith("+id") else ["never"]

    def _looks_at_nothing(self, row: str) -> bool:
        """Whether every state has the same answer since none is looked for: no such method, no identity, a foreign page."""
        statuses = set(self.declared[row].values())
        return statuses <= {204, 405} or statuses in ({401}, {403})

    def _send(self, row: str, target: Target, headers: dict[str, str]) -> TestResponse:
        method, _, rest = row.partition(" ")
        path = rest.partition(" ")[0].rstrip("/")
        values = {
            "<>": "openapi.json",
            "{c}": target.conversation,
            "{m}": target.message,
            "{b}": target.branch or target.message,
            "{etag}": self._etag(target, headers),
        }
        url = PREFIX + _filled(path + QUERIES.get(row, ""), values)
        if "says to be" in self.caller:
            url += ("&" if "?" in url else "?") + "user_id=ada&org_id=acme&as_user=ada"
        body = _filled(BODIES.get(row), values)
        sent = {name: _filled(value, values) for name, value in headers.items()}
        self.cells += 1
        self.sql.clear()
        return self.client.open(url, method=method, json=body, headers=sent)

    def _etag(self, target: Target, headers: dict[str, str]) -> str:
        if (
            "{etag}" not in "".join(headers.values())
            or not target.id
            or not self.world.ada.conversation_exists(target.id)
        ):
            return "1-0"
        return str(self.world.ada.get_conversation(target.id)["etag"])

    def _check(self, row: str, state: str, answer: TestResponse, declared: int, header_set: str) -> None:
        where = f"{self.caller}: {row} on {state} ({header_set})"
        if answer.status_code != declared:
            self.wrong.append(
                f"{where}: {answer.status_code} instead of {declared}: {answer.get_data(as_text=True)[:200]}"
            )
        if MARKER.encode() in _bytes(answer) and not self.is_owner:
            self.wrong.append(f"{where}: shows what is Ada's")
        if answer.status_code >= 400 and answer.mimetype != "application/problem+json":
            self.wrong.append(f"{where}: answers {answer.mimetype}")
        if answer.status_code == 401 and "WWW-Authenticate" not in answer.headers:
            self.wrong.append(f"{where}: 401 without WWW-Authenticate")
        if answer.headers.get("Cache-Control") != "private, no-store" and not row.endswith(PUBLIC):
            self.wrong.append(f"{where}: a cache may keep the answer")

    def _check_unchanged(self, row: str, why: str) -> None:
        if row.startswith(CHANGING) and (after := self.world.digest()) != self.baseline:
            self.wrong.append(f"{self.caller}: {row} {why} and changed something")
            self.baseline = after

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        """Keep the SQL of each request, without its parameters."""
        with self.world.app.app_context():
            engine = self.world.app.db.engine  # type: ignore[attr-defined]

        def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
            self.sql.append(statement)

        sa.event.listen(engine, "before_cursor_execute", note)
        try:
            yield
        finally:
            sa.event.remove(engine, "before_cursor_execute", note)


def _filled(value: Any, values: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _filled(one, values) for name, one in value.items()}
    if isinstance(value, str):
        for name, one in values.items():
            value = value.replace(name, one)
    return value


def _bytes(answer: TestResponse) -> bytes:
    """Status, headers and body as sent, but for the random part of a new guest's cookie."""
    headers = sorted(f"{name}: {value}" for name, value in answer.headers.items())
    head = re.sub(r"(conversations_guest=)[^;]*; Expires=[^;]*", r"\1", "\n".join([answer.status, *headers]))
    return head.encode() + b"\n\n" + answer.get_data()
