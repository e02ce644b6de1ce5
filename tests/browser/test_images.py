"""Uploading in a browser: through a restart of the panel, a reload of the page, in bounded memory; and downloads that move."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import NARROW, Login
from tests.process import PanelProcess
from tests.services.fileserver import raw
from tests.services.images_kit import files

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

MIB = 1024**2
TAB = "/hosts/here?tab=images"
MORE_MEMORY = 100 * MIB  # than before, while a file of four times this comes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


@pytest.fixture(scope="module")
def panel(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PanelProcess]:
    """A panel whose host has a real images folder."""
    process = PanelProcess(
        tmp_path_factory.mktemp("image-panel"), fake_engine="1", observe_seconds="0.5", images_networks="127.0.0.1/32"
    )
    process.start()
    host = {"server_name": "here", "engine_type": "FakeEngine", "server_addr": "here", "images_path": str(folder)}
    process.ok("POST", "/api/server/create", host)
    process.until("/api/server/status/here", lambda status: status["seen_at"])
    yield process
    process.stop()


def sparse(folder: Path, name: str, size: int) -> Path:
    """A raw disk that is nearly all hole."""
    file = folder / name
    with file.open("wb") as opened:
        opened.write(raw(MIB))
        opened.truncate(size)
    return file


def memory(panel: PanelProcess) -> int:
    """What the panel's process has in memory, in bytes."""
    assert panel._process is not None
    status = Path(f"/proc/{panel._process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def chosen(page: Page, file: Path) -> None:
    """Choose a file and begin, or go on."""
    page.set_input_files("#upload-file", file)
    page.click("#upload-form button[type=submit]")


def test_a_large_upload_in_bounded_memory(panel: PanelProcess, login: Login, folder: Path, tmp_path: Path) -> None:
    page = login(panel)
    page.goto(TAB)
    before = memory(panel)
    page.fill("#upload-name", "Large")
    chosen(page, sparse(tmp_path, "large.img", 400 * MIB))
    progress = page.locator("#upload-form progress")
    expect(progress).to_be_visible()
    most = 0
    text = page.locator(".upload-text")
    while page.locator("#upload-form[aria-busy]").count():
        most = max(most, memory(panel))
        page.wait_for_timeout(50)
    expect(text).to_have_text("Everything came. The panel looks into it.", timeout=60_000)
    expect(page.locator("#host-images")).to_contain_text("Large.img", timeout=60_000)
    assert (folder / "Large.img").stat().st_size == 400 * MIB
    assert most - before < MORE_MEMORY, f"{(most - before) // MIB} MiB"


def test_stopped_reloaded_and_gone_on(panel: PanelProcess, login: Login, folder: Path, tmp_path: Path) -> None:
    """The page forgets the file; the server does not: the same file goes on where it stopped, another one begins anew."""
    page = login(panel, viewport=NARROW)
    page.on("dialog", lambda dialog: dialog.accept())
    file = sparse(tmp_path, "stopped.img", 120 * MIB)
    far = 20 * MIB
    page.route(
        "**/pieces?offset=*",
        lambda route: route.abort() if int(route.request.url.split("=")[1]) > far else route.continue_(),
    )
    page.goto(TAB)
    chosen(page, file)
    expect(page.locator(".upload-text")).to_have_text("The panel does not answer. Trying again…", timeout=60_000)
    page.click("[data-stop]")
    expect(page.locator(".upload-text")).to_have_text("Stopped. To go on, choose the same file again.")
    page.unroute("**/pieces?offset=*")
    page.reload()
    row = page.locator("[data-upload]")
    expect(row).to_contain_text("24 MiB / 120 MiB")
    sent: list[int] = []
    page.on(
        "request", lambda request: sent.append(int(request.url.split("=")[1])) if "/pieces?" in request.url else None
    )
    chosen(page, file)
    expect(page.locator("#host-images")).to_contain_text("stopped.img", timeout=60_000)
    expect(row).to_have_count(0, timeout=60_000)
    assert min(sent) == 24 * MIB
    assert (folder / "stopped.img").read_bytes()[:MIB] == raw(MIB)


def test_the_panel_restarts_in_the_middle(panel: PanelProcess, login: Login, folder: Path, tmp_path: Path) -> None:
    """Killed, not stopped: the browser waits for it, asks how far it is, and goes on."""
    page = login(panel)
    page.goto(TAB)
    first = threading.Event()
    page.on("response", lambda response: first.set() if "/pieces?" in response.url else None)
    chosen(page, sparse(tmp_path, "killed.img", 300 * MIB))
    while not first.is_set():
        page.wait_for_timeout(20)
    panel.kill()
    expect(page.locator(".upload-text")).to_have_text("The panel does not answer. Trying again…", timeout=60_000)
    panel.start()
    expect(page.locator(".upload-text")).to_have_text("Everything came. The panel looks into it.", timeout=120_000)
    page.goto(TAB)
    expect(page.locator("#host-images")).to_contain_text("killed.img", timeout=60_000)
    assert (folder / "killed.img").stat().st_size == 300 * MIB


def test_what_is_no_image_is_told(panel: PanelProcess, login: Login, folder: Path, tmp_path: Path) -> None:
    page = login(panel)
    page.goto(TAB)
    page.fill("#upload-checksum", "abc")
    chosen(page, sparse(tmp_path, "other.img", MIB))
    expect(page.locator(".upload-text")).to_contain_text("SHA-256 or SHA-512")
    assert [name for name in files(folder) if "incoming" in name] == []


def test_a_download_moves_on_the_page(panel: PanelProcess, login: Login) -> None:
    """Progress, cancel, and nothing left."""
    go_on = threading.Event()

    class Slow(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(40 * MIB))
            self.end_headers()
            self.wfile.write(raw(20 * MIB))
            go_on.wait(60)

        def log_message(self, *_args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    page = login(panel)
    page.goto(TAB)
    page.fill("#url", f"http://127.0.0.1:{server.server_port}/slow.img")
    page.click("#image-fetch button[type=submit]")
    row = page.locator("#host-images tr", has_text="Download an image")
    expect(row).to_contain_text("of 40 MiB", timeout=30_000)
    row.get_by_role("button", name="Cancel").click()
    page.locator("#confirm-dialog [value=ok]").click()
    expect(row).to_have_count(0, timeout=30_000)
    go_on.set()
    server.shutdown()
    server.server_close()


def test_without_javascript_in_bounded_memory(panel: PanelProcess, login: Login, folder: Path, tmp_path: Path) -> None:
    """A plain form, in one piece; what it is no image of is said on the page."""
    page = login(panel, javascript=False)
    page.goto(TAB)
    before, most, done = memory(panel), 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.02):
            most = max(most, memory(panel))

    watcher = threading.Thread(target=watch)
    watcher.start()
    page.fill("#upload-name", "Plain")
    page.set_input_files("#upload-file", sparse(tmp_path, "plain.img", 400 * MIB))
    page.click("#upload-form button[type=submit]", timeout=120_000)
    expect(page.locator("main .notice")).to_contain_text("Everything came.", timeout=120_000)
    done.set()
    watcher.join()
    for _again in range(100):
        if (folder / "Plain.img").exists():
            break
        page.wait_for_timeout(200)
    assert (folder / "Plain.img").stat().st_size == 400 * MIB
    assert 0 < most - before < MORE_MEMORY, f"{(most - before) // MIB} MiB"
    page.goto(TAB)
    page.fill("#upload-name", "Plain")
    page.set_input_files("#upload-file", sparse(tmp_path, "again.img", 2 * MIB))
    page.click("#upload-form button[type=submit]")
    expect(page.locator("main .notice")).to_contain_text("There is an image Plain")
