"""One list of VMs with seven hosts of seven kinds: each VM is started, opened and stopped from it, in Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import Locator, Page, expect

from panel.services.consoleways import kinds_of
from tests.browser.conftest import Login
from tests.process import PanelProcess
from tests.seven import SEVEN, add, remove

pytestmark = [pytest.mark.browser, pytest.mark.live, pytest.mark.timeout(300)]

ACTION_MS = 60_000


@pytest.fixture(scope="module")
def hosts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PanelProcess]:
    """A panel with a host of each kind, real or a double, and a stopped VM on each."""
    with ExitStack() as stack:
        panel = PanelProcess(tmp_path_factory.mktemp("seven"))
        panel.start()
        stack.callback(panel.stop)
        for provider in SEVEN:
            rig = stack.enter_context(provider.rig(request))
            add(panel, provider.name, rig)
            stack.callback(remove, panel, provider.name)
        yield panel


@pytest.fixture
def page(hosts: PanelProcess, login: Login) -> Page:
    return login(hosts)


def row(page: Page, name: str) -> Locator:
    """The row of a host's VM."""
    return (
        page.locator("#vm-rows tr")
        .filter(has_text=f"vm-{name}")
        .filter(has=page.get_by_role("link", name=name, exact=True))
    )


def test_all_are_in_one_list(page: Page) -> None:
    page.goto("/vms")
    for provider in SEVEN:
        expect(row(page, provider.name)).to_have_count(1)
        expect(row(page, provider.name).locator(".state-stopped")).to_be_visible(timeout=ACTION_MS)
    expect(page.locator("#vm-rows tr")).to_have_count(len(SEVEN))


@pytest.mark.parametrize("name", [one.name for one in SEVEN])
def test_started_opened_and_stopped_from_the_list(page: Page, name: str) -> None:
    kind = next(one.kind for one in SEVEN if one.name == name)
    page.goto("/vms")
    line = row(page, name)
    line.get_by_role("button", name="Start", exact=True).click()
    expect(line.locator(".state-running")).to_be_visible(timeout=ACTION_MS)
    if kinds_of(kind):
        line.get_by_role("link", name=f"Console of vm-{name}").click()
        expect(page.locator("#console")).to_have_attribute("data-state", "connected", timeout=30_000)
        page.goto("/vms")
    else:
        expect(line.get_by_role("button", name="Console: The panel could not try")).to_be_disabled()
    line.get_by_role("button", name=f"More actions for vm-{name}").click()
    line.get_by_role("button", name="Force off").click()
    page.get_by_role("dialog").get_by_role("button", name="Force off").click()
    expect(line.locator(".state-stopped")).to_be_visible(timeout=ACTION_MS)
