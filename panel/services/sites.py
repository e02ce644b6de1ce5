"""Proxies: one per machine, brought in line with the domains of the database whenever something changed, and looked at again and
again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import structlog

from panel.engines.types import EngineKind
from panel.errors import PanelError, Unsupported
from panel.events import EventBus, HostRemoved, VmChanged, VmRemoved
from panel.gateways.sites import MemorySites, Site, SiteGateway, SiteStatus, SiteWish
from panel.i18n import Text
from panel.i18n import gettext_noop as _
from panel.models import Certificate, CertificateState, Host, Proxy, RuleState
from panel.models.database import is_away
from panel.security import PANEL, SecretBox
from panel.services.asks import Asks
from panel.services.audit import AuditLog
from panel.services.clock import now
from panel.services.domains import readable_domain
from panel.services.engines import EnginePool
from panel.services.nodes import Nodes
from panel.services.sitewishes import Wanted, read_wanted
from panel.services.texts import pack
from panel.settings import Settings

LOOK_EVERY = 5.0  # seconds between two looks at a machine's proxy
APPLY_SECONDS = 60.0
LOCAL = "this machine"
OFF = _("Domains are switched off: start the panel with PANEL_PROXY=1.")
ELSEWHERE = _("The panel serves domains only on the machine that it runs on, and this host is another one.")

terminal = structlog.get_logger("panel.sites")


class SiteService:
    """Keeps what machines serve what the database says. A machine may be several hosts of the panel: they share its proxy.

    Args:
        local: the proxy of the machine that the panel runs on.
    """

    def __init__(
        self,
        settings: Settings,
        box: SecretBox,
        pool: EnginePool,
        events: EventBus,
        audit: AuditLog,
        local: SiteGateway,
        nodes: Nodes,
        asks: Asks,
    ) -> None:
        self._nodes = nodes
        self._asks = asks
        asks.parts["sites"] = self.converge
        nodes.gained.append(self._gained)
        nodes.lost.append(self._lost)
        self._hosts: dict[int, str] = {}  # what machine a host was when it was looked at last
        self._served: set[str] = set()  # the machines whose proxies this process has brought in line
        self._settings = settings
        self._box = box
        self._pool = pool
        self._events = events
        self._audit = audit
        self._local = local
        self._gateways: dict[str, SiteGateway] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._applied: dict[str, SiteWish] = {}
        self._looked: dict[str, float] = {}
        self._failing: set[str] = set()
        self._arrived = asyncio.Event()
        self._jobs: list[asyncio.Task[None]] = []

    # -- which ---------------------------------------------------------------------------------------------------

    def why_not(self, host: Host) -> str | None:
        """Why a host has no domains, as a msgid; None when it has."""
        if host.engine is EngineKind.FAKE:
            return None
        if not self._pool.is_here(host):
            return ELSEWHERE
        return None if self._settings.proxy else OFF

    def of(self, host: Host) -> tuple[str, SiteGateway]:
        """A host's machine and its proxy. ``Unsupported`` says why there is none."""
        reason = self.why_not(host)
        if reason is not None:
            raise Unsupported(reason)
        machine = f"fake {host.address}" if host.engine is EngineKind.FAKE else LOCAL
        if machine not in self._gateways:
            self._gateways[machine] = self._local if machine == LOCAL else MemorySites()
        return machine, self._gateways[machine]

    def proves_wildcards(self, host: Host) -> bool:
        """Whether a wildcard of a host gets a certificate without one being uploaded."""
        return host.engine is EngineKind.FAKE or self._settings.acme_directory == "internal"

    async def host_ids(self, machine: str) -> list[int]:
        """The hosts that are this machine."""
        return self._machines(await Host.all()).get(machine, [])

    def _machines(self, hosts: Iterable[Host]) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for host in hosts:
            if self.why_not(host) is None:
                self._hosts[host.id] = self.of(host)[0]
                found.setdefault(self._hosts[host.id], []).append(host.id)
        return found

    # -- bringing in line ----------------------------------------------------------------------------------------

    async def converge(self, host: Host) -> Text | None:
        """Make the machine's proxy serve what the database says. Returns what went wrong, which is also kept with the domains;
        None when all is well, or the host has no proxy. Where another process watches the host, that one does it."""
        if not self._nodes.owns(host.id):
            return await self._asks.converge("sites", host.id)
        if self.why_not(host) is not None:
            return None
        machine, _gateway = self.of(host)
        return await self._converge(machine, await self.host_ids(machine), look=False)

    async def look(self) -> None:
        """Bring every machine that this process watches in line; those that were not looked at for a while after looking at
        what they serve."""
        hosts = [host for host in await Host.all() if self._nodes.owns(host.id)]
        machines = self._machines(hosts)
        for machine in {*machines, *self._served}:  # one that is no host any more serves nothing
            due = time.monotonic() - self._looked.get(machine, -LOOK_EVERY) >= LOOK_EVERY
            if due:
                self._looked[machine] = time.monotonic()
            await self._converge(machine, machines.get(machine, []), look=due)
        for host in hosts:
            reason = self.why_not(host)
            if reason is not None:
                await self._fail(await Proxy.filter(host_id=host.id), Text(reason))

    async def _converge(self, machine: str, host_ids: Sequence[int], *, look: bool) -> Text | None:
        async with self._locks.setdefault(machine, asyncio.Lock()):
            self._served.add(machine)
            gateway = self._gateways[machine]
            wanted = await read_wanted(host_ids, self._settings, self._box, imaginary=machine != LOCAL)
            wish = wanted.wish
            await self._tell_moves(wanted)
            known = self._applied.get(machine) == wish
            drifted = False
            try:
                async with asyncio.timeout(APPLY_SECONDS):
                    if known and look and wish.sites:
                        drifted = await gateway.drifted(wish)
                    if not known or drifted:
                        await gateway.apply(wish)
            except (PanelError, TimeoutError) as error:
                text = error.text if isinstance(error, PanelError) else Text(_("The proxy did not answer in time."))
                await self._failed(machine, gateway, wanted, text)
                return text
            self._applied[machine] = wish
            statuses = await _statuses(gateway, wish) if look or not known or drifted else {}
            await self._write(wanted, statuses)
            await self._went_well(machine, drifted=drifted)
            return None

    async def _write(self, wanted: Wanted, statuses: Mapping[str, SiteStatus]) -> None:
        """Keep what came of it."""
        for row in wanted.rows:
            changes: dict[str, Any] = _certificate(row, statuses.get(row.domain))
            if row.id in wanted.left_out:
                changes |= {"state": RuleState.FAILED, "problem": pack(wanted.left_out[row.id])}
            elif row.state is not RuleState.APPLIED:
                changes |= {"state": RuleState.APPLIED, "problem": None, "applied_at": now()}
            await self._change(row, changes)

    async def _fail(self, rows: Iterable[Proxy], text: Text) -> None:
        for row in rows:
            await self._change(row, {"state": RuleState.FAILED, "problem": pack(text)})

    async def _change(self, row: Proxy, changes: Mapping[str, Any]) -> None:
        changes = {name: value for name, value in changes.items() if getattr(row, name) != value}
        if changes:
            await Proxy.filter(id=row.id).update(**changes)
            self._events.publish(VmChanged(row.vm_id, row.host_id))

    async def _failed(self, machine: str, gateway: SiteGateway, wanted: Wanted, text: Text) -> None:
        """What was applied before may be served still: an apply happens whole or not at all."""
        served = await _served(gateway, self._applied.get(machine))
        if not served:
            self._applied.pop(machine, None)
        as_wanted = {site.domain for site in wanted.wish.sites if site in served}
        await self._fail([row for row in wanted.rows if row.domain not in as_wanted], text)
        if machine not in self._failing:
            self._failing.add(machine)
            await self._audit.write(PANEL, "proxy.failed", "proxy", machine, text, level="error")

    async def _went_well(self, machine: str, *, drifted: bool) -> None:
        if machine in self._failing:
            self._failing.discard(machine)
            text = Text(_("The domains of {machine} are served again."), {"machine": machine})
            await self._audit.write(PANEL, "proxy.applied", "proxy", machine, text)
        elif drifted:
            text = Text(
                _("The proxy of {machine} did not serve what it should, and was put right."), {"machine": machine}
            )
            await self._audit.write(PANEL, "proxy.drift", "proxy", machine, text, level="warning")

    async def _tell_moves(self, wanted: Wanted) -> None:
        for row, old in wanted.moved:
            params = {"domain": readable_domain(row.domain), "address": row.target_ip, "old": old}
            text = Text(_("{domain} leads to {address} now: the VM does not have {old} any more."), params)
            await self._audit.write(PANEL, "vm.proxy", "vm", f"{row.host.name}/{row.vm.name}", text)
            self._events.publish(VmChanged(row.vm_id, row.host_id))

    # -- behind everyone's back ----------------------------------------------------------------------------------

    def wake(self) -> None:
        """Bring all machines in line soon; never waits."""
        self._arrived.set()

    async def _gained(self, _host_ids: Sequence[int]) -> None:
        self.wake()

    async def _lost(self, host_ids: Sequence[int]) -> None:
        """Another process keeps them: nothing is remembered of what they serve, which they go on serving."""
        for machine in {self._hosts.pop(host_id, "") for host_id in host_ids}:
            self._served.discard(machine)
            self._applied.pop(machine, None)
            self._looked.pop(machine, None)

    def start(self) -> None:
        """Begin to look."""
        loop = asyncio.get_running_loop()
        works = [self._serve(), self._listen()]
        if not self._settings.proxy and self._nodes.id is None:
            works.append(self._switch_off())
        self._jobs = [loop.create_task(work, name="sites") for work in works]

    async def stop(self) -> None:
        """End. Domains go on being served."""
        for job in self._jobs:
            job.cancel()
            with suppress(asyncio.CancelledError):
                await job
        for gateway in self._gateways.values():
            await gateway.close()

    async def _switch_off(self) -> None:
        """What a panel before this one served here, when domains were switched on, is served no more."""
        try:
            async with asyncio.timeout(APPLY_SECONDS):
                await self._local.apply(SiteWish())
        except (PanelError, TimeoutError) as error:
            terminal.warning("domains are not switched off", reason=str(error))

    async def _listen(self) -> None:
        """The domains of a VM or host that the panel forgets go."""
        with self._events.subscribe() as events:
            async for event in events:
                if isinstance(event, HostRemoved | VmRemoved):
                    self.wake()

    async def _serve(self) -> None:
        while True:
            try:
                await self.look()
                if self._nodes.leads:
                    await _forget_certificates()
            except Exception as error:
                if is_away(error):
                    terminal.warning("the database does not answer", reason=type(error).__name__)
                else:
                    terminal.exception("domains not brought in line")
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY):
                    await self._arrived.wait()
            self._arrived.clear()


async def _forget_certificates() -> None:
    """Those whose domain is gone. Read in this order, none is missed that is stored meanwhile: it comes with its domain."""
    there = set(await Certificate.all().values_list("id", flat=True))
    if there:
        used = set(await Proxy.filter(certificate_id__in=list(there)).values_list("certificate_id", flat=True))
        await Certificate.filter(id__in=list(there - used)).delete()


async def _served(gateway: SiteGateway, before: SiteWish | None) -> set[Site]:
    """What is served as it was before an apply that failed."""
    if before is not None:
        with suppress(PanelError, TimeoutError):
            async with asyncio.timeout(APPLY_SECONDS):
                if not await gateway.drifted(before):
                    return set(before.sites)
    return set()


async def _statuses(gateway: SiteGateway, wish: SiteWish) -> Mapping[str, SiteStatus]:
    """How the certificates are; nothing when the proxy does not tell: what was known stays."""
    if any(site.tls for site in wish.sites):
        with suppress(PanelError, TimeoutError):
            async with asyncio.timeout(APPLY_SECONDS):
                return await gateway.statuses(wish)
    return {}


def _certificate(row: Proxy, status: SiteStatus | None) -> dict[str, Any]:
    """The columns of a domain's certificate."""
    if not row.ssl:
        return {"certificate_state": CertificateState.NONE}
    if row.certificate is not None:
        expires = row.certificate.expires_at
        state = CertificateState.VALID if expires > now() else CertificateState.EXPIRED
        return {
            "certificate_state": state, "certificate_issuer": row.certificate.issuer, "certificate_expires": expires,
            "certificate_problem": None,
        }  # fmt: skip
    if status is None:
        known = row.certificate_state is not CertificateState.NONE
        return {} if known else {"certificate_state": CertificateState.WAITING}
    return {
        "certificate_state": CertificateState(status.state.value),
        "certificate_issuer": status.issuer[:255],
        "certificate_expires": status.expires,
        "certificate_problem": pack(status.problem) if status.problem else None,
    }
