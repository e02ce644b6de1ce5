"""Fixtures: a panel over a temporary database, and the same behind a real uvicorn."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from panel.models.database import close_database, open_database
from tests.console.kit import Panel, make_panel, serve


@pytest.fixture
async def panel(tmp_path: Path, migrated: Path) -> AsyncIterator[Panel]:
    shutil.copyfile(migrated, tmp_path / "panel.sqlite3")
    await open_database(f"sqlite://{tmp_path / 'panel.sqlite3'}")
    try:
        made = await make_panel(tmp_path)
        yield made
        await made.services.pool.close()
    finally:
        await close_database()


@pytest.fixture(params=["relay", "tunnel", "plain"])
async def place(panel: Panel, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """Where the panel serves: ``127.0.0.1:PORT``, with each road that a console's bytes may take."""
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(serve(panel.app, request.param))
