"""What a gateway is to hold is read beside whoever makes VMs."""

from __future__ import annotations

import pytest

from panel.engines.types import NicMode
from panel.errors import Conflict
from panel.gateways.types import Protocol
from panel.models import Forward, Host, Network, Nic, Vm
from panel.services import wishes
from panel.services.container import Services
from panel.services.forwards import ForwardRequest
from panel.services.wishes import read_wish
from tests.api.kit import make_vm
from tests.conftest import ADMIN, ApiClient


async def test_a_vm_that_comes_between_the_reads_is_for_the_next_time(
    services: Services, api: ApiClient, fake_host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_vm(api, "first")
    host = await services.hosts.get("host1")
    assert await Network.filter(host_id=host.id).exists()
    read = wishes._terms

    async def read_and_make(host_ids: list[int]) -> object:
        terms = await read(host_ids)
        if not await Vm.filter(name="second").exists():
            await make_vm(api, "second")
        return terms

    monkeypatch.setattr(wishes, "_terms", read_and_make)
    assert len((await read_wish([host.id])).ruleset.guests) == 1
    assert len((await read_wish([host.id])).ruleset.guests) == 2


async def unmanaged(ip: str = "10.1.0.5", **more: object) -> tuple[Vm, Forward]:
    """A VM on a host that gives no addresses, seen with one, and a forward to it. Nobody looks at the host."""
    number = await Vm.all().count()
    settings = {"engine": "proxmox", "address": "pve1", "user": "root@pam", "options": {"ssh_addr": "pve1"}}
    host, _new = await Host.get_or_create(name="pve", defaults=settings | {"enabled": False})
    values = {"title": "", "cpu_count": 1, "memory_mib": 1, "disk_gib": 1, "ref": f"r{number}"}
    vm = await Vm.create(host=host, name=f"vm-{number}", **values)
    mac = f"02:00:00:00:00:{number:02x}"
    wire = {"name": "eth0", "mode": NicMode.NAT, "mac": mac, "network": "vmbr1", "addresses": [f"{ip}/24"]}
    await Nic.create(vm=vm, **(wire | more))
    port = 8000 + number
    forward = await Forward.create(host=host, vm=vm, protocol="tcp", external_start=port, external_end=port,
                                   internal_ip=ip, internal_start=80)  # fmt: skip
    return vm, forward


async def left_out(forward: Forward) -> str:
    """Why it is not among the rules; empty when it is."""
    wish = await read_wish([forward.host_id])
    assert (forward.id in wish.left_out) != (str(forward.id) in [rule.id for rule in wish.ruleset.forwards])
    return str(wish.left_out.get(forward.id, ""))


async def test_an_address_that_was_only_seen_is_watched(services: Services) -> None:
    _vm, forward = await unmanaged()
    assert await left_out(forward) == ""
    await Nic.all().update(addresses=["fd00::5"])
    assert await left_out(forward) == "", "nothing of its family is seen: the guest is silent"
    await Nic.all().update(addresses=["10.1.0.6/24"])
    assert "no address of the VM any more" in await left_out(forward)
    await Nic.all().update(addresses=[])
    assert await left_out(forward) == ""
    _other, second = await unmanaged()
    assert "no address of the VM any more" in await left_out(forward), "somebody else has it"
    assert await left_out(second) == ""


async def test_an_interface_that_is_apart(services: Services) -> None:
    vm, forward = await unmanaged(apart="pve2")
    assert "The VM is on pve2, on a NAT network (vmbr1)" in await left_out(forward)
    vm = await services.vms.get("pve", vm.name)
    assert await services.forwards.own_addresses(vm) == []
    with pytest.raises(Conflict, match="pve2"):
        await services.forwards.add(ADMIN, vm, ForwardRequest(Protocol.TCP, 80))
    await Nic.all().update(apart="")
    assert await left_out(forward) == ""
    assert await services.forwards.own_addresses(vm) == ["10.1.0.5"]


@pytest.mark.parametrize(
    ("port", "held"),
    [("vnet3", False), ("veth1a2b3c4", False), ("tap101i0", True), ("veth101i0", True), ("oi-web", True)],
)
async def test_rules_hang_on_names_that_stay(services: Services, port: str, held: bool) -> None:
    """Of libvirt's and Docker's own choice another VM has them at its next start; Proxmox's say whose they are."""
    _vm, forward = await unmanaged(port=port)
    (guest,) = (await read_wish([forward.host_id])).ruleset.guests
    assert guest.interface == (port if held else None)
