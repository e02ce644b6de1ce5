"""Real Docker and real Podman on this machine, each with storage, socket and networks of the suite's own."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest

from panel.engines.types import EngineKind, HostConnection, VmObservation, VmSpec
from tests.oci import BIG, STILL, TINY, Daemon, Docker, Podman, daemon

from .kit import SECRET, some_spec
from .providers import Rig


class DockerRig(Rig):
    """``daemon`` has three images: one with a shell and chpasswd, one with a single program and a volume, and one
    to be listed."""

    kind = EngineKind.DOCKER
    iso = "virtio-win.iso"
    boot_seconds = 30.0
    shutdown_seconds = 5.0
    most_nics = 1

    def __init__(self, made: Daemon) -> None:
        self.daemon = made
        self.image, self.big_image = made.local + TINY, made.local + BIG
        self.connection = HostConnection(
            "contract",
            str(made.socket),
            secret=SECRET,
            options={"network_nat": f"oct-{os.getpid()}", "shutdown_timeout": "2"},
        )

    def spec(self, **changes: object) -> VmSpec:
        """Every VM is made from an image: of the one without tools unless the test says otherwise."""
        return some_spec(self.prefix, **({"image": self.daemon.local + STILL} | changes))

    def deafen(self, ref: str) -> None:
        """Its only process ignores the signal."""

    def files(self) -> set[str]:
        containers = {str(one["Id"]) for one in self.daemon.api("/v1.41/containers/json?all=1")}
        return containers | self._volumes()

    def lose_disks(self, ref: str, name: str) -> None:
        mounts = self.daemon.api(f"/v1.41/containers/{self._number(ref)}/json")["Mounts"]
        assert mounts
        for mount in mounts:
            shutil.rmtree(mount["Source"])

    def lose_definition(self, ref: str) -> None:
        self.daemon.cli("rm", self._number(ref))

    def foreign(self) -> tuple[str, str, str]:
        name = f"{self.prefix}foreign-{uuid4().hex[:6]}"
        volume = f"{name}-data"
        self.daemon.cli("volume", "create", volume)
        number = self.daemon.cli("create", "--name", name, "-v", f"{volume}:/srv", "--network", "none", TINY).strip()
        return number, name, volume

    def remove_foreign(self, ref: str, disk: str) -> None:
        self.daemon.cli("rm", "-f", "-v", ref, check=False)
        self.daemon.cli("volume", "rm", "-f", disk, check=False)

    async def logs_in(self, seen: VmObservation, user: str, password: str) -> bool:
        return await asyncio.to_thread(self._logs_in, seen, user, password)

    def _logs_in(self, seen: VmObservation, user: str, password: str) -> bool:
        shadow = self.daemon.cli("exec", self._number(seen.ref), "cat", "/etc/shadow")
        kept = next(line.split(":")[1] for line in shadow.splitlines() if line.startswith(f"{user}:"))
        if not kept.startswith("$6$"):
            return False
        command = ["openssl", "passwd", "-6", "-salt", kept.split("$")[2], "-stdin"]
        made = subprocess.run(command, input=password + "\n", capture_output=True, text=True, check=True)
        return made.stdout.strip() == kept

    def exists(self, path: str) -> bool:
        return path in self._volumes()

    def _volumes(self) -> set[str]:
        return {str(one["Name"]) for one in self.daemon.api("/v1.41/volumes")["Volumes"] or ()}

    def _number(self, ref: str) -> str:
        listed = self.daemon.api("/v1.41/containers/json?all=1")
        (found,) = [str(one["Id"]) for one in listed if (one["Labels"] or {}).get("openidcs.ref") == ref]
        return found


@contextmanager
def docker_rig(_request: pytest.FixtureRequest) -> Iterator[Rig]:
    """dockerd."""
    with daemon(Docker) as made:
        yield DockerRig(made)


@contextmanager
def podman_rig(_request: pytest.FixtureRequest) -> Iterator[Rig]:
    """podman system service."""
    with daemon(Podman) as made:
        yield DockerRig(made)
