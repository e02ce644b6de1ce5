"""Making a VM: a clone of a template, set up through its configuration and cloud-init, started when asked."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_interface

from panel.engines.common.checks import check_name, check_sizes
from panel.engines.proxmox.client import Client, vm_path
from panel.engines.proxmox.config import Mark, boot_disk, check_title, dns_name, has_seed, mark_of, nets, with_mark
from panel.engines.proxmox.tasks import Tasks, to_the_end
from panel.engines.proxmox.view import Found, Viewer, is_template, names_of, template_gib
from panel.engines.types import NicMode, NicSpec, Reporter, VmSpec
from panel.errors import Conflict, InvalidInput, NotFound, PanelError
from panel.i18n import gettext_noop as _

CLONE_SECONDS = 3600.0
ACT_SECONDS = 120.0
TRIES = 5  # of a number that somebody else may take meanwhile, and of removing what is locked
PAUSE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Site:
    """Where VMs of a host go, as its settings say. ``bridges``: empty where there is none."""

    storage: str
    full: bool
    bridges: dict[NicMode, str]


@dataclass(frozen=True, slots=True)
class Begun:
    """A clone on its way: where, its number, and its task."""

    node: str
    vmid: int
    upid: str


class Maker:
    """Makes VMs on one host. Two of one name are kept apart."""

    def __init__(self, client: Client, viewer: Viewer, tasks: Tasks, site: Site) -> None:
        self._client, self._viewer, self._tasks, self._site = client, viewer, tasks, site
        self._making: set[str] = set()
        self._numbers = asyncio.Lock()

    async def create(self, spec: VmSpec, report: Reporter) -> None:
        """See ``Engine.create``."""
        check_name(spec.name)
        check_title(spec.title)
        check_sizes(spec.cpu_count, spec.memory_mib)
        if spec.disk_gib < 1:
            raise InvalidInput(_("A disk has at least 1 GiB."), field="hdd_num")
        for nic in spec.nics:
            self._bridge(nic)
        if spec.name in self._making:
            raise Conflict(_("A VM called {name} exists already. Choose another name."), name=spec.name)
        self._making.add(spec.name)
        try:
            await self._make(spec, await self._template(spec), report)
        finally:
            self._making.discard(spec.name)

    def _bridge(self, nic: NicSpec) -> str:
        bridge = nic.network or self._site.bridges[nic.mode]
        if not bridge:
            raise InvalidInput(
                _("Proxmox has no NAT network of its own. Make a bridge with NAT on the node and name it in the host's settings "
                  "(network_nat), or connect the VM to the bridge."),
                field="nic_all",
            )  # fmt: skip
        return bridge

    async def _template(self, spec: VmSpec) -> Found:
        library = await self._viewer.library()
        vms = [one for one in library if not is_template(one)]
        if spec.name in names_of(vms).values():
            raise Conflict(_("A VM called {name} exists already. Choose another name."), name=spec.name)
        if spec.image is None:
            raise InvalidInput(
                _("The panel makes Proxmox's VMs from templates only: choose an image (os_name)."), field="os_name"
            )
        templates = sorted((one for one in library if is_template(one)), key=lambda one: one.vmid)
        for one in templates:
            if one.vendors_name == spec.image:
                needed = template_gib(one)
                if needed > spec.disk_gib:
                    raise InvalidInput(
                        _("The image {image} needs a disk of at least {size} GiB."),
                        field="hdd_num", image=spec.image, size=round(needed, 1),
                    )  # fmt: skip
                return one
        known = ", ".join(sorted({one.vendors_name for one in templates})) or "–"
        raise InvalidInput(_("No image {name}. This host has: {known}."), field="os_name", name=spec.image, known=known)

    async def _make(self, spec: VmSpec, template: Found, report: Reporter) -> None:
        await report.step(_("Copying {template}"), percent=5, template=template.vendors_name)
        beginning = asyncio.ensure_future(self._begin(spec, template))
        try:
            begun = await asyncio.shield(beginning)
            await self._tasks.wait(begun.upid, CLONE_SECONDS, report, (5, 60))
            await self._set_up(spec, begun, report)
            if spec.start:
                await report.step(_("Starting"), percent=90)
                upid = await self._client.post(vm_path(begun.node, begun.vmid, "/status/start"))
                await self._tasks.wait(upid, ACT_SECONDS)
            self._viewer.forget(begun.vmid)
            await report.step(_("Done"), percent=100)
        except BaseException:
            await to_the_end(self._undo(beginning, spec.ref))
            raise

    async def _begin(self, spec: VmSpec, template: Found) -> Begun:
        """Take the next number and begin to clone. Somebody else may be quicker: then the next."""
        form = {"name": dns_name(spec.hostname or spec.name)}
        form |= {"full": "1"} if self._site.full else {"full": "0"}
        if self._site.full and self._site.storage:
            form["storage"] = self._site.storage
        async with self._numbers:
            for left in reversed(range(TRIES)):
                vmid = int(await self._client.get("/cluster/nextid"))
                self._viewer.forget(vmid)
                notes = with_mark("", Mark(vmid, spec.title, spec.ref, spec.name))
                try:
                    upid = await self._client.post(
                        template.path("/clone"), form | {"newid": str(vmid), "description": notes}
                    )
                except Conflict as error:
                    if not left or "already exists" not in str(error):
                        raise
                    continue
                return Begun(template.node, vmid, str(upid))
        raise AssertionError("unreachable")

    async def _set_up(self, spec: VmSpec, begun: Begun, report: Reporter) -> None:
        await report.step(_("Setting CPUs, memory and interfaces"), percent=65)
        path = vm_path(begun.node, begun.vmid, "/config")
        config = await self._client.get(path, {"current": "1"})
        form = {"cores": str(spec.cpu_count), "sockets": "1", "memory": str(spec.memory_mib)}
        for place, nic in enumerate(spec.nics):
            model = str(config.get(f"net{place}") or config.get("net0") or "virtio=").partition("=")[0]
            form[f"net{place}"] = f"{model}={nic.mac.upper()},bridge={self._bridge(nic)}"
        surplus = [key for key in nets(config) if key not in form]
        if surplus:
            form["delete"] = ",".join(surplus)
        if has_seed(config):
            form |= seed(spec)
        elif spec.password is not None or any(nic.addresses for nic in spec.nics):
            await report.warn(
                _("The template has no cloud-init drive, so the guest was told neither its password nor its addresses. Add "
                  "one to the template (Hardware, Add, CloudInit Drive).")
            )  # fmt: skip
        if not any(key.startswith("serial") for key in config):
            form["serial0"] = "socket"  # of the text console
        await self._client.put(path, form)
        drive = boot_disk(config)
        if drive:
            await report.step(_("Growing its disk"), percent=75)
            size = {"disk": drive, "size": f"{spec.disk_gib}G"}
            upid = await self._client.put(vm_path(begun.node, begun.vmid, "/resize"), size)
            if upid:
                await self._tasks.wait(upid, ACT_SECONDS)

    async def _undo(self, beginning: asyncio.Future[Begun], ref: str) -> None:
        """Remove what was made, however far it came, and nothing else."""
        with suppress(PanelError):
            begun = await beginning
            await self._tasks.end(begun.upid)
            self._viewer.forget(begun.vmid)
            config = await self._client.get(vm_path(begun.node, begun.vmid, "/config"))
            mark = mark_of(config, begun.vmid)
            if mark is not None and mark.ref == ref:
                await remove(self._client, self._tasks, begun.node, begun.vmid)


async def remove(client: Client, tasks: Tasks, node: str, vmid: int) -> None:
    """Remove a VM with its disks, running or not. One that is gone is well. What still works on it is waited for: a start that
    was asked for a moment ago may hold its lock."""
    for left in reversed(range(TRIES)):
        with suppress(NotFound):
            try:
                await _remove(client, tasks, node, vmid)
            except Conflict:
                if not left:
                    raise
                await asyncio.sleep(PAUSE_SECONDS)
                continue
        return


async def _remove(client: Client, tasks: Tasks, node: str, vmid: int) -> None:
    status = await client.get(vm_path(node, vmid, "/status/current"))
    if status.get("status") != "stopped":
        await tasks.wait(await client.post(vm_path(node, vmid, "/status/stop")), ACT_SECONDS)
    params = {"purge": "1", "destroy-unreferenced-disks": "1"}
    await tasks.wait(await client.delete(vm_path(node, vmid), params), ACT_SECONDS * 5)


def seed(spec: VmSpec) -> dict[str, str]:
    """What cloud-init tells the guest at its first boot."""
    told: dict[str, str] = {}
    if spec.password is not None:
        told |= {"ciuser": spec.user, "cipassword": spec.password}
    servers: list[str] = []
    for place, nic in enumerate(spec.nics):
        parts = {}
        for text in nic.addresses:
            parts["ip" if ip_interface(text).version == 4 else "ip6"] = text
        for text in nic.gateways:
            parts["gw" if ip_interface(text).version == 4 else "gw6"] = text
        parts.setdefault("ip", "dhcp")
        told[f"ipconfig{place}"] = ",".join(f"{key}={value}" for key, value in sorted(parts.items()))
        servers += [text for text in nic.dns if text not in servers]
    if servers:
        told["nameserver"] = " ".join(servers)
    return told
