"""A second real libvirtd, as on another machine: in namespaces of its own (network, mounts, processes), reached over a wire by
TLS and plain TCP. It shares nothing with this machine's libvirt but the disk, and all of it goes with one process."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import libvirt

from tests.certs import Made
from tests.leftovers import made_folder
from tests.live.namespaces import Beside, run
from tests.pki import Authority, write
from tests.process import mortal

TLS_PORT, TCP_PORT = 16514, 16509
OWN = ("run/libvirt", "var/lib/libvirt", "etc/libvirt", "var/cache/libvirt", "var/log/libvirt")
# The first process there: folders of its own over libvirt's, and devices without KVM (what this machine has for one kernels die
# in); then it waits for whoever ends.
FIRST = """
set -e
for place in {places}; do mount --bind {root}/$place /$place; done
mkdir {root}/dev
mount -t tmpfs -o mode=755 none {root}/dev
mkdir {root}/dev/net {root}/dev/pts {root}/dev/shm
for node in null zero full random urandom tty ptmx net/tun; do cp -a /dev/$node {root}/dev/$node; done
mount --bind /dev/pts {root}/dev/pts
mount --rbind {root}/dev /dev
touch {root}/ready
exec {python} -c '
import os, time
while True:
    try: os.waitpid(-1, 0)
    except ChildProcessError: time.sleep(0.05)
'
"""
CONFIG = """
listen_tls = 1
listen_tcp = 1
tls_port = "{tls}"
tcp_port = "{tcp}"
listen_addr = "{address}"
auth_tcp = "{auth_tcp}"
auth_unix_rw = "none"
auth_unix_ro = "none"
key_file = "{pki}/serverkey.pem"
cert_file = "{pki}/servercert.pem"
ca_file = "{pki}/cacert.pem"
tls_no_sanity_certificate = 1
host_uuid = "{uuid}"
"""
# There is no virtlogd; and /dev is private already, which libvirt would not do a second time
QEMU = """
stdio_handler = "file"
namespaces = []
"""


class FarLibvirt:
    """``start`` and ``stop`` it at will, with another certificate too; ``clean`` ends everything there."""

    def __init__(self, demo_image: Path, beside: Beside, *names: str) -> None:
        self.name = f"oit-{secrets.token_hex(3)}"
        self.folder = made_folder()
        self.root, self.pki = self.folder / "machine", self.folder / "pki"
        self.disks, self.images = self.folder / "disks", self.folder / "images"
        self.address = beside.address
        self.authority = Authority.new("Far authority")
        for folder in (self.disks, self.images, *(self.root / place for place in OWN)):
            folder.mkdir(parents=True, mode=0o755)
        for name in names:
            shutil.copyfile(demo_image, self.images / f"{name}.qcow2")
        (self.root / "etc/libvirt/qemu.conf").write_text(QEMU)
        self._uuid = str(uuid4())
        self._first = self._machine(beside.name)
        self.client = self.client_folder("client", self.authority.own, self.authority.client())

    def _machine(self, namespace: str) -> subprocess.Popen[bytes]:
        script = FIRST.format(root=self.root, places=" ".join(OWN), python=sys.executable)
        process = subprocess.Popen(
            [*mortal(), "ip", "netns", "exec", namespace, "unshare", "--mount", "--propagation",
             "private", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script]
        )  # fmt: skip
        deadline = time.monotonic() + 20
        while not (self.root / "ready").exists():
            assert process.poll() is None, "the namespaces could not be made"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return process

    def inside(self, *command: str, check: bool = True) -> str:
        """Run a command there; its output."""
        pid = Path(f"/proc/{self._first.pid}/task/{self._first.pid}/children").read_text().split()[0]
        return run("nsenter", "--target", pid, "--net", "--mount", "--pid", *command, check=check)

    def client_folder(self, name: str, authority: Made | None, own: Made | None) -> Path:
        """A folder for ``pkipath``."""
        return write(self.folder / "clients" / name, authority, own)

    def tls(self, folder: Path | None = None, *, address: str = "", port: int = TLS_PORT) -> str:
        """Its URI over TLS, with the certificates of a folder (none given: those that it takes)."""
        return f"qemu+tls://{address or self.address}:{port}/system?pkipath={folder or self.client}"

    def tcp(self) -> str:
        """Its URI over plain TCP."""
        return f"qemu+tcp://{self.address}:{TCP_PORT}/system"

    def host(self, address: str) -> dict[str, str]:
        """The fields of a host on it, as the API takes them."""
        return {
            "engine_type": "QEMUServer",
            "server_addr": address,
            "system_path": str(self.disks),
            "images_path": str(self.images),
            "network_nat": self.name,
        }

    def start(
        self, server: Made | Path | None = None, *, trusts: Made | None = None, more: str = "", auth_tcp: str = "none"
    ) -> None:
        """Start libvirtd with a certificate (a folder: those in it; none given: a good one). It takes clients of ``trusts``."""
        pki = server if isinstance(server, Path) else self.pki
        if not isinstance(server, Path):
            write(pki, trusts or self.authority.own, server or self.authority.server(self.address), "server")
        config = self.folder / "libvirtd.conf"
        config.write_text(
            CONFIG.format(tls=TLS_PORT, tcp=TCP_PORT, address=self.address, auth_tcp=auth_tcp, pki=pki, uuid=self._uuid)
            + more
        )
        self.inside("libvirtd", "--daemon", "--listen", "--config", str(config), "--pid-file", "/run/libvirt/own.pid")
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(libvirt.libvirtError), self.connected():
                return
            assert time.monotonic() < deadline, "libvirtd does not answer"
            time.sleep(0.1)

    def stop(self) -> None:
        """End libvirtd; its VMs run on."""
        self.inside("sh", "-c", "kill $(cat /run/libvirt/own.pid)")
        self._until_gone()

    def kill(self) -> None:
        """End it without a word."""
        self.inside("sh", "-c", "kill -9 $(cat /run/libvirt/own.pid)")
        self._until_gone()

    def _until_gone(self) -> None:
        deadline = time.monotonic() + 30
        while self.inside("sh", "-c", "kill -0 $(cat /run/libvirt/own.pid) 2>/dev/null && echo there", check=False):
            assert time.monotonic() < deadline, "libvirtd does not end"
            time.sleep(0.05)
        (self.root / "run/libvirt/own.pid").unlink(missing_ok=True)

    @contextlib.contextmanager
    def still(self) -> Iterator[None]:
        """Within, libvirtd is there and does nothing: the kernel takes connections, and nobody answers them."""
        self.inside("sh", "-c", "kill -STOP $(cat /run/libvirt/own.pid)")
        try:
            yield
        finally:
            self.inside("sh", "-c", "kill -CONT $(cat /run/libvirt/own.pid)")

    @contextlib.contextmanager
    def connected(self) -> Iterator[libvirt.virConnect]:
        """A connection beside the panel's, by its own socket."""
        conn = libvirt.open(f"qemu+unix:///system?socket={self.root}/run/libvirt/libvirt-sock")
        try:
            yield conn
        finally:
            conn.close()

    def domains(self) -> list[str]:
        """Names of its VMs."""
        with self.connected() as conn:
            return [domain.name() for domain in conn.listAllDomains()]

    def files(self) -> set[str]:
        """Names of the files in the disks folder."""
        return {path.name for path in self.disks.iterdir()}

    def clean(self) -> None:
        """End every process there, and remove the folders."""
        self._first.kill()
        self._first.wait(timeout=20)
        shutil.rmtree(self.folder)
