"""Docker and Podman daemons of a test's own: sockets, storage and networks in a folder of theirs, gone with it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any

CHPASSWD = """#!/bin/sh
while IFS=: read -r u p; do
  grep -q "^$u:" /etc/shadow || { echo "no user $u" >&2; exit 1; }
  h=$(mkpasswd -m sha512 "$p")
  awk -F: -v OFS=: -v u="$u" -v h="$h" '$1==u{$2=h}1' /etc/shadow >/etc/shadow.n && mv /etc/shadow.n /etc/shadow
done
"""
TINY, STILL, BIG = "tiny:1", "still:1", "big:1"
LISTENS = 'trap "exit 0" TERM; while :; do sleep 1 & wait; done'
COMMANDS = {
    TINY: ["/bin/sh", "-c", LISTENS],
    STILL: [
        "/busybox",
        "sleep",
        "infinity",
    ],  # the first process of a container ignores signals that it does not ask for
}
CHAINS = frozenset({"DOCKER", "DOCKER-USER", "DOCKER-ISOLATION-STAGE-1", "DOCKER-ISOLATION-STAGE-2"})
PODMAN_CONF = """
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=16384:16384"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "netavark"
network_config_dir = "{root}/networks"
"""


def run(*command: str, check: bool = True, stdin: bytes | None = None, env: dict[str, str] | None = None) -> str:
    """A program's output."""
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=120, check=False, env=env)
    assert not check or done.returncode == 0, f"{command}: {done.stderr.decode(errors='replace')}"
    return done.stdout.decode(errors="replace")


def rootfs(folder: Path) -> dict[str, Path]:
    """Two file systems, as archives: one with a shell and chpasswd, one with a single program."""
    busybox = shutil.which("busybox")
    assert busybox, "the package busybox is not installed"
    made = {}
    for image, path in ((TINY, folder / "tiny"), (STILL, folder / "still")):
        inside = path / ("bin/busybox" if image == TINY else "busybox")
        inside.parent.mkdir(parents=True)
        shutil.copy(busybox, inside)
        linked = subprocess.run(["ldd", busybox], capture_output=True, text=True, check=False).stdout
        for word in linked.split():
            if word.startswith("/"):
                target = path / word.lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(word, target)
        if image == TINY:
            furnish(path)
        archive = folder / f"{path.name}.tar"
        run("tar", "-C", str(path), "-cf", str(archive), ".")
        made[image] = archive
    return made


def furnish(path: Path) -> None:
    """What a small system has."""
    for name in run("busybox", "--list").split():
        if name != "busybox":
            (path / "bin" / name).symlink_to("/bin/busybox")
    for name in ("etc", "root", "tmp", "usr/sbin", "proc", "sys", "dev", "www"):
        (path / name).mkdir(parents=True, exist_ok=True)
    (path / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (path / "etc/group").write_text("root:x:0:\n")
    (path / "etc/shadow").write_text("root:*:19000:0:99999:7:::\n")
    (path / "etc/profile").write_text("export LANG=C\n")  # Debian's busybox shows ? for what is not Latin, in others
    (path / "www/index.html").write_text("hello from the container\n")
    program = path / "usr/sbin/chpasswd"
    program.write_text(CHPASSWD)
    program.chmod(0o755)


class Daemon:
    """A daemon that listens at ``socket``; ``cli`` runs its own client. ``local`` stands before the names
    of images made there."""

    local = ""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.socket = root / "api.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """What starts it."""
        raise NotImplementedError

    def client(self) -> list[str]:
        """What speaks to it."""
        raise NotImplementedError

    @property
    def env(self) -> dict[str, str]:
        """Of the daemon and its client."""
        return dict(os.environ)

    def cli(self, *words: str, check: bool = True, stdin: bytes | None = None) -> str:
        """The output of its client."""
        return run(*self.client(), *words, check=check, stdin=stdin, env=self.env)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.root / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, env=self.env, start_new_session=True
            )
        deadline = time.monotonic() + 60
        while not self.answers():
            assert self._process.poll() is None, (self.root / "log").read_text()[-3000:]
            assert time.monotonic() < deadline, "the daemon does not answer"
            time.sleep(0.1)

    def answers(self) -> bool:
        """Whether it serves."""
        try:
            return bool(self.api("/version"))
        except (OSError, http.client.HTTPException):
            return False

    def api(self, path: str) -> Any:
        """What it says, by its API: quicker than its client."""
        there = http.client.HTTPConnection("docker", timeout=30)
        there.sock = socket.socket(socket.AF_UNIX)
        there.sock.settimeout(30)
        try:
            there.sock.connect(str(self.socket))
            there.request("GET", path)
            answer = there.getresponse()
            return json.loads(answer.read()) if answer.status == 200 else None
        finally:
            there.close()

    def stop(self) -> None:
        """End it."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(timeout=10)

    def load(self, archives: dict[str, Path]) -> None:
        """Make images of file systems."""
        for image, archive in archives.items():
            changes = [f"CMD {json.dumps(COMMANDS[image])}", *(["VOLUME /data"] if image == STILL else [])]
            options = [word for change in changes for word in ("--change", change)]
            self.cli("import", *options, str(archive), image)
        self.cli("tag", TINY, BIG)

    def clear(self) -> None:
        """Remove all that is in it."""
        for number in self.cli("ps", "-aq", check=False).split():
            self.cli("rm", "-f", "-v", number, check=False)
        for name in self.cli("network", "ls", "--format", "{{.Name}}", check=False).split():
            if name not in {"bridge", "host", "none", "podman"}:
                self.cli("network", "rm", name, check=False)
        for name in self.cli("volume", "ls", "-q", check=False).split():
            self.cli("volume", "rm", "-f", name, check=False)


class Docker(Daemon):
    """dockerd without the usual bridge: it may run beside another."""

    def __init__(self, root: Path, **settings: object) -> None:
        super().__init__(root)
        self._settings = settings
        self._policy = ""
        self._foreign = False

    def command(self) -> list[str]:
        hosts = [f"unix://{self.socket}", *self._settings.get("hosts", [])]  # type: ignore[misc]
        config = {
            "data-root": str(self.root / "data"), "exec-root": str(self.root / "run"), "pidfile": str(self.root / "pid"),
            "bridge": "none", "insecure-registries": ["127.0.0.0/8"],
        }  # fmt: skip
        path = self.root / "daemon.json"
        path.write_text(json.dumps(config | self._settings | {"hosts": hosts}))
        return ["dockerd", "--config-file", str(path)]

    def client(self) -> list[str]:
        return ["docker", "-H", f"unix://{self.socket}"]

    def start(self) -> None:
        rules = run("iptables-save", "-t", "filter", check=False)
        self._policy = "DROP" if ":FORWARD DROP" in rules else "ACCEPT"
        self._foreign = ":DOCKER " in rules
        super().start()

    def stop(self) -> None:
        super().stop()
        if not self._foreign:
            run("iptables", "-P", "FORWARD", self._policy, check=False)
            for table in ("filter", "nat"):
                take_away(table, CHAINS)


def take_away(table: str, chains: Set[str]) -> None:
    """Remove chains of iptables, and what leads to them."""
    for line in run("iptables-save", "-t", table, check=False).splitlines():
        words = shlex.split(line)
        if line.startswith("-A ") and words[1] not in chains and chains & {words[-1]}:
            run("iptables", "-t", table, "-D", *words[1:], check=False)
    for option in ("-F", "-X"):
        for chain in chains:
            run("iptables", "-t", table, option, chain, check=False)


def chains_of(table: str, prefix: str) -> set[str]:
    """iptables' chains whose names begin so."""
    lines = run("iptables-save", "-t", table, check=False).splitlines()
    return {line[1:].split()[0] for line in lines if line.startswith(f":{prefix}")}


class Podman(Daemon):
    """podman's API service."""

    local = "localhost/"

    @property
    def env(self) -> dict[str, str]:
        return dict(os.environ) | {"CONTAINERS_CONF": str(self.root / "containers.conf")}

    def start(self) -> None:
        self._before = {table: chains_of(table, "NETAVARK") for table in ("filter", "nat")}
        super().start()

    def stop(self) -> None:
        super().stop()
        for table, before in self._before.items():
            take_away(table, chains_of(table, "NETAVARK") - before)

    def client(self) -> list[str]:
        return ["podman", "--root", str(self.root / "data"), "--runroot", str(self.root / "run")]

    def command(self) -> list[str]:
        (self.root / "containers.conf").write_text(PODMAN_CONF.format(root=self.root))
        return [*self.client(), "system", "service", "--time=0", f"unix://{self.socket}"]


def end_monitors(root: Path) -> None:
    """Podman's monitors wait for minutes after what they watched has ended."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal() or int(folder.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            program = Path(os.fsdecode(words[0])).name
            if program in {"conmon", "aardvark-dns"} and any(str(root).encode() in word for word in words):
                os.kill(int(folder.name), signal.SIGKILL)


@contextlib.contextmanager
def daemon(kind: type[Daemon] = Docker, **settings: object) -> Iterator[Daemon]:
    """A started daemon with the tests' images, whose traces go with it."""
    root = Path(tempfile.mkdtemp(prefix="openidcs-oci-", dir="/var/tmp"))
    made = kind(root, **settings)
    try:
        made.start()
        try:
            with tempfile.TemporaryDirectory() as folder:
                made.load(rootfs(Path(folder)))
            yield made
        finally:
            made.clear()
    finally:
        made.stop()
        end_monitors(root)
        for line in Path("/proc/self/mounts").read_text().splitlines()[::-1]:
            if line.split()[1].startswith(str(root)):
                run("umount", "-l", line.split()[1], check=False)
        shutil.rmtree(root, ignore_errors=True)
