"""Making an instance from an image of the host's store."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

import orjson

from panel.engines.common.checks import check_name, check_sizes
from panel.engines.incus.client import Client, instance_path
from panel.engines.incus.guest import Guests
from panel.engines.incus.images import StoredImage, images
from panel.engines.incus.marks import NAME, REF, TITLE, VM, Found, check_title, instance_name
from panel.engines.incus.networks import Reservations
from panel.engines.incus.operations import Operations, to_the_end
from panel.engines.incus.site import Sites
from panel.engines.incus.view import Viewer, names_of
from panel.engines.types import NicSpec, PowerState, Reporter, VmSpec
from panel.errors import Conflict, InvalidInput, NotFound, PanelError
from panel.i18n import gettext_noop as _

MAKE_SECONDS = 1800.0
ACT_SECONDS = 120.0
ROOT = "root"
TRIES = 5
PAUSE_SECONDS = 0.5


class Maker:
    """Makes instances on one host. Two of one name are kept apart."""

    def __init__(
        self,
        client: Client,
        viewer: Viewer,
        operations: Operations,
        sites: Sites,
        reservations: Reservations,
        guests: Guests,
    ) -> None:
        self._client, self._viewer, self._operations = client, viewer, operations
        self._sites, self._reservations, self._guests = sites, reservations, guests
        self._making: set[str] = set()

    async def create(self, spec: VmSpec, report: Reporter) -> None:
        """See ``Engine.create``."""
        check_name(spec.name)
        check_title(spec.title)
        check_sizes(spec.cpu_count, spec.memory_mib)
        if spec.disk_gib < 1:
            raise InvalidInput(_("A disk has at least 1 GiB."), field="hdd_num")
        taken = Conflict(_("A VM called {name} exists already. Choose another name."), name=spec.name)
        if spec.name in self._making:
            raise taken
        self._making.add(spec.name)
        try:
            library = await self._viewer.library()
            names = {*names_of(library).values(), *(one.name for one in library if not one.managed)}
            if spec.name in names:
                raise taken
            image = await self._image(spec)
            await self._make(spec, image, await self._body(spec, image), report)
        finally:
            self._making.discard(spec.name)

    async def _image(self, spec: VmSpec) -> StoredImage:
        known = await images(self._client)
        if not spec.image:
            raise InvalidInput(
                _("Incus and LXD make instances from images only: choose an image (os_name). This host has: {known}."),
                field="os_name", known=", ".join(known) or "–",
            )  # fmt: skip
        found = known.get(spec.image)
        if found is None:
            raise InvalidInput(
                _("No image {name}. This host has: {known}."),
                field="os_name", name=spec.image, known=", ".join(known) or "–",
            )  # fmt: skip
        if found.gib > spec.disk_gib:
            raise InvalidInput(
                _("The image {image} needs a disk of at least {size} GiB."),
                field="hdd_num", image=spec.image, size=round(found.gib, 1),
            )  # fmt: skip
        return found

    async def _body(self, spec: VmSpec, image: StoredImage) -> dict[str, Any]:
        site = await self._sites.get(fresh=True)
        if not site.pool:
            raise InvalidInput(_("The host has no storage pool. Make one there."), field="system_path")
        kept = await self._reservations.kept()
        devices: dict[str, dict[str, str]] = {
            ROOT: {"type": "disk", "path": "/", "pool": site.pool, "size": f"{spec.disk_gib}GiB"}
        }
        for nic in spec.nics:
            devices[nic.name] = site.device(nic, kept.get(nic.mac, ()))
        config = {
            REF: spec.ref,
            NAME: spec.name,
            TITLE: spec.title,
            "limits.cpu": str(spec.cpu_count),
            "limits.memory": f"{spec.memory_mib}MiB",
            **seed(spec),
        }
        return {
            "name": instance_name(spec.name),
            "type": image.kind,
            "source": {"type": "image", "fingerprint": image.fingerprint},
            "profiles": [],
            "config": config,
            "devices": devices,
        }

    async def _make(self, spec: VmSpec, image: StoredImage, body: dict[str, Any], report: Reporter) -> None:
        await report.step(_("Making the instance from {image}"), percent=5, image=image.name)
        if any(nic.addresses for nic in spec.nics) and not image.cloud:
            await report.warn(
                _(
                    "The image is not of the variant cloud, so its guest may not take its addresses over. Set them up inside."
                )
            )
        if spec.ssh_keys and not image.cloud:
            await report.warn(
                _(
                    "The image is not of the variant cloud, so its guest may not take the SSH keys. Put them in yourself."
                )
            )
        name = body["name"]
        try:
            await self._operations.run(
                "POST", "/1.0/instances", body, seconds=MAKE_SECONDS, report=report, span=(5, 70)
            )
            if spec.start or spec.password is not None:
                await report.step(_("Starting"), percent=75)
                await set_state(self._operations, name, "start")
            if spec.password is not None:
                await report.step(_("Setting the password"), percent=85)
                await self._guests.first_password(name, spec.user, spec.password, is_vm=image.kind == VM)
                if not spec.start:
                    await set_state(self._operations, name, "stop", force=True)
            await report.step(_("Done"), percent=100)
        except BaseException:
            await to_the_end(self._undo(name, spec.ref))
            raise

    async def _undo(self, name: str, ref: str) -> None:
        """Remove what was made, and nothing else."""
        with suppress(PanelError):
            found = Found(await self._client.get(instance_path(name)))
            if found.own.get(REF) == ref:
                await remove(self._client, self._operations, name)


async def set_state(operations: Operations, name: str, action: str, *, force: bool = False, patience: int = -1) -> None:
    """Start, stop, freeze ... and wait until it is so. ``patience``: seconds that the guest has; -1 for no limit there."""
    body = {"action": action, "force": force, "timeout": patience}
    seconds = max(patience, 0) + ACT_SECONDS
    await operations.run("PUT", instance_path(name, "/state"), body, seconds=seconds)


async def remove(client: Client, operations: Operations, name: str) -> None:
    """Remove an instance with its disk, running or not. One that is gone is well; what still works on it is waited for."""
    deadline = time.monotonic() + TRIES
    while True:
        try:
            state = await client.get(instance_path(name, "/state"))
            if Found({"name": name, "state": state}).power is not PowerState.STOPPED:
                await set_state(operations, name, "stop", force=True)
            await operations.run("DELETE", instance_path(name), seconds=ACT_SECONDS * 5)
        except NotFound:
            return
        except Conflict:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(PAUSE_SECONDS)
            continue
        return


def seed(spec: VmSpec) -> dict[str, str]:
    """What cloud-init tells the guest at its first boot, where the image has it: JSON is YAML too."""
    told: dict[str, str] = {}
    user: dict[str, Any] = {"hostname": spec.hostname, "preserve_hostname": False} if spec.hostname else {}
    if spec.ssh_keys:
        user |= {"ssh_authorized_keys": list(spec.ssh_keys)} | ({"disable_root": False} if spec.user == "root" else {})
    if user:
        told["user.user-data"] = f"#cloud-config\n{orjson.dumps(user).decode()}\n"
    if any(nic.addresses for nic in spec.nics):
        network = {"version": 2, "ethernets": {nic.name: _ethernet(nic) for nic in spec.nics}}
        told["user.network-config"] = orjson.dumps(network).decode()
    return told


def _ethernet(nic: NicSpec) -> dict[str, Any]:
    told: dict[str, Any] = {"match": {"macaddress": nic.mac}, "dhcp4": not any("." in text for text in nic.addresses)}
    if nic.addresses:
        told["addresses"] = list(nic.addresses)
    if nic.gateways:
        told["routes"] = [{"to": "::/0" if ":" in text else "0.0.0.0/0", "via": text} for text in nic.gateways]
    if nic.dns:
        told["nameservers"] = {"addresses": list(nic.dns)}
    return told
