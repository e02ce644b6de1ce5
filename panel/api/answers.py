"""What answers carry in ``data``. Memory is MiB, disk is GiB, rates are bytes/s, times are UTC."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

# -- system ----------------------------------------------------------------------------------------------------


class TokenOut(BaseModel):
    token: str


class HostFieldOut(BaseModel):
    name: str
    label: str
    help: str
    required: bool
    secret: bool
    default: str


class EngineOut(BaseModel):
    engine_type: str = Field(examples=["QEMUServer"])
    title: str
    capabilities: dict[str, Any]
    reasons: dict[str, str] = Field(description="why it lacks a capability, by its name")
    fields: list[HostFieldOut]


class EnginesOut(BaseModel):
    engines: list[EngineOut]


class SavedOut(BaseModel):
    file: str = Field(examples=["configuration.json"])


class LoadedOut(BaseModel):
    hosts: int
    vms: int
    kept_hosts: int = Field(description="hosts that the file does not name; they stay")
    kept_vms: int


class StatisticsOut(BaseModel):
    host_count: int
    host_online: int
    hosts_by_health: dict[str, int]
    vm_count: int
    vms_by_state: dict[str, int]
    cpu_allocated: int
    ram_allocated: int = Field(description="MiB")
    hdd_allocated: float = Field(description="GiB")
    tasks_running: int
    tasks_failed: int
    version: str


class LogOut(BaseModel):
    id: int
    at: datetime
    level: str
    actor: str
    source: str
    address: str
    action: str
    object_kind: str
    object_name: str
    message: str


class LogsOut(BaseModel):
    total: int
    page: int
    limit: int
    logs: list[LogOut]


class TaskLineOut(BaseModel):
    at: datetime
    level: str
    message: str


class TaskOut(BaseModel):
    id: str
    kind: str = Field(examples=["vm.create"])
    status: str = Field(examples=["succeeded"])
    percent: int = Field(ge=0, le=100)
    message: str
    error_code: int | None = Field(description="what an API call would have answered")
    hs_name: str
    vm_uuid: str
    actor: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    result: dict[str, Any] | None
    log: list[TaskLineOut] | None = Field(None, description="only when asked for by id")


class TasksOut(BaseModel):
    total: int
    page: int
    limit: int
    tasks: list[TaskOut]


# -- server ----------------------------------------------------------------------------------------------------


class HostOut(BaseModel):
    server_name: str
    engine_type: str
    server_addr: str
    server_user: str
    system_path: str
    images_path: str
    launch_path: str
    ports_start: int = Field(description="first of the external ports that forwards are given from")
    ports_close: int
    outside: str = Field(description="what people type to reach it; empty: its own address")
    report_only: bool
    strict_reports: bool
    at_limit: str = Field(examples=["slow"])
    at_limit_mbit: int = Field(description="Mbit/s that slow leaves a VM whose traffic of the month is used up")
    options: dict[str, str] = Field(description="the engine's own fields, but its secrets")
    enabled: bool
    health: str = Field(examples=["online"])
    health_since: datetime | None
    problem: str | None = Field(description="why it is unreachable, and the mend")
    seen_at: datetime | None
    version: str
    vm_count: int


class HostsOut(BaseModel):
    hosts: list[HostOut]


class NewHostOut(BaseModel):
    server_name: str
    version: str
    hostname: str
    accelerated: bool | None
    warnings: list[str]


class HostStatusOut(BaseModel):
    server_name: str
    health: str
    health_since: datetime | None
    problem: str | None
    seen_at: datetime | None = Field(description="when the numbers were read; null: never")
    cpu_usage: float | None = Field(description="percent of the whole host")
    cpu_total: int | None
    mem_usage: int | None = Field(description="MiB")
    mem_total: int | None = Field(description="MiB")
    hdd_usage: float | None = Field(description="GiB, where VM disks live")
    hdd_total: float | None = Field(description="GiB")


class MetricsOut(BaseModel):
    """Series of equal length: a value for each step from ``start`` on; null: not measured then."""

    step_seconds: int
    start: datetime
    series: dict[str, list[float | None]] = Field(
        description="cpu_percent, memory_used_mib, disk_read_bytes_per_second, disk_write_bytes_per_second, "
        "net_rx_bytes_per_second, net_tx_bytes_per_second"
    )


class PanelStatusOut(BaseModel):
    version: str
    host_count: int
    vm_count: int


class RemovedHostOut(BaseModel):
    server_name: str
    vms_forgotten: int


# -- client ----------------------------------------------------------------------------------------------------


class NicOut(BaseModel):
    net_mode: str | None
    mac_addr: str
    ip4_addr: str = Field(description="as the guest has it, else the one it was given; empty: neither")
    ip6_addr: str
    network: str


class VmOut(BaseModel):
    vm_uuid: str
    vm_name: str
    hs_name: str
    os_name: str
    cpu_num: int
    ram_num: int = Field(description="MiB")
    hdd_num: float = Field(description="GiB")
    nic_all: dict[str, NicOut]
    state: str = Field(examples=["running"])
    known_state: str = Field(description="the state when it was last seen for sure")
    seen_at: datetime | None
    creating: bool
    managed: bool = Field(description="made by the panel, not adopted")
    pending: list[str] = Field(description="changes that wait for the next start")
    tags: list[str] = Field(description="what operators marked it with, on its page", examples=[["web"]])
    notes: str = Field(description="what operators wrote about it")
    speed_u: int = Field(description="Mbit/s from the VM, 0: no limit")
    speed_d: int = Field(description="Mbit/s to the VM, 0: no limit")
    flu_num: int = Field(description="GiB of traffic a month, both directions together, 0: no limit")
    flu_usage: float = Field(description="GiB of traffic of this month (UTC), both directions together")
    at_limit: bool = Field(description="flu_num is used up: the VM is slowed or cut off, as its host's setting says")
    created_at: datetime


class VmsOut(BaseModel):
    vms: list[VmOut]


class VmStatusOut(BaseModel):
    vm_uuid: str
    state: str
    known_state: str
    state_since: datetime | None
    seen_at: datetime | None
    agent: bool | None = Field(description="whether the guest agent answers")
    cpu_usage: float | None = Field(description="percent of its CPUs")
    mem_usage: int | None = Field(description="MiB")
    mem_total: int = Field(description="MiB")
    hdd_total: float = Field(description="GiB")
    rates: dict[str, float] = Field(description="bytes/s: disk_read, disk_write, net_rx, net_tx")
    flu_usage: float = Field(description="GiB of traffic of this month (UTC), both directions together")
    at_limit: bool = Field(description="flu_num is used up: the VM is slowed or cut off, as its host's setting says")
    guest_report: dict[str, float] | None = Field(description="reported by the guest itself")
    guest_report_at: datetime | None


class ActedOut(BaseModel):
    """A task was begun; with ``?wait=`` its row as it was then."""

    task_id: str
    status: str
    vm_uuid: str | None
    result: dict[str, Any] | None


class RemoteOut(BaseModel):
    url: str = Field(description="opens in a browser as it is, once")
    expires_in: int = Field(description="seconds")


class ReportOut(BaseModel):
    accepted: bool
