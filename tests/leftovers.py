"""Folders that QEMU can read, each with a note of the test run that made it, and what libvirt keeps of a run that was killed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path

import libvirt

ROOT = Path("/var/lib")
URI = "qemu:///system"
PREFIX = "openidcs-test-"
NOTE = "made-by"  # in a folder: the process that made it, and the names of its networks
YOUNG = 60.0  # seconds in which a folder may not have its note yet
UNDEFINE = (
    libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
    | libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
)


@contextmanager
def connected() -> Iterator[libvirt.virConnect]:
    """A connection to this machine's libvirt, beside those of the panel."""
    with closing(libvirt.open(URI)) as conn:
        yield conn


def made_folder(*networks: str) -> Path:
    """A new folder of this process, through which QEMU's user passes; ``networks`` of libvirt go when it is swept away."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=ROOT))
    (folder / NOTE).write_text("\n".join([f"{os.getpid()} {_began(os.getpid())}", *networks]))
    folder.chmod(0o755)
    return folder


def swept(root: Path = ROOT) -> list[Path]:
    """Remove the folders of runs that are gone, with their VMs, pools and networks; which these were. None where libvirt does
    not answer: whoever needs it will say so."""
    left = [folder for folder in root.glob(f"{PREFIX}*") if not _alive(folder)]
    try:
        for folder in left:
            remove(folder, _note(folder)[1:])
    except libvirt.libvirtError:
        return []
    if left:
        clear_rules()
    return left


def remove(folder: Path, networks: Iterable[str] = ()) -> None:
    """Remove the domains and pools of libvirt with something in ``folder``, the networks of these names, and the folder."""
    names = frozenset(networks)
    with connected() as conn:
        for domain in conn.listAllDomains():
            if str(folder) in _described(domain):
                _quietly(domain.destroy)
                _quietly(partial(domain.undefineFlags, UNDEFINE))
        for pool in conn.listAllStoragePools():
            if str(folder) in _described(pool):
                _quietly(pool.destroy)
                _quietly(pool.undefine)
        for network in conn.listAllNetworks():
            if network.name() in names:
                _quietly(network.destroy)
                _quietly(network.undefine)
    shutil.rmtree(folder, ignore_errors=True)


def clear_rules() -> None:
    """Remove the panel's tables and accepts: rules that outlive their panel would guard the taps of the next one's VMs. A
    panel that still runs makes its own anew."""

    def run(*command: str) -> str:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout

    for family in ("inet", "bridge"):
        run("nft", "delete", "table", family, "openidcs")
    for line in run("iptables", "-S", "FORWARD").splitlines():
        if "openidcs-" in line:
            run("sh", "-c", f"iptables {line.replace('-A', '-D', 1)}")


def _note(folder: Path) -> list[str]:
    with suppress(OSError):
        return (folder / NOTE).read_text().splitlines()
    return []


def _alive(folder: Path) -> bool:
    """Whether the process that made it is still there; of a folder without a note, whether that may yet come."""
    note = _note(folder)
    if not note:
        with suppress(OSError):
            return time.time() - folder.stat().st_mtime < YOUNG
        return True  # it went just now
    pid, _, began = note[0].partition(" ")
    return _began(int(pid)) == began


def _began(pid: int) -> str:
    """When a process began, as the kernel counts it; empty when there is none with this number."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return ""


def _described(thing: libvirt.virDomain | libvirt.virStoragePool) -> str:
    """Its XML; empty when it has just gone: others use this libvirt as well."""
    with suppress(libvirt.libvirtError):
        return str(thing.XMLDesc(0))
    return ""


def _quietly(work: Callable[[], object]) -> None:
    """It may be gone already."""
    with suppress(libvirt.libvirtError):
        work()
