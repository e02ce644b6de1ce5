"""What is vSphere's own, over VMware's simulator: logins, certificates, settings that name nothing, sessions that end, clones."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from pyVmomi import vim

from panel.engines.common.tls import fingerprint_of
from panel.engines.types import HostConnection, NicMode, NicSpec, PowerAction, PowerState, VmChange, VmSpec
from panel.engines.vsphere.client import REFUSED_SECONDS
from panel.engines.vsphere.config import KEY
from panel.engines.vsphere.engine import VsphereEngine
from panel.errors import CertificateRefused, Conflict, EngineFailure, HostUnreachable, InvalidInput, PanelError
from tests.certs import made
from tests.contract.kit import Recorder, random_mac, some_spec, until
from tests.doubles.vcsim import vcsim
from tests.doubles.vcsim_world import World

pytestmark = pytest.mark.live
USER, PASSWORD = "panel@vsphere.local", "pass word=1&<"


@dataclass
class Host:
    """A simulator, and how to connect to it."""

    world: World
    fingerprint: str

    def engine(self, user: str = USER, secret: str = PASSWORD, store: str = "", **options: str) -> VsphereEngine:
        options = {"fingerprint": self.fingerprint, "network_nat": "VM Network"} | options
        return VsphereEngine(HostConnection("h", self.world.base, user, secret, disks_path=store, options=options))


@pytest.fixture(scope="module", params=[False, True], ids=["vcenter", "esxi"])
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    own = made("localhost")
    pem: Path = tmp_path_factory.mktemp("vsphere") / "vcsim.pem"
    pem.write_text(own.key_pem + own.pem)
    with vcsim(pem, USER, PASSWORD, esx=request.param) as base:
        world = World(base, USER, PASSWORD)
        world.add("template-debian", template=True)
        yield Host(world, fingerprint_of(own.certificate.public_bytes(Encoding.DER)))


def spec(**changes: Any) -> VmSpec:
    return some_spec("vs-", **({"image": "template-debian"} | changes))


async def failed(engine: VsphereEngine) -> PanelError:
    """Why the connection test fails."""
    try:
        with pytest.raises(PanelError) as caught:
            await engine.probe()
    finally:
        await engine.close()
    return caught.value


async def test_the_certificate_is_shown_and_pinned(host: Host) -> None:
    error = await failed(host.engine(fingerprint=""))
    assert isinstance(error, CertificateRefused)
    assert host.fingerprint in str(error)
    error = await failed(host.engine(fingerprint="AB" * 32))
    assert isinstance(error, CertificateRefused)
    assert "another certificate" in str(error)
    engine = host.engine()
    info = await engine.probe()
    assert info.version.startswith("VMware ")
    assert info.cpu_count > 0
    assert not [str(text) for text in info.warnings if "network_bridge" in str(text)]
    await engine.close()


async def test_a_refused_login_is_not_tried_again(host: Host) -> None:
    engine = host.engine(secret="wrong-secret")
    with pytest.raises(HostUnreachable, match="server_user") as caught:
        await engine.probe()
    assert "wrong-secret" not in str(caught.value)
    engine._client._secret = PASSWORD  # it would work now, and still is not tried: hosts lock accounts
    with pytest.raises(HostUnreachable, match="lock"):
        await engine.observe()
    assert engine._client._refused is not None
    engine._client._refused = (engine._client._refused[0] - REFUSED_SECONDS, engine._client._refused[1])
    assert await engine.observe() == []
    await engine.close()


async def test_a_session_that_ended_is_opened_again(host: Host) -> None:
    engine = host.engine()
    await engine.observe()
    session = engine._client._session
    assert session is not None
    session.content.sessionManager.Logout()
    assert await engine.observe() == []
    assert engine._client._session is not session
    await engine.close()


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"datacenter": "nowhere"}, "datacenter"),
        ({"cluster": "none"}, "cluster"),
        ({"folder": "a/b"}, "folder"),
        ({"store": "none"}, "system_path"),
    ],
    ids=["datacenter", "cluster", "folder", "datastore"],
)
async def test_a_setting_that_names_nothing_says_what_there_is(host: Host, options: Any, field: str) -> None:
    error = await failed(host.engine(**options))
    assert isinstance(error, InvalidInput)
    assert error.field == field
    assert "There is:" in str(error)


async def test_a_missing_port_group_warns_and_refuses(host: Host) -> None:
    engine = host.engine(network_nat="nope", network_bridge="")
    assert [str(text) for text in (await engine.probe()).warnings if "nope" in str(text)]
    before = set(host.world.folder.rglob("*"))
    with pytest.raises(InvalidInput, match="VM Network") as caught:
        await engine.create(spec(), Recorder())
    assert caught.value.field == "nic_all"
    with pytest.raises(InvalidInput) as caught:
        await engine.create(spec(nics=(NicSpec("eth0", NicMode.BRIDGE, random_mac()),)), Recorder())
    assert caught.value.field == "nic_all"
    assert set(host.world.folder.rglob("*")) == before
    await engine.close()


async def test_a_copy_is_told_its_login_and_network(host: Host) -> None:
    engine = host.engine()
    mac = random_mac()
    nic = NicSpec("eth0", NicMode.NAT, mac, addresses=("203.0.113.5/24",), gateways=("203.0.113.1",), dns=("9.9.9.9",))
    wanted = spec(nics=(nic,), password="p'\"\\:1", hostname="box", disk_gib=3, cpu_count=2)
    await engine.create(wanted, Recorder())
    assert host.world.seed(wanted.ref)["chpasswd"]["list"] == "root:p'\"\\:1\n"
    settings = {one.key: one.value for one in host.world.vm(wanted.ref).config.extraConfig}
    told = json.loads(base64.b64decode(settings["guestinfo.metadata"]))
    assert told["local-hostname"] == "box"
    assert told["cleanup-guestinfo"] == ["userdata"]
    assert told["network"]["ethernets"]["nic0"] == {
        "match": {"macaddress": mac},
        "dhcp4": False,
        "addresses": ["203.0.113.5/24"],
        "routes": [{"to": "0.0.0.0/0", "via": "203.0.113.1"}],
        "nameservers": {"addresses": ["9.9.9.9"]},
    }
    seen = await engine.inspect(wanted.ref)
    assert (seen.disk_gib, seen.cpu_count, [nic.model for nic in seen.nics]) == (3, 2, ["vmxnet3"])
    await engine.delete(wanted.ref, wanted.name, Recorder())
    await engine.close()


async def test_a_copy_made_by_hand_is_not_the_panels(host: Host) -> None:
    engine = host.engine()
    wanted = spec(image=None)
    await engine.create(wanted, Recorder())
    original = host.world.vm(wanted.ref)
    mark = next(one for one in original.config.extraConfig if one.key == KEY)
    other = host.world.add("vs-by-hand")
    host.world.wait(other.ReconfigVM_Task(vim.vm.ConfigSpec(extraConfig=[mark])))
    seen = {vm.name: vm for vm in await engine.observe()}
    assert (seen[wanted.name].managed, seen["vs-by-hand"].managed) == (True, False)
    for vm in seen.values():
        await engine.delete(vm.ref, vm.name, Recorder())
    await engine.close()


def attach(host: Host, ref: str, donor: Any) -> str:
    """Give the VM another one's disk too, as somebody might by hand; the disk's file."""
    disk = next(one for one in donor.config.hardware.device if isinstance(one, vim.vm.device.VirtualDisk))
    vm = host.world.vm(ref)
    path, device = disk.backing.fileName, vim.vm.device
    attached = device.VirtualDisk(
        key=-1,
        controllerKey=next(
            one.key for one in vm.config.hardware.device if isinstance(one, device.VirtualAHCIController)
        ),
        unitNumber=7,
        capacityInKB=disk.capacityInKB,
        backing=device.VirtualDisk.FlatVer2BackingInfo(diskMode="persistent", fileName=path),
    )
    change = device.VirtualDeviceSpec(operation="add", device=attached)
    host.world.wait(vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[change])))
    return str(path)


async def test_a_disk_of_another_folder_is_detached_and_stays(host: Host) -> None:
    engine = host.engine()
    wanted, donor = spec(image=None), host.world.add("vs-donor")
    await engine.create(wanted, Recorder())
    path = attach(host, wanted.ref, donor)
    assert [one.ours for one in (await engine.inspect(wanted.ref)).disks if one.format] == [True, False]
    outcome = await engine.delete(wanted.ref, wanted.name, Recorder())
    assert outcome.kept == (path,)
    assert host.world.path(path).exists()
    host.world.wait(donor.Destroy_Task())
    await engine.close()


async def test_a_guest_without_tools_is_told_apart_from_a_slow_one(host: Host) -> None:
    engine = host.engine(shutdown_timeout="1")
    wanted = spec(image=None, start=True)
    await engine.create(wanted, Recorder())
    with pytest.raises(Conflict, match="open-vm-tools"):
        await engine.power(wanted.ref, PowerAction.SHUTDOWN, Recorder())
    assert (await engine.inspect(wanted.ref)).state is PowerState.RUNNING
    with pytest.raises(Conflict, match="Stop the VM first"):
        await engine.update(wanted.ref, VmChange(memory_mib=512, title="no"), Recorder())
    hot = vim.vm.ConfigSpec(memoryHotAddEnabled=True)
    host.world.wait(host.world.vm(wanted.ref).ReconfigVM_Task(hot))
    assert (await engine.update(wanted.ref, VmChange(memory_mib=512), Recorder())).live == ("memory_mib",)
    with pytest.raises(Conflict):
        await engine.update(wanted.ref, VmChange(memory_mib=256), Recorder())
    await engine.delete(wanted.ref, wanted.name, Recorder())
    await engine.close()


async def test_a_round_is_a_few_calls(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = host.engine()
    made_ones = [spec(image=None) for _ in range(3)]
    for one in made_ones:
        await engine.create(one, Recorder())
    await engine.observe()
    session = engine._client._session
    assert session is not None
    calls: list[str] = []
    real = session.stub.InvokeMethod

    def counted(mo: Any, info: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(info.name)
        return real(mo, info, *args, **kwargs)

    monkeypatch.setattr(session.stub, "InvokeMethod", counted)
    assert len(await engine.observe()) == 3
    assert calls == ["RetrievePropertiesEx"]
    for one in made_ones:
        await engine.delete(one.ref, one.name, Recorder())
    await engine.close()


async def test_a_task_that_fails_says_why(host: Host) -> None:
    engine = host.engine()
    wanted = spec(image=None)
    await engine.create(wanted, Recorder())
    with pytest.raises(EngineFailure, match="refuses"):
        await engine._tasks.run(
            lambda session: session.vm(host.world.vm(wanted.ref)._moId).ReconfigVM_Task(
                vim.vm.ConfigSpec(guestId="no-such-system")
            ),
            10,
        )
    await engine.delete(wanted.ref, wanted.name, Recorder())
    await engine.close()


@pytest.mark.parametrize(
    ("login", "user", "says"),
    [
        (("", ""), "root", "guest_user, guest_pass"),
        (("openidcs", "wrong"), "root", "guest refuses the login"),
        (("openidcs", PASSWORD), "openidcs", "own login"),
    ],
    ids=["none", "wrong", "its-own"],
)
async def test_passwords_need_a_login_in_the_guest(host: Host, login: tuple[str, str], user: str, says: str) -> None:
    options = {"fingerprint": host.fingerprint, "network_nat": "VM Network", "guest_user": login[0]}
    secrets = {"guest_pass": login[1]}
    engine = VsphereEngine(HostConnection("h", host.world.base, USER, PASSWORD, options=options, secrets=secrets))
    wanted = spec(start=True)
    await engine.create(wanted, Recorder())
    await until_tools(engine, wanted.ref)
    with pytest.raises(PanelError, match=says) as caught:
        await engine.set_password(wanted.ref, user, "new-secret")
    assert "new-secret" not in str(caught.value)
    assert host.world.login(wanted.ref) == ""
    await engine.delete(wanted.ref, wanted.name, Recorder())
    await engine.close()


async def until_tools(engine: VsphereEngine, ref: str) -> None:
    async def answers() -> bool:
        return bool((await engine.inspect(ref)).agent)

    await until(answers, 10, "VMware Tools run")
