"""Machines beyond SSH: one gateway each, a dead one keeps its wishes and holds up nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from panel.engines.types import EngineKind, SshEndpoint
from panel.errors import Conflict, HostUnreachable, Unsupported
from panel.gateways.memory import MemoryGateway
from panel.gateways.runner import Completed
from panel.gateways.types import Protocol, RuleSet
from panel.models import Forward, Host, RuleState
from panel.services import gateways
from panel.services.container import Services
from panel.services.forwards import ForwardRequest
from panel.services.hosts import HostRequest
from panel.services.machines import KernelGateway
from panel.services.remotes import RemoteGateway, Remotes
from tests.conftest import ADMIN, seen
from tests.services.kit import make, until

TCP = Protocol.TCP


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateways, "LOOK_EVERY", 0.0)


class Hanging(MemoryGateway):
    """Nobody ever answers a look."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.left = False

    async def drift(self, ruleset: RuleSet) -> Any:
        self.asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.left = True


async def host(name: str, address: str, **more: Any) -> Host:
    """A host that nobody looks at."""
    return await Host.create(name=name, engine=EngineKind.LIBVIRT, address=address, enabled=False, **more)


async def test_one_machine_for_one_sshd(services: Services) -> None:
    one = await host("r1", "qemu+ssh://root@node7/system")
    two = await host("r2", "node7", user="ops")
    other = await host("r3", "qemu+ssh://root@node7:2222/system")
    assert services.gateways.machine(one) == services.gateways.machine(two) == "node7:22"
    assert services.gateways.machine(other) == "node7:2222"
    assert await services.gateways.host_ids("node7:22") == [one.id, two.id]
    assert services.gateways.of(one)[1] is services.gateways.of(one)[1]
    assert services.gateways.why_not(one) is None


async def test_a_machine_without_ssh(services: Services) -> None:
    far = await host("far", "qemu+tls://node8/system")
    assert services.gateways.machine(far) is None
    with pytest.raises(Unsupported, match=r"qemu\+ssh://USER@HOST/system"):
        services.gateways.of(far)
    assert await services.gateways.converge(far) is None


async def test_a_machine_that_hangs_holds_up_nobody(services: Services, fake_host: str) -> None:
    await services.hosts.create(ADMIN, "host2", HostRequest(engine=EngineKind.FAKE, address="world2"))
    await seen(services, "host2")
    hanging = Hanging()
    services.gateways._gateways["fake world2"] = hanging
    async with asyncio.timeout(10):  # a lock that is held is no sign: it is held for a moment at every turn
        await hanging.asked.wait()
    vm = await make(services, "vm-1")
    forward = await services.forwards.add(ADMIN, vm, ForwardRequest(TCP, 80, 8080))
    _machine, gateway = services.gateways.of(await Host.get(name="host1"))
    assert isinstance(gateway, MemoryGateway)
    gateway.applied = RuleSet()

    async def back() -> bool:
        return [rule.id for rule in gateway.applied.forwards] == [str(forward.id)]

    await until(back)
    assert services.gateways.lock("fake world2").locked()
    assert not hanging.left


async def test_a_machine_that_does_not_answer_keeps_its_wishes(services: Services, fake_host: str) -> None:
    vm = await make(services, "vm-1")
    forward = await services.forwards.add(ADMIN, vm, ForwardRequest(TCP, 80, 8080))
    _machine, gateway = services.gateways.of(await Host.get(name="host1"))
    assert isinstance(gateway, MemoryGateway)
    gateway.failure = HostUnreachable("It is away.")

    async def failed() -> bool:
        return (await Forward.get(id=forward.id)).state is RuleState.FAILED

    await until(failed)
    assert (await Forward.get(id=forward.id)).applied_at is not None
    gateway.failure, gateway.applied = None, RuleSet()

    async def applied() -> bool:
        return (await Forward.get(id=forward.id)).state is RuleState.APPLIED and bool(gateway.applied.forwards)

    await until(applied)


class Away:
    """A runner whose machine comes and goes."""

    def __init__(self) -> None:
        self.here = True

    async def run(self, argv: Sequence[str], *, stdin: str = "", seconds: float = 30.0) -> Completed:
        if not self.here:
            raise HostUnreachable("It is away.")
        row = "   0: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 1"
        return Completed(0, f"/proc/net/tcp:{row}\n", "")


async def test_ports_of_a_machine_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = Remotes().of("node7:2222", SshEndpoint("node7", 2222))
    away = Away()
    monkeypatch.setattr(gateway, "_runner", away)
    away.here = False
    assert await gateway.taken(TCP) == {2222}
    away.here = True
    assert await gateway.taken(TCP) == {80}
    away.here = False
    assert await gateway.taken(TCP) == {80, 2222}
    assert await gateway.taken(Protocol.UDP) == frozenset()


async def test_one_master_for_a_network_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    applied: list[RuleSet] = []

    async def apply(self: KernelGateway, ruleset: RuleSet) -> None:
        applied.append(ruleset)

    class Elsewhere:
        async def run(self, argv: Sequence[str], *, stdin: str = "", seconds: float = 30.0) -> Completed:
            return Completed(0, "another kernel", "")

    monkeypatch.setattr(KernelGateway, "apply", apply)
    remotes = Remotes()
    names = [remotes.of(f"{name}:22", SshEndpoint(name)) for name in ("node7", "192.0.2.7")]
    for gateway in names:
        monkeypatch.setattr(gateway, "_runner", Elsewhere())
    await names[0].apply(RuleSet())
    with pytest.raises(Conflict, match=r"192\.0\.2\.7:22 and node7:22 are one machine"):
        await names[1].apply(RuleSet())
    await remotes.forget("node7:22")
    await names[1].apply(RuleSet())
    assert len(applied) == 2

    here: RemoteGateway = remotes.of("localhost:22", SshEndpoint("localhost"))
    from panel.gateways.runner import LocalRunner

    monkeypatch.setattr(here, "_runner", LocalRunner())
    with pytest.raises(Conflict, match="is the machine that the panel runs on"):
        await here.apply(RuleSet())
    await remotes.close()
