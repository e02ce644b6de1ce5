"""What the tests of Proxmox's own share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from panel.engines.proxmox.config import mark_of
from panel.engines.proxmox.engine import ProxmoxEngine
from panel.engines.types import HostConnection, VmSpec
from tests.contract.kit import some_spec
from tests.doubles.pve import Door
from tests.doubles.pve_world import Cluster, Machine

USER, PASSWORD, TOKEN = "root@pam", "pass word=1", "panel@pve!openidcs"


@dataclass
class Double:
    """A cluster behind TLS, and how to connect to it."""

    world: Cluster
    door: Door
    base: str
    fingerprint: str

    def engine(self, user: str = TOKEN, secret: str = PASSWORD, storage: str = "", **options: str) -> ProxmoxEngine:
        options = {"fingerprint": self.fingerprint, "network_nat": "vmbr1"} | options
        return ProxmoxEngine(HostConnection("h", self.base, user, secret, disks_path=storage, options=options))


def spec(**changes: Any) -> VmSpec:
    """A clone of the template."""
    return some_spec("px-", **({"image": "debian-12"} | changes))


def machine(double: Double, ref: str) -> Machine:
    """The double's, by the panel's name for it."""
    marks = [(vm, mark_of(vm.config, vm.vmid)) for vm in double.world.machines.values()]
    return next(vm for vm, mark in marks if mark is not None and mark.ref == ref)
