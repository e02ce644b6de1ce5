"""A libvirt host over TLS, and over plain TCP: a second real libvirtd, which a whole panel reaches over a wire."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest

from panel.engines.libvirt import tls
from panel.engines.libvirt.client import STUCK_LIMIT
from panel.engines.libvirt.engine import LibvirtEngine
from panel.engines.types import HostConnection, PowerAction, PowerState, VmEvent
from panel.errors import Conflict, HostUnreachable
from tests.certs import Made
from tests.live.consoles import closed_by, console
from tests.live.engine_site import Report, spec, until
from tests.live.libvirt_far import TCP_PORT, FarLibvirt
from tests.live.namespaces import beside
from tests.pki import COMING, ENDED, Authority
from tests.process import PanelProcess

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

DOCUMENT = Path(__file__).parents[2] / "docs/engines/libvirt.md"
VM = "/far/vm-1"
OTHER = Authority.new("Another authority")

AS_NOBODY = """
import asyncio, os, sys
from panel.engines.libvirt.client import Client
os.seteuid(65534)
asyncio.run(Client(sys.argv[1], "far").call(lambda conn: conn.getHostname()))
"""


@pytest.fixture(scope="module")
def far(demo_image: Path) -> Iterator[FarLibvirt]:
    with beside() as place:
        made = FarLibvirt(demo_image, place, "tiny")
        try:
            made.start()
            yield made
        finally:
            made.clean()


@pytest.fixture(scope="module")
def panel(far: FarLibvirt, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PanelProcess]:
    """A panel whose only host is reached over TLS, with the certificates of a folder."""
    process = PanelProcess(tmp_path_factory.mktemp("panel"))
    process.start()
    try:
        process.ok("POST", "/api/server/create", {"server_name": "far"} | far.host(far.tls()))
        online(process)
        yield process
    finally:
        process.stop()


@pytest.fixture
async def engine(far: FarLibvirt) -> AsyncIterator[LibvirtEngine]:
    made = LibvirtEngine(connection(far, far.tls()))
    await made.prepare()
    yield made
    await made.close()


def connection(far: FarLibvirt, address: str) -> HostConnection:
    return HostConnection(
        "far", address, disks_path=str(far.disks), images_path=str(far.images), options={"network_nat": far.name}
    )


def online(panel: PanelProcess) -> None:
    panel.until("/api/server/detail/far", lambda host: host["health"] == "online")


def test_the_life_of_a_vm(panel: PanelProcess, far: FarLibvirt, demo_image: Path) -> None:
    """From an image that was sent over TLS to nothing, with a boot between. It is on that machine, and not on ours."""
    panel.cli("image", "add", str(demo_image), "--host", "far", "--name", "Sent 1")
    assert (far.images / "Sent-1.qcow2").read_bytes() == demo_image.read_bytes()
    panel.stop()
    panel.start()  # the images of a host are listed as the panel starts, and once a minute
    panel.seen_anew("far")
    body = {"vm_uuid": "vm-1", "os_name": "sent 1", "cpu_num": 1, "ram_num": 192, "hdd_num": 1, "start": True}
    made = panel.ok("POST", "/api/client/create/far?wait=100", body)
    assert made["status"] == "succeeded", made
    here = libvirt.open("qemu:///system")
    try:
        assert (far.domains(), "vm-1" in [domain.name() for domain in here.listAllDomains()]) == (["vm-1"], False)
    finally:
        here.close()
    panel.until(f"/api/client/status{VM}", lambda status: status["agent"], 150)
    asyncio.run(_types_at_its_text_console(panel))
    assert asyncio.run(closed_by(panel, VM)) == (
        4409, "The screen listens on host far only. Take the text console, or run the panel there."
    )  # fmt: skip
    status, refused = panel.api("POST", f"/api/client/natadd{VM}", {"external_port": 28080, "internal_port": 80})
    assert status == 409
    assert "need SSH to the host" in refused["msg"]
    changed = panel.ok("PUT", f"/api/client/update{VM}?wait=60", {"cpu_num": 2})
    assert changed["status"] == "succeeded", changed
    for action, state in (("suspend", "suspended"), ("resume", "running"), ("stop", "stopped")):
        panel.ok("POST", f"/api/client/powers{VM}?wait=60", {"action": action})
        panel.until(f"/api/client/status{VM}", lambda status, state=state: status["state"] == state)
    panel.ok("DELETE", f"/api/client/delete{VM}?wait=60")
    assert (far.domains(), far.files()) == ([], set())


async def _types_at_its_text_console(panel: PanelProcess) -> None:
    async with console(panel, VM, "text") as socket:
        await socket.send(b"\r")
        seen = b""
        async with asyncio.timeout(60):
            while b"login: " not in seen:
                part = await socket.recv()
                seen += part if isinstance(part, bytes) else b""


def test_a_screen_that_listens_in_the_network(panel: PanelProcess, far: FarLibvirt) -> None:
    """Where the operator let the VM's VNC listen on the host's own address, the panel carries it."""
    body = {"vm_uuid": "vm-2", "cpu_num": 1, "ram_num": 64, "hdd_num": 1}
    made = panel.ok("POST", "/api/client/create/far?wait=60", body)
    assert made["status"] == "succeeded", made
    with far.connected() as conn:
        xml = conn.lookupByName("vm-2").XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        assert xml.count("127.0.0.1") == 2
        conn.defineXML(xml.replace("127.0.0.1", "0.0.0.0"))
    try:
        panel.ok("POST", "/api/client/powers/far/vm-2?wait=60", {"action": "start"})
        assert asyncio.run(_greets(panel)).startswith(b"RFB 003.")
    finally:
        panel.ok("DELETE", "/api/client/delete/far/vm-2?wait=60")


async def _greets(panel: PanelProcess) -> bytes:
    async with console(panel, "/far/vm-2", "vnc") as socket, asyncio.timeout(20):
        said = await socket.recv()
        assert isinstance(said, bytes)
        return said


def test_its_certificate_ends_and_is_renewed(panel: PanelProcess, far: FarLibvirt) -> None:
    """The host's page says why it is away; with a good certificate it is back, and nothing was lost."""
    body = {"vm_uuid": "vm-3", "cpu_num": 1, "ram_num": 64, "hdd_num": 1, "start": True}
    made = panel.ok("POST", "/api/client/create/far?wait=60", body)
    assert made["status"] == "succeeded", made
    far.stop()
    panel.until("/api/server/detail/far", lambda host: host["health"] != "online")
    far.start(far.authority.server(far.address, days=ENDED))
    told = panel.until("/api/server/detail/far", lambda host: "was good until" in (host["problem"] or ""))
    assert told["health"] != "online"
    far.stop()
    far.start()
    online(panel)
    panel.until("/api/client/status/far/vm-3", lambda status: status["state"] == "running")
    panel.ok("DELETE", "/api/client/delete/far/vm-3?wait=60")
    assert far.domains() == []


@pytest.mark.parametrize("kind", ["tls", "tcp"])
async def test_a_host_that_fell_silent_is_back_at_once(
    far: FarLibvirt, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it is asked meanwhile: one call hangs, on the connection that there was."""
    monkeypatch.setattr(tls, "KNOCK_SECONDS", 1.0)
    engine = LibvirtEngine(connection(far, far.tls() if kind == "tls" else far.tcp()))
    engine.client.quick_seconds = 1.0
    try:
        await engine.observe()
        with far.still():
            for number in range(STUCK_LIMIT + 2):
                with pytest.raises(
                    HostUnreachable, match="did not answer within 1 s" if not number else "answers nothing"
                ):
                    await engine.observe()
        async with asyncio.timeout(10):
            await engine.observe()
    finally:
        await engine.close()


async def test_events_come_over_it(engine: LibvirtEngine, far: FarLibvirt) -> None:
    vm = spec(image=None, start=True)
    await engine.create(vm, Report())
    events: list[VmEvent] = []

    async def listen() -> None:
        async for event in engine.watch():
            events.append(event)

    listening = asyncio.create_task(listen())
    try:
        await asyncio.sleep(0.2)
        began = time.monotonic()
        with far.connected() as conn:
            conn.lookupByUUIDString(vm.ref).destroy()
        while VmEvent(vm.ref, "stopped") not in events:
            assert time.monotonic() - began < 10, events
            await asyncio.sleep(0.02)
        far.kill()
        async with asyncio.timeout(5):  # the end of libvirtd is the end of the events
            await listening
    finally:
        listening.cancel()
        if not (far.root / "run/libvirt/own.pid").exists():
            far.start()
        await until(engine, vm.ref, lambda now: now.state is PowerState.STOPPED, 20)
        await engine.delete(vm.ref, vm.name, Report())


async def test_plain_tcp(far: FarLibvirt) -> None:
    engine = LibvirtEngine(connection(far, far.tcp()))
    try:
        assert "libvirt" in (await engine.probe()).version
        await engine.prepare()
        vm = spec(image="tiny", start=True)
        await engine.create(vm, Report())
        assert (await engine.inspect(vm.ref)).state is PowerState.RUNNING
        with pytest.raises(Conflict, match="Take the text console"):
            await engine.console(vm.ref)
        target = await engine.text_console(vm.ref)
        assert target is not None
        await engine.power(vm.ref, PowerAction.STOP, Report())
        await engine.delete(vm.ref, vm.name, Report())
        assert (far.domains(), far.files()) == ([], set())
    finally:
        await engine.close()


def refusal(panel: PanelProcess, far: FarLibvirt, address: str) -> tuple[str, float]:
    """What the panel says of a new host at this address, and after how many seconds."""
    began = time.monotonic()
    status, answer = panel.api("POST", "/api/server/create", {"server_name": "new"} | far.host(address))
    assert (status, answer["data"]) == (503, {"field": "server_addr"}), answer
    told: str = answer["msg"]
    assert "PRIVATE" not in told
    return told, time.monotonic() - began


Folder = Callable[[FarLibvirt], Path]


def folder(
    name: str, authority: Made | None = None, own: Callable[[FarLibvirt], Made | None] = lambda _: None
) -> Folder:
    return lambda far: far.client_folder(name, authority or far.authority.own, own(far))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (lambda far: far.folder / "nowhere", "There is no folder"),
        (lambda far: far.client_folder("bare", None, far.authority.client()), "There is no"),
        (folder("anonymous"), "asks for a certificate, and the panel's machine has none"),
        (folder("ended", None, lambda far: far.authority.client(days=ENDED)), "was good until"),
        (folder("coming", None, lambda far: far.authority.client(days=COMING)), "Compare clocks"),
        (folder("stranger", None, lambda _: OTHER.client()), "was signed by CN=Another authority"),
        (folder("astray", OTHER.own, lambda _: OTHER.client()), "far was signed by CN=Far authority"),
    ],
    ids=["no folder", "no authority", "no certificate", "ended", "coming", "another's", "another authority"],
)  # fmt: skip
def test_what_is_wrong_here(panel: PanelProcess, far: FarLibvirt, given: Folder, words: str) -> None:
    told, seconds = refusal(panel, far, far.tls(given(far)))
    assert words.replace("far was", "host new was") in told
    assert seconds < 10


def test_the_wrong_door(panel: PanelProcess, far: FarLibvirt) -> None:
    for address, words in (
        (far.tls(port=TCP_PORT), "does not speak TLS"),
        (far.tls(port=1), "nothing listens on port 1"),
        (far.tls(address=far.address.rpartition(".")[0] + ".77"), "reached"),
        (far.tcp().replace(str(TCP_PORT), "1"), "nothing listens on port 1"),
    ):
        told, seconds = refusal(panel, far, address)
        assert words in told or "does not answer on port" in told
        assert seconds < 10
    with far.still():
        for address, words in ((far.tls(), "answers nothing to TLS"), (far.tcp(), "answers nothing. Check")):
            told, seconds = refusal(panel, far, address)
            assert words in told
            assert seconds < 10


def test_what_is_wrong_there(panel: PanelProcess, far: FarLibvirt) -> None:
    """Its certificate is for another name, or not good yet; it trusts another authority, knows us not, or wants a login."""
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"server": far.authority.server("a.example", "10.0.0.1")}, far.tls(), "is for a.example, 10.0.0.1, not for"),
        ({"server": far.authority.server(far.address, days=COMING)}, far.tls(), "Compare the clocks"),
        ({"trusts": OTHER.own}, far.tls(), "refuses the panel's certificate (CN=panel)"),
        ({"more": 'tls_allowed_dn_list = ["CN=somebody"]\n'}, far.tls(), "tls_allowed_dn_list"),
        ({"more": 'auth_tls = "sasl"\n'}, far.tls(), "asks for a login (SASL) after TLS"),
        ({"auth_tcp": "sasl"}, far.tcp(), "Use qemu+tls"),
    ]
    try:
        for how, address, words in cases:
            far.stop()
            far.start(**how)
            assert words in refusal(panel, far, address)[0]
    finally:
        far.stop()
        far.start()
    online(panel)


def test_the_certificates_of_the_document(panel: PanelProcess, far: FarLibvirt, tmp_path: Path) -> None:
    """The commands of ``docs/engines/libvirt.md``, with another address, and nothing else."""
    commands = DOCUMENT.read_text().partition("```sh\n")[2].partition("```")[0].replace("192.0.2.10", far.address)
    assert commands.count("openssl") == 3
    subprocess.run(["sh", "-ec", commands], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    far.stop()
    try:
        far.start(more='tls_allowed_dn_list = ["CN=panel"]\n', server=tmp_path)
        panel.ok("POST", "/api/server/create", {"server_name": "documented"} | far.host(far.tls(tmp_path)))
        panel.ok("DELETE", "/api/server/delete/documented")
    finally:
        far.stop()
        far.start()


def test_a_key_that_the_panels_user_may_not_read(far: FarLibvirt) -> None:
    """Another user's panel: it is told which file, and whom to let."""
    place = far.client_folder("guarded", far.authority.own, far.authority.client())
    (place / "clientkey.pem").chmod(0o400)
    command = [sys.executable, "-c", AS_NOBODY, far.tls(place)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert f"cannot read {place}/clientkey.pem" in done.stderr, done.stderr
    assert done.returncode == 1
