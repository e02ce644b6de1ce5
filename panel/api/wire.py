"""The words of the wire: the envelope, what requests look like, old words and new. Answers are in ``panel.api.answers``.

``API.zh.md`` is the contract. Memory is MiB and disk is GiB; a body with ``mem_num`` speaks the later dialect of billing
clients, in which ``hdd_num`` is MiB too. Answers are in the document's words.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import to_jsonable_python

from panel.engines.types import EngineKind, PowerAction
from panel.services.specs import LIMITS

T = TypeVar("T")
PLUS = re.compile(r"(T\d\d:\S+) (\d\d:?\d\d)$")

ENGINE_NAMES: dict[EngineKind, str] = {
    EngineKind.LIBVIRT: "QEMUServer",
    EngineKind.VMWARE_WORKSTATION: "VMWareSetup",
    EngineKind.PROXMOX: "PromoxSetup",
    EngineKind.VSPHERE: "vSphereESXi",
    EngineKind.INCUS: "LxContainer",
    EngineKind.DOCKER: "OCInterface",
    EngineKind.FAKE: "FakeEngine",
}
ENGINE_KINDS = {name: kind for kind, name in ENGINE_NAMES.items()}

POWER_WORDS: dict[str, PowerAction] = {action.value: action for action in PowerAction} | {
    "S_START": PowerAction.START,
    "S_CLOSE": PowerAction.SHUTDOWN,
    "H_CLOSE": PowerAction.STOP,
    "S_RESET": PowerAction.RESET,
    "H_RESET": PowerAction.RESET,
    "S_PAUSE": PowerAction.SUSPEND,
    "A_PAUSE": PowerAction.SUSPEND,
    "S_RESUME": PowerAction.RESUME,
    "A_WAKED": PowerAction.RESUME,
}


def to_jsonable(value: Any) -> Any:
    """What orjson does not know, as pydantic would write it."""
    return to_jsonable_python(value)


class Envelope(BaseModel, Generic[T]):
    """Every answer. ``code`` is the HTTP status."""

    code: Literal[200] = 200
    msg: str = Field(examples=["success"])
    data: T


class ErrorData(BaseModel):
    """Which field of the request is at fault."""

    field: str
    fingerprint: str = Field("", description="of a certificate that is not trusted: send it as this field to accept it")


class ErrorEnvelope(BaseModel):
    """An error: what happened and what would mend it."""

    code: int = Field(ge=400, le=599)
    msg: str = Field(examples=["There is no host host9."])
    data: ErrorData | None


class Body(BaseModel):
    """A request body. Unknown fields are ignored with a warning; wrong types are refused."""

    model_config = ConfigDict(extra="allow", strict=True, json_schema_extra={})

    def unknown(self) -> list[str]:
        """Names of the fields that we do not know."""
        return sorted(str(name)[:64] for name in (self.model_extra or {}))[:20]


class Query(BaseModel):
    """A query string; its values arrive as text."""

    model_config = ConfigDict(extra="ignore")


class Nothing(BaseModel):
    """No data."""


def _in_utc(value: datetime) -> datetime:
    """A time without a zone is UTC."""
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("a time between the years 1 and 9999 in UTC") from error


def _whole(value: Any) -> Any:
    """JSON has one kind of number: 50.0 is 50, and is what some languages make of the 50.0 of an answer."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _no_list(value: Any) -> Any:
    """PHP writes an empty array, whatever it is for, as ``[]``."""
    return {} if value == [] else value


def _with_plus(value: Any) -> Any:
    """The + of a zone that was not written %2B arrives as a space."""
    return PLUS.sub(r"\1+\2", value) if isinstance(value, str) else value


Moment = Annotated[datetime, BeforeValidator(_with_plus), AfterValidator(_in_utc)]
Whole = Annotated[int, BeforeValidator(_whole), Field(ge=0, le=2**31 - 1)]
Port0 = Annotated[int, BeforeValidator(_whole), Field(ge=0, le=65535)]
Line = Annotated[str, Field(max_length=512)]


# -- system ----------------------------------------------------------------------------------------------------


class TokenBody(Body):
    token: str = Field(min_length=8, max_length=256, examples=["your-custom-token"])


class PageQuery(Query):
    page: int = Field(1, ge=1, le=1_000_000)
    limit: int = Field(50, ge=1, le=500)


class MetricsQuery(Query):
    range: Literal["1h", "24h", "7d", "90d"] = Field("1h", description="points of 10 s, 1 min, 15 min, 15 min")


class LogQuery(PageQuery):
    level: Literal["", "info", "warning", "error"] = ""
    action: str = Field("", max_length=48)
    object_kind: str = Field("", max_length=16)
    object_name: str = Field("", max_length=160)
    actor: str = Field("", max_length=64)
    text: str = Field("", max_length=160)
    since: Moment | None = None
    until: Moment | None = None


class TaskQuery(PageQuery):
    id: str = Field("", max_length=32)
    status: Literal["", "queued", "running", "succeeded", "failed", "cancelled", "interrupted"] = ""
    hs_name: str = Field("", max_length=64)
    vm_uuid: str = Field("", max_length=64)


# -- server ----------------------------------------------------------------------------------------------------


class HostBody(Body):
    """A host. Fields of the engine's own go beside these; ``GET /api/system/engine`` lists them."""

    server_addr: Line | None = Field(None, examples=["192.168.1.100"])
    server_user: Line | None = Field(None, examples=["admin"])
    server_pass: Line | None = Field(None, examples=["password"])
    system_path: Line | None = Field(None, examples=["D:/VMs"])
    images_path: Line | None = Field(None, examples=["D:/Images"])
    launch_path: Line | None = Field(None, examples=["C:/Program Files (x86)/VMware/VMware Workstation"])
    engine_type: str | None = Field(None, max_length=32, examples=["QEMUServer"])
    ports_start: Whole | None = Field(None, description="first of the external ports that forwards are given from")
    ports_close: Whole | None = Field(None, description="the last of them")
    outside: str | None = Field(
        None, max_length=255, description="what people type to reach it: an address or a name; empty: its own address"
    )
    report_only: bool | None = Field(None, description="drift of its network rules is told, not put right")
    strict_reports: bool | None = Field(None, description="guests report from their own addresses only")
    at_limit: Literal["slow", "cut"] | None = Field(
        None, description="what happens to a VM whose traffic of the month is used up"
    )
    at_limit_mbit: Whole | None = Field(None, description="Mbit/s that slow leaves")


class NewHostBody(HostBody):
    server_name: str = Field(max_length=64, examples=["host1"])
    engine_type: str = Field(max_length=32, examples=["QEMUServer"])


class EnableBody(Body):
    action: Literal["enable", "disable"]


# -- client ----------------------------------------------------------------------------------------------------


class NicBody(Body):
    net_mode: Literal["nat", "bridge"] | None = None
    nic_type: Literal["nat", "bridge"] | None = Field(None, description="the same, in the later dialect")
    ip4_addr: str = Field("", max_length=64)
    ip6_addr: str = Field("", max_length=64)
    mac_addr: str = Field("", max_length=17, description="empty: allocate one")


class VmSizes(Body):
    """Sizes, in either dialect."""

    vm_name: str | None = Field(None, max_length=200, examples=["测试虚拟机"])
    cpu_num: Whole | None = Field(None, examples=[2])
    ram_num: Whole | None = Field(None, description="MiB", examples=[4096])
    mem_num: Whole | None = Field(None, description="MiB; with it, hdd_num is MiB (later dialect)")
    hdd_num: Whole | None = Field(None, description="GiB (MiB beside mem_num)", examples=[50])
    speed_u: Whole | None = Field(None, description="Mbit/s, 0: no limit")
    speed_d: Whole | None = Field(None, description="Mbit/s, 0: no limit")
    flu_num: Whole | None = Field(None, description="GiB of traffic a month, both directions together, 0: no limit")
    nat_num: Whole | None = Field(None, description="how many port forwards it may have")
    web_num: Whole | None = Field(None, description="how many domains it may have")

    @property
    def memory_mib(self) -> int | None:
        return self.mem_num if self.mem_num is not None else self.ram_num

    @property
    def disk_gib(self) -> int | None:
        if self.hdd_num is None or self.mem_num is None:
            return self.hdd_num
        return -(-self.hdd_num // 1024)

    def limits(self) -> dict[str, int]:
        """The limits that were given."""
        return {name: value for name in LIMITS if (value := getattr(self, name)) is not None}


class NewVmBody(VmSizes):
    vm_uuid: str | None = Field(None, max_length=63, description="absent: one is made", examples=["vm-001"])
    os_name: str | None = Field(None, max_length=200, description="an image of the host; absent: an empty disk",
                                examples=["Windows 10 x64"])  # fmt: skip
    cpu_num: Whole = Field(examples=[2])
    os_pass: str | None = Field(None, max_length=128, description="the guest's password on first boot")
    ssh_keys: list[Annotated[str, Field(max_length=10_000)]] = Field(
        default_factory=list,
        max_length=100,
        description="public SSH keys for the image's own user, one in each; see ssh_keys of the engine",
    )
    nic_all: Annotated[dict[str, NicBody], BeforeValidator(_no_list)] = Field(default_factory=dict)
    start: bool = Field(False, description="start it once it is made")


class PowerBody(Body):
    action: str = Field(max_length=16, description=", ".join(POWER_WORDS), examples=["start"])


class PasswordBody(Body):
    password: str = Field(min_length=1, max_length=128, examples=["new-password"])
    user: str = Field("", max_length=64, description="empty: the image's default user")


class WaitQuery(Query):
    wait: float | None = Field(None, ge=0, le=600, description="seconds to wait for the task's end")


class NewForwardBody(Body):
    """A forward of one port, or of ``count`` ports beside one another (or up to ``external_end``): the first external one
    leads to ``internal_port``, the next to the one after it."""

    protocol: Literal["tcp", "udp"] = Field("tcp", examples=["tcp"])
    external_port: Port0 = Field(0, description="0 or absent: free ones of the host's range", examples=[8080])
    external_end: Port0 = Field(0, description="the last one of a range; 0: external_port + count - 1")
    count: Whole | None = Field(None, description="how many ports; absent: 1")
    internal_port: Port0 = Field(description="the first port on the VM", examples=[80])
    internal_ip: str = Field(
        "", max_length=64, description="the VM's own; empty: filled in", examples=["192.168.1.100"]
    )


class RowQuery(Query):
    id: int | None = Field(
        None, ge=0, le=2**31 - 1, description="the row's own id: 409 when it is not at that position"
    )


class NewAddressBody(Body):
    interface: str = Field(max_length=64, examples=["eth0"])
    ip_address: str = Field("", max_length=64, description="empty: a free one", examples=["192.168.1.101"])
    netmask: str = Field("", max_length=64, description="checked against the network's", examples=["255.255.255.0"])
    gateway: str = Field("", max_length=64, description="checked against the network's", examples=["192.168.1.1"])


class NewProxyBody(Body):
    """A domain that leads to a port of the VM, where plain HTTP is spoken."""

    domain: str = Field(max_length=1024, description="may be IDN, and may begin with *.", examples=["example.com"])
    target_port: Port0 = Field(examples=[80])
    ssl_enabled: bool = Field(False, description="https, and http is redirected there", examples=[False])
    target_ip: str = Field("", max_length=64, description="the VM's own; empty: filled in")
    certificate: str = Field("", max_length=65536, description="a chain in PEM, used in place of an issued one")
    private_key: str = Field("", max_length=32768, description="its key in PEM; stored encrypted, never given out")


class ReportBody(Body):
    vm_uuid: str = Field("", max_length=64, examples=["vm-001"])
    cpu_usage: float | None = Field(None, examples=[45.2])
    mem_usage: float | None = Field(None, examples=[2048])
    disk_usage: float | None = Field(None, examples=[30.5])


class NicQuery(Query):
    nic: str = Field("", max_length=17, description="a MAC address of the VM")


Pair = Annotated[list[Annotated[str, Field(max_length=64)]], Field(min_length=2, max_length=2)]


class ReservedBody(Body):
    reserved: list[Pair] = Field(
        description="[first, last] pairs; none: nothing is reserved", examples=[[["10.77.0.200", "10.77.0.254"]]]
    )


class PoolBody(Body):
    """Addresses of a bridge."""

    subnet: str = Field(max_length=64, examples=["203.0.113.0/24"])
    gateway: str = Field("", max_length=64, examples=["203.0.113.1"])
    dns: list[Annotated[str, Field(max_length=64)]] = Field(default_factory=list, examples=[["203.0.113.1"]])
    ranges: list[Pair] = Field(
        default_factory=list,
        description="[first, last] pairs that VMs are given from; none: all of the subnet",
        examples=[[["203.0.113.10", "203.0.113.99"]]],
    )
    reserved: list[Pair] = Field(default_factory=list, description="[first, last] pairs that no VM is given")
