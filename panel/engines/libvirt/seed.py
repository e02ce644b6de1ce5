"""The NoCloud seed: a small CD that tells cloud-init a new VM's name, password, SSH keys and network.

Formats: https://cloudinit.readthedocs.io/en/latest/reference/datasources/nocloud.html, network-config version 2, and
``chpasswd.list``, which every cloud-init since 0.7 reads. It also marks its VM's disk as the panel's: see
``storage.owned_by``.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from ipaddress import ip_interface

import pycdlib

from panel.engines.types import NicSpec, VmSpec
from panel.errors import InvalidInput

_LABEL = "cidata"
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_HOSTNAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*")
_ROOT_LOGIN = "/etc/ssh/sshd_config.d/10-openidcs.conf"


def hostname_of(spec: VmSpec) -> str:
    """The guest's host name: the given one, or one made of the VM's name. ``InvalidInput`` (``hostname``) if unfit."""
    if spec.hostname:
        if len(spec.hostname) > 253 or not _HOSTNAME.fullmatch(spec.hostname):
            raise InvalidInput(
                "{hostname} is not a host name: use letters, digits and hyphens.",
                field="hostname",
                hostname=spec.hostname,
            )
        return spec.hostname
    return re.sub(r"[^A-Za-z0-9]+", "-", spec.name).strip("-")[:63].strip("-") or "vm"


def check_login(user: str, password: str) -> None:
    """``InvalidInput`` for what no guest takes as user or password, or what cloud-init would take for something else."""
    if not _USER.fullmatch(user):
        raise InvalidInput("{user} is not a user name for a guest.", field="user", user=user)
    if not password or len(password) > 128 or not password.isprintable():
        raise InvalidInput("The password must be 1 to 128 printable characters.", field="os_pass")
    if password in {"R", "RANDOM"} or re.match(r"\$(1|2a|2y|5|6)(\$.+){2}", password):
        raise InvalidInput("The password looks like a hash. Choose another one.", field="os_pass")


def seed_files(spec: VmSpec) -> dict[str, str]:
    """The seed's files by name. Strings are quoted as JSON, which is YAML too."""
    hostname = json.dumps(hostname_of(spec))
    user_data = ["#cloud-config", f"hostname: {hostname}", "preserve_hostname: false"]
    if spec.password is not None:
        check_login(spec.user, spec.password)
        user_data += ["ssh_pwauth: true"]
        if spec.user == "root":
            user_data += ["write_files:", f"- path: {_ROOT_LOGIN}", '  content: "PermitRootLogin yes\\n"']
        # a block: YAML takes every printable character in it as it is
        user_data += ["chpasswd:", "  expire: false", "  list: |", f"    {spec.user}:{spec.password}"]
    if spec.password is not None or (spec.ssh_keys and spec.user == "root"):
        user_data.append("disable_root: false")
    if spec.ssh_keys:
        user_data += ["ssh_authorized_keys:", *(f"- {json.dumps(key)}" for key in spec.ssh_keys)]
    return {
        "meta-data": f"instance-id: {spec.ref}\nlocal-hostname: {hostname}\n",
        "user-data": "\n".join(user_data) + "\n",
        "network-config": "\n".join(network_config(spec.nics)) + "\n",
    }


def network_config(nics: Sequence[NicSpec]) -> list[str]:
    """The lines of ``network-config``, version 2, as cloud-init has understood it since 18.2: default routes are routes to
    ``0.0.0.0/0`` and ``::/0``, since ``gateway4`` is on its way out and the word ``default`` is young. Where the guest has a
    static IPv6 address, router advertisements are not followed: DHCPv6 would add an address that nobody gave it."""
    lines = ["version: 2", "ethernets:" if nics else "ethernets: {}"]
    for index, nic in enumerate(nics):
        versions = {ip_interface(text).version for text in nic.addresses}
        lines += [f"  nic{index}:", f'    match: {{macaddress: "{nic.mac}"}}']
        lines.append(f"    dhcp4: {'false' if 4 in versions else 'true'}")
        if 6 in versions:
            lines += ["    dhcp6: false", "    accept-ra: false"]
        if nic.addresses:
            lines += ["    addresses:", *(f"    - {json.dumps(text)}" for text in nic.addresses)]
        if nic.gateways:
            lines.append("    routes:")
        for gateway in nic.gateways:
            every = "::/0" if ":" in gateway else "0.0.0.0/0"
            lines.append(f"    - {{to: {json.dumps(every)}, via: {json.dumps(gateway)}}}")
        if nic.dns:
            lines += ["    nameservers:", f"      addresses: {json.dumps(nic.dns)}"]
    return lines


def seed_image(spec: VmSpec) -> bytes:
    """The seed as an ISO 9660 image with Joliet and Rock Ridge names, label ``cidata``. About 400 KiB, little of it used."""
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=_LABEL)
    for number, (name, text) in enumerate(seed_files(spec).items()):
        data = text.encode()
        iso.add_fp(io.BytesIO(data), len(data), f"/FILE{number}.;1", rr_name=name, joliet_path=f"/{name}")
    out = io.BytesIO()
    iso.write_fp(out)
    iso.close()
    return out.getvalue()
