"""What cloud-init tells a new guest: its name, password, SSH keys and network, through VMware's ``guestinfo`` (no CD is needed).

Format: https://cloudinit.readthedocs.io/en/latest/reference/datasources/vmware.html (cloud-init 21.3 and newer). cloud-init
removes the user data from there once it has read it (``cleanup-guestinfo``), and with it the password.
"""

from __future__ import annotations

import base64
import re
from ipaddress import ip_interface
from typing import Any

import orjson

from panel.engines.types import NicSpec, VmSpec
from panel.errors import InvalidInput
from panel.i18n import gettext_noop as _

METADATA, USERDATA = "guestinfo.metadata", "guestinfo.userdata"
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")


def entries(spec: VmSpec) -> dict[str, str]:
    """What to write into the VM's advanced settings. ``InvalidInput`` for a login that no guest takes."""
    metadata = {
        "instance-id": spec.ref,
        "local-hostname": hostname_of(spec),
        "network": {"version": 2, "ethernets": ethernets(spec.nics)},
        "cleanup-guestinfo": ["userdata"],
    }
    told = {METADATA: _packed(metadata), f"{METADATA}.encoding": "base64"}
    login: dict[str, Any] = {}
    if spec.password is not None:
        check_login(spec.user, spec.password)
        login = by_password(spec.user, spec.password)
    if spec.ssh_keys:
        login |= {"ssh_authorized_keys": list(spec.ssh_keys)} | ({"disable_root": False} if spec.user == "root" else {})
    if login:
        told |= {USERDATA: _packed(login, head="#cloud-config\n"), f"{USERDATA}.encoding": "base64"}
    return told


def by_password(user: str, password: str) -> dict[str, Any]:
    """A login with a password. JSON is YAML too."""
    told: dict[str, Any] = {
        "ssh_pwauth": True,
        "disable_root": False,
        "chpasswd": {"expire": False, "list": f"{user}:{password}\n"},
    }
    if user == "root":
        login = {"path": "/etc/ssh/sshd_config.d/10-openidcs.conf", "content": "PermitRootLogin yes\n"}
        told["write_files"] = [login]
    return told


def ethernets(nics: tuple[NicSpec, ...]) -> dict[str, Any]:
    """``network-config``, version 2."""
    told: dict[str, Any] = {}
    for place, nic in enumerate(nics):
        versions = {ip_interface(text).version for text in nic.addresses}
        one: dict[str, Any] = {"match": {"macaddress": nic.mac}, "dhcp4": 4 not in versions}
        if 6 in versions:
            one |= {"dhcp6": False, "accept-ra": False}
        if nic.addresses:
            one["addresses"] = list(nic.addresses)
        if nic.gateways:
            one["routes"] = [{"to": "::/0" if ":" in via else "0.0.0.0/0", "via": via} for via in nic.gateways]
        if nic.dns:
            one["nameservers"] = {"addresses": list(nic.dns)}
        told[f"nic{place}"] = one
    return told


def hostname_of(spec: VmSpec) -> str:
    """The guest's host name: the given one, or one made of the VM's name."""
    return spec.hostname or re.sub(r"[^A-Za-z0-9]+", "-", spec.name).strip("-")[:63].strip("-") or "vm"


def check_login(user: str, password: str) -> None:
    """``InvalidInput`` for what no guest takes as user or password, or what cloud-init would take for something else."""
    if not _USER.fullmatch(user):
        raise InvalidInput(_("{user} is not a user name for a guest."), field="user", user=user)
    if not password or len(password) > 128 or not password.isprintable():
        raise InvalidInput(_("The password must be 1 to 128 printable characters."), field="os_pass")
    if password in {"R", "RANDOM"} or re.match(r"\$(1|2a|2y|5|6)(\$.+){2}", password):
        raise InvalidInput(_("The password looks like a hash. Choose another one."), field="os_pass")


def _packed(values: Any, head: str = "") -> str:
    return base64.b64encode(head.encode() + orjson.dumps(values)).decode()
