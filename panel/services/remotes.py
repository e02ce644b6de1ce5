"""The gateways of other machines, over SSH: one connection per login, and never two gateways in one kernel."""

from __future__ import annotations

import asyncio

from panel.engines.types import SshEndpoint
from panel.errors import Conflict, HostUnreachable
from panel.gateways.kernel import Applied
from panel.gateways.runner import LocalRunner, Runner, must
from panel.gateways.ssh import SshRunner
from panel.gateways.types import Protocol, RuleSet
from panel.i18n import gettext_noop as _
from panel.services.machines import KernelGateway

SSH_PORT = 22


class RemoteGateway(KernelGateway):
    """nftables and tc of the machine behind an SSH endpoint. Every method raises ``HostUnreachable`` besides."""

    def __init__(self, machine: str, endpoint: SshEndpoint, stacks: dict[str, str]) -> None:
        """``stacks``: what machine each network stack is, shared by all gateways."""
        from panel.engines.common.ssh import SshConnection  # asyncssh takes a while to load, and most panels need none

        self._machine = machine
        self._stacks = stacks
        self._connection = SshConnection(endpoint)
        self._taken: dict[Protocol, frozenset[int]] = {}
        super().__init__(SshRunner(self._connection))

    async def apply(self, ruleset: RuleSet) -> Applied:
        """See ``KernelGateway``. ``Conflict`` when these rules have another master here: the same machine by another name."""
        await self._check_stack()
        return await super().apply(ruleset)

    async def taken(self, protocol: Protocol) -> frozenset[int]:
        """See ``KernelGateway``. Of a machine that does not answer: what was known last, and the port by which we come in."""
        try:
            self._taken[protocol] = await super().taken(protocol)
        except HostUnreachable:
            ours = {self._connection.endpoint.port or SSH_PORT} if protocol is Protocol.TCP else set()
            return self._taken.get(protocol, frozenset()) | ours
        return self._taken[protocol]

    async def close(self) -> None:
        """Disconnect. Never raises."""
        await self._connection.close()

    async def _check_stack(self) -> None:
        stack = await _stack(self._runner)
        if stack == await _stack(LocalRunner()):
            raise Conflict(
                _(
                    "{machine} is the machine that the panel runs on. Leave the address of its host empty (server_addr)."
                ),
                machine=self._machine,
            )
        master = self._stacks.setdefault(stack, self._machine)
        if master != self._machine:
            raise Conflict(
                _("{machine} and {other} are one machine. Give its hosts the same address (server_addr)."),
                machine=self._machine,
                other=master,
            )


class Remotes:
    """All of them, by endpoint: two hosts on one machine may log in differently."""

    def __init__(self) -> None:
        self._gateways: dict[SshEndpoint, RemoteGateway] = {}
        self._stacks: dict[str, str] = {}

    def of(self, machine: str, endpoint: SshEndpoint) -> RemoteGateway:
        """The gateway of an endpoint, made when first asked for."""
        if endpoint not in self._gateways:
            self._gateways[endpoint] = RemoteGateway(machine, endpoint, self._stacks)
        return self._gateways[endpoint]

    async def forget(self, machine: str) -> None:
        """No host is this machine any more."""
        for stack in [key for key, name in self._stacks.items() if name == machine]:
            del self._stacks[stack]
        gone = [endpoint for endpoint in self._gateways if endpoint.name == machine]
        await asyncio.gather(*(self._gateways.pop(endpoint).close() for endpoint in gone))

    async def close(self) -> None:
        """Disconnect all."""
        await asyncio.gather(*(gateway.close() for gateway in self._gateways.values()))
        self._gateways.clear()


async def _stack(runner: Runner) -> str:
    """What tells a network stack from every other: the kernel's boot and the namespace in it."""
    script = "cat /proc/sys/kernel/random/boot_id; readlink /proc/self/ns/net"
    return await must(runner, ["sh", "-c", script], "coreutils")
