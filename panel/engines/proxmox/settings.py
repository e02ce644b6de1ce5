"""What a new VM or container is told, as parameters of the vendor's: sizes, interfaces, and what its guest needs."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_interface
from urllib.parse import quote

from panel.engines.proxmox.config import Config, dns_name
from panel.engines.types import NicSpec, VmSpec

SERIAL = {"serial0": "socket"}
"""Of the text console."""


def sized(spec: VmSpec) -> dict[str, str]:
    """CPUs and memory of a VM."""
    return {"cores": str(spec.cpu_count), "sockets": "1", "memory": str(spec.memory_mib)}


def cards(spec: VmSpec, bridge: Callable[[NicSpec], str], config: Config) -> dict[str, str]:
    """A VM's interfaces; their cards as the template has them."""
    form = {}
    for place, nic in enumerate(spec.nics):
        model = str(config.get(f"net{place}") or config.get("net0") or "virtio=").partition("=")[0]
        form[f"net{place}"] = f"{model}={nic.mac.upper()},bridge={bridge(nic)}"
    return form


def disk(spec: VmSpec, storage: str, volume: str) -> dict[str, str]:
    """Of a VM whose disk is a copy of a cloud image, with a drive for cloud-init."""
    return {
        "scsihw": "virtio-scsi-single",
        "scsi0": f"{storage}:0,import-from={volume}",
        "ide2": f"{storage}:cloudinit",
        "boot": "order=scsi0",
        "ostype": "l26",
        "agent": "1",
        "name": dns_name(spec.hostname or spec.name),
    }


def container(spec: VmSpec, bridge: Callable[[NicSpec], str], storage: str, volume: str) -> dict[str, str]:
    """All of a container: unprivileged, and able to run systemd."""
    form = {
        "ostemplate": volume,
        "rootfs": f"{storage}:{spec.disk_gib}",
        "hostname": dns_name(spec.hostname or spec.name),
        "cores": str(spec.cpu_count),
        "memory": str(spec.memory_mib),
        "unprivileged": "1",
        "features": "nesting=1",
    }
    if spec.password is not None:
        form["password"] = spec.password
    if spec.ssh_keys:
        form["ssh-public-keys"] = "\n".join(spec.ssh_keys)
    for place, nic in enumerate(spec.nics):
        form[f"net{place}"] = (
            f"name=eth{place},bridge={bridge(nic)},hwaddr={nic.mac.upper()},type=veth,{addressed(nic)}"
        )
    return form | resolvers(spec)


def seed(spec: VmSpec) -> dict[str, str]:
    """What cloud-init tells the guest at its first boot."""
    told: dict[str, str] = {}
    if spec.password is not None or spec.ssh_keys:
        told["ciuser"] = spec.user
    if spec.password is not None:
        told["cipassword"] = spec.password
    if spec.ssh_keys:  # percent-encoded, and once more as all of a form is: PVE::JSONSchema, format urlencoded
        told["sshkeys"] = quote("\n".join(spec.ssh_keys), safe="")
    for place, nic in enumerate(spec.nics):
        told[f"ipconfig{place}"] = addressed(nic)
    return told | resolvers(spec)


def addressed(nic: NicSpec) -> str:
    """Addresses and gateways of an interface; DHCP for IPv4 where there is none."""
    parts = {}
    for text in nic.addresses:
        parts["ip" if ip_interface(text).version == 4 else "ip6"] = text
    for text in nic.gateways:
        parts["gw" if ip_interface(text).version == 4 else "gw6"] = text
    parts.setdefault("ip", "dhcp")
    return ",".join(f"{key}={value}" for key, value in sorted(parts.items()))


def resolvers(spec: VmSpec) -> dict[str, str]:
    """Name servers, each once."""
    servers = dict.fromkeys(text for nic in spec.nics for text in nic.dns)
    return {"nameserver": " ".join(servers)} if servers else {}
