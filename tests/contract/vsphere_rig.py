"""VMware's own simulator as a vCenter, or as one ESXi alone, on a port of this machine."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from cryptography.hazmat.primitives.serialization import Encoding

from panel.engines.common.tls import fingerprint_of
from panel.engines.types import EngineKind, HostConnection, VmObservation, VmSpec
from tests.certs import made
from tests.doubles.vcsim import vcsim
from tests.doubles.vcsim_world import World

from .kit import SECRET
from .providers import Rig

USER = "panel"
ISO = "virtio-win.iso"


class VsphereRig(Rig):
    """A simulator with two templates and a CD image."""

    kind = EngineKind.VSPHERE
    iso = ISO
    many = 20
    boot_seconds = 30.0
    shutdown_seconds = 5.0

    def __init__(self, world: World, fingerprint: str) -> None:
        self.world = world
        prefix = "template-" if world.alone else ""
        self.image, self.big_image = f"{prefix}debian", f"{prefix}windows"
        world.add(self.image, template=True)
        world.add(self.big_image, gib=20, template=True)
        self.isos = world.folder / "iso"
        self.isos.mkdir()
        (self.isos / ISO).write_bytes(b"CD")
        options = {
            "fingerprint": fingerprint,
            "network_nat": "VM Network",
            "shutdown_timeout": "1",
            "guest_user": "openidcs",
        }
        self.connection = HostConnection(
            "contract",
            world.base,
            USER,
            SECRET,
            disks_path=world.store.name,
            images_path=f"[{world.store.name}] iso",
            options=options,
            secrets={"guest_pass": SECRET},
        )

    def deafen(self, ref: str) -> None:
        self.world.deafen(ref)

    def files(self) -> set[str]:
        top = self.world.folder
        return {str(path.relative_to(top)) for path in top.rglob("*") if path.is_file()}

    def lose_disks(self, ref: str, name: str) -> None:
        for path in (self.world.folder / name).glob("*.vmdk"):
            path.unlink()

    def lose_definition(self, ref: str) -> None:
        self.world.vm(ref).UnregisterVM()

    def foreign(self) -> tuple[str, str, str]:
        vm = self.world.add(f"{self.prefix}foreign-{uuid4().hex[:6]}")
        return vm.config.instanceUuid, vm.name, self.world.disk(vm)

    def remove_foreign(self, ref: str, disk: str) -> None:
        vm = self.world.vm(ref)
        if vm is not None:
            self.world.wait(vm.Destroy_Task())
        shutil.rmtree(self.world.path(disk).parent, ignore_errors=True)

    async def logs_in(self, seen: VmObservation, user: str, password: str) -> bool:
        if told := self.world.login(seen.ref):
            return told == f"{user}:{password}"
        lines = self.world.seed(seen.ref).get("chpasswd", {}).get("list", "").splitlines()
        return f"{user}:{password}" in lines

    def keys_told(self, spec: VmSpec) -> list[str]:
        return list(self.world.seed(spec.ref).get("ssh_authorized_keys", []))

    def exists(self, path: str) -> bool:
        return self.world.path(path).exists()


@contextmanager
def vsphere_rig(*, esx: bool) -> Iterator[Rig]:
    """A simulator of the suite's own."""
    own = made("localhost")
    with tempfile.TemporaryDirectory() as folder:
        pem = Path(folder) / "vcsim.pem"
        pem.write_text(own.key_pem + own.pem)
        with vcsim(pem, USER, SECRET, esx=esx) as base:
            fingerprint = fingerprint_of(own.certificate.public_bytes(Encoding.DER))
            yield VsphereRig(World(base, USER, SECRET), fingerprint)
