"""``/metrics``: the panel's numbers for Prometheus, in its text format 0.0.4, behind the access token."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from quart import Blueprint, Response
from quart_schema import hide
from tortoise.functions import Count

from panel import __version__
from panel.api.routing import authenticate
from panel.engines.types import PowerState
from panel.errors import TooManyRequests, Unauthorized
from panel.models import Host, Task, TaskStatus, Vm
from panel.models.host import HostHealth
from panel.security import Permission
from panel.services.clock import now

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SLICE = 500  # VMs that are read at once: the loop is free between two slices
MIB, GIB = 1024**2, 1024**3
VM_FIELDS = ("id", "name", "host_id", "state", "creating", "cpu_count", "memory_mib", "disk_gib", "cpu_percent",
             "memory_used_mib", "rates")  # fmt: skip
HELP = {
    "info": "The panel's version.",
    "host_up": "1 while the host answers.",
    "host_enabled": "1 while the panel looks at the host.",
    "host_seen_age_seconds": "Time since the host was last seen.",
    "host_cpus": "Processors of the host.",
    "host_cpu_usage_ratio": "Load of the host's processors, 0 to 1.",
    "host_memory_used_bytes": "Memory in use on the host.",
    "host_memory_bytes": "Memory of the host.",
    "host_disk_used_bytes": "Disk in use where the host keeps VMs.",
    "host_disk_bytes": "Disk where the host keeps VMs.",
    "vms": "VMs of a host by state.",
    "vm_up": "1 while the VM runs, as last seen.",
    "vm_cpus": "Virtual CPUs of the VM.",
    "vm_cpu_usage_ratio": "Load of the VM's CPUs, 0 to 1.",
    "vm_memory_used_bytes": "Memory in use in the VM.",
    "vm_memory_bytes": "Memory that the VM was given.",
    "vm_disk_bytes": "Disk that the VM was given.",
    "vm_disk_read_bytes_per_second": "Read from the VM's disks.",
    "vm_disk_write_bytes_per_second": "Written to the VM's disks.",
    "vm_network_receive_bytes_per_second": "Received by the VM.",
    "vm_network_transmit_bytes_per_second": "Sent by the VM.",
    "tasks": "Tasks that the panel remembers, by status.",
}
RATES = {
    "disk_read": "vm_disk_read_bytes_per_second",
    "disk_write": "vm_disk_write_bytes_per_second",
    "net_rx": "vm_network_receive_bytes_per_second",
    "net_tx": "vm_network_transmit_bytes_per_second",
}

blueprint = Blueprint("prometheus", __name__)


async def metrics() -> Response:
    """All numbers, as last seen: no hypervisor is asked. 401 and 429 are plain text, as scrapers expect."""
    try:
        actor = await authenticate()
    except (Unauthorized, TooManyRequests) as error:
        refused = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
        return Response(f"{error.text.translate()}\n", error.status, refused, content_type="text/plain; charset=utf-8")
    actor.require(Permission.VIEW)
    return Response(await exposition(), content_type=CONTENT_TYPE)


blueprint.add_url_rule("/metrics", "metrics", hide(metrics), methods=["GET"])


class Exposition:
    """Collects samples; all of one metric stand together in the text, as the format wants it."""

    def __init__(self) -> None:
        self._lines: dict[str, list[str]] = {name: [] for name in HELP}

    def add(self, name: str, labels: str, value: float | None) -> None:
        """A sample; None is not known, and left out. ``labels`` come from ``label_text``."""
        if value is not None:
            self._lines[name].append(f"openidcs_{name}{labels} {value}\n")

    def text(self) -> str:
        """The whole text."""
        return "".join(
            f"# HELP openidcs_{name} {HELP[name]}\n# TYPE openidcs_{name} gauge\n{''.join(lines)}"
            for name, lines in self._lines.items()
            if lines
        )


def label_text(**labels: str) -> str:
    """Labels in braces, escaped: backslash, double quote and line feed."""
    escaped = (
        f'{name}="{value.replace(chr(92), chr(92) * 2).replace(chr(34), chr(92) + chr(34)).replace(chr(10), chr(92) + "n")}"'
        for name, value in labels.items()
    )
    return "{" + ",".join(escaped) + "}"


async def exposition() -> str:
    """The text of a scrape: three queries, and one for each ``SLICE`` VMs."""
    made = Exposition()
    made.add("info", label_text(version=__version__), 1)
    hosts = {host.id: host for host in await Host.all()}
    for host in hosts.values():
        _add_host(made, host)
    states = {(host_id, str(state)): 0 for host_id in hosts for state in PowerState}
    last = 0
    while rows := await Vm.filter(id__gt=last).order_by("id").limit(SLICE).values(*VM_FIELDS):
        last = rows[-1]["id"]
        _add_vms(made, hosts, rows, states)
        await asyncio.sleep(0)
    for (host_id, state), count in states.items():
        made.add("vms", label_text(host=hosts[host_id].name, state=state), count)
    tasks = await Task.all().annotate(n=Count("id")).group_by("status").order_by("status").values("status", "n")
    counted = {str(row["status"]): row["n"] for row in tasks}
    for status in TaskStatus:
        made.add("tasks", label_text(status=status), counted.get(status, 0))
    return made.text()


def _add_host(made: Exposition, host: Host) -> None:
    labels, up = label_text(host=host.name, engine=host.engine), host.health is HostHealth.ONLINE
    made.add("host_up", labels, int(up))
    made.add("host_enabled", labels, int(host.enabled))
    labels = label_text(host=host.name)
    if host.seen_at is not None:
        made.add("host_seen_age_seconds", labels, round(max(0.0, (now() - host.seen_at).total_seconds()), 1))
    load: Mapping[str, Any] = (host.status or {}) if up else {}  # what is of long ago is not the load now
    made.add("host_cpus", labels, load.get("cpu_count"))
    for metric, field, unit in (
        ("host_cpu_usage_ratio", "cpu_percent", 0.01),
        ("host_memory_used_bytes", "memory_used_mib", MIB),
        ("host_memory_bytes", "memory_total_mib", MIB),
        ("host_disk_used_bytes", "disk_used_gib", GIB),
        ("host_disk_bytes", "disk_total_gib", GIB),
    ):
        made.add(metric, labels, _scaled(load.get(field), unit))


def _add_vms(
    made: Exposition, hosts: Mapping[int, Host], rows: Iterable[Mapping[str, Any]], states: dict[tuple[int, str], int]
) -> None:
    for row in rows:
        host = hosts.get(row["host_id"])
        if host is None or row["creating"]:
            continue
        state = str(row["state"])
        states[host.id, state] += 1
        labels = label_text(host=host.name, vm=row["name"])
        made.add("vm_up", labels, int(state == PowerState.RUNNING))
        made.add("vm_cpus", labels, row["cpu_count"])
        made.add("vm_memory_bytes", labels, _scaled(row["memory_mib"], MIB))
        made.add("vm_disk_bytes", labels, _scaled(row["disk_gib"], GIB))
        if state != PowerState.RUNNING:
            continue
        made.add("vm_cpu_usage_ratio", labels, _scaled(row["cpu_percent"], 0.01))
        made.add("vm_memory_used_bytes", labels, _scaled(row["memory_used_mib"], MIB))
        for field, metric in RATES.items():
            made.add(metric, labels, row["rates"].get(field))


def _scaled(value: float | None, unit: float) -> float | None:
    return None if value is None else round(value * unit, 5)
