"""A real LXD of the tests' own: its folder, its socket, its port on loopback, its bridge; and images made here."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PASSWORD = "change-me-soon"
IMAGE, BIG_IMAGE, BARE_IMAGE = "tiny", "big", "bare"
POOL = "default"

# a guest: busybox with DHCP, a shell, and a chpasswd, which busybox does not have
INITTAB = "::sysinit:/etc/rcS\n::shutdown:/bin/sync\n"
RCS = """#!/bin/sh
PATH=/bin:/sbin
ip link set lo up
udhcpc -i eth0 -b -t 10 -T 1 -A 3 -S -s /etc/dhcp.sh >/dev/null 2>&1
"""
DHCP = """#!/bin/sh
case "$1" in
deconfig) ip addr flush dev $interface; ip link set $interface up;;
bound|renew) ip addr flush dev $interface; ip addr add $ip/${mask:-24} dev $interface
  [ -n "$router" ] && ip route replace default via ${router%% *};;
esac
exit 0
"""
CHPASSWD = """#!/bin/sh
IFS= read -r line
user=${line%%:*} password=${line#*:}
grep -q "^$user:" /etc/shadow || exit 1
hash=$(printf '%s\\n' "$password" | mkpasswd -m sha512)
awk -F: -v OFS=: -v user="$user" -v hash="$hash" '$1==user{$2=hash}1' /etc/shadow >/etc/shadow.new
chmod 600 /etc/shadow.new && mv /etc/shadow.new /etc/shadow
"""
PROFILE = "export PATH=/bin:/sbin PS1='# '\n"
# a guest in which nothing can be run, and which hears nothing
BARE = "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n"


def run(*command: str, env: dict[str, str] | None = None, given: str | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=env, input=given)
    assert done.returncode == 0, f"{command}: {done.stderr[-500:]}"
    return done.stdout


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def free_subnet() -> str:
    """The first three numbers of a /24 that no interface has."""
    taken = run("ip", "-4", "-o", "addr")
    return next(prefix for number in range(20, 250) if (prefix := f"10.213.{number}") not in taken)


class Lxd:
    """A running one. ``address`` is that of its HTTPS."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "lxd"
        self.folder.mkdir(mode=0o711)
        self.bridge = f"oi{os.getpid() % 0xFFFFF:x}br"
        self.subnet = free_subnet()
        self.address = f"127.0.0.1:{free_port()}"
        self.env = {**os.environ, "LXD_DIR": str(self.folder), "LXD_CONF": str(root / "conf")}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> str:
        return str(self.folder / "unix.socket")

    def start(self) -> None:
        """Start it, and give it a pool, a network, a password and the images."""
        log = self.root / "out.log"
        with log.open("wb") as out:
            command = ["lxd", "--logfile", str(self.root / "lxd.log")]
            self._process = subprocess.Popen(command, env=self.env, stdout=out, stderr=out, start_new_session=True)
        run("lxd", "waitready", "--timeout", "60", env=self.env)
        seed = {
            "config": {
                "core.https_address": self.address,
                "core.trust_password": PASSWORD,
                "images.auto_update_interval": "0",
            },
            "storage_pools": [{"name": POOL, "driver": "dir"}],
            "networks": [
                {
                    "name": self.bridge,
                    "type": "bridge",
                    "config": {
                        "ipv4.address": f"{self.subnet}.1/24",
                        "ipv4.nat": "true",
                        "ipv4.dhcp.ranges": f"{self.subnet}.2-{self.subnet}.90",
                        "ipv6.address": "none",
                    },
                }
            ],
            "profiles": [
                {
                    "name": "default",
                    "devices": {
                        "root": {"path": "/", "pool": POOL, "type": "disk"},
                        "eth0": {"name": "eth0", "network": self.bridge, "type": "nic"},
                    },
                }
            ],
        }
        run("lxd", "init", "--preseed", env=self.env, given=json.dumps(seed))
        for name, properties in ((IMAGE, ()), (BIG_IMAGE, ("openidcs.disk=5GiB",)), (BARE_IMAGE, ())):
            self.lxc("image", "import", str(made_image(self.root, name)), "--alias", name, *properties)

    def stop(self) -> None:
        """Stop it with all that runs in it, and take its bridge away."""
        if self._process is None:
            return
        for one in self.instances():
            subprocess.run(["lxc", "delete", "-f", one], env=self.env, capture_output=True, timeout=60, check=False)
        for command in (["lxc", "profile", "device", "remove", "default", "eth0"], ["lxc", "network", "delete", self.bridge],
                        ["lxd", "shutdown", "--timeout", "20"]):  # fmt: skip
            subprocess.run(command, env=self.env, capture_output=True, timeout=60, check=False)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        for name in ("shmounts", "devlxd", "guestapi"):
            subprocess.run(["umount", "-l", self.folder / name], capture_output=True, check=False)

    def lxc(self, *command: str) -> str:
        """What an operator types."""
        return run("lxc", *command, env=self.env)

    def api(self, path: str, method: str = "GET", body: Any = None) -> Any:
        """A question to the API beside the engine's."""
        data = ["-d", json.dumps(body)] if body is not None else []
        return json.loads(self.lxc("query", "-X", method, *data, path) or "null")

    def instances(self) -> list[str]:
        """Names of all instances."""
        return [path.rsplit("/", 1)[1] for path in self.api("/1.0/instances")]

    @property
    def fingerprint(self) -> str:
        """Of the certificate that it shows over HTTPS."""
        found = str(self.api("/1.0")["environment"]["certificate_fingerprint"]).upper()
        return ":".join(found[at : at + 2] for at in range(0, 64, 2))

    def token(self, name: str, *options: str) -> str:
        """A trust token, as an operator makes one."""
        return self.lxc("config", "trust", "add", "--name", name, "-q", *options).strip().splitlines()[-1]

    def rootfs(self, name: str) -> Path:
        """The instance's files."""
        return self.folder / "storage-pools" / POOL / "containers" / name

    def named(self, ref: str) -> str:
        """The instance with the panel's mark."""
        for one in self.api("/1.0/instances?recursion=1"):
            if one["config"].get("user.openidcs.ref") == ref:
                return str(one["name"])
        raise AssertionError(f"no instance of {ref}")

    def forward(self, listen: str, protocol: str, port: int, address: str, target: int) -> None:
        """Lead a port of the host to a guest, as an operator does."""
        path = f"/1.0/networks/{self.bridge}/forwards"
        if f"{path}/{listen}" not in self.api(path):
            self.lxc("network", "forward", "create", self.bridge, listen)
        ports = (protocol, str(port), address, str(target))
        self.lxc("network", "forward", "port", "add", self.bridge, listen, *ports)

    def forwards(self) -> dict[str, dict[int, str]]:
        """By address of the host, where its ports lead: ``ADDRESS:PORT``."""
        return {
            one["listen_address"]: {
                int(port["listen_port"]): f"{port['target_address']}:{port['target_port']}" for port in one["ports"]
            }
            for one in self.api(f"/1.0/networks/{self.bridge}/forwards?recursion=1")
        }

    def password_is(self, name: str, user: str, password: str) -> bool:
        """Whether the guest lets the user in with this."""
        shadow = self.lxc("file", "pull", f"{name}/etc/shadow", "-")
        hashed = next(line.split(":")[1] for line in shadow.splitlines() if line.startswith(f"{user}:"))
        parts = hashed.split("$")
        if len(parts) < 4:
            return False
        return run("openssl", "passwd", "-6", "-salt", parts[2], "-stdin", given=password + "\n").strip() == hashed


def made_image(folder: Path, name: str) -> Path:
    """An image as one tarball, made of this machine's busybox."""
    root = folder / f"image-{name}"
    rootfs = root / "rootfs"
    for part in ("bin", "sbin", "etc", "proc", "sys", "dev", "run", "tmp", "root", "var/log", "lib64", "mnt"):
        (rootfs / part).mkdir(parents=True)
    if name == BARE_IMAGE:
        run("cc", "-static", "-Os", "-o", str(rootfs / "sbin/init"), "-x", "c", "-", given=BARE)
    else:
        fill(rootfs)
    description = f"creation_date: 1700000000\narchitecture: x86_64\nproperties: {{description: {name} guest}}\n"
    (root / "metadata.yaml").write_text(description)
    packed = folder / f"{name}.tar"
    with tarfile.open(packed, "w") as tar:
        for part in ("metadata.yaml", "rootfs"):
            tar.add(root / part, part, filter=owned_by_root)
    shutil.rmtree(root)
    return packed


def fill(rootfs: Path) -> None:
    busybox = shutil.which("busybox")
    assert busybox
    shutil.copyfile(busybox, rootfs / "bin/busybox")
    (rootfs / "bin/busybox").chmod(0o755)
    for line in run("ldd", busybox).splitlines():
        for word in line.split():
            if word.startswith("/"):
                target = rootfs / word.removeprefix("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(word, target)
    for applet in run(busybox, "--list").split():
        if applet != "busybox":
            (rootfs / "bin" / applet).symlink_to("/bin/busybox")
    (rootfs / "sbin/init").symlink_to("/bin/busybox")
    files = {
        "etc/inittab": (INITTAB, 0o644),
        "etc/rcS": (RCS, 0o755),
        "etc/dhcp.sh": (DHCP, 0o755),
        "etc/profile": (PROFILE, 0o644),
        "etc/passwd": ("root:x:0:0:root:/root:/bin/sh\n", 0o644),
        "etc/group": ("root:x:0:\n", 0o644),
        "etc/shadow": ("root:*:19000:0:99999:7:::\n", 0o600),
        "sbin/chpasswd": (CHPASSWD, 0o755),
    }
    for path, (text, mode) in files.items():
        (rootfs / path).write_text(text)
        (rootfs / path).chmod(mode)


def owned_by_root(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    return info


@contextmanager
def lxd() -> Iterator[Lxd]:
    """A running LXD, gone afterwards."""
    root = Path(tempfile.mkdtemp(prefix="openidcs-lxd-", dir="/var/tmp"))
    root.chmod(0o711)  # containers' root is another user
    made = Lxd(root)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(root, ignore_errors=True)
