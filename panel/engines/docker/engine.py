"""Docker and Podman through the Docker Engine API: a VM is a container that stays, with an address of its own."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import ClassVar

from panel.engines.base import Engine
from panel.engines.capabilities import Capabilities
from panel.engines.common.checks import check_able, check_sizes
from panel.engines.consoletypes import TextTarget
from panel.engines.docker import guest, host, power, text
from panel.engines.docker.client import Client
from panel.engines.docker.create import Maker, Manner, read_command, read_policy
from panel.engines.docker.fields import FIELDS, NETWORK, REASONS
from panel.engines.docker.images import list_images, read_offered
from panel.engines.docker.limits import check_cpus
from panel.engines.docker.marks import REF, Kind, Notes, check_title
from panel.engines.docker.networks import Networks, Site
from panel.engines.docker.view import Viewer
from panel.engines.hosttypes import HostInfo, HostStatus, Image, NetworkInfo
from panel.engines.types import (
    ChangeOutcome,
    DeleteOutcome,
    EngineKind,
    HostConnection,
    HostField,
    PowerAction,
    PowerState,
    Reporter,
    SshEndpoint,
    VmChange,
    VmEvent,
    VmObservation,
    VmSpec,
)
from panel.errors import Conflict, InvalidInput
from panel.i18n import gettext_noop as _

SHUTDOWN_SECONDS = 90
# what our own looking causes, and what changes nothing that we show
QUIET = ("exec_", "top", "attach", "archive-path", "export", "resize", "health_status", "exec", "cleanup", "init")


class DockerEngine(Engine):
    """One daemon."""

    kind: ClassVar[EngineKind] = EngineKind.DOCKER
    title: ClassVar[str] = _("Docker / Podman")
    capabilities: ClassVar[Capabilities] = Capabilities(
        power=frozenset(PowerAction),
        create=True,
        update=True,
        update_live=True,
        delete=True,
        text_console=True,
        password=True,
        scan=True,
        images=True,
        networks=True,
        events=True,
        counters=True,
        host_load=True,
        reasons=REASONS,
    )
    fields: ClassVar[tuple[HostField, ...]] = FIELDS

    def __init__(self, connection: HostConnection) -> None:
        super().__init__(connection)
        options = connection.options
        self._site = Site(options.get("network_nat") or NETWORK, options.get("network_bridge", ""))
        self._deadline = read_seconds(options.get("shutdown_timeout") or str(SHUTDOWN_SECONDS))
        self._offered = read_offered(options.get("images", ""))
        manner = Manner(
            self._offered,
            read_command(options.get("command", "")),
            read_policy(options.get("restart_policy") or "unless-stopped"),
        )
        self._client = Client(connection)
        self._notes = Notes(self._client)
        self._networks = Networks(self._client, self._notes, self._site)
        self._viewer = Viewer(self._client, self._notes, self._site)
        self._maker = Maker(self._client, self._viewer, self._notes, self._networks, self._site, manner)
        self._load = host.LoadMeter(self._client)
        self._rootless = False

    async def probe(self) -> HostInfo:
        """See ``host.look``."""
        found = await host.look(self._client, self._networks, self._site, self._offered)
        self._rootless = host.rootless(await self._viewer.info())
        return found

    async def prepare(self) -> None:
        """The NAT network."""
        await self._networks.ensure()

    async def close(self) -> None:
        """End terminals and events, and disconnect."""
        await self._client.close()

    async def host_status(self) -> HostStatus:
        """See ``host.LoadMeter``."""
        info = await self._viewer.info()
        self._rootless = host.rootless(info)
        return await self._load.status(info, await self.observe() if self._load.of_containers else ())

    async def observe(self) -> list[VmObservation]:
        """See ``Viewer``."""
        return await self._viewer.observe()

    async def inspect(self, ref: str) -> VmObservation:
        """See ``Viewer``."""
        return await self._viewer.inspect(ref)

    async def watch(self) -> AsyncIterator[VmEvent]:
        """The daemon's own events: nothing is polled."""
        async with contextlib.aclosing(self._client.events()) as events:
            async for event in events:
                action = str(event.get("Action") or event.get("status") or "")
                actor = event.get("Actor") or {}
                number = str(actor.get("ID") or event.get("id") or "")
                if not number or action.startswith(QUIET):
                    continue
                self._viewer.forget(number)
                yield VmEvent(str((actor.get("Attributes") or {}).get(REF) or number), action)

    async def power(self, ref: str, action: PowerAction, report: Reporter) -> None:
        """See ``power.act``."""
        one = await self._viewer.one(ref)
        try:
            await power.act(self._client, self._viewer, one, action, report, self._deadline)
        finally:
            self._viewer.forget(one.id)

    async def create(self, spec: VmSpec, report: Reporter) -> None:
        """See ``Maker``."""
        await self._maker.create(spec, report)

    async def update(self, ref: str, change: VmChange, report: Reporter) -> ChangeOutcome:
        """Change it, at once."""
        check_able(self.capabilities, change)
        one = await self._viewer.one(ref)
        check_title(change.title)
        check_sizes(change.cpu_count, change.memory_mib)
        if change.disk_gib is not None:
            raise InvalidInput(REASONS["disk_size"], field="hdd_num")
        if change.cpu_count is not None or change.memory_mib is not None:
            info = await self._viewer.info()
            check_cpus(change.cpu_count, info)
            await report.step(_("Changing CPUs and memory"), percent=20)
            whole = await self._viewer.whole(one)
            await self._viewer.limits.change(one.ref, whole, change.cpu_count, change.memory_mib, info)
        if change.title is not None:
            await report.step(_("Changing the title"), percent=70)
            asked = one.mark.title if one.mark else one.name
            await self._notes.write(Kind.TITLE, one.ref, None if change.title == asked else change.title)
        self._viewer.forget(one.id)
        given = ("title", "cpu_count", "memory_mib")
        return ChangeOutcome(live=tuple(name for name in given if getattr(change, name) is not None))

    async def delete(self, ref: str, name: str, report: Reporter) -> DeleteOutcome:
        """See ``Maker``. What the panel makes is one thing with its mark on it, so it is found by ``ref`` alone."""
        return await self._maker.delete(ref, report)

    async def text_console(self, ref: str) -> TextTarget:
        """A shell in the container."""
        one = await self._viewer.one(ref)
        return await text.target(self._client, one.id, one.state)

    async def set_password(self, ref: str, user: str, password: str) -> None:
        """By the container's own chpasswd."""
        one = await self._viewer.one(ref)
        if one.state is not PowerState.RUNNING:
            raise Conflict(_("The VM is not running. Start it first."))
        await guest.set_password(self._client, one.id, user, password)

    async def list_images(self) -> list[Image]:
        """What the host has, and what its settings offer."""
        return await list_images(self._client, self._offered)

    async def list_networks(self) -> list[NetworkInfo]:
        """See ``Networks``."""
        return await self._networks.infos()

    async def reserve(self, network: str, mac: str, addresses: tuple[str, ...]) -> None:
        """There is no DHCP: the address is a setting of the container's connection."""
        await self._networks.reserve(network, mac, addresses)

    @property
    def on_this_machine(self) -> bool:
        """A socket of this machine's, of a daemon with root: its bridges are in our kernel."""
        return self._client.near and not self._rootless

    @property
    def ssh_endpoint(self) -> SshEndpoint | None:
        """The same login as the daemon's."""
        return None if self._rootless else self._client.place.ssh


def read_seconds(text: str) -> float:
    """A deadline. ``InvalidInput`` names ``shutdown_timeout``."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3600:
        raise InvalidInput(_("{field} must be a number of seconds, at most 3600."), field="shutdown_timeout")
    return seconds
