"""The tables on a host's metadata: base classes, conventions, prefixes, schemas, binds, and the host's own models."""

from __future__ import annotations

import warnings
from importlib.metadata import version
from typing import Optional

import pytest
import sqlalchemy as sa
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import (
    DeclarativeBase,
    DeclarativeBaseNoMeta,
    Mapped,
    MappedAsDataclass,
    mapped_column,
    relationship,
)

from flask_conversations import ConfigurationError, ConversationMixin, Conversations, MessageMixin
from flask_conversations.tables import Names

from .works import create_all, who, works

on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
"""For what is decided before any SQL: once is enough."""

CONVENTIONS = {
    "without ix": {"pk": "pk_%(table_name)s", "uq": "uq_%(table_name)s_%(column_0_name)s"},
    "with ck": {
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    },
}


def built(host, db, **options):
    """An app on *db* with our tables."""
    app = host()
    db.init_app(app)
    conversations = Conversations(db, app=app, identity=who, **options)
    create_all(app, db)
    return app, conversations


@pytest.mark.parametrize("base", [DeclarativeBase, DeclarativeBaseNoMeta, None])
def test_every_base_class(host, base):
    """Our models live on any base class of the host's db, beside models of the host's own."""
    db = SQLAlchemy(model_class=type("Base", (base,), {})) if base else SQLAlchemy()

    class Note(db.Model):
        id: Mapped[int] = mapped_column(primary_key=True)

    app, conversations = built(host, db)
    works(app, conversations)
    with app.app_context():
        db.session.add(Note(id=1))
        db.session.commit()


def dataclass_host(base):
    """A host's db with a model, on a base of dataclasses; None where such a host cannot start at all, with or without us."""

    def start():
        db = SQLAlchemy(model_class=base)
        type("Note", (db.Model,), {"__annotations__": {"id": Mapped[int]}, "id": mapped_column(primary_key=True)})
        return db

    if version("sqlalchemy") < "2.1":
        return start()
    with pytest.raises(sa.exc.InvalidRequestError, match="already a dataclass"):
        start()
    return None


@pytest.mark.parametrize("base", [DeclarativeBase, DeclarativeBaseNoMeta])
def test_a_base_of_dataclasses(host, base):
    """Hosts with MappedAsDataclass work wherever Flask-SQLAlchemy itself can start them."""
    db = dataclass_host(type("Base", (MappedAsDataclass, base), {}))
    if db is not None:
        app, conversations = built(host, db)
        works(app, conversations)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_naming_conventions(host, convention):
    """A host's naming convention neither breaks our tables nor renames our constraints."""
    db = SQLAlchemy(metadata=sa.MetaData(naming_convention=CONVENTIONS[convention]))
    app, conversations = built(host, db)
    works(app, conversations)
    plain = Conversations(SQLAlchemy(), identity=who).models
    assert names_of(conversations.models) == names_of(plain)


def names_of(models):
    """The names of all indexes and constraints that a migration would have to know."""
    return {
        part.name
        for table in models.tables.values()
        for part in (*table.indexes, *table.constraints)
        if isinstance(part, (sa.Index, sa.UniqueConstraint, sa.ForeignKeyConstraint, sa.CheckConstraint))
    }


def test_no_warnings(host):
    """Building and using the models warns of nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", sa.exc.SAWarning)
        warnings.simplefilter("error", sa.exc.SADeprecationWarning)
        app, conversations = built(host, SQLAlchemy())
        works(app, conversations)


def test_a_hosts_own_message_and_conversation(host):
    """A host's Message and Conversation classes, on other tables, live beside ours."""
    db = SQLAlchemy()

    class Message(db.Model):
        __tablename__ = "messages"
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str]

    class Conversation(db.Model):
        __tablename__ = "conversation"
        id: Mapped[int] = mapped_column(primary_key=True)
        messages: Mapped[list[Message]] = relationship(
            primaryjoin="Conversation.id == foreign(Message.id)", viewonly=True
        )

    app, conversations = built(host, db)
    works(app, conversations)
    with app.app_context():
        db.session.add(Message(id=1, text="mine"))
        db.session.commit()
        assert db.session.get(Message, 1).text == "mine"
        assert db.session.query(Conversation).all() == []


@on_sqlite
@pytest.mark.parametrize("table", ["conversations", "conversation_messages", "conversation_tags"])
def test_a_hosts_table_of_our_name_is_a_clear_error(host, table):
    """A host that owns a table of one of our names learns which setting helps, and with it both live together."""
    db = SQLAlchemy()
    type("Theirs", (db.Model,), {"__tablename__": table, "id": db.Column(db.Integer, primary_key=True)})
    app = host()
    db.init_app(app)
    with pytest.raises(ConfigurationError, match="CONVERSATIONS_TABLE_PREFIX") as refused:
        Conversations(db, app=app, identity=who)
    assert table in str(refused.value)
    other = host(CONVERSATIONS_TABLE_PREFIX="chat_")
    db.init_app(other)
    conversations = Conversations(db, app=other, identity=who)
    create_all(other, db)
    works(other, conversations)


def test_a_prefix_is_on_every_name(host):
    """With a table prefix every table, index and constraint carries it."""
    app, conversations = built(host, SQLAlchemy(), table_prefix="chat_")
    works(app, conversations)
    assert all(table.name.startswith("chat_") for table in conversations.models.tables.values())
    assert all("chat_" in name for name in names_of(conversations.models))


def test_two_prefixes_on_one_database(host):
    """Two extension objects with prefixes of their own keep two worlds apart."""
    db = SQLAlchemy()
    apps = []
    for prefix in ("a_", "b_"):
        app = host()
        db.init_app(app)
        apps.append((app, Conversations(db, app=app, identity=who, table_prefix=prefix)))
    create_all(apps[0][0], db)
    for app, conversations in apps:
        works(app, conversations)
    assert [len(c.as_user("ada", app=a).list_conversations()["conversations"]) for a, c in apps] == [1, 1]


@on_sqlite
def test_other_names_than_the_models_are_an_error(host):
    """One extension object has one choice of names: an error tells another app with another prefix to use another object."""
    db = SQLAlchemy()
    conversations = Conversations(db, identity=who)
    assert conversations.models.names.prefix == ""
    app = host(CONVERSATIONS_TABLE_PREFIX="chat_")
    db.init_app(app)
    with pytest.raises(ConfigurationError, match="other names"):
        conversations.init_app(app)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_schema(host):
    """On PostgreSQL the tables can live in a schema of their own."""
    app = host(CONVERSATIONS_SCHEMA="chat")
    db = SQLAlchemy(app)
    conversations = Conversations(db, app=app, identity=who)
    with app.app_context():
        db.session.execute(sa.text("CREATE SCHEMA chat"))
        db.session.commit()
        db.create_all()
        found = sa.inspect(db.engine).get_table_names(schema="chat")
    assert "conversation_messages" in found
    works(app, conversations)


def test_a_bind(database, host):
    """The tables can live on another bind than the host's own models."""
    app = host(SQLALCHEMY_BINDS={"chat": database.empty()}, CONVERSATIONS_BIND_KEY="chat")
    db = SQLAlchemy(app)

    class Note(db.Model):
        id: Mapped[int] = mapped_column(primary_key=True)

    conversations = Conversations(db, app=app, identity=who)
    with app.app_context():
        db.create_all()
        assert "conversations" not in sa.inspect(db.engine).get_table_names()
        assert "conversations" in sa.inspect(db.engines["chat"]).get_table_names()
        db.session.add(Note(id=1))
        conversations.as_user("ada").create_conversation()
        assert db.session.get(Note, 1) is not None
    works(app, conversations)


@on_sqlite
def test_a_bind_that_is_not_there_is_named(host):
    """A bind key without a bind is an error that names it."""
    app = host(CONVERSATIONS_BIND_KEY="nowhere")
    db = SQLAlchemy(app)
    conversations = Conversations(db, app=app, identity=who)
    with pytest.raises(ConfigurationError, match="nowhere"):
        conversations.as_user("ada", app=app).list_conversations()


def test_extra_columns_by_a_plain_mixin(host):
    """A mixin's columns are added to our table; the host sets them in its own queries."""

    class Extra:
        department: Mapped[Optional[str]] = mapped_column(sa.String(20))  # noqa: UP045 - evaluated by SQLAlchemy on 3.10

    class More:
        sentiment: Mapped[Optional[float]]  # noqa: UP045

    db = SQLAlchemy()
    app, conversations = built(host, db, conversation_model=Extra, message_model=More)
    works(app, conversations)
    model = conversations.models.Conversation
    with app.app_context():
        db.session.execute(sa.update(model).values(department="sales"))
        db.session.commit()
        assert db.session.scalars(sa.select(model.department)).all() == ["sales"]
    assert "sentiment" in conversations.models.Message.__table__.c
    works(app, conversations)


def test_a_substituted_model(host):
    """A host's own mapped subclass of our mixins, with columns and methods, takes the place of our models."""
    db = SQLAlchemy()

    class Conversation(ConversationMixin, db.Model):
        __names__ = Names()
        department: Mapped[Optional[str]] = mapped_column(sa.String(20), default="none")  # noqa: UP045

        def loud(self):
            return self.title.upper()

    class Message(MessageMixin, db.Model):
        __names__ = Names()
        __conversation_key__ = Conversation.__table__.c.id

    app, conversations = built(host, db, conversation_model=Conversation, message_model=Message)
    works(app, conversations)
    assert conversations.models.Conversation is Conversation
    with app.app_context():
        assert db.session.scalars(sa.select(Conversation)).one().loud() == "HELLO"
        assert db.session.scalars(sa.select(Message)).one().content == "Hello"


def test_relationships_from_a_hosts_model(host):
    """A host's model can refer to our tables and read them through the ORM."""
    db = SQLAlchemy()
    conversations = Conversations(db, identity=who)
    Conversation, Message = conversations.models.Conversation, conversations.models.Message

    class Ticket(db.Model):
        id: Mapped[int] = mapped_column(primary_key=True)
        conversation_id: Mapped[str] = mapped_column(sa.ForeignKey(Conversation.id, ondelete="CASCADE"))
        conversation = relationship(Conversation)

    app = host()
    db.init_app(app)
    conversations.init_app(app)
    create_all(app, db)
    with app.app_context():
        ada = conversations.as_user("ada")
        chat = ada.create_conversation("T", messages=[{"role": "user", "content": "hi"}])
        db.session.add(Ticket(id=1, conversation_id=chat["id"]))
        db.session.commit()
        ticket = db.session.get(Ticket, 1)
        assert (ticket.conversation.title, ticket.conversation.id) == ("T", chat["id"])
        said = sa.select(Message.content).where(Message.conversation_id == ticket.conversation_id)
        assert db.session.scalars(said).all() == ["hi"]
    works(app, conversations)


def test_a_foreign_key_to_the_hosts_users(host):
    """With user_foreign_key, owners are the host's users, and a user's conversations go with the user."""
    db = SQLAlchemy()

    class User(db.Model):
        __tablename__ = "users"
        id: Mapped[str] = mapped_column(sa.String(255), primary_key=True)

    app, conversations = built(host, db, user_foreign_key="users.id")
    with app.app_context():
        db.session.add_all([User(id="ada"), User(id="bob")])
        db.session.commit()
    works(app, conversations)
    (key,) = conversations.models.Conversation.__table__.foreign_keys
    assert (key.target_fullname, key.ondelete) == ("users.id", "CASCADE")
    if app.config["SQLALCHEMY_DATABASE_URI"].startswith("postgresql"):
        conversations.as_user("bob", app=app).create_conversation("his")
        with app.app_context():
            db.session.execute(sa.delete(User).where(User.id == "ada"))
            db.session.commit()
        assert conversations.as_user("ada", app=app).list_conversations()["conversations"] == []
        assert len(conversations.as_user("bob", app=app).list_conversations()["conversations"]) == 1


def test_a_database_with_foreign_keys_switched_on(host):
    """On SQLite with enforced foreign keys every verb works too, permanent deletion included."""
    app, conversations = built(host, SQLAlchemy())
    with app.app_context():
        engine = conversations.db.engine
    if engine.name == "sqlite":
        sa.event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA foreign_keys = ON"))
        engine.dispose()
    works(app, conversations)
    ada = conversations.as_user("ada", app=app)
    chat = ada.create_conversation(tags=["t"], messages=[{"role": "user", "content": "x"}])
    assert ada.delete_conversation(chat["id"], permanent=True) is True


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_database_in_memory(host):
    """An in-memory SQLite, as hosts use it in their tests, works within one process."""
    app = host("sqlite://")
    db = SQLAlchemy(app)
    conversations = Conversations(db, app=app, identity=who)
    create_all(app, db)
    works(app, conversations)


def test_the_indexes_that_lists_and_histories_need(host):
    """Every column that the seed documents want indexed begins or belongs to an index, the composite ones in their order."""
    db = SQLAlchemy()
    app, _ = built(host, db)
    with app.app_context():
        inspector = sa.inspect(db.engine)
        found = {
            table: [tuple(index["column_names"]) for index in inspector.get_indexes(table)]
            + [tuple(inspector.get_pk_constraint(table)["constrained_columns"])]
            for table in ("conversations", "conversation_messages")
        }
    ours, theirs = found["conversations"], found["conversation_messages"]
    assert {"org_id", "user_id", "status", "last_message_at", "updated_at"} <= {name for one in ours for name in one}
    assert [one for one in ours if one[0] == "user_id" and "updated_at" in one]
    assert {("conversation_id", "created_at"), ("conversation_id", "seq"), ("role",), ("type",)} <= set(theirs)
    assert [one for one in theirs if one[0] == "created_at"]
