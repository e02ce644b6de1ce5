"""The host as a whole: the connection test, its load, and the CD images on its datastore."""

from __future__ import annotations

from typing import Any

from panel.engines.hosttypes import HostInfo, HostStatus, Iso
from panel.engines.types import NicMode
from panel.engines.vsphere.client import Client, Session
from panel.engines.vsphere.sdk import vim
from panel.engines.vsphere.site import Names, Place, find
from panel.engines.vsphere.tasks import Tasks
from panel.engines.vsphere.view import Viewer
from panel.errors import EngineFailure, InvalidInput, NotFound
from panel.i18n import Text
from panel.i18n import gettext_noop as _

MIB, GIB = 1024**2, 1024**3
OLDEST = (6, 5)
SEARCH_SECONDS = 60.0
NEEDED = (
    "VirtualMachine.Inventory.Create", "VirtualMachine.Inventory.CreateFromExisting", "VirtualMachine.Inventory.Delete",
    "VirtualMachine.Interact.PowerOn", "VirtualMachine.Interact.PowerOff", "VirtualMachine.Interact.Reset",
    "VirtualMachine.Interact.Suspend", "VirtualMachine.Interact.SetCDMedia", "VirtualMachine.Interact.DeviceConnection",
    "VirtualMachine.Config.AddNewDisk", "VirtualMachine.Config.AddExistingDisk", "VirtualMachine.Config.DiskExtend",
    "VirtualMachine.Config.AddRemoveDevice", "VirtualMachine.Config.EditDevice", "VirtualMachine.Config.RemoveDisk",
    "VirtualMachine.Config.AdvancedConfig", "VirtualMachine.Config.CPUCount", "VirtualMachine.Config.Memory",
    "VirtualMachine.Config.Settings", "VirtualMachine.Provisioning.DeployTemplate", "VirtualMachine.State.CreateSnapshot",
    "VirtualMachine.State.RevertToSnapshot", "VirtualMachine.State.RemoveSnapshot", "Resource.AssignVMToPool",
    "Datastore.AllocateSpace", "Datastore.Browse", "Network.Assign",
)  # fmt: skip
HOST = [
    "name", "summary.hardware.numCpuCores", "summary.hardware.cpuMhz", "summary.hardware.memorySize",
    "summary.quickStats.overallCpuUsage", "summary.quickStats.overallMemoryUsage", "runtime.connectionState",
    "runtime.inMaintenanceMode",
]  # fmt: skip


async def look(client: Client, viewer: Viewer, names: Names) -> HostInfo:
    """Log in, and read version, rights, hosts, storage, port groups and templates. ``InvalidInput`` names a setting that names
    nothing."""
    info = await client.call(lambda session: _look(session, client, viewer, names))
    library = await viewer.library()
    if any(viewer.is_template(one) for one in library):
        return info
    missing = Text(
        _(
            "There is no template here, so VMs can be made with an empty disk only. The documentation tells how to make one."
        )
    )
    return HostInfo(
        info.version, info.hostname, info.cpu_count, info.memory_mib, info.accelerated, (*info.warnings, missing)
    )


def _look(session: Session, client: Client, viewer: Viewer, names: Names) -> HostInfo:
    about = session.content.about
    place = find(session, names)
    status = load(session, viewer, names)
    hosts = [props for _one, props in session.collect({"HostSystem": HOST}, viewer.root(session))]
    name = str(hosts[0]["name"]) if session.alone and hosts else client.host
    warnings = [*_doubts(session, place, names, client), *_away(hosts)]
    return HostInfo(str(about.fullName), name, status.cpu_count, status.memory_total_mib, True, tuple(warnings))


def _doubts(session: Session, place: Place, names: Names, client: Client) -> list[Text]:
    found = []
    missing = session.lacks(place.folder, NEEDED)
    if missing:
        found.append(
            Text(_("The login lacks rights, so some actions will fail: {rights}."), {"rights": ", ".join(missing)})
        )
    if _number(session.content.about.version) < OLDEST:
        found.append(Text(_("This vSphere is older than 6.5, which the panel was made for.")))
    for mode in NicMode:
        wanted = names.networks[mode]
        if wanted and wanted not in place.networks:
            values = {"name": wanted, "known": ", ".join(sorted(place.networks)) or "–"}
            found.append(Text(_("There is no port group {name} here. There is: {known}."), values))
    if client.context is None:
        found.append(Text(_("The connection is not encrypted: whoever listens reads the password. Use https://.")))
    return found


def _away(hosts: list[dict[str, Any]]) -> list[Text]:
    away = [
        str(props.get("name"))
        for props in hosts
        if props.get("runtime.connectionState") != "connected" or props.get("runtime.inMaintenanceMode")
    ]
    return (
        [Text(_("Hosts that are away or in maintenance: {hosts}."), {"hosts": ", ".join(sorted(away))})] if away else []
    )


def load(session: Session, viewer: Viewer, names: Names) -> HostStatus:
    """The hosts and their datastores together, or the one datastore of the settings; in a worker thread."""
    root = viewer.root(session)
    hosts = [
        props
        for _one, props in session.collect({"HostSystem": HOST}, root)
        if props.get("runtime.connectionState") == "connected"
    ]
    stores = [props for _one, props in session.collect({"Datastore": ["name", "summary"]}, root)]
    stores = [props for props in stores if props["summary"].accessible and names.datastore in {"", props["name"]}]
    speed = sum(int(_of(one, "hardware.cpuMhz") * _of(one, "hardware.numCpuCores")) for one in hosts)
    busy = sum(_of(one, "quickStats.overallCpuUsage") for one in hosts)
    total = sum(int(props["summary"].capacity or 0) for props in stores)
    free = sum(int(props["summary"].freeSpace or 0) for props in stores)
    return HostStatus(
        cpu_percent=min(100.0, busy / speed * 100) if speed else None,
        cpu_count=int(sum(_of(one, "hardware.numCpuCores") for one in hosts)),
        memory_total_mib=int(sum(_of(one, "hardware.memorySize") for one in hosts)) // MIB,
        memory_used_mib=int(sum(_of(one, "quickStats.overallMemoryUsage") for one in hosts)),
        disk_total_gib=total / GIB,
        disk_used_gib=max(0, total - free) / GIB,
    )


async def list_isos(tasks: Tasks, names: Names, folder: str) -> list[Iso]:
    """The CD images in a folder of a datastore. ``InvalidInput`` (``images_path``) when there is no such folder."""

    def begin(session: Session) -> Any:
        flags = vim.host.DatastoreBrowser.FileInfo.Details(
            fileSize=True, fileType=True, modification=False, fileOwner=False
        )
        spec = vim.host.DatastoreBrowser.SearchSpec(
            query=[vim.host.DatastoreBrowser.IsoImageQuery()], details=flags, matchPattern=["*.iso", "*.ISO"]
        )
        browser = session.read([store_of(session, names, folder)], "Datastore", ["browser"])[0][1]["browser"]
        return browser.SearchDatastore_Task(datastorePath=folder, searchSpec=spec)

    try:
        found = await tasks.run(begin, SEARCH_SECONDS)
    except (NotFound, EngineFailure) as error:
        raise InvalidInput(
            _("The folder {folder} cannot be read on the datastore ({field}): {reason}"),
            field="images_path", folder=folder, reason=str(error),
        ) from None  # fmt: skip
    files = {str(one.path): int(one.fileSize or 0) for one in found.file or ()}
    return [Iso(name, size) for name, size in sorted(files.items()) if size > 0]


def store_of(session: Session, names: Names, folder: str) -> Any:
    """The datastore of ``[store] folder``. ``InvalidInput`` names ``images_path``."""
    wanted = folder.partition("]")[0].removeprefix("[").strip()
    center = find(session, names).datacenter
    known = {str(props["name"]): one for one, props in session.collect({"Datastore": ["name"]}, center)}
    if not folder.startswith("[") or wanted not in known:
        raise InvalidInput(
            _("{field} must begin with a datastore in brackets, such as [datastore1] iso. There is: {known}."),
            field="images_path", known=", ".join(sorted(known)) or "–",
        )  # fmt: skip
    return known[wanted]


def _of(props: dict[str, Any], name: str) -> float:
    return float(props.get(f"summary.{name}") or 0)


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in str(version).split(".")[:2] if part.isdigit())
