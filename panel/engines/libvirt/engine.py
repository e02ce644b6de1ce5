"""The libvirt engine: QEMU VMs, under KVM or in software emulation, on this machine or another."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import libvirt

from panel.engines.base import Engine
from panel.engines.capabilities import Capabilities
from panel.engines.consoletypes import ConsoleTarget, TextTarget
from panel.engines.hosttypes import HostInfo, HostStatus, Image, Iso, Leftover, NetworkInfo
from panel.engines.imagetypes import ImagePut
from panel.engines.libvirt import (
    console,
    hardware,
    host,
    power,
    remove,
    reservations,
    screen,
    snapshots,
    storage,
    text,
    update,
)
from panel.engines.libvirt.client import Client, Lane
from panel.engines.libvirt.create import Creation, Site, disk_name, is_name, is_ref, seed_name
from panel.engines.libvirt.domain import read_domain
from panel.engines.libvirt.imageput import Putting, remove_image, settle
from panel.engines.libvirt.images import list_images
from panel.engines.libvirt.networks import ensure_nat
from panel.engines.libvirt.observe import AGENT_ANSWER_SECONDS, Looker, power_state
from panel.engines.libvirt.seed import check_login
from panel.engines.libvirt.uri import connection_uri, is_local, ssh_endpoint
from panel.engines.types import (
    ChangeOutcome,
    DeleteOutcome,
    EngineKind,
    HostConnection,
    HostField,
    PowerAction,
    PowerState,
    Reporter,
    SnapshotAction,
    SshEndpoint,
    VmChange,
    VmEvent,
    VmObservation,
    VmSpec,
)
from panel.errors import Conflict, EngineFailure, InvalidInput
from panel.i18n import gettext_noop as _

T = TypeVar("T")

DISKS_PATH = "/var/lib/openidcs/disks"
IMAGES_PATH = "/var/lib/openidcs/images"
NETWORK = "openidcs"
PREPARE_SECONDS = 60.0
RESERVE_SECONDS = 60.0  # libvirt does those of a network one by one, and dnsmasq reads all again for each
LIST_SECONDS = 60.0
DELETE_SECONDS = 900.0

FIELDS = (
    HostField(
        "server_addr",
        _("Address"),
        help=_("Empty for this machine; a host name to connect through SSH; or a libvirt URI."),
        placeholder="qemu+tls://host.example/system?pkipath=/FOLDER",
    ),
    HostField("server_user", _("SSH user"), help=_("Who to log in as on another machine."), placeholder="root"),
    HostField("ssh_key_file", _("SSH key file"), help=_("On the panel's machine. libvirt uses keys, no passwords.")),
    HostField("system_path", _("Folder for disks"), default=DISKS_PATH),
    HostField("images_path", _("Folder for images"), default=IMAGES_PATH),
    HostField(
        "network_nat",
        _("NAT network"),
        help=_("The libvirt network of VMs without a bridge. It is made when missing."),
        default=NETWORK,
    ),
    HostField(
        "network_bridge",
        _("Bridge"),
        help=_("A bridge of the host, for VMs that are to be seen in its network."),
        placeholder="br0",
    ),
)


class LibvirtEngine(Engine):
    """One libvirt host. Nothing here blocks the event loop; see ``client.Client``."""

    kind: ClassVar[EngineKind] = EngineKind.LIBVIRT
    title: ClassVar[str] = _("QEMU/KVM (libvirt)")
    capabilities: ClassVar[Capabilities] = Capabilities(
        power=frozenset(PowerAction),
        create=True,
        update=True,
        update_live=True,
        delete=True,
        console=True,
        text_console=True,
        password=True,
        ssh_keys=True,
        scan=True,
        images=True,
        image_files=True,
        networks=True,
        iso=True,
        boot_order=True,
        screenshot=True,
        events=True,
        blank=True,
        disk_size=True,
        counters=True,
        host_load=True,
        leftovers=True,
        reasons={
            "native_forwards": _("libvirt makes no port forwards itself: the panel makes them with nftables."),
            "image_urls": _("libvirt downloads nothing: the panel does, and brings the file to the host."),
        },
        snapshots=True,
    )
    fields: ClassVar[tuple[HostField, ...]] = FIELDS

    shutdown_seconds: ClassVar[float] = 90.0
    press_seconds: ClassVar[float] = 10.0

    def __init__(self, connection: HostConnection) -> None:
        super().__init__(connection)
        uri = connection_uri(connection)
        options = connection.options
        self.site = Site(
            disks_path=connection.disks_path or DISKS_PATH,
            images_path=connection.images_path or IMAGES_PATH,
            network_nat=options.get("network_nat") or NETWORK,
            network_bridge=options.get("network_bridge", ""),
            local=is_local(uri),
        )
        self.client = Client(uri, connection.name, on_event=self._on_event)
        self._looker = Looker(self.client, self.site.network_nat)
        self._screens = console.Screens(self.client, self.ssh_endpoint)
        self._load = host.LoadMeter()

    def _on_event(self, ref: str, what: str) -> None:
        self._looker.forget(ref, what)

    async def probe(self) -> HostInfo:
        """Connect and read what the host is; what ``prepare`` would make is a warning, not an error."""
        site = self.site
        folders = (site.disks_path, site.images_path)
        return await self.client.call(
            lambda conn: host.probe(conn, site.local, site.network_nat, site.network_bridge, folders),
            seconds=PREPARE_SECONDS,
            lane=Lane.SLOW,
        )

    async def prepare(self) -> None:
        """Pools for disks and images, and the NAT network: made, started, and started at the host's boot."""
        site = self.site
        if storage.same_path(site.disks_path, site.local) == storage.same_path(site.images_path, site.local):
            raise InvalidInput("Disks and images need different folders.", field="images_path")

        def work(conn: Any) -> None:
            storage.ensure_pool(conn, site.disks_path, "openidcs-disks", site.local)
            storage.ensure_pool(conn, site.images_path, "openidcs-images", site.local)
            ensure_nat(conn, site.network_nat, local=site.local)

        await self.client.call(work, seconds=PREPARE_SECONDS, lane=Lane.SLOW, settle=True)

    async def close(self) -> None:
        await self._looker.close()
        await self._screens.close()
        await self.client.close()

    async def host_status(self) -> HostStatus:
        site = self.site
        return await self.client.call(lambda conn: self._load.status(conn, site.disks_path, site.local))

    async def observe(self) -> list[VmObservation]:
        return await self._looker.all()

    async def inspect(self, ref: str) -> VmObservation:
        return await self._looker.one(ref)

    async def watch(self) -> AsyncIterator[VmEvent]:
        """Events until the connection ends. libvirt sends them: nothing is polled."""
        async with contextlib.aclosing(self.client.events()) as events:
            async for event in events:
                yield event

    async def power(self, ref: str, action: PowerAction, report: Reporter) -> None:
        await power.act(
            self.client,
            ref,
            action,
            report,
            shutdown_seconds=self.shutdown_seconds,
            press_seconds=self.press_seconds,
        )
        self._looker.forget(ref)

    async def create(self, spec: VmSpec, report: Reporter) -> None:
        await Creation(self.client, self.site, spec, report).run()

    async def update(self, ref: str, change: VmChange, report: Reporter) -> ChangeOutcome:
        try:
            return await update.apply(self.client, self.site, ref, change, report)
        finally:
            self._looker.forget(ref)

    async def delete(self, ref: str, name: str, report: Reporter) -> DeleteOutcome:
        site = self.site
        if not is_ref(ref):
            return DeleteOutcome()  # nothing that libvirt could have
        # a VM of others may have any name; ``create`` made no files for such a one
        names = (disk_name(name), seed_name(name)) if is_name(name) else None
        await report.step("Removing the VM {name} and its disks", name=name)
        outcome = await self.client.call(
            lambda conn: remove.remove_vm(conn, ref, site.disks_path, site.local, names),
            seconds=DELETE_SECONDS,
            lane=Lane.SLOW,
            settle=True,
        )
        for path in outcome.kept:
            await report.warn("Kept {path}: the panel did not make it, or another VM uses it.", path=path)
        self._looker.forget(ref)
        return outcome

    async def console(self, ref: str) -> ConsoleTarget:
        return await self._screens.target(ref)

    async def text_console(self, ref: str) -> TextTarget:
        return await text.target(self.client, ref)

    async def set_password(self, ref: str, user: str, password: str) -> None:
        check_login(user, password)
        try:
            await self.client.domain(ref, lambda domain: _set_password(domain, user, password), lane=Lane.AGENT)
        except EngineFailure as error:  # the agent ran, and the guest's passwd refused
            raise Conflict(
                "The guest refused the new password of {user}. Check that this user exists there.", user=user
            ) from error

    async def snapshot(self, ref: str, action: SnapshotAction, name: str, report: Reporter) -> None:
        try:
            await snapshots.act(self.client, ref, action, name, report)
        finally:
            self._looker.forget(ref)

    async def list_images(self) -> list[Image]:
        site = self.site

        def work(conn: Any) -> list[Image]:
            return list_images(conn, storage.open_pool(conn, site.images_path, site.local))

        return await self.client.call(work, seconds=LIST_SECONDS, lane=Lane.SLOW)

    async def put_image(self, image: ImagePut, report: Reporter) -> None:
        await Putting(self.client, self.site, image, report).run()

    async def settle_image(self, key: str, token: str) -> bool:
        return await self._change_images(lambda conn, pool: settle(conn, pool, key, token))

    async def remove_image(self, key: str) -> None:
        local = self.site.local
        await self._change_images(lambda conn, pool: remove_image(conn, pool, key, local))

    async def _change_images(self, work: Callable[[Any, Any], T]) -> T:
        site = self.site
        return await self.client.call(
            lambda conn: work(conn, storage.open_pool(conn, site.images_path, site.local)),
            seconds=DELETE_SECONDS, lane=Lane.SLOW, settle=True,
        )  # fmt: skip

    async def list_isos(self) -> list[Iso]:
        site = self.site

        def work(conn: Any) -> list[Iso]:
            return hardware.list_isos(storage.open_pool(conn, site.images_path, site.local))

        return await self.client.call(work, seconds=LIST_SECONDS, lane=Lane.SLOW)

    async def screenshot(self, ref: str, width: int) -> bytes:
        return await screen.picture(self.client, ref, width)

    @property
    def images_folder(self) -> Path | None:
        return Path(self.site.images_path) if self.site.local else None

    async def image_users(self, key: str) -> list[str]:
        site = self.site

        def work(conn: Any) -> list[str]:
            path = storage.path_in(storage.open_pool(conn, site.images_path, site.local), key)
            return storage.users_of(conn, path, site.local)

        return await self.client.call(work, seconds=LIST_SECONDS, lane=Lane.SLOW)

    @property
    def on_this_machine(self) -> bool:
        return self.site.local

    @property
    def ssh_endpoint(self) -> SshEndpoint | None:
        return ssh_endpoint(self.client.uri, self.connection.secret)

    async def list_networks(self) -> list[NetworkInfo]:
        site = self.site
        return await self.client.call(
            lambda conn: reservations.list_networks(conn, site.network_nat, site.network_bridge)
        )

    async def reserve(self, network: str, mac: str, addresses: tuple[str, ...]) -> None:
        # the second step that libvirt does for it may wait for dnsmasq; a half done one is finished by a repetition
        await self.client.call(
            lambda conn: reservations.reserve(conn, network, mac, addresses),
            seconds=RESERVE_SECONDS,
            lane=Lane.SLOW,
            settle=True,
        )

    async def leftovers(self) -> list[Leftover]:
        site = self.site
        return await self.client.call(
            lambda conn: remove.leftovers(conn, site.disks_path, site.local), seconds=LIST_SECONDS, lane=Lane.SLOW
        )


def _set_password(domain: Any, user: str, password: str) -> None:
    if power_state(domain.state()[0]) is not PowerState.RUNNING:
        raise Conflict("The VM is not running. Start it, then set the password.")
    if not read_domain(domain.XMLDesc(0)).agent_connected:
        raise Conflict(
            "The guest agent does not run in the VM. Install the package qemu-guest-agent inside it (apt or dnf install "
            "qemu-guest-agent), start it, and try again."
        )
    with contextlib.suppress(libvirt.libvirtError):
        domain.agentSetResponseTimeout(AGENT_ANSWER_SECONDS * 3)
    domain.setUserPassword(user, password, 0)
