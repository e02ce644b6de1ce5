"""Fixtures that every area of the tests shares."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from quart import Quart
from quart.typing import TestClientProtocol

from panel.app import create_app
from panel.engines.fake.world import reset_worlds
from panel.engines.types import EngineKind
from panel.models.database import close_database, migrate, open_database
from panel.security import Actor, Source
from panel.services.container import Services
from panel.services.hosts import HostRequest
from panel.settings import Settings
from tests.leftovers import swept

ROOT = Path(__file__).parents[1]
DEMO_IMAGE = Path(os.environ.get("PANEL_TEST_IMAGE", "/var/lib/openidcs/images/openidcs-demo.qcow2"))
ADMIN = Actor("admin", Source.API, "192.0.2.1", "token:test")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """For ``--dist loadgroup``: see ``tests/together.py``. For others, what pytest-xdist has."""
    if config.getvalue("dist") != "loadgroup":
        return None
    from tests.together import Together

    return Together(config, log)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Before anything runs: what a test run left that was killed. Its VMs have names that today's want."""
    if not hasattr(session.config, "workerinput"):
        swept()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a panel of its own, with the in-memory engine, quick to observe."""
    return Settings(data_folder=tmp_path / "data", fake_engine=True, observe_seconds=0.2, observe_timeout=2.0)


@pytest.fixture(autouse=True)
def fresh_worlds() -> Iterator[None]:
    """No test sees another's fake hosts."""
    reset_worlds()
    yield
    reset_worlds()


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty SQLite database of today's schema: copying it is quicker than making it again for each test."""
    path = tmp_path_factory.mktemp("migrated") / "panel.sqlite3"
    asyncio.run(migrate(f"sqlite://{path}"))
    return path


@pytest.fixture
async def app(settings: Settings, migrated: Path) -> AsyncIterator[Quart]:
    """A running panel."""
    settings.data_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copyfile(migrated, settings.data_folder / "panel.sqlite3")
    application = create_app(settings)
    await open_database(settings.database)
    await application.extensions["panel"].access.ensure_token()
    await close_database()
    async with application.test_app():
        yield application


@pytest.fixture
def services(app: Quart) -> Services:
    """Its services."""
    found: Services = app.extensions["panel"]
    return found


@pytest.fixture
async def token(services: Services) -> str:
    """Its access token."""
    return await services.access.token()


class ApiClient:
    """Calls the API as a program does: JSON in, (status, envelope) out."""

    def __init__(self, client: TestClientProtocol, token: str) -> None:
        self.client = client
        self.token = token

    async def __call__(self, method: str, path: str, body: Any = None, **kwargs: Any) -> tuple[int, dict[str, Any]]:
        headers = kwargs.pop("headers", {"Authorization": f"Bearer {self.token}"})
        response = await self.client.open(path, method=method, json=body, headers=headers, **kwargs)
        answer = await response.get_json()
        assert answer["code"] == response.status_code
        assert set(answer) == {"code", "msg", "data"}
        return response.status_code, answer

    async def ok(self, method: str, path: str, body: Any = None) -> Any:
        """The data of an answer that must be a success."""
        status, answer = await self(method, path, body)
        assert status == 200, answer
        return answer["data"]


@pytest.fixture
def api(app: Quart, token: str) -> ApiClient:
    """A client of the API with the token."""
    return ApiClient(app.test_client(), token)


@pytest.fixture
async def fake_host(services: Services) -> str:
    """A fake host named ``host1``, observed."""
    await services.hosts.create(ADMIN, "host1", HostRequest(engine=EngineKind.FAKE, address="world1"))
    await seen(services, "host1")
    return "host1"


async def seen(services: Services, name: str) -> None:
    """Wait until the observer has listed a host's images."""
    async with asyncio.timeout(5):
        while not await (await services.hosts.get(name)).images.all().exists():  # type: ignore[attr-defined]
            await asyncio.sleep(0.02)


@pytest.fixture(scope="session")
def demo_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo image: the one that ``make`` built, else built now."""
    if DEMO_IMAGE.exists():
        return DEMO_IMAGE
    folder = tmp_path_factory.mktemp("demo")
    subprocess.run([ROOT / "scripts/build_demo_image.sh", folder / "out", folder / "work"], check=True, timeout=600)
    return next((folder / "out").glob("*.qcow2"))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A thread that outlives the tests is a connection that nobody closed: a failure."""
    left = [
        thread.name for thread in threading.enumerate() if not thread.daemon and thread is not threading.main_thread()
    ]
    if left:
        print(f"\nThreads left over: {', '.join(left)}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_unconfigure(config: pytest.Config) -> None:
    """End even then: the interpreter would wait for such a thread for ever."""
    if any(not thread.daemon and thread is not threading.main_thread() for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)
