"""Saving and loading the configuration: hosts, VMs as wanted, and the token, as versioned JSON in the data folder.

Saving is atomic (temporary file, fsync, rename). Loading checks everything first and changes all or nothing. It merges:
what the file has is made so; what only the panel has stays (``docs/decisions/0006-loading-merges.md``). Secrets stay
encrypted with the data folder's key.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import aiofiles
import aiofiles.os
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from tortoise.transactions import in_transaction

from panel.engines.types import EngineKind, NicMode
from panel.errors import ConfigError, Conflict, InvalidInput, NotFound
from panel.events import EventBus, HostChanged
from panel.i18n import Text
from panel.i18n import gettext_noop as _
from panel.models import Host, Nic, Setting, Task, Vm
from panel.security import Actor, Permission, SecretBox, same
from panel.services.access import TOKEN_KEY, AccessService
from panel.services.audit import AuditLog
from panel.services.cleaning import LARGEST_DISK_GIB, LARGEST_INT
from panel.services.engines import EnginePool
from panel.services.names import IDENTIFIER, MAC
from panel.services.observer import Observer
from panel.services.tasks import LIVING
from panel.services.whole import whole

VERSION: Literal[1] = 1
LARGEST = 64 * 1024 * 1024  # bytes
FILE = "configuration.json"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class SavedNic(_Strict):
    name: str = Field(pattern=f"^{IDENTIFIER.pattern}$", max_length=32)
    mode: NicMode | None
    mac: str = Field(pattern=f"^{MAC.pattern}$")
    network: str = Field(max_length=64)


class SavedVm(_Strict):
    name: str = Field(pattern=f"^{IDENTIFIER.pattern}$")
    ref: str = Field(min_length=1, max_length=128)
    title: str = Field(max_length=200)
    os_name: str = Field(max_length=200)
    user: str = Field(max_length=64)
    cpu_count: int = Field(ge=0, le=LARGEST_INT)
    memory_mib: int = Field(ge=0, le=LARGEST_INT)
    disk_gib: float = Field(ge=0, le=LARGEST_DISK_GIB)
    limits: dict[str, int]
    managed: bool
    nics: list[SavedNic]


class SavedHost(_Strict):
    name: str = Field(pattern=f"^{IDENTIFIER.pattern}$")
    engine: EngineKind
    address: str = Field(max_length=255)
    user: str = Field(max_length=128)
    secret: str
    disks_path: str = Field(max_length=512)
    images_path: str = Field(max_length=512)
    launch_path: str = Field(max_length=512)
    options: dict[str, str]
    enabled: bool
    vms: list[SavedVm]

    @model_validator(mode="after")
    def _unique(self) -> SavedHost:
        for key in ("name", "ref"):
            values = [getattr(vm, key) for vm in self.vms]
            if len(set(values)) != len(values):
                raise ValueError(f"two VMs of host {self.name} have the same {key}")
        for vm in self.vms:
            names = [nic.name for nic in vm.nics]
            if len(set(names)) != len(names):
                raise ValueError(f"two interfaces of VM {vm.name} have the same name")
        return self


class SavedConfiguration(_Strict):
    version: Literal[1]
    token: str
    hosts: list[SavedHost]

    @model_validator(mode="after")
    def _unique(self) -> SavedConfiguration:
        names = [host.name for host in self.hosts]
        if len(set(names)) != len(names):
            raise ValueError("two hosts have the same name")
        return self


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
        observer: Observer,
        events: EventBus,
        audit: AuditLog,
    ) -> None:
        self.path = folder / FILE
        self._box = box
        self._access = access
        self._pool = pool
        self._observer = observer
        self._events = events
        self._audit = audit

    async def save(self, actor: Actor, path: Path | None = None) -> Path:
        """Write everything to the file; the old file stays whole until the new one is."""
        actor.require(Permission.ADMIN)
        target = path or self.path
        saved = SavedConfiguration(
            version=VERSION,
            token=(await Setting.get(key=TOKEN_KEY)).value,
            hosts=[_saved_host(host) for host in await Host.all().prefetch_related("vms__nics")],
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
            Conflict: a task is at work.
        """
        actor.require(Permission.ADMIN)
        saved = await self._read(path or self.path)
        if await Task.exists(status__in=LIVING):
            raise Conflict(_("A task is at work. Load when none is."))
        before = await self._access.token()
        async with in_transaction():
            await Setting.filter(key=TOKEN_KEY).update(value=saved.token)
            for item in saved.hosts:
                await _apply_host(item)
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
        for sealed in [saved.token, *(host.secret for host in saved.hosts)]:
            self._check_sealed(sealed)
        return saved

    def _check_sealed(self, sealed: str) -> None:
        try:
            self._box.unseal(sealed)
        except ConfigError as error:
            raise InvalidInput(_("A secret of the file was encrypted with another secret.key.")) from error


def _saved_host(host: Host) -> SavedHost:
    vms: list[Vm] = [vm for vm in host.vms if not vm.creating]  # type: ignore[attr-defined]
    columns = {name: getattr(host, name) for name in SavedHost.model_fields if name != "vms"}
    return SavedHost(**columns, vms=[_saved_vm(vm) for vm in vms])


def _saved_vm(vm: Vm) -> SavedVm:
    columns: dict[str, Any] = {name: getattr(vm, name) for name in SavedVm.model_fields if name != "nics"}
    nics = [SavedNic(name=nic.name, mode=nic.mode, mac=nic.mac, network=nic.network) for nic in vm.nics]
    return SavedVm(**columns, nics=nics)


async def _apply_host(saved: SavedHost) -> None:
    columns = saved.model_dump(exclude={"vms", "name"})
    host, _made = await Host.update_or_create(name=saved.name, defaults=columns)
    for item in saved.vms:
        # a VM of the same hypervisor id under another name is the same VM: its name follows the file
        await Vm.filter(host_id=host.id, ref=item.ref).exclude(name=item.name).delete()
        values = item.model_dump(exclude={"nics", "name"})
        vm, _made = await Vm.update_or_create(host=host, name=item.name, defaults=values)
        # an interface that stays keeps its row: its addresses hang on that
        kept = {nic.mac: nic for nic in await Nic.filter(vm=vm)}
        named = {(nic.name, nic.mac) for nic in item.nics}
        await Nic.filter(id__in=[nic.id for nic in kept.values() if (nic.name, nic.mac) not in named]).delete()
        for nic in item.nics:
            await Nic.update_or_create(
                vm=vm, name=nic.name, mac=nic.mac, defaults=nic.model_dump(exclude={"name", "mac"})
            )


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
