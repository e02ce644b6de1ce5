"""Saving and loading the configuration: hosts, networks, VMs as wanted with all that is published of them,
certificates, and the token, as versioned JSON in the data folder (``panel.services.saved``).

Saving is atomic (temporary file, fsync, rename). Loading checks everything first and changes all or nothing. It merges:
what the file has is made so; what only the panel has stays (``docs/decisions/0006-loading-merges.md``). Secrets stay
encrypted with the data folder's key.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import aiofiles
import aiofiles.os
from pydantic import ValidationError
from tortoise.transactions import in_transaction

from panel.errors import ConfigError, Conflict, InvalidInput, NotFound
from panel.events import EventBus, HostChanged, HostConfigured
from panel.i18n import Text
from panel.i18n import gettext_noop as _
from panel.models import Host, Setting, Task, Vm
from panel.security import Actor, Permission, SecretBox, same
from panel.services.access import TOKEN_KEY, AccessService
from panel.services.audit import AuditLog
from panel.services.engines import EnginePool
from panel.services.gateways import GatewayService
from panel.services.observer import Observer
from panel.services.restore import apply_certificates, apply_host, saved_certificates, saved_hosts
from panel.services.saved import VERSION, SavedConfiguration
from panel.services.taskends import LIVING
from panel.services.whole import whole

LARGEST = 64 * 1024 * 1024  # bytes
FILE = "configuration.json"


@dataclass(frozen=True, slots=True)
class LoadOutcome:
    """How many rows a load made and changed, and how many stayed that the file does not name."""

    hosts: int
    vms: int
    kept_hosts: int
    kept_vms: int


class ConfigurationService:
    """Saves to and loads from ``configuration.json`` in the data folder."""

    def __init__(
        self,
        folder: Path,
        box: SecretBox,
        access: AccessService,
        pool: EnginePool,
        gateways: GatewayService,
        observer: Observer,
        events: EventBus,
        audit: AuditLog,
    ) -> None:
        self.path = folder / FILE
        self._box = box
        self._access = access
        self._pool = pool
        self._gateways = gateways
        self._observer = observer
        self._events = events
        self._audit = audit

    async def save(self, actor: Actor, path: Path | None = None) -> Path:
        """Write everything to the file; the old file stays whole until the new one is."""
        actor.require(Permission.ADMIN)
        target = path or self.path
        certificates, positions = await saved_certificates()
        saved = SavedConfiguration(
            version=VERSION,
            token=(await Setting.get(key=TOKEN_KEY)).value,
            certificates=certificates,
            hosts=await saved_hosts(positions),
        )
        try:
            await _write(target, saved.model_dump_json(indent=2).encode())
        except OSError as error:
            reason = error.strerror or "?"
            raise ConfigError(_("{path} cannot be written: {reason}."), path=target.name, reason=reason) from error
        await self._audit.write(actor, "config.save", "panel", "configuration", Text(_("Saved the configuration.")))
        return target

    @whole
    async def load(self, actor: Actor, path: Path | None = None) -> LoadOutcome:
        """Check the file, then apply it whole.

        Raises:
            NotFound: there is no file.
            InvalidInput: it is not such a file, or its secrets were sealed with another key; says where.
            Conflict: a task is at work, or another VM has an address, a port or a domain that the file gives away.
        """
        actor.require(Permission.ADMIN)
        saved = await self._read(path or self.path)
        if await Task.exists(status__in=LIVING):
            raise Conflict(_("A task is at work. Load when none is."))
        before = await self._access.token()
        async with in_transaction("default"):
            await Setting.filter(key=TOKEN_KEY).update(value=saved.token)
            certificates = await apply_certificates(saved.certificates)
            for item in saved.hosts:
                await apply_host(item, certificates)
        if not same(before, self._box.unseal(saved.token)):
            await self._access.end_logins(actor, before)
        named = {host.name for host in saved.hosts}
        vms = {(host.name, vm.name) for host in saved.hosts for vm in host.vms}
        present = await Vm.all().values_list("host__name", "name")
        outcome = LoadOutcome(
            hosts=len(named),
            vms=len(vms),
            kept_hosts=await Host.exclude(name__in=list(named)).count(),
            kept_vms=sum(1 for row in present if tuple(row) not in vms),
        )
        await self._audit.write(actor, "config.load", "panel", "configuration", Text(_("Loaded the configuration.")))
        for host in await Host.filter(name__in=list(named)):
            await self._pool.forget(host.id)
            if host.enabled:
                self._observer.add(host.id)
            else:
                self._observer.remove(host.id)
            self._gateways.wake(host.id)
            self._events.publish(HostConfigured(host.id))
            self._events.publish(HostChanged(host.id))
        return outcome

    async def _read(self, path: Path) -> SavedConfiguration:
        try:
            if (await aiofiles.os.stat(path)).st_size > LARGEST:
                raise InvalidInput(_("{path} is too large to be a saved configuration."), path=path.name)
            async with aiofiles.open(path, "rb") as file:
                content = await file.read()
        except FileNotFoundError as error:
            raise NotFound(_("There is no {path} in the data folder. Save first."), path=path.name) from error
        except OSError as error:
            raise ConfigError(_("{path} cannot be read: {reason}."), path=path.name, reason=error.strerror) from error
        try:
            saved = SavedConfiguration.model_validate_json(content)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "file"
            message = _("{path} is not a saved configuration: {where}: {reason}.")
            raise InvalidInput(message, field=where, path=path.name, where=where, reason=first["msg"]) from error
        for sealed in saved.sealed:
            self._check_sealed(sealed)
        return saved

    def _check_sealed(self, sealed: str) -> None:
        try:
            self._box.unseal(sealed)
        except ConfigError as error:
            raise InvalidInput(_("A secret of the file was encrypted with another secret.key.")) from error


async def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        async with aiofiles.open(temporary, "wb", opener=_private) as file:
            await file.write(content)
            await file.flush()
            await aiofiles.os.wrap(os.fsync)(file.fileno())
        await aiofiles.os.replace(temporary, path)
        await aiofiles.os.wrap(_sync_folder)(path.parent)
    finally:
        await aiofiles.os.wrap(temporary.unlink)(missing_ok=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
