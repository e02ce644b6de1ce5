"""Makes ``docs/images/`` from a running panel with fake hosts, and real pages of it.

.venv/bin/python scripts/screenshots.py            the pictures of the documents
.venv/bin/python scripts/screenshots.py --all DIR  every page, both themes, languages and widths, to look at
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.browser.conftest import CHROMIUM, FLAGS, NARROW, WIDE
from tests.process import PanelProcess

PAGES = {
    "login": None,
    "dashboard": "/",
    "vms": "/vms",
    "vms-none": "/vms?q=nothing-is-called-this",
    "vms-bulk": "/vms/bulk?action=stop&vm=1&vm=2&vm=4",
    "vms-tags": "/vms/bulk/tags?way=add&vm=1&vm=2&vm=4",
    "vm": "/hosts/berlin/vms/web-1",
    "vm-network": "/hosts/berlin/vms/web-1?tab=network",
    "network": "/network",
    "network-domains": "/network/domains",
    "network-addresses": "/network/addresses",
    "vm-console": "/hosts/berlin/vms/web-1?tab=console",
    "vm-hardware": "/hosts/berlin/vms/web-1?tab=hardware",
    "vm-snapshots": "/hosts/berlin/vms/web-1?tab=snapshots",
    "vm-danger": "/hosts/berlin/vms/web-1?tab=danger",
    "vm-tasks": "/hosts/berlin/vms/web-1?tab=tasks",
    "create": "/vms/new",
    "hosts": "/hosts",
    "host": "/hosts/berlin",
    "host-images": "/hosts/berlin?tab=images",
    "host-networks": "/hosts/berlin?tab=networks",
    "host-settings": "/hosts/berlin?tab=settings",
    "host-new": "/hosts/new",
    "tasks": "/tasks",
    "task": "task",
    "logs": "/logs",
    "settings": "/settings",
    "console": "/console/berlin/web-1",
    "console-text": "/console/berlin/web-1?kind=text",
    "docs": "/docs",
}
DOCUMENTS = [("wide", "light", "en"), ("wide", "dark", "zh"), ("narrow", "light", "zh"), ("narrow", "dark", "en")]


def furnish(panel: PanelProcess) -> str:
    """Two hosts that answer and one that does not, VMs in every state, tasks that failed. Returns a task's id."""
    for name, vms in (("berlin", "12"), ("shanghai", "20")):
        fields = {"server_name": name, "engine_type": "FakeEngine", "server_addr": name, "vms": vms}
        if name == "berlin":  # its images are files of this machine: the panel can bring some
            (panel.folder / "images").mkdir()
            fields["images_path"] = str(panel.folder / "images")
        panel.ok("POST", "/api/server/create", fields)
        panel.until(f"/api/server/status/{name}", lambda status: status["seen_at"])
        panel.ok("POST", f"/api/client/scaner/{name}")
    panel.ok("POST", "/api/server/create", {"server_name": "lab", "engine_type": "FakeEngine", "server_addr": "lab"})
    panel.ok("PUT", "/api/server/update/lab", {"behaviour": "refusing", "only": "observe"})
    body = {"vm_uuid": "web-1", "vm_name": "官网 Web server", "os_name": "Debian 12", "cpu_num": 2, "ram_num": 2048,
            "hdd_num": 20, "start": True}  # fmt: skip
    task: str = panel.ok("POST", "/api/client/create/berlin?wait=20", body)["task_id"]
    panel.api("POST", "/api/client/create/berlin?wait=20", body | {"vm_uuid": "db-1", "vm_name": "Database"})
    panel.api("POST", "/api/client/powers/berlin/db-1", {"action": "suspend"})
    panel.ok("POST", "/api/client/natadd/berlin/web-1", {"protocol": "tcp", "internal_port": 22})
    panel.ok(
        "POST", "/api/client/natadd/berlin/web-1", {"protocol": "tcp", "external_port": 28080, "internal_port": 80}
    )
    pool = {
        "subnet": "203.0.113.0/28",
        "gateway": "203.0.113.1",
        "dns": ["9.9.9.9"],
        "ranges": [["203.0.113.2", "203.0.113.9"]],
    }
    panel.ok("POST", "/api/server/network/berlin/fake-bridge", pool)
    for domain, secure in (("www.example.com", True), ("*.shop.example.com", True), ("测试.example", False)):
        body = {"domain": domain, "target_port": 80, "ssl_enabled": secure}
        panel.ok("POST", "/api/client/proxys/create/berlin/web-1", body)
    panel.until("/api/client/status/berlin/web-1", lambda status: status["cpu_usage"] is not None)
    return task


def shoot(browser: Browser, panel: PanelProcess, task: str, folder: Path, kinds: list[tuple[str, str, str]]) -> None:
    """One picture per page and kind (width, theme, language)."""
    for width, scheme, language in kinds:
        size = WIDE if width == "wide" else NARROW
        context = browser.new_context(
            viewport=size,  # type: ignore[arg-type]
            color_scheme=scheme,  # type: ignore[arg-type]
            locale="zh-CN" if language == "zh" else "en-US",
            base_url=panel.url,
        )
        page = context.new_page()
        for name, path in PAGES.items():
            if path is None:
                page.goto("/login")
            else:
                page.goto(f"/tasks/{task}" if path == "task" else path)
            page.wait_for_timeout(2500 if name in {"console", "console-text", "docs", "vm"} else 400)
            if not name.startswith("console"):  # what sticks to the window's foot is to be at the page's foot
                height = page.evaluate("document.documentElement.scrollHeight")
                page.set_viewport_size({"width": size["width"], "height": max(size["height"], height)})
            keep(page.screenshot(), folder / f"{name}-{width}-{scheme}-{language}.png")
            page.set_viewport_size(size)  # type: ignore[arg-type]
            if path is None:
                page.fill("input[name=token]", panel.token)
                page.keyboard.press("Enter")
                page.wait_for_url(panel.url + "/")
        context.close()


def keep(picture: bytes, file: Path) -> None:
    """Write a picture in its own colours: with fewer, a small dot loses the one that matters."""
    Image.open(BytesIO(picture)).convert("RGB").save(file, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--all", type=Path, metavar="DIR")
    chosen: Path | None = parser.parse_args().all
    folder = chosen or Path(__file__).parents[1] / "docs" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    kinds = list(itertools.product(("wide", "narrow"), ("light", "dark"), ("en", "zh"))) if chosen else DOCUMENTS
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        panel = PanelProcess(Path(scratch), fake_engine="1")
        panel.start()
        try:
            task = furnish(panel)
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            shoot(browser, panel, task, folder, kinds)
            browser.close()
        finally:
            panel.stop()
    print(f"{len(kinds) * len(PAGES)} pictures in {folder}")


if __name__ == "__main__":
    main()
