"""A real LXD on this machine, over its unix socket."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest
import yaml

from panel.engines.hosttypes import NativeForward
from panel.engines.types import EngineKind, HostConnection, VmObservation, VmSpec
from tests.lxd import BARE_IMAGE, BIG_IMAGE, IMAGE, Lxd, lxd

from .kit import SECRET, some_spec
from .providers import Rig

LISTEN = "198.51.100.7"  # an address that nobody has: these forwards are looked at, not gone through


class IncusRig(Rig):
    """An LXD of the suite's own."""

    kind = EngineKind.INCUS
    image = IMAGE
    big_image = BIG_IMAGE
    iso = "none.iso"
    boot_seconds = 30.0
    shutdown_seconds = 5.0

    def __init__(self, server: Lxd) -> None:
        self.server = server
        options = {"network_nat": server.bridge, "shutdown_timeout": "3", "forward_addr": LISTEN}
        self.connection = HostConnection("contract", server.socket, secret=SECRET, options=options)

    def spec(self, **changes: object) -> VmSpec:
        """Every instance is made from an image: from one with nothing in it unless the test says otherwise."""
        return some_spec(self.prefix, **({"image": BARE_IMAGE} | changes))

    def deafen(self, ref: str) -> None:
        """Its only process hears nothing as it is."""

    def files(self) -> set[str]:
        disks = self.server.rootfs("x").parent
        return {str(path) for folder in (disks, disks.with_name("containers-snapshots")) for path in folder.iterdir()}

    def lose_disks(self, ref: str, name: str) -> None:
        shutil.rmtree(self.server.rootfs(self.server.named(ref)))

    def lose_definition(self, ref: str) -> None:
        raise AssertionError("an instance has no files without its definition: the engine declares no leftovers")

    def foreign(self) -> tuple[str, str, str]:
        name = f"{self.prefix}foreign-{uuid4().hex[:6]}"
        self.server.lxc("init", IMAGE, name)
        ref = self.server.api(f"/1.0/instances/{name}")["config"]["volatile.uuid"]
        return ref, name, str(self.server.rootfs(name))

    def remove_foreign(self, ref: str, disk: str) -> None:
        self.server.lxc("delete", "-f", disk.rsplit("/", 1)[1])

    def foreign_forward(self, forward: NativeForward) -> None:
        self.server.forward(LISTEN, forward.protocol, forward.port, forward.address, forward.target_port)

    async def logs_in(self, seen: VmObservation, user: str, password: str) -> bool:
        return await asyncio.to_thread(self.server.password_is, self.server.named(seen.ref), user, password)

    def keys_told(self, spec: VmSpec) -> list[str]:
        config = self.server.api(f"/1.0/instances/{self.server.named(spec.ref)}")["config"]
        return list(yaml.safe_load(config.get("user.user-data") or "{}").get("ssh_authorized_keys", []))

    def exists(self, path: str) -> bool:
        return path in self.files()


@contextmanager
def incus_rig(_request: pytest.FixtureRequest) -> Iterator[Rig]:
    """A server of the suite's own."""
    with lxd() as server:
        yield IncusRig(server)
