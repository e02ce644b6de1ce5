"""How busy VMs are: the last of the samples that vSphere takes every 20 seconds, of many VMs in one call.

Source: ``PerformanceManager.QueryPerf`` and its counters' names (group, name, rollup) in the vSphere Web Services API.
"""

from __future__ import annotations

from typing import Any

from panel.engines.types import Load
from panel.engines.vsphere.client import Session
from panel.engines.vsphere.sdk import vim, vmodl

INTERVAL = 20  # seconds: of samples that are not history
PAGE = 100  # VMs in one call: 500 values, which a vCenter takes
KIB = 1024.0
PARTS = {
    # of a counter: which part of a ``Load`` it is, of which instances ("" is vSphere's own sum), and what its unit is of ours
    "cpu.usage.average": ("cpu_percent", "", 0.01),
    "virtualDisk.read.average": ("disk_read", "*", KIB),
    "virtualDisk.write.average": ("disk_write", "*", KIB),
    "net.received.average": ("net_rx", "", KIB),
    "net.transmitted.average": ("net_tx", "", KIB),
}


def loads(session: Session, moids: list[str]) -> dict[str, Load]:
    """The load of these running VMs by their ids; in a worker thread. One that vSphere has no sample of yet is missing."""
    if not moids or session.content.perfManager is None:
        return {}
    keys = {key: PARTS[name] for name, key in session.counters().items() if name in PARTS}
    if not keys:
        return {}
    found: dict[str, Load] = {}
    for start in range(0, len(moids), PAGE):
        for answer in _ask(session, [session.vm(moid) for moid in moids[start : start + PAGE]], keys):
            load = read(answer.value or (), keys)
            if load is not None:
                found[str(answer.entity._moId)] = load
    return found


def _ask(session: Session, vms: list[Any], keys: dict[int, tuple[str, str, float]]) -> list[Any]:
    manager = vim.PerformanceManager
    metrics = [manager.MetricId(counterId=key, instance=instance) for key, (_part, instance, _unit) in keys.items()]
    while vms:
        wanted = [
            manager.QuerySpec(entity=vm, maxSample=1, intervalId=INTERVAL, format="normal", metricId=metrics)
            for vm in vms
        ]
        try:
            return list(session.content.perfManager.QueryPerf(querySpec=wanted) or ())
        except vmodl.fault.ManagedObjectNotFound as fault:  # it went away meanwhile: ask for the others
            gone = getattr(fault.obj, "_moId", None)
            left = [vm for vm in vms if vm._moId != gone]
            vms = left if len(left) < len(vms) else []
        except (vmodl.fault.InvalidArgument, vmodl.fault.NotSupported, vmodl.fault.MethodNotFound):
            return []
    return []


def read(series: Any, keys: dict[int, tuple[str, str, float]]) -> Load | None:
    """One VM's last sample; None when there is none. Of several disks the sum; a value below 0 is vSphere's word for none."""
    sums: dict[int, dict[str, int]] = {}
    for one in series:
        values = [int(value) for value in one.value or () if value >= 0]
        if values and one.id.counterId in keys:
            sums.setdefault(one.id.counterId, {})[str(one.id.instance or "")] = values[-1]
    if not sums:
        return None
    parts: dict[str, float] = {}
    for key, by_instance in sums.items():
        part, _instance, unit = keys[key]
        parts[part] = by_instance.get("", sum(by_instance.values())) * unit
    return Load(**parts)
