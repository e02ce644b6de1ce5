"""``openidcs image``: files become images of a real host; what is no image does not."""

from __future__ import annotations

import lzma
import subprocess
from pathlib import Path

import pytest

from tests.live.libvirt_site import LibvirtSite
from tests.process import PanelProcess

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]


def test_add_lists_and_boots_from(panel: PanelProcess, site: LibvirtSite, demo_image: Path) -> None:
    panel.cli("image", "add", str(demo_image), "--host", "host1", "--name", "My Linux 1")
    assert "My Linux 1" in panel.cli("image", "list", "--host", "host1")
    assert list((site.images / ".incoming").iterdir()) == [], "no half copy is left"
    body = {"vm_uuid": f"{site.name}-img", "os_name": "my linux 1", "cpu_num": 1, "ram_num": 96, "hdd_num": 1}
    status, envelope = panel.api("POST", "/api/client/create/host1?wait=60", body)
    if status == 400:  # the panel lists images once a minute: the message names those it knows
        assert "Windows 10 x64" in envelope["msg"]
        panel.stop()
        panel.start()
        panel.seen_anew("host1")
        panel.ok("POST", "/api/client/create/host1?wait=60", body)
    panel.ok("DELETE", f"/api/client/delete/host1/{site.name}-img")


def test_a_packed_image_boots(panel: PanelProcess, site: LibvirtSite, demo_image: Path, tmp_path: Path) -> None:
    """The demo image as distributions publish theirs: what comes out is what was packed, whole, and a VM runs from it."""
    packed = tmp_path / "demo.qcow2.xz"
    packed.write_bytes(lzma.compress(demo_image.read_bytes(), preset=1))
    panel.cli("image", "add", str(packed), "--host", "host1", "--name", "Packed 1")
    made = site.images / "Packed-1.qcow2"
    assert made.read_bytes() == demo_image.read_bytes()
    assert made.read_bytes()[:4] == b"QFI\xfb"
    subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", made], check=True, timeout=60)
    assert list((site.images / ".incoming").iterdir()) == []
    panel.stop()
    panel.start()  # the images of a host are listed as the panel starts, and once a minute
    panel.seen_anew("host1")
    body = {
        "vm_uuid": f"{site.name}-xz",
        "os_name": "packed 1",
        "cpu_num": 1,
        "ram_num": 96,
        "hdd_num": 1,
        "start": True,
    }
    panel.ok("POST", "/api/client/create/host1?wait=60", body)
    panel.until(f"/api/client/status/host1/{site.name}-xz", lambda status: status["cpu_usage"] is not None)
    panel.ok("DELETE", f"/api/client/delete/host1/{site.name}-xz?wait=60")


def test_what_is_no_disk_image_is_refused(panel: PanelProcess, site: LibvirtSite, tmp_path: Path) -> None:
    backed = tmp_path / "backed.qcow2"
    base = tmp_path / "base.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", base, "1M"], check=True, timeout=30)
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, backed], check=True, timeout=30
    )
    before = sorted(path.name for path in site.images.iterdir() if path.is_file())
    for file, words in ((backed, "backing file"), (tmp_path, "")):
        with pytest.raises(subprocess.CalledProcessError) as caught:
            panel.cli("image", "add", str(file), "--host", "host1", "--name", "bad")
        assert words in caught.value.stderr
    assert sorted(path.name for path in site.images.iterdir() if path.is_file()) == before


def test_builds_the_demo_image(panel: PanelProcess, site: LibvirtSite) -> None:
    panel.cli("image", "build-demo", "--host", "host1")
    assert "OpenIDCS Demo Linux" in panel.cli("image", "list", "--host", "host1")
    assert (site.images / "openidcs-demo.qcow2").stat().st_size > 5_000_000
