"""Consoles: the tickets that open them, the way to a VM's screen, and when an open one has to end.

A ticket is a random string of which only the SHA-256 is stored, bound to one actor (and the login or token behind him),
one VM (row and hypervisor id) and one purpose. It never says why it was refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

import structlog

from panel.engines.consoletypes import (
    ConsoleKind,
    SpiceSession,
    TextSize,
    TextStream,
)
from panel.errors import Conflict, EngineTimeout, HostUnreachable, NotFound, PanelError, Unauthorized, Unsupported
from panel.events import Event, EventBus, HostChanged, HostRemoved, Resynced, SessionEnded, Subscription, VmRemoved
from panel.i18n import Text
from panel.i18n import gettext_noop as _
from panel.models import ConsoleTicket, Host, Vm
from panel.security import Actor, Permission, Source, fingerprint, new_token
from panel.services.access import SKEW, AccessService
from panel.services.audit import AuditLog
from panel.services.clock import now
from panel.services.consoleways import CAPABILITY, DIAL_SECONDS, Streams, dial, kinds, reaching_the_screen
from panel.services.engines import EnginePool, capabilities, limited
from panel.services.whole import whole

RECHECK_SECONDS = 30.0  # how often open consoles are checked although no event came
STOP_SECONDS = 1.0

terminal = structlog.get_logger("panel.consoles")


class Purpose(StrEnum):
    """What a ticket opens."""

    PAGE = "page"  # the console page, once
    SOCKET = "socket"  # one websocket, once
    GRANT = "grant"  # a cookie: this VM's console page, and fresh socket tickets, until it expires


LIFETIMES = {
    Purpose.PAGE: timedelta(seconds=60),
    Purpose.SOCKET: timedelta(seconds=60),
    Purpose.GRANT: timedelta(hours=8),
}


@dataclass(frozen=True, slots=True)
class ConsolePass:
    """What a good ticket says: who may look at which VM."""

    actor: Actor
    vm_id: int
    host_id: int
    name: str  # host/vm, for people
    kind: ConsoleKind


@dataclass(slots=True, eq=False)
class OpenConsole:
    """A console that somebody looks at. ``ended`` is resolved with the reason when it has to end."""

    held: ConsolePass
    ended: asyncio.Future[PanelError] = field(repr=False)

    def end(self, reason: PanelError) -> None:
        """Ask it to end; the first reason counts."""
        if not self.ended.done():
            self.ended.set_result(reason)


class ConsoleService:
    """Issues and spends tickets, opens screens, and ends consoles whose right is gone."""

    def __init__(self, access: AccessService, pool: EnginePool, events: EventBus, audit: AuditLog) -> None:
        self._access = access
        self._pool = pool
        self._audit = audit
        self._watch = Watch(access, events)

    @property
    def open_count(self) -> int:
        """How many consoles are open in this process."""
        return len(self._watch.consoles)

    async def issue(self, actor: Actor, vm: Vm, purpose: Purpose, kind: ConsoleKind | None = None) -> str:
        """A new ticket for ``vm`` (its ``host`` fetched). ``LIFETIMES[purpose]`` says how long it is good.

        Args:
            kind: what it opens; None: the first that the VM has, of which a page makes no use.

        Raises:
            Forbidden: the actor may not operate VMs.
            Unsupported: the engine has no consoles, or the VM not this one.
            Conflict: the host is disabled.
        """
        actor.require(Permission.OPERATE)
        kind = kind or (kinds(vm) or [ConsoleKind.VNC])[0]
        capabilities(vm.host.engine).require(CAPABILITY[kind])
        if kind not in kinds(vm):
            raise Unsupported(_("{name} is a container, which has no screen. Use its text console."), name=vm.name)
        if not vm.host.enabled:
            raise disabled(vm.host)
        ticket = new_token()
        await ConsoleTicket.create(
            id=fingerprint(ticket),
            actor=actor.name,
            credential=actor.credential,
            vm_id=vm.id,
            vm_ref=vm.ref,
            kind=kind,
            purpose=purpose,
            expires_at=now() + LIFETIMES[purpose],
        )
        return ticket

    async def spend(self, ticket: str, purpose: Purpose, vm: Vm, address: str = "") -> ConsolePass:
        """Use up a one-use ticket. Of two at once, one wins: the row's deletion decides.

        Raises:
            Unauthorized: wrong, expired, used, for another VM, or its login or token has ended; it does not say which.
        """
        row = await self._find(ticket, purpose, vm)
        if row is None or await ConsoleTicket.filter(id=row.id, expires_at__gt=now()).delete() != 1:
            raise refused()
        return await self._admit(row, vm, address)

    async def look(self, ticket: str, purpose: Purpose, vm: Vm, address: str = "") -> ConsolePass:
        """Check a ticket without using it up: a grant. ``Unauthorized`` as in ``spend``."""
        row = await self._find(ticket, purpose, vm)
        if row is None:
            raise refused()
        return await self._admit(row, vm, address)

    async def confirm(self, held: ConsolePass) -> None:
        """Look once more, after ``follow`` began, so that nothing slips between the two.

        Raises:
            Unauthorized: the login or token behind it has ended.
            NotFound: the VM is gone.
        """
        if not await self._access.still_good(held.actor.credential):
            raise refused()
        if not await Vm.exists(id=held.vm_id):
            raise gone()

    async def open_target(self, vm: Vm, host: Host) -> Streams:
        """Ask the engine where the VM's screen is, and connect to it.

        Raises:
            Conflict: the VM is off, or the host is disabled.
            HostUnreachable: the host or the screen does not answer (``EngineTimeout``: not in time).
        """
        engine = self._pool.of(host)
        target = await limited(engine.console(vm.ref))
        with reaching_the_screen(vm):
            async with asyncio.timeout(DIAL_SECONDS):
                return await dial(target)

    async def open_spice(self, vm: Vm, host: Host, *, take_over: bool = False) -> SpiceSession:
        """As ``open_target``, of a screen that speaks SPICE.

        Raises:
            Taken: somebody else looks at it, and ``take_over`` is false.
            Unsupported: it has no screen.
        """
        engine = self._pool.of(host)
        target = await limited(engine.spice_console(vm.ref))
        with reaching_the_screen(vm):
            async with asyncio.timeout(DIAL_SECONDS):
                return await target.open(take_over)

    async def open_text(
        self, vm: Vm, host: Host, size: TextSize, *, take_over: bool = False
    ) -> tuple[TextStream, bool]:
        """Open the VM's terminal; and whether it can be resized.

        Raises:
            Conflict: the VM is off, or the host is disabled.
            Taken: somebody else has it open, and ``take_over`` is false.
            HostUnreachable: the host does not answer (``EngineTimeout``: not in time).
        """
        engine = self._pool.of(host)
        target = await limited(engine.text_console(vm.ref))
        try:
            async with asyncio.timeout(DIAL_SECONDS):
                return await target.open(size, take_over), target.resizes
        except TimeoutError as error:
            raise EngineTimeout(
                _("The text console of {name} did not answer within {seconds} s."),
                name=vm.name,
                seconds=int(DIAL_SECONDS),
            ) from error
        except OSError as error:
            raise HostUnreachable(
                _("The text console of {name} cannot be reached. Is the VM still running?"), name=vm.name
            ) from error

    def follow(self, held: ConsolePass) -> AbstractContextManager[OpenConsole]:
        """Inside the block, ``OpenConsole.ended`` comes true when the login or token, the VM or the host goes."""
        return self._watch.follow(held)

    async def stop(self) -> None:
        """End all consoles of this process; waits at most ``STOP_SECONDS`` for their last words in the log."""
        await self._watch.stop()

    async def opened(self, held: ConsolePass) -> None:
        """Write to the log that somebody looks at a VM."""
        await self._audit.write(held.actor, "console.open", "vm", held.name, Text(_("Opened the console.")))

    @whole
    async def closed(self, held: ConsolePass, seconds: float, down: int, up: int) -> None:
        """Write to the log that it was closed, after how long, and the bytes to the browser and back."""
        values = {"seconds": round(seconds), "down": down, "up": up}
        text = Text(_("Closed the console after {seconds} s ({down} bytes shown, {up} sent)."), values)
        await self._audit.write(held.actor, "console.close", "vm", held.name, text)

    async def sweep(self) -> int:
        """Drop tickets that have expired, and those of a clock that was ahead; returns how many."""
        moment = now()
        gone = await ConsoleTicket.filter(expires_at__lte=moment).delete()
        for purpose, lifetime in LIFETIMES.items():
            gone += await ConsoleTicket.filter(purpose=purpose, expires_at__gt=moment + lifetime + SKEW).delete()
        return gone

    async def _find(self, ticket: str, purpose: Purpose, vm: Vm) -> ConsoleTicket | None:
        moment = now()
        return await ConsoleTicket.get_or_none(
            id=fingerprint(ticket),
            purpose=purpose,
            vm_id=vm.id,
            vm_ref=vm.ref,
            expires_at__gt=moment,
            expires_at__lte=moment + LIFETIMES[purpose] + SKEW,
        )

    async def _admit(self, row: ConsoleTicket, vm: Vm, address: str) -> ConsolePass:
        if not await self._access.still_good(row.credential):
            raise refused()
        source = Source.API if row.credential.startswith("token:") else Source.PAGE
        actor = Actor(row.actor, source, address, row.credential)
        actor.require(Permission.OPERATE)
        return ConsolePass(actor, vm.id, vm.host_id, f"{vm.host.name}/{vm.name}", ConsoleKind(row.kind))


class Watch:
    """One listener for all open consoles of this process; it runs only while there are any."""

    def __init__(self, access: AccessService, events: EventBus) -> None:
        self.consoles: set[OpenConsole] = set()
        self._access = access
        self._events = events
        self._running: ExitStack | None = None

    @contextmanager
    def follow(self, held: ConsolePass) -> Iterator[OpenConsole]:
        """Keep an eye on a console inside the block."""
        console = OpenConsole(held, asyncio.get_running_loop().create_future())
        self.consoles.add(console)
        if self._running is None:
            self._running = self._start()
        try:
            yield console
        finally:
            self.consoles.discard(console)
            if not self.consoles and self._running is not None:
                self._running.close()
                self._running = None

    async def stop(self) -> None:
        """End everything, and wait for it within ``STOP_SECONDS``."""
        for console in self.consoles:
            console.end(HostUnreachable(_("The panel is stopping.")))
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                while self.consoles:  # noqa: ASYNC110 - each ends for reasons of its own; this is once, at the end
                    await asyncio.sleep(0.01)

    def _start(self) -> ExitStack:
        with ExitStack() as stack:
            subscription = stack.enter_context(self._events.subscribe())
            for work in (self._listen(subscription), self._recheck()):
                stack.callback(asyncio.get_running_loop().create_task(work).cancel)
            return stack.pop_all()

    async def _listen(self, subscription: Subscription) -> None:
        while True:
            event = await subscription.get()
            try:
                await self._apply(event)
            except Exception:  # a database that does not answer must not end the watch: the recheck repeats it
                terminal.exception("consoles not checked", event=type(event).__name__)

    async def _apply(self, event: Event) -> None:
        if isinstance(event, SessionEnded):
            self._end(refused(), credential=event.credential)
        elif isinstance(event, VmRemoved):
            self._end(gone(), vm_id=event.vm_id)
        elif isinstance(event, HostRemoved):
            self._end(gone(), host_id=event.host_id)
        elif isinstance(event, Resynced):
            await self._check_all()
        elif isinstance(event, HostChanged) and any(c.held.host_id == event.host_id for c in self.consoles):
            await self._check_hosts({event.host_id})

    async def _recheck(self) -> None:
        """What events could have missed: another process, a login that idled out."""
        while True:
            await asyncio.sleep(RECHECK_SECONDS)
            try:
                await self._check_all()
            except Exception:
                terminal.exception("consoles not checked")

    async def _check_all(self) -> None:
        await self._check_hosts({console.held.host_id for console in self.consoles})
        for credential in {console.held.actor.credential for console in self.consoles}:
            if not await self._access.still_good(credential):
                self._end(refused(), credential=credential)
        wanted = {console.held.vm_id for console in self.consoles}
        there = {vm.id for vm in await Vm.filter(id__in=wanted).only("id")}
        for vm_id in wanted - there:
            self._end(gone(), vm_id=vm_id)

    async def _check_hosts(self, wanted: set[int]) -> None:
        hosts = {host.id: host for host in await Host.filter(id__in=wanted)}
        for host_id in wanted:
            host = hosts.get(host_id)
            if host is None:
                self._end(gone(), host_id=host_id)
            elif not host.enabled:
                self._end(disabled(host), host_id=host_id)

    def _end(
        self,
        reason: PanelError,
        *,
        credential: str | None = None,
        vm_id: int | None = None,
        host_id: int | None = None,
    ) -> None:
        for console in list(self.consoles):
            held = console.held
            if credential == held.actor.credential or vm_id == held.vm_id or host_id == held.host_id:
                console.end(reason)


def refused() -> Unauthorized:
    """One answer for every ticket that does not open the door."""
    return Unauthorized(_("This console link is no longer good. Open the console again."))


def gone() -> NotFound:
    """The VM was removed, or its host was."""
    return NotFound(_("This VM is no longer there."))


def disabled(host: Host) -> Conflict:
    """The host is switched off in the panel."""
    return Conflict(_("Host {name} is disabled. Enable it first."), name=host.name)
