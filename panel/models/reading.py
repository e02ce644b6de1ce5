"""A second connection of SQLite, for what requests only read: they do not queue behind what the observer writes.

In WAL mode a reader sees all that was committed before its query began, and hinders no writer. PostgreSQL has a pool, and
needs none of this.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from tortoise import connections
from tortoise.backends.base.client import TransactionalDBClient
from tortoise.models import Model

READER = "reader"

_reading: ContextVar[bool] = ContextVar("reading", default=False)


class ReadRouter:
    """Tortoise's router: which connection a query takes."""

    def db_for_read(self, _model: type[Model]) -> str:
        """The reader within ``reading``; but within a transaction its own connection, which alone sees what it wrote."""
        if not _reading.get() or isinstance(connections.get("default"), TransactionalDBClient):
            return "default"
        return READER

    def db_for_write(self, _model: type[Model]) -> str:
        """Always the one that writes."""
        return "default"


@contextmanager
def reading(wanted: bool = True) -> Iterator[None]:
    """Within this, queries that only read take the reader, where there is one. What is written within stays visible."""
    token = _reading.set(wanted)
    try:
        yield
    finally:
        _reading.reset(token)
