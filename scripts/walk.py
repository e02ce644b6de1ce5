"""Walks the first hour of ``docs/first-hour.md`` in Chromium, on a panel that ``make run`` serves, and takes its pictures.

    PANEL_PROXY=1 PANEL_PROXY_HTTP_PORT=8080 PANEL_PROXY_HTTPS_PORT=8443 make run    in another terminal
    .venv/bin/python scripts/walk.py http://localhost:1880 TOKEN [FOLDER]

It makes the VM ``web-1`` on host ``local`` and leaves it there. Each step fails loudly when the panel does not do as told.
"""

from __future__ import annotations

import subprocess
import sys
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.browser.conftest import CHROMIUM, FLAGS

NAME, PASSWORD, DOMAIN = "web-1", "first-hour-1", "shop.example.test"
COLOURS = 128
BOOT_MS = 240_000


class Walk:
    """One person at one browser."""

    def __init__(self, page: Page, url: str, folder: Path) -> None:
        self.page, self.url, self.folder = page, url, folder
        self.step = 0

    def go(self, path: str) -> None:
        self.page.goto(self.url + path)

    def shoot(self, name: str) -> None:
        """The next picture."""
        self.step += 1
        self.page.wait_for_timeout(600)
        picture = Image.open(BytesIO(self.page.screenshot())).convert("RGB").quantize(COLOURS)
        picture.save(self.folder / f"first-hour-{self.step}-{name}.png", optimize=True)
        print(f"{self.step}. {name}")

    def log_in(self, token: str) -> None:
        self.go("/login")
        self.shoot("login")
        self.page.fill("input[name=token]", token)
        self.page.keyboard.press("Enter")
        self.page.wait_for_url(self.url + "/")
        expect(self.page.locator("main")).to_contain_text("local", timeout=30_000)
        self.shoot("dashboard")

    def create(self) -> None:
        self.go("/vms/new")
        self.page.fill("input[name=vm_uuid]", NAME)
        self.page.fill("input[name=os_pass]", PASSWORD)
        self.page.keyboard.press("Tab")
        expect(self.page.locator("main")).to_contain_text(NAME)
        self.page.mouse.wheel(0, -5000)
        self.shoot("create")
        self.page.get_by_role("button", name="Create VM").click()
        self.page.wait_for_url(f"**/hosts/local/vms/{NAME}*")
        expect(self.page.locator("main")).to_contain_text("Running", timeout=60_000)
        expect(self.page.get_by_text("10.", exact=False).first).to_be_visible(timeout=BOOT_MS)
        self.page.wait_for_timeout(12_000)  # the picture of the screen is asked for every ten seconds
        self.shoot("vm")

    def consoles(self) -> None:
        self.go(f"/console/local/{NAME}")
        self.page.wait_for_selector("canvas", timeout=20_000)
        self.page.wait_for_timeout(3000)
        self.shoot("screen")
        self.go(f"/console/local/{NAME}?kind=text")
        terminal = self.page.locator(".xterm")
        expect(terminal).to_be_visible(timeout=20_000)
        terminal.click()
        self.page.keyboard.press("Enter")
        rows = self.page.locator(".xterm-rows")
        expect(rows).to_contain_text("login:", timeout=60_000)
        self.page.keyboard.type("root\n", delay=60)
        expect(rows).to_contain_text("assword", timeout=30_000)
        self.page.keyboard.type(PASSWORD + "\n", delay=60)
        self.page.keyboard.type(
            "echo '<h1>My first VM</h1>' > /var/www/index.html; hostname; cat /var/www/index.html\n", delay=40
        )
        expect(rows).to_contain_text("My first VM", timeout=30_000)
        self.shoot("text")

    def publish(self) -> None:
        self.go(f"/hosts/local/vms/{NAME}?tab=network")
        self.page.fill("#internal_port", "80")
        self.page.locator("form[action$='/forwards'] button[type=submit]").click()
        row = self.page.locator("tr[id^=forward-]")
        expect(row.locator(".state-online")).to_have_text("open", timeout=60_000)
        self.page.fill("#domain", DOMAIN)
        self.page.fill("#target_port", "80")
        self.page.locator("form[action$='/domains'] button[type=submit]").click()
        domain = self.page.locator("tr[id^=domain-]")
        expect(domain.get_by_text("open", exact=True)).to_be_visible(timeout=60_000)
        domain.scroll_into_view_if_needed()
        self.shoot("published")
        port = "8443"
        answer = subprocess.run(
            ["curl", "-sk", "--max-time", "20", "--resolve", f"{DOMAIN}:{port}:127.0.0.1", f"https://{DOMAIN}:{port}/"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        print(f"   https://{DOMAIN} answers: {answer.stdout.strip()[:60]!r}")
        assert answer.stdout.strip()

    def look_back(self) -> None:
        self.go("/vms")
        expect(self.page.locator("#vm-rows")).to_contain_text(NAME)
        self.shoot("list")
        self.go("/logs")
        self.shoot("log")


def main() -> None:
    url, token = sys.argv[1].rstrip("/"), sys.argv[2]
    folder = Path(sys.argv[3]) if len(sys.argv) > 3 else Path(__file__).parents[1] / "docs" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        context = browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-US")
        walk = Walk(context.new_page(), url, folder)
        walk.log_in(token)
        walk.create()
        walk.consoles()
        walk.publish()
        walk.look_back()
        browser.close()


if __name__ == "__main__":
    main()
