"""A VM's page: its tabs, its hardware and what waits for the next start, the picture of its screen, its end."""

from __future__ import annotations

import io
import re

import pytest
from PIL import Image

from panel.engines.fake.behaviour import Behaviour, Manner
from panel.engines.fake.world import FakeWorld
from panel.engines.types import PowerState
from panel.models import Task, TaskStatus, Vm
from panel.security import PANEL
from panel.services.container import Services
from tests.pages.conftest import Browser, until, vm_named

ON, OFF = "/hosts/alpha/vms/vm-0001", "/hosts/alpha/vms/vm-0004"
ISO = "virtio-win.iso"


async def done(services: Services, kind: str) -> None:
    """Wait for the latest task of a kind, which must succeed."""
    task = await Task.filter(kind=kind).order_by("-created_at").first()
    assert task is not None
    assert (await services.tasks.wait(task.id, 10)).status is TaskStatus.SUCCEEDED


def fact(html: str, name: str) -> str:
    """A line of the hardware, without its tags."""
    found = re.search(rf'<dd id="fact-{name}">(.*?)</dd>', html, re.S)
    assert found is not None
    return " ".join(re.sub(r"<[^>]*>", " ", found[1]).split())


async def test_tabs_are_named_so(browser: Browser, alpha: FakeWorld) -> None:
    """Seven, each an address of its own; what is no tab is the overview."""
    await browser.get(ON)
    tabs = re.search(r'<nav class="tabs".*?</nav>', browser.html, re.S)
    assert tabs is not None
    names = re.findall(r">([^<]+)</a>", tabs[0])
    assert names == ["Overview", "Console", "Hardware", "Network", "Snapshots", "Tasks", "Danger"]
    for name in (*names, "nonsense"):
        await browser.get(f"{ON}?tab={name.lower()}")
        assert browser.status == 200
        current = "Overview" if name == "nonsense" else name
        assert f'aria-current="page">{current}</a>' in browser.html


async def test_hardware_is_shown(browser: Browser, alpha: FakeWorld) -> None:
    """CPU, memory, disks with their files, cards with model, MAC and network."""
    await browser.get(f"{ON}?tab=hardware")
    assert fact(browser.html, "cpu_count") == "2"
    assert fact(browser.html, "memory_mib") == "2 GiB"
    assert fact(browser.html, "iso") == "no drive"
    assert fact(browser.html, "boot") == "Disk"
    for words in ("/fake/foreign/vm-0001.qcow2", "20 GiB", "52:54:01:00:00:01", "virtio", "fake-nat"):
        assert words in browser.text


async def test_a_cd_goes_in_and_out(browser: Browser, alpha: FakeWorld, services: Services) -> None:
    """At once where nothing runs; the drive that a running VM lacks is marked, and there after a stop."""
    await browser.get(f"{OFF}?tab=hardware")
    assert f'<option value="{ISO}">{ISO} · 708 MiB</option>' in browser.html
    await browser.post(f"{OFF}/iso", iso=ISO)
    await done(services, "vm.update")
    await browser.get(f"{OFF}?tab=hardware")
    assert fact(browser.html, "iso") == ISO
    assert f'<option value="{ISO}" selected>' in browser.html
    await browser.post(f"{OFF}/iso", iso=ISO)
    assert "Nothing was changed." in browser.text
    await browser.post(f"{OFF}/iso", iso="")
    await done(services, "vm.update")
    assert ((await vm_named("vm-0004")).hardware or {})["iso"] == ""

    await browser.get(f"{ON}?tab=hardware")
    await browser.post(f"{ON}/iso", iso=ISO)
    await done(services, "vm.update")
    await browser.get(f"{ON}?tab=hardware")
    assert fact(browser.html, "iso") == f"no drive {ISO} at the next start"
    assert f'<option value="{ISO}" selected>' in browser.html
    await browser.post(f"{ON}/power", action="stop")
    await done(services, "vm.power")
    await browser.get(f"{ON}?tab=hardware")
    assert fact(browser.html, "iso") == ISO
    assert "at the next start" not in browser.text


@pytest.mark.parametrize("name", ["nope.iso", "../../etc/passwd", "<script>", "x" * 5000])
async def test_only_listed_isos(browser: Browser, alpha: FakeWorld, name: str) -> None:
    """400, the message beside the field, and no task."""
    await browser.get(f"{OFF}?tab=hardware")
    await browser.post(f"{OFF}/iso", iso=name)
    assert browser.status == 400
    assert 'id="iso-error"' in browser.html
    assert "<script>alert" not in browser.html
    assert not await Task.exists(kind="vm.update")


async def test_boot_order_waits_for_the_next_start(browser: Browser, alpha: FakeWorld, services: Services) -> None:
    """Shown beside what it is now; the form holds what will be; chosen back, nothing waits."""
    await browser.get(f"{ON}?tab=hardware")
    await browser.post(f"{ON}/boot", boot_1="network", boot_2="disk", boot_3="")
    await done(services, "vm.update")
    await browser.get(f"{ON}?tab=hardware")
    assert fact(browser.html, "boot") == "Disk Network, Disk at the next start"
    assert "At the next start: Boot order." in browser.text
    await browser.post(f"{ON}/boot", boot_1="disk", boot_2="", boot_3="")
    await done(services, "vm.update")
    await browser.get(f"{ON}?tab=hardware")
    assert fact(browser.html, "boot") == "Disk"
    vm = await vm_named("vm-0001")
    assert (vm.pending, vm.planned) == ([], None)


@pytest.mark.parametrize(
    "places",
    [{"boot_1": ""}, {"boot_1": "disk", "boot_2": "disk"}, {"boot_1": "floppy"}],
    ids=["none", "twice", "unknown"],
)
async def test_bad_boot_orders(browser: Browser, alpha: FakeWorld, places: dict[str, str]) -> None:
    """Refused beside the field."""
    await browser.get(f"{OFF}?tab=hardware")
    await browser.post(f"{OFF}/boot", **({"boot_2": "", "boot_3": ""} | places))
    assert browser.status == 400
    assert 'id="boot_1-error"' in browser.html


async def test_fewer_cpus_are_marked(browser: Browser, alpha: FakeWorld, services: Services) -> None:
    """The form keeps what was asked for while it waits."""
    await browser.get(f"{ON}?tab=hardware")
    await browser.post(f"{ON}/update", vm_name="Machine vm-0001", cpu_num="1", ram_num="2048", hdd_num="20")
    assert browser.path == f"{ON}?tab=hardware"
    await done(services, "vm.update")
    await browser.get(f"{ON}?tab=hardware")
    assert fact(browser.html, "cpu_count") == "2 1 at the next start"
    assert re.search(r'name="cpu_num"[^>]*value="1"', browser.html)


async def test_every_action_checks_the_token(browser: Browser, alpha: FakeWorld) -> None:
    """CSRF, and a login."""
    await browser.get(ON)
    for action in ("update", "iso", "boot", "delete", "password", "power"):
        answer = await browser.post(f"{ON}/{action}", follow=False, csrf=False, confirm="vm-0001", action="stop")
        assert answer.status_code in {303, 403}
    assert not await Task.exists(kind="vm.update")
    assert not await Task.exists(kind="vm.delete")
    assert await Vm.exists(name="vm-0001")


async def test_danger_says_what_goes_and_what_stays(browser: Browser, alpha: FakeWorld, services: Services) -> None:
    """Disks of the panel's, snapshots, addresses and forwards by name; files of others stay; nothing else is dangerous there."""
    await browser.get(f"{ON}?tab=danger")
    assert "These files stay on the host" in browser.text
    assert "This cannot be undone. With the VM" in browser.text
    assert "disks is lost" not in browser.text, "they stay"
    assert "/fake/foreign/vm-0001.qcow2" in browser.text
    await browser.get("/vms/new")
    await browser.post(
        "/vms/new",
        vm_uuid="web-1",
        host="alpha",
        os_name="Debian 12",
        cpu_num="1",
        ram_num="512",
        hdd_num="5",
        net_mode="nat",
    )
    await done(services, "vm.create")
    await browser.get("/hosts/alpha/vms/web-1?tab=network")
    await browser.post(
        "/hosts/alpha/vms/web-1/forwards",
        protocol="tcp",
        external_port="20080",
        internal_port="80",
        internal_ip="",
        count="2",
    )
    await browser.get("/hosts/alpha/vms/web-1?tab=snapshots")
    await browser.post("/hosts/alpha/vms/web-1/snapshot", action="take", snapshot="before-upgrade")
    await done(services, "vm.snapshot")
    await browser.get("/hosts/alpha/vms/web-1?tab=danger")
    assert "what is on its disks is lost" in browser.text
    vm = await vm_named("web-1")
    goes = re.search(r'id="goes">(.*?)</dl>', browser.html, re.S)
    assert goes is not None
    assert f"web-1-{vm.ref}.qcow2" in goes[1]
    assert "TCP 20080–20081" in goes[1]
    assert "before-upgrade" in goes[1]
    assert "192.168.1." in goes[1]
    assert "These files stay" not in browser.text
    assert 'value="stop"' not in browser.html[browser.html.index('id="goes"') :].split("</main>")[0]


async def test_the_screen(browser: Browser, alpha: FakeWorld, stranger: Browser) -> None:
    """A fragment that names a small picture; the page itself has neither, but a place for them, and one picture for
    whoever has no JavaScript."""
    await browser.get(ON)
    assert f'hx-get="{ON}/screen"' in browser.html
    assert f'<noscript>  <img src="{ON}/screen/picture?n=0"'.replace("  ", "") in browser.html.replace("  ", "")
    await browser.get(f"{ON}/screen")
    assert (browser.status, "<html" in browser.html) == (200, False)
    found = re.search(r'<img src="([^"]+)"', browser.html)
    assert found is not None
    answer = await browser.client.get(found[1])
    data = await answer.get_data()
    assert answer.status_code == 200
    assert answer.content_type in {"image/png", "image/jpeg"}
    assert answer.headers["Cache-Control"] == "no-store"
    assert len(data) < 20_000
    assert Image.open(io.BytesIO(data)).width == 320


async def test_the_screen_is_for_whoever_is_logged_in(stranger: Browser, alpha: FakeWorld) -> None:
    for path in (f"{ON}/screen", f"{ON}/screen/picture"):
        answer = await stranger.client.get(path)
        assert answer.status_code in {302, 303, 401}


async def test_why_there_is_no_picture(browser: Browser, alpha: FakeWorld, services: Services) -> None:
    """Off, being made, disabled, a host that does not answer: said calmly, in the picture's place."""
    await browser.get(OFF)
    assert "The VM is not running, so it has no screen." in browser.text
    assert f'hx-get="{OFF}/screen"' not in browser.html
    await browser.get(f"{OFF}/screen")
    assert browser.status == 200
    assert "The VM is not running, so it has no screen." in browser.text
    await services.observer.stop()
    await Vm.filter(name="vm-0008").update(creating=True, state=PowerState.UNKNOWN)
    await browser.get("/hosts/alpha/vms/vm-0008")
    assert ("The VM is being made." in browser.text, "its host does not answer" in browser.text) == (True, False)
    alpha.behaviour = Behaviour(manner=Manner.REFUSING, only=frozenset({"screenshot"}))
    await browser.get(f"{ON}/screen")
    assert browser.status == 200
    assert "refuses connections" in browser.text
    assert "<img" not in browser.html
    await services.hosts.set_enabled(PANEL, "alpha", False)
    await browser.get(ON)
    assert "Host alpha is disabled. Enable it first." in browser.text
    assert "data-look" not in browser.html


async def test_a_hung_screen_hangs_no_page(browser: Browser, alpha: FakeWorld) -> None:
    alpha.behaviour = Behaviour(manner=Manner.HUNG, only=frozenset({"screenshot"}))
    for tab in ("overview", "console", "hardware", "danger"):
        await browser.get(f"{ON}?tab={tab}")
        assert browser.status == 200


async def test_freshness_in_the_head(browser: Browser, alpha: FakeWorld) -> None:
    """How long ago it was seen, which fits on a phone; whether it still should be."""
    await browser.get(ON)
    assert re.search(r'<span class="fresh-word">Seen</span> <time[^>]* data-relative', browser.html)
    alpha.behaviour = Behaviour(manner=Manner.REFUSING)

    async def lost() -> bool:
        return (await vm_named("vm-0001")).state is PowerState.UNKNOWN

    await until(lost)
    await browser.get(ON)
    assert re.search(r'<span class="fresh-word">Last seen</span> <time[^>]* data-relative', browser.html)
