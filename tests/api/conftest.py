"""Fixtures of the API's tests: one panel for the tests that change nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from panel.app import create_app
from panel.engines.fake.world import reset_worlds
from panel.models.database import close_database, migrate, open_database
from panel.services.container import Services
from panel.settings import Settings
from tests.api.kit import make_host
from tests.conftest import ApiClient


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_panel(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ApiClient]:
    """A panel with host ``host1`` for a whole module."""
    settings = Settings(data_folder=Path(tmp_path_factory.mktemp("shared")) / "data", fake_engine=True)
    await migrate(settings.database)
    application = create_app(settings)
    services: Services = application.extensions["panel"]
    await open_database(settings.database)
    await services.access.ensure_token()
    await close_database()
    reset_worlds()
    async with application.test_app():
        api = ApiClient(application.test_client(), await services.access.token())
        await make_host(api, "host1")
        yield api


@pytest.fixture
def shared_api(shared_panel: ApiClient) -> ApiClient:
    """A client of the module's own panel. Use it for requests that change nothing."""
    return shared_panel
