"""The images of a host as a person has them, without JavaScript; and what js/upload.js asks for."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from quart import Quart

from panel.bodies import WAITING, BoundedBody, BoundedHttpConnection
from panel.engines.fake.engine import FakeEngine
from panel.engines.fake.world import FakeWorld, world
from panel.errors import InvalidInput
from panel.models import Host, HostImage, Task, Vm
from panel.pages import fileform
from panel.services.container import Services
from panel.services.uploads import PIECE
from panel.settings import Settings
from tests.pages.conftest import Browser, until
from tests.services.fileserver import file_server, iso, qcow2, raw
from tests.services.images_kit import files, local_host

TAB = "/hosts/here?tab=images"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, images_networks="127.0.0.1/32")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "images"


@pytest.fixture
async def here(services: Services, folder: Path) -> Host:
    """Host ``here`` with three imaginary images, a real one and a CD image."""
    folder.mkdir()
    qcow2(folder, "real.qcow2")
    (folder / "install.iso").write_bytes(iso())
    host = await local_host(services, folder)

    async def listed() -> bool:
        return await HostImage.filter(host_id=host.id).count() == 5

    await until(listed)
    return host


async def test_the_list(browser: Browser, here: Host) -> None:
    """Disks and CD images apart; who uses them; and a CD image is not offered for a VM."""
    await Vm.create(host=here, ref="r1", name="vm-1", title="", os_name="real", cpu_count=1, memory_mib=1, disk_gib=1)
    await browser.get(TAB)
    assert browser.status == 200
    for text in (
        "real.qcow2",
        "install.iso",
        "CD images",
        "Debian 12",
        "Catalogue",
        "Add by URL",
        "Without JavaScript",
    ):
        assert text in browser.text
    row = next(row for row in browser.html.split("<tr>") if "real.qcow2" in row)
    assert '<td data-label="VMs">1</td>' in row
    await browser.get("/vms/new?host=here")
    assert ('value="real"' in browser.html, "install" in browser.html) == (True, False)


async def test_a_machine_that_takes_no_files_has_no_buttons(
    alpha: FakeWorld, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    less = replace(FakeEngine.capabilities, image_files=False)
    monkeypatch.setattr("panel.services.images.capabilities", lambda _kind: less)
    await browser.get("/hosts/alpha?tab=images")
    assert "another machine" in browser.text
    for nothing in ("Catalogue", "Add by URL", "upload-form", "remove="):
        assert nothing not in browser.html
    await browser.post("/hosts/alpha/images/catalogue/debian-12")
    assert "another machine" in browser.text
    await browser.get("/hosts/alpha?tab=images")
    await browser.post("/hosts/alpha/images/debian-12.qcow2/remove")
    assert "another machine" in browser.text


async def test_another_machine_is_sent_them(alpha: FakeWorld, here: Host, browser: Browser) -> None:
    await browser.get("/hosts/alpha?tab=images")
    for text in ("Catalogue", "Add by URL", "Without JavaScript", "sends the file"):
        assert text in browser.text
    await browser.get(TAB)
    assert "sends the file" not in browser.text


async def test_add_by_url(browser: Browser, here: Host, services: Services, folder: Path) -> None:
    """What is wrong stands beside its field; what is right becomes a task, and an image."""
    async with file_server() as server:
        server.file("/new.img", raw())
        await browser.get(TAB)
        await browser.post("/hosts/here/images/fetch", url="ftp://x/y", name="New")
        assert (browser.status, 'id="url-error"' in browser.html, 'value="New"' in browser.html) == (400, True, True)
        await browser.post("/hosts/here/images/fetch", url=server.url("/new.img"), checksum="x")
        assert 'id="checksum-error"' in browser.html
        await browser.post("/hosts/here/images/fetch", url="")
        assert 'id="url-error"' in browser.html
        await browser.post("/hosts/here/images/fetch", url=server.url("/new.img"))
        assert (browser.path, "Downloading new" in browser.text) == (TAB, True)
        task = await Task.get(kind="image.fetch")
        assert (await services.tasks.wait(task.id, 20)).status == "succeeded"
    assert "new.img" in files(folder)


async def test_a_failed_download_can_be_tried_again(
    browser: Browser, here: Host, services: Services, folder: Path
) -> None:
    async with file_server() as server:
        await browser.get(TAB)
        await browser.post("/hosts/here/images/fetch", url=server.url("/late.img"))
        task = await Task.get(kind="image.fetch")
        assert (await services.tasks.wait(task.id, 20)).status == "failed"
        server.file("/late.img", raw())
        await browser.get(f"/tasks/{task.id}")
        assert "answered 404" in browser.text
        await browser.post(f"/tasks/{task.id}/again")
        again = await Task.filter(kind="image.fetch").order_by("-created_at").first()
        assert again is not None
        assert (await services.tasks.wait(again.id, 20)).status == "succeeded"
    assert "late.img" in files(folder)


async def test_removing_asks_first(browser: Browser, here: Host, folder: Path) -> None:
    """By a page of its own, that names the VMs made from it; a VM whose disk draws on it keeps it."""
    await Vm.create(host=here, ref="r1", name="vm-1", title="", os_name="real", cpu_count=1, memory_mib=1, disk_gib=1)
    await browser.get(f"{TAB}&remove=real.qcow2")
    assert "Remove real?" in browser.text
    assert "1 VM was made from it: vm-1." in browser.text
    world("here").drawn_on["real.qcow2"] = ["clone-1"]
    await browser.post("/hosts/here/images/real.qcow2/remove")
    assert "real.qcow2 is in use: the disks or CD drives of clone-1 draw on it." in browser.text
    world("here").drawn_on.clear()
    await browser.post("/hosts/here/images/real.qcow2/remove")
    assert (browser.path, "Removed image real." in browser.text) == (TAB, True)
    assert files(folder) == ["install.iso"]
    await browser.get(f"{TAB}&remove=real.qcow2")
    assert browser.status == 404


async def test_nobody_else_may(stranger: Browser, browser: Browser, here: Host, folder: Path) -> None:
    before = files(folder)
    paths = ("images/fetch", "images/catalogue/debian-12", "images/real.qcow2/remove", "uploads", f"uploads/{'0' * 32}/pieces",
             f"uploads/{'0' * 32}/finish", f"uploads/{'0' * 32}/discard")  # fmt: skip
    for path in paths:
        response = await browser.client.post(f"/hosts/here/{path}", form={"url": "http://x/y"})
        assert response.status_code == 403, path
    other = type(browser)(browser.client.app.test_client(), "")
    for path in paths:
        response = await other.client.post(f"/hosts/here/{path}", headers={"Accept": "application/json"})
        assert response.status_code == 401, path
    assert (
        await other.client.get(f"/hosts/here/uploads/{'0' * 32}", headers={"Accept": "application/json"})
    ).status_code == 401
    assert files(folder) == before
    assert not await Task.exists()


class Uploader:
    """The requests of js/upload.js."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.headers = {"Accept": "application/json", "X-CSRF-Token": browser.csrf}

    async def ask(self, path: str = "", **more: Any) -> tuple[int, dict[str, Any]]:
        call = self.browser.client.post if more else self.browser.client.get
        headers = self.headers | more.pop("headers", {})
        response = await call(f"/hosts/here/uploads{path}", headers=headers, **more)
        return response.status_code, await response.get_json()


async def test_an_upload(browser: Browser, here: Host, services: Services, folder: Path) -> None:
    data = raw(PIECE + 1024)
    await browser.get(TAB)
    uploader = Uploader(browser)
    status, told = await uploader.ask(form={"file": "my.img", "size": str(len(data)), "modified": "5", "name": "Mine"})
    assert (status, told["data"]["offset"]) == (200, 0)
    path = f"/{told['data']['id']}"
    assert (await uploader.ask(f"{path}/pieces?offset=0", data=data))[0] == 413, "more than a piece at once"
    status, told = await uploader.ask(f"{path}/pieces?offset=0", data=data[:PIECE])
    assert (status, told["data"]["offset"]) == (200, PIECE)
    status, told = await uploader.ask(f"{path}/pieces?offset=0", data=b"x")
    assert (status, told["msg"]) == (409, f"The upload goes on at byte {PIECE}.")
    assert (await uploader.ask(f"{path}/pieces?offset=x", data=b"x"))[0] == 400
    assert (await uploader.ask(path))[1]["data"]["offset"] == PIECE
    await browser.get(TAB)
    assert 'data-file="my.img"' in browser.html
    assert "If it stops, choose the same file to go on." in browser.text
    await uploader.ask(f"{path}/pieces?offset={PIECE}", data=data[PIECE:])
    await browser.get(TAB)
    assert "everything came" in browser.text
    status, told = await uploader.ask(f"{path}/finish", form={})
    assert (await services.tasks.wait(told["data"]["task"], 20)).status == "succeeded"
    assert (folder / "Mine.img").read_bytes() == data
    assert (await uploader.ask(path))[0] == 404


async def test_other_bodies_stay_small(browser: Browser, here: Host) -> None:
    """Only the pieces of an upload may be larger than 1 MiB."""
    await browser.get(TAB)
    uploader = Uploader(browser)
    for path in ("/hosts/here/uploads", "/hosts/here/images/fetch"):
        headers = uploader.headers | {"Content-Type": "application/x-www-form-urlencoded"}
        response = await browser.client.post(path, headers=headers, data=b"file=" + b"x" * 2 * 1024**2)
        assert response.status_code == 413, path


async def test_an_upload_is_discarded_by_a_button(browser: Browser, here: Host, folder: Path) -> None:
    await browser.get(TAB)
    _status, told = await Uploader(browser).ask(form={"file": "<b>.img", "size": "10", "modified": "0", "name": "x"})
    await browser.get(TAB)
    assert "&lt;b&gt;.img" in browser.html
    await browser.post(f"/hosts/here/uploads/{told['data']['id']}/discard")
    assert "Discarded the upload of &lt;b&gt;.img." in browser.html
    assert [name for name in files(folder) if name.startswith(".incoming")] == []


def form_of(
    browser: Browser, *parts: tuple[str, str | bytes], token: str | None = None
) -> tuple[bytes, dict[str, str]]:
    """A form as a browser sends it: bytes are a file, which is called ``disk.img``."""
    pieces = []
    for name, value in [("csrf_token", browser.csrf if token is None else token), *parts]:
        head = f'Content-Disposition: form-data; name="{name}"'
        if isinstance(value, bytes):
            head += '; filename="disk.img"\r\nContent-Type: application/octet-stream'
        pieces.append(f"--b0und\r\n{head}\r\n\r\n".encode() + (value if isinstance(value, bytes) else value.encode()))
    body = b"\r\n".join(pieces) + b"\r\n--b0und--\r\n"
    return body, {"Content-Type": "multipart/form-data; boundary=b0und", "Content-Length": str(len(body))}


async def sent(browser: Browser, body: bytes, headers: dict[str, str]) -> int:
    """Send a form; the status of the answer, and where that leads."""
    answer = await browser.client.post("/hosts/here/uploads/form", data=body, headers=browser.headers | headers)
    await browser.arrive("/hosts/here/uploads/form", answer)
    return answer.status_code


async def test_a_form_with_a_file(browser: Browser, here: Host, folder: Path, services: Services) -> None:
    """What a browser without JavaScript sends; the file may have in it what looks like the form's end."""
    await browser.get(TAB)
    assert 'enctype="multipart/form-data"' in browser.html
    data = bytearray(raw(3 * 1024**2))
    odd = b"\r\n--b0un\r\n--b0undaries\r\n\r\n--b0un--\r\n\r\n\n"
    data[5000 : 5000 + len(odd)] = odd
    parts = [("upload-name", "By form"), ("upload-user", "me"), ("upload-checksum", ""), ("file", bytes(data))]
    assert await sent(browser, *form_of(browser, *parts)) == 303
    assert "Everything came. A task takes it in." in browser.text

    async def there() -> bool:
        return (folder / "By-form.img").exists() and await HostImage.exists(name="By form", default_user="me")

    await until(there)
    assert (folder / "By-form.img").read_bytes() == data
    assert [name for name in files(folder) if "incoming" in name] == []


@pytest.mark.parametrize("wrong", ["", "other"])
async def test_a_form_without_its_token(browser: Browser, here: Host, folder: Path, wrong: str) -> None:
    """Also when the right one comes after the file."""
    await browser.get(TAB)
    late = [("file", raw()), ("csrf_token", browser.csrf)]
    assert await sent(browser, *form_of(browser, *late, token=wrong)) == 403
    assert [name for name in files(folder) if "incoming" in name] == []


async def test_forms_that_are_not_taken(browser: Browser, here: Host, folder: Path) -> None:
    """The page says why, and nothing is left."""
    await browser.get(TAB)
    whole, headers = form_of(browser, ("file", raw()))
    cases: list[tuple[bytes, dict[str, str], str]] = [
        (*form_of(browser, ("upload-name", "real"), ("file", raw())), "There is an image real"),
        (*form_of(browser, ("upload-checksum", "abc"), ("file", raw())), "SHA-256 or SHA-512"),
        (*form_of(browser, ("upload-name", "x" * 20000), ("file", raw())), "did not come whole"),
        (*form_of(browser, ("file", b"")), "is empty"),
        (*form_of(browser, ("upload-name", "none")), "choose a file"),
        (whole[:-500], headers | {"Content-Length": str(len(whole) - 500)}, "did not come whole"),
        (whole, headers | {"Content-Length": str(2**50)}, "images_largest_gib"),
        (whole, headers | {"Content-Length": "5000"}, "longer than was announced"),
    ]
    for body, told, words in cases:
        assert await sent(browser, body, told) == 303, words
        assert words in browser.text
        assert [name for name in files(folder) if "incoming" in name] == [], words


async def test_a_body_waits_for_its_reader(browser: Browser) -> None:
    """What comes is taken no faster than it is read."""
    piece, count, given, read = bytes(1024**2), 40, 0, 0
    most = 0

    async def receive() -> dict[str, Any]:
        nonlocal given
        if given == count:
            await asyncio.sleep(600)
        given += 1
        return {"type": "http.request", "body": piece, "more_body": given < count}

    body = BoundedBody(None, None)
    connection = BoundedHttpConnection.__new__(BoundedHttpConnection)
    receiver = asyncio.create_task(connection.handle_messages(SimpleNamespace(body=body), receive))  # type: ignore[arg-type]
    async for data in body:
        read += len(data)
        most = max(most, len(data))
        await asyncio.sleep(0.005)
    receiver.cancel()
    assert (read, most <= WAITING + len(piece)) == (count * len(piece), True)


async def test_fields_that_do_not_come(browser: Browser, monkeypatch: pytest.MonkeyPatch, app: Quart) -> None:
    """Nobody waits for ever for what is before the file."""
    monkeypatch.setattr(fileform, "FIELDS_SECONDS", 0.1)
    headers = {"Content-Type": "multipart/form-data; boundary=b0und"}
    async with app.test_request_context("/", method="POST", headers=headers) as context:
        context.request.body._complete.clear()  # more is to come
        with pytest.raises(InvalidInput, match="did not come whole"):
            await fileform.file_form()
