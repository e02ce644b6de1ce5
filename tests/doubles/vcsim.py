"""VMware's simulator as a server on this machine: built once from Debian's own govmomi, kept by the hash of what it is made of.

Packages ``golang-go`` and ``golang-github-vmware-govmomi-dev``; nothing is downloaded.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(Path(__file__).parent.glob("vcsim*.go"))
CACHE = ROOT / ".cache/vcsim"
PACKAGE = Path("/usr/share/gocode/src/github.com/vmware/govmomi/simulator")
BUILD_SECONDS = 900


def built() -> Path:
    """The program; compiled when there is none of this source and this govmomi. Two at once wait for one another."""
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in SOURCES))
    assert PACKAGE.is_dir(), "golang-github-vmware-govmomi-dev is missing: run 'make test' once, it installs it"
    for path in sorted(PACKAGE.glob("*.go")):
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
    CACHE.mkdir(parents=True, exist_ok=True)
    program = CACHE / f"vcsim-{digest.hexdigest()[:16]}"
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            _build(program)
    return program


def _build(program: Path) -> None:
    unfinished = program.with_suffix(".part")
    environment = os.environ | {
        "GO111MODULE": "off",
        "GOPATH": "/usr/share/gocode",
        "GOCACHE": str(CACHE / "go"),
        "GOFLAGS": "",
        "CGO_ENABLED": "0",
    }
    subprocess.run(
        ["go", "build", "-o", str(unfinished), *map(str, SOURCES)], env=environment, check=True, timeout=BUILD_SECONDS
    )
    for old in CACHE.glob("vcsim-*"):
        if old != unfinished:
            old.unlink()
    unfinished.rename(program)


@contextmanager
def vcsim(pem: Path, user: str, password: str, *, esx: bool = False, port: int = 0) -> Iterator[str]:
    """Its address, as ``https://127.0.0.1:PORT``. ``pem``: a key and its certificate. Its datastores are below a folder of its
    own, which goes with it."""
    with tempfile.TemporaryDirectory(prefix="vcsim-") as folder:
        command = [str(built()), "-listen", f"127.0.0.1:{port}", "-pem", str(pem), "-user", user]
        process = subprocess.Popen(
            [*command, "-esx"] if esx else command,
            env=os.environ | {"VCSIM_PASSWORD": password, "TMPDIR": folder},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            assert address, f"vcsim does not start on port {port}: it may be taken"
            yield f"https://{address}"
        finally:
            process.terminate()
            process.communicate(timeout=30)
