"""The network of a VM: what it should have and has, and the forms that change it."""

from __future__ import annotations

import re

import pytest

from panel.engines.fake.world import FakeWorld
from panel.engines.types import EngineKind
from panel.errors import EngineFailure
from panel.gateways.memory import MemoryGateway
from panel.models import Forward, Host, Nic, Vm
from panel.security import PANEL
from panel.services.container import Services
from panel.services.vms import VmRequest
from tests.pages.conftest import Browser

TAB = "/hosts/alpha/vms/web?tab=network"
BASE = "/hosts/alpha/vms/web"


async def make(services: Services) -> None:
    host = await services.hosts.get("alpha")
    _vm, task = await services.vms.create(PANEL, host, VmRequest("web", "Web", "Debian 12", 1, 256, 4, start=True))
    assert (await services.tasks.wait(task.id, 5)).status == "succeeded"


async def test_add_and_remove(browser: Browser, alpha: FakeWorld, services: Services) -> None:
    await make(services)
    await browser.get(TAB)
    assert "192.168.1.2" in browser.text
    assert "has it" in browser.text
    await browser.post(
        f"{BASE}/forwards", protocol="tcp", external_port="", internal_port="80", count="1", internal_ip=""
    )
    assert (browser.status, browser.path) == (200, TAB)
    assert "tcp 20000" in browser.text
    assert "192.168.1.2 : 80" in browser.text
    forward = await Forward.get()
    await browser.post(f"{BASE}/forwards/0/remove", id=str(forward.id + 1))
    assert "another forward by now" in browser.text
    await browser.post(f"{BASE}/forwards/0/remove", id=str(forward.id))
    assert "no longer leads" in browser.text
    await browser.post(f"{BASE}/addresses", interface="eth0", ip_address="192.168.1.9")
    assert "192.168.1.9 belongs to the VM" in browser.text
    assert "Set it up inside the guest" in browser.text
    found = re.findall(r'name="id" value="(\d+)"', browser.html)
    await browser.post(f"{BASE}/addresses/1/remove", id=found[-1])
    assert "192.168.1.9 is free again" in browser.text


async def test_a_vm_that_forwards_do_not_reach(browser: Browser, alpha: FakeWorld, services: Services) -> None:
    await make(services)
    await services.observer.stop()
    await Nic.all().update(apart="node2", network="nat7")
    await browser.get(TAB)
    assert "The VM is on node2, on a NAT network (nat7)" in browser.text


async def test_what_is_wrong_stands_beside_its_field(browser: Browser, alpha: FakeWorld, services: Services) -> None:
    await make(services)
    await browser.get(TAB)
    fields = {"protocol": "tcp", "external_port": "1880", "internal_port": "80", "count": "1", "internal_ip": ""}
    await browser.post(f"{BASE}/forwards", **fields)
    assert browser.status == 400
    assert re.search(r'id="external_port-error".*the panel', browser.html.replace("\n", ""))
    assert 'value="1880"' in browser.html
    await browser.post(f"{BASE}/addresses", interface="eth0", ip_address="10.0.0.1")
    assert re.search(r'id="ip_address-error".*192.168.1.0/24', browser.html.replace("\n", ""))


async def test_not_applied_and_why(browser: Browser, alpha: FakeWorld, services: Services) -> None:
    await make(services)
    _machine, gateway = services.gateways.of(await Host.get(name="alpha"))
    assert isinstance(gateway, MemoryGateway)
    gateway.failure = EngineFailure("nft broke.")
    await browser.get(TAB)
    await browser.post(
        f"{BASE}/forwards", protocol="udp", external_port="", internal_port="53", count="1", internal_ip=""
    )
    assert "not applied" in browser.text
    assert "nft broke." in browser.text


@pytest.mark.parametrize(
    ("address", "forwards_need", "domains_need"),
    [
        ("", "", "start the panel with PANEL_PROXY=1"),
        ("qemu+ssh://root@node7/system", "", "only on the machine that it runs on"),
        ("qemu+tls://node7/system", "Forwards need SSH to the host", "only on the machine that it runs on"),
    ],
    ids=["this machine", "over SSH", "without SSH"],
)
async def test_what_a_host_cannot_have(
    browser: Browser, services: Services, address: str, forwards_need: str, domains_need: str
) -> None:
    """Forwards need the machine or SSH to it, domains the machine itself: each form says what it needs, or can be sent."""
    host = await Host.create(name="far", engine=EngineKind.LIBVIRT, address=address)  # by nobody that would look at it
    await Vm.create(host=host, name="web", ref="r", cpu_count=1, memory_mib=64)
    await browser.get("/hosts/far/vms/web?tab=network")
    assert browser.status == 200
    for action, need in (("forwards", forwards_need), ("domains", domains_need)):
        form = browser.html.partition(f'action="/hosts/far/vms/web/{action}"')[2].partition("</form>")[0]
        said = re.search(r'<span class="why">(.*?)</span>', form)
        assert bool(re.search(r"<button[^>]* disabled", form)) is bool(need)
        assert bool(said) is bool(need)
        assert need in (said[1] if said else "")
        assert "Add" in form
    if forwards_need:
        await browser.post(
            "/hosts/far/vms/web/forwards", protocol="tcp", external_port="", internal_port="80", count="1"
        )
        assert (browser.status, forwards_need in browser.text) == (400, True)
    await browser.post("/hosts/far/vms/web/domains", domain="www.example.com", target_port="80")
    assert (browser.status, domains_need in browser.text) == (400, True)
