"""Images sent to a libvirt host over SSH: a real sshd leads to this machine's libvirt, whose pool the panel sees as another's."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from panel.engines.imagetypes import ImagePut
from panel.engines.libvirt.engine import LibvirtEngine
from panel.engines.types import HostConnection
from panel.errors import Conflict
from tests.gateways.sshd import Sshd
from tests.live.engine_site import Report
from tests.live.libvirt_site import LibvirtSite
from tests.live.ssh_site import libvirt_of, trusting
from tests.process import PanelProcess, free_port

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

TOKEN = "ab12"
SENDER = """
import asyncio, sys
from pathlib import Path
from panel.engines.imagetypes import ImagePut
from panel.engines.libvirt.engine import LibvirtEngine
from panel.engines.types import HostConnection
from tests.live.engine_site import Report
address, folder, file, token = sys.argv[1:]
engine = LibvirtEngine(HostConnection("far", address, disks_path=folder + "/disks", images_path=folder + "/images"))
asyncio.run(engine.put_image(ImagePut(Path(file), "big.img", {"task": token}, token), Report()))
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URI of this machine's libvirt through an sshd of the test's own."""
    sshd = Sshd(tmp_path_factory.mktemp("sshd"), "", "127.0.0.1", free_port())
    sshd.start()
    with trusting(sshd, tmp_path_factory.mktemp("programs")):
        yield libvirt_of(sshd)
    sshd.stop()


@pytest.fixture
async def engine(site: LibvirtSite, address: str) -> AsyncIterator[LibvirtEngine]:
    made = LibvirtEngine(
        HostConnection(
            "far", address, disks_path=str(site.disks), images_path=str(site.images), options={"network_nat": site.name}
        )
    )
    await made.prepare()
    yield made
    await made.close()


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A raw disk of 4 GiB with 1 GiB in it: sent in some seconds."""
    file = tmp_path_factory.mktemp("big") / "big.img"
    with file.open("wb") as opened:
        opened.write(bytes(510) + b"\x55\xaa")
        for at in range(64):
            opened.seek((1 + at * 63) * 1024**2)
            opened.write(os.urandom(1024**2) * 16)
        opened.truncate(4 * 1024**3)
    yield file
    file.unlink()


def names(site: LibvirtSite) -> list[str]:
    return sorted(path.name for path in site.images.iterdir())


async def on_its_way(site: LibvirtSite) -> None:
    """Until some of ``big`` has come."""
    async with asyncio.timeout(60):
        while not (site.images / "big.img").exists() or (site.images / "big.img").stat().st_blocks < 100_000:
            await asyncio.sleep(0.02)


def vm_of(site: LibvirtSite, name: str) -> dict[str, object]:
    return {"vm_uuid": f"{site.name}-{name}", "os_name": "sent 1", "cpu_num": 1, "ram_num": 192, "hdd_num": 1}


def test_a_vm_boots_from_what_was_sent(site: LibvirtSite, address: str, demo_image: Path, tmp_path: Path) -> None:
    """A whole panel: the file of its machine comes into the far pool, byte by byte, and a VM runs from it."""
    panel = PanelProcess(tmp_path)
    panel.start()
    try:
        panel.ok("POST", "/api/server/create", {"server_name": "far"} | site.host | {"server_addr": address})
        panel.until("/api/server/detail/far", lambda host: host["health"] == "online")
        panel.cli("image", "add", str(demo_image), "--host", "far", "--name", "Sent 1")
        assert (site.images / "Sent-1.qcow2").read_bytes() == demo_image.read_bytes()
        assert not [name for name in names(site) if name.startswith(".")], "no mark is left, and nothing gathered here"
        assert not [path for path in (tmp_path / "data" / "images").rglob("*") if path.is_file()]
        assert "Sent 1" in panel.cli("image", "list", "--host", "far")
        panel.stop()
        panel.start()  # the images of a host are listed as the panel starts, and once a minute
        panel.seen_anew("far")
        made = panel.ok("POST", "/api/client/create/far?wait=100", vm_of(site, "far"))
        assert made["status"] == "succeeded", made
        disk = site.disks / f"{site.name}-far.qcow2"
        subprocess.run(["qemu-img", "compare", demo_image, disk], check=True, timeout=60)  # the rest of it is zeros
        panel.ok("DELETE", f"/api/client/delete/far/{site.name}-far?wait=60")
        # It runs from the same pool, not through SSH: a libvirt that is not of this machine is believed that it has KVM,
        # and under what this machine has for one kernels die
        panel.ok("POST", "/api/server/create", {"server_name": "near"} | site.host)
        panel.until("/api/server/status/near", lambda status: status["seen_at"])
        made = panel.ok("POST", "/api/client/create/near?wait=100", vm_of(site, "near") | {"start": True})
        assert made["status"] == "succeeded", made
        panel.until(f"/api/client/status/near/{site.name}-near", lambda status: status["agent"], 150)
        panel.ok("DELETE", f"/api/client/delete/near/{site.name}-near?wait=60")
    finally:
        panel.stop()


async def test_holes_stay_holes_and_it_goes_again(engine: LibvirtEngine, site: LibvirtSite, big: Path) -> None:
    report, before = Report(), names(site)
    work = asyncio.ensure_future(engine.put_image(ImagePut(big, "big.img", {"os_name": "Big"}, TOKEN), report))
    await on_its_way(site)
    assert "Big" not in {image.name for image in await engine.list_images()}, "not while it comes"
    await work
    assert report.steps > 1
    there = site.images / "big.img"
    assert (there.stat().st_size, there.stat().st_blocks * 512 < 1.2 * 1024**3) == (4 * 1024**3, True)
    assert await asyncio.to_thread(subprocess.call, ["cmp", "-s", there, big]) == 0
    assert "Big" in {image.name for image in await engine.list_images()}
    assert await engine.settle_image("big.img", TOKEN)
    await engine.remove_image("big.img")
    assert names(site) == before


async def test_cancelled_it_leaves_nothing(engine: LibvirtEngine, site: LibvirtSite, big: Path) -> None:
    before = names(site)
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    work = asyncio.ensure_future(engine.put_image(ImagePut(big, "big.img", {}, TOKEN), Report()))
    await on_its_way(site)
    began = time.monotonic()
    work.cancel()
    await asyncio.wait({work})
    assert (work.cancelled(), names(site)) == (True, before)
    assert time.monotonic() - began < 20
    del work  # its traceback holds what it waited for
    gc.collect()
    assert not complaints, "no trace of it in the log"


async def test_killed_it_is_hidden_and_then_gone(
    engine: LibvirtEngine, site: LibvirtSite, address: str, big: Path
) -> None:
    before = names(site)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SENDER, address, str(site.folder), str(big), TOKEN
    )
    await on_its_way(site)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    assert f".coming.{TOKEN}.big.img" in names(site)
    assert "big" not in {image.name for image in await engine.list_images()}
    with pytest.raises(Conflict, match="already"):
        await engine.put_image(ImagePut(big, "big.img", {}, "cd34"), Report())
    assert not await engine.settle_image("big.img", "cd34"), "another's token settles nothing"
    assert "big.img" in names(site)
    assert not await engine.settle_image("big.img", TOKEN)
    assert names(site) == before
