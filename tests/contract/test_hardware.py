"""The CD drive, the boot order, the list of disks and cards, and the picture of the screen."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from panel.engines.base import Engine
from panel.engines.types import BootDevice, PowerAction, VmChange
from panel.errors import Conflict, InvalidInput, Unsupported

from .conftest import Make
from .kit import Recorder, contract, until
from .providers import Rig

DISK, CDROM, NETWORK = BootDevice.DISK, BootDevice.CDROM, BootDevice.NETWORK


@contract("create", "disk_size")
async def test_what_a_vm_is_made_of(engine: Engine, make: Make) -> None:
    """The system disk with its size, ours; the card and its MAC; the same in the round and in a look at one."""
    spec = await make(disk_gib=2)
    seen = await engine.inspect(spec.ref)
    disk = next(disk for disk in seen.disks if disk.kind is DISK)
    assert disk.size_gib == pytest.approx(2, abs=0.01)
    assert disk.ours
    assert disk.source
    assert disk.bus
    assert [nic.mac for nic in seen.nics] == [nic.mac for nic in spec.nics]
    assert all(nic.model for nic in seen.nics)
    everything = {vm.ref: vm for vm in await engine.observe()}
    assert everything[spec.ref].disks == seen.disks
    assert everything[spec.ref].boot == seen.boot


@contract("iso")
async def test_isos_are_listed(rig: Rig, engine: Engine) -> None:
    listed = await engine.list_isos()
    assert rig.iso in {iso.name for iso in listed}
    assert all(iso.size_bytes > 0 for iso in listed)
    assert listed == sorted(listed, key=lambda iso: iso.name)


@contract("images", "iso")
async def test_an_iso_is_no_image(rig: Rig, engine: Engine) -> None:
    assert rig.iso not in {image.key for image in await engine.list_images()}


@contract()
async def test_without_it_there_is_no_list(engine: Engine) -> None:
    if engine.capabilities.iso:
        return  # test_isos_are_listed holds this one
    with pytest.raises(Unsupported):
        await engine.list_isos()


@pytest.mark.parametrize("start", [False, True], ids=["stopped", "running"])
@contract("create", "update", "iso")
async def test_insert_and_eject(rig: Rig, engine: Engine, make: Make, start: bool) -> None:
    """At once, in a VM of the panel's, which has a drive; again changes nothing; the disk and the settings stay."""
    ref = (await make(start=start)).ref
    before = await engine.inspect(ref)
    assert before.iso == ""
    for wanted in (rig.iso, rig.iso, "", ""):
        outcome = await engine.update(ref, VmChange(iso=wanted), Recorder())
        assert (outcome.live, outcome.at_next_start) == (("iso",), ())
        seen = await engine.inspect(ref)
        assert seen.iso == wanted
        drive = [disk.source for disk in seen.disks if disk.source.endswith(rig.iso)]
        assert len(drive) == (1 if wanted else 0)
    assert seen.disks == before.disks


@contract("create", "update", "iso", "power.start", "power.stop")
async def test_an_inserted_cd_stays_through_a_restart(rig: Rig, engine: Engine, make: Make) -> None:
    ref = (await make(start=True)).ref
    await engine.update(ref, VmChange(iso=rig.iso), Recorder())
    await engine.power(ref, PowerAction.STOP, Recorder())
    assert (await engine.inspect(ref)).iso == rig.iso
    await engine.power(ref, PowerAction.START, Recorder())
    assert (await engine.inspect(ref)).iso == rig.iso


@contract("scan", "update", "iso")
async def test_a_vm_without_a_drive_gets_one(rig: Rig, engine: Engine) -> None:
    """Somebody else's, stopped: nothing to eject, then a CD in a new drive; its disk is as it was."""
    ref, _name, disk = rig.foreign()
    try:
        assert (await engine.inspect(ref)).iso is None
        await engine.update(ref, VmChange(iso=""), Recorder())
        assert (await engine.inspect(ref)).iso is None
        await engine.update(ref, VmChange(iso=rig.iso), Recorder())
        seen = await engine.inspect(ref)
        assert seen.iso == rig.iso
        assert disk in {one.source for one in seen.disks}
        assert not any(one.ours for one in seen.disks)
    finally:
        rig.remove_foreign(ref, disk)


@pytest.mark.parametrize(
    "name", ["nope.iso", "../../etc/passwd", "/etc/passwd", " ", "a\0b", "<x/>", "名.iso"], ids=repr
)
@contract("create", "update", "iso")
async def test_only_isos_of_the_host(engine: Engine, make: Make, name: str) -> None:
    ref = (await make()).ref
    with pytest.raises(InvalidInput) as caught:
        await engine.update(ref, VmChange(title="No", iso=name), Recorder())
    assert caught.value.field == "iso"
    seen = await engine.inspect(ref)
    assert (seen.title, seen.iso) == ("A machine", "")


@contract("create", "update", "boot_order")
async def test_boot_order_of_a_stopped_vm(engine: Engine, make: Make) -> None:
    ref = (await make()).ref
    assert (await engine.inspect(ref)).boot == (DISK, CDROM)
    for order in ((CDROM, DISK), (NETWORK,), (DISK, NETWORK, CDROM), (DISK,)):
        outcome = await engine.update(ref, VmChange(boot=order), Recorder())
        assert outcome.live == ("boot",)
        assert (await engine.inspect(ref)).boot == order


@contract("create", "update", "boot_order", "power.start", "power.stop")
async def test_boot_order_of_a_running_vm_waits(engine: Engine, make: Make) -> None:
    """For its next start; the order that it runs with is no change."""
    ref = (await make(start=True)).ref
    same = await engine.update(ref, VmChange(boot=(DISK, CDROM)), Recorder())
    assert same.live == ("boot",)
    outcome = await engine.update(ref, VmChange(boot=(CDROM, DISK)), Recorder())
    assert outcome.at_next_start == ("boot",)
    assert (await engine.inspect(ref)).boot == (DISK, CDROM)
    await engine.power(ref, PowerAction.STOP, Recorder())
    await engine.power(ref, PowerAction.START, Recorder())
    assert (await engine.inspect(ref)).boot == (CDROM, DISK)


@pytest.mark.parametrize("order", [(), (DISK, DISK)], ids=["empty", "twice"])
@contract("create", "update", "boot_order")
async def test_a_bad_order_changes_nothing(engine: Engine, make: Make, order: tuple[BootDevice, ...]) -> None:
    ref = (await make()).ref
    with pytest.raises(InvalidInput) as caught:
        await engine.update(ref, VmChange(title="No", boot=order), Recorder())
    assert caught.value.field == "boot"
    seen = await engine.inspect(ref)
    assert (seen.title, seen.boot) == ("A machine", (DISK, CDROM))


@contract("create", "update", "boot_order")
async def test_no_interface_to_start_from(engine: Engine, make: Make) -> None:
    ref = (await make(nics=())).ref
    with pytest.raises(InvalidInput) as caught:
        await engine.update(ref, VmChange(boot=(NETWORK, DISK)), Recorder())
    assert caught.value.field == "boot"


@contract("create", "screenshot", "power.suspend")
async def test_a_picture_of_the_screen(engine: Engine, make: Make) -> None:
    """A PNG of the width that was asked for, with something on it; of a suspended VM as well; never wider than it is."""
    ref = (await make(start=True)).ref

    async def something() -> bool:
        picture = opened(await engine.screenshot(ref, 320))
        return len(picture.getcolors(100_000) or range(2)) > 1

    await until(something, 60, "the screen shows something")
    assert opened(await engine.screenshot(ref, 160)).width == 160
    assert opened(await engine.screenshot(ref, 100_000)).width < 100_000
    await engine.power(ref, PowerAction.SUSPEND, Recorder())
    assert opened(await engine.screenshot(ref, 160)).width == 160


@contract("create", "screenshot")
async def test_no_picture_of_a_vm_that_is_off(engine: Engine, make: Make) -> None:
    ref = (await make()).ref
    with pytest.raises(Conflict):
        await engine.screenshot(ref, 320)


def opened(data: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(data))
    assert picture.format == "PNG"
    return picture
