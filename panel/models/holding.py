"""Who serves a database: SQLite takes one panel process, and says so to a second one."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tortoise import connections

from panel.errors import ConfigError

SECOND = (
    "Another process ({pid}) serves this database already. Stop it first; "
    "several processes need PostgreSQL: see docs/scaling.md."
)


@contextmanager
def held(url: str) -> Iterator[None]:
    """Hold an SQLite database for as long as the block lasts; the kernel lets go of it when the process dies.

    PostgreSQL is not held: any number of processes may serve it.

    Raises:
        ConfigError: another process holds it; names its id.
    """
    if not url.startswith("sqlite://"):
        yield
        return
    path = Path(url.removeprefix("sqlite://").partition("?")[0] + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError("{path} cannot be used: {reason}.", path=path.name, reason=error.strerror) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(SECOND, pid=os.pread(descriptor, 32, 0).decode("ascii", "replace") or "?") from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        with suppress(OSError):
            os.close(descriptor)


async def check_alone() -> None:
    """Refuse while anybody else is connected to the open PostgreSQL database.

    Raises:
        ConfigError: says how many connections there are.
    """
    rows = await connections.get("default").execute_query_dict(
        "SELECT count(*) AS others FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND backend_type = 'client backend'"
    )
    if others := rows[0]["others"]:
        raise ConfigError("The database has {others} other connections. Stop every panel process first.", others=others)
