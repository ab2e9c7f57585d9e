"""Hooks for `flask db migrate` and `flask db check`: they write the step that is due, and leave our tables alone.

All hooks are comparators of Alembic, none uses `include_object`: the host may have one of its own, in env.py or in
Flask-Migrate's arguments, and may initialise the extensions in any order.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import sqlalchemy as sa
from alembic import util
from alembic.autogenerate import comparators, renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import ops
from alembic.runtime.migration import MigrationContext

from .ours import Ours
from .runner import all_models, models_on
from .steps import HEAD

logger = logging.getLogger("flask_conversations.migrations")

_OUR_PACKAGE = __name__.partition(".")[0]


class StepOp(ops.MigrateOperation):
    """Steps of ours that are due: one line in the host's revision."""

    def __init__(self, since: str | None, to: str | None) -> None:
        self.since, self.to = since, to

    def reverse(self) -> StepOp:
        return StepOp(self.to, self.since)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        return (_OUR_PACKAGE, self.since, self.to)


class AdditionsOp(ops.ModifyTableOps):
    """The host's additions to one of our tables, behind the step that creates the table."""

    def reverse(self) -> ops.ModifyTableOps:
        """Nothing: the table goes as a whole."""
        return ops.ModifyTableOps(self.table_name, [], schema=self.schema)


class ImportOp(ops.OpContainer):
    """The import that a column of one of our types needs; a host's foreign key to our conversations is such a column."""

    def reverse(self) -> ImportOp:
        return ImportOp()


@renderers.dispatch_for(StepOp)
def _render_step(context: AutogenContext, step: StepOp) -> str:
    context.imports.add("import flask_conversations.migrations")
    verb = "upgrade" if (step.since or "") < (step.to or "") else "downgrade"
    return f"flask_conversations.migrations.{verb}({step.since!r}, {step.to!r})"


@renderers.dispatch_for(AdditionsOp)
def _render_additions(context: AutogenContext, additions: AdditionsOp) -> list[str]:
    """As Alembic does it; but SQLite cannot add a NOT NULL column, so there the table, still empty, is made anew."""
    lines: list[str] = util.to_list(renderers.dispatch(ops.ModifyTableOps)(context, additions))
    if any(isinstance(op, ops.AddColumnOp) and _is_required(op.column) for op in additions.ops):
        recreate = "recreate='always' if op.get_context().dialect.name == 'sqlite' else 'auto'"
        lines = [line.replace(") as batch_op:", f", {recreate}) as batch_op:") for line in lines]
    return lines


@renderers.dispatch_for(ImportOp)
def _render_import(context: AutogenContext, _: ImportOp) -> list[str]:
    context.imports.add("import flask_conversations.column_types")
    return []


def compare(context: AutogenContext, upgrade_ops: ops.UpgradeOps, _: Iterable[str | None]) -> None:
    """Remove our objects from the host's operations, and insert the step that is due in their order."""
    if not all_models(context.metadata):
        return
    ours = Ours(context)
    found = list(_of_host(ours, upgrade_ops.ops))
    if ours.due:
        logger.info("Detected step %r of Flask-Conversations", HEAD)
        found = _with_step(ours, found, context)
    if any(_has_our_type(op) for op in found):
        found.insert(0, ImportOp())
    upgrade_ops.ops[:] = found


def silence(context: AutogenContext, _: ops.UpgradeOps, __: Iterable[str | None]) -> None:
    """Keep Alembic from logging detected changes that `compare` will remove."""
    if not all_models(context.metadata):
        return
    ours, ask_host = Ours(context), context.run_object_filters

    def run_object_filters(item: Any, name: Any, kind: Any, reflected: bool, compare_to: Any) -> bool:
        table = getattr(item, "table", None)
        if kind == "table" and compare_to is None:
            taken = ours.has_table(item.schema, item.name)
        else:
            taken = table is not None and ours.has_part(table.schema, table.name, kind, name, gone=reflected)
        return not taken and ask_host(item, name, kind, reflected, compare_to)

    context.run_object_filters = run_object_filters  # type: ignore[method-assign, assignment]  # Alembic has no hook


def only_ours(since: str | None = None) -> Callable[[MigrationContext, Any, list[ops.MigrationScript]], None]:
    """Keep a revision that Alembic generates to our tables.

    *since* writes the steps from there on ('base': from nothing), and not from where the database stands.
    """

    def process_revision_directives(context: MigrationContext, _: Any, scripts: list[ops.MigrationScript]) -> None:
        up, down = scripts[0].upgrade_ops_list[-1], scripts[0].downgrade_ops_list[-1]
        kept: list[Any] = [op for op in up.ops if isinstance(op, (StepOp, AdditionsOp, ImportOp))]
        if since is not None and models_on(context.opts["target_metadata"]) is not None:
            kept = [StepOp(None if since == "base" else since, HEAD)]
        up.ops[:], down.ops[:] = kept, [op.reverse() for op in reversed(kept)]

    return process_revision_directives


def _register() -> None:
    """Alembic before 1.18 calls comparators in the order of their registration; there, `silence` cannot be used."""
    registry: Any = comparators
    priority: Any = getattr(util, "DispatchPriority", None)
    if priority is None:
        registry.dispatch_for("schema")(compare)
    else:
        registry.dispatch_for("schema", priority=priority.FIRST)(silence)
        registry.dispatch_for("schema", priority=priority.LAST)(compare)


_register()


def _of_host(ours: Ours, found: Iterable[Any]) -> Iterator[ops.MigrateOperation]:
    whole = set()
    for op in found:
        if isinstance(op, (ops.CreateTableOp, ops.DropTableOp)) and ours.has_table(op.schema, op.table_name):
            whole.add((op.schema, op.table_name))
        elif not isinstance(op, ops.ModifyTableOps):
            yield op
        elif (op.schema, op.table_name) not in whole:
            op.ops[:] = [part for part in op.ops if not _is_ours(ours, op, part)]
            if op.ops:
                yield op


def _is_ours(ours: Ours, table: ops.ModifyTableOps, op: Any) -> bool:
    kind, name = _subject(op)
    gone = isinstance(op, (ops.DropColumnOp, ops.DropIndexOp, ops.DropConstraintOp))
    return ours.has_part(table.schema, table.table_name, kind, name, gone=gone)


def _subject(op: Any) -> tuple[str, str | None]:
    """The kind and the name of the object of an operation within a table."""
    if isinstance(op, ops.AddColumnOp):
        return "column", op.column.name
    if isinstance(op, (ops.DropColumnOp, ops.AlterColumnOp)):
        return "column", op.column_name
    return "index", getattr(op, "index_name", None) or getattr(op, "constraint_name", None)


def _with_step(ours: Ours, found: list[Any], context: AutogenContext) -> list[Any]:
    """The step after the tables that ours refer to, before everything that may refer to ours."""
    before = [op for op in found if hasattr(op, "table_name") and ours.needs(op.schema, op.table_name)]
    after = [op for op in found if op not in before]
    return [*before, StepOp(ours.since, HEAD), *_additions(ours, context), *after]


def _additions(ours: Ours, context: AutogenContext) -> Iterator[AdditionsOp]:
    for table, parts in ours.additions():
        wanted = [
            part for part in parts if context.run_object_filters(part, part.name, part.__visit_name__, False, None)
        ]
        if wanted:
            yield AdditionsOp(table.name, [_addition(table, part) for part in wanted], schema=table.schema)


def _addition(table: sa.Table, part: Any) -> ops.MigrateOperation:
    if isinstance(part, sa.Column):
        return ops.AddColumnOp.from_column_and_tablename(table.schema, table.name, part)
    if isinstance(part, sa.Index):
        return ops.CreateIndexOp.from_index(part)
    op = ops.AddConstraintOp.from_constraint(part)
    named: Any = op  # the base class does not declare its name
    if named.constraint_name is None:
        # SQLite adds constraints by making the table anew, which Alembic only does for those that have a name.
        kind = "fk" if isinstance(part, sa.ForeignKeyConstraint) else "uq"
        named.constraint_name = "_".join([kind, table.name, *(column.name for column in part.columns)])
    return op


def _is_required(column: sa.Column[Any]) -> bool:
    return not column.nullable and column.server_default is None


def _has_our_type(op: Any) -> bool:
    if isinstance(op, ops.ModifyTableOps):
        return any(_has_our_type(inner) for inner in op.ops)
    columns = op.columns if isinstance(op, ops.CreateTableOp) else [getattr(op, "column", None)]
    types: list[Any] = [column.type for column in columns if isinstance(column, sa.Column)]
    types.append(getattr(op, "modify_type", None))
    return any(type(one).__module__.partition(".")[0] == _OUR_PACKAGE for one in types)
