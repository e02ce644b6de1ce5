"""The Docker engine beside the contract: limits on what runs, fetching from a registry, TLS, and SSH."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from panel.engines.base import Engine
from panel.engines.registry import make_engine
from panel.engines.types import EngineKind, HostConnection, PowerAction, PowerState, VmChange
from panel.errors import CertificateRefused, HostUnreachable, InvalidInput
from tests.contract.kit import Recorder, some_spec
from tests.contract.terminal import terminal
from tests.gateways.sshd import Sshd
from tests.live.namespaces import beside
from tests.oci import TINY, Daemon, Docker, Podman, daemon, run
from tests.process import free_port

pytestmark = [pytest.mark.live, pytest.mark.timeout(240)]

NETWORK = f"ocl-{secrets.token_hex(2)}"
MEMORY = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; true"
CPUS = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max 2>/dev/null; true"


def connection(address: str, **options: str) -> HostConnection:
    return HostConnection("live", address, options={"network_nat": NETWORK} | options)


@asynccontextmanager
async def engine(address: str, **options: str) -> AsyncIterator[Engine]:
    made = make_engine(EngineKind.DOCKER, connection(address, **options))
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """dockerd that listens to TLS too, and takes certificates of an authority of the test's own only."""
    folder = tmp_path_factory.mktemp("certificates")
    authority(folder)
    files = {name: str(folder / f"{file}.pem") for name, file in
             (("tlscacert", "ca"), ("tlscert", "server"), ("tlskey", "server-key"))}  # fmt: skip
    port = free_port()
    with daemon(Docker, hosts=[f"tcp://127.0.0.1:{port}"], tlsverify=True, **files) as made:
        made.port, made.certificates = port, folder  # type: ignore[attr-defined]
        yield made


@pytest.fixture(scope="module")
def podman() -> Iterator[Daemon]:
    with daemon(Podman) as made:
        yield made


def authority(folder: Path) -> None:
    """An authority, and what it signed: a server's certificate and the panel's."""

    def openssl(*words: str) -> None:
        run("openssl", *words)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl("req", "-x509", *key, "-keyout", f"{folder}/ca-key.pem", "-out", f"{folder}/ca.pem", "-subj", "/CN=ca")
    for name, cert, private in (("server", "server.pem", "server-key.pem"), ("panel", "cert.pem", "key.pem")):
        request = folder / f"{name}.csr"
        openssl("req", "-new", *key, "-keyout", f"{folder}/{private}", "-out", str(request), "-subj", f"/CN={name}")
        (folder / "names").write_text("subjectAltName=DNS:localhost\n")
        openssl("x509", "-req", "-in", str(request), "-CA", f"{folder}/ca.pem", "-CAkey", f"{folder}/ca-key.pem",
                "-CAcreateserial", "-out", f"{folder}/{cert}", "-extfile", f"{folder}/names")  # fmt: skip


@pytest.mark.parametrize("kind", ["docker", "podman"])
async def test_limits_change_while_it_runs_and_last(kind: str, request: pytest.FixtureRequest) -> None:
    """As the container's own kernel sees it; after a restart by others, the next look puts back what Podman forgets."""
    made: Daemon = request.getfixturevalue(kind)
    spec = some_spec("ocl-", image=made.local + TINY, start=True, memory_mib=128)
    async with engine(str(made.socket)) as host:
        await host.prepare()
        await host.create(spec, Recorder())

        async def says(command: str) -> str:
            return (await asyncio.to_thread(made.cli, "exec", spec.name, "sh", "-c", command)).strip()

        try:
            assert await says(MEMORY) == str(128 << 20)
            outcome = await host.update(spec.ref, VmChange(cpu_count=2, memory_mib=192), Recorder())
            assert outcome.live == ("cpu_count", "memory_mib")
            assert await says(MEMORY) == str(192 << 20)
            assert (await says(CPUS)).split()[0] == "200000"
            await asyncio.to_thread(made.cli, "restart", "-t", "0", spec.name)
            seen = await host.inspect(spec.ref)
            assert (seen.state, seen.cpu_count, seen.memory_mib) == (PowerState.RUNNING, 2, 192)
            assert await says(MEMORY) == str(192 << 20)
            with pytest.raises(InvalidInput) as caught:
                await host.update(spec.ref, VmChange(cpu_count=500), Recorder())
            assert caught.value.field == "cpu_num"
        finally:
            await host.delete(spec.ref, spec.name, Recorder())


@pytest.mark.parametrize("kind", ["docker", "podman"])
async def test_a_reservation_moves_what_runs(kind: str, request: pytest.FixtureRequest) -> None:
    """And nobody else gets the address, whether its owner runs or not."""
    made: Daemon = request.getfixturevalue(kind)
    async with engine(str(made.socket)) as host:
        await host.prepare()
        network = (await host.list_networks())[0]
        base = network.subnet4.rpartition(".")[0]
        specs = [some_spec("ocl-", image=made.local + TINY, start=True) for _ in range(2)]
        try:
            await host.create(specs[0], Recorder())
            mac = specs[0].nics[0].mac
            assert [nic.addresses for nic in (await host.inspect(specs[0].ref)).nics] == [(f"{base}.2",)]
            await host.reserve(network.name, mac, (f"{base}.3",))
            assert [nic.addresses for nic in (await host.inspect(specs[0].ref)).nics] == [(f"{base}.3",)]
            await host.power(specs[0].ref, PowerAction.STOP, Recorder())
            await host.create(specs[1], Recorder())
            assert [nic.addresses for nic in (await host.inspect(specs[1].ref)).nics] == [(f"{base}.2",)]
            await host.reserve(network.name, mac, ())
            await host.power(specs[0].ref, PowerAction.START, Recorder())
            seen = (await host.inspect(specs[0].ref)).nics[0]
            assert (seen.addresses, seen.mac) == ((f"{base}.3",), mac)
            held = dict((await host.list_networks())[0].leases)
            assert held[mac] == f"{base}.3"
        finally:
            for spec in specs:
                await host.delete(spec.ref, spec.name, Recorder())
        assert (await host.list_networks())[0].leases == ()
        assert not [name for name in made.cli("volume", "ls", "-q").split() if name.startswith("openidcs-note")]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry on a loopback port: its address."""
    folder, port = tmp_path_factory.mktemp("registry"), free_port()
    (folder / "config.yml").write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder}/data}}}}\nhttp: {{addr: 127.0.0.1:{port}}}\n"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", str(folder / "config.yml")], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/", timeout=3).close()
                break
            except OSError:
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=10)


async def test_an_offered_image_is_fetched(docker: Daemon, registry: str) -> None:
    image, wrong = f"{registry}/team/tiny:7", f"{registry}/team/none:1"
    for words in (("tag", TINY, image), ("push", image), ("rmi", image)):
        await asyncio.to_thread(docker.cli, *words)
    await asyncio.to_thread(docker.cli, "rmi", "-f", TINY, "big:1")
    async with engine(str(docker.socket), images=f"{image}, {wrong}") as host:
        await host.prepare()
        offered = {one.name: one for one in await host.list_images()}
        assert offered[image].format == offered[wrong].format == "registry"
        report, spec = Recorder(), some_spec("ocl-", image=image)
        await host.create(spec, report)
        assert any("Fetching" in line for line in report.lines)
        assert report.percents == sorted(report.percents)
        assert {one.name: one.format for one in await host.list_images()}[image] == "container"
        await host.delete(spec.ref, spec.name, Recorder())
        with pytest.raises(InvalidInput) as caught:
            await host.create(some_spec("ocl-", image=wrong), Recorder())
        assert caught.value.field == "os_name"
    await asyncio.to_thread(docker.cli, "tag", image, TINY)


async def test_an_image_that_does_not_stay_says_so(docker: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("panel.engines.docker.power.UP_SECONDS", 20.0)  # of a busy machine: it looks until it has ended
    async with engine(str(docker.socket), command="true") as host:
        spec = some_spec("ocl-", image=TINY, start=True)
        with pytest.raises(Exception, match="right after its start"):
            await host.create(spec, Recorder())
        assert spec.ref not in {vm.ref for vm in await host.observe()}


async def test_tls_with_our_certificate(docker: Daemon) -> None:
    """A whole life through TLS, its terminal too."""
    address = f"tcp://localhost:{docker.port}"  # type: ignore[attr-defined]
    async with engine(address, tls_folder=str(docker.certificates)) as host:  # type: ignore[attr-defined]
        info = await host.probe()
        assert info.version.startswith("Docker ")
        assert not host.on_this_machine
        await host.prepare()
        spec = some_spec("ocl-", image=TINY, start=True, password="first")
        await host.create(spec, Recorder())
        try:
            async with terminal(host, spec.ref) as shown:
                await shown.until("[#$] ?")
                await shown.run("echo over T''LS", "over TLS")
            assert (await host.host_status()).memory_total_mib > 256
        finally:
            await host.delete(spec.ref, spec.name, Recorder())


async def test_tls_that_is_not_right(docker: Daemon, tmp_path: Path) -> None:
    """No certificate of ours, an authority that we do not know, an accepted fingerprint, another one, no TLS."""
    address, folder = f"tcp://localhost:{docker.port}", docker.certificates  # type: ignore[attr-defined]
    (tmp_path / "ca.pem").write_text((folder / "ca.pem").read_text())
    async with engine(address, tls_folder=str(tmp_path)) as host:
        with pytest.raises(HostUnreachable, match="tls_folder"):
            await host.probe()
    async with engine(address) as host:
        with pytest.raises(CertificateRefused) as refused:
            await host.probe()
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_text((folder / name).read_text())
    (tmp_path / "ca.pem").unlink()
    async with engine(address, tls_folder=str(tmp_path), fingerprint=refused.value.fingerprint) as host:
        assert (await host.probe()).cpu_count
    other = "AA" + refused.value.fingerprint[2:] if refused.value.fingerprint[:2] != "AA" else "BB" * 32
    async with engine(address, tls_folder=str(tmp_path), fingerprint=other) as host:
        with pytest.raises(CertificateRefused, match="another certificate"):
            await host.probe()
    async with engine(address.replace("tcp:", "http:")) as host:
        with pytest.raises(HostUnreachable, match="speaks TLS"):
            await host.probe()


async def test_what_is_wrong_with_a_socket(tmp_path: Path) -> None:
    async with engine(str(tmp_path / "none.sock")) as host:
        with pytest.raises(HostUnreachable, match="no socket"):
            await host.probe()
    async with engine(f"http://127.0.0.1:{free_port()}") as host:
        with pytest.raises(HostUnreachable, match="refuses the connection"):
            await host.probe()


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """A namespace beside this machine whose sshd leads to this machine's files, and so to the daemon's socket."""
    with beside() as far:
        made = Sshd(tmp_path_factory.mktemp("sshd"), far.name, far.address)
        made.start()
        yield made
        made.stop()


async def test_over_ssh(docker: Daemon, sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    """A life, its terminal, the load of the host; a connection that breaks is made anew; what is wrong is named."""
    monkeypatch.setenv("HOME", str(sshd.home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    base = f"ssh://root@{sshd.address}:{sshd.port}"
    async with engine(f"{base}{docker.socket}", ssh_key_file=str(sshd.key)) as host:
        assert (await host.probe()).cpu_count
        assert host.ssh_endpoint is not None
        await host.prepare()
        spec = some_spec("ocl-", image=TINY, start=True)
        await host.create(spec, Recorder())
        try:
            async with terminal(host, spec.ref) as shown:
                await shown.until("[#$] ?")
                await shown.run("echo over S''SH", "over SSH")
            status = await host.host_status()
            assert status.disk_total_gib > 0
            assert 0 < status.memory_used_mib <= status.memory_total_mib
            await asyncio.to_thread(sshd.stop)
            with pytest.raises(HostUnreachable):
                await host.inspect(spec.ref)
            await asyncio.to_thread(sshd.start)
            assert (await host.inspect(spec.ref)).state is PowerState.RUNNING
        finally:
            await host.delete(spec.ref, spec.name, Recorder())
    async with engine(f"{base}/run/no-such.sock", ssh_key_file=str(sshd.key)) as host:
        with pytest.raises(HostUnreachable, match=r"no socket /run/no-such\.sock"):
            await host.probe()
