"""Images by URL, from files, and their removal: whole or not at all, and nothing that draws on the host's files."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from panel.engines.fake.engine import FakeEngine
from panel.engines.fake.world import world
from panel.engines.types import EngineKind
from panel.errors import Conflict, InvalidInput, NotFound, PanelError, TooLarge
from panel.models import Host, HostImage, Task
from panel.services import downloads, imagefiles
from panel.services.catalogue import catalogue
from panel.services.container import Services
from panel.services.downloads import FetchRequest, file_name, of_catalogue
from panel.services.hosts import HostRequest
from panel.services.imagefiles import GIB, Limits, examine
from panel.settings import Settings
from tests.conftest import ADMIN
from tests.services.fileserver import FileServer, file_server, iso, qcow2, raw
from tests.services.images_kit import ended, files, local_host
from tests.services.kit import lines, logged, make, until

LIMITS = Limits(GIB, 2048 * GIB)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, images_networks="127.0.0.1/32", images_largest_gib=1)


@pytest.fixture
async def server() -> AsyncIterator[FileServer]:
    async with file_server() as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "images"


@pytest.fixture
async def here(services: Services, folder: Path) -> Host:
    return await local_host(services, folder)


async def fetch(services: Services, host: Host, url: str, **more: str) -> tuple[str, str]:
    return await ended(services, await services.downloads.begin(ADMIN, host, FetchRequest(url, **more)))


# -- what a file is --------------------------------------------------------------------------------------------


async def test_what_is_an_image(tmp_path: Path) -> None:
    assert await examine(qcow2(tmp_path), "x", LIMITS) == imagefiles.Facts("qcow2", 196616, 64 * 1024**2)
    for name, data, kind in (("a", raw(), "raw"), ("b", iso(), "iso")):
        (tmp_path / name).write_bytes(data)
        assert (await examine(tmp_path / name, "x", LIMITS)).format == kind


async def test_files_that_draw_on_the_hosts(tmp_path: Path) -> None:
    """Backing files and external data, also where only the header says so, and in the formats that only name files."""
    base = qcow2(tmp_path, "base.qcow2")
    bad = [
        qcow2(tmp_path, "backed.qcow2", "-F", "raw", "-b", "/etc/passwd"),
        qcow2(tmp_path, "chain.qcow2", "-F", "qcow2", "-b", str(base)),
        qcow2(tmp_path, "data.qcow2", "-o", f"data_file={tmp_path / 'data.raw'},data_file_raw=on"),
    ]
    header = bytearray(base.read_bytes())
    header[8:20] = (512).to_bytes(8, "big") + (11).to_bytes(4, "big")
    header[512:523] = b"/etc/passwd"
    bad.append(tmp_path / "forged.qcow2")
    bad[-1].write_bytes(header)
    for file in bad:
        with pytest.raises(InvalidInput, match="backing file"):
            await examine(file, "x", LIMITS)
    (tmp_path / "disk.vmdk").write_text('# Disk DescriptorFile\nRW 2048 FLAT "/etc/shadow" 0\n')
    with pytest.raises(InvalidInput, match="vmdk"):
        await examine(tmp_path / "disk.vmdk", "x", LIMITS)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (gzip.compress(b"x" * 4096, mtime=0), "compressed (gz)"),
        (b"\xfd7zXZ\x00" + b"x" * 4096, "compressed (xz)"),
        (b"PK\x03\x04" + b"x" * 4096, "compressed (zip)"),
        (b"KDMV" + b"\0" * 4096, "another format (vmdk)"),
        (b"\0" * 64 + b"\x7f\x10\xda\xbe" + b"\0" * 4096, "another format (vdi)"),
        (b"<!DOCTYPE html><title>Log in</title>" + b" " * 4096, "no disk image"),
        (b"", "no disk image"),
        (b"QFI\xfb" + b"\xff" * 600, "backing file"),
        (b"QFI\xfb\0\0\0\x03" + b"\0" * 600, "cannot be read as a disk image"),
    ],
)
async def test_what_is_none(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(InvalidInput) as caught:
        await examine(tmp_path / "x", "x", LIMITS)
    assert words in str(caught.value)


async def test_bombs(tmp_path: Path) -> None:
    """A disk of petabytes in 200 KB, a table that claims gigabytes of memory, and a file that is too large itself."""
    with pytest.raises(TooLarge, match="images_virtual_gib"):
        await examine(qcow2(tmp_path, "huge.qcow2", size="1P"), "x", LIMITS)
    header = bytearray(qcow2(tmp_path, "table.qcow2").read_bytes())
    header[36:40] = (0x7FFFFFFF).to_bytes(4, "big")  # entries of the first table
    (tmp_path / "table.qcow2").write_bytes(header)
    with pytest.raises(InvalidInput, match="cannot be read"):
        await examine(tmp_path / "table.qcow2", "x", LIMITS)
    with (tmp_path / "large").open("wb") as opened:
        opened.write(raw())
        opened.truncate(2 * GIB)
    with pytest.raises(TooLarge, match="images_largest_gib"):
        await examine(tmp_path / "large", "x", LIMITS)


async def test_a_reader_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "qemu-img"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(imagefiles, "INFO_SECONDS", 0.3)
    file = tmp_path / "disk.img"
    file.write_bytes(raw())
    with pytest.raises(InvalidInput, match="cannot be read"):
        await examine(file, "x", LIMITS)


# -- from a URL ------------------------------------------------------------------------------------------------


async def test_a_download_becomes_an_image(services: Services, here: Host, folder: Path, server: FileServer) -> None:
    data = qcow2(folder.parent).read_bytes()
    server.file("/a/disk.qcow2", data)
    server.file("/a/SHA512SUMS", f"{hashlib.sha512(data).hexdigest()}  disk.qcow2\n".encode())
    server.redirect("/disk.qcow2", "/a/disk.qcow2")
    told = await fetch(services, here, server.url("/disk.qcow2"), name="My Linux 1", user="debian",
                       checksum_url=server.url("/a/SHA512SUMS"))  # fmt: skip
    assert told == ("succeeded", "Image My-Linux-1.qcow2 is there")
    assert files(folder) == ["My-Linux-1.json", "My-Linux-1.qcow2"]
    assert (folder / "My-Linux-1.qcow2").read_bytes() == data
    assert json.loads((folder / "My-Linux-1.json").read_text())["default_user"] == "debian"
    await until(lambda: HostImage.exists(host_id=here.id, name="My Linux 1"))
    assert (await logged(services, "image.add"))[0] == ("info", "Added image My-Linux-1.qcow2.")
    await make(services, "vm-1", "here", os_name="my-linux 1")
    image = await HostImage.get(host_id=here.id, key="My-Linux-1.qcow2")
    assert (await services.images.used_by(here), image.added_at is not None) == ({"My Linux 1": 1}, True)


async def test_nothing_is_left_of_what_fails(services: Services, here: Host, folder: Path, server: FileServer) -> None:
    data = raw()
    server.file("/good.img", data)
    server.file("/short.img", data, length=len(data) + 1)
    server.file("/page", b"<html>" + b" " * 4096)
    server.file("/large.img", b"", length=3 * GIB)
    server.file("/endless.img", data * 3, length=-1)
    server.file("/sums", f"{'0' * 64}  other\n{'1' * 64}  more\n".encode())
    backed = qcow2(folder.parent, "backed.qcow2", "-F", "raw", "-b", "/etc/passwd")
    server.file("/backed.qcow2", backed.read_bytes())
    for path, words, more in (
        ("/good.img", "checksum is wrong", {"checksum": "0" * 64}),
        ("/good.img", "does not name good.img", {"checksum_url": server.url("/sums")}),
        ("/good.img", "answered 404", {"checksum_url": server.url("/none")}),
        ("/short.img", "broke off", {}),
        ("/page", "no disk image", {}),
        ("/large.img", "images_largest_gib allows 1 GiB", {}),
        ("/backed.qcow2", "backing file", {}),
        ("/none.img", "answered 404", {}),
    ):
        status, message = await fetch(services, here, server.url(path), **more)
        assert (status, words in message) == ("failed", True), message
        assert files(folder) == []
    services.images.limits = replace(services.images.limits, file=2 * 1024**2)
    status, message = await fetch(services, here, server.url("/endless.img"))
    assert (status, "images_largest_gib" in message, files(folder)) == ("failed", True, [])


async def test_no_room(services: Services, here: Host, server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.file("/good.img", raw())
    monkeypatch.setattr(imagefiles, "SPARE", 2**62)
    status, message = await fetch(services, here, server.url("/good.img"))
    assert (status, "There is no room" in message) == ("failed", True)


async def test_without_a_checksum_it_is_said(services: Services, here: Host, server: FileServer) -> None:
    server.file("/good.img", raw())
    task = await services.downloads.begin(ADMIN, here, FetchRequest(server.url("/good.img")))
    assert (await ended(services, task))[0] == "succeeded"
    told = await lines(task)
    assert any(level == "warning" and "No checksum" in text for level, text in told)
    assert any(hashlib.sha256(raw()).hexdigest() in text for _level, text in told)


async def test_cancelled_in_the_middle_and_tried_again(
    services: Services, here: Host, folder: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bar moves, the log does not grow by it; cancelling removes what came; trying again brings the image."""
    monkeypatch.setattr(downloads, "PROGRESS_SECONDS", 0.0)
    go_on = asyncio.Event()
    server.slow("/slow.img", raw(4 * 1024**2), go_on)
    task = await services.downloads.begin(ADMIN, here, FetchRequest(server.url("/slow.img")))

    async def half() -> bool:
        await task.refresh_from_db()
        return task.percent > 20

    await until(half, 30)
    assert files(folder) == [f".incoming/{task.id}.part"]
    with pytest.raises(Conflict, match="at work"):
        await services.downloads.begin(ADMIN, here, FetchRequest(server.url("/slow.img")))
    await services.tasks.cancel(ADMIN, task.id)
    assert (await ended(services, task))[0] == "cancelled"
    assert files(folder) == []
    go_on.set()
    again = await services.tasks.again(ADMIN, task.id)
    assert (await ended(services, again))[0] == "succeeded"
    assert files(folder) == ["slow.img", "slow.json"]
    assert not [text for _level, text in await lines(task) if "MiB" in text]


async def test_after_a_crash(services: Services, here: Host, folder: Path, server: FileServer) -> None:
    """What was half done is removed and can be tried again; what was done is said to be."""
    server.file("/good.img", raw())
    task = await services.downloads.begin(ADMIN, here, FetchRequest(server.url("/good.img")))
    assert (await ended(services, task))[0] == "succeeded"
    params = services.box.seal(json.dumps({"url": server.url("/b.img"), "name": "b", "stem": "b", "user": "",
                                           "checksum": "", "checksum_url": ""}))  # fmt: skip
    done = services.box.seal(json.dumps({"stem": "good"}))
    common = {"kind": "image.fetch", "host_id": here.id, "host_name": here.name, "source": "page", "status": "running"}
    dead = await Task.create(id="d" * 32, params=params, **common)
    await Task.filter(id=task.id).update(status="running", params=done, ended_at=None)
    (folder / ".incoming" / f"{dead.id}.part").write_bytes(b"half")
    await services.tasks.recover()
    assert await ended(services, task) == ("succeeded", "Image good.img is there")
    status, message = await ended(services, dead)
    assert (status, "What had come was removed" in message) == ("failed", True)
    assert files(folder) == ["good.img", "good.json"]
    assert services.tasks.repeatable(await services.tasks.get(dead.id))


async def test_what_is_refused_at_once(
    services: Services, here: Host, folder: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.file("/x.img", raw())
    (folder / "there.qcow2").write_bytes(b"")
    begin = services.downloads.begin
    for request, field in (
        (FetchRequest("ftp://example.com/x.img"), "url"),
        (FetchRequest(server.url("/x.img"), checksum="abc"), "checksum"),
        (FetchRequest(server.url("/x.img"), checksum_url="file:///x"), "checksum_url"),
        (FetchRequest(server.url("/x.img"), checksum="0" * 64, checksum_url=server.url("/x")), "checksum_url"),
        (FetchRequest(server.url("/x.img"), user="Root;"), "user"),
        (FetchRequest(server.url("/x.img"), name="///"), "name"),
    ):
        with pytest.raises(InvalidInput) as caught:
            await begin(ADMIN, here, request)
        assert caught.value.field == field
    await until(lambda: HostImage.filter(host_id=here.id).count())
    for name in ("there", "Debian 12", "debian-12"):
        with pytest.raises(Conflict, match="already"):
            await begin(ADMIN, here, FetchRequest(server.url("/x.img"), name=name))
    await services.hosts.create(ADMIN, "far", far_away())
    less = replace(FakeEngine.capabilities, image_files=False)
    monkeypatch.setattr("panel.services.images.capabilities", lambda _kind: less)
    with pytest.raises(Conflict, match="another machine"):
        await begin(ADMIN, await services.hosts.get("far"), FetchRequest(server.url("/x.img")))
    assert not await Task.exists()


def far_away() -> HostRequest:
    return HostRequest(EngineKind.FAKE, address="far")


@pytest.mark.parametrize(
    "name", ["../../etc/cron.d/x", "..", "/etc/passwd", "a/../../b", ".hidden", "x\\..\\y", "..%2f..%2fx"]
)
async def test_names_do_not_leave_the_folder(
    services: Services, here: Host, folder: Path, server: FileServer, name: str
) -> None:
    """As a name, in the path of the URL, and as the image to remove."""
    server.file("/" + name, raw())
    before = set(folder.parent.iterdir())
    for request in (FetchRequest(server.url("/x"), name=name), FetchRequest(server.url("/" + name))):
        try:
            task = await services.downloads.begin(ADMIN, here, request)
        except (InvalidInput, Conflict):
            continue
        await ended(services, task)
    assert set(folder.parent.iterdir()) == before
    assert all("/" not in file.removeprefix(".incoming/") for file in files(folder))
    with pytest.raises(NotFound):
        await services.images.delete(ADMIN, here, name)


def test_file_names() -> None:
    assert file_name("https://example.com/a/b%20c.qcow2?token=x") == "b c.qcow2"
    assert file_name("https://example.com/a%2f..%2fb.img") == "b.img"
    assert file_name("https://example.com") == "example.com"


async def test_catalogue(services: Services, here: Host) -> None:
    """Each entry could be asked for as it is: https, a checksum file, a user, and a name of its own."""
    keys = [image.key for image in catalogue()]
    assert len(keys) == len(set(keys)) >= 10
    for image in catalogue():
        assert image.url.startswith("https://")
        assert image.checksums.startswith("https://")
        name, _stem = await services.images.check_new(here, f"{image.title} of the catalogue", image.user)
        assert (of_catalogue(image).user, name.startswith(image.title)) == (image.user, True)


# -- from a file, and away -------------------------------------------------------------------------------------


async def test_a_file_of_this_machine(services: Services, here: Host, folder: Path) -> None:
    image = await services.images.add(ADMIN, here, qcow2(folder.parent), "One", "root")
    assert (image.key, image.virtual_gib) == ("One.qcow2", 0.062)
    (folder.parent / "cd").write_bytes(iso())
    assert (await services.images.add(ADMIN, here, folder.parent / "cd", "A CD", "")).key == "A-CD.iso"
    with pytest.raises(Conflict):
        await services.images.add(ADMIN, here, folder.parent / "cd", "One", "")
    assert files(folder) == ["A-CD.iso", "A-CD.json", "One.json", "One.qcow2"]


async def test_a_cd_image_is_no_disk(services: Services, here: Host, folder: Path) -> None:
    (folder / "install.iso").write_bytes(iso())
    services.observer.look_now(here.id, inventory=True)
    await until(lambda: HostImage.exists(host_id=here.id, format="iso"))
    with pytest.raises(InvalidInput, match="No image install"):
        await make(services, "vm-1", "here", os_name="install")


async def test_removal(services: Services, here: Host, folder: Path) -> None:
    """The file goes with what is beside it, unless a VM's disk draws on it."""
    await services.images.add(ADMIN, here, qcow2(folder.parent), "One", "root")
    await until(lambda: HostImage.exists(host_id=here.id, key="One.qcow2"))
    world("here").drawn_on["One.qcow2"] = ["clone-1"]
    with pytest.raises(Conflict, match="clone-1"):
        await services.images.delete(ADMIN, here, "One.qcow2")
    world("here").drawn_on.clear()
    await services.images.delete(ADMIN, here, "One.qcow2")
    assert files(folder) == []
    assert not await HostImage.exists(host_id=here.id, key="One.qcow2")
    with pytest.raises(NotFound):
        await services.images.delete(ADMIN, here, "One.qcow2")
    assert (await logged(services, "image.delete"))[0] == ("info", "Removed image One.qcow2.")


async def test_nothing_is_replaced(tmp_path: Path) -> None:
    """Of two that come to one name at once, one is refused, and the other's sidecar is its own."""
    (tmp_path / "a").write_bytes(raw())
    (tmp_path / "b").write_bytes(raw())
    facts = imagefiles.Facts("raw", 1, 1)
    results = await asyncio.gather(
        *(imagefiles.place(tmp_path / name, tmp_path, "x", facts, {"os_name": name}) for name in "ab"),
        return_exceptions=True,
    )
    assert sorted(isinstance(result, PanelError) for result in results) == [False, True]
    left = "b" if isinstance(results[1], PanelError) else "a"
    assert files(tmp_path) == [left, "x.img", "x.json"]


def test_qemu_img_is_held_by_limits() -> None:
    """The limits that it runs under are those of the kernel."""
    said = subprocess.run([*imagefiles.INFO_LIMITS, "sh", "-c", "ulimit -v; ulimit -t; ulimit -f"], capture_output=True,
                          text=True, timeout=30, check=True).stdout.split()  # fmt: skip
    assert said == [str(GIB // 1024), "10", "0"]
