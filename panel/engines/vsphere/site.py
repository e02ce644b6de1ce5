"""Where VMs go: datacenter, cluster, folder, datastore and port groups, found by the names in the host's settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from panel.engines.types import HostConnection, NicMode, NicSpec
from panel.engines.vsphere.client import Session
from panel.engines.vsphere.config import plain_name
from panel.errors import InvalidInput
from panel.i18n import gettext_noop as _

COMPUTE = ["name", "resourcePool", "host", "datastore", "network"]


@dataclass(frozen=True, slots=True)
class Names:
    """What the settings say; empty leaves the choice to the panel."""

    datacenter: str
    cluster: str
    folder: str
    datastore: str
    networks: dict[NicMode, str]

    def network(self, nic: NicSpec) -> str:
        """The port group of an interface. ``InvalidInput`` when there is none for its kind."""
        name = nic.network or self.networks[nic.mode]
        if not name:
            raise InvalidInput(
                _("vSphere has no NAT network of its own. Name a port group behind a router with NAT in the host's settings "
                  "(network_nat), or connect the VM to the port group of the bridge."),
                field="nic_all",
            )  # fmt: skip
        return name


@dataclass(frozen=True, slots=True)
class Place:
    """The same as objects of one session, to be used in the thread that found them.

    Attributes:
        networks: those that the cluster reaches, by name, with their properties.
    """

    datacenter: Any
    folder: Any
    pool: Any
    datastore: Any
    store: str
    networks: dict[str, tuple[Any, dict[str, Any]]] = field(default_factory=dict)


def read_names(connection: HostConnection) -> Names:
    """From the settings of a host."""
    options = connection.options
    return Names(
        datacenter=options.get("datacenter", "").strip(),
        cluster=options.get("cluster", "").strip(),
        folder=options.get("folder", "").strip().strip("/"),
        datastore=connection.disks_path.strip(),
        networks={
            NicMode.NAT: options.get("network_nat", "").strip(),
            NicMode.BRIDGE: options.get("network_bridge", "VM Network").strip(),
        },
    )


def find(session: Session, names: Names) -> Place:
    """In a worker thread. ``InvalidInput`` names the setting, and what there is instead."""
    centers = [
        (one, plain_name(props["name"]), props) for one, props in session.collect({"Datacenter": ["name", "vmFolder"]})
    ]
    center, _name, props = _pick(centers, names.datacenter, "datacenter")
    computes = [
        (one, plain_name(found["name"]), found)
        for one, found in session.collect({"ComputeResource": COMPUTE}, center)
        if found.get("resourcePool") is not None
    ]
    _one, _name, compute = _pick(computes, names.cluster, "cluster")
    stores = [
        (one, plain_name(found["name"]), found)
        for one, found in session.read(list(compute.get("datastore") or ()), "Datastore", ["name", "summary"])
        if found["summary"].accessible
    ]
    if names.datastore or not stores:
        store, store_name, _found = _pick(stores, names.datastore, "system_path")
    else:
        store, store_name, _found = max(stores, key=lambda each: each[2]["summary"].freeSpace)
    return Place(
        datacenter=center,
        folder=_folder(session, props["vmFolder"], names.folder),
        pool=compute["resourcePool"],
        datastore=store,
        store=store_name,
        networks=_networks(session, list(compute.get("network") or ())),
    )


def network(place: Place, name: str) -> tuple[Any, dict[str, Any]]:
    """A port group. ``InvalidInput`` names those that there are."""
    if name not in place.networks:
        raise InvalidInput(
            _("There is no port group {name} here. There is: {known}. Check the VM's interfaces, or the host's settings "
              "(network_bridge, network_nat)."),
            field="nic_all", name=name, known=", ".join(sorted(place.networks)) or "–",
        )  # fmt: skip
    return place.networks[name]


def _networks(session: Session, objects: list[Any]) -> dict[str, tuple[Any, dict[str, Any]]]:
    """By name. What VMs cannot be connected to (the uplinks of a distributed switch) is left out."""
    kinds: dict[str, list[Any]] = {}
    for one in objects:
        kinds.setdefault(type(one).__name__.rpartition(".")[2], []).append(one)
    found: dict[str, tuple[Any, dict[str, Any]]] = {}
    for kind, each in kinds.items():
        paths = {
            "DistributedVirtualPortgroup": ["name", "key", "config.distributedVirtualSwitch", "config.uplink"],
            "OpaqueNetwork": ["name", "summary"],
        }.get(kind, ["name"])
        for one, props in session.read(each, kind, paths):
            if props.get("name") and not props.get("config.uplink"):
                found[str(props["name"])] = (one, props)
    return found


def _folder(session: Session, top: Any, path: str) -> Any:
    """The folder below the datacenter's."""
    here = top
    for part in filter(None, path.split("/")):
        answer = session.read([here], "Folder", ["childEntity"])
        children = [one for one in answer[0][1].get("childEntity", ()) if type(one).__name__.endswith("Folder")]
        named = {plain_name(props["name"]): one for one, props in session.read(children, "Folder", ["name"])}
        if part not in named:
            raise InvalidInput(
                _("There is no VM folder {name} here. There is: {known}."),
                field="folder", name=path, known=", ".join(sorted(named)) or "–",
            )  # fmt: skip
        here = named[part]
    return here


def _pick(found: list[tuple[Any, str, dict[str, Any]]], wanted: str, setting: str) -> tuple[Any, str, dict[str, Any]]:
    """The one that is called so, or the only one there is."""
    chosen = [each for each in found if each[1] == wanted] if wanted else found
    if len(chosen) == 1:
        return chosen[0]
    known = ", ".join(sorted(each[1] for each in found)) or "–"
    if wanted:
        raise InvalidInput(
            _("There is no {name} here: {field}. There is: {known}."), field=setting, name=wanted, known=known
        )
    raise InvalidInput(_("Say which one ({field}). There is: {known}."), field=setting, known=known)
