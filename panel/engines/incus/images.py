"""The host's own image store."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from panel.engines.hosttypes import Image
from panel.engines.incus.client import Client
from panel.engines.incus.marks import CONTAINER, GIB, VM, size_of

LEAST_GIB = "openidcs.disk"
"""The property of an image by which an operator says how much disk its instances need, such as ``5GiB``."""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image.

    Attributes:
        kind: ``container`` or ``virtual-machine``.
        gib: how much disk it needs: what its property says, else its own (compressed) size: it needs more than that.
        cloud: it has cloud-init.
    """

    name: str
    fingerprint: str
    title: str
    kind: str
    size_bytes: int
    gib: float
    cloud: bool
    added_at: datetime | None

    def shown(self) -> Image:
        """For the panel."""
        return Image(
            self.name,
            self.fingerprint,
            self.title,
            self.kind,
            self.size_bytes,
            self.gib,
            added_at=self.added_at,
        )


async def images(client: Client) -> dict[str, StoredImage]:
    """By name: the first alias, else the description, else the fingerprint's beginning. Images of VMs only where the host can
    run VMs."""
    server = await client.get("/1.0")
    kinds = {CONTAINER, VM} if runs_vms(server) else {CONTAINER}
    listed = await client.get("/1.0/images", {"recursion": "1"})
    found: dict[str, StoredImage] = {}
    for raw in sorted(listed or [], key=lambda one: (not one.get("aliases"), str(one["fingerprint"]))):
        if raw.get("type", CONTAINER) in kinds:
            one = _image(raw)
            name = one.name if one.name not in found else f"{one.name} ({one.fingerprint[:12]})"
            found[name] = one if name == one.name else _image(raw, name)
    return dict(sorted(found.items()))


def runs_vms(server: dict[str, Any]) -> bool:
    """Whether the host can run virtual machines: it names its drivers in ``/1.0``."""
    return "qemu" in str((server.get("environment") or {}).get("driver", ""))


def _image(raw: dict[str, Any], name: str = "") -> StoredImage:
    properties = raw.get("properties") or {}
    fingerprint = str(raw["fingerprint"])
    title = str(properties.get("description") or "")
    aliases = sorted(str(alias["name"]) for alias in raw.get("aliases") or ())
    size = int(raw.get("size") or 0)
    return StoredImage(
        name=name or (aliases[0] if aliases else title or fingerprint[:12]),
        fingerprint=fingerprint,
        title=title or (aliases[0] if aliases else fingerprint[:12]),
        kind=str(raw.get("type", CONTAINER)),
        size_bytes=size,
        gib=(size_of(properties.get(LEAST_GIB)) or size) / GIB,
        cloud=properties.get("variant") == "cloud",
        added_at=_moment(str(raw.get("uploaded_at") or "")),
    )


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
