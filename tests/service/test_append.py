"""An append: one statement where the database can, and the same row either way."""

from __future__ import annotations

import sqlalchemy as sa
from flask_sqlalchemy import SQLAlchemy


def test_an_append_is_one_statement_on_postgresql_and_two_on_sqlite(app, database, ada, bob, statements):
    """With a client id, fields and parts too; a stranger's append changes nothing."""
    chat = ada.create_conversation()
    ada.save_message(chat["id"], "user", "first")
    for fields in ({}, {"client_id": "k"}, {"metadata": {"a": [1]}, "model": "m", "usage": {"n": 1}}):
        with statements(app) as seen:
            saved = ada.save_message(chat["id"], "assistant", "more", **fields)
        assert len([one for one in seen if "BEGIN" not in one]) == (1 if database.name == "postgresql" else 2)
        assert ada.get_message(chat["id"], saved["id"]) == saved
    assert [one["seq"] for one in ada.get_messages(chat["id"])["messages"]] == [1, 2, 3, 4]
    before = ada.get_conversation(chat["id"])
    assert bob.conversation_exists(chat["id"]) is False
    assert ada.save_message(chat["id"], "assistant", "more", client_id="k")["seq"] == 3
    assert ada.get_conversation(chat["id"]) == before


def test_a_column_of_the_hosts_gets_its_default(make_app):
    """Defaults in Python, constant or called anew for each row, as in any other insert; on update too."""

    class Touched:
        touched = sa.orm.mapped_column(sa.Integer, onupdate=lambda: next(turns))

    class Extra:
        shade = sa.orm.mapped_column(sa.String(10), nullable=False, default="grey")
        turn = sa.orm.mapped_column(sa.Integer, nullable=False, default=lambda: next(turns))

    turns = iter(range(100))
    app = make_app(db=SQLAlchemy(), options={"message_model": Extra, "conversation_model": Touched})
    ada = app.conversations.as_user("ada", app=app)
    chat = ada.create_conversation()
    for _ in range(3):
        ada.save_message(chat["id"], "user", "hello")
    with app.app_context():
        table = app.conversations.models.Message.__table__
        found = app.db.session.execute(sa.select(table.c.shade, table.c.turn).order_by(table.c.seq)).all()
        conversation = app.conversations.models.Conversation.__table__
        touched = app.db.session.execute(sa.select(conversation.c.touched)).scalar()
    assert [shade for shade, _ in found] == ["grey"] * 3
    assert len({turn for _, turn in found}) == 3
    assert touched is not None
