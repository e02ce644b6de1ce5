"""The cluster as a whole: the connection test, and its load."""

from __future__ import annotations

from typing import Any

from panel.engines.hosttypes import HostInfo, HostStatus
from panel.engines.proxmox.carrier import Carrier
from panel.engines.proxmox.client import Client
from panel.engines.proxmox.create import Site
from panel.engines.proxmox.sources import CONTENTS, contents
from panel.engines.proxmox.view import Viewer
from panel.errors import HostUnreachable, InvalidInput
from panel.i18n import Text
from panel.i18n import gettext_noop as _

MIB, GIB = 1024**2, 1024**3
OLDEST = 8
NEEDED = (
    "VM.Audit", "VM.Allocate", "VM.Clone", "VM.Console", "VM.PowerMgmt", "VM.Config.CPU", "VM.Config.Memory",
    "VM.Config.Disk", "VM.Config.Network", "VM.Config.Options", "VM.Config.Cloudinit", "VM.Config.HWType", "VM.Snapshot",
    "Datastore.AllocateSpace",
)  # fmt: skip


async def look(client: Client, viewer: Viewer, site: Site, node: str, carrier: Carrier | None) -> HostInfo:
    """Log in, and read version, rights, nodes, storage and templates. SSH that does not work is a warning: all but port forwards
    does without.

    Raises:
        HostUnreachable: the login sees no VMs.
        InvalidInput: there is no such node or storage.
    """
    version = str((await client.get("/version")).get("version", ""))
    rights = rights_of(await client.get("/access/permissions"))
    if "VM.Audit" not in rights:
        raise HostUnreachable(
            _("Our login on host {host} lacks a right: {right}. Grant it there."), host=client.host, right="VM.Audit"
        )
    lines = await viewer.resources()
    nodes = [line for line in lines if line.get("type") == "node"]
    if not nodes:
        raise InvalidInput(_("The cluster has no node {node}."), field="node", node=node or "–")
    status = load(lines, site.storage)
    warnings = list(_doubts(lines, nodes, rights, version, client))
    if carrier is not None:
        warnings += await carrier.check(str(line["node"]) for line in nodes)
    name = node or (str(nodes[0]["node"]) if len(nodes) == 1 else client.host)
    return HostInfo(f"Proxmox VE {version}", name, status.cpu_count, status.memory_total_mib, None, tuple(warnings))


def _doubts(
    lines: list[dict[str, Any]], nodes: list[dict[str, Any]], rights: set[str], version: str, client: Client
) -> list[Text]:
    found = []
    missing = [right for right in NEEDED if right not in rights]
    if missing:
        found.append(
            Text(_("The login lacks rights, so some actions will fail: {rights}."), {"rights": ", ".join(missing)})
        )
    if version.partition(".")[0].isdigit() and int(version.partition(".")[0]) < OLDEST:
        found.append(Text(_("This Proxmox VE is older than 8, which the panel was made for.")))
    files = any(line.get("type") == "storage" and contents(line) & CONTENTS.keys() for line in lines)
    if not files and not any(line.get("type") == "qemu" and line.get("template") for line in lines):
        found.append(
            Text(_("There is no template here, so no VM can be made. Make one (VM, More, Convert to template)."))
        )
    away = [str(line["node"]) for line in nodes if line.get("status") != "online"]
    if away:
        found.append(Text(_("Nodes that are away: {nodes}."), {"nodes": ", ".join(away)}))
    if client.context is None:
        found.append(Text(_("The connection is not encrypted: whoever listens reads the password. Use https://.")))
    return found


def rights_of(permissions: Any) -> set[str]:
    """All rights that the login has anywhere."""
    found = permissions.values() if isinstance(permissions, dict) else []
    return {right for each in found if isinstance(each, dict) for right, has in each.items() if has}


def load(lines: list[dict[str, Any]], storage: str) -> HostStatus:
    """The nodes and their storage together; shared storage counts once. ``InvalidInput`` when there is no such storage."""
    nodes = [line for line in lines if line.get("type") == "node" and line.get("status") == "online"]
    stores: dict[str, dict[str, Any]] = {}
    for line in lines:
        if line.get("type") != "storage" or "images" not in str(line.get("content", "")).split(","):
            continue
        name = str(line.get("storage"))
        if storage in {"", name}:
            stores[name if line.get("shared") else str(line["id"])] = line
    if storage and not stores:
        raise InvalidInput(_("There is no storage {name} for disks of VMs here."), field="system_path", name=storage)
    cpus = sum(int(line.get("maxcpu") or 0) for line in nodes)
    busy = sum(float(line.get("cpu") or 0) * int(line.get("maxcpu") or 0) for line in nodes)
    return HostStatus(
        cpu_percent=min(100.0, busy / cpus * 100) if cpus else None,
        cpu_count=cpus,
        memory_total_mib=sum(int(line.get("maxmem") or 0) for line in nodes) // MIB,
        memory_used_mib=sum(int(line.get("mem") or 0) for line in nodes) // MIB,
        disk_total_gib=sum(int(line.get("maxdisk") or 0) for line in stores.values()) / GIB,
        disk_used_gib=sum(int(line.get("disk") or 0) for line in stores.values()) / GIB,
    )
