"""Backup, restore and the move to another database: one mechanism, the rows of all tables, checked row by row."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.backends.base.executor import EXECUTOR_CACHE
from tortoise.exceptions import BaseORMException
from tortoise.transactions import in_transaction

from panel import __version__
from panel.errors import ConfigError
from panel.models import dump
from panel.models.database import close_database, migrate, open_database
from panel.models.holding import check_alone, held
from panel.security import KEY_FILE, SecretBox, replace_key
from panel.services.backupfile import Head, backup_writer, read_head, read_rows
from panel.services.clock import now
from panel.settings import Settings

PROOF = "openidcs"  # what the head of a backup seals
PASSING = frozenset(
    {"session", "console_ticket", "login_failure", "process_node"}
)  # a restored login would be one that had ended


@dataclass(frozen=True, slots=True)
class Copied:
    """How many rows of how many tables."""

    rows: int
    tables: int


async def backup(settings: Settings, path: Path, *, with_key: bool = False, passing: bool = False) -> Copied:
    """Write all rows to a file, as they are at one moment, also while panels serve. Secrets in it stay sealed with the data
    folder's key, which is in the file only ``with_key``; logins are only with ``passing``.

    Raises:
        ConfigError: the database or the file cannot be used.
    """
    box = SecretBox.open(settings.data_folder)
    key = (settings.data_folder / KEY_FILE).read_text("ascii").strip() if with_key else ""
    await migrate(settings.database)
    await open_database(settings.database)
    try:
        with backup_writer(path, Head(__version__, now().isoformat(), box.seal(PROOF), key)) as writer:
            async with in_transaction("default") as connection:
                await dump.snapshot(connection)
                for table, model in dump.tables().items():
                    if table in PASSING and not passing:
                        continue
                    digest = writer.table(table)
                    async for row in dump.read_rows(model, connection):
                        digest.add(row)
                        writer.line([row])
            return Copied(sum(it.rows for it in writer.digests.values()), len(writer.digests))
    finally:
        await close_database()


async def restore(settings: Settings, path: Path) -> Copied:
    """Replace everything in the database by what the file has: all of it or, when something is wrong, nothing. No panel may
    serve the database meanwhile.

    Raises:
        ConfigError: the file is no whole backup, its secrets are sealed with another key, or a panel serves the database.
    """
    head = await asyncio.to_thread(_checked, path)
    key = _fitting_key(settings, head)
    with held(settings.database):
        copied = await _replace(settings.database, path)
        if key:
            replace_key(settings.data_folder, key)
        return copied


async def migrate_to(settings: Settings, url: str) -> Copied:
    """Copy everything to the empty database at ``url``. No panel may serve this one meanwhile, or what it writes is lost.

    Raises:
        ConfigError: one of the databases cannot be used, the other one is not empty, or a panel serves this one.
    """
    if url == settings.database:
        raise ConfigError("This is the database that the panel uses already.")
    path = settings.data_folder / f".moving.{os.getpid()}"
    with held(settings.database), held(url):
        try:
            await backup(settings, path, passing=True)
            return await _replace(url, path, only_empty=True)
        finally:
            path.unlink(missing_ok=True)


async def _replace(url: str, path: Path, *, only_empty: bool = False) -> Copied:
    await migrate(url)
    EXECUTOR_CACHE.clear()  # statements are kept by connection name: those of another kind of database would be used
    await open_database(url)
    try:
        if not url.startswith("sqlite://"):
            await check_alone()
        async with in_transaction("default") as connection:
            if only_empty:
                for table, model in dump.tables().items():
                    if await model.all(using_db=connection).exists():
                        raise ConfigError("The other database is not empty: table {table} has rows.", table=table)
            await dump.empty(connection)
            sent = await _write(path, connection)
            await _compare(sent, connection)
            await dump.set_counters(connection)
        return Copied(sum(it.digest.rows for it in sent.values()), len(sent))
    except (BaseORMException, ValueError) as error:
        raise ConfigError(
            "The backup does not fit this database: {reason}.", reason=str(error).splitlines()[0][:200]
        ) from error
    finally:
        await close_database()
        EXECUTOR_CACHE.clear()


@dataclass(slots=True)
class _Sent:
    """What was written of one table: its columns, and the digest of its rows."""

    columns: frozenset[str]
    digest: dump.Digest


async def _write(path: Path, connection: BaseDBAsyncClient) -> dict[str, _Sent]:
    models = dump.tables()
    sent: dict[str, _Sent] = {}
    for table, rows in _batches(path):
        if table not in models:
            raise ConfigError(
                "There is no table {table}: the backup was made by a newer panel. Update this one first.", table=table
            )
        here = sent.setdefault(table, _Sent(frozenset(rows[0]), dump.Digest()))
        for row in rows:
            here.digest.add(row)
        await dump.write_rows(models[table], rows, connection)
    return sent


def _batches(path: Path) -> Iterator[tuple[str, list[dump.Row]]]:
    for table, items in groupby(read_rows(path), key=lambda item: item[0]):
        while rows := [row for _table, row in islice(items, dump.BATCH)]:
            yield table, rows


async def _compare(sent: dict[str, _Sent], connection: BaseDBAsyncClient) -> None:
    """Read back what was written, and compare it with what the file has. An older panel's file lacks newer columns."""
    for table, model in dump.tables().items():
        wanted = sent.get(table, _Sent(frozenset(), dump.Digest()))
        found = dump.Digest()
        async for row in dump.read_rows(model, connection):
            found.add({name: value for name, value in row.items() if name in wanted.columns})
        if (found.rows, found.value) != (wanted.digest.rows, wanted.digest.value):
            raise ConfigError("Table {table} did not arrive as it was sent. Nothing was changed.", table=table)


def _checked(path: Path) -> Head:
    """The head of a file that is whole."""
    head = read_head(path)
    for _row in read_rows(path):
        pass
    return head


def _fitting_key(settings: Settings, head: Head) -> str:
    """The key that the data folder has to get, or nothing when it has the right one."""
    try:
        if SecretBox.open(settings.data_folder).unseal(head.sealed) == PROOF:
            return ""
    except ConfigError as error:
        if not head.key:
            raise ConfigError(
                "The secrets of the backup are sealed with another {key}. Put that file into the data folder first.",
                key=KEY_FILE,
            ) from error
    try:
        if SecretBox(head.key.encode()).unseal(head.sealed) == PROOF:
            return head.key
    except ValueError:
        pass
    raise ConfigError("The key in the backup does not open its secrets.")
