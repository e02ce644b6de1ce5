"""Real libvirt on this machine: folders, a network and VMs of the suite's own, all gone afterwards.

libvirt must be running (``make test`` sees to that) and the fixture ``demo_image`` must give a bootable qcow2.
"""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import asyncssh
import libvirt
import pycdlib
import pytest
import yaml

from panel.engines.base import Engine
from panel.engines.types import EngineKind, HostConnection, VmObservation, VmSpec
from tests.leftovers import URI, connected, made_folder, remove

from .kit import SECRET
from .providers import Rig
from .terminal import Terminal

NETWORK = f"oct-{os.getpid()}"  # two runs at once must not meet
FOREIGN = """
<domain type='qemu'><name>{name}</name><uuid>{ref}</uuid><memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type></os>
<devices><disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{disk}'/>
<target dev='vda' bus='virtio'/></disk></devices></domain>
"""


def make_qcow2(path: Path, gib: int) -> None:
    """An empty disk."""
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), f"{gib}G"], check=True)
    path.chmod(0o644)


def make_iso(path: Path) -> None:
    """A CD with nothing on it."""
    iso = pycdlib.PyCdlib()
    iso.new()
    iso.write(str(path))
    iso.close()


class LibvirtRig(Rig):
    """``root`` holds the folders of disks, of images, and of disks that are not the panel's."""

    kind = EngineKind.LIBVIRT
    image = "Debian 12"
    big_image = "Big"
    iso = "Rescue CD.iso"
    shutdown_seconds = 12.0

    def __init__(self, root: Path, demo_image: Path) -> None:
        self.prefix = f"ct-{root.name[-6:]}-"
        self.disks, self.images, self.others = root / "disks", root / "images", root / "others"
        for folder in (self.disks, self.images, self.others):
            folder.mkdir(mode=0o755)
        shutil.copyfile(demo_image, self.images / f"{self.image}.qcow2")
        make_qcow2(self.images / f"{self.big_image}.qcow2", 5)
        make_iso(self.images / self.iso)
        self.connection = HostConnection(
            "contract",
            address=URI,
            secret=SECRET,
            disks_path=str(self.disks),
            images_path=str(self.images),
            options={"network_nat": NETWORK},
        )

    def engine(self) -> Engine:
        made = super().engine()
        vars(made)["shutdown_seconds"] = self.shutdown_seconds  # the engine's own is long: a suite need not wait
        return made

    def deafen(self, ref: str) -> None:
        time.sleep(1)  # the firmware has found no system by then

    def files(self) -> set[str]:
        return {str(path) for path in self.disks.rglob("*")}

    async def logs_in(self, seen: VmObservation, user: str, password: str) -> bool:
        address = next(address for nic in seen.nics for address in nic.addresses if "." in address)
        options = asyncssh.SSHClientConnectionOptions(
            username=user,
            password=password,
            known_hosts=None,
            client_keys=None,
            config=None,
            agent_path=None,
            server_host_key_algs=["ssh-ed25519"],  # the demo guest's dropbear has no other, and hangs up on others
        )
        try:
            async with asyncio.timeout(20), asyncssh.connect(address, options=options):
                return True
        except asyncssh.PermissionDenied:
            return False

    async def enter_shell(self, terminal: Terminal, spec: VmSpec) -> None:
        """Other tests share the VM, and may have changed its password."""
        engine = self.engine()
        try:
            await engine.set_password(spec.ref, "root", str(spec.password))
        finally:
            await engine.close()
        await terminal.type("\r")
        if b"login" in (await terminal.until("login: |:~?[^ ]*# ", self.boot_seconds)).group():
            await terminal.type("root\r")
            await terminal.until("assword: ")
            await terminal.type(f"{spec.password}\r")
            await terminal.until("# ")

    def keys_told(self, spec: VmSpec) -> list[str]:
        told, iso = io.BytesIO(), pycdlib.PyCdlib()
        iso.open(str(self.disks / f"{spec.name}-seed.iso"))
        iso.get_file_from_iso_fp(told, joliet_path="/user-data")
        iso.close()
        return list(yaml.safe_load(told.getvalue()).get("ssh_authorized_keys", []))

    def exists(self, path: str) -> bool:
        return Path(path).exists()

    def lose_disks(self, ref: str, name: str) -> None:
        gone = [path for path in self.disks.rglob("*") if name in path.name or ref in path.name]
        assert gone
        for path in gone:
            path.unlink()

    def lose_definition(self, ref: str) -> None:
        with connected() as conn:
            conn.lookupByUUIDString(ref).undefine()

    def foreign(self) -> tuple[str, str, str]:
        ref, name = str(uuid4()), f"{self.prefix}foreign-{uuid4().hex[:6]}"
        disk = self.others / f"{name}.qcow2"
        make_qcow2(disk, 1)
        with connected() as conn:
            conn.defineXML(FOREIGN.format(name=name, ref=ref, disk=disk))
        return ref, name, str(disk)

    def remove_foreign(self, ref: str, disk: str) -> None:
        with connected() as conn, suppress(libvirt.libvirtError):
            conn.lookupByUUIDString(ref).undefine()
        Path(disk).unlink(missing_ok=True)


@contextmanager
def libvirt_rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """Set up, and clean up whatever happened."""
    demo_image = request.getfixturevalue("demo_image")
    with connected() as conn:
        networks = set(conn.listNetworks()) | set(conn.listDefinedNetworks())
        conn.getDomainCapabilities(None, "x86_64", None, "qemu")  # a libvirt just started tries QEMU out: that is slow
    root = made_folder(NETWORK)
    try:
        yield LibvirtRig(root, demo_image)
    finally:
        remove(root, {NETWORK} - networks)
