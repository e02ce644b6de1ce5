"""``make doubles``: the doubles on this machine, to be added to a panel by hand. They forget everything when they end."""

from __future__ import annotations

import signal
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path

from tests.certs import made
from tests.doubles.pve import Door, pve
from tests.doubles.pve_world import Cluster
from tests.doubles.serving import served
from tests.doubles.vcsim import vcsim
from tests.doubles.vcsim_world import World
from tests.doubles.vmrest import vmrest
from tests.doubles.vmrest_world import VMS, Workstation

USER, PASSWORD = "admin", "Double-1"
TEMPLATES = ("Windows 10 x64", "Debian 12")
PORT = 8697
PVE_USER, PVE_TOKEN, PVE_PORT = "root@pam", "openidcs@pve!panel", 8006
VCENTER_PORT, ESXI_PORT = 8443, 8444


def workstation(stack: ExitStack, folder: Path) -> None:
    """VMware Workstation, with a certificate that nobody vouches for."""
    world = Workstation(clone_seconds=5, act_seconds=0.5, boot_seconds=5)
    for name in TEMPLATES:
        world.add(name)
    world.add("Somebody's VM", VMS)
    pem, own = folder / "vmrest.pem", made("localhost", title="vmrest")
    pem.write_text(own.key_pem + own.pem)
    base = stack.enter_context(served(vmrest(world, USER, PASSWORD), port=PORT, pem=pem))
    stack.callback(world.close)
    print(
        f"VMware Workstation:  Hosts, Add host, VMware Workstation\n"
        f"  Address             {base}\n  User                {USER}\n  Password            {PASSWORD}\n"
        f"  Folder for VMs      D:/VMs\n  Folder of templates D:/Images\n"
        f"  then Test connection, and accept its certificate\n"
    )


def proxmox(stack: ExitStack, folder: Path) -> None:
    """Proxmox VE, a cluster of two nodes, likewise."""
    world = Cluster(clone_seconds=5, act_seconds=0.5, boot_seconds=5)
    for name in ("debian-12", "ubuntu-24.04"):
        world.add(name, gib=4, template=True)
    world.add("somebodys-vm", node="pve2")
    world.files["local:vztmpl/debian-12-standard_12.7-1_amd64.tar.zst"] = 126 * 1024**2
    world.files["local:import/noble-server-cloudimg-amd64.qcow2"] = 600 * 1024**2
    pem, own = folder / "pve.pem", made("localhost", title="pve")
    pem.write_text(own.key_pem + own.pem)
    door = Door(PVE_USER, PASSWORD, f"{PVE_TOKEN}={PASSWORD}")
    base = stack.enter_context(served(pve(world, door), port=PVE_PORT, pem=pem))
    print(
        f"Proxmox VE:          Hosts, Add host, Proxmox VE\n"
        f"  Address             {base}\n  User or API token   {PVE_USER} or {PVE_TOKEN}\n  Password or secret  {PASSWORD}\n"
        f"  NAT bridge          vmbr1\n  then Test connection, and accept its certificate\n"
    )


def vsphere(stack: ExitStack, folder: Path) -> None:
    """vSphere, VMware's own simulator: a vCenter, and one ESXi alone."""
    for esx, port, name in ((False, VCENTER_PORT, "vCenter"), (True, ESXI_PORT, "ESXi")):
        pem, own = folder / f"{name}.pem", made("localhost", title=name)
        pem.write_text(own.key_pem + own.pem)
        base = stack.enter_context(vcsim(pem, USER, PASSWORD, esx=esx, port=port))
        world = World(base, USER, PASSWORD)
        for each in ("debian-12", "ubuntu-24.04"):
            world.add(f"template-{each}" if esx else each, gib=4, template=True)
        world.add("somebodys-vm")
        isos = world.folder / "iso"
        isos.mkdir()
        (isos / "installer.iso").write_bytes(b"no real one")
        print(
            f"{name + ':':<20} Hosts, Add host, vSphere\n"
            f"  Address             {base}\n  User                {USER}\n  Password            {PASSWORD}\n"
            f"  Folder of CD images [{world.store.name}] iso\n  NAT port group      VM Network\n"
            f"  then Test connection, and accept its certificate\n"
        )


def main() -> None:
    """Serve until told to end."""
    end = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_unused: end.set())
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        workstation(stack, folder)
        proxmox(stack, folder)
        vsphere(stack, folder)
        print("Ctrl-C ends them.", flush=True)
        end.wait()


if __name__ == "__main__":
    main()
