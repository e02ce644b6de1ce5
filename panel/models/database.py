"""Opening, migrating and closing the database."""

from __future__ import annotations

import errno
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from tortoise import Tortoise, connections
from tortoise.exceptions import BaseORMException, DBConnectionError, IntegrityError, OperationalError
from tortoise.migrations.api import migrate as run_migrations

from panel.errors import ConfigError
from panel.models.reading import READER, ReadRouter

DISK_FULL = "53100"  # PostgreSQL's disk_full
SCHEMES = ("sqlite://", "postgres://", "asyncpg://")


def config(url: str, *, migrating: bool = False) -> dict[str, Any]:
    """Tortoise's configuration for ``url``.

    While migrating, SQLite's foreign keys are off: Tortoise rebuilds tables, and dropping a parent would cascade.
    """
    connections = {"default": url}
    if url.startswith("sqlite://"):
        url += f"?journal_mode=WAL&busy_timeout=10000&synchronous=NORMAL&foreign_keys={'OFF' if migrating else 'ON'}"
        connections = {"default": url} if migrating else {"default": url, READER: url + "&query_only=ON"}
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
        await run_migrations(config=config(url, migrating=True), progress=note)
        if url.startswith("sqlite://"):
            await _check_foreign_keys()
    except (BaseORMException, OSError) as error:
        raise ConfigError("The database cannot be migrated: {reason}.", reason=_short(error)) from error
    finally:
        with suppress(Exception):
            await connections.close_all()
    return applied


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
    except (BaseORMException, OSError) as error:
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


def is_away(error: BaseException) -> bool:
    """Whether the database could not do its work now, and may later: what was asked of it was not at fault."""
    return isinstance(error, OperationalError | DBConnectionError) and not isinstance(error, IntegrityError)
