"""All rows of the database, independent of its kind: read in one snapshot, written in one transaction, compared row by row."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import orjson
from tortoise import Tortoise
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.fields import BinaryField, DatetimeField, JSONField
from tortoise.fields.base import Field
from tortoise.models import Model

from panel.errors import ConfigError

BATCH = 500  # rows

Row = dict[str, Any]  # by column: what JSON can hold


def tables() -> dict[str, type[Model]]:
    """The models by table, parents before their children."""
    models = set(Tortoise.apps["models"].values()) if Tortoise.apps else set()
    ordered: dict[str, type[Model]] = {}
    while models:
        placed = set(ordered.values())
        ready = [model for model in models if _parents(model) - {model} <= placed]
        if not ready:
            raise AssertionError("The models refer to one another in a circle.")
        for model in sorted(ready, key=lambda model: model._meta.db_table):
            ordered[model._meta.db_table] = model
            models.discard(model)
    return ordered


def _parents(model: type[Model]) -> set[type[Model]]:
    return {
        model._meta.fields_map[name].related_model  # type: ignore[attr-defined]
        for name in (*model._meta.fk_fields, *model._meta.o2o_fields)
    }


def columns(model: type[Model]) -> dict[str, Field[Any]]:
    """The stored fields of a model, by name."""
    return {name: model._meta.fields_map[name] for name in sorted(model._meta.fields_db_projection)}


async def snapshot(connection: BaseDBAsyncClient) -> None:
    """Make the transaction that has just begun see the database as it is now until it ends."""
    if connection.capabilities.dialect == "postgres":
        await connection.execute_script("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")


async def read_rows(model: type[Model], connection: BaseDBAsyncClient) -> AsyncIterator[Row]:
    """Every row of a table, by its key."""
    fields = columns(model)
    query = model.all(using_db=connection).order_by(model._meta.pk_attr).limit(BATCH)
    batch = await query
    while batch:
        for item in batch:
            yield {name: _plain(field, getattr(item, name)) for name, field in fields.items()}
        batch = await query.filter(pk__gt=batch[-1].pk)


async def write_rows(model: type[Model], rows: Iterable[Row], connection: BaseDBAsyncClient) -> None:
    """Insert rows with the keys they have. A column that they lack gets its default.

    Raises:
        ConfigError: they have a column that the table has not.
    """
    fields = columns(model)
    made: list[Model] = []
    for row in rows:
        if unknown := sorted(set(row) - set(fields)):
            raise ConfigError(
                "Table {table} has no column {name}: it was written by a newer panel. Update this one first.",
                table=model._meta.db_table,
                name=unknown[0],
            )
        made.append(model(**{name: _value(fields[name], value) for name, value in row.items()}))
    await model.bulk_create(made, batch_size=BATCH, using_db=connection)


async def empty(connection: BaseDBAsyncClient) -> None:
    """Delete every row."""
    for model in reversed(tables().values()):
        await model.all(using_db=connection).delete()


async def set_counters(connection: BaseDBAsyncClient) -> None:
    """Let PostgreSQL's counters go on after the highest keys; SQLite's do by themselves."""
    if connection.capabilities.dialect != "postgres":
        return
    for table, model in tables().items():
        if model._meta.pk.generated:
            key = model._meta.db_pk_column
            await connection.execute_query(
                f"SELECT setval(pg_get_serial_sequence('{table}', '{key}'), max({key})) FROM {table}"  # noqa: S608
                f" HAVING max({key}) IS NOT NULL"
            )


class Digest:
    """The SHA-256 of each row, added up: the same for the same rows in any order, since databases sort text differently."""

    def __init__(self) -> None:
        self.rows = 0
        self._sum = 0

    def add(self, row: Row) -> None:
        """One more row."""
        self.rows += 1
        hashed = hashlib.sha256(orjson.dumps(row, option=orjson.OPT_SORT_KEYS)).digest()
        self._sum = (self._sum + int.from_bytes(hashed)) % 2**256

    @property
    def value(self) -> str:
        """Hex."""
        return f"{self._sum:064x}"


def _plain(field: Field[Any], value: Any) -> Any:
    if value is None:
        return None
    if isinstance(field, BinaryField):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return value.value if isinstance(value, Enum) else value


def _value(field: Field[Any], value: Any) -> Any:
    if value is None or isinstance(field, JSONField):
        return value
    if isinstance(field, BinaryField):
        return base64.b64decode(value, validate=True)
    if isinstance(field, DatetimeField):
        return datetime.fromisoformat(value)
    return field.to_python_value(value)
