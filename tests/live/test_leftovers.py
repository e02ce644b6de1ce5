"""What a killed test run leaves behind goes as the next one begins; what a run has that still goes on stays."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.leftovers import NOTE, connected, made_folder, remove, swept

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

RUN = """
import sys, time
from contextlib import closing
import libvirt
from tests.leftovers import URI, made_folder
name = sys.argv[1]
folder = made_folder(name)
(folder / "disk.qcow2").write_bytes(b"")
with closing(libvirt.open(URI)) as conn:
    conn.networkDefineXML(f"<network><name>{name}</name></network>")
    pool = f"<pool type='dir'><name>{name}</name><target><path>{folder}</path></target></pool>"
    conn.storagePoolDefineXML(pool).create()
    conn.defineXML(f'''<domain type='qemu'><name>{name}</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>
        <os><type arch='x86_64'>hvm</type></os><devices><disk type='file' device='disk'>
        <source file='{folder}/disk.qcow2'/><target dev='vda'/></disk></devices></domain>''').create()
print(folder, flush=True)
time.sleep(100)
"""
PARENT = """
import sys, time
from pathlib import Path
from tests.process import PanelProcess
panel = PanelProcess(Path(sys.argv[1]))
panel.start()
print(panel.pid, flush=True)
time.sleep(100)
"""


@pytest.fixture
def run(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A test run with a VM, a pool and a network, and its folder."""
    with started(RUN, f"olo-{tmp_path.stat().st_ino % 100_000}") as process:
        folder = Path(line(process))
        yield process, folder
        process.kill()
        process.wait(timeout=20)
    remove(folder, (folder / NOTE).read_text().splitlines()[1:] if folder.exists() else [])


def started(script: str, argument: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", script, argument], stdout=subprocess.PIPE, text=True)


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def names() -> set[str]:
    """Of all domains, pools and networks of this machine."""
    with connected() as conn:
        things = [*conn.listAllDomains(), *conn.listAllStoragePools(), *conn.listAllNetworks()]
        return {thing.name() for thing in things}


def test_a_killed_run(run: tuple[subprocess.Popen[str], Path]) -> None:
    process, folder = run
    name = (folder / NOTE).read_text().splitlines()[1]
    assert folder not in swept(), "it still goes on"
    assert name in names()
    process.kill()
    process.wait(timeout=20)
    assert folder in swept()
    assert name not in names()
    assert not folder.exists()


def test_a_folder_that_is_just_made() -> None:
    """Its note is not written yet."""
    folder = made_folder()
    try:
        (folder / NOTE).unlink()
        assert folder not in swept()
    finally:
        remove(folder)


def test_a_panel_ends_with_its_tests(tmp_path: Path) -> None:
    """However they end."""
    with started(PARENT, str(tmp_path)) as process:
        panel = int(line(process))
        assert Path(f"/proc/{panel}").exists()
        process.kill()
        process.wait(timeout=20)
        subprocess.run(["tail", f"--pid={panel}", "-f", "/dev/null"], timeout=20, check=True)  # else it times out
