"""What is Incus' and LXD's own, on a real LXD: HTTPS, certificates, tokens, restricted projects, addresses."""

from __future__ import annotations

import asyncio
import base64
import subprocess
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from panel.engines.hosttypes import NativeForward
from panel.engines.incus.engine import IncusEngine
from panel.engines.types import (
    HostConnection,
    NicMode,
    NicSpec,
    PowerAction,
    PowerState,
    SnapshotAction,
    VmChange,
    VmSpec,
)
from panel.errors import CertificateRefused, Conflict, HostUnreachable, InvalidInput, PanelError
from panel.gateways.reach import own_address
from tests.certs import made as made_certificate
from tests.contract.kit import Recorder, random_mac, some_spec, until
from tests.contract.terminal import terminal
from tests.lxd import IMAGE, PASSWORD, Lxd, lxd

pytestmark = [pytest.mark.live, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def server() -> Iterator[Lxd]:
    with lxd() as made:
        yield made


@pytest.fixture
async def engine(server: Lxd) -> AsyncIterator[IncusEngine]:
    """Over the unix socket."""
    made = IncusEngine(HostConnection("h", server.socket))
    yield made
    await made.close()


def over_https(
    server: Lxd, secret: str = "", seed: bytes = b"s" * 32, pinned: str | None = None, **options: str
) -> IncusEngine:
    options["fingerprint"] = server.fingerprint if pinned is None else pinned
    return IncusEngine(HostConnection("h", server.address, secret=secret, seed=seed, options=options))


def spec(**changes: Any) -> VmSpec:
    return some_spec("in-", **({"image": IMAGE} | changes))


async def refused(engine: IncusEngine) -> PanelError:
    """Why the connection test fails."""
    try:
        with pytest.raises(PanelError) as caught:
            await engine.probe()
    finally:
        await engine.close()
    return caught.value


async def accepted(engine: IncusEngine) -> None:
    """The connection test passes."""
    try:
        assert (await engine.probe()).version.startswith("LXD 5.")
    finally:
        await engine.close()


async def test_the_certificate_is_shown_pinned_and_watched(server: Lxd) -> None:
    error = await refused(over_https(server, pinned=""))
    assert isinstance(error, CertificateRefused)
    assert error.fingerprint == server.fingerprint
    other = await refused(over_https(server, pinned="AB" * 32))
    assert isinstance(other, CertificateRefused)
    assert "another certificate" in str(other)


async def test_a_stranger_is_told_what_to_type_and_that_works(server: Lxd) -> None:
    error = await refused(over_https(server, seed=b"t" * 32))
    assert isinstance(error, HostUnreachable)
    command = str(error)[str(error).index("echo ") :].partition("&& incus")[0]
    subprocess.run(["bash", "-c", command], cwd=server.root, check=True, timeout=20)
    server.lxc("config", "trust", "add", str(server.root / "openidcs.crt"))
    await accepted(over_https(server, seed=b"t" * 32))


async def test_a_token_is_spent_once_by_one_panel(server: Lxd) -> None:
    token = server.token("one")
    await accepted(over_https(server, token, b"a" * 32))
    await accepted(over_https(server, token, b"a" * 32))  # saved after the test: the same key, which is trusted
    error = await refused(over_https(server, token, b"b" * 32))
    assert "one use" in str(error)
    assert token not in str(error)
    await accepted(over_https(server, PASSWORD, b"b" * 32))
    assert "one use" in str(await refused(over_https(server, "wrong", b"c" * 32)))


async def test_a_token_of_another_server_is_known_as_one(server: Lxd) -> None:
    token = base64.b64encode(b'{"fingerprint": "' + b"ab" * 32 + b'"}').decode()
    error = await refused(over_https(server, token, b"d" * 32))
    assert isinstance(error, InvalidInput)
    assert error.field == "server_pass"


async def test_an_operators_own_certificate_on_one_line(server: Lxd) -> None:
    own = made_certificate("panel")
    path = server.root / "own.crt"
    path.write_text(own.pem)
    server.lxc("config", "trust", "add", str(path))
    await accepted(over_https(server, (own.pem + own.key_pem).replace("\n", " ")))


@pytest.mark.parametrize(
    "secret", ["-----BEGIN CERTIFICATE-----", "-----BEGIN PRIVATE KEY----- MIIB -----END PRIVATE KEY-----"]
)
def test_half_a_certificate_is_refused(server: Lxd, secret: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        over_https(server, secret)
    assert caught.value.field == "server_pass"


async def test_a_restricted_certificate_lives_in_its_project(server: Lxd) -> None:
    """The whole life over HTTPS, with the least rights."""
    server.lxc("project", "create", "least", "-c", "features.images=false", "-c", "restricted=true",
               "-c", "restricted.devices.nic=allow", "-c", "restricted.snapshots=allow")  # fmt: skip
    token = server.token("least", "--restricted", "--projects", "least")
    error = await refused(over_https(server, token, b"r" * 32))
    assert "project default" in str(error)
    engine = over_https(
        server, token, b"r" * 32, project="least", network_nat=server.bridge, forward_addr="198.51.100.7"
    )
    wanted = spec(start=True, password="first")
    try:
        await engine.probe()
        network = (await engine.list_networks())[0]
        assert network.subnet4 == f"{server.subnet}.0/24"
        await engine.reserve(network.name, wanted.nics[0].mac, (f"{server.subnet}.201",))
        await engine.create(wanted, Recorder())
        seen = (await engine.observe())[0]
        assert (seen.ref, seen.state, seen.managed) == (wanted.ref, PowerState.RUNNING, True)
        assert seen.nics[0].mode is NicMode.NAT
        await engine.update(wanted.ref, VmChange(title="多", memory_mib=160), Recorder())
        async with terminal(engine, wanted.ref) as shown:
            await shown.until("[#$] ?")
            await shown.run("echo o''k", "ok")
        await engine.snapshot(wanted.ref, SnapshotAction.TAKE, "before", Recorder())
        forward = NativeForward("tcp", 28600, f"{server.subnet}.201", 80, "1")
        assert await engine.change_forwards((), [forward]) == {}
        assert server.forwards() == {"198.51.100.7": {28600: f"{server.subnet}.201:80"}}
        assert await engine.change_forwards(await engine.native_forwards(), ()) == {}
        assert server.forwards() == {}
        await engine.power(wanted.ref, PowerAction.SUSPEND, Recorder())
        with pytest.raises(Conflict, match="suspended"):
            await engine.text_console(wanted.ref)
        await engine.delete(wanted.ref, wanted.name, Recorder())
        assert await engine.observe() == []
    finally:
        await engine.close()


async def test_an_address_kept_for_an_instance_to_come_is_what_its_guest_gets(server: Lxd, engine: IncusEngine) -> None:
    mac, first, second = random_mac(), f"{server.subnet}.210", f"{server.subnet}.211"
    await engine.reserve(server.bridge, mac, (first,))
    wanted = spec(start=True, nics=(NicSpec("eth0", NicMode.NAT, mac),))
    await engine.create(wanted, Recorder())

    async def has(address: str) -> bool:
        return address in (await engine.inspect(wanted.ref)).nics[0].addresses

    await until(lambda: has(first), 30, "the guest has its address")
    await engine.reserve(server.bridge, mac, (second,))
    await engine.power(wanted.ref, PowerAction.RESET, Recorder())
    await until(lambda: has(second), 30, "the guest has its new address")
    await engine.delete(wanted.ref, wanted.name, Recorder())
    held = (await engine.list_networks())[0].reservations
    assert mac not in {owner for owner, _address in held}


async def test_a_rollback_brings_the_files_back_and_not_the_address(server: Lxd, engine: IncusEngine) -> None:
    """A guest that runs; one snapshot that an operator takes beside the panel's."""
    mac, first, second = random_mac(), f"{server.subnet}.220", f"{server.subnet}.221"
    wanted = spec(start=True, nics=(NicSpec("eth0", NicMode.NAT, mac),))
    await engine.create(wanted, Recorder())
    written = server.rootfs(wanted.name) / "rootfs/root/written"

    async def seen() -> list[tuple[str, str, bool]]:
        return [(one.name, one.parent, one.current) for one in (await engine.inspect(wanted.ref)).snapshots]

    async def has(address: str) -> bool:
        return address in (await engine.inspect(wanted.ref)).nics[0].addresses

    try:
        await engine.reserve(server.bridge, mac, (first,))
        server.lxc("exec", wanted.name, "--", "sh", "-c", "echo before >/root/written")
        await engine.snapshot(wanted.ref, SnapshotAction.TAKE, "mine", Recorder())
        server.lxc("snapshot", wanted.name, "by.hand")
        await engine.reserve(server.bridge, mac, (second,))
        server.lxc("exec", wanted.name, "--", "sh", "-c", "echo after >/root/written")
        assert await seen() == [("mine", "", False), ("by.hand", "mine", True)]
        await engine.snapshot(wanted.ref, SnapshotAction.ROLLBACK, "mine", Recorder())
        assert written.read_text() == "before\n"
        assert (await engine.inspect(wanted.ref)).state is PowerState.RUNNING
        assert await seen() == [("mine", "", True), ("by.hand", "mine", False)]
        (network,) = await engine.list_networks()
        assert (mac, second) in network.reservations
        await engine.power(wanted.ref, PowerAction.RESET, Recorder())
        await until(lambda: has(second), 30, "the guest has the address of now")
        await engine.snapshot(wanted.ref, SnapshotAction.TAKE, "later", Recorder())
        assert await seen() == [("mine", "", False), ("by.hand", "mine", False), ("later", "mine", True)]
    finally:
        await engine.delete(wanted.ref, wanted.name, Recorder())


async def test_forwards_listen_where_this_machine_goes_out(server: Lxd, engine: IncusEngine) -> None:
    """No address given: over the socket, and over HTTPS on loopback. What leads to no network is refused alone."""
    forward = NativeForward("udp", 28601, f"{server.subnet}.230", 53, "1")
    nowhere = NativeForward("udp", 28602, "10.255.0.1", 53, "1")
    near = over_https(server, PASSWORD, b"n" * 32)
    try:
        await near.probe()
        for one in (engine, near):
            assert list(await one.change_forwards((), [nowhere, forward])) == [nowhere]
            assert server.forwards() == {own_address(4): {28601: f"{server.subnet}.230:53"}}
            assert await one.native_forwards() == [forward]
            await one.change_forwards([forward], ())
            assert server.forwards() == {}
    finally:
        await near.close()


async def test_a_copy_is_not_ours(server: Lxd, engine: IncusEngine) -> None:
    wanted = spec()
    await engine.create(wanted, Recorder())
    server.lxc("copy", wanted.name, "in-copied")
    try:
        seen = {vm.name: vm for vm in await engine.observe()}
        assert (seen[wanted.name].ref, seen[wanted.name].managed) == (wanted.ref, True)
        copied = next(vm for vm in seen.values() if vm.ref != wanted.ref)
        assert not copied.managed
        await engine.delete(wanted.ref, wanted.name, Recorder())
        assert "in-copied" in server.instances()
    finally:
        server.lxc("delete", "in-copied")


async def test_names_that_are_no_host_names(server: Lxd, engine: IncusEngine) -> None:
    """Kept by the panel, told apart on the server."""
    wanted = [spec(name=name) for name in ("in_a.b", "in-a-b", "in.a_b", "9lives")]
    try:
        for one in wanted:
            await engine.create(one, Recorder())
        assert {vm.name for vm in await engine.observe()} >= {one.name for one in wanted}
        assert len(set(server.instances())) >= len(wanted)
    finally:
        for one in wanted:
            await engine.delete(one.ref, one.name, Recorder())


async def test_a_shell_that_ends_ends_the_console(engine: IncusEngine) -> None:
    wanted = spec(start=True)
    await engine.create(wanted, Recorder())
    try:
        async with terminal(engine, wanted.ref) as shown:
            await shown.until("[#$] ?")
            await shown.type("exit\r")
            await shown.until_end()
    finally:
        await engine.delete(wanted.ref, wanted.name, Recorder())


async def test_closing_the_engine_ends_its_shells(server: Lxd, engine: IncusEngine) -> None:
    wanted = spec(start=True)
    await engine.create(wanted, Recorder())
    other = IncusEngine(HostConnection("h", server.socket))
    try:
        async with terminal(other, wanted.ref) as shown:
            await shown.until("[#$] ?")
            await shown.type("yes\r")
            await shown.until("y\r\ny\r\n")
            await other.close()
            await shown.until_end()

        async def quiet() -> bool:
            return "yes" not in server.lxc("exec", wanted.name, "--", "ps")

        await until(quiet, 10, "what ran in the shell has ended")
    finally:
        await other.close()
        await engine.delete(wanted.ref, wanted.name, Recorder())


async def test_nobody_there() -> None:
    missing = await refused(IncusEngine(HostConnection("h", "/nowhere/unix.socket")))
    assert isinstance(missing, HostUnreachable)
    assert "There is no socket /nowhere/unix.socket" in str(missing)
    wrong = IncusEngine(HostConnection("h", "127.0.0.1:1", seed=b"s" * 32))
    assert "Check the port" in str(await refused(wrong))


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("project", {"project": "none"}),
        ("network_nat", {"network_nat": "none"}),
        ("network_bridge", {"network_bridge": "none"}),
    ],
)
async def test_settings_that_name_what_is_not_there(server: Lxd, field: str, options: dict[str, str]) -> None:
    error = await refused(IncusEngine(HostConnection("h", server.socket, options=options)))
    assert isinstance(error, InvalidInput)
    assert error.field == field


async def test_a_wrong_pool(server: Lxd) -> None:
    error = await refused(IncusEngine(HostConnection("h", server.socket, disks_path="none")))
    assert isinstance(error, InvalidInput)
    assert error.field == "system_path"


async def test_the_server_goes_away_under_watching(server: Lxd, engine: IncusEngine) -> None:
    """A broken connection is told, so that the panel looks again."""
    watching = aiter(engine.watch())
    first = asyncio.ensure_future(anext(watching))
    await asyncio.sleep(0.5)
    for socket in list(engine._events._sockets):
        socket.transport.abort()
    with pytest.raises(HostUnreachable):
        await first
