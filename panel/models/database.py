"""Opening, migrating and closing the database."""

from __future__ import annotations

import errno
import re
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from tortoise import Tortoise, connections
from tortoise.backends.base.config_generator import expand_db_url
from tortoise.exceptions import BaseORMException, DBConnectionError, IntegrityError, OperationalError
from tortoise.migrations.api import migrate as run_migrations

from panel.errors import ConfigError
from panel.models.notify import AWAY, connect
from panel.models.reading import READER, ReadRouter

DISK_FULL = "53100"  # PostgreSQL's disk_full
SCHEMES = ("sqlite://", "postgres://", "asyncpg://")
CONNECT_SECONDS = 5  # to PostgreSQL, until a request is told that it does not answer
STATEMENT_SECONDS = 30.0
MIGRATION_LOCK = 0x6F70656E6964  # of PostgreSQL's advisory locks: one process migrates at a time


def config(url: str, *, migrating: bool = False) -> dict[str, Any]:
    """Tortoise's configuration for ``url``.

    While migrating, SQLite's foreign keys are off: Tortoise rebuilds tables, and dropping a parent would cascade.
    """
    connections: dict[str, Any] = {"default": url}
    if url.startswith("sqlite://"):
        url += f"?journal_mode=WAL&busy_timeout=10000&synchronous=NORMAL&foreign_keys={'OFF' if migrating else 'ON'}"
        connections = {"default": url} if migrating else {"default": url, READER: url + "&query_only=ON"}
    if is_shared(url):
        expanded = expand_db_url(url)
        limits = {"timeout": CONNECT_SECONDS, "command_timeout": None if migrating else STATEMENT_SECONDS}
        expanded["credentials"] = limits | expanded["credentials"]
        connections = {"default": expanded}
    return {
        "connections": connections,
        "apps": {
            "models": {
                "models": ["panel.models"],
                "migrations": "panel.migrations",
                "default_connection": "default",
            }
        },
        "use_tz": True,
        "timezone": "UTC",
    }


def is_shared(url: str) -> bool:
    """Whether several processes of the panel may serve over this database."""
    return not url.startswith("sqlite://")


def product(url: str) -> str:
    """The database's name, as people write it."""
    return "PostgreSQL" if is_shared(url) else "SQLite"


def is_away(error: BaseException) -> bool:
    """Whether an error says that PostgreSQL does not answer now, and may soon: nothing is wrong with what was asked."""
    if isinstance(error, (DBConnectionError, *AWAY[1:])):
        return True
    if isinstance(error, OSError):  # a connection that is refused, reset, or takes too long; not that of a hypervisor
        frames = traceback.walk_tb(error.__traceback__)
        return any(frame.f_globals.get("__name__", "").startswith("asyncpg") for frame, _line in frames)
    return False


async def migrate(url: str) -> list[str]:
    """Bring the schema up to date. Returns the names of the migrations that were applied.

    Raises:
        ConfigError: the database cannot be reached or refuses.
    """
    applied: list[str] = []

    def note(event: str, _app: str, name: str) -> None:
        if event == "apply_done":
            applied.append(name)

    _check_scheme(url)
    try:
        if url.startswith("sqlite://"):
            Path(url.removeprefix("sqlite://")).parent.mkdir(parents=True, exist_ok=True)
        async with _alone(url):
            await run_migrations(config=config(url, migrating=True), progress=note)
        if url.startswith("sqlite://"):
            await _check_foreign_keys()
    except (BaseORMException, *AWAY) as error:
        raise ConfigError("The database cannot be migrated: {reason}.", reason=_short(error)) from error
    finally:
        with suppress(Exception):
            await connections.close_all()
    return applied


@asynccontextmanager
async def _alone(url: str) -> AsyncIterator[None]:
    """Inside the block, no other process migrates the same PostgreSQL."""
    if not is_shared(url):
        yield
        return
    connection = await connect(url)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", MIGRATION_LOCK)
        yield
    finally:
        connection.terminate()  # the lock goes with it


async def _check_foreign_keys() -> None:
    broken = await connections.get("default").execute_query_dict("PRAGMA foreign_key_check")
    if broken:
        tables = ", ".join(sorted({str(row["table"]) for row in broken}))
        raise ConfigError("The migration left rows without their parent in: {tables}.", tables=tables)


async def open_database(url: str) -> None:
    """Connect. The models are usable until ``close_database``.

    Raises:
        ConfigError: the database cannot be reached or refuses.
    """
    _check_scheme(url)
    try:
        routers: list[str | type] = [ReadRouter] if url.startswith("sqlite://") else []
        await Tortoise.init(config=config(url), routers=routers, _enable_global_fallback=True)
        await connections.get("default").execute_query("SELECT 1")
    except (BaseORMException, *AWAY) as error:
        raise ConfigError("The database cannot be opened: {reason}.", reason=_short(error)) from error


def part_of() -> str:
    """The filter for a part of a text, in either case. SQLite's LIKE sees no difference of ASCII's cases itself; folding
    both sides before it, as Tortoise's ``icontains`` does, costs two and a half times as much."""
    return "contains" if connections.get("default").capabilities.dialect == "sqlite" else "icontains"


async def close_database() -> None:
    """Disconnect."""
    await Tortoise.close_connections()


def _check_scheme(url: str) -> None:
    if not url.startswith(SCHEMES):
        raise ConfigError("The database URL must begin with sqlite:// or postgres://.")


def _short(error: Exception) -> str:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return re.sub(r"(://[^:/@\s]*):[^@\s]*@", r"\1:***@", text)[:200]


def is_full(error: BaseException | None) -> bool:
    """Whether there was no room on a disk: said by SQLite, PostgreSQL or the system, or by what led to ``error``."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return True
        if getattr(error, "sqlstate", "") == DISK_FULL or "disk is full" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def is_unable(error: BaseException) -> bool:
    """Whether the database could not do its work now, and may later: what was asked of it was not at fault."""
    return isinstance(error, OperationalError | DBConnectionError) and not isinstance(error, IntegrityError)
