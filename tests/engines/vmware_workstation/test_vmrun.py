"""What is sent to the host so that ``vmrun`` gets exactly these arguments, and what its answers mean."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panel.engines.common import sshtrust
from panel.engines.registry import make_engine
from panel.engines.types import EngineKind, HostConnection, PowerAction
from panel.engines.vmware_workstation.remote import Remote
from panel.engines.vmware_workstation.vmrun import WINDOWS_COMMAND, check_login, command, program
from panel.errors import Conflict, HostUnreachable, InvalidInput
from tests.contract.kit import Recorder, some_spec
from tests.contract.vmware_rig import free_ports
from tests.doubles.hostshell import GUEST_PASSWORD, LAUNCH_PATH, VMRUN, parted, read_arguments, shell
from tests.doubles.serving import served
from tests.doubles.vmrest import vmrest
from tests.doubles.vmrest_world import Workstation

WORDS = st.lists(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0")), max_size=6)


@given(WORDS)
def test_windows_reads_back_what_was_meant(words: list[str]) -> None:
    line, stdin = command(PureWindowsPath(VMRUN), words)
    assert line == WINDOWS_COMMAND
    assert len(line) < 8000, "cmd.exe takes 8191 characters"
    assert not set(line) & set("%^&|<>\"'`$()\n"), "nothing that any shell of Windows reads"
    name, arguments = (base64.b64decode(part).decode() for part in stdin.split(b"\r\n")[:2])
    assert name == VMRUN
    assert read_arguments(arguments) == words


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (LAUNCH_PATH, PureWindowsPath(VMRUN)),
        ("C:\\Program Files (x86)\\VMware\\VMware Workstation\\", PureWindowsPath(VMRUN)),
        (VMRUN, PureWindowsPath(VMRUN)),
        ("/usr/bin", PurePosixPath("/usr/bin/vmrun")),
        ("/opt/vm ware/vmrun", PurePosixPath("/opt/vm ware/vmrun")),
    ],
)
def test_where_vmrun_is(text: str, path: object) -> None:
    assert program(text) == path


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("host", ("host", 0)), ("host:2222", ("host", 2222)), ("192.0.2.1", ("192.0.2.1", 0)),
        ("[2001:db8::1]:2200", ("2001:db8::1", 2200)), ("2001:db8::1", ("2001:db8::1", 0)),
    ],
)  # fmt: skip
def test_ssh_addresses(text: str, where: tuple[str, int]) -> None:
    remote = Remote(HostConnection("h", options={"ssh_addr": text}))
    assert remote._ssh is not None
    assert (remote._ssh.endpoint.host, remote._ssh.endpoint.port) == where


@pytest.mark.parametrize("text", ["host:x", "host:99999", "user@host", "host/x", ":22", "a b:c:d"])
def test_what_is_no_ssh_address(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Remote(HostConnection("h", options={"ssh_addr": text}))
    assert caught.value.field == "ssh_addr"


@pytest.mark.parametrize(("user", "password"), [("", "x"), ("a:b", "x"), ("a\nb", "x"), ("root", ""), ("root", "a\nb")])
def test_what_no_guest_takes(user: str, password: str) -> None:
    with pytest.raises(InvalidInput):
        check_login(user, password)


class Site:
    """A double with a Windows and a Linux template, and engines for it."""

    def __init__(self, folder: Path, world: Workstation, base: str, options: dict[str, str]) -> None:
        self.folder, self.world, self.base, self.options = folder, world, base, options

    def engine(self, launch_path: str = LAUNCH_PATH, **options: str):  # type: ignore[no-untyped-def]
        """An engine that reaches it, with some options said otherwise."""
        given = {"vnc_ports": free_ports(10)} | self.options | options
        connection = HostConnection("h", self.base, "u", "p", r"D:\VMs", r"D:\Images", launch_path, **parted(given))
        return make_engine(EngineKind.VMWARE_WORKSTATION, connection)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    world = Workstation(clone_seconds=0, act_seconds=0, boot_seconds=0.2)
    world.add("Debian 12")
    world.add("Windows 11", guest="windows11-64")
    world.add("bare", tools=False)
    with shell(world, tmp_path) as opened, served(vmrest(world, "u", "p")) as base:
        monkeypatch.setattr(sshtrust, "SYSTEM_KNOWN_HOSTS", (str(opened.known_hosts),))
        yield Site(tmp_path, world, base, opened.options)
        world.close()


def machine(site: Site, ref: str):  # type: ignore[no-untyped-def]
    return next(vm for vm in site.world.machines.values() if ref in vm.path)


async def test_a_windows_guest(site: Site) -> None:
    engine = site.engine()
    assert {image.name: image.default_user for image in await engine.list_images()}["Windows 11"] == "Administrator"
    spec = some_spec("t-", image="Windows 11", start=True, user="Administrator", password='a "b" %PATH% 密码')
    report = Recorder()
    await engine.create(spec, report)
    assert machine(site, spec.ref).passwords["Administrator"] == spec.password
    await engine.set_password(spec.ref, "Administrator", "other")
    assert machine(site, spec.ref).passwords["Administrator"] == "other"
    with pytest.raises(Conflict, match="did not take the password"):
        await engine.set_password(spec.ref, "nobody", "other")
    assert (await engine.probe()).warnings == ()
    await engine.close()


async def test_why_not(site: Site) -> None:
    """Each with its mend, and without a secret."""
    good = site.engine()
    spec = some_spec("t-", image="Debian 12", start=True)
    await good.create(spec, Recorder())
    while not (await good.inspect(spec.ref)).agent:  # Tools answer a moment after the start
        await asyncio.sleep(0.05)
    with pytest.raises(Conflict, match="guest_user"):
        await good.set_password(spec.ref, "openidcs", "x")
    cases = (
        (site.engine(ssh_addr=""), Conflict, "ssh_addr"),
        (site.engine(""), Conflict, "launch_path"),
        (site.engine("C:/Elsewhere"), Conflict, "Set launch_path"),
        (site.engine(guest_pass="wrong-secret"), Conflict, "refuses the login of openidcs"),
        (site.engine(ssh_user="nobody"), HostUnreachable, "refuses our SSH login"),
    )
    for engine, kind, words in cases:
        with pytest.raises(kind, match=words) as caught:
            await engine.set_password(spec.ref, "root", "new-secret")
        assert "secret" not in str(caught.value)
        assert GUEST_PASSWORD not in str(caught.value)
    assert "launch_path" in str((await cases[2][0].probe()).warnings[0])
    with pytest.raises(HostUnreachable):
        await cases[4][0].probe()
    for engine, *_rest in cases:
        await engine.close()
    await good.close()


async def test_the_first_password_waits_for_tools_and_is_told_when_it_fails(site: Site) -> None:
    engine = site.engine()
    engine._guests.tools_seconds = 0.6
    for image, start, words in (("bare", True, "do not answer"), ("Debian 12", False, "Start it first")):
        report = Recorder()
        spec = some_spec("t-", image=image, start=start, password="first")
        await engine.create(spec, report)
        assert any("The password was not set" in line for line in report.lines)
        assert any(words in line for line in report.lines)
        assert machine(site, spec.ref).passwords["root"] == "template"
        await engine.delete(spec.ref, spec.name, Recorder())
    await engine.close()


async def test_the_screen_through_ssh(site: Site) -> None:
    engine = site.engine()
    spec = some_spec("t-", image="Debian 12", start=True)
    await engine.create(spec, Recorder())
    target = await engine.console(spec.ref)
    reader, writer = await target.open()
    assert await reader.readexactly(12) == b"RFB 003.008\n"
    other, other_writer = await target.open()
    assert await other.readexactly(12) == b"RFB 003.008\n"
    writer.close()
    await engine.power(spec.ref, PowerAction.STOP, Recorder())
    await other.read()  # it ends
    other_writer.close()
    await engine.close()
    await engine.close()
