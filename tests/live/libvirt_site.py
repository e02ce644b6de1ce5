"""A place on this machine's libvirt for one test module: folders and a network of its own, all removed afterwards."""

from __future__ import annotations

import secrets
import shutil
import subprocess
from pathlib import Path

from tests.leftovers import clear_rules, connected, made_folder, remove


class LibvirtSite:
    """Folders that QEMU can read, and a name for the network. ``clean`` removes every VM with a disk in them."""

    def __init__(self, demo_image: Path, *names: str) -> None:
        self.name = f"oit-{secrets.token_hex(3)}"
        self.folder = made_folder(self.name)
        self.disks, self.images = self.folder / "disks", self.folder / "images"
        for folder in (self.disks, self.images):
            folder.mkdir(mode=0o755)
        for name in names:
            shutil.copyfile(demo_image, self.images / f"{name}.qcow2")

    @property
    def host(self) -> dict[str, str]:
        """The fields of a host on this site, as the API takes them."""
        return {
            "engine_type": "QEMUServer",
            "server_addr": "",
            "system_path": str(self.disks),
            "images_path": str(self.images),
            "network_nat": self.name,
        }

    def make_network(self, gateway: str, prefix: int) -> None:
        """Define and start the site's NAT network, before the panel would make one of its own choice."""
        base = gateway.rpartition(".")[0]
        xml = (
            f"<network><name>{self.name}</name><forward mode='nat'/><ip address='{gateway}' prefix='{prefix}'>"
            f"<dhcp><range start='{base}.2' end='{base}.254'/></dhcp></ip></network>"
        )
        with connected() as conn:
            conn.networkDefineXML(xml).create()

    def domains(self) -> list[str]:
        """Names of the libvirt domains whose disks are here."""
        with connected() as conn:
            return [d.name() for d in conn.listAllDomains() if str(self.folder) in d.XMLDesc()]

    def files(self) -> set[str]:
        """Names of the files in the disks folder."""
        return {path.name for path in self.disks.iterdir()}

    def clean(self) -> None:
        """Remove VMs, pools, network and folders."""
        remove(self.folder, [self.name])
        clear_rules()


def ssh(address: str, password: str, command: str, *, timeout: int = 40) -> str:
    """Log in as root with a password and run a command; its output."""
    options = {
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null",
        "LogLevel": "ERROR",
        "ConnectTimeout": "10",
        "PreferredAuthentications": "password",
        "PubkeyAuthentication": "no",
    }
    flags = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    command_line = ["sshpass", "-p", password, "ssh", *flags, f"root@{address}", command]
    done = subprocess.run(command_line, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
