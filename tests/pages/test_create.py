"""The page that makes a VM: checks, suggestions, capacity, the same request for the API, one VM for one form."""

from __future__ import annotations

import asyncio
import html
import json
import re
import shlex
from typing import Any

import pytest

from panel.engines.fake.images import IMAGES, images_of
from panel.engines.fake.world import FakeWorld
from panel.engines.hosttypes import Image
from panel.engines.types import EngineKind
from panel.models import Host, HostImage, Task, Vm
from panel.pages.families import family, suggested_disk
from panel.security import PANEL
from panel.services.container import Services
from panel.services.gateways import GatewayService
from panel.services.hosts import HostRequest
from tests.pages.conftest import Browser, until, vm_named
from tests.pages.test_vms import form_values

HTMX = {"HX-Request": "true"}


async def fresh(browser: Browser, path: str = "/vms/new") -> dict[str, str]:
    """What the form sends as it is first shown."""
    await browser.get(path)
    assert browser.status == 200
    return form_values(browser.html)


async def check(browser: Browser, fields: dict[str, str]) -> str:
    """The fragments that the page's script asks for."""
    form = fields | {"csrf_token": browser.csrf}
    response = await browser.client.post("/vms/new/check", form=form, headers=HTMX)
    assert response.status_code == 200
    return (await response.get_data()).decode()


def said(markup: str) -> dict[str, str]:
    """The messages beside the fields, by ``name-error`` or ``name-warning``."""
    found = re.findall(r'id="(\w+-(?:error|warning))"><svg.*?</svg>(.*?)</div>', markup, re.S)
    return {name: html.unescape(text) for name, text in found}


def shown(markup: str, part: str) -> str:
    """The text of a copyable block."""
    found = re.search(rf'<pre class="code" id="{part}"[^>]*>(.*?)</pre>', markup, re.S)
    assert found, f"no {part}"
    return html.unescape(found[1])


async def second_host(services: Services) -> Host:
    """Host ``beta``: no VMs, and one image that ``alpha`` has not got."""
    await services.hosts.create(PANEL, "beta", HostRequest(EngineKind.FAKE, address="beta"))
    host = await services.hosts.get("beta")

    async def seen() -> bool:
        return (await Host.get(id=host.id)).health == "online" and await HostImage.filter(host_id=host.id).count() == 5

    await until(seen)
    await HostImage.filter(host_id=host.id).exclude(name="Windows 10 x64").delete()
    return host


@pytest.mark.parametrize(
    ("title", "icon"),
    [("Debian 12", "debian"), ("debian-12-genericcloud-amd64", "debian"), ("Kubuntu 24.04", "ubuntu"),
     ("Alpine 3.20", "alpine"), ("Rocky Linux 9", "redhat"), ("AlmaLinux 9", "redhat"), ("Fedora-Cloud-41", "redhat"),
     ("CentOS Stream 9", "redhat"), ("Windows Server 2022", "windows"), ("win11", "windows"), ("WinSrv2019", "windows"),
     ("Twin peaks", "other"), ("Darwin 10", "other"), ("FreeBSD 14", "other"), ("", "other")],
)  # fmt: skip
def test_an_image_is_known_by_its_name(title: str, icon: str) -> None:
    assert family(Image(title, "disk.qcow2", "", "qcow2", 0, 1.0)).icon == icon


@pytest.mark.parametrize(
    ("name", "virtual", "disk"), [("Debian", 3.0, 20), ("Debian", 13.4, 30), ("Alpine", 0.2, 10), ("Windows", 40.0, 60)]
)
def test_a_suggested_disk_leaves_room(name: str, virtual: float, disk: int) -> None:
    assert suggested_disk(family(Image(name, "a", "", "raw", 0, virtual)), virtual) == disk


async def test_images_are_radio_cards_with_icon_and_sizes(browser: Browser, alpha: FakeWorld) -> None:
    await fresh(browser)
    cards = re.findall(r'<label class="pick">(.*?)</label>', browser.html, re.S)
    assert len(cards) == len(IMAGES) + 1
    assert all('type="radio" name="os_name"' in card for card in cards)
    assert [re.findall(r"systems\.svg#(\w+)", card)[0] for card in cards] == ["debian", "ubuntu", "windows", "empty"]
    assert "590 MiB file" in cards[1]
    assert "3.5 GiB disk" in cards[1]
    assert "ubuntu</span>" in cards[1]
    assert re.search(r'<fieldset[^>]*role="radiogroup"', browser.html)
    icons = await browser.client.get(re.findall(r'href="([^"#]*systems\.svg)#', browser.html)[0])
    for name in {re.findall(r"systems\.svg#(\w+)", card)[0] for card in cards} | {"alpine", "redhat", "other"}:
        assert f'id="{name}"'.encode() in await icons.get_data()


async def test_a_first_look_has_no_errors(browser: Browser, alpha: FakeWorld) -> None:
    """And the name has the focus."""
    await fresh(browser)
    assert not [name for name in said(browser.html) if name.endswith("-error")]
    assert re.search(r'<input[^>]* id="vm_uuid"[^>]* autofocus', browser.html)
    assert len(re.findall(r"<input[^>]* autofocus", browser.html)) == 1


async def test_only_fields_that_were_left_are_told(browser: Browser, alpha: FakeWorld) -> None:
    fields = await fresh(browser) | {"vm_uuid": "", "mac_addr": "zz"}
    for left in ("", "mac_addr", "mac_addr vm_uuid"):
        told = said(await check(browser, fields | {"left": left}))
        assert {name for name in told if name.endswith("-error")} == {f"{name}-error" for name in left.split()}


@pytest.mark.parametrize(
    ("field", "value"),
    [("vm_uuid", ""), ("vm_uuid", "a b"), ("vm_uuid", "vm-0001"), ("cpu_num", "two"), ("cpu_num", "0"),
     ("ram_num", "1"), ("hdd_num", "1"), ("mac_addr", "zz"), ("mac_addr", "52:54:01:00:00:01"),
     ("net_mode", "carrier-pigeon"), ("host", "nope"), ("vm_name", "x" * 201), ("os_pass", "x" * 129),
     ("ssh_keys", "ssh-rsa AAAA"), ("web_num", "-1"), ("flu_num", "99999999999")],
)  # fmt: skip
async def test_a_check_says_what_create_says(browser: Browser, alpha: FakeWorld, field: str, value: str) -> None:
    fields = await fresh(browser) | {"vm_uuid": "web-1"} | {field: value}
    checked = said(await check(browser, fields | {"left": field}))
    await browser.post("/vms/new", **fields)
    assert browser.status == 400
    assert checked[f"{field}-error"] == said(browser.html)[f"{field}-error"]
    assert not await Vm.exists(name="web-1")


async def test_keys_are_given_where_the_engine_can(browser: Browser, alpha: FakeWorld, services: Services) -> None:
    """One on each line. A host that cannot has no field, and says why."""
    body = "AAAAC3NzaC1lZDI1NTE5AAAAIBx1TnRCfQ3lCJGPxD7xhN6Dqpb0V9EB3tLBqJZ9Yw8m"
    fields = await fresh(browser) | {"vm_uuid": "web-1", "ssh_keys": f"\r\nssh-ed25519 {body} me\r\n\r\n"}
    part = await check(browser, fields)
    assert json.loads(shown(part, "new-json"))["ssh_keys"] == [f"ssh-ed25519 {body} me"]
    await browser.post("/vms/new", **fields)

    async def made() -> bool:
        return any(vm.ssh_keys == [f"ssh-ed25519 {body} me"] for vm in alpha.vms.values())

    await until(made)
    await Host.create(name="box", engine=EngineKind.DOCKER, address="tcp://127.0.0.1:1", enabled=False)
    part = await check(browser, await fresh(browser) | {"host": "box"})
    assert 'id="new-keys"' in part
    assert 'name="ssh_keys"' not in part
    assert "no SSH server as a rule" in part


async def test_all_that_is_wrong_is_told_at_once(browser: Browser, alpha: FakeWorld) -> None:
    """Each message is tied to its control, and the first of them has the focus."""
    wrong = {"vm_uuid": "a b", "vm_name": "x\ty", "cpu_num": "0", "ram_num": "1", "hdd_num": "x", "mac_addr": "zz"}
    fields = await fresh(browser) | wrong
    await browser.post("/vms/new", **fields)
    assert browser.status == 400
    assert {f"{name}-error" for name in wrong} <= set(said(browser.html))
    kept = form_values(browser.html)
    for name, value in wrong.items():
        assert kept[name] == value
        control = re.search(rf'<input[^>]* id="{name}"[^>]*>', browser.html)
        assert control
        assert 'aria-invalid="true"' in control[0]
        assert f'aria-describedby="{name}-error ' in control[0] or f'aria-describedby="{name}-error"' in control[0]
    assert re.search(r'<input[^>]* id="vm_uuid"[^>]* autofocus', browser.html)
    assert kept["form_key"] == fields["form_key"]


async def test_check_without_javascript_is_a_page(browser: Browser, alpha: FakeWorld, services: Services) -> None:
    """With everything as typed, except a password; another host shows its own images."""
    await second_host(services)
    fields = await fresh(browser, "/vms/new?host=alpha") | {"vm_uuid": "a b", "os_pass": "p4ss w0rd", "host": "beta"}
    await browser.post("/vms/new/check", **fields)
    assert browser.status == 200
    assert "<title>" in browser.html
    assert "vm_uuid-error" in said(browser.html)
    kept = form_values(browser.html)
    assert (kept["vm_uuid"], kept["host"], kept["os_name"]) == ("a b", "beta", "Windows 10 x64")
    assert "p4ss w0rd" not in browser.html


async def test_a_check_makes_nothing_and_needs_the_token(browser: Browser, alpha: FakeWorld) -> None:
    fields = await fresh(browser) | {"vm_uuid": "web-1"}
    await check(browser, fields)
    assert not await Vm.exists(name="web-1")
    response = await browser.client.post("/vms/new/check", form=fields, headers=HTMX)
    assert response.status_code == 403


async def test_the_host_with_most_room_is_chosen(browser: Browser, alpha: FakeWorld, services: Services) -> None:
    """And one that does not answer, or is disabled, is not, however much it has."""
    assert (await fresh(browser))["host"] == "alpha"
    beta = await second_host(services)
    assert (await fresh(browser))["host"] == "beta"
    assert (await fresh(browser, "/vms/new?host=alpha"))["host"] == "alpha"
    await Host.filter(id=beta.id).update(enabled=False)
    assert (await fresh(browser))["host"] == "alpha"


async def test_a_disabled_host_says_so_beside_it(browser: Browser, alpha: FakeWorld, services: Services) -> None:
    beta = await second_host(services)
    fields = await fresh(browser, "/vms/new?host=beta") | {"vm_uuid": "web-1"}
    await Host.filter(id=beta.id).update(enabled=False)
    told = said(await check(browser, fields | {"left": "host"}))
    assert "disabled" in told["host-error"]
    await browser.post("/vms/new", **fields)
    assert (browser.status, said(browser.html)["host-error"]) == (400, told["host-error"])


async def test_capacity_is_what_the_database_says(browser: Browser, alpha: FakeWorld) -> None:
    host = await Host.get(name="alpha")
    assert host.status
    given = sum(await Vm.filter(host_id=host.id).values_list("cpu_count", flat=True))  # type: ignore[arg-type]
    fields = await fresh(browser)
    rows = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', browser.html, re.S)
    assert [name for name, _cells in rows] == ["CPUs", "Memory", "Disk"]
    cells = re.findall(r"<td[^>]*>(.*?)</td>", rows[0][1])
    assert cells == [str(host.status["cpu_count"]), str(given), str(max(0, host.status["cpu_count"] - given))]
    await Host.filter(id=host.id).update(status=None)
    assert "its capacity is not known" in await check(browser, fields)


async def test_more_than_is_free_warns_and_is_made(browser: Browser, services: Services) -> None:
    await second_host(services)
    fields = await fresh(browser)
    assert not said(browser.html)
    fields |= {"vm_uuid": "big", "ram_num": str(512 * 1024)}
    told = said(await check(browser, fields | {"left": "ram_num"}))
    assert "The host may run out of memory." in told["ram_num-warning"]
    assert "ram_num-warning" not in said(await check(browser, fields | {"ram_num": "16"}))
    await browser.post("/vms/new", **fields)
    assert browser.path == "/hosts/beta/vms/big"


async def test_sizes_follow_the_image_until_they_are_changed(browser: Browser, alpha: FakeWorld) -> None:
    fields = await fresh(browser)
    assert [fields[name] for name in ("cpu_num", "ram_num", "hdd_num")] == ["2", "2048", "20"]
    answer = await check(browser, fields | {"os_name": "Windows 10 x64", "cpu_num": "6"})
    assert re.search(r'name="ram_num"[^>]*value="4096"', answer)
    assert re.search(r'name="hdd_num"[^>]*value="60"', answer)
    assert re.search(r'name="cpu_num"[^>]*value="6"', answer)
    answer = await check(browser, fields | {"cpu_num": "6"})
    assert 'name="cpu_num"' not in answer, "the same image: nothing is written over what is being typed"
    await browser.post("/vms/new", **(fields | {"os_name": "Windows 10 x64", "vm_uuid": "win-1"}))
    vm = await vm_named("win-1")
    assert (vm.memory_mib, vm.disk_gib, vm.os_name) == (4096, 60, "Windows 10 x64")


async def test_only_another_host_brings_other_images(browser: Browser, alpha: FakeWorld, services: Services) -> None:
    await second_host(services)
    fields = await fresh(browser, "/vms/new?host=alpha")
    assert 'type="radio"' not in await check(browser, fields)
    answer = await check(browser, fields | {"host": "beta"})
    assert re.findall(r'type="radio" name="os_name" value="([^"]*)"', answer) == ["Windows 10 x64", ""]
    assert "Capacity of beta" in answer


async def test_summary_says_what_will_be_made(browser: Browser, alpha: FakeWorld) -> None:
    fields = await fresh(browser) | {"vm_uuid": "web-1", "vm_name": "<b>Shop</b>", "ram_num": "3072", "start": ""}
    answer = await check(browser, fields)
    summary = answer[answer.index('id="new-summary"') : answer.index('id="new-api"')]
    text = html.unescape(" ".join(re.sub(r"<[^>]*>", " ", summary).split()))
    for words in ("web-1", "<b>Shop</b>", "alpha", "Debian 12 (bookworm)", "3 GiB", "20 GiB", "192.168.1.0/24", "root",
                  "Left off"):  # fmt: skip
        assert words in text


async def test_the_json_is_taken_by_the_api(browser: Browser, alpha: FakeWorld) -> None:
    """The very JSON and URL that the page shows, for a form with everything in it. The password and token are not in them."""
    fields = await fresh(browser) | {
        "vm_uuid": "it-1", "vm_name": "Bob's 'shop' $HOME", "cpu_num": "3", "ram_num": "1024", "hdd_num": "25",
        "mac_addr": "52:54:00:aa:bb:cc", "os_pass": "p4ss w0rd", "net_mode": "nat", "start": "1",
        "speed_u": "100", "flu_num": "0", "nat_num": "0", "web_num": "3",
    }  # fmt: skip
    answer = await check(browser, fields)
    assert "p4ss w0rd" not in answer
    assert browser.token not in answer
    body = json.loads(shown(answer, "new-json"))
    words = shlex.split(shown(answer, "new-curl").replace("\\\n", " "))
    assert words[:3] == ["curl", "-X", "POST"]
    assert json.loads(words[-1]) == body
    assert "Authorization: Bearer $TOKEN" in words
    assert words[3].startswith("http://")
    path = "/" + words[3].split("/", 3)[3]
    response = await browser.client.post(path, json=body, headers={"Authorization": f"Bearer {browser.token}"})
    assert response.status_code == 200, await response.get_json()
    vm = await vm_named("it-1")
    assert (vm.title, vm.cpu_count, vm.memory_mib, vm.disk_gib) == ("Bob's 'shop' $HOME", 3, 1024, 25)
    assert vm.nics[0].mac == "52:54:00:aa:bb:cc"  # type: ignore[index]
    assert vm.limits == {"speed_u": 100, "nat_num": 0, "web_num": 3}


async def test_limits_are_part_of_the_form(browser: Browser, alpha: FakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folded up until there are some; rates only where something sees them."""
    fields = await fresh(browser)
    fold = re.compile(r'<details class="card-fold"( open)?>')
    assert fold.findall(browser.html) == [""]
    given = fields | {"vm_uuid": "web-1", "speed_d": "30", "nat_num": "2"}
    summary = re.sub(r"<[^>]*>|\s+", " ", await check(browser, given))
    assert "Rate to the VM: 30 Mbit/s" in summary
    await browser.post("/vms/new", **(given | {"web_num": "many"}))
    assert browser.status == 400
    assert fold.findall(browser.html) == [" open"], "what is wrong is seen"
    await browser.post("/vms/new", **given)
    assert (await vm_named("web-1")).limits == {"speed_d": 30, "nat_num": 2}
    monkeypatch.setattr(GatewayService, "limits", lambda _self, _host: False)
    assert not {"speed_u", "speed_d", "flu_num"} & set(await fresh(browser))
    assert "speed_u" not in await check(browser, await fresh(browser) | {"left": "web_num"})


async def test_the_first_look_is_a_request_too(browser: Browser, alpha: FakeWorld) -> None:
    """Without a name, which the API then makes; and where a size is no number there is none to show."""
    fields = await fresh(browser)
    body = json.loads(shown(browser.html, "new-json"))
    response = await browser.client.post(
        "/api/client/create/alpha", json=body, headers={"Authorization": f"Bearer {browser.token}"}
    )
    assert response.status_code == 200
    assert "It is shown when sizes and limits are numbers." in await check(browser, fields | {"cpu_num": "two"})


async def test_a_form_sent_twice_makes_one_vm(browser: Browser, alpha: FakeWorld) -> None:
    """At the same moment, and later again: all lead to the same VM."""
    fields = await fresh(browser) | {"vm_uuid": "web-1", "csrf_token": browser.csrf}

    async def send() -> Any:
        return await browser.client.post("/vms/new", form=fields)

    answers = [*await asyncio.gather(*(send() for _ in range(4))), await send()]
    assert {answer.status_code for answer in answers} == {303}
    assert {answer.headers["Location"] for answer in answers} == {"/hosts/alpha/vms/web-1"}
    assert await Vm.filter(name="web-1").count() == 1
    assert await Task.filter(kind="vm.create").count() == 1


async def test_the_same_form_with_another_name_makes_another(browser: Browser, alpha: FakeWorld) -> None:
    """And a new form with a name that is taken is refused."""
    fields = await fresh(browser) | {"csrf_token": browser.csrf}
    for name in ("web-1", "web-2"):
        response = await browser.client.post("/vms/new", form=fields | {"vm_uuid": name})
        assert response.headers["Location"] == f"/hosts/alpha/vms/{name}"
    again = await fresh(browser)
    assert again["form_key"] != fields["form_key"]
    await browser.post("/vms/new", **(again | {"vm_uuid": "web-1"}))
    assert (browser.status, "already" in said(browser.html)["vm_uuid-error"]) == (400, True)


async def test_a_name_that_was_deleted_is_free_for_the_same_form(
    browser: Browser, alpha: FakeWorld, services: Services
) -> None:
    fields = await fresh(browser) | {"vm_uuid": "web-1", "csrf_token": browser.csrf}
    for _ in range(2):
        response = await browser.client.post("/vms/new", form=fields)
        assert response.status_code == 303
        task = await Task.filter(kind="vm.create").order_by("-created_at").first()
        assert task
        assert (await services.tasks.wait(task.id, 10)).status == "succeeded"
        gone = await services.vms.delete(PANEL, await vm_named("web-1"))
        assert (await services.tasks.wait(gone.id, 10)).status == "succeeded"
    assert await Task.filter(kind="vm.create").count() == 2


async def test_hostile_image_names_are_text(
    browser: Browser, services: Services, alpha: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = "<img src=x onerror=alert(1)>\"'"
    hostile = Image(name=bad, key="bad", title=bad, format="qcow2", size_bytes=1, virtual_gib=1.0)
    monkeypatch.setattr("panel.engines.fake.engine.images_of", lambda *places: [*images_of(*places), hostile])
    services.observer.look_now((await Host.get(name="alpha")).id, inventory=True)
    await until(lambda: HostImage.exists(key="bad"))
    fields = await fresh(browser)
    assert "<img src=x" not in browser.html
    answer = await check(browser, fields | {"os_name": bad})
    assert "<img src=x" not in answer
    assert json.loads(shown(answer, "new-json"))["os_name"] == bad


async def test_messages_call_fields_in_the_readers_language(browser: Browser, alpha: FakeWorld) -> None:
    browser.headers["Accept-Language"] = "zh"
    await browser.post("/vms/new", **(await fresh(browser) | {"vm_uuid": "a b", "ram_num": "1"}))
    told = said(browser.html)
    assert told["vm_uuid-error"].startswith("名称")
    assert told["ram_num-error"].startswith("内存")


async def test_a_password_that_must_be_typed_again_is_told(browser: Browser, alpha: FakeWorld) -> None:
    """The page does not send it back, and an empty field is taken as it is: that is said until it is typed again."""
    fields = await fresh(browser) | {"vm_uuid": "a b", "os_pass": "s3cret-1"}
    await browser.post("/vms/new", **fields)
    assert (browser.status, "s3cret-1" in browser.html) == (400, False)
    assert "Type the password again" in said(browser.html)["os_pass-warning"]
    assert "with the image's password" in browser.text, "what would be made now"
    given = form_values(browser.html) | {"vm_uuid": "ab"}
    assert "os_pass-warning" in said(await check(browser, given))
    assert "os_pass-warning" not in said(await check(browser, given | {"os_pass": "s3cret-1"}))
    await browser.post("/vms/new", **(await fresh(browser) | {"vm_uuid": "a b"}))
    assert "os_pass-warning" not in said(browser.html), "none was typed"
