"""A real sshd and a real shell between the panel and ``vmrun``, which here is a script that writes down what it was given."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from panel.engines.registry import make_engine
from panel.engines.types import EngineKind, HostConnection
from panel.errors import Conflict, EngineFailure, PanelError
from tests.contract.kit import Recorder, some_spec
from tests.contract.vmware_rig import free_ports
from tests.doubles.hostshell import parted
from tests.doubles.serving import served
from tests.doubles.vmrest import vmrest
from tests.doubles.vmrest_world import Workstation
from tests.gateways.sshd import Sshd

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

GUEST_PASSWORD = 'it\'s "$(touch /tmp/openidcs-injected)" `x` \\ ; & | %PATH%'
PASSWORD = 'new\' "$(x)" \\ 密码'
VMRUN = """#!/bin/sh
# each argument in a file of its own
cd "$(dirname "$0")" || exit 9
number=0
for argument in "$@"; do
  printf %s "$argument" > "argument.$number"
  number=$((number + 1))
done
cat answer 2>/dev/null
exit "$(cat code 2>/dev/null || echo 0)"
"""


class Host:
    """vmrest's double, and sshd with a folder of Workstation."""

    def __init__(self, folder: Path, more: str = "") -> None:
        self.launch = folder / "VMware Work'station $x"
        self.launch.mkdir()
        (self.launch / "vmrun").write_text(VMRUN)
        (self.launch / "vmrun").chmod(0o755)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.sshd = Sshd(folder, "", "127.0.0.1", port, more)
        self.world = Workstation(clone_seconds=0, act_seconds=0, boot_seconds=0)
        self.world.add("Debian 12")
        self.base = ""

    def engine(self):  # type: ignore[no-untyped-def]
        options = {
            "ssh_addr": f"127.0.0.1:{self.sshd.port}", "ssh_user": "root", "ssh_key_file": str(self.sshd.key),
            "guest_user": "open idcs", "guest_pass": GUEST_PASSWORD, "vnc_ports": free_ports(5),
        }  # fmt: skip
        connection = HostConnection("h", self.base, "u", "p", "", "D:/Images", str(self.launch), **parted(options))
        return make_engine(EngineKind.VMWARE_WORKSTATION, connection)

    def arguments(self) -> list[str]:
        """What vmrun was given last."""
        files = sorted(self.launch.glob("argument.*"), key=lambda path: int(path.suffix[1:]))
        return [path.read_text() for path in files]


@pytest.fixture(params=[""], ids=["usual"])
def host(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    made = Host(tmp_path, request.param)
    monkeypatch.setenv("HOME", str(made.sshd.home))
    made.sshd.start()
    try:
        with served(vmrest(made.world, "u", "p")) as base:
            made.base = base
            yield made
    finally:
        made.world.close()
        made.sshd.stop()


def in_guest(script: str, folder: Path) -> str:
    """What ``chpasswd`` of a guest is told by the script, which a real shell runs here."""
    programs = folder / "programs"
    programs.mkdir()
    for name, text in {"chpasswd": f"cat > '{folder}/told'", "sudo": 'shift; exec "$@"'}.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    environment = {"PATH": f"{programs}:{os.environ['PATH']}"}
    subprocess.run(["/bin/sh", "-c", script], check=True, env=environment, timeout=10)
    return (folder / "told").read_text()


async def test_vmrun_gets_what_was_meant(host: Host, tmp_path: Path) -> None:
    engine = host.engine()
    spec = some_spec("t-", image="Debian 12", start=True)
    await engine.create(spec, Recorder())
    await engine.set_password(spec.ref, "root", PASSWORD)
    words = host.arguments()
    vmx = next(vm.path for vm in host.world.machines.values() if spec.ref in vm.path)
    assert words[:-1] == ["-T", "ws", "-gu", "open idcs", "-gp", GUEST_PASSWORD, "runScriptInGuest", vmx, "/bin/sh"]
    assert PASSWORD not in words[-1]
    assert in_guest(words[-1], tmp_path) == f"root:{PASSWORD}\n"
    assert not Path("/tmp/openidcs-injected").exists()
    assert (await engine.probe()).warnings == ()
    assert host.arguments()[:3] == ["-T", "ws", "list"]
    await engine.close()


async def test_what_vmrun_answers(host: Host) -> None:
    engine = host.engine()
    spec = some_spec("t-", image="Debian 12", start=True)
    await engine.create(spec, Recorder())
    cases: tuple[tuple[str, type[PanelError], str], ...] = (
        ("Error: The VMware Tools are not running in the virtual machine: x", Conflict, "agent"),
        ("Error: Invalid user name or password for the guest OS", Conflict, "guest_pass"),
        ("Error: Guest program exited with non-zero exit code: 1", Conflict, "did not take"),
        (f"Error: Out of memory {PASSWORD} {GUEST_PASSWORD}", EngineFailure, r"Out of memory \*\*\* \*\*\*"),
    )
    (host.launch / "code").write_text("255")
    for answer, kind, words in cases:
        (host.launch / "answer").write_text(answer)
        with pytest.raises(kind, match=words):
            await engine.set_password(spec.ref, "root", PASSWORD)
    (host.launch / "vmrun").unlink()
    with pytest.raises(Conflict, match="Set launch_path"):
        await engine.set_password(spec.ref, "root", PASSWORD)
    await engine.close()


async def test_screens_through_the_tunnel(host: Host) -> None:
    engine = host.engine()
    spec = some_spec("t-", image="Debian 12", start=True)
    await engine.create(spec, Recorder())
    target = await engine.console(spec.ref)
    opened = [await target.open() for _ in range(3)]
    for reader, writer in opened:
        assert await reader.readexactly(12) == b"RFB 003.008\n"
        writer.write(b"RFB 003.008\n\x01\x01")
        await writer.drain()
        await reader.readexactly(2 + 4)
        assert len(await asyncio.wait_for(reader.readexactly(24), 10)) == 24, "ServerInit"
    host.sshd.stop()
    for reader, writer in opened:
        await asyncio.wait_for(reader.read(), 10)
        writer.close()
    host.sshd.start()
    reader, writer = await target.open()
    assert await reader.readexactly(12) == b"RFB 003.008\n"
    writer.close()
    await engine.close()


@pytest.mark.parametrize("host", ["AllowTcpForwarding no\n"], indirect=True)
async def test_an_sshd_that_forbids_tunnels(host: Host) -> None:
    engine = host.engine()
    spec = some_spec("t-", image="Debian 12", start=True)
    await engine.create(spec, Recorder())
    with pytest.raises(EngineFailure, match="AllowTcpForwarding"):
        await (await engine.console(spec.ref)).open()
    await engine.close()
