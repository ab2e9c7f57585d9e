"""The rows of turns. A writer holds the conversation's lock, or changes only its own lease."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ..column_types import UTCDateTime
from ..ids import now
from ..models import Models
from ..tables import ACTIVE_STATES, LIVE_STATES, WAITING
from . import Store, constant, keyed, mine, owned_by_me, statement, visible
from .rows import Columns, ConversationRow, DeadTurnRow, PollRow, TurnRow

_MOMENT = UTCDateTime()

STORED = (
    "conversation_id",
    "number",
    "id",
    "kind",
    "state",
    "protocol",
    "question_id",
    "answer_id",
    "request",
    "client_id",
    "key",
    "fingerprint",
    "token",
    "cancelled",
    "calls",
    "error",
    "created_at",
    "started_at",
    "updated_at",
    "ended_at",
)
"""The columns that are read of a turn; `dead` comes with them: whether its lease has ended."""


class Live(list[TurnRow]):
    """The turns of a conversation that have not ended, in their order."""

    newest_number = 0

    @property
    def active(self) -> TurnRow | None:
        """The turn in progress, if any."""
        return next((turn for turn in self if turn.state in ACTIVE_STATES), None)

    @property
    def dead(self) -> list[TurnRow]:
        """The turns whose worker has let its lease end."""
        return [turn for turn in self if turn.dead]


def live(store: Store, conversation: ConversationRow) -> Live:
    """The live turns of a locked conversation."""
    rows = store.execute(_live(store.models, store.dialect), _at(of_conversation=conversation.id)).all()
    found = Live(turn for turn in rows if turn.state in LIVE_STATES)
    found.newest_number = max((turn.number for turn in rows), default=0)
    return found


@statement
def _live(models: Models, dialect: str) -> Any:
    c, newest = models.Turn.__table__.c, models.Turn.__table__.alias("newest").c
    here = _conversation(c)
    last = sa.select(sa.func.max(newest.number)).where(newest.conversation_id == here).scalar_subquery()
    return (
        sa.select(*_columns(models, dialect))
        .where(c.conversation_id == here, sa.or_(c.state.in_(LIVE_STATES), c.number == last))
        .order_by(c.number)
    )


def newest(store: Store, conversation: ConversationRow) -> TurnRow | None:
    """The turn that began last, if any."""
    return store.execute(_newest(store.models, store.dialect), _at(of_conversation=conversation.id)).first()


@statement
def _newest(models: Models, dialect: str) -> Any:
    c = models.Turn.__table__.c
    query = sa.select(*_columns(models, dialect)).where(c.conversation_id == _conversation(c), c.state != WAITING)
    return query.order_by(c.number.desc()).limit(1)


def find(store: Store, conversation: ConversationRow, column: str, value: str) -> TurnRow | None:
    """The newest turn of the conversation with that `id`, `client_id`, `key`, `question_id` or `answer_id`."""
    query = _find(store.models, store.dialect, column)
    return store.execute(query, _at(of_conversation=conversation.id, value=value)).first()


@statement
def _find(models: Models, dialect: str, column: str) -> Any:
    c = models.Turn.__table__.c
    query = sa.select(*_columns(models, dialect)).where(
        c.conversation_id == _conversation(c), c[column] == sa.bindparam("value", type_=c[column].type)
    )
    return query.order_by(c.number.desc()).limit(1)


def insert(store: Store, row: Mapping[str, Any], *, lease: float) -> TurnRow:
    """Insert a turn with a lease of *lease* seconds."""
    names = tuple(row)
    parameters = {f"its_{name}": value for name, value in row.items()}
    return store.execute(_insert(store.models, store.dialect, names), _at(lease, **parameters)).one()


@statement
def _insert(models: Models, dialect: str, names: tuple[str, ...]) -> Any:
    table = models.Turn.__table__
    values: dict[str, Any] = {name: sa.bindparam(f"its_{name}", type_=table.c[name].type) for name in names}
    values["expires_at"] = _lease_end(dialect)
    return sa.insert(table).values(values).returning(*_columns(models, dialect))


def move(
    store: Store,
    turn: TurnRow,
    values: Mapping[str, Any],
    *,
    token: str | None = None,
    states: Collection[str] = LIVE_STATES,
    lease: float | None = None,
) -> TurnRow | None:
    """Set columns of a turn if it is in one of *states*, and has this *token* if one is given; else None.

    *lease* renews the worker's lease by so many seconds; without it the turn has no lease.
    """
    shape = (tuple(values), token is not None, tuple(sorted(states)), lease is not None)
    parameters = {f"set_{name}": value for name, value in values.items()}
    parameters.update(of_conversation=turn.conversation_id, of_number=turn.number, the_token=token)
    return store.execute(_move(store.models, store.dialect, *shape), _at(lease or 0, **parameters)).first()


@statement
def _move(
    models: Models, dialect: str, names: tuple[str, ...], owned: bool, states: tuple[str, ...], leased: bool
) -> Any:
    table = models.Turn.__table__
    c = table.c
    values: dict[str, Any] = {name: sa.bindparam(f"set_{name}", type_=c[name].type) for name in names}
    values["expires_at"] = _lease_end(dialect) if leased else None
    values["updated_at"] = sa.bindparam("moment", type_=c.updated_at.type)
    number = sa.bindparam("of_number", type_=sa.BigInteger)
    query = sa.update(table).where(c.conversation_id == _conversation(c), c.number == number, c.state.in_(states))
    if owned:
        query = query.where(c.token == sa.bindparam("the_token", type_=c.token.type))
    return query.values(values).returning(*_columns(models, dialect))


def stop(store: Store, turn: TurnRow) -> None:
    """Ask the worker of a turn to end it."""
    store.execute(_stop(store.models), {"of_conversation": turn.conversation_id, "of_number": turn.number})


@statement
def _stop(models: Models) -> Any:
    table = models.Turn.__table__
    c = table.c
    number = sa.bindparam("of_number", type_=sa.BigInteger)
    return sa.update(table).where(c.conversation_id == _conversation(c), c.number == number).values(cancelled=True)


def renew(store: Store, tokens: Sequence[str], *, lease: float) -> dict[str, bool]:
    """Renew the leases of *tokens* by so many seconds; whether each is asked to stop. A missing one has lost its turn."""
    query = _renew(store.models, store.dialect)
    found: dict[str, bool] = {}
    for start in range(0, len(tokens), _BATCH_SIZE):
        rows = store.execute(query, _at(lease, tokens=list(tokens[start : start + _BATCH_SIZE])))
        found.update((row.token, row.cancelled) for row in rows)
    return found


_BATCH_SIZE = 500
"""Tokens of one statement: databases bound the number of parameters."""


@statement
def _renew(models: Models, dialect: str) -> Any:
    table = models.Turn.__table__
    c = table.c
    query = sa.update(table).where(_tokens(c), c.state.in_(LIVE_STATES))
    return query.values(expires_at=_lease_end(dialect)).returning(c.token, c.cancelled)


def stop_requests(store: Store, tokens: Sequence[str]) -> set[str]:
    """The *tokens* whose turns are to be cancelled."""
    found: set[str] = set()
    for start in range(0, len(tokens), _BATCH_SIZE):
        rows = store.execute(_stop_requests(store.models), {"tokens": list(tokens[start : start + _BATCH_SIZE])})
        found.update(rows.scalars())
    return found


@statement
def _stop_requests(models: Models) -> Any:
    c = models.Turn.__table__.c
    return sa.select(c.token).where(_tokens(c), c.cancelled)


def _tokens(c: Columns) -> sa.ColumnElement[bool]:
    # an index on tokens would be written with every turn; the one on leases holds the few that are live
    return sa.and_(c.expires_at.is_not(None), c.token.in_(sa.bindparam("tokens", expanding=True, type_=c.token.type)))


def dead(store: Store, *, limit: int) -> Sequence[DeadTurnRow]:
    """The conversation and the id of turns whose lease has ended, as far as this identity may see them."""
    return store.execute(_dead(store.models, store.dialect, store.system), _at(limit=limit)).all()


@statement
def _dead(models: Models, dialect: str, system: bool) -> Any:
    c = models.Turn.__table__.c
    owner = models.Conversation.__table__.c
    # nothing is written in the trash: such turns are recovered once their conversation is restored
    here = sa.select(constant(1)).where(owner.id == c.conversation_id, visible(models)).exists()
    query = sa.select(c.conversation_id, c.id).where(c.expires_at < _clock(dialect), here)
    if not system:
        query = query.where(owned_by_me(c))
    return query.order_by(c.expires_at).limit(sa.bindparam("limit", type_=sa.Integer))


def poll_status(store: Store, conversation_id: Any) -> PollRow | None:
    """For a poll: id, version and `rev` of the owner's conversation, and whether one of its turns is dead."""
    id_column, key = store.key(conversation_id)
    return store.execute(_poll_status(store.models, store.dialect, store.system, id_column), _at(key=key)).first()


@statement
def _poll_status(models: Models, dialect: str, system: bool, column: str) -> Any:
    c, r = models.Conversation.__table__.c, models.Turn.__table__.c
    dead = sa.select(constant(1)).where(r.conversation_id == c.id, r.expires_at < _clock(dialect)).exists()
    query = sa.select(c.id, c.version, c.rev, dead.label("dead"))
    return query.where(keyed(models, column), mine(models, system), visible(models))


def _columns(models: Models, dialect: str) -> list[sa.ColumnElement[Any]]:
    c = models.Turn.__table__.c
    dead = sa.func.coalesce(c.expires_at < _clock(dialect), sa.false())
    return [*(c[name] for name in STORED), dead.label("dead")]


def _conversation(c: Columns) -> sa.BindParameter[Any]:
    return sa.bindparam("of_conversation", type_=c.conversation_id.type)


def _clock(dialect: str) -> sa.ColumnElement[Any]:
    """The clock of the database: workers on several machines need not agree on the time. SQLite runs on one machine."""
    return sa.func.clock_timestamp() if dialect == "postgresql" else sa.bindparam("moment", type_=_MOMENT)


def _lease_end(dialect: str) -> sa.ColumnElement[Any]:
    if dialect != "postgresql":
        return sa.bindparam("until", type_=_MOMENT)
    zero = constant(0)
    seconds = sa.bindparam("lease", type_=sa.Double)
    return sa.func.clock_timestamp() + sa.func.make_interval(zero, zero, zero, zero, zero, zero, seconds)


def _at(lease: float = 0, **parameters: Any) -> dict[str, Any]:
    moment = now()
    return {"moment": moment, "lease": lease, "until": moment + dt.timedelta(seconds=lease), **parameters}
