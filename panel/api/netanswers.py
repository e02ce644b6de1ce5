"""The shapes of the API's answers about networks: forwards, addresses, domains, pools."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from panel.services.ways import WayKind

# -- system ----------------------------------------------------------------------------------------------------


class ForwardOut(BaseModel):
    """A forward. Delete it by ``rule_index``; ``?id=`` beside it makes sure that it is the one that was meant."""

    rule_index: int
    id: int
    protocol: str = Field(examples=["tcp"])
    external_port: int
    external_end: int = Field(description="the last one; the same as external_port for a single port")
    internal_port: int
    internal_end: int
    internal_ip: str
    state: str = Field(description="applying, applied, failed", examples=["applied"])
    problem: str | None = Field(description="why it is not applied; it is tried again by itself")
    applied_at: datetime | None
    created_at: datetime


class ForwardsOut(BaseModel):
    rules: list[ForwardOut]
    ports_start: int = Field(description="where external ports are allocated from")
    ports_close: int
    nat_num: int | None = Field(description="how many the VM may have; null: any number")
    reason: str | None = Field(description="why this host, or this VM where it is, has no forwards; null: it has")
    way: WayKind | None = Field(
        description="who leads the ports: the hypervisor (native), nftables of the panel's machine (local) or of the host (ssh)"
    )


class RemovedForwardOut(BaseModel):
    id: int
    problem: str | None = Field(description="why it still holds on the host; it goes by itself")


class AddressOut(BaseModel):
    """An address that an interface was given."""

    ip_index: int
    id: int
    interface: str
    mac_addr: str
    ip_address: str
    netmask: str
    gateway: str
    network: str
    by_dhcp: bool = Field(description="DHCP brings it; false: the first boot did, or the guest is to be set up")
    seen: bool = Field(description="the guest has it")


class SeenOut(BaseModel):
    interface: str
    mac_addr: str
    addresses: list[str]


class AddressesOut(BaseModel):
    addresses: list[AddressOut]
    seen: list[SeenOut] = Field(description="what the guest really has, by interface")


class RemovedAddressOut(BaseModel):
    id: int
    ip_address: str


class CertificateOut(BaseModel):
    """A domain's certificate. Neither it nor its key is ever given out."""

    state: str = Field(description="none, waiting, valid, failed, expired", examples=["valid"])
    issuer: str
    expires_at: datetime | None
    problem: str | None = Field(description="why it was not issued; it is tried again by itself")
    uploaded: bool = Field(description="an operator brought it; false: it is issued")


class ProxyOut(BaseModel):
    """A domain. Delete it by ``proxy_index``; ``?id=`` beside it makes sure that it is the one that was meant."""

    proxy_index: int
    id: int
    domain: str = Field(description="in ASCII (IDNA)", examples=["example.com"])
    domain_unicode: str
    target_ip: str
    target_port: int
    ssl_enabled: bool
    state: str = Field(description="applying, applied, failed", examples=["applied"])
    problem: str | None = Field(description="why it is not applied; it is tried again by itself")
    certificate: CertificateOut
    applied_at: datetime | None
    created_at: datetime
    url: str | None = Field(description="what a browser opens; null for a wildcard")


class ProxiesOut(BaseModel):
    proxies: list[ProxyOut]
    addresses: list[str] = Field(description="where the VM's domains may lead")
    web_num: int | None = Field(description="how many the VM may have; null: any number")
    reason: str | None = Field(description="why this host has no domains; null: it has")


class RemovedProxyOut(BaseModel):
    id: int
    problem: str | None = Field(description="why it is still served on the host; it goes by itself")


class HolderOut(BaseModel):
    """An address that a VM was given."""

    ip_address: str
    vm_uuid: str
    interface: str
    seen: bool = Field(description="the guest has it")


class PoolOut(BaseModel):
    """Addresses that VMs are given from. A count is null where IPv6 makes it larger than programs' integers."""

    id: int | None = Field(description="of a bridge's pool; null: a NAT network's own subnet")
    subnet: str = Field(examples=["203.0.113.0/24"])
    gateway: str
    dns: list[str]
    ranges: list[list[str]] = Field(description="[first, last] pairs; none: all of the subnet")
    reserved: list[list[str]] = Field(description="[first, last] pairs; a NAT network has its own list")
    total_count: int | None = Field(description="without the gateway", examples=[253])
    given_count: int
    reserved_count: int | None
    free_count: int | None
    addresses: list[HolderOut]


class NetworkOut(BaseModel):
    name: str
    mode: str = Field(description="nat, bridge")
    bridge: str = Field(description="empty: the host does not have this network any more")
    reserved: list[list[str]] = Field(description="[first, last] pairs of a NAT network that no VM is given")
    pools: list[PoolOut]


class NetworksOut(BaseModel):
    networks: list[NetworkOut]
    notes: list[str] = Field(description="what the change means for VMs, if anything")
