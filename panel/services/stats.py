"""Counting: how many hosts, VMs and tasks there are, and what is allocated."""

from __future__ import annotations

from typing import Any

from tortoise.functions import Count, Sum

from panel.models import Host, Task, TaskStatus, Vm
from panel.models.host import HostHealth
from panel.services.taskends import LIVING


async def statistics() -> dict[str, Any]:
    """The panel in numbers: hosts and VMs by state, what VMs were given, tasks at work and failed."""
    hosts = await Host.all().annotate(n=Count("id")).group_by("health").values("health", "n")
    vms = await Vm.all().annotate(n=Count("id")).group_by("state").values("state", "n")
    given = (
        await Vm.all()
        .annotate(cpu=Sum("cpu_count"), memory=Sum("memory_mib"), disk=Sum("disk_gib"))
        .values("cpu", "memory", "disk")
    )
    by_health = {str(row["health"]): row["n"] for row in hosts}
    total = given[0] if given else {}
    return {
        "host_count": sum(by_health.values()),
        "host_online": by_health.get(HostHealth.ONLINE, 0),
        "hosts_by_health": by_health,
        "vm_count": sum(row["n"] for row in vms),
        "vms_by_state": {str(row["state"]): row["n"] for row in vms},
        "cpu_allocated": int(total.get("cpu") or 0),
        "ram_allocated": int(total.get("memory") or 0),
        "hdd_allocated": round(float(total.get("disk") or 0), 1),
        "tasks_running": await Task.filter(status__in=LIVING).count(),
        "tasks_failed": await Task.filter(status=TaskStatus.FAILED).count(),
    }
