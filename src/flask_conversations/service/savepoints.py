"""Rollbacks that also work on a lost connection, and keep the error that led to them."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from sqlalchemy.exc import DBAPIError, InvalidRequestError
from sqlalchemy.orm import Session

from ..store import Store

logger = logging.getLogger("flask_conversations")


def undo(session: Session) -> None:
    """Roll back. If that fails, the connection is lost, and its transaction with it."""
    try:
        session.rollback()
    except (DBAPIError, InvalidRequestError) as error:
        logger.debug("The connection was lost at a rollback (%s).", type(error).__name__)
        session.invalidate()


@contextlib.contextmanager
def savepoint(store: Store) -> Iterator[None]:
    """A savepoint around a block. If the block raises, it is rolled back, and only the error of the block is raised."""
    nested = store.session.begin_nested()
    try:
        store.renew_connection()
        yield
    except BaseException:
        try:
            nested.rollback()
        except (DBAPIError, InvalidRequestError) as error:
            logger.debug("The connection was lost at a savepoint (%s).", type(error).__name__)
        raise
    nested.commit()
