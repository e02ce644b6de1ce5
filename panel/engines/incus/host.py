"""The host as a whole: the connection test, and its load."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from panel.engines.hosttypes import HostInfo, HostStatus
from panel.engines.incus.client import Client
from panel.engines.incus.images import images, runs_vms
from panel.engines.incus.marks import GIB, MIB
from panel.engines.incus.site import Site, Sites
from panel.errors import InvalidInput, NotFound
from panel.i18n import Text
from panel.i18n import gettext_noop as _

UNLIMITED = frozenset({"dir", "cephfs"})
"""Drivers of storage that may not hold an instance to its disk's size (``dir`` does where project quotas are on)."""


async def look(client: Client, sites: Sites) -> HostInfo:
    """Connect, be trusted, and read version, project, storage, networks and images.

    Raises:
        HostUnreachable: it does not answer, or does not trust us.
        InvalidInput: there is no such project, pool or network.
    """
    server = await client.server()
    environment = server.get("environment") or {}
    try:
        await client.get(f"/1.0/projects/{quote(client.project, safe='')}")
    except NotFound:
        raise InvalidInput(_("The host has no project {name}."), field="project", name=client.project) from None
    site = await sites.get(fresh=True)
    check(site)
    product = "Incus" if environment.get("server") == "incus" else "LXD"
    warnings = tuple(_doubts(server, site, await images(client)))
    version = f"{product} {environment.get('server_version', '')}"
    return HostInfo(
        version, str(environment.get("server_name") or client.name), site.cpus, site.memory_mib, None, warnings
    )


def check(site: Site) -> None:
    """``InvalidInput`` for settings that name what is not there."""
    if site.pool and not site.driver:
        raise InvalidInput(_("The host has no storage pool {name}."), field="system_path", name=site.pool)
    for field, name in (("network_nat", site.nat), ("network_bridge", site.bridge)):
        if name and name not in site.networks:
            raise InvalidInput(_("The host has no network {name}."), field=field, name=name)


def _doubts(server: dict[str, Any], site: Site, known: dict[str, Any]) -> list[Text]:
    found = []
    if not site.pool:
        found.append(Text(_("There is no storage pool here, so no instance can be made. Make one (incus admin init).")))
    if site.driver in UNLIMITED:
        found.append(
            Text(
                _("The storage pool {name} ({driver}) holds instances to their disk's size only where its file system has "
                  "project quotas. Use zfs, btrfs or lvm to be sure."),
                {"name": site.pool, "driver": site.driver},
            )
        )  # fmt: skip
    if not site.nat and not site.bridge:
        found.append(
            Text(_("There is no network here that instances could be connected to. Make one, or name a bridge."))
        )
    if not known:
        found.append(
            Text(_("There is no image here, so no instance can be made. Copy one into the host's image store."))
        )
    if not runs_vms(server):
        found.append(Text(_("This host runs containers only: virtual machines need QEMU and KVM there.")))
    return found


async def load(client: Client, sites: Sites) -> HostStatus:
    """Memory of the host, and its pool. The API tells no CPU load."""
    site = await sites.get()
    resources = await client.get("/1.0/resources")
    memory = resources.get("memory") or {}
    space: dict[str, Any] = {}
    if site.pool:
        pool = await client.get(f"/1.0/storage-pools/{quote(site.pool, safe='')}/resources")
        space = pool.get("space") or {}
    return HostStatus(
        cpu_percent=None,
        cpu_count=int((resources.get("cpu") or {}).get("total") or 0),
        memory_total_mib=int(memory.get("total") or 0) // MIB,
        memory_used_mib=int(memory.get("used") or 0) // MIB,
        disk_total_gib=int(space.get("total") or 0) / GIB,
        disk_used_gib=int(space.get("used") or 0) / GIB,
    )
