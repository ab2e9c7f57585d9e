"""The users: the app's own model, and the two users of the demo."""

from __future__ import annotations

import click
import sqlalchemy as sa
from flask.cli import with_appcontext
from sqlalchemy.orm import Mapped, mapped_column
from werkzeug.security import check_password_hash, generate_password_hash

from .extensions import db

DEMO_PEOPLE = [("ada", "lovelace", "Ada Lovelace", "engines"), ("bob", "builder", "Bob Builder", "bridges")]
"""Name, password, full name and department. Passwords in a source file are for demos only."""


class User(db.Model):  # type: ignore[name-defined, misc]
    """A user with a login."""

    __tablename__ = "users"  # "user" is a reserved word in PostgreSQL

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(64), unique=True)
    full_name: Mapped[str] = mapped_column(sa.String(200))
    email: Mapped[str] = mapped_column(sa.String(254), unique=True)
    dept: Mapped[str] = mapped_column(sa.String(64))
    password_hash: Mapped[str] = mapped_column(sa.String(255))


def with_password(name: str, password: str) -> User | None:
    """The user *name*, if that is their password."""
    user = db.session.scalar(sa.select(User).where(User.name == name))
    # the hash is computed for unknown names too: the time of an answer does not reveal which accounts exist
    known = check_password_hash(user.password_hash if user else _UNKNOWN_USER_HASH, password)
    return user if user and known else None


def add_people() -> None:
    """Add the missing users of the demo."""
    for name, password, full_name, dept in DEMO_PEOPLE:
        if db.session.scalar(sa.select(User).where(User.name == name)) is None:
            hashed = generate_password_hash(password)
            email = f"{name}@example.com"
            db.session.add(User(name=name, full_name=full_name, email=email, dept=dept, password_hash=hashed))
    db.session.commit()


@click.command("add-people")
@with_appcontext
def add_people_command() -> None:
    """Add the demo's two users, ada and bob."""
    add_people()


_UNKNOWN_USER_HASH = generate_password_hash("nobody")
