"""The people and the objects of the isolation matrix: real logins, real conversations, and a digest of every row."""

from __future__ import annotations

import dataclasses
import hashlib
import time
import uuid
from typing import Any

import jwt
import sqlalchemy as sa
from flask import Flask, request
from flask.testing import FlaskClient

from flask_conversations.identity import AnonymousIdentity, ChainIdentity, Identity, JWTIdentity, SessionIdentity
from flask_conversations.identity.guest import PURPOSE
from tests.infra.apps import identity_from_headers

from .declared import STATES

KEY = "a key of the isolation matrix, long enough for HS256"
MARKER = "secret-of-ada"
"""Stands in every text of every object of Ada's: it may be in no answer to another caller."""

ADA = Identity("ada", "acme")
IDENTITIES = {
    "colleague in the same organisation": Identity("bob", "acme"),
    "stranger in another organisation": Identity("eve", "globex"),
    "same user id in another organisation": Identity("ada", "globex"),
    "same user id without organisation": Identity("ada"),
    "user id and organisation swapped": Identity("acme", "ada"),
    "user id in capitals": Identity("ADA", "acme"),
    "user id with a blank behind": Identity("ada ", "acme"),
    "colleague who says to be the owner": Identity("mallory", "acme"),
    "guest": Identity("guest:0d6ee3a4-6d5f-4a53-b2a1-6b6c7ef9d0c4", anonymous=True),
}
SPOOFED = {"X-User-Id": "ada", "X-Org-Id": "acme", "X-Forwarded-User": "ada", "Remote-User": "ada", "From": "ada"}
OWN_PAGE = {"Origin": "http://localhost"}
FOREIGN_PAGE = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}


class GuestsWithCookie(AnonymousIdentity):
    """Guests, but only those who come with a cookie: without one, the matrix wants no identity."""

    def __call__(self) -> Identity | None:  # type: ignore[override]
        return super().__call__() if "conversations_guest" in request.cookies else None


def settings(foreign_status: int) -> dict[str, Any]:
    """What `make_app` takes for the app of the matrix."""
    resolver = ChainIdentity(JWTIdentity(), identity_from_headers, SessionIdentity(org_key="org"), GuestsWithCookie())
    return {
        "options": {"identity": resolver},
        "CONVERSATIONS_JWT_KEY": KEY,
        "CONVERSATIONS_JWT_ORG_CLAIM": "org",
        "CONVERSATIONS_FOREIGN_STATUS": foreign_status,
    }


def client_of(app: Flask, caller: str) -> FlaskClient:
    """A test client with the credentials of *caller*."""
    headers, cookies, session = _credentials(app, caller)
    if "forged cookie" in caller:
        # sent with every request, instead of the one that the first answer gives
        headers, cookies = {**headers, "Cookie": "; ".join(f"{name}={one}" for name, one in cookies.items())}, {}
    client = app.test_client(use_cookies="Cookie" not in headers)
    for name, value in {"X-Request-ID": "matrix", **headers}.items():
        client.environ_base["HTTP_" + name.upper().replace("-", "_")] = value
    for name, value in cookies.items():
        client.set_cookie(name, value)
    if session:
        with client.session_transaction() as stored:
            stored.update(session)
    return client


def _credentials(app: Flask, caller: str) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Headers, cookies and session of a caller."""
    session = {"user_id": "ada", "org": "acme"}
    if caller in ("guest", "guest with a forged cookie"):
        return OWN_PAGE, {"conversations_guest": _guest_cookie(app, forged="forged" in caller)}, {}
    if caller == "same user id without organisation":
        return {"X-Test-User": "ada"}, {}, {}
    if caller in IDENTITIES:
        spoofed = SPOOFED if "says to be" in caller else {}
        return {**spoofed, **_bearer(_token(IDENTITIES[caller]))}, {}, {}
    return {
        "owner": (_bearer(_token(ADA)), {}, {}),
        "owner by session": (OWN_PAGE, {}, session),
        "owner's browser on a foreign page": (FOREIGN_PAGE, {}, session),
        "nobody": ({}, {}, {}),
        "expired token": (_bearer(_token(ADA, exp=int(time.time()) - 1)), {}, {}),
        "forged token": (_bearer(_token(ADA, key=KEY + "x")), {}, {}),
        "forged token beside the owner's session": ({**OWN_PAGE, **_bearer(_token(ADA, key=KEY + "x"))}, {}, session),
        "unsigned token": (_bearer(_token(ADA, key="", algorithm="none")), {}, {}),
        "token without organisation": (_bearer(_token(Identity("ada"))), {}, {}),
    }[caller]


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _token(who: Identity, key: str = KEY, algorithm: str = "HS256", **claims: Any) -> str:
    now = int(time.time())
    found = {"sub": who.user_id, "org": who.org_id, "iat": now - 10, "exp": now + 3600, **claims}
    return jwt.encode({name: one for name, one in found.items() if one is not None}, key, algorithm)


def _guest_cookie(app: Flask, *, forged: bool) -> str:
    from flask_conversations.identity.settings import signer

    with app.app_context():
        cookie = signer(PURPOSE).dumps(IDENTITIES["guest"].user_id.removeprefix("guest:"))
    return cookie[:-4] + ("AAAA" if cookie[-4:] != "AAAA" else "BBBB") if forged else cookie


@dataclasses.dataclass(frozen=True)
class Target:
    """An object as a request addresses it."""

    conversation: str
    message: str
    id: str = ""
    """The real id of the conversation, if there is one."""
    branch: str = ""
    """The name of a branch, if there is one."""


class World:
    """The objects, made anew for each caller."""

    def __init__(self, app: Flask, caller: str) -> None:
        self.app = app
        self.ada = self.service(ADA)
        self.zoe = self.service(Identity("zoe", "acme"))
        self.count = 0
        self.standing = {state: self.make(state, None) for state in STATES}
        self.caller = IDENTITIES.get(caller)
        """Who can own something, unless it is Ada."""
        self.own = {state: self.make(state, self.caller) for state in ("same", "mixed") if self.caller}
        self.kept = self._conversation_ids()

    def service(self, identity: Identity) -> Any:
        return self.app.conversations.as_user(identity, app=self.app)  # type: ignore[attr-defined]

    def target(self, state: str) -> Target:
        """The object in that state that stands there for all to see."""
        return self.own.get(state) or self.standing[state]

    def fresh(self, state: str) -> Target:
        """An object of its own for one cell, since the cell will change it."""
        return self.make(state, self.caller)

    def make(self, state: str, caller: Identity | None) -> Target:
        """An object in *state*: Ada's, or the caller's where the state says so and the caller can own something."""
        self.count += 1
        if state == "never":
            return Target(str(uuid.uuid4()), str(uuid.uuid4()))
        if state == "odd":
            return Target("~none", str(uuid.uuid4()))
        return getattr(self, f"_{state}", self._moved)(state, caller)  # type: ignore[no-any-return]

    def _moved(self, state: str, caller: Identity | None) -> Target:
        """A full conversation, and what its state asks for."""
        made = self._full_one(temporary=state == "temporary", id=f"key-{self.count}" if state == "key" else None)
        moves = {
            "archived": self.ada.archive_conversation,
            "resolved": self.ada.resolve_conversation,
            "trash": self.ada.delete_conversation,
            "gone": lambda id: self.ada.delete_conversation(id, permanent=True),
            "buried": lambda id: self.ada.delete_message(id, made.message),
            "forked": lambda id: self.ada.save_message(id, "user", MARKER, parent_id=made.message),
        }
        if state in moves:
            moves[state](made.id)
        if state == "forked":
            self.ada.branches.create(made.id, made.message, MARKER)
            return dataclasses.replace(made, branch=MARKER)
        if state == "upper":
            return Target(made.id.upper(), made.message.upper(), made.id)
        return Target(f"key-{self.count}", made.message, made.id) if state == "key" else made

    def _empty(self, state: str, caller: Identity | None) -> Target:
        made = self.ada.create_conversation(MARKER)
        return Target(made["id"], str(uuid.uuid4()), made["id"])

    def _same(self, state: str, caller: Identity | None) -> Target:
        key = f"same-{self.count}"
        made = self._full_one(id=key)
        if caller is not None:
            mine = self.service(caller).create_conversation("mine", id=key, messages=[{"role": "user", "content": "m"}])
            message = self.service(caller).get_messages(key)["messages"][0]["id"]
            self.service(caller).branches.create(key, message, "other")
            return Target(key, message, mine["id"], "other")
        self.ada.branches.create(key, made.message, "other")
        return Target(key, made.message, made.id, "other")

    def _mixed(self, state: str, caller: Identity | None) -> Target:
        made = self._full_one()
        if caller is not None:
            mine = self.service(caller).create_conversation("mine", messages=[{"role": "user", "content": "m"}])
            return Target(mine["id"], made.message, mine["id"])
        theirs = self.zoe.create_conversation("zoe's", messages=[{"role": "user", "content": "zoe's"}])
        return Target(made.id, self.zoe.get_messages(theirs["id"])["messages"][0]["id"], made.id)

    def _full_one(self, **options: Any) -> Target:
        texts = dict.fromkeys(("folder", "context_type", "context_id", "page_context"), MARKER)
        messages = [{"role": role, "content": MARKER, "metadata": {"note": MARKER}} for role in ("user", "assistant")]
        made = self.ada.create_conversation(
            MARKER, messages=messages, tags=[MARKER], metadata={"note": MARKER}, **texts, **options
        )
        return Target(made["id"], self.ada.get_messages(made["id"])["messages"][0]["id"], made["id"])

    def warm_up(self) -> None:
        """Let the owner read everything, so that whatever remembers reads has something to remember."""
        for target in self.standing.values():
            if self.ada.conversation_exists(target.conversation):
                self.ada.get_conversation(target.conversation)
                self.ada.get_messages(target.conversation)
                self.ada.get_conversation_history(target.conversation)
        for status in ("active", "archived", "resolved", "deleted", "all"):
            self.ada.list_conversations(status=status)

    def purge(self) -> None:
        """Remove what cells have added, so that the next ones find the same world."""
        models = self.app.extensions["flask_conversations"].models
        with self.app.app_context(), self.app.db.engine.begin() as connection:  # type: ignore[attr-defined]
            for model in models.owned:
                column = model.__table__.c.conversation_id
                connection.execute(sa.delete(model.__table__).where(column.not_in(self.kept)))
            table = models.Conversation.__table__
            connection.execute(sa.delete(table).where(table.c.id.not_in(self.kept)))

    def _conversation_ids(self) -> list[str]:
        models = self.app.extensions["flask_conversations"].models
        with self.app.app_context(), self.app.db.engine.connect() as connection:  # type: ignore[attr-defined]
            return list(connection.execute(sa.select(models.Conversation.__table__.c.id)).scalars())

    def digest(self, *, only_of: Identity | None = None) -> str:
        """One text for all rows of all our tables, or for those of one owner."""
        models = self.app.extensions["flask_conversations"].models
        tables = [each.__table__ for each in (models.Conversation, *models.owned, models.Idempotency)]
        found = hashlib.sha256()
        with self.app.app_context(), self.app.db.engine.connect() as connection:  # type: ignore[attr-defined]
            for table in tables:
                query = sa.select(table).order_by(*table.primary_key.columns)
                if only_of is not None:
                    query = query.where(table.c.user_id == only_of.user_id, table.c.org_id == (only_of.org_id or ""))
                found.update(repr(connection.execute(query).all()).encode())
        return found.hexdigest()
