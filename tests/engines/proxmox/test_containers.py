"""Containers (LXC), and VMs of cloud images: made of a storage's files, used, removed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from panel.engines.consoletypes import TextSize
from panel.engines.proxmox.engine import ProxmoxEngine
from panel.engines.types import NicMode, NicSpec, PowerAction, PowerState, VmChange, VmSpec
from panel.errors import Conflict, InvalidInput, NotFound, PanelError, Unsupported
from tests.contract.kit import Breaker, Recorder, Stopped, dial
from tests.contract.terminal import terminal

from .kit import Double, machine, spec

SYSTEM, CLOUD = "debian-12-standard_12.7-1_amd64", "noble-server-cloudimg-amd64"
NICS = (
    NicSpec("eth0", NicMode.NAT, "52:54:00:00:00:01"),
    NicSpec("eth1", NicMode.BRIDGE, "52:54:00:00:00:02", addresses=("203.0.113.9/24", "2001:db8::9/64"),
            gateways=("203.0.113.1",), dns=("9.9.9.9", "9.9.9.9")),
)  # fmt: skip
KEYS = ('ssh-ed25519 AAAA+/8= a: "b" #c', "ssh-rsa BBBB 密钥")


@pytest.fixture
async def engine(double: Double) -> AsyncIterator[ProxmoxEngine]:
    """Of a cluster with a system for containers and a cloud image."""
    double.world.files |= {f"local:vztmpl/{SYSTEM}.tar.zst": 126_000_000, f"local:import/{CLOUD}.qcow2": 600_000_000}
    double.world.files |= {"local:iso/debian.iso": 1, "local:import/appliance.ova": 1}
    made = double.engine()
    yield made
    await made.close()
    double.world.files.clear()


@pytest.fixture
async def box(engine: ProxmoxEngine) -> AsyncIterator[VmSpec]:
    """A running container."""
    made = spec(
        image=SYSTEM,
        nics=NICS,
        password="first-boot",
        ssh_keys=KEYS,
        memory_mib=256,
        disk_gib=2,
        title="箱子",
        start=True,
    )
    await engine.create(made, Recorder())
    yield made
    await engine.delete(made.ref, made.name, Recorder())


async def test_what_there_is_to_make_from(engine: ProxmoxEngine) -> None:
    found = {image.name: image for image in await engine.list_images()}
    assert list(found) == ["debian-12", SYSTEM, CLOUD]
    assert [image.format for image in found.values()] == ["template", "container", "cloud image"]
    assert found[CLOUD].key == f"local:import/{CLOUD}.qcow2"
    assert found[SYSTEM].size_bytes == 126_000_000


async def test_a_container_is_as_asked_for(double: Double, engine: ProxmoxEngine, box: VmSpec) -> None:
    config = machine(double, box.ref).config
    assert (config["unprivileged"], config["features"], config["nameserver"]) == ("1", "nesting=1", "9.9.9.9")
    assert config["rootfs"] == f"local-lvm:vm-{machine(double, box.ref).vmid}-disk-0,size=2G"
    assert config["net0"] == "name=eth0,bridge=vmbr1,hwaddr=52:54:00:00:00:01,type=veth,ip=dhcp"
    assert "gw=203.0.113.1,ip=203.0.113.9/24,ip6=2001:db8::9/64" in config["net1"]
    assert machine(double, box.ref).passwords == {"root": "first-boot"}
    assert machine(double, box.ref).keys == list(KEYS)
    assert "password" not in config
    seen = {vm.ref: vm for vm in await engine.observe()}[box.ref]
    assert (seen.title, seen.state, seen.cpu_count, seen.memory_mib, seen.disk_gib) == (
        "箱子", PowerState.RUNNING, 1, 256, 2)  # fmt: skip
    assert [(nic.name, nic.mac, nic.mode, nic.model) for nic in seen.nics] == [
        ("eth0", "52:54:00:00:00:01", NicMode.NAT, "veth"), ("eth1", "52:54:00:00:00:02", NicMode.BRIDGE, "veth"),
    ]  # fmt: skip
    assert seen.nics[1].addresses == ("203.0.113.9",)
    assert (seen.managed, seen.agent, [disk.name for disk in seen.disks]) == (True, None, ["rootfs"])


async def test_a_containers_power(engine: ProxmoxEngine, double: Double, box: VmSpec) -> None:
    for action, goal in ((PowerAction.SHUTDOWN, PowerState.STOPPED), (PowerAction.START, PowerState.RUNNING),
                         (PowerAction.RESET, PowerState.RUNNING), (PowerAction.STOP, PowerState.STOPPED)):  # fmt: skip
        await engine.power(box.ref, action, Recorder())
        assert (await engine.inspect(box.ref)).state is goal
    kinds = [task.kind for task in double.world.tasks.values() if task.kind.startswith("vz")]
    assert kinds[-5:] == ["vzshutdown", "vzstart", "vzstop", "vzstart", "vzstop"]
    with pytest.raises(Conflict, match="stopped"):
        await engine.power(box.ref, PowerAction.SUSPEND, Recorder())
    await engine.power(box.ref, PowerAction.START, Recorder())
    with pytest.raises(Unsupported, match="suspended"):
        await engine.power(box.ref, PowerAction.SUSPEND, Recorder())


async def test_a_container_changes_at_once(engine: ProxmoxEngine, box: VmSpec) -> None:
    change = VmChange(title="Bigger", cpu_count=2, memory_mib=512, disk_gib=3)
    outcome = await engine.update(box.ref, change, Recorder())
    assert (sorted(outcome.live), outcome.at_next_start) == (["cpu_count", "disk_gib", "memory_mib", "title"], ())
    seen = await engine.inspect(box.ref)
    assert (seen.title, seen.cpu_count, seen.memory_mib, seen.disk_gib) == ("Bigger", 2, 512, 3)
    with pytest.raises(InvalidInput) as caught:
        await engine.update(box.ref, VmChange(disk_gib=1), Recorder())
    assert caught.value.field == "hdd_num"


async def test_a_containers_consoles(engine: ProxmoxEngine, box: VmSpec) -> None:
    reader, writer = await dial(await engine.console(box.ref))
    assert await asyncio.wait_for(reader.readexactly(12), 5) == b"RFB 003.008\n"
    writer.close()
    assert (await engine.text_console(box.ref)).resizes
    async with terminal(engine, box.ref, TextSize(101, 31)) as first, terminal(engine, box.ref) as second:
        for shown in (first, second):
            await shown.until("[#$] ?")
        await first.run("stty size", "31 101")
        await second.stream.resize(TextSize(99, 43))
        await second.run("stty size", "43 99")
        await engine.power(box.ref, PowerAction.STOP, Recorder())
        await first.until_end()
        await second.until_end()
    with pytest.raises(Conflict, match="Start it"):
        await engine.text_console(box.ref)
    await engine.power(box.ref, PowerAction.START, Recorder())


async def test_a_containers_password_is_set_at_its_making_only(engine: ProxmoxEngine, box: VmSpec) -> None:
    with pytest.raises(Unsupported, match="passwd"):
        await engine.set_password(box.ref, "root", "long enough")
    with pytest.raises(InvalidInput) as caught:
        await engine.create(spec(image=SYSTEM, password="four"), Recorder())
    assert caught.value.field == "os_pass"


async def test_a_container_of_others_is_seen_and_stays(engine: ProxmoxEngine, double: Double, box: VmSpec) -> None:
    vm = machine(double, box.ref)
    notes = vm.config.pop("description")
    seen = {one.ref: one for one in await double.engine().observe()}[str(vm.vmid)]
    assert (seen.name, seen.managed) == (vm.config["hostname"], False)
    with pytest.raises(Unsupported, match="did not make"):
        await engine.delete(str(vm.vmid), vm.name, Recorder())
    vm.config["description"] = notes


@pytest.mark.parametrize("image", [SYSTEM, CLOUD])
async def test_broken_at_any_step_leaves_nothing(engine: ProxmoxEngine, double: Double, image: str) -> None:
    for at in range(1, 40):
        wanted, volumes = spec(image=image, disk_gib=4, start=True), set(double.world.volumes)
        try:
            await engine.create(wanted, Breaker(at))
        except Stopped:
            assert double.world.volumes == volumes, f"left by a create that broke at step {at}"
            with pytest.raises(NotFound):
                await engine.inspect(wanted.ref)
            continue
        await engine.delete(wanted.ref, wanted.name, Recorder())
        assert (at > 3, double.world.volumes) == (True, volumes)
        return
    raise AssertionError("it never ended")


async def test_a_vm_of_a_cloud_image(engine: ProxmoxEngine, double: Double) -> None:
    wanted = spec(image=CLOUD, nics=NICS, password="first-boot", disk_gib=5, cpu_count=2, start=True)
    await engine.create(wanted, Recorder())
    config = machine(double, wanted.ref).config
    vmid = machine(double, wanted.ref).vmid
    assert config["scsi0"] == f"local-lvm:vm-{vmid}-disk-0,size=5G"
    assert (config["serial0"], config["agent"], config["boot"]) == ("socket", "1", "order=scsi0")
    assert (config["ciuser"], config["cipassword"]) == ("root", "first-boot")
    assert config["net0"] == "virtio=52:54:00:00:00:01,bridge=vmbr1"
    assert config["ipconfig1"] == "gw=203.0.113.1,ip=203.0.113.9/24,ip6=2001:db8::9/64"
    seen = await engine.inspect(wanted.ref)
    assert (seen.state, seen.cpu_count, seen.disk_gib, seen.managed) == (PowerState.RUNNING, 2, 5, True)
    await engine.delete(wanted.ref, wanted.name, Recorder())


async def test_an_image_that_is_larger_than_the_disk(engine: ProxmoxEngine, double: Double) -> None:
    volumes = set(double.world.volumes)
    with pytest.raises(InvalidInput) as caught:
        await engine.create(spec(image=CLOUD, disk_gib=1), Recorder())
    assert caught.value.field == "hdd_num"
    assert double.world.volumes == volumes


async def test_a_storage_that_takes_no_such_disks(double: Double, engine: ProxmoxEngine) -> None:
    other = double.engine(storage="local")
    for image in (SYSTEM, CLOUD):
        with pytest.raises(PanelError) as caught:
            await other.create(spec(image=image), Recorder())
        assert isinstance(caught.value, InvalidInput)
        assert caught.value.field == "system_path"
    await other.close()
