"""The recipe of docs/howto/partitioning.md, as it is printed there."""

from __future__ import annotations

import re
from pathlib import Path

import alembic.util
import pytest

from .test_hosts import A_CONVERSATION, OURS, users

DOCS = Path(__file__).parents[2] / "docs" / "howto" / "partitioning.md"
HEAD = """
revision = {revision!r}
down_revision = {down!r}
branch_labels = depends_on = None
"""
A_MESSAGE = (
    "INSERT INTO conversation_messages (conversation_id, seq, id, org_id, user_id, version, digest, role, type, content, "
    "content_is_parts, status, created_at, updated_at) SELECT id, n, gen_random_uuid(), '', 'ada', 1, 0, 'user', 'text', "
    "'hello', false, 'delivered', now(), now() FROM conversations, generate_series(1, 3) n"
)

pytestmark = pytest.mark.parametrize("database", ["postgresql"], indirect=True)


def recipe() -> str:
    return re.search(r"```python\n(from alembic.*?)```", DOCS.read_text(), re.DOTALL).group(1)


def add_the_recipe(app, text):
    (installed,) = app.revisions()
    down = re.search(r"^revision = '(\w+)'", installed.read_text(), re.MULTILINE).group(1)
    (installed.parent / "part.py").write_text(text + HEAD.format(revision="part", down=down))


@pytest.mark.parametrize("rows", [0, 3], ids=["empty", "populated"])
@pytest.mark.parametrize("names", [{}, {"CONVERSATIONS_SCHEMA": "chat", "CONVERSATIONS_TABLE_PREFIX": "my_"}])
def test_partitions(host, rows, names):
    """Rows, constraints, indexes and their names stay; autogenerate sees nothing; there is a way back."""
    schema = names.get("CONVERSATIONS_SCHEMA")
    prefix = names.get("CONVERSATIONS_TABLE_PREFIX", "")
    table = f"{schema}.{prefix}conversation_messages" if schema else "conversation_messages"
    app = host(users, migrate_options={"include_schemas": True}, **names)
    app.migrate()
    add_the_recipe(app, recipe().replace('"conversation_messages"', repr(table)))
    app.run("db", "upgrade", "+1")
    if rows:
        app.execute(named(A_CONVERSATION, table))
        app.execute(named(A_MESSAGE, table))
    plain = app.described(schema=schema)

    app.run("db", "upgrade")
    partitioned = app.described(schema=schema)
    assert len(partitioned) == len(plain) + 16
    assert app.execute(f"SELECT partstrat FROM pg_partitioned_table WHERE partrelid = '{table}'::regclass") == ["h"]
    assert app.execute(f"SELECT count(*) FROM {table}") == [rows]
    assert comparable(partitioned[f"{prefix}conversation_messages"]) == comparable(
        plain[f"{prefix}conversation_messages"]
    )
    said = app.run("db", "check")
    assert "_p0" not in said or not hasattr(alembic.util, "DispatchPriority"), "Alembic 1.18 and newer can be quiet"
    if rows:
        app.execute(f"DELETE FROM {table.replace('conversation_messages', 'conversations')}")
        assert app.execute(f"SELECT count(*) FROM {table}") == [0]

    app.run("db", "downgrade")
    assert app.described(schema=schema) == plain
    app.run("db", "upgrade")
    app.run("db", "downgrade", "base")
    assert app.described(schema=schema).keys() <= {"alembic_version"}


def named(statement, table):
    place = table.removesuffix("conversation_messages")
    return re.sub(r"\b(conversations|conversation_messages)\b", rf"{place}\1", statement)


def comparable(described):
    """Without what PostgreSQL says of partitioned indexes only."""
    return {part: found for part, found in described.items() if part != "indexes"} | {
        "indexes": [(index["name"], index["column_names"], index["unique"]) for index in described["indexes"]]
    }


def test_a_host_may_have_tables_of_similar_names(host):
    """Only `_p<number>` and `_default` are taken for partitions."""
    app = host(users)
    app.migrate()
    app.run("db", "upgrade")
    app.execute("CREATE TABLE conversation_messages_printed (id INTEGER)")
    assert "conversation_messages_printed" in app.run("db", "check", fails=True)
    assert app.tables() == OURS | {"users", "conversation_messages_printed"}
