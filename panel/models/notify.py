"""PostgreSQL's NOTIFY: a connection of its own, which listens and tells, and says when it broke."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import asyncpg
from tortoise.backends.base.config_generator import expand_db_url

CHANNEL = "openidcs"
MOST_BYTES = 7900  # of a payload: PostgreSQL takes less than 8000
CONNECT_SECONDS = 5.0
QUERY_SECONDS = 5.0
OURS = {"minsize", "maxsize", "min_size", "max_size", "max_queries", "max_inactive_connection_lifetime", "schema"}
AWAY = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.exceptions.InternalClientError,  # of a connection that is cut while it is being taken
    asyncpg.OperatorInterventionError,  # it shuts down, or is starting
    asyncpg.InsufficientResourcesError,  # it has no connection left for us
)
FAILURES = (*AWAY, asyncpg.PostgresError)


class NotifyConnection:
    """One connection to PostgreSQL that listens on ``CHANNEL``."""

    def __init__(self, connection: Any, ended: asyncio.Event) -> None:
        self._connection = connection
        self.ended = ended  # set once it is broken or closed

    @classmethod
    async def open(cls, url: str, heard: Callable[[str], None]) -> NotifyConnection:
        """Connect and listen; ``heard`` gets each payload, also those of this connection.

        Raises:
            FAILURES: it cannot be reached, or refuses.
        """
        connection = await connect(url)
        ended = asyncio.Event()
        try:
            connection.add_termination_listener(lambda _connection: ended.set())
            await connection.add_listener(CHANNEL, lambda _c, _pid, _channel, payload: heard(str(payload)))
        except BaseException:
            connection.terminate()
            raise
        return cls(connection, ended)

    async def tell(self, payload: str) -> None:
        """NOTIFY. It also finds out whether the connection still works: ``FAILURES`` when not."""
        async with asyncio.timeout(QUERY_SECONDS):
            await self._connection.execute("SELECT pg_notify($1, $2)", CHANNEL, payload)

    async def probe(self) -> None:
        """Listen once more, which changes nothing: raises as ``tell`` does. Whoever looks into ``pg_stat_activity`` sees what
        the connection is for."""
        async with asyncio.timeout(QUERY_SECONDS):
            await self._connection.execute(f"LISTEN {CHANNEL}")

    async def close(self) -> None:
        """Disconnect, whatever state it is in."""
        with suppress(Exception):
            async with asyncio.timeout(1.0):
                await self._connection.close()
        self._connection.terminate()
        self.ended.set()


async def connect(url: str) -> Any:
    """A connection outside of Tortoise's pool, from the URL that Tortoise takes."""
    return await asyncpg.connect(**({"timeout": CONNECT_SECONDS} | _credentials(url)))


def _credentials(url: str) -> dict[str, Any]:
    """What asyncpg needs of Tortoise's URL."""
    found: dict[str, Any] = dict(expand_db_url(url)["credentials"])
    application = found.pop("application_name", None)
    settings = dict(found.pop("server_settings", None) or {})
    if application:
        settings["application_name"] = str(application)
    return {name: value for name, value in found.items() if name not in OURS} | {"server_settings": settings}
