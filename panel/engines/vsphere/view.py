"""Looking: one call for all VMs, and one more for those whose configuration is new; port groups are kept for a while."""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from panel.engines.types import BootDevice, Load, PowerState, VmObservation
from panel.engines.vsphere.client import Client, Session
from panel.engines.vsphere.config import (
    KIB_PER_GIB,
    Mark,
    addresses,
    boot_order,
    cards,
    cd_drive,
    disks,
    folder_of,
    mark_of,
    network_key,
    nic,
    plain_name,
    system_disk,
)
from panel.engines.vsphere.load import loads
from panel.engines.vsphere.snapshots import known
from panel.errors import InvalidInput, NotFound
from panel.i18n import gettext_noop as _

NETWORK_SECONDS = 300.0
CONFIG_SECONDS = 1800.0  # a configuration is read anew that often although its version is the same
NOW = [
    "name", "config.instanceUuid", "config.template", "config.changeVersion", "config.modified", "runtime.powerState",
    "runtime.connectionState", "guest.net", "guest.toolsRunningStatus", "guest.guestFullName", "guest.guestFamily",
    "summary.runtime.bootTime", "snapshot",
    "summary.quickStats.guestMemoryUsage", "summary.quickStats.hostMemoryUsage",
]  # fmt: skip
CONFIG = [
    "config.hardware.device", "config.hardware.numCPU", "config.hardware.memoryMB", "config.extraConfig",
    "config.files.vmPathName", "config.bootOptions", "config.guestFullName", "config.guestId", "config.firmware",
    "config.cpuHotAddEnabled", "config.memoryHotAddEnabled",
]  # fmt: skip
NETWORKS = {
    "Network": ["name"],
    "DistributedVirtualPortgroup": ["name", "key"],
}
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
STATES = {"poweredOn": PowerState.RUNNING, "poweredOff": PowerState.STOPPED, "suspended": PowerState.SUSPENDED}

Props = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Found:
    """A VM of the inventory: its id, what it is doing, and its configuration."""

    moid: str
    now: Props
    config: Props

    @property
    def ref(self) -> str:
        """Its ``instanceUuid``, which the panel chooses for its own; the id of a VM without one."""
        return str(self.now.get("config.instanceUuid") or "").lower() or self.moid

    @property
    def vendors_name(self) -> str:
        """As vSphere has it."""
        return plain_name(str(self.now.get("name") or self.moid))

    @property
    def mark(self) -> Mark | None:
        """The panel's mark."""
        return mark_of(self.config.get("config.extraConfig"), self.ref)

    @property
    def managed(self) -> bool:
        """Whether the panel made it."""
        mark = self.mark
        return mark is not None and mark.made

    @property
    def devices(self) -> list[Any]:
        """Its devices."""
        return list(self.config.get("config.hardware.device") or ())

    @property
    def home(self) -> str:
        """The folder of its files, as ``[store] folder/``."""
        return folder_of(str(self.config.get("config.files.vmPathName") or ""))

    @property
    def started(self) -> str:
        """When it was started; empty when it is off."""
        return str(self.now.get("summary.runtime.bootTime") or "") if self.state is not PowerState.STOPPED else ""

    @property
    def boot(self) -> tuple[BootDevice, ...]:
        """What it starts from; of one that runs, what it was started from."""
        mark = self.mark
        if mark is not None and mark.since and mark.since == self.started:
            return mark.was
        return boot_order(self.config.get("config.bootOptions"))

    @property
    def state(self) -> PowerState:
        """Its power state; unknown when its host does not tell."""
        if self.now.get("runtime.connectionState", "connected") != "connected":
            return PowerState.UNKNOWN
        return STATES.get(str(self.now.get("runtime.powerState")), PowerState.UNKNOWN)


class Viewer:
    """Reads the VMs of one host, or of one datacenter of it."""

    def __init__(self, client: Client, datacenter: str, template_prefix: str, nat: str) -> None:
        self._client, self._datacenter, self._prefix, self._nat = client, datacenter, template_prefix, nat
        self._configs: dict[str, tuple[float, tuple[Any, ...], Props]] = {}
        self._networks: tuple[float, dict[str, str]] | None = None
        self._alone = False
        self.refs: dict[str, str] = {}

    def forget(self, moid: str) -> None:
        """Read it anew next time: we have changed it."""
        self._configs.pop(moid, None)

    async def library(self) -> list[Found]:
        """All VMs and templates that are finished."""
        return await self._client.call(self.look, seconds=120)

    def look(self, session: Session) -> list[Found]:
        """``library``, in a worker thread."""
        self._alone = session.alone
        lines = [
            (str(one._moId), props)
            for one, props in session.collect({"VirtualMachine": NOW}, self.root(session))
            if props.get("name")
        ]
        keys = {moid: _version(props) for moid, props in lines}
        for moid in self._configs.keys() - keys.keys():
            self.forget(moid)
        now = time.monotonic()
        old = [moid for moid, key in keys.items() if not self._holds(moid, key, now)]
        for one, props in session.read([session.vm(moid) for moid in old], "VirtualMachine", CONFIG):
            moid = str(one._moId)
            self._configs[moid] = (now, keys[moid], props)
        found = [Found(moid, props, self._configs[moid][2]) for moid, props in lines if moid in self._configs]
        found = [one for one in found if "config.hardware.device" in one.config]
        self.refs = {one.moid: one.ref for one in found}
        return found

    def _holds(self, moid: str, key: tuple[Any, ...], now: float) -> bool:
        kept = self._configs.get(moid)
        return kept is not None and kept[1] == key and now - kept[0] < CONFIG_SECONDS

    def root(self, session: Session) -> Any:
        """The datacenter that is looked at; None is the whole inventory. ``InvalidInput`` when there is none of that name."""
        if not self._datacenter:
            return None
        known = {plain_name(props["name"]): one for one, props in session.collect({"Datacenter": ["name"]})}
        if self._datacenter not in known:
            raise InvalidInput(
                _("There is no datacenter {name} here. There is: {known}."),
                field="datacenter", name=self._datacenter, known=", ".join(sorted(known)) or "–",
            )  # fmt: skip
        return known[self._datacenter]

    async def one(self, ref: str) -> Found:
        """The VM, read now. ``NotFound`` when it is not there, or is a template."""
        if _UUID.fullmatch(ref):
            found = await self._client.call(lambda session: self._by_uuid(session, ref))
        else:
            found = next((one for one in await self.library() if one.ref == ref), None)
        if found is None or self.is_template(found):
            raise NotFound(_("There is no VM {ref} on the host. Scan the host to see what is there."), ref=ref[:64])
        return found

    def _by_uuid(self, session: Session, ref: str) -> Found | None:
        self._alone = session.alone
        vm = session.content.searchIndex.FindByUuid(datacenter=None, uuid=ref, vmSearch=True, instanceUuid=True)
        if vm is None:
            return None
        for one, props in session.read([vm], "VirtualMachine", NOW + CONFIG):
            if props.get("name") and "config.hardware.device" in props:
                return Found(str(one._moId), props, props)
        return None

    async def state(self, one: Found) -> PowerState:
        """Its power state now."""
        paths = ["runtime.powerState", "runtime.connectionState"]
        answer = await self._client.call(lambda session: session.read([session.vm(one.moid)], "VirtualMachine", paths))
        return Found(one.moid, answer[0][1], {}).state if answer else PowerState.MISSING

    def is_template(self, one: Found) -> bool:
        """Whether VMs are made from it: a template, or on ESXi alone a VM called like one."""
        if one.now.get("config.template"):
            return True
        return self._alone and bool(self._prefix) and not one.managed and one.vendors_name.startswith(self._prefix)

    async def observe(self) -> list[VmObservation]:
        """All VMs but templates."""
        found, networks, busy = await self._client.call(self._all, seconds=120)
        library = [one for one in found if not self.is_template(one)]
        names = names_of(library)
        return [self._seen(one, names[one.moid], networks, busy.get(one.moid)) for one in library]

    async def inspect(self, ref: str) -> VmObservation:
        """One VM, read now."""
        one = await self.one(ref)
        networks, busy = await self._client.call(lambda session: (self._named(session), _loads(session, [one])))
        name = one.vendors_name
        if not one.managed:
            library = [other for other in await self.library() if not self.is_template(other)]
            name = names_of(library).get(one.moid, name)
        return self._seen(one, name, networks, busy.get(one.moid))

    def _all(self, session: Session) -> tuple[list[Found], dict[str, str], dict[str, Load]]:
        found = self.look(session)
        keys = {network_key(card) for one in found for card in cards(one.devices)}
        return found, self._named(session, keys), _loads(session, found)

    def _named(self, session: Session, keys: set[str] | None = None) -> dict[str, str]:
        """Names of port groups by their keys; read anew when one of ``keys`` is not among them."""
        kept = self._networks
        if kept is None or time.monotonic() - kept[0] > NETWORK_SECONDS or (keys or set()) - kept[1].keys() - {""}:
            found = session.collect(NETWORKS)
            names = {
                str(props.get("key") or props["name"]): str(props["name"]) for _one, props in found if "name" in props
            }
            kept = self._networks = (time.monotonic(), names)
        return kept[1]

    def _seen(self, one: Found, name: str, networks: dict[str, str], load: Load | None) -> VmObservation:
        state, devices, mark = one.state, one.devices, one.mark
        told = addresses(one.now.get("guest.net")) if state is PowerState.RUNNING else {}
        system = system_disk(devices)
        drive = cd_drive(devices)
        used = one.now.get("summary.quickStats.guestMemoryUsage") or one.now.get("summary.quickStats.hostMemoryUsage")
        return VmObservation(
            ref=one.ref,
            name=name,
            title=mark.title if mark else one.vendors_name,
            state=state,
            cpu_count=int(one.config.get("config.hardware.numCPU") or 0),
            memory_mib=int(one.config.get("config.hardware.memoryMB") or 0),
            disk_gib=(system.capacityInKB or 0) / KIB_PER_GIB if system is not None else None,
            nics=tuple(nic(place, card, networks, self._nat, told) for place, card in enumerate(cards(devices))),
            os_name=str(one.now.get("guest.guestFullName") or one.config.get("config.guestFullName") or ""),
            memory_used_mib=int(used) if used and state is PowerState.RUNNING else None,
            agent=one.now.get("guest.toolsRunningStatus") == "guestToolsRunning"
            if state is PowerState.RUNNING
            else None,
            managed=one.managed,
            disks=disks(devices, one.home, ours=one.managed),
            boot=one.boot,
            iso=None if drive is None else inserted(drive),
            snapshots=tuple(snapshot for snapshot, _key in known(one.now.get("snapshot"))),
            load=load,
        )


def _loads(session: Session, found: list[Found]) -> dict[str, Load]:
    return loads(session, [one.moid for one in found if one.state is PowerState.RUNNING])


def inserted(drive: Any) -> str:
    """The name of the ISO in a CD drive; empty when there is none."""
    path = str(getattr(drive.backing, "fileName", "") or "")
    return path.rpartition("]")[2].strip().rpartition("/")[2]


def names_of(library: list[Found]) -> dict[str, str]:
    """A name for each. In several folders there may be VMs of one name: then the id is added."""
    counts = Counter(one.vendors_name for one in library)
    return {
        one.moid: one.vendors_name if one.managed or counts[one.vendors_name] == 1 else f"{one.vendors_name}-{one.moid}"
        for one in library
    }


def _version(props: Props) -> tuple[Any, ...]:
    return (
        props.get("config.changeVersion"),
        str(props.get("config.modified")),
        props.get("name"),
        props.get("config.template"),
    )
