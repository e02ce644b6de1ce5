"""The host as a whole: the connection test, and its load."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from panel.engines.docker.address import Way
from panel.engines.docker.client import Client, Json
from panel.engines.docker.images import list_images
from panel.engines.docker.networks import Networks, Site
from panel.engines.hosttypes import HostInfo, HostStatus
from panel.engines.types import VmObservation
from panel.i18n import Text
from panel.i18n import gettext_noop as _

MIB = 1024**2
SSH_SECONDS = 10.0
UNLIMITED = {  # what the daemon says that its kernel cannot
    "MemoryLimit": _("The host's kernel does not limit a container's memory."),
    "CpuCfsQuota": _("The host's kernel does not limit a container's CPUs."),
    "PidsLimit": _("The host's kernel does not limit a container's processes."),
}
_FAR = "head -n1 /proc/stat; cat /proc/meminfo; echo; df -Pk '{root}' 2>/dev/null | tail -n1"


async def look(client: Client, networks: Networks, site: Site, offered: tuple[str, ...]) -> HostInfo:
    """Connect, and read what the daemon is and can; what ``prepare`` would make is a warning."""
    info: Json = await client.get("info")
    what = "Podman" if client.podman else "Docker"
    version = str(client.version.get("Version") or info.get("ServerVersion") or "")
    warnings = list(_doubts(client, info))
    if await networks.find(site.nat) is None:
        warnings.append(Text(_("The network {network} is not there yet."), {"network": site.nat}))
    if site.bridge and await networks.find(site.bridge) is None:
        warnings.append(Text(_("The host has no network {network} (network_bridge)."), {"network": site.bridge}))
    if not await list_images(client, offered):
        warnings.append(
            Text(
                _(
                    "There is no image here, so no VM can be made. Fetch one, or offer some in the host's settings (images)."
                )
            )
        )
    return HostInfo(
        f"{what} {version}",
        str(info.get("Name") or client.place.name),
        int(info.get("NCPU") or 0),
        int(info.get("MemTotal") or 0) // MIB,
        None,
        tuple(warnings),
    )


def rootless(info: Json) -> bool:
    """Whether the daemon runs as a plain user: then the host's kernel does not reach its containers' addresses."""
    said = " ".join(map(str, info.get("SecurityOptions") or ()))
    return "rootless" in said or bool(info.get("Rootless"))


def _doubts(client: Client, info: Json) -> list[Text]:
    found = []
    if client.place.way is Way.PLAIN:
        found.append(
            Text(_("The connection is neither encrypted nor checked: whoever reaches this port is root on the host. Use TLS or "
                   "SSH."))
        )  # fmt: skip
    if rootless(info):
        found.append(
            Text(_("The daemon runs without root: its containers' addresses are not reached from the host, so there are no "
                   "forwards."))
        )  # fmt: skip
    for key, doubt in UNLIMITED.items():
        if info.get(key) is False:
            found.append(Text(doubt))
    return found


@dataclass(frozen=True, slots=True)
class _Ticks:
    busy: int
    total: int


class LoadMeter:
    """The host's load, from its kernel where that can be asked: on this machine and by SSH. Over TCP the API tells no load: then
    it is what the containers use, and the disk is not known (0)."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._last: _Ticks | None = None
        self._percent: float | None = None
        self._seconds: tuple[float, float] | None = None

    async def status(self, info: Json, seen: Sequence[VmObservation] = ()) -> HostStatus:
        """The load now; ``cpu_percent`` is None the first time."""
        root = str(info.get("DockerRootDir") or "/")
        cpus, memory = int(info.get("NCPU") or 1), int(info.get("MemTotal") or 0)
        if self._client.ssh is not None:
            told = await self._client.ssh.execute(_FAR.format(root=root.replace("'", "")), b"", SSH_SECONDS)
            return self._read(told.stdout.decode(errors="replace"), cpus, memory)
        if self._client.near:
            return self._read(await asyncio.to_thread(_near, root), cpus, memory)
        return self._of_containers(seen, cpus, memory)

    @property
    def of_containers(self) -> bool:
        """Whether ``status`` needs what was seen."""
        return self._client.ssh is None and not self._client.near

    def _read(self, text: str, cpus: int, memory: int) -> HostStatus:
        lines = text.splitlines()
        ticks = [int(word) for word in lines[0].split()[1:9]] if lines and lines[0].startswith("cpu ") else []
        if len(ticks) > 4:
            now = _Ticks(sum(ticks) - ticks[3] - ticks[4], sum(ticks))
            if self._last is not None and now.total > self._last.total:
                self._percent = round(100 * (now.busy - self._last.busy) / (now.total - self._last.total), 1)
            self._last = now
        sizes = {line.partition(":")[0]: line.split()[1] for line in lines if line.endswith(" kB") and ":" in line}
        total = int(sizes.get("MemTotal", memory // 1024)) * 1024
        free = int(sizes.get("MemAvailable", "0")) * 1024
        disk = [word for word in lines[-1].split() if word.isdigit()] if lines else []
        size, used = (int(disk[0]), int(disk[1])) if len(disk) >= 3 else (0, 0)
        percent = None if self._percent is None else min(100.0, max(0.0, self._percent))
        return HostStatus(
            percent, cpus, total // MIB, max(0, total - free) // MIB, round(size / MIB, 2), round(used / MIB, 2)
        )

    def _of_containers(self, seen: Sequence[VmObservation], cpus: int, memory: int) -> HostStatus:
        now = (asyncio.get_running_loop().time(), sum(vm.cpu_seconds or 0.0 for vm in seen))
        if self._seconds is not None and now[0] > self._seconds[0] and now[1] >= self._seconds[1]:
            share = (now[1] - self._seconds[1]) / (now[0] - self._seconds[0]) / cpus
            self._percent = round(min(100.0, 100 * share), 1)
        self._seconds = now
        used = sum(vm.memory_used_mib or 0 for vm in seen)
        return HostStatus(self._percent, cpus, memory // MIB, min(used, memory // MIB), 0.0, 0.0)


def _near(root: str) -> str:
    """The same of this machine as ``_FAR`` of another."""
    disk = shutil.disk_usage(root if Path(root).exists() else "/")
    sizes = f"disk {disk.total // 1024} {disk.used // 1024} {disk.free // 1024}"
    ticks = Path("/proc/stat").read_text().splitlines()[0]
    return f"{ticks}\n{Path('/proc/meminfo').read_text()}\n{sizes}"
