"""A libvirt engine on folders of a test module's own: what its tests share."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from panel.engines.libvirt.engine import LibvirtEngine
from panel.engines.types import (
    HostConnection,
    NicMode,
    NicSpec,
    VmObservation,
    VmSpec,
)
from tests.leftovers import URI, made_folder, remove

NETWORK = "e-live-nat"
IMAGE = "Tiny Linux"


class Report:
    """A reporter; ``at`` is called with the number of each step, from 1."""

    def __init__(self, at: Callable[[int], None] = lambda _: None) -> None:
        self.steps = 0
        self.warnings: list[str] = []
        self._at = at

    async def step(self, message: str, /, *, percent: int | None = None, **params: object) -> None:
        self.steps += 1
        self._at(self.steps)

    async def warn(self, message: str, /, **params: object) -> None:
        self.warnings.append(message)


@dataclass(frozen=True)
class Place:
    """Folders of this module's own."""

    root: Path

    @property
    def disks(self) -> Path:
        return self.root / "disks"

    @property
    def images(self) -> Path:
        return self.root / "images"

    def connection(self, address: str = URI) -> HostConnection:
        return HostConnection(
            "live", address, disks_path=str(self.disks), images_path=str(self.images), options={"network_nat": NETWORK}
        )

    def files(self) -> set[str]:
        return {path.name for path in self.disks.iterdir()}


@pytest.fixture(scope="module")
def place(demo_image: Path) -> Iterator[Place]:
    """Folders with the demo image; pools, network, VMs and folders go at the end."""
    made = Place(made_folder(NETWORK))
    made.images.mkdir()
    shutil.copyfile(demo_image, made.images / "tiny.qcow2")
    (made.images / "tiny.json").write_text(json.dumps({"os_name": IMAGE, "title": "A tiny Linux"}))
    yield made
    remove(made.root, [NETWORK])


@pytest.fixture
async def engine(place: Place) -> AsyncIterator[LibvirtEngine]:
    made = LibvirtEngine(place.connection())
    await made.prepare()
    yield made
    await made.close()


def spec(**changes: Any) -> VmSpec:
    mac = "52:54:00:" + ":".join(f"{byte:02x}" for byte in uuid4().bytes[:3])
    values: dict[str, Any] = {
        "ref": str(uuid4()),
        "name": f"e-{uuid4().hex[:8]}",
        "title": "Live",
        "cpu_count": 1,
        "memory_mib": 160,
        "disk_gib": 1,
        "nics": (NicSpec("eth0", NicMode.NAT, mac),),
        "image": IMAGE,
        "start": False,
    }
    return VmSpec(**(values | changes))


async def until(
    engine: LibvirtEngine, ref: str, ready: Callable[[VmObservation], object], seconds: float
) -> VmObservation:
    """Observe, as the observer does, until ``ready``."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        seen = next(vm for vm in await engine.observe() if vm.ref == ref)
        if ready(seen):
            return seen
        await asyncio.sleep(0.5)
    raise AssertionError(f"not within {seconds} s: {seen}")


async def ssh(address: str, password: str, command: str) -> str:
    """Run ``command`` as root in the guest; its SSH server comes up seconds after its address."""
    options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=5"]
    for _ in range(20):
        process = await asyncio.create_subprocess_exec(
            "sshpass", "-p", password, "ssh", *options, "-o", "PubkeyAuthentication=no", f"root@{address}", command,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        out, _err = await process.communicate()
        if process.returncode == 0:
            return out.decode().strip()
        await asyncio.sleep(1)
    raise AssertionError("no login by SSH")
