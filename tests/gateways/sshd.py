"""A real sshd of a test's own: in a network namespace, with keys, known hosts and a home of its own."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from pathlib import Path

from panel.engines.types import SshEndpoint

CONFIG = """
ListenAddress {address}
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
LogLevel ERROR
"""


def keygen(path: Path) -> str:
    """Make a key pair at ``path`` anew; the public half."""
    path.unlink(missing_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path], check=True, timeout=20)
    return path.with_suffix(".pub").read_text().strip()


class Sshd:
    """Listens on ``address``:``port`` of a namespace (empty: ours); ``start`` and ``stop`` it at will. ``home`` is a HOME that
    trusts it, ``more`` are lines of its configuration, ``hostname`` is what its machine is called (empty: as ours)."""

    def __init__(
        self, folder: Path, namespace: str, address: str, port: int = 2222, more: str = "", hostname: str = ""
    ) -> None:
        self.folder, self.address, self.port = folder, address, port
        self.home = folder / "home"
        self._namespace = namespace
        self._hostname = hostname
        self._process: subprocess.Popen[bytes] | None = None
        (self.home / ".ssh").mkdir(parents=True, mode=0o700)
        Path("/run/sshd").mkdir(exist_ok=True)  # its own folder, which a service manager would make
        (folder / "sshd_config").write_text(CONFIG.format(address=address, port=port, folder=folder) + more)
        (folder / "authorized_keys").write_text(keygen(folder / "key") + "\n")
        self.trust(self.new_host_key())

    @property
    def key(self) -> Path:
        """The private key that it lets in."""
        return self.folder / "key"

    @property
    def endpoint(self) -> SshEndpoint:
        """How to reach it."""
        return SshEndpoint(self.address, self.port, "root", str(self.key))

    @property
    def known_hosts(self) -> Path:
        """The known hosts of ``home``."""
        return self.home / ".ssh" / "known_hosts"

    def new_host_key(self) -> str:
        """Change the host's key (from the next start on); the public half."""
        return keygen(self.folder / "host_key")

    def trust(self, public: str) -> None:
        """Make a key the known one."""
        self.known_hosts.write_text(f"[{self.address}]:{self.port} {public}\n")

    def start(self) -> None:
        """Start it, and wait until it listens."""
        inside = ["ip", "netns", "exec", self._namespace] if self._namespace else []
        if self._hostname:
            rename = 'hostname "$1"; shift; exec "$@"'
            inside += ["unshare", "--uts", "sh", "-c", rename, "sh", self._hostname]
        command = [*inside, "/usr/sbin/sshd", "-D", "-e", "-f"]
        with (self.folder / "sshd.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, self.folder / "sshd_config"], stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection((self.address, self.port), timeout=2).close()
                return
            except OSError:
                assert self._process.poll() is None, (self.folder / "sshd.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)

    def stop(self) -> None:
        """End it and every connection of it."""
        if self._process is not None:
            children = subprocess.run(
                ["ps", "-o", "pid=", "--ppid", str(self._process.pid)], capture_output=True, text=True, check=False
            ).stdout.split()
            for pid in children:
                with contextlib.suppress(OSError):
                    subprocess.run(["kill", "-KILL", pid], check=False)
            self._process.kill()
            self._process.wait(timeout=10)
            self._process = None
