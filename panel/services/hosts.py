"""Hosts: add, change, remove, switch on and off, and how they are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from tortoise.exceptions import IntegrityError

from panel.engines.hosttypes import HostInfo
from panel.engines.registry import engine_class, make_engine
from panel.engines.types import EngineKind
from panel.errors import Conflict, InvalidInput, NotFound, PanelError
from panel.events import EventBus, HostChanged, HostConfigured, HostRemoved, VmRemoved
from panel.i18n import Text
from panel.i18n import gettext_noop as _
from panel.models import Host, Task, Vm
from panel.models.host import AtLimit, HostHealth
from panel.security import Actor, Permission, SecretBox
from panel.services.audit import AuditLog
from panel.services.clock import now
from panel.services.engines import EnginePool, limited, secret_options
from panel.services.gateways import GatewayService
from panel.services.names import LONGEST, check_identifier
from panel.services.observations import Observations
from panel.services.observer import Observer
from panel.services.taskends import LIVING
from panel.services.whole import whole

PROBE_SECONDS = 20.0
COLUMNS = {
    "server_addr": "address",
    "server_user": "user",
    "system_path": "disks_path",
    "images_path": "images_path",
    "launch_path": "launch_path",
}
NETWORK: dict[str, Any] = {  # what a host's network is like, and a new host's
    "ports_start": 20000,
    "ports_close": 29999,
    "outside": "",
    "report_only": False,
    "strict_reports": False,
    "at_limit": AtLimit.SLOW,
    "at_limit_mbit": 1,
}
MOST_MBIT = 400_000
HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
)


@dataclass(frozen=True, slots=True)
class HostRequest:
    """What a host should be. None leaves a field as it is (for a new host: the engine's default).

    Attributes:
        ports_start, ports_close: the external ports that forwards are given from.
        outside: the address or name that people type to reach it; empty: its own address.
        report_only: drift of its rules is told, not put right.
        strict_reports: guests report from their own addresses only.
        at_limit, at_limit_mbit: what happens to a VM whose traffic of the month is used up; Mbit/s that ``slow`` leaves it.
        options: the engine's own fields, by name.
    """

    engine: EngineKind | None = None
    address: str | None = None
    user: str | None = None
    secret: str | None = field(default=None, repr=False)
    disks_path: str | None = None
    images_path: str | None = None
    launch_path: str | None = None
    ports_start: int | None = None
    ports_close: int | None = None
    outside: str | None = None
    report_only: bool | None = None
    strict_reports: bool | None = None
    at_limit: AtLimit | None = None
    at_limit_mbit: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def network_only(self) -> bool:
        """Whether nothing of the connection is touched."""
        given = (self.secret, *(getattr(self, column) for column in COLUMNS.values()))
        return not self.options and all(value is None for value in given)


class HostService:
    """The hosts of the panel."""

    def __init__(
        self,
        box: SecretBox,
        pool: EnginePool,
        gateways: GatewayService,
        observer: Observer,
        observations: Observations,
        events: EventBus,
        audit: AuditLog,
        engines: tuple[EngineKind, ...],
    ) -> None:
        self.engines = engines
        self._box = box
        self._pool = pool
        self._gateways = gateways
        self._observer = observer
        self._observations = observations
        self._events = events
        self._audit = audit

    async def get(self, name: str) -> Host:
        """The host, or ``NotFound``."""
        host = await Host.get_or_none(name=name[:LONGEST])
        if host is None:
            raise NotFound(_("There is no host {name}."), name=name[:64])
        return host

    async def all(self) -> list[Host]:
        """All hosts, by name."""
        return await Host.all().order_by("name")

    async def test(self, actor: Actor, name: str, request: HostRequest) -> HostInfo:
        """Connect with what the form says, store nothing. Raises what the engine raises, with the mend.

        A new host needs its name already: the key pair by which an engine makes the panel known there goes by it.
        """
        actor.require(Permission.MANAGE)
        host = await Host.get_or_none(name=name[:LONGEST])
        if host is None:
            check_identifier(name, "server_name")
        return await self._probe(self._row(host, name, request))

    @whole
    async def create(self, actor: Actor, name: str, request: HostRequest) -> tuple[Host, HostInfo]:
        """Add a host, once a connection to it was made.

        Raises:
            Conflict: the name is taken.
            HostUnreachable: it does not answer; the message says why and what would mend it.
        """
        actor.require(Permission.MANAGE)
        check_identifier(name, "server_name")
        if await Host.exists(name=name):
            raise Conflict(_("There is a host {name} already."), field="server_name", name=name)
        host = self._row(None, name, request)
        info = await self._probe(host)
        host.version, host.machine = info.version, self._pin(host)
        try:
            await host.save()
        except IntegrityError as error:
            raise Conflict(_("There is a host {name} already."), field="server_name", name=name) from error
        await self._audit.write(actor, "host.create", "host", name, Text(_("Added the host.")))
        self._configured(host.id, enabled=True)
        self._events.publish(HostChanged(host.id))
        return host, info

    @whole
    async def update(self, actor: Actor, name: str, request: HostRequest) -> Host:
        """Change a host; when it is enabled, only to settings that connect. Its engine cannot change. Settings of its network
        alone need no connection, and wait for no task; what else is changed ends the connection that tasks have: ``Conflict``."""
        actor.require(Permission.MANAGE)
        host = await self.get(name)
        if request.engine not in {None, host.engine}:
            raise InvalidInput(_("The engine of a host cannot change. Add it as a new host."), field="engine_type")
        wanted = self._row(host, name, request)
        wanted.version = host.version
        if not request.network_only:
            self._pool.require_here(host)
            await _require_idle(host)
        if host.enabled and not request.network_only:
            wanted.version = (await self._probe(wanted)).version
        wanted.machine = host.machine if request.network_only else self._pin(wanted)
        columns = [
            "address",
            "user",
            "secret",
            "disks_path",
            "images_path",
            "launch_path",
            *NETWORK,
            "options",
            "version",
            "machine",
        ]
        await Host.filter(id=host.id).update(**{column: getattr(wanted, column) for column in columns})
        await self._audit.write(actor, "host.update", "host", name, Text(_("Changed the host's settings.")))
        if not request.network_only:
            await self._pool.forget(host.id)
            self._configured(host.id, enabled=host.enabled)
        self._gateways.wake(host.id)
        self._events.publish(HostChanged(host.id))
        return await self.get(name)

    def _configured(self, host_id: int, *, enabled: bool) -> None:
        """Begin to look at it anew, or not at all: here, or in the process that watches it."""
        if enabled:
            self._observer.add(host_id)
        else:
            self._observer.remove(host_id)
        self._events.publish(HostConfigured(host_id))

    @whole
    async def delete(self, actor: Actor, name: str) -> int:
        """Forget a host and its VMs; nothing on the host itself changes. Returns how many VMs were forgotten.

        Raises:
            Conflict: a task is at work on it.
        """
        actor.require(Permission.MANAGE)
        host = await self.get(name)
        await _require_idle(host)
        self._observer.remove(host.id)
        vms = await Vm.filter(host_id=host.id)
        await host.delete()
        await self._pool.forget(host.id)
        for vm in vms:
            self._observations.forget(vm.id)
            self._events.publish(VmRemoved(vm.id, host.id))
        await self._audit.write(
            actor,
            "host.delete",
            "host",
            name,
            Text(_("Removed the host and its {count} VMs."), {"count": len(vms)}),
        )
        self._events.publish(HostRemoved(host.id))
        return len(vms)

    @whole
    async def set_enabled(self, actor: Actor, name: str, enabled: bool) -> Host:
        """Switch a host on or off: off, nobody looks at it and nothing is done on it. Its VMs run on.

        Raises:
            Conflict: it is so already, or it is to go off while a task is at work on it: its connection would end in the middle.
        """
        actor.require(Permission.MANAGE)
        host = await self.get(name)
        if host.enabled == enabled:
            raise Conflict(_("Host {name} is enabled already.") if enabled else _("Host {name} is disabled already."),
                           name=name)  # fmt: skip
        if not enabled:
            await _require_idle(host)
            self._observer.remove(host.id)
        health = HostHealth.UNKNOWN if enabled else HostHealth.DISABLED
        await Host.filter(id=host.id).update(enabled=enabled, health=health, health_since=now(), problem=None)
        if not enabled:
            await self._observations.host_lost(host)
            await self._pool.forget(host.id)
        self._configured(host.id, enabled=enabled)
        text = Text(_("Enabled the host.") if enabled else _("Disabled the host."))
        await self._audit.write(actor, "host.enable" if enabled else "host.disable", "host", name, text)
        self._events.publish(HostChanged(host.id))
        return await self.get(name)

    async def ensure_local(self, actor: Actor, disks_path: str, images_path: str) -> bool:
        """Register this machine's libvirt as ``local`` unless a host has that name. Says whether it did.

        The connection is not tested: the observer shows what is wrong with it.
        """
        if await Host.exists(name="local"):
            return False
        request = HostRequest(engine=EngineKind.LIBVIRT, disks_path=disks_path, images_path=images_path)
        row = self._row(None, "local", request)
        row.machine = self._pin(row)
        await row.save()
        await self._audit.write(actor, "host.create", "host", "local", Text(_("Added the host.")))
        return True

    def _row(self, host: Host | None, name: str, request: HostRequest) -> Host:
        """The row as it would be; not saved."""
        kind = request.engine or (host.engine if host else None)
        if kind is None or kind not in self.engines:
            raise InvalidInput(_("{field} must name an engine of this panel."), field="engine_type")
        declared = {item.name: item for item in engine_class(kind).fields}
        values: dict[str, Any] = {}
        for wire, column in COLUMNS.items():
            given = getattr(request, column)
            default = declared[wire].default if wire in declared else ""
            values[column] = given if given is not None else getattr(host, column) if host else default
            check_text(values[column], wire)
        for column, usual in NETWORK.items():
            given = getattr(request, column)
            values[column] = given if given is not None else getattr(host, column) if host else usual
        check_network(values)
        options = {key: item.default for key, item in declared.items() if not key.startswith("server_")
                   and key not in COLUMNS}  # fmt: skip
        given_options = {key: value for key, value in request.options.items() if key in options}
        for key, value in given_options.items():
            check_text(value, key)
        for key in secret_options(kind) & given_options.keys():
            if host and not given_options[key]:
                del given_options[key]  # left empty: as it is
            else:
                given_options[key] = self._box.seal(given_options[key])
        options |= (dict(host.options) if host else {}) | given_options
        sealed = self._box.seal(request.secret) if request.secret is not None else host.secret if host else ""
        secret = request.secret if request.secret is not None else sealed
        for wire, item in declared.items():
            given = secret if wire == "server_pass" else values.get(COLUMNS.get(wire, "")) or options.get(wire)
            if item.required and not given:
                raise InvalidInput(_("{field} is needed for this engine."), field=wire)
        return Host(name=name, engine=kind, secret=sealed, options=options, **values)

    def _pin(self, host: Host) -> str:
        """The machine whose processes alone reach the host, as far as that matters; empty: all do."""
        if not self._pool.here or host.engine is EngineKind.FAKE:
            return ""
        with suppress(PanelError):  # its settings make no sense: its probe says so
            if make_engine(host.engine, self._pool.connection(host)).on_this_machine:
                return self._pool.here
        return ""

    async def _probe(self, host: Host) -> HostInfo:
        engine = make_engine(host.engine, self._pool.connection(host))
        try:
            return await limited(engine.probe(), PROBE_SECONDS)
        finally:
            await engine.close()


async def _require_idle(host: Host) -> None:
    """``Conflict`` when a task is at work on a host, or waits for it."""
    busy = await Task.filter(host_id=host.id, status__in=LIVING).first()
    if busy is not None:
        raise Conflict(_("Task {task} is at work on {name}. Wait for it, or cancel it."), task=busy.id, name=host.name)


def check_text(value: str, field: str) -> None:
    """One line of at most 512 characters."""
    if len(value) > 512 or any(ord(char) < 32 or ord(char) == 127 for char in value):
        raise InvalidInput(_("{field} must be one line of at most 512 characters."), field=field)


def check_network(values: dict[str, Any]) -> None:
    """Check a host's network settings, and bring ``outside`` into its canonical form. ``InvalidInput`` names the field."""
    for column, most in (("ports_start", 65535), ("ports_close", 65535), ("at_limit_mbit", MOST_MBIT)):
        if not 1 <= values[column] <= most:
            raise InvalidInput(_("{field} must be between {least} and {most}."), field=column, least=1, most=most)
    if values["ports_close"] < values["ports_start"]:
        raise InvalidInput(_("{field} must not be below ports_start."), field="ports_close")
    text = values["outside"].strip().lower()
    try:
        address = ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        if text and not HOST_NAME.fullmatch(text):
            raise InvalidInput(
                _("{field} must be an address or a host name, without a port."), field="outside"
            ) from None
        values["outside"] = text
        return
    if address.is_unspecified or address.is_multicast or address.is_link_local or address.is_loopback:
        raise InvalidInput(_("{field}: nobody reaches the host at {address}."), field="outside", address=text)
    values["outside"] = str(address)
