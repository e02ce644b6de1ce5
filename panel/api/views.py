"""Rows as the API shows them."""

from __future__ import annotations

from collections.abc import Container, Sequence
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

from panel.api.answers import ActedOut, HostOut, HostStatusOut, TaskLineOut, TaskOut, VmStatusOut
from panel.api.wire import ENGINE_NAMES, Body
from panel.i18n import Text
from panel.i18n import gettext_noop as _
from panel.models import Host, Task, TaskLine, Vm
from panel.services.engines import secret_options
from panel.services.listed import ListedVm
from panel.services.texts import unpack
from panel.services.traffic import GIB


def told(stored: dict[str, Any] | None) -> str | None:
    """A stored message in the reader's language."""
    text = unpack(stored)
    return text.translate() if text else None


def host_out(host: Host, vm_count: int) -> HostOut:
    """A host, without its secret."""
    return HostOut(
        server_name=host.name,
        engine_type=ENGINE_NAMES[host.engine],
        server_addr=host.address,
        server_user=host.user,
        system_path=host.disks_path,
        images_path=host.images_path,
        launch_path=host.launch_path,
        ports_start=host.ports_start,
        ports_close=host.ports_close,
        outside=host.outside,
        report_only=host.report_only,
        strict_reports=host.strict_reports,
        at_limit=host.at_limit,
        at_limit_mbit=host.at_limit_mbit,
        options={key: value for key, value in host.options.items() if key not in secret_options(host.engine)},
        enabled=host.enabled,
        health=host.health,
        health_since=host.health_since,
        problem=told(host.problem),
        seen_at=host.seen_at,
        version=host.version,
        vm_count=vm_count,
    )


def host_status_out(host: Host) -> HostStatusOut:
    """A host's load, as last read."""
    status = host.status or {}
    return HostStatusOut(
        server_name=host.name,
        health=host.health,
        health_since=host.health_since,
        problem=told(host.problem),
        seen_at=host.seen_at,
        cpu_usage=status.get("cpu_percent"),
        cpu_total=status.get("cpu_count"),
        mem_usage=status.get("memory_used_mib"),
        mem_total=status.get("memory_total_mib"),
        hdd_usage=status.get("disk_used_gib"),
        hdd_total=status.get("disk_total_gib"),
    )


def vm_out(vm: ListedVm, host_name: str) -> dict[str, Any]:
    """A VM as ``VmOut`` says. A dict, as a host may have thousands."""
    return {
        "vm_uuid": vm.name,
        "vm_name": vm.title or vm.name,
        "hs_name": host_name,
        "os_name": vm.os_name,
        "cpu_num": vm.cpu_count,
        "ram_num": vm.memory_mib,
        "hdd_num": _shortest(vm.disk_gib),
        "nic_all": {
            nic.name: {
                "net_mode": nic.mode,
                "mac_addr": nic.mac,
                "ip4_addr": _first(nic.addresses, 4) or _first(nic.given, 4),
                "ip6_addr": _first(nic.addresses, 6) or _first(nic.given, 6),
                "network": nic.network,
            }
            for nic in vm.nics
        },
        "state": vm.state,
        "known_state": vm.known_state,
        "seen_at": vm.seen_at,
        "creating": vm.creating,
        "managed": vm.managed,
        "pending": vm.pending,
        "tags": vm.tags,
        "notes": vm.notes,
        "speed_u": vm.limits.get("speed_u", 0),
        "speed_d": vm.limits.get("speed_d", 0),
        "flu_num": vm.limits.get("flu_num", 0),
        "flu_usage": _gib(vm.used_bytes),
        "at_limit": vm.at_limit,
        "created_at": vm.created_at,
    }


def vm_status_out(vm: Vm, used_bytes: int) -> VmStatusOut:
    """A VM's state and load, as last seen. ``used_bytes``: its traffic of this month."""
    return VmStatusOut(
        vm_uuid=vm.name,
        state=vm.state,
        known_state=vm.known_state,
        state_since=vm.state_since,
        seen_at=vm.seen_at,
        agent=vm.agent,
        cpu_usage=vm.cpu_percent,
        mem_usage=vm.memory_used_mib,
        mem_total=vm.memory_mib,
        hdd_total=vm.disk_gib,
        rates=vm.rates,
        flu_usage=_gib(used_bytes),
        at_limit=vm.at_limit,
        guest_report=vm.report,
        guest_report_at=vm.report_at,
    )


def task_out(task: Task, lines: list[TaskLine] | None = None) -> TaskOut:
    """A task; with its log when that is given."""
    return TaskOut(
        id=task.id,
        kind=task.kind,
        status=task.status,
        percent=task.percent,
        message=told(task.message) or "",
        error_code=task.error_status,
        hs_name=task.host_name,
        vm_uuid=task.vm_name,
        actor=task.actor,
        created_at=task.created_at,
        started_at=task.started_at,
        ended_at=task.ended_at,
        result=task.result,
        log=None
        if lines is None
        else [TaskLineOut(at=line.at, level=line.level, message=told(line.message) or "") for line in lines],
    )


def acted_out(task: Task) -> ActedOut:
    """What was begun."""
    return ActedOut(task_id=task.id, status=task.status, vm_uuid=task.vm_name or None, result=task.result)


def unknown(body: Body, where: str = "", settled: Container[str] = ()) -> list[Text]:
    """A warning for each field of a body that means nothing here. ``where``: what stands before its name; ``settled``: fields
    that only a create has."""
    known = _("Field {name} does not change here, and was ignored.")
    other = _("Field {name} is not known and was ignored.")
    return [Text(known if name in settled else other, {"name": where + name}) for name in body.unknown()]


def _shortest(number: float) -> float:
    """50 and not 50.0, as the document has it: Go and others read no 50.0 into a whole number."""
    return int(number) if float(number).is_integer() else number


def _gib(size_bytes: int) -> float:
    return round(size_bytes / GIB, 6)


def _first(addresses: Sequence[str], version: int) -> str:
    """The first address of a version, the lowest of those that are not link-local before the others."""
    if not addresses:
        return ""
    found = [known[1:] for known in map(_known_address, addresses) if known[0] == version]
    return min(found)[1] if found else ""


@lru_cache(20_000)
def _known_address(text: str) -> tuple[int, bool, str]:
    """Version, whether it is link-local, and the address alone. Parsing them is a third of a long list's time."""
    bare = text.split("/", maxsplit=1)[0]
    address = ip_address(bare.split("%")[0])
    return address.version, address.is_link_local, bare
