"""Making a VM: a clone of a template or a copy of a cloud image, set up through its configuration and cloud-init, or a container
of a system's files; started when asked."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from panel.engines.common.checks import check_name, check_sizes
from panel.engines.proxmox.client import Client, vm_path
from panel.engines.proxmox.config import (
    Mark,
    boot_disk,
    check_title,
    dns_name,
    gib,
    has_seed,
    mark_of,
    nets,
    with_mark,
)
from panel.engines.proxmox.settings import SERIAL, cards, container, disk, seed, sized
from panel.engines.proxmox.sources import CONTAINER, DISK, Source, Sources
from panel.engines.proxmox.tasks import Tasks, to_the_end
from panel.engines.proxmox.view import Viewer, is_template, names_of
from panel.engines.types import NicMode, NicSpec, Reporter, VmSpec
from panel.errors import Conflict, InvalidInput, NotFound, PanelError
from panel.i18n import gettext_noop as _

CLONE_SECONDS = 3600.0
ACT_SECONDS = 120.0
TRIES = 5  # of a number that somebody else may take meanwhile, and of removing what is locked
PAUSE_SECONDS = 0.5
SHORTEST_PASSWORD = 5  # the API's own


@dataclass(frozen=True, slots=True)
class Site:
    """Where VMs of a host go, as its settings say. ``bridges``: empty where there is none."""

    storage: str
    full: bool
    bridges: dict[NicMode, str]


@dataclass(frozen=True, slots=True)
class Begun:
    """A VM on its way: where, its number, its task, and what it is (``qemu`` or ``lxc``)."""

    node: str
    vmid: int
    upid: str
    kind: str

    def path(self, tail: str = "") -> str:
        """Below the API's base."""
        return vm_path(self.node, self.vmid, tail, kind=self.kind)


class Maker:
    """Makes VMs on one host. Two of one name are kept apart."""

    def __init__(self, client: Client, viewer: Viewer, tasks: Tasks, site: Site) -> None:
        self._client, self._viewer, self._tasks, self._site = client, viewer, tasks, site
        self._sources = Sources(client, viewer)
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
            await self._make(spec, await self._source(spec), report)
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

    async def _source(self, spec: VmSpec) -> Source:
        library = await self._viewer.library()
        if spec.name in names_of([one for one in library if not is_template(one)]).values():
            raise Conflict(_("A VM called {name} exists already. Choose another name."), name=spec.name)
        if spec.image is None:
            raise InvalidInput(
                _("The panel makes Proxmox's VMs from images only: choose one (os_name)."), field="os_name"
            )
        found = await self._sources.all(library)
        source = found.get(spec.image)
        if source is None:
            known = ", ".join(sorted(found)) or "–"
            raise InvalidInput(
                _("No image {name}. This host has: {known}."), field="os_name", name=spec.image, known=known
            )
        _check_size(spec, source.gib)
        if source.kind == CONTAINER and spec.password is not None and len(spec.password) < SHORTEST_PASSWORD:
            raise InvalidInput(
                _("Proxmox takes passwords of at least {least} characters."), field="os_pass", least=SHORTEST_PASSWORD
            )
        return source

    async def _make(self, spec: VmSpec, source: Source, report: Reporter) -> None:
        await report.step(_("Copying {template}"), percent=5, template=source.name)
        beginning = asyncio.ensure_future(self._begin(spec, source))
        try:
            begun = await asyncio.shield(beginning)
            await self._tasks.wait(begun.upid, CLONE_SECONDS, report, (5, 60))
            if source.kind != CONTAINER:
                await self._set_up(spec, begun, report)
            if spec.start:
                await report.step(_("Starting"), percent=90)
                await self._tasks.wait(await self._client.post(begun.path("/status/start")), ACT_SECONDS)
            self._viewer.forget(begun.vmid)
            await report.step(_("Done"), percent=100)
        except BaseException:
            await to_the_end(self._undo(beginning, spec.ref))
            raise

    async def _begin(self, spec: VmSpec, source: Source) -> Begun:
        """Take the next number and begin. Somebody else may be quicker: then the next."""
        path, number, form = await self._asked(spec, source)
        async with self._numbers:
            for left in reversed(range(TRIES)):
                vmid = int(await self._client.get("/cluster/nextid"))
                self._viewer.forget(vmid)
                notes = with_mark("", Mark(vmid, spec.title, spec.ref, spec.name))
                try:
                    upid = await self._client.post(path, form | {number: str(vmid), "description": notes})
                except Conflict as error:
                    if not left or "already exists" not in str(error):
                        raise
                    continue
                return Begun(source.node, vmid, str(upid), source.path_kind)
        raise AssertionError("unreachable")

    async def _asked(self, spec: VmSpec, source: Source) -> tuple[str, str, dict[str, str]]:
        """What makes it: the path, the parameter of its number, and the others."""
        if source.template is not None:
            form = {"name": dns_name(spec.hostname or spec.name)} | {"full": "1" if self._site.full else "0"}
            if self._site.full and self._site.storage:
                form["storage"] = self._site.storage
            return source.template.path("/clone"), "newid", form
        storage = await self._sources.storage(source.node, source.kind, self._site.storage)
        path = f"/nodes/{source.node}/{source.path_kind}"
        if source.kind == DISK:
            return path, "vmid", disk(spec, storage, source.volume) | SERIAL
        return path, "vmid", container(spec, self._bridge, storage, source.volume)

    async def _set_up(self, spec: VmSpec, begun: Begun, report: Reporter) -> None:
        await report.step(_("Setting CPUs, memory and interfaces"), percent=65)
        path = begun.path("/config")
        config = await self._client.get(path, {"current": "1"})
        drive = boot_disk(config)
        _check_size(spec, _drive_gib(str(config.get(drive, ""))))
        form = sized(spec) | cards(spec, self._bridge, config)
        surplus = [key for key in nets(config) if key not in form]
        if surplus:
            form["delete"] = ",".join(surplus)
        if has_seed(config):
            form |= seed(spec)
        elif spec.password is not None or spec.ssh_keys or any(nic.addresses for nic in spec.nics):
            await report.warn(
                _("The template has no cloud-init drive, so the guest was told neither its password and keys nor its addresses. "
                  "Add one to the template (Hardware, Add, CloudInit Drive).")
            )  # fmt: skip
        if not any(key.startswith("serial") for key in config):
            form |= SERIAL
        await self._client.put(path, form)
        if drive:
            await report.step(_("Growing its disk"), percent=75)
            size = {"disk": drive, "size": f"{spec.disk_gib}G"}
            upid = await self._client.put(begun.path("/resize"), size)
            if upid:
                await self._tasks.wait(upid, ACT_SECONDS)

    async def _undo(self, beginning: asyncio.Future[Begun], ref: str) -> None:
        """Remove what was made, however far it came, and nothing else."""
        with suppress(PanelError):
            begun = await beginning
            await self._tasks.end(begun.upid)
            self._viewer.forget(begun.vmid)
            config = await self._client.get(begun.path("/config"))
            mark = mark_of(config, begun.vmid)
            if mark is not None and mark.ref == ref:
                await remove(self._client, self._tasks, begun.path())


async def remove(client: Client, tasks: Tasks, path: str) -> None:
    """Remove the VM at ``path`` with its disks, running or not. One that is gone is well. What still works on it is waited for: a
    start that was asked for a moment ago may hold its lock."""
    for left in reversed(range(TRIES)):
        with suppress(NotFound):
            try:
                await _remove(client, tasks, path)
            except Conflict:
                if not left:
                    raise
                await asyncio.sleep(PAUSE_SECONDS)
                continue
        return


async def _remove(client: Client, tasks: Tasks, path: str) -> None:
    status = await client.get(f"{path}/status/current")
    if status.get("status") != "stopped":
        await tasks.wait(await client.post(f"{path}/status/stop"), ACT_SECONDS)
    params = {"purge": "1", "destroy-unreferenced-disks": "1"}
    await tasks.wait(await client.delete(path, params), ACT_SECONDS * 5)


def _drive_gib(value: str) -> float:
    """The size of a drive; 0 when it says none."""
    options = dict(option.partition("=")[::2] for option in value.split(","))
    return gib(options.get("size", "")) or 0.0


def _check_size(spec: VmSpec, needed: float) -> None:
    if needed > spec.disk_gib:
        raise InvalidInput(
            _("The image {image} needs a disk of at least {size} GiB."),
            field="hdd_num", image=spec.image, size=round(needed, 1),
        )  # fmt: skip
