"""A panel with two imaginary hosts, and a browser without JavaScript in front of it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from quart import Quart, Response

from panel.engines.fake.world import FakeWorld, world
from panel.engines.types import EngineKind
from panel.models import Host, Vm
from panel.security import PANEL
from panel.services.container import Services
from panel.services.hosts import HostRequest

ALPHA_VMS = 30


@pytest.fixture
async def alpha(services: Services) -> FakeWorld:
    """Host ``alpha`` with 30 VMs, ``vm-0001`` to ``vm-0030``, adopted; two thirds of them run."""
    await services.hosts.create(
        PANEL, "alpha", HostRequest(EngineKind.FAKE, address="alpha", options={"vms": str(ALPHA_VMS)})
    )
    task = await services.vms.scan(PANEL, await services.hosts.get("alpha"))
    assert (await services.tasks.wait(task.id, 10)).status == "succeeded"
    await until(_has_images)
    return world("alpha")


async def _has_images() -> bool:
    host = await Host.get(name="alpha").prefetch_related("images")
    return len(list(host.images)) == 5 and host.health == "online"  # type: ignore[attr-defined]


@dataclass
class Browser:
    """What a browser without JavaScript does: keeps cookies, reads forms, follows redirects."""

    client: Any
    token: str
    headers: dict[str, str] = field(default_factory=dict)
    html: str = ""
    path: str = ""
    status: int = 0

    async def get(self, path: str, **headers: str) -> Response:
        """Open a page, wherever it leads."""
        response = await self.client.get(path, headers=self.headers | headers)
        return await self.arrive(path, response)

    async def post(self, path: str, /, follow: bool = True, csrf: bool = True, **fields: str) -> Response:
        """Send a form, with the page's token."""
        if csrf:
            fields["csrf_token"] = self.csrf
        response = await self.client.post(path, form=fields, headers=self.headers)
        return await self.arrive(path, response) if follow else response

    async def arrive(self, path: str, response: Response) -> Response:
        """Follow an answer of ``path`` wherever it leads, and read the page."""
        while response.status_code in {301, 302, 303, 307, 308}:
            path = response.headers["Location"]
            response = await self.client.get(path, headers=self.headers)
        self.status, self.path, self.html = response.status_code, path, (await response.get_data()).decode()
        return response

    @property
    def csrf(self) -> str:
        """The token of the page that is open."""
        found = re.search(r'<meta name="csrf-token" content="([^"]*)"', self.html)
        return found[1] if found else ""

    @property
    def text(self) -> str:
        """The page without its tags."""
        return " ".join(re.sub(r"<[^>]*>", " ", self.html).split())

    async def login(self) -> Browser:
        """Log in with the token."""
        await self.get("/login")
        await self.post("/login", token=self.token)
        assert self.status == 200, self.text
        return self


@pytest.fixture
def stranger(app: Quart, token: str) -> Browser:
    """Somebody who is not logged in."""
    return Browser(app.test_client(), token)


@pytest.fixture
async def browser(stranger: Browser) -> Browser:
    """Somebody who is."""
    return await stranger.login()


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 10.0) -> None:
    """Wait until ``condition`` holds."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.02)


async def vm_named(name: str, host: str = "alpha") -> Vm:
    """A VM's row, read now."""
    return await Vm.get(name=name, host__name=host).prefetch_related("host", "nics")
