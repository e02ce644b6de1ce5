"""A real Caddy in the namespace ``gw``, guests that speak HTTP, and visitors from outside."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from panel.gateways.caddy.gateway import CaddyGateway
from panel.gateways.sites import SiteWish
from tests.gateways.world import GW4, World


class Visitors:
    """Ask from ``wan``; names lead to ``gw``."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.root = folder / "storage/pki/authorities/local/root.crt"

    def curl(self, url: str, *options: str, root: Path | None = None) -> str:
        """What curl prints of ``url``, with the answer's head; empty when it fails."""
        name, secure = url.split("/")[2], url.startswith("https")
        where = ["--resolve", f"{name}:{443 if secure else 80}:{GW4}"]
        trust = ["--cacert", str(root or self.root)] if secure else []
        command = ["curl", "-sS", "-i", "-m", "20", *where, *trust, *options, url]
        return self.world.run("wan", *command, check=False)

    def until(self, url: str, wanted: str, *options: str, seconds: float = 60, root: Path | None = None) -> str:
        """Ask until ``wanted`` is in the answer."""
        deadline = time.monotonic() + seconds
        while wanted not in (found := self.curl(url, *options, root=root)):
            assert time.monotonic() < deadline, found
            time.sleep(0.1)
        return found


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short: sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="oi", ignore_cleanup_errors=True) as name:
        yield Path(name) / "proxy"


@pytest.fixture
def visitors(world: World, folder: Path) -> Iterator[Visitors]:
    """With both guests at work."""
    script = str(Path(__file__).with_name("guest.py"))
    guests = [
        subprocess.Popen(["ip", "netns", "exec", world.names[name], sys.executable, script, f"guest {name}"])
        for name in ("a", "b")
    ]
    for name in ("a", "b"):
        while world.call(name, "127.0.0.1", 81, seconds=0.2) is None and not _listens(world, name):
            time.sleep(0.05)
    yield Visitors(world, folder)
    for guest in guests:
        guest.kill()
        guest.wait()


def _listens(world: World, name: str) -> bool:
    return ":81 " in world.run(name, "ss", "-ltn")


@pytest.fixture
async def proxy(world: World, folder: Path) -> AsyncIterator[CaddyGateway]:
    """The gateway, whose Caddy runs in ``gw`` and ends with the test."""
    made = CaddyGateway(folder, ("ip", "netns", "exec", world.names["gw"]))
    yield made
    await asyncio.wait_for(made.apply(SiteWish()), 30)
