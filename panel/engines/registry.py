"""The engines, one line each. A module is imported when its engine is first needed."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from panel.engines.base import Engine
from panel.engines.types import EngineKind, HostConnection

ENGINES: dict[EngineKind, str] = {
    EngineKind.LIBVIRT: "panel.engines.libvirt.engine:LibvirtEngine",
    EngineKind.VMWARE_WORKSTATION: "panel.engines.vmware_workstation.engine:VmwareWorkstationEngine",
    EngineKind.PROXMOX: "panel.engines.proxmox.engine:ProxmoxEngine",
    EngineKind.VSPHERE: "panel.engines.vsphere.engine:VsphereEngine",
    EngineKind.INCUS: "panel.engines.incus.engine:IncusEngine",
    EngineKind.DOCKER: "panel.engines.docker.engine:DockerEngine",
    EngineKind.FAKE: "panel.engines.fake.engine:FakeEngine",
}


@cache
def engine_class(kind: EngineKind) -> type[Engine]:
    """The class of an engine. ``KeyError`` cannot happen for a member of ``EngineKind`` (a test holds that)."""
    module, _, name = ENGINES[kind].partition(":")
    loaded: type[Engine] = getattr(import_module(module), name)
    return loaded


def make_engine(kind: EngineKind, connection: HostConnection) -> Engine:
    """An engine for one host. Does not connect."""
    return engine_class(kind)(connection)
