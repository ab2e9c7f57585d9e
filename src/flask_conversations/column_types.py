"""Column types that behave the same on SQLite and PostgreSQL, and read a corrupt value as absent instead of failing."""

from __future__ import annotations

import datetime as dt
import json
import logging
from collections.abc import Callable
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

logger = logging.getLogger("flask_conversations.storage")

_Processor = Callable[[Any], Any] | None


class UUIDString(TypeDecorator[str]):
    """A UUID that Python sees as its canonical text: `UUID` on PostgreSQL, `CHAR(32)` on SQLite."""

    impl = sa.Uuid(as_uuid=False)
    cache_ok = True

    def result_processor(self, dialect: Dialect, coltype: object) -> _Processor:
        if dialect.name == "sqlite":
            return _dashed
        return cast("_Processor", super().result_processor(dialect, coltype))


class UTCDateTime(TypeDecorator[dt.datetime]):
    """A time that is aware and in UTC in Python, on every database."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: dt.datetime | None, dialect: Dialect) -> dt.datetime | None:
        if value is None:
            return None
        utc = value.astimezone(dt.timezone.utc)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def result_processor(self, dialect: Dialect, coltype: object) -> _Processor:
        return _moment_from_text if dialect.name == "sqlite" else _moment


class JSONValue(TypeDecorator[Any]):
    """Any JSON value, given back equal; None is SQL NULL.

    `JSON` on PostgreSQL, since `JSONB` rewrites numbers; `TEXT` on SQLite, where a column of type `JSON` rewrites bare ones.
    """

    impl = sa.JSON(none_as_null=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> sa.types.TypeEngine[Any]:
        return dialect.type_descriptor(sa.Text() if dialect.name == "sqlite" else self.impl_instance)

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return json.dumps(value) if dialect.name == "sqlite" and value is not None else value

    def result_processor(self, dialect: Dialect, coltype: object) -> _Processor:
        if dialect.name == "sqlite":
            return _json_from_text
        return cast("_Processor", super().result_processor(dialect, coltype))


def _dashed(value: Any) -> str | None:
    if value is None:
        return None
    text = str(value)
    if len(text) != 32:
        return text
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _moment(value: dt.datetime | None) -> dt.datetime | None:
    # most servers use UTC: those values need no conversion
    if value is None or getattr(value.tzinfo, "key", None) in ("UTC", "Etc/UTC"):
        return value
    return value.astimezone(dt.timezone.utc)


def _moment_from_text(value: Any) -> dt.datetime | None:
    if value is None:
        return None
    try:
        return dt.datetime.fromisoformat(value + "+00:00")
    except (TypeError, ValueError):
        logger.warning("A row holds an invalid time; it is read as absent.")
        return None


def _json_from_text(value: Any) -> Any:
    if value is None:
        return None
    try:
        return json.loads(value, parse_constant=_absent)
    except (TypeError, ValueError, RecursionError):
        logger.warning("A row holds invalid JSON; it is read as absent.")
        return None


def _absent(constant: str) -> None:
    """NaN and Infinity are not JSON, although Python writes them."""
