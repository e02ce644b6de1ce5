"""Making a VM: a container of an image, on its network with its address, started when asked; and removing it."""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_interface
from typing import Any
from urllib.parse import quote

from panel.engines.common.checks import check_name, check_sizes
from panel.engines.docker.client import Client, Json, container
from panel.engines.docker.fields import POLICIES
from panel.engines.docker.guest import check_login, set_password, tools
from panel.engines.docker.images import fetch
from panel.engines.docker.limits import check_cpus, host_config
from panel.engines.docker.marks import REF, Kind, Mark, Notes, at, check_title, mark_of
from panel.engines.docker.networks import Networks, Site, connection, endpoint_config, only
from panel.engines.docker.power import stays_up
from panel.engines.docker.view import Found, Viewer
from panel.engines.types import DeleteOutcome, NicMode, NicSpec, Reporter, VmSpec
from panel.errors import Conflict, InvalidInput, NotFound, PanelError, Unsupported
from panel.i18n import gettext_noop as _

PER_NETWORK_MAC = (1, 44)  # of the API: from there on every interface has a MAC of its own choice
TRIES = 3  # of an address that somebody else may take meanwhile
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]+")
_ANONYMOUS = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Manner:
    """How containers of a host are made, as its settings say."""

    offered: tuple[str, ...]
    command: tuple[str, ...]
    policy: str


def read_command(text: str) -> tuple[str, ...]:
    """``InvalidInput`` for quotes that do not end."""
    try:
        return tuple(shlex.split(text))
    except ValueError:
        raise InvalidInput(_("{field}: a quote does not end."), field="command") from None


def read_policy(text: str) -> str:
    """``InvalidInput`` for a policy that there is not."""
    if text not in POLICIES:
        raise InvalidInput(
            _("{field} must be one of: {policies}."), field="restart_policy", policies=", ".join(POLICIES)
        )
    return text


class Maker:
    """Makes and removes containers on one host."""

    def __init__(
        self, client: Client, viewer: Viewer, notes: Notes, networks: Networks, site: Site, manner: Manner
    ) -> None:
        self._client, self._viewer, self._notes = client, viewer, notes
        self._networks, self._site, self._manner = networks, site, manner

    async def create(self, spec: VmSpec, report: Reporter) -> None:
        """See ``Engine.create``."""
        check_name(spec.name)
        if not _NAME.fullmatch(spec.name):
            raise InvalidInput(
                _("A container's name has at least two characters and begins with a letter or digit."), field="vm_uuid"
            )
        check_title(spec.title)
        check_sizes(spec.cpu_count, spec.memory_mib)
        if spec.disk_gib < 1:
            raise InvalidInput(_("A disk has at least 1 GiB."), field="hdd_num")
        if spec.password is not None:
            check_login(spec.user, spec.password)
        if spec.image is None:
            raise InvalidInput(_("A container is made from an image: choose one (os_name)."), field="os_name")
        check_cpus(spec.cpu_count, await self._viewer.info())
        nics = await self._check_nics(spec)
        await fetch(self._client, spec.image, self._manner.offered, report)
        await report.step(_("Making the container {name}"), percent=65, name=spec.name)
        making = asyncio.ensure_future(self._make(spec, nics))
        try:
            number = await asyncio.shield(making)
            await self._first_start(spec, number, report)
            await report.step(_("Done"), percent=100)
        except BaseException:
            await _to_the_end(self._undo(making, spec.ref))
            raise

    async def _check_nics(self, spec: VmSpec) -> list[tuple[NicSpec, str]]:
        """Each interface with its network, which is there."""
        found: list[tuple[NicSpec, str]] = []
        for nic in spec.nics:
            name = nic.network or self._site.network(nic.mode)
            if not name:
                raise InvalidInput(
                    _("The host has no bridge network. Name one in its settings (network_bridge), or use NAT."),
                    field="nic_all",
                )
            if name in {other for _nic, other in found}:
                raise InvalidInput(
                    _("A container is on the network {name} once at most: remove the other interfaces on it."),
                    field="nic_all", name=name,
                )  # fmt: skip
            if await self._networks.find(name) is None:
                if name != self._site.nat:
                    raise InvalidInput(_("{field}: the host has no network {name}."), field="nic_all", name=name)
                await self._networks.ensure()
            found.append((nic, name))
        await self._viewer.info()  # connected: the version is known
        if len(found) > 1 and not self._client.podman and self._client.api < PER_NETWORK_MAC:
            raise InvalidInput(
                _(
                    "This Docker chooses the MAC of every interface but the first: it needs Docker 25 for more than one."
                ),
                field="nic_all",
            )
        return found

    async def _make(self, spec: VmSpec, nics: list[tuple[NicSpec, str]]) -> str:
        """Make the container, whole or not at all; its number. An address that another takes first is chosen again."""
        for left in reversed(range(TRIES)):
            async with self._networks.turn:
                placed = [(nic, name, await self._address(nic, name)) for nic, name in nics]
                try:
                    made = await self._client.post(
                        "containers/create", self._body(spec, placed), name=spec.name, seconds=120.0
                    )
                    number = str(made["Id"])
                    for nic, name, address in placed[1:]:
                        path = f"networks/{quote(name, safe='')}/connect"
                        await self._client.post(path, connection(number, nic.mac, address))
                    return number
                except Conflict as error:
                    if not left or "address" not in str(error):
                        raise
        raise AssertionError("unreachable")

    async def _address(self, nic: NicSpec, network: str) -> str:
        if nic.mode is NicMode.NAT:
            return await self._networks.choose(network, nic.mac)
        given = [ip_interface(text) for text in nic.addresses]
        return next((str(one.ip) for one in given if one.version == 4), "")

    def _body(self, spec: VmSpec, placed: list[tuple[NicSpec, str, str]]) -> Json:
        mark = Mark(
            spec.ref,
            spec.title,
            tuple((nic.name, name, nic.mode.value, nic.mac, address) for nic, name, address in placed),
        )
        dns = list(dict.fromkeys(text for nic, _name, _address in placed for text in nic.dns))
        body: Json = {
            "Image": spec.image,
            "Hostname": (spec.hostname or spec.name)[:63],
            "Tty": True,  # images whose command is a shell end at once without
            "OpenStdin": True,
            "Labels": mark.labels(),
            "HostConfig": {
                **host_config(spec.cpu_count, spec.memory_mib),
                "RestartPolicy": {"Name": self._manner.policy},
                "NetworkMode": placed[0][1] if placed else "none",
                "Dns": dns,
            },
        }
        if self._manner.command:
            body["Cmd"] = list(self._manner.command)
        if placed:
            nic, name, address = placed[0]
            body["NetworkingConfig"] = {"EndpointsConfig": {name: endpoint_config(nic.mac, address)}}
            if self._client.api < PER_NETWORK_MAC:
                body["MacAddress"] = nic.mac
        return body

    async def _first_start(self, spec: VmSpec, number: str, report: Reporter) -> None:
        """Start it when asked, and for its password, which only a running one can be given."""
        for_password = spec.password is not None and (await tools(self._client, number)).answers
        if spec.password is not None and not for_password:
            await report.warn(_("The image has no chpasswd, so the password was not set."))
        if not (spec.start or for_password):
            return
        await report.step(_("Starting"), percent=85)
        await self._client.post(container(number, "/start"))
        await stays_up(self._client, number)
        if for_password and spec.password is not None:
            await report.step(_("Setting the password of {user}"), percent=90, user=spec.user)
            await set_password(self._client, number, spec.user, spec.password)
        if not spec.start:
            await self._client.post(container(number, "/stop"), t="0")

    async def _undo(self, making: asyncio.Future[str], ref: str) -> None:
        """Remove what was made, and nothing else."""
        with suppress(PanelError):
            await making
        with suppress(PanelError):
            for line in await self._client.get("containers/json", all="1", filters=only(REF, ref)):
                mark = mark_of(line.get("Labels"))
                if mark is not None and mark.ref == ref:
                    await remove(self._client, str(line["Id"]))

    async def delete(self, ref: str, report: Reporter) -> DeleteOutcome:
        """Remove a container of the panel's, with its own volumes and notes. Another's stays whole."""
        try:
            one: Found | None = await self._viewer.one(ref)
        except NotFound:
            one = None
        if one is not None and one.mark is None:
            raise Unsupported(
                _("The panel did not make this container, and removing it would remove its file system. Remove it on the host "
                  "(docker rm).")
            )  # fmt: skip
        removed: list[str] = []
        if one is not None and one.mark is not None:
            await report.step(_("Removing the container {name} and its volumes"), percent=20, name=one.name)
            with suppress(NotFound):
                whole = await self._viewer.whole(one)
                await remove(self._client, one.id)
                mounts = [str(mount.get("Name", "")) for mount in whole.get("Mounts") or ()]
                removed = [one.name, *(name for name in mounts if _ANONYMOUS.fullmatch(name))]
            self._viewer.forget(one.id)
            keys = [at(nic[1], nic[3]) for nic in one.mark.nics]
            await self._notes.forget((Kind.LEASED,), keys)
        await self._notes.forget((Kind.TITLE, Kind.LIMITS), (ref,))
        return DeleteOutcome(removed=tuple(removed))


async def remove(client: Client, number: str) -> None:
    """Remove a container with its anonymous volumes, running or not. One that is gone, or going, is well."""
    for left in reversed(range(TRIES)):
        try:
            await client.delete(container(number), force="true", v="true")
            return
        except NotFound:
            return
        except Conflict:
            if not left:
                raise
            await asyncio.sleep(0.3)


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Clean up whatever comes: a second cancellation waits."""
    task = asyncio.ensure_future(work)
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.shield(task)
