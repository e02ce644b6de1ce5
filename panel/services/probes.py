"""Probes: the panel tries what the outside sees of forwards and domains, again and again while their VMs run.

Tried from the machine that the panel runs on. Where a host is this machine, a connection to its own outside address takes the
same translation as one from outside (the ``output`` chain of ``panel.gateways.ruleset``). Only a host's own outside address is
ever tried: what its operator wrote down, or what the machine itself has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import structlog
from tortoise.expressions import Q

from panel.engines.types import EngineKind, PowerState
from panel.errors import Conflict
from panel.events import EventBus, VmChanged
from panel.gateways.reach import Connector, Reach, own_address
from panel.gateways.types import Protocol
from panel.i18n import Text
from panel.i18n import gettext_noop as _
from panel.models import CertificateState, Forward, Host, Proxy, RuleState, Vm
from panel.models.database import is_away
from panel.security import Actor, Permission
from panel.services.clock import now
from panel.services.gateways import GatewayService
from panel.services.nodes import Nodes
from panel.services.texts import pack
from panel.settings import Settings

AGAIN = timedelta(seconds=60)  # the least time between two tries of one thing, unless it changed or somebody asks
SOON = timedelta(seconds=8)  # the same for what is closed while it is young: its guest may be booting
YOUNG = timedelta(minutes=5)  # since it was applied, or its VM started
LOOK_EVERY = 2.0  # seconds
AT_ONCE = 8
MOST = 24  # tries of one round: the oldest results first

Row = Forward | Proxy

terminal = structlog.get_logger("panel.probes")


@dataclass(frozen=True, slots=True)
class Outside:
    """Where a host is reached: what people type (``name``), and an address of each family that the panel can try."""

    name: str
    ip4: str = ""
    ip6: str = ""

    def tried(self, version: int) -> str:
        """What is tried for a forward of a family; empty when there is nothing."""
        return self.ip4 if version == 4 else self.ip6


class ProbeService:
    """Tries forwards and domains, and keeps what it found."""

    def __init__(
        self,
        settings: Settings,
        gateways: GatewayService,
        events: EventBus,
        real: Connector,
        imaginary: Connector,
        nodes: Nodes,
    ) -> None:
        self._nodes = nodes
        self._settings = settings
        self._gateways = gateways
        self._events = events
        self._real = real
        self._imaginary = imaginary
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._job: asyncio.Task[None] | None = None

    # -- where ---------------------------------------------------------------------------------------------------

    def outside(self, host: Host) -> Outside:
        """Where a host is reached from outside: as its settings say, else its own addresses."""
        if host.outside:
            return _named(host.outside)
        if host.engine is EngineKind.FAKE:
            return Outside("192.0.2.80", "192.0.2.80", "2001:db8::80")
        with suppress(ValueError):
            if listen := {
                ip_address(text).version: text
                for text in host.options.get("forward_addr", "").replace(",", " ").split()
            }:
                return Outside(listen.get(4) or listen[6], listen.get(4, ""), listen.get(6, ""))
        if self._gateways.here(host):
            ip4, ip6 = own_address(4), own_address(6)
            return Outside(ip4 or ip6, ip4, ip6)
        way = self._gateways.way(host)
        if way is not None and way.endpoint is not None:  # which need not be where the hypervisor's API is
            return _named(way.endpoint.host)
        with suppress(ValueError):
            return _named(urlsplit(host.address if "://" in host.address else f"//{host.address}").hostname or "")
        return Outside("")

    def site_port(self, proxy: Proxy) -> int:
        """The port that a domain is served on."""
        return self._settings.proxy_https_port if proxy.ssl else self._settings.proxy_http_port

    # -- on demand -----------------------------------------------------------------------------------------------

    async def check(self, actor: Actor, vm: Vm) -> None:
        """Try everything of a VM now, as far as it is applied, and keep what was found.

        Raises:
            Conflict: the VM does not run.
        """
        actor.require(Permission.VIEW)
        if vm.state is not PowerState.RUNNING:
            raise Conflict(_("VM {name} is not running. Start it first."), name=vm.name)
        applied = {"vm_id": vm.id, "state": RuleState.APPLIED}
        rows: list[Row] = [*await Forward.filter(**applied, protocol=Protocol.TCP), *await Proxy.filter(**applied)]
        await self._try_all(rows, [vm.host])
        self._events.publish(VmChanged(vm.id, vm.host_id))

    # -- behind everyone's back ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to look for what is due."""
        self._job = asyncio.get_running_loop().create_task(self._serve(), name="probes")

    async def stop(self) -> None:
        """End, with all that is being tried."""
        if self._job is not None:
            self._job.cancel()
            with suppress(asyncio.CancelledError):
                await self._job

    async def _serve(self) -> None:
        while True:
            try:
                await self.check_due()
            except Exception as error:
                if is_away(error):
                    terminal.warning("the database does not answer", reason=type(error).__name__)
                else:
                    terminal.exception("probes failed")
            await asyncio.sleep(LOOK_EVERY)

    async def check_due(self) -> int:
        """Try what is due: never tried, tried long ago, or applied or started since. Says how much that was."""
        moment = now()
        due = [
            (row.probe_at or datetime.min.replace(tzinfo=moment.tzinfo), row)
            for row in await _candidates(moment, self._nodes.mine)
        ]
        rows = [row for _at, row in sorted(due, key=lambda item: item[0])][:MOST]
        if rows:
            await self._try_all(rows, await Host.filter(id__in=list({row.host_id for row in rows})))
        return len(rows)

    # -- trying --------------------------------------------------------------------------------------------------

    async def _try_all(self, rows: Sequence[Row], hosts: Iterable[Host]) -> None:
        """Try, and keep each result at once. A result that is news is told."""
        known = {host.id: host for host in hosts}
        places = {host.id: self.outside(host) for host in known.values()}
        async with asyncio.TaskGroup() as group:
            for row in rows:
                if row.host_id in known:  # else it was forgotten meanwhile
                    group.create_task(self._try(row, known[row.host_id], places[row.host_id]))

    async def _try(self, row: Row, host: Host, place: Outside) -> None:
        connector = self._imaginary if host.engine is EngineKind.FAKE else self._real
        async with self._turns:
            if isinstance(row, Forward):
                found = await _try_forward(connector, row, place)
            else:
                found = await self._try_proxy(connector, row, place)
        problem = pack(found.problem) if found.problem else None
        values: dict[str, Any] = {"probe_open": found.open, "probe_at": now(), "probe_problem": problem}
        await type(row).filter(id=row.id).update(**values)
        if row.probe_at is None or (row.probe_open, row.probe_problem) != (found.open, problem):
            self._events.publish(VmChanged(row.vm_id, row.host_id))

    async def _try_proxy(self, connector: Connector, row: Proxy, place: Outside) -> Reach:
        address = place.ip4 or place.ip6
        if not address:
            return _nowhere(4)
        domain = f"www.{row.domain[2:]}" if row.domain.startswith("*.") else row.domain
        private = self._settings.acme_directory == "internal" and row.certificate_id is None
        found = await connector.site(address, self.site_port(row), domain, tls=row.ssl, private=private)
        if found.open is False and row.ssl and row.certificate_state is CertificateState.FAILED:
            return Reach(False, Text(_("Its certificate could not be had, so browsers are turned away.")))
        return found


async def _candidates(moment: datetime, hosts: Sequence[int] | None) -> list[Row]:
    """The applied forwards and domains of running VMs of some hosts (None: all) that are due."""
    old, young = moment - AGAIN, moment - YOUNG
    query = Q(probe_at__isnull=True) | Q(probe_at__lt=old) | Q(applied_at__gt=young) | Q(vm__state_since__gt=young)
    running: dict[str, Any] = {"state": RuleState.APPLIED, "vm__state": PowerState.RUNNING, "host__enabled": True}
    if hosts is not None:
        running["host_id__in"] = list(hosts)
    forwards = await Forward.filter(query, **running, protocol=Protocol.TCP).prefetch_related("vm")
    proxies = await Proxy.filter(query, **running).prefetch_related("vm")
    rows: list[Row] = [*forwards, *proxies]
    return [row for row in rows if _due(row, moment)]


def _due(row: Row, moment: datetime) -> bool:
    at = row.probe_at
    if at is None or at < moment - AGAIN:
        return True
    changes = [since for since in (row.applied_at, row.vm.state_since) if since is not None]
    if any(at < since for since in changes):
        return True
    return row.probe_open is False and at < moment - SOON and any(since > moment - YOUNG for since in changes)


async def _try_forward(connector: Connector, row: Forward, place: Outside) -> Reach:
    """Its first port, and of a range the last one too: both must be open."""
    version = ip_address(row.internal_ip).version
    address = place.tried(version)
    if not address:
        return _nowhere(version)
    found = Reach(True)
    for port in dict.fromkeys((row.external_start, row.external_end)):
        found = await connector.port(address, port, version)
        if not found.open:
            return found
    return found


def _nowhere(version: int) -> Reach:
    return Reach(
        None, Text(_("The host has no outside IPv{version} address that the panel knows."), {"version": version})
    )


def _named(text: str) -> Outside:
    """An address serves its own family; a name serves both."""
    try:
        version = ip_address(text).version
    except ValueError:
        return Outside(text, text, text)
    return Outside(text, text if version == 4 else "", text if version == 6 else "")
