"""The gateway of another machine, over a real sshd in a network namespace: its nftables are that machine's."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from panel.engines.common import ssh as ssh_module
from panel.engines.common.ssh import SshConnection
from panel.engines.types import SshEndpoint
from panel.errors import EngineFailure, EngineTimeout, HostUnreachable
from panel.gateways.nft import NftGateway
from panel.gateways.ports import taken_ports
from panel.gateways.ssh import SshRunner
from panel.gateways.types import Protocol
from tests.gateways.sshd import Sshd, keygen
from tests.gateways.world import GW4, WAN4, World, forward, wish

pytestmark = pytest.mark.live


@pytest.fixture
def sshd(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    """The world's host runs an sshd that this machine reaches by a link of its own."""
    made = Sshd(tmp_path, world.names["gw"], *world.link_here())
    monkeypatch.setenv("HOME", str(made.home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    made.start()
    yield made
    made.stop()


@pytest.fixture
async def connection(sshd: Sshd) -> AsyncIterator[SshConnection]:
    made = SshConnection(sshd.endpoint)
    yield made
    await made.close()


async def test_rules_of_another_machine(world: World, connection: SshConnection) -> None:
    world.serve("a", 80)
    runner = SshRunner(connection)
    gateway = NftGateway(runner)
    rules = wish(forward("web", 8080))
    await gateway.apply(rules)
    assert "openidcs" in world.run("gw", "nft", "list", "tables")
    assert world.call("wan", GW4, 8080) == f"a 80 {WAN4}"
    assert (await gateway.counters())["vm-a"].received_bytes > 0
    assert await gateway.drift(rules) == []
    world.run("gw", "nft", "flush", "table", "inet", "openidcs")
    assert await gateway.drift(rules)
    await gateway.apply(rules)
    assert await gateway.drift(rules) == []
    assert connection.endpoint.port in await taken_ports(runner, Protocol.TCP)
    await gateway.clear()
    assert "openidcs" not in world.run("gw", "nft", "list", "tables")


async def test_words_are_passed_as_they_are(connection: SshConnection) -> None:
    runner = SshRunner(connection)
    words = ["a b", "$(id)", "it's", '"', "*", "", "; exit 3"]
    answer = await runner.run(["printf", "%s|", *words])
    assert answer.stdout == "".join(f"{word}|" for word in words)
    text = "line\n" * 200_000
    assert (await runner.run(["wc", "-c"], stdin=text)).stdout.strip() == str(len(text))
    assert (await runner.run(["true"], stdin=text)).returncode == 0
    assert (await runner.run(["sh", "-c", "echo no >&2; exit 7"])).returncode == 7
    assert (await runner.run(["sh", "-c", "echo $LC_ALL $PATH"])).stdout.startswith("C /usr/local/sbin")


async def test_a_program_that_is_not_there(connection: SshConnection) -> None:
    runner = SshRunner(connection, path="/nowhere")
    assert (await runner.run(["nft", "-v"])).missing
    with pytest.raises(EngineFailure, match="nft is not installed on the host: apt-get install nftables"):
        await NftGateway(runner).apply(wish(forward("web", 8080)))


async def test_a_program_that_does_not_end_is_ended(connection: SshConnection) -> None:
    runner = SshRunner(connection)

    async def gone(mark: str) -> bool:
        return (await runner.run(["pgrep", "-f", f"[s]leep {mark}"])).returncode == 1

    for mark, cancelled in (("3600.125", False), ("3600.375", True)):
        if cancelled:
            task = asyncio.create_task(runner.run(["sleep", mark], seconds=1))
            async with asyncio.timeout(10):
                while await gone(mark):
                    await asyncio.sleep(0.05)
            task.cancel()
            await asyncio.wait({task})
        else:
            with pytest.raises(EngineTimeout, match="sleep did not end within"):
                await runner.run(["sleep", mark], seconds=0.5)
        async with asyncio.timeout(10):
            while not await gone(mark):
                await asyncio.sleep(0.05)


async def test_output_is_bounded(connection: SshConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh_module, "MOST_OUTPUT_BYTES", 100_000)
    with pytest.raises(EngineFailure, match="more than 100000 bytes"):
        await SshRunner(connection).run(["yes"], seconds=20)
    assert (await SshRunner(connection).run(["echo", "still here"])).stdout == "still here\n"


async def test_a_host_that_goes_and_comes_back(sshd: Sshd, connection: SshConnection) -> None:
    runner = SshRunner(connection)
    assert (await runner.run(["echo", "1"])).stdout == "1\n"
    running = asyncio.create_task(runner.run(["sleep", "60"]))
    await asyncio.sleep(0.2)
    sshd.stop()
    with pytest.raises(HostUnreachable, match="broke"):
        await running
    with pytest.raises(HostUnreachable, match="Connection refused"):
        await runner.run(["echo", "2"])
    sshd.start()
    assert (await runner.run(["echo", "3"])).stdout == "3\n"
    sshd.stop()
    sshd.start()  # a connection that broke while nobody looked
    assert (await runner.run(["echo", "4"])).stdout == "4\n"


async def test_keys_that_are_not_known(sshd: Sshd) -> None:
    async def refused(match: str, endpoint: SshEndpoint = sshd.endpoint) -> None:
        connection = SshConnection(endpoint)
        try:
            with pytest.raises(HostUnreachable, match=match) as caught:
                await SshRunner(connection).run(["true"])
            assert "hunter2" not in str(caught.value)
        finally:
            await connection.close()

    known = sshd.known_hosts.read_text()
    sshd.known_hosts.unlink()
    await refused(f"not known to the panel's user. Run ssh-keyscan -p {sshd.port} {sshd.address}")
    (sshd.home / ".ssh" / "config").write_text("StrictHostKeyChecking no\nUserKnownHostsFile none\n")
    await refused("not known to the panel's user")
    sshd.known_hosts.write_text("what is this\n" + known)
    other = keygen(sshd.folder / "other")
    await refused(
        "refuses our SSH login",
        SshEndpoint(sshd.address, sshd.port, "root", str(sshd.folder / "other"), password="hunter2"),
    )
    await refused("ssh_key_file", SshEndpoint(sshd.address, sshd.port, "root", str(sshd.folder / "none")))
    await refused("no private key", SshEndpoint(sshd.address, sshd.port, "root", str(sshd.folder / "sshd_config")))
    sshd.trust(other)
    await refused("is not the one that is known.*ssh-keygen -R")


async def test_the_ssh_configuration_of_the_user(sshd: Sshd) -> None:
    (sshd.home / ".ssh" / "config").write_text(
        f"Host node7\n  HostName {sshd.address}\n  Port {sshd.port}\n  User root\n  IdentityFile {sshd.key}\n"
    )
    connection = SshConnection(SshEndpoint("node7"))
    try:
        assert (await SshRunner(connection).run(["id", "-un"])).stdout == "root\n"
        assert await connection.port() == sshd.port
    finally:
        await connection.close()


async def test_a_host_that_swallows_everything(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    address, port = world.link_here()
    monkeypatch.setattr(ssh_module, "CONNECT_SECONDS", 0.5)
    world.run(
        "gw", "nft", "-f", "-", stdin="table ip t { chain c { type filter hook input priority 0; policy drop; }; }\n"
    )
    began = time.monotonic()
    with pytest.raises(HostUnreachable, match="timed out"):
        await SshRunner(SshConnection(SshEndpoint(address, port, "root"))).run(["true"])
    assert time.monotonic() - began < 5


def test_nothing_stays_behind() -> None:
    assert subprocess.run(["pgrep", "-f", "sleep 3600[.]"], check=False).returncode == 1
