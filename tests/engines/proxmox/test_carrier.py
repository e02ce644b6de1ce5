"""Which machine leads the ports, and whose guests it reaches: a shell in place of SSH, the double's bridges, real routes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from panel.engines.common.ssh import Answer, SshConnection
from panel.engines.proxmox.engine import ProxmoxEngine
from panel.engines.types import HostConnection, NicMode, NicObservation, SshEndpoint, VmObservation
from panel.errors import HostUnreachable, InvalidInput
from tests.contract.kit import Recorder

from .kit import Double, machine, spec

ROUTES = {
    "10.20.0.5": "10.20.0.0/24 via 192.0.2.3 dev vmbr0 ",
    "10.20.0.6": "10.20.0.0/24 dev vmbr1 proto kernel scope link src 10.20.0.1 ",
    "10.20.0.7": "default via 192.0.2.1 dev vmbr0 ",
    "10.20.0.8": "RTNETLINK answers: Network is unreachable",
}


class Shell:
    """What SSH would answer."""

    def __init__(self, hostname: str) -> None:
        self.hostname, self.away, self.asked = hostname, False, 0

    async def execute(self, _command: str, stdin: bytes, _seconds: float) -> Answer:
        self.asked += 1
        if self.away:
            raise HostUnreachable("The SSH connection broke.")
        routes = "".join(f"\n{ROUTES.get(text, 'default via 192.0.2.1')}\n" for text in stdin.decode().split())
        return Answer(0, f"{self.hostname}\n{routes}".encode(), b"")


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, double: Double) -> Shell:
    monkeypatch.setattr(double.world, "boot_seconds", 0.0)  # an agent that is silent is not asked again for a minute
    made = Shell("pve1.example.org")
    monkeypatch.setattr(SshConnection, "execute", lambda _self, *call: made.execute(*call))
    return made


async def seen(engine: ProxmoxEngine, ref: str, good: Callable[[VmObservation], object]) -> NicObservation:
    """Its interface, once it is as wanted: SSH is asked in the background."""
    for _attempt in range(100):
        found = next(vm for vm in await engine.observe() if vm.ref == ref)
        if good(found):
            return found.nics[0]
        await asyncio.sleep(0.02)
    raise AssertionError(found)


async def test_a_guest_on_the_same_node(double: Double, shell: Shell) -> None:
    engine, made = double.engine(ssh_addr="pve1", ssh_user="root"), spec(start=True)
    await engine.create(made, Recorder())
    nic = await seen(engine, made.ref, lambda vm: vm.nics[0].port)
    assert (nic.mode, nic.port, nic.apart) == (NicMode.NAT, f"tap{machine(double, made.ref).vmid}i0", "")
    assert engine.ssh_endpoint is not None
    assert engine.ssh_endpoint.name == "pve1:22"
    await engine.delete(made.ref, made.name, Recorder())
    await engine.close()


@pytest.mark.parametrize(
    ("ports", "address", "apart"),
    [
        ("", "10.20.0.6", True),
        ("", "10.20.0.7", True),
        ("", "10.20.0.8", True),
        ("", "10.20.0.5", False),
        ("eno2", "10.20.0.6", False),
    ],
)
async def test_a_guest_on_another_node(double: Double, shell: Shell, ports: str, address: str, apart: bool) -> None:
    """It is reached when its bridge has a port there, or a route of the machine's own leads to it."""
    engine, made = double.engine(ssh_addr="pve1"), spec(start=True)
    await engine.create(made, Recorder())
    double.world.bridges["pve2"]["vmbr1"] = ports
    double.world.leases[made.nics[0].mac] = address
    machine(double, made.ref).node = "pve2"
    questions = 1 if ports else 2  # what it is called, and then the way to the address
    await seen(engine, made.ref, lambda vm: address in vm.nics[0].addresses and shell.asked == questions)
    nic = await seen(engine, made.ref, lambda vm: bool(vm.nics[0].apart) is apart)
    assert (nic.apart, nic.port) == ("pve2" if apart else "", "")
    asked = shell.asked
    assert (await seen(engine, made.ref, lambda _vm: True)) == nic
    assert shell.asked == asked, "SSH is not asked each round"
    await engine.delete(made.ref, made.name, Recorder())
    double.world.bridges["pve2"]["vmbr1"] = ""
    await engine.close()


async def test_the_connection_test_tells(double: Double, shell: Shell) -> None:
    engine = double.engine(ssh_addr="pve1")
    (told,) = (await engine.probe()).warnings
    assert "forwarded on pve1. VMs that another node has" in str(told)
    shell.away = True
    first, why = (await engine.probe()).warnings
    assert "SSH to the node does not work" in str(first)
    assert "broke" in str(why)
    assert await engine.observe() is not None, "all but forwards does without"
    await engine.close()


async def test_without_ssh(double: Double) -> None:
    engine = double.engine()
    assert engine.ssh_endpoint is None
    assert all(nic.port == nic.apart == "" for vm in await engine.observe() for nic in vm.nics)
    await engine.close()


def test_the_login() -> None:
    options = {"ssh_addr": "[2001:db8::7]:2222", "ssh_user": "ops", "ssh_key_file": "/etc/openidcs/pve"}
    connection = HostConnection(
        "h", "http://pve1:8006", "root@pam", "api", options=options, secrets={"ssh_pass": "an-ssh-secret"}
    )
    endpoint = ProxmoxEngine(connection).ssh_endpoint
    assert endpoint == SshEndpoint("2001:db8::7", 2222, "ops", "/etc/openidcs/pve", "an-ssh-secret")
    assert "an-ssh-secret" not in repr((endpoint, connection))


def test_a_wrong_address_names_its_field(double: Double) -> None:
    with pytest.raises(InvalidInput) as caught:
        double.engine(ssh_addr="root@pve1")
    assert caught.value.field == "ssh_addr"
