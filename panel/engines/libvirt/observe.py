"""What is really there: one bulk call for the numbers, XML only of domains that changed, addresses from DHCP and agent."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import posixpath
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import libvirt

from panel.engines.libvirt.client import Client, Lane
from panel.engines.libvirt.domain import DomainConfig, DomainNic, read_domain
from panel.engines.libvirt.networks import leases
from panel.engines.libvirt.snapshots import read_snapshots
from panel.engines.libvirt.storage import GIB
from panel.engines.types import (
    BootDevice,
    DiskObservation,
    NicMode,
    NicObservation,
    PowerState,
    Snapshot,
    VmObservation,
)
from panel.errors import PanelError

STATS = (
    libvirt.VIR_DOMAIN_STATS_STATE
    | libvirt.VIR_DOMAIN_STATS_CPU_TOTAL
    | libvirt.VIR_DOMAIN_STATS_BALLOON
    | libvirt.VIR_DOMAIN_STATS_VCPU
    | libvirt.VIR_DOMAIN_STATS_INTERFACE
    | libvirt.VIR_DOMAIN_STATS_BLOCK
)
# a VM that is being copied or hangs in its monitor gives the numbers that libvirt has, and delays nobody
NOWAIT = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
XML_SECONDS = 60.0
XML_BUDGET_SECONDS = 5.0
AGENT_SECONDS = 30.0
AGENT_ANSWER_SECONDS = 3

_STATES = {
    libvirt.VIR_DOMAIN_RUNNING: PowerState.RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: PowerState.RUNNING,
    libvirt.VIR_DOMAIN_SHUTDOWN: PowerState.RUNNING,  # on its way, not off
    libvirt.VIR_DOMAIN_PAUSED: PowerState.SUSPENDED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: PowerState.SUSPENDED,
    libvirt.VIR_DOMAIN_SHUTOFF: PowerState.STOPPED,
    libvirt.VIR_DOMAIN_CRASHED: PowerState.CRASHED,
}
_ON = {PowerState.RUNNING, PowerState.SUSPENDED}

Stats = Mapping[str, Any]


def power_state(code: int) -> PowerState:
    """The panel's word for a ``virDomainState``; paused and suspended-to-RAM are both ``SUSPENDED``."""
    return _STATES.get(code, PowerState.UNKNOWN)


@dataclass(slots=True)
class Known:
    """A domain's XML as last read, in which state that was, and when (monotonic seconds)."""

    config: DomainConfig
    state: int
    read_at: float
    sizes: dict[str, float] = field(default_factory=dict)  # GiB of its disks, by target, while it is off
    snapshots: tuple[Snapshot, ...] = ()


@dataclass(slots=True)
class AgentAnswer:
    """What a guest agent said, and when; ``answers`` is False when it is connected but silent."""

    at: float
    answers: bool
    addresses: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(slots=True)
class Look:
    """What one look brought out of the worker thread."""

    stats: dict[str, tuple[str, Stats]]
    read: dict[str, Known]
    leases: dict[str, tuple[str, ...]]


class Looker:
    """Observes one host. Remembers each domain's XML until an event, a change of state or a minute makes it old."""

    def __init__(self, client: Client, network_nat: str) -> None:
        self._client = client
        self._network_nat = network_nat
        self._known: dict[str, Known] = {}
        self._stale: set[str] = set()
        self._agents: dict[str, AgentAnswer] = {}
        self._asking: asyncio.Task[None] | None = None

    def forget(self, ref: str, what: str = "changed") -> None:
        """Read this domain's XML again at the next look. Also the client's ``on_event``."""
        self._stale.add(ref)
        if what in {"agent", "stopped", "started", "rebooted"}:
            self._agents.pop(ref, None)

    async def all(self) -> list[VmObservation]:
        """Every VM of the host."""
        stale, self._stale = self._stale, set()
        known = {ref: entry for ref, entry in self._known.items() if ref not in stale}
        try:
            look = await self._client.call(lambda conn: _look(conn, None, known))
        except BaseException:
            self._stale |= stale
            raise
        self._known = {ref: entry for ref, entry in self._known.items() if ref in look.stats} | look.read
        self._agents = {ref: answer for ref, answer in self._agents.items() if ref in look.stats}
        self._ask_agents(look)
        return [self._observation(ref, look) for ref in look.stats]

    async def one(self, ref: str) -> VmObservation:
        """One VM, everything read now. ``NotFound`` when it is not there."""
        self._client.check_ref(ref)
        look = await self._client.call(lambda conn: _look(conn, ref, {}))
        self._known |= look.read
        return self._observation(ref, look)

    async def config(self, ref: str) -> DomainConfig:
        """The domain's XML, read now."""
        config = await self._client.domain(ref, lambda domain: read_domain(domain.XMLDesc(0)))
        self._stale.add(ref)
        return config

    async def close(self) -> None:
        """Stop asking agents."""
        if self._asking is not None:
            self._asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._asking

    def _observation(self, ref: str, look: Look) -> VmObservation:
        name, stats = look.stats[ref]
        return observation(
            ref, name, stats, self._known.get(ref), look.leases, self._agents.get(ref), self._network_nat
        )

    def _ask_agents(self, look: Look) -> None:
        """Start asking the agents whose answer is old, behind the round's back, unless the last asking still runs."""
        if self._asking is not None and not self._asking.done():
            return
        now = time.monotonic()
        due = [
            ref
            for ref, (_, stats) in look.stats.items()
            if power_state(stats.get("state.state", 0)) is PowerState.RUNNING
            and (entry := self._known.get(ref)) is not None
            and entry.config.agent_connected
            and (ref not in self._agents or now - self._agents[ref].at > AGENT_SECONDS)
        ]
        if due:
            self._asking = asyncio.get_running_loop().create_task(self._ask_all(due))

    async def _ask_all(self, refs: list[str]) -> None:
        await asyncio.gather(*(self._ask(ref) for ref in refs))

    async def _ask(self, ref: str) -> None:
        try:
            addresses = await self._client.domain(ref, _agent_addresses, lane=Lane.AGENT)
        except PanelError:
            self._agents[ref] = AgentAnswer(time.monotonic(), answers=False)
        else:
            self._agents[ref] = AgentAnswer(time.monotonic(), answers=True, addresses=addresses)


def _look(conn: Any, ref: str | None, known: Mapping[str, Known]) -> Look:
    """In a worker thread: numbers of all domains (or of ``ref``), XML of those not ``known``, leases."""
    rows = _all_stats(conn, [conn.lookupByUUIDString(ref)] if ref is not None else None)
    now = time.monotonic()
    look = Look({}, {}, {})
    for domain, stats in rows:
        this = domain.UUIDString()
        look.stats[this] = (domain.name(), stats)
        entry = known.get(this)
        state = stats.get("state.state", 0)
        if entry is not None and entry.state == state and now - entry.read_at < XML_SECONDS:
            continue
        if time.monotonic() - now < XML_BUDGET_SECONDS:
            with contextlib.suppress(libvirt.libvirtError):  # gone since the numbers were read
                look.read[this] = _read(domain, state)
    look.leases = leases(conn)
    return look


def _all_stats(conn: Any, domains: list[Any] | None) -> list[tuple[Any, Stats]]:
    for flags in (NOWAIT, 0):
        try:
            rows: list[tuple[Any, Stats]] = (
                conn.getAllDomainStats(STATS, flags)
                if domains is None
                else conn.domainListGetStats(domains, STATS, flags)
            )
            return rows
        except libvirt.libvirtError as error:
            unknown_flag = error.get_error_code() == libvirt.VIR_ERR_INVALID_ARG
            if flags == 0 or not unknown_flag:
                raise
    raise AssertionError


def _read(domain: Any, state: int) -> Known:
    entry = Known(read_domain(domain.XMLDesc(0)), state, time.monotonic(), snapshots=read_snapshots(domain))
    if power_state(state) in _ON:  # the numbers have it
        return entry
    for disk in entry.config.disks:
        with contextlib.suppress(libvirt.libvirtError):
            if disk.device == "disk" and disk.source:
                entry.sizes[disk.target] = round(domain.blockInfo(disk.target)[0] / GIB, 3)
    return entry


def _agent_addresses(domain: Any) -> dict[str, tuple[str, ...]]:
    """Addresses by MAC as the guest agent tells them, without loopback and link-local ones."""
    with contextlib.suppress(libvirt.libvirtError):
        domain.agentSetResponseTimeout(AGENT_ANSWER_SECONDS)
    source = libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT
    found: dict[str, tuple[str, ...]] = {}
    for interface in (domain.interfaceAddresses(source) or {}).values():
        mac = (interface.get("hwaddr") or "").lower()
        listed = tuple(item["addr"] for item in interface.get("addrs") or [] if is_reachable(item["addr"]))
        if mac and listed:
            found[mac] = found.get(mac, ()) + listed
    return found


def is_reachable(address: str) -> bool:
    """Whether an address means anything outside the guest."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return not (parsed.is_loopback or parsed.is_link_local)


def observation(
    ref: str,
    name: str,
    stats: Stats,
    entry: Known | None,
    leased: Mapping[str, tuple[str, ...]],
    agent: AgentAnswer | None,
    network_nat: str,
) -> VmObservation:
    """A ``VmObservation`` of libvirt's numbers (names: virConnectGetAllDomainStats) and the domain's XML."""
    state = power_state(stats.get("state.state", 0))
    on = state in _ON
    config = entry.config if entry else None
    told = agent.addresses if agent and on else {}
    memory = stats.get("balloon.current", 0) // 1024 if on else 0
    return VmObservation(
        ref=ref,
        name=name,
        title=config.title if config else "",
        state=state,
        cpu_count=int(stats.get("vcpu.current") or (config.vcpus if config else 0)),
        memory_mib=memory or (config.memory_mib if config else 0),
        disk_gib=_disk_gib(stats, entry),
        nics=tuple(_nic(nic, told, leased if on else {}, network_nat, on) for nic in config.nics) if config else (),
        os_name=config.os_name if config else "",
        cpu_seconds=stats["cpu.time"] / 1e9 if on and "cpu.time" in stats else None,
        memory_used_mib=_memory_used(stats) if on else None,
        disk_read_bytes=_total(stats, "block", "rd.bytes") if on else None,
        disk_write_bytes=_total(stats, "block", "wr.bytes") if on else None,
        net_rx_bytes=_total(stats, "net", "rx.bytes") if on else None,
        net_tx_bytes=_total(stats, "net", "tx.bytes") if on else None,
        agent=_agent_answers(config, agent) if state is PowerState.RUNNING else None,
        managed=bool(config and config.managed),
        disks=_disks(stats, entry) if entry else (),
        boot=config.boot if config else (),
        iso=posixpath.basename(config.iso) if config and config.iso is not None else None,
        snapshots=entry.snapshots if entry else (),
    )


def _disks(stats: Stats, entry: Known) -> tuple[DiskObservation, ...]:
    """Its disks and CD drives, in the order of the definition."""
    return tuple(
        DiskObservation(
            name=disk.target,
            kind=BootDevice.CDROM if disk.device == "cdrom" else BootDevice.DISK,
            bus=disk.bus,
            source=disk.source,
            format=disk.format if disk.source else "",
            size_gib=_size_gib(stats, entry, disk.target) if disk.source else None,
            ours=disk.source in entry.config.volumes,
        )
        for disk in entry.config.disks
        if disk.device in {"disk", "cdrom"}
    )


def _agent_answers(config: DomainConfig | None, agent: AgentAnswer | None) -> bool | None:
    if config is None:
        return None
    return config.agent_connected and (agent is None or agent.answers)


def _nic(
    nic: DomainNic,
    told: Mapping[str, tuple[str, ...]],
    leased: Mapping[str, tuple[str, ...]],
    network_nat: str,
    on: bool,
) -> NicObservation:
    mode = None
    if nic.kind == "bridge":
        mode = NicMode.BRIDGE
    elif nic.kind == "network" and nic.network == network_nat:
        mode = NicMode.NAT
    addresses = told.get(nic.mac) or leased.get(nic.mac) or ()
    return NicObservation(nic.name, nic.mac, mode, nic.network, addresses, nic.port if on else "", nic.model)


def _memory_used(stats: Stats) -> int | None:
    """MiB: what the guest's balloon driver reports as used (available - usable). None until it does: what the host gives is not
    what the guest uses, and would look like a VM that is full."""
    available = stats.get("balloon.available")
    free = stats.get("balloon.usable", stats.get("balloon.unused"))
    return int(max(0, available - free) // 1024) if available and free is not None else None


def _total(stats: Stats, group: str, item: str) -> int | None:
    """The sum of ``block.N.item`` over all N; None when libvirt gave none."""
    values = [stats[key] for n in range(stats.get(f"{group}.count", 0)) if (key := f"{group}.{n}.{item}") in stats]
    return int(sum(values)) if values else None


def _disk_gib(stats: Stats, entry: Known | None) -> float | None:
    disk = entry.config.system_disk if entry else None
    if entry is None or disk is None:
        return None
    return _size_gib(stats, entry, disk.target)


def _size_gib(stats: Stats, entry: Known, target: str) -> float | None:
    for number in range(stats.get("block.count", 0)):
        capacity = stats.get(f"block.{number}.capacity")
        if stats.get(f"block.{number}.name") == target and capacity:
            return float(round(capacity / GIB, 3))
    return entry.sizes.get(target)
