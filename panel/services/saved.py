"""What a saved configuration looks like: versioned, strict, and checked whole before anything of it is believed.

Keys that came later have defaults, so that files without them load: what they do not name stays as it is.
"""

from __future__ import annotations

from datetime import datetime
from ipaddress import ip_address, ip_network
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from panel.engines.types import EngineKind, NicMode
from panel.errors import InvalidInput
from panel.models import AtLimit
from panel.services.cleaning import LARGEST_DISK_GIB, LARGEST_INT
from panel.services.engines import secret_options
from panel.services.names import IDENTIFIER, MAC, check_notes, check_tags

VERSION: Literal[1] = 1


def _address(text: str) -> str:
    if str(ip_address(text)) != text:
        raise ValueError("an address in its canonical form")
    return text


def _subnet(text: str) -> str:
    if str(ip_network(text)) != text:
        raise ValueError("a network in its canonical form")
    return text


def _tags(tags: list[str]) -> list[str]:
    try:
        return check_tags(tags, "tags")
    except InvalidInput as error:
        raise ValueError(str(error.text)) from error


def _notes(text: str) -> str:
    try:
        return check_notes(text, "notes")
    except InvalidInput as error:
        raise ValueError(str(error.text)) from error


def _pair(texts: list[str]) -> list[str]:
    if len(texts) != 2:
        raise ValueError("a first and a last address")
    first, last = ip_address(texts[0]), ip_address(texts[1])
    if first.version != last.version or int(first) > int(last):
        raise ValueError("a first and a last address, in this order")
    return texts


Address = Annotated[str, AfterValidator(_address)]
AddressOrNone = Annotated[str, AfterValidator(lambda text: _address(text) if text else text)]
Subnet = Annotated[str, AfterValidator(_subnet)]
SubnetOrNone = Annotated[str, AfterValidator(lambda text: _subnet(text) if text else text)]
Pair = Annotated[list[str], AfterValidator(_pair)]
Tags = Annotated[list[str], AfterValidator(_tags)]
Notes = Annotated[str, AfterValidator(_notes)]
Port = Annotated[int, Field(ge=1, le=65535)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class SavedNic(_Strict):
    name: str = Field(pattern=f"^{IDENTIFIER.pattern}$", max_length=32)
    mode: NicMode | None
    mac: str = Field(pattern=f"^{MAC.pattern}$")
    network: str = Field(max_length=64)


class SavedAddress(_Strict):
    """An address that an interface was given. ``network`` is one of the host's."""

    interface: str = Field(max_length=32)
    network: str = Field(max_length=64)
    ip: Address


class SavedForward(_Strict):
    protocol: Literal["tcp", "udp"]
    external_start: Port
    external_end: Port
    internal_ip: Address
    internal_start: Port

    @model_validator(mode="after")
    def _in_order(self) -> SavedForward:
        length = self.external_end - self.external_start
        if not 0 <= length < 1000 or self.internal_start + length > 65535:
            raise ValueError("1 to 1000 ports, none of them above 65535")
        return self


class SavedProxy(_Strict):
    """A domain. ``certificate`` is the position in the file's list, for one that an operator brought."""

    domain: str = Field(max_length=253)
    target_ip: Address
    target_port: Port
    ssl: bool
    certificate: int | None = None


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
    notes: Notes | None = None
    tags: Tags | None = None
    nics: list[SavedNic]
    addresses: list[SavedAddress] = []
    forwards: list[SavedForward] = []
    proxies: list[SavedProxy] = []


class SavedPool(_Strict):
    subnet: Subnet
    gateway: AddressOrNone
    dns: list[Address]
    ranges: list[Pair]
    reserved: list[Pair]


class SavedNetwork(_Strict):
    """A network. Of one that the host has, ``reserved`` and ``pools`` count: the host tells the rest itself."""

    name: str = Field(min_length=1, max_length=64)
    mode: NicMode
    bridge: str = Field(max_length=64)
    subnet4: SubnetOrNone
    gateway4: AddressOrNone
    subnet6: SubnetOrNone
    gateway6: AddressOrNone
    forward_mode: str = Field(max_length=16)
    reserved: list[Pair]
    pools: list[SavedPool]


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
    ports_start: Port | None = None
    ports_close: Port | None = None
    outside: str | None = Field(None, max_length=255)
    report_only: bool | None = None
    strict_reports: bool | None = None
    at_limit: AtLimit | None = None
    at_limit_mbit: int | None = Field(None, ge=1)
    networks: list[SavedNetwork] = []
    vms: list[SavedVm]

    @property
    def secrets(self) -> list[str]:
        """What of it is sealed."""
        return [self.secret, *(self.options[name] for name in secret_options(self.engine) if self.options.get(name))]

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


class SavedCertificate(_Strict):
    """A certificate that an operator brought. ``private_key`` is sealed with the data folder's key."""

    names: list[str]
    chain: str
    private_key: str = Field(repr=False)
    issuer: str = Field(max_length=255)
    expires_at: Annotated[datetime, Field(strict=False)]


class SavedConfiguration(_Strict):
    version: Literal[1]
    token: str
    certificates: list[SavedCertificate] = []
    hosts: list[SavedHost]

    @model_validator(mode="after")
    def _unique(self) -> SavedConfiguration:
        names = [host.name for host in self.hosts]
        if len(set(names)) != len(names):
            raise ValueError("two hosts have the same name")
        for host in self.hosts:
            for proxy in (proxy for vm in host.vms for proxy in vm.proxies):
                if proxy.certificate is not None and not 0 <= proxy.certificate < len(self.certificates):
                    raise ValueError(f"domain {proxy.domain} names a certificate that is not in the file")
        return self

    @property
    def sealed(self) -> list[str]:
        """All texts that are sealed with the data folder's key."""
        return [
            self.token, *(secret for host in self.hosts for secret in host.secrets),
            *(item.private_key for item in self.certificates),
        ]  # fmt: skip
