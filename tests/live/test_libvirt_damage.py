"""The libvirt engine against this machine's libvirt: whole or not at all, whatever breaks, and nothing of others."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable
from uuid import uuid4

import pytest

from panel.engines.libvirt.engine import LibvirtEngine
from panel.errors import Conflict, InvalidInput
from tests.leftovers import connected
from tests.live.engine_site import IMAGE, Place, Report, spec

pytestmark = pytest.mark.live


async def test_seed_and_disk_are_for_root_alone(engine: LibvirtEngine, place: Place) -> None:
    vm = spec(password="secret-in-the-seed")
    await engine.create(vm, Report())
    assert place.files() == {f"{vm.name}.qcow2", f"{vm.name}-seed.iso"}
    assert {path.stat().st_mode & 0o777 for path in place.disks.iterdir()} == {0o600}
    with connected() as conn:
        assert "secret-in-the-seed" not in conn.lookupByUUIDString(vm.ref).XMLDesc()
    await engine.delete(vm.ref, vm.name, Report())
    assert place.files() == set()


async def test_broken_at_each_step(engine: LibvirtEngine, place: Place) -> None:
    def breaker(number: int) -> Callable[[int], None]:
        def at(step: int) -> None:
            if step == number:
                raise RuntimeError("broken by the test")

        return at

    for number in range(1, 50):
        vm = spec(start=True)
        try:
            await engine.create(vm, Report(breaker(number)))
        except RuntimeError:
            assert place.files() == set()
            assert vm.ref not in {seen.ref for seen in await engine.observe()}
            continue
        await engine.delete(vm.ref, vm.name, Report())
        assert number > 5
        return
    pytest.fail("it never ended")


@pytest.mark.parametrize("after", [0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8])
async def test_cancelled_in_the_middle(engine: LibvirtEngine, place: Place, after: float) -> None:
    vm = spec(start=True)
    task = asyncio.create_task(engine.create(vm, Report()))
    await asyncio.sleep(after)
    task.cancel()
    task.cancel()  # an impatient one
    await asyncio.wait({task})
    if not task.cancelled():
        await engine.delete(vm.ref, vm.name, Report())
    assert place.files() == set()
    assert vm.ref not in {seen.ref for seen in await engine.observe()}


async def test_a_disk_that_is_not_ours_is_neither_overwritten_nor_removed(engine: LibvirtEngine, place: Place) -> None:
    vm = spec()
    other = place.disks / f"{vm.name}.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", other, "1G"], check=True)
    before = other.read_bytes()
    with pytest.raises(Conflict, match=other.name):
        await engine.create(vm, Report())
    outcome = await engine.delete(vm.ref, vm.name, Report())  # what a settled task does
    assert outcome.kept == (str(other),)
    assert other.read_bytes() == before
    assert [left.path for left in await engine.leftovers()] == [str(other)]
    other.unlink()


async def test_after_a_crash_before_the_definition(engine: LibvirtEngine, place: Place) -> None:
    vm = spec()
    await engine.create(vm, Report())
    with connected() as conn:
        conn.lookupByUUIDString(vm.ref).undefine()
    assert len(await engine.leftovers()) == 2
    assert len((await engine.delete(str(uuid4()), vm.name, Report())).kept) == 2, "another's of the same name"
    assert len((await engine.delete(vm.ref, vm.name, Report())).removed) == 2
    assert place.files() == set()


async def test_a_disk_that_another_vm_uses_stays(engine: LibvirtEngine, place: Place) -> None:
    vm, other = spec(), str(uuid4())
    await engine.create(vm, Report())
    disk = place.disks / f"{vm.name}.qcow2"
    with connected() as conn:
        conn.defineXML(
            f"<domain type='qemu'><name>e-{other[:8]}</name><uuid>{other}</uuid><memory unit='MiB'>64</memory>"
            "<os><type>hvm</type></os><devices><disk type='file'><driver name='qemu' type='qcow2'/>"
            f"<source file='{disk}'/><target dev='vda'/></disk></devices></domain>"
        )
    outcome = await engine.delete(vm.ref, vm.name, Report())
    assert outcome.kept == (str(disk),)
    assert (await engine.delete(other, "any name", Report())).kept == (str(disk),)
    assert [left.path for left in await engine.leftovers()] == [str(disk)]
    disk.unlink()


async def test_raw_images_and_foreign_parts(engine: LibvirtEngine, place: Place) -> None:
    subprocess.run(["qemu-img", "create", "-q", "-f", "raw", place.images / "plain.img", "3G"], check=True)
    base = ["-b", str(place.images / "tiny.qcow2"), "-F", "qcow2"]
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *base, place.images / "layer.qcow2"], check=True)
    try:
        assert {image.name for image in await engine.list_images()} == {IMAGE, "plain", "layer"}
        with pytest.raises(InvalidInput, match="at least 3 GiB"):
            await engine.create(spec(image="plain"), Report())
        with pytest.raises(InvalidInput, match="other files"):
            await engine.create(spec(image="layer"), Report())
        vm = spec(image="plain", disk_gib=3)
        await engine.create(vm, Report())
        info = subprocess.run(
            ["qemu-img", "info", "--output=json", place.disks / f"{vm.name}.qcow2"], check=True, capture_output=True
        )
        assert json.loads(info.stdout)["format"] == "qcow2"
        await engine.delete(vm.ref, vm.name, Report())
    finally:
        for name in ("plain.img", "layer.qcow2"):
            (place.images / name).unlink()
