"""Images that a host downloads by itself: Proxmox's double does, from a real web server."""

from __future__ import annotations

import hashlib
import lzma
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from panel.engines.types import EngineKind
from panel.errors import Conflict, InvalidInput, NotFound, Unsupported
from panel.models import Host, HostImage, TaskStatus
from panel.services.container import Services
from panel.services.downloads import FetchRequest
from panel.services.hosts import HostRequest
from panel.services.taskcontext import TaskContext
from panel.settings import Settings
from tests.conftest import ADMIN
from tests.doubles.pve import Door, pve
from tests.doubles.pve_world import Cluster
from tests.doubles.serving import served
from tests.services.fileserver import FileServer, file_server, iso, qcow2, raw
from tests.services.images_kit import ended
from tests.services.kit import until

TOKEN, SECRET = "openidcs@pve!panel", "a-secret"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_folder=tmp_path / "data", fake_engine=True, observe_seconds=0.2, images_networks="127.0.0.0/8")


@pytest.fixture
def world() -> Cluster:
    made = Cluster()
    made.add("debian-12", gib=1, template=True)
    return made


@pytest.fixture
async def web() -> AsyncIterator[FileServer]:
    async with file_server() as made:
        yield made


@pytest.fixture
async def host(services: Services, world: Cluster) -> AsyncIterator[Host]:
    with served(pve(world, Door("root@pam", "x", f"{TOKEN}={SECRET}"))) as base:
        request = HostRequest(EngineKind.PROXMOX, address=base, user=TOKEN, secret=SECRET)
        await services.hosts.create(ADMIN, "pve", request)
        yield await services.hosts.get("pve")
        await services.observer.stop()


async def listed(name: str) -> HostImage:
    found: list[HostImage] = []

    async def there() -> bool:
        found[:] = await HostImage.filter(name=name)
        return bool(found)

    await until(there, 10)
    return found[0]


def wanted(web: FileServer, path: str, data: bytes, **more: str) -> FetchRequest:
    """Served, with its checksum."""
    web.file(path, data)
    return FetchRequest(**({"url": web.url(path), "checksum": hashlib.sha256(data).hexdigest()} | more))


async def fetched(services: Services, host: Host, request: FetchRequest) -> tuple[str, str]:
    return await ended(services, await services.host_images.begin(ADMIN, host, request))


async def test_an_image_comes_and_goes(
    services: Services, host: Host, world: Cluster, web: FileServer, tmp_path: Path
) -> None:
    data = qcow2(tmp_path).read_bytes()
    web.redirect("/latest.img", web.url("/noble.img"))
    web.file("/noble.img", data)
    web.file("/SUMS", f"{hashlib.sha512(data).hexdigest()} *latest.img\n".encode())
    request = FetchRequest(web.url("/latest.img"), "Ubuntu 24.04", checksum_url=web.url("/SUMS"))
    assert await fetched(services, host, request) == ("succeeded", "Image Ubuntu 24.04 is there")
    assert world.files == {"local:import/Ubuntu-24.04.qcow2": len(data)}
    assert [path for path, _name in web.asked].count("/latest.img") == 1, "the host is told where that leads"
    image = await listed("Ubuntu-24.04")
    assert (image.key, image.format) == ("local:import/Ubuntu-24.04.qcow2", "cloud image")
    with pytest.raises(Conflict, match="already"):
        await services.host_images.begin(ADMIN, host, request)
    await services.host_images.remove(ADMIN, host, image.key)
    assert world.files == {}
    assert not await HostImage.exists(key=image.key)
    with pytest.raises(NotFound):
        await services.host_images.remove(ADMIN, host, image.key)


async def test_other_kinds(services: Services, host: Host, world: Cluster, web: FileServer) -> None:
    assert (await fetched(services, host, wanted(web, "/disk.img", raw())))[0] == "succeeded"
    system = lzma.compress(b"a root file system")
    assert (await fetched(services, host, wanted(web, "/alpine.tar.xz", system, name="alpine")))[0] == "succeeded"
    assert sorted(world.files) == ["local:import/disk.raw", "local:vztmpl/alpine.tar.xz"]
    assert (await listed("alpine")).format == "container"


async def test_a_wrong_checksum_leaves_nothing(services: Services, host: Host, world: Cluster, web: FileServer) -> None:
    status, message = await fetched(services, host, wanted(web, "/disk.img", raw(), checksum="0" * 64))
    assert (status, world.files) == ("failed", {})
    assert "checksum mismatch" in message


@pytest.mark.parametrize(
    ("name", "head", "mend"),
    [
        ("a.iso", iso(), "CD image"),
        ("a.qcow2.xz", lzma.compress(b"x"), "no disk image"),
        ("a.html", b"<html>", "no disk image"),
    ],
)
async def test_what_is_no_image(
    services: Services, host: Host, world: Cluster, web: FileServer, name: str, head: bytes, mend: str
) -> None:
    status, message = await fetched(services, host, wanted(web, f"/{name}", head))
    assert (status, world.files) == ("failed", {})
    assert mend in message


async def test_a_disk_that_draws_on_another_file(
    services: Services, host: Host, world: Cluster, web: FileServer, tmp_path: Path
) -> None:
    qcow2(tmp_path, "base.qcow2")
    backed = qcow2(tmp_path, "on.qcow2", "-b", "base.qcow2", "-F", "qcow2").read_bytes()
    external = qcow2(tmp_path, "ext.qcow2", "-o", f"data_file={tmp_path / 'data.raw'}").read_bytes()
    for number, data in enumerate((backed, external)):
        status, message = await fetched(services, host, wanted(web, f"/{number}.qcow2", data))
        assert (status, world.files) == ("failed", {})
        assert "draws on another file" in message


async def test_where_it_may_not_come_from(services: Services, host: Host, web: FileServer) -> None:
    """As for a download of the panel's own: each redirect is checked, before the host hears of anything."""
    web.redirect("/away.img", "http://169.254.169.254/latest")
    request = FetchRequest(web.url("/away.img"), checksum="0" * 64)
    status, message = await fetched(services, host, request)
    assert status == "failed"
    assert "no public address" in message


@pytest.mark.parametrize("sums", [{}, {"checksum": "0" * 64, "checksum_url": "http://127.0.0.1/S"}])
async def test_a_checksum_is_needed(services: Services, host: Host, sums: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match="only that tells") as caught:
        await services.host_images.begin(ADMIN, host, FetchRequest("http://127.0.0.1/a.img", **sums))
    assert caught.value.field == "checksum"


async def test_a_template_stays(services: Services, host: Host) -> None:
    image = await listed("debian-12")
    with pytest.raises(Conflict, match="template VM"):
        await services.host_images.remove(ADMIN, host, image.key)


async def test_no_storage_for_it(services: Services, host: Host, web: FileServer) -> None:
    await Host.filter(id=host.id).update(images_path="fast")
    status, message = await fetched(services, await services.hosts.get("pve"), wanted(web, "/disk.img", raw()))
    assert status == "failed"
    assert "These do: local" in message


async def test_a_panel_that_stopped_meanwhile(services: Services, host: Host, world: Cluster, web: FileServer) -> None:
    task = await services.host_images.begin(ADMIN, host, wanted(web, "/disk.img", raw()))
    context = TaskContext.__new__(TaskContext)
    context.task, context.params = task, services.tasks.params_of(task)
    assert (await services.tasks.wait(task.id, 20)).status == TaskStatus.SUCCEEDED
    assert (await services.host_images._settle(context))[0] is TaskStatus.SUCCEEDED
    world.files.clear()
    status, text = await services.host_images._settle(context)
    assert status is TaskStatus.FAILED
    assert "The host may finish it" in str(text)


async def test_hosts_that_cannot(services: Services, fake_host: str) -> None:
    with pytest.raises(Unsupported):
        await services.host_images.begin(ADMIN, await services.hosts.get(fake_host), FetchRequest("http://127.0.0.1/a"))
