"""Adding a host by its engine's own fields, a host's page, tasks, and the log."""

from __future__ import annotations

import re
import socket
import threading
from pathlib import Path

from panel.engines.fake.behaviour import Behaviour, Manner
from panel.engines.fake.engine import FakeEngine
from panel.engines.fake.world import FakeWorld
from panel.models import Host, Task, TaskStatus, Vm
from panel.security import PANEL
from panel.services.container import Services
from panel.services.vms import VmRequest
from tests.pages.conftest import Browser, until, vm_named


async def test_form_has_the_fields_of_the_engine(browser: Browser) -> None:
    """Declared by the engine, not by the template."""
    await browser.get("/hosts/new?engine=fake")
    for item in FakeEngine.fields:
        assert f'name="{item.name}"' in browser.html
        assert item.label in browser.text
    await browser.get("/hosts/new?engine=libvirt")
    assert 'name="ssh_key_file"' in browser.html
    assert 'name="behaviour"' not in browser.html


async def test_connection_test(browser: Browser) -> None:
    """Says what it found, or what is wrong; stores nothing; keeps what was typed."""
    await browser.get("/hosts/new?engine=fake")
    fields = {"engine_type": "fake", "server_name": "new-1", "server_addr": "somewhere", "vms": "3", "test": "1"}
    await browser.post("/hosts/new", **fields)
    assert browser.status == 200
    assert "Connected to somewhere: Fake 1.0, 16 CPU cores, 64 GiB of memory." in browser.text
    assert "imaginary" in browser.text
    assert 'value="somewhere"' in browser.html
    await browser.post("/hosts/new", **(fields | {"behaviour": "refusing"}))
    assert browser.status == 400
    assert "refuses connections" in browser.text
    assert 'value="refusing"' in browser.html
    await browser.post("/hosts/new", **(fields | {"behaviour": "odd"}))
    assert 'id="behaviour-error"' in browser.html
    assert not await Host.exists()
    headers = {"HX-Request": "true"}
    form = fields | {"behaviour": "refusing", "csrf_token": browser.csrf}
    response = await browser.client.post("/hosts/new", form=form, headers=headers)
    assert response.status_code == 200, "htmx swaps only what succeeded"
    assert 'id="test-result"' in (await response.get_data()).decode()
    form = {"engine_type": "proxmox", "server_name": "new-1", "test": "1", "csrf_token": browser.csrf}
    response = await browser.client.post("/hosts/new", form=form, headers=headers)
    assert "Password or token secret: This is needed." in (await response.get_data()).decode(), "as the form calls it"


async def test_a_secret_that_must_be_typed_again_is_told(browser: Browser) -> None:
    """A form that is given back has no secrets: those that were typed say so, the others do not."""
    await browser.get("/hosts/new?engine=proxmox")
    fields = {"engine_type": "proxmox", "server_name": "a b", "server_addr": "pve", "server_user": "root@pam"}
    await browser.post("/hosts/new", **fields, server_pass="s3cret", ssh_pass="")
    assert (browser.status, "s3cret" in browser.html) == (400, False)
    assert browser.text.count("Type it again: what is secret is not sent back.") == 1
    assert re.search(r'id="server_pass-error">.*?Type it again', browser.html)
    await browser.get("/hosts/new?engine=proxmox")
    assert "Type it again" not in browser.text


async def test_a_certificate_that_is_missing_is_told_beside_the_address(browser: Browser, tmp_path: Path) -> None:
    """libvirt over TLS: what is wrong with the certificates stands where ``pkipath`` was typed."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=server.accept, daemon=True)
        thread.start()
        await browser.get("/hosts/new?engine=libvirt")
        address = f"qemu+tls://127.0.0.1:{server.getsockname()[1]}/system?pkipath={tmp_path}/none"
        fields = {"engine_type": "libvirt", "server_name": "new-1", "server_addr": address, "test": "1"}
        await browser.post("/hosts/new", **fields)
        thread.join(timeout=10)
    assert (browser.status, 'id="server_addr-error"' in browser.html) == (400, True)
    assert f"There is no folder {tmp_path}/none on the panel" in browser.text
    assert "pkipath" in browser.text


async def test_add_change_disable_delete(browser: Browser, services: Services) -> None:
    """The life of a host, by forms."""
    await browser.get("/hosts/new?engine=fake")
    fields = {"engine_type": "fake", "server_name": "new 1", "server_addr": "somewhere", "vms": "3"}
    await browser.post("/hosts/new", **fields)
    assert (browser.status, 'id="server_name-error"' in browser.html) == (400, True)
    await browser.post("/hosts/new", **(fields | {"server_name": "new-1"}))
    assert browser.path == "/hosts/new-1"
    assert "Added host new-1: Fake 1.0." in browser.text
    await browser.get("/hosts/new")
    await browser.post("/hosts/new", **(fields | {"server_name": "new-1"}))
    assert (browser.status, "There is a host new-1 already." in browser.text) == (400, True)
    await browser.get("/hosts/new-1?tab=settings")
    await browser.post("/hosts/new-1/update", server_addr="elsewhere", vms="x")
    assert (browser.status, 'id="vms-error"' in browser.html) == (400, True)
    assert 'value="elsewhere"' in browser.html
    await browser.post("/hosts/new-1/update", server_addr="elsewhere", vms="2")
    assert (await services.hosts.get("new-1")).address == "elsewhere"
    await browser.post("/hosts/new-1/disable")
    assert "This host is disabled" in browser.text
    await browser.post("/hosts/new-1/scan")
    assert "Host new-1 is disabled. Enable it first." in browser.text
    await browser.post("/hosts/new-1/enable")
    assert "Host new-1 is enabled." in browser.text
    await browser.get("/hosts/new-1?tab=settings")
    await browser.post("/hosts/new-1/delete", confirm="nope")
    assert (browser.status, 'id="confirm-error"' in browser.html) == (400, True)
    await browser.post("/hosts/new-1/delete", confirm="new-1")
    assert browser.path == "/hosts"
    assert not await Host.exists()


async def test_host_page(browser: Browser, alpha: FakeWorld, services: Services) -> None:
    """Capacity, VMs, images, and files that no VM uses."""
    alpha.add_disk("/fake/disks/left.qcow2", "nobody", 3 * 1024**3)
    services.observer.look_now((await services.hosts.get("alpha")).id, inventory=True)

    async def listed() -> bool:
        return bool((await services.hosts.get("alpha")).leftovers)

    await until(listed)
    await browser.get("/hosts/alpha")
    for words in ("Online", "Capacity", "16 cores", "Allocated to VMs: 75", "Virtual machines (30)", "Machine vm-0001"):
        assert words in browser.text, words
    await browser.get("/hosts/alpha?tab=images")
    for words in ("Windows 10 x64", "40 GiB", "330 MiB", "/fake/disks/left.qcow2", "3 GiB"):
        assert words in browser.text, words
    await browser.get("/hosts/alpha?tab=tasks")
    assert "30 VMs on the host, 30 new, 0 missing." in browser.text
    await browser.post("/hosts/alpha/scan")
    assert browser.path.startswith("/tasks/")


async def test_secrets_stay_on_the_server(browser: Browser, alpha: FakeWorld, services: Services) -> None:
    """A stored password is never written into a page."""
    host = await services.hosts.get("alpha")
    host.secret = services.box.seal("s3cret-pass")
    await host.save()
    for path in ("/hosts/alpha?tab=settings", "/hosts/alpha", "/hosts"):
        await browser.get(path)
        assert "s3cret-pass" not in browser.html
        assert host.secret not in browser.html


async def test_create_shows_progress_and_can_be_cancelled(
    browser: Browser, alpha: FakeWorld, services: Services
) -> None:
    """A VM that is being made is a row; cancelling its task removes it."""
    alpha.behaviour = Behaviour(manner=Manner.HUNG, only=frozenset({"create"}))
    host = await services.hosts.get("alpha")
    request = VmRequest("slow-1", "Slow", "Debian 12", 1, 512, 10)
    vm, task = await services.vms.create(PANEL, host, request)
    await browser.get("/vms?state=creating")
    assert re.findall(r'<tr id="vm-(\d+)"', browser.html) == [str(vm.id)]
    assert "Creating" in browser.text
    assert f"/tasks/{task.id}" in browser.html
    assert "<progress" in browser.html
    await browser.get("/hosts/alpha/vms/slow-1?tab=hardware")
    assert "Busy: Create a VM." in browser.text
    await browser.get(f"/tasks/{task.id}")
    assert "Cancel" in browser.text
    await browser.post(f"/tasks/{task.id}/cancel")
    assert "Asked the task to stop." in browser.text
    assert (await services.tasks.wait(task.id, 10)).status is TaskStatus.CANCELLED
    await browser.get(f"/tasks/{task.id}")
    assert "Cancelled" in browser.text
    await browser.post(f"/tasks/{task.id}/cancel")
    assert "has ended already" in browser.text
    assert not await Vm.exists(id=vm.id)


async def test_logs(browser: Browser, alpha: FakeWorld) -> None:
    """Who did what; searched and paged."""
    await browser.get("/logs?find=alpha")
    assert "Added the host." in browser.text
    assert "Logged in." not in browser.text
    for query in ("page=0", "page=9999", "page=x", "level=nonsense", "find=%25", "size=1"):
        await browser.get(f"/logs?{query}")
        assert browser.status == 200


async def test_failed_task_is_told(browser: Browser, alpha: FakeWorld, services: Services) -> None:
    """On its page and on the dashboard, with what to do."""
    alpha.behaviour = Behaviour(manner=Manner.FAILING, fail_at={"power": 1})
    await browser.get("/hosts/alpha/vms/vm-0004")
    await browser.post("/hosts/alpha/vms/vm-0004/power", action="start")
    task = await Task.get(kind="vm.power")
    await services.tasks.wait(task.id, 10)
    for path in (f"/tasks/{task.id}", "/"):
        await browser.get(path)
        assert "as told to. Change its behaviour and try again." in browser.text
    assert (await vm_named("vm-0004")).state == "stopped"
