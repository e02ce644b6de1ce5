"""Who may come in is known to all processes at once: logins, tickets, failed logins."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.api.kit import small
from tests.cluster.browser import Browser, console, shows, socket_ticket
from tests.cluster.conftest import Cluster
from tests.process import PanelProcess

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def pair(cluster: Cluster) -> tuple[PanelProcess, PanelProcess]:
    """Two panels, one host, one VM that runs."""
    one, two = cluster.start(2)
    cluster.add_host("host1")
    one.ok("POST", "/api/client/create/host1?wait=20", small("vm-1", start=True))
    return one, two


@pytest.fixture
def browser(pair: tuple[PanelProcess, PanelProcess]) -> Iterator[Browser]:
    """Logged in by one, and served by both in turn."""
    found = Browser(pair)
    found.login(pair[0].token)
    yield found
    found.close()


def test_a_login_is_good_with_all(browser: Browser, pair: tuple[PanelProcess, PanelProcess]) -> None:
    for _time in range(6):
        assert browser.get("/vms").status_code == 200
        answer = browser.post("/hosts/host1/scan", csrf_token=browser.csrf())
        assert answer.status_code in {200, 303, 409}, answer.text
    assert browser.post("/logout", csrf_token=browser.csrf()).status_code == 303
    for _time in range(2):
        assert browser.get("/vms").status_code == 302, "it ended with both"


def test_a_ticket_is_good_once_with_all(browser: Browser, pair: tuple[PanelProcess, PanelProcess]) -> None:
    ticket = socket_ticket(browser, "/console/host1/vm-1")
    with ThreadPoolExecutor(6) as pool:

        def attempt(panel: PanelProcess) -> bool:
            with console(panel, "/console/host1/vm-1", ticket) as socket:
                return shows(socket)

        assert sorted(pool.map(attempt, [*pair] * 3)) == [False] * 5 + [True]
    url = urlsplit(pair[0].ok("GET", "/api/client/remote/host1/vm-1")["url"])
    link = f"{url.path}?{url.query}"
    assert httpx2.get(pair[1].url + link).status_code == 303, "issued by one, spent with the other"
    assert [httpx2.get(panel.url + link).status_code for panel in pair] == [401, 401]


def test_live_pages_hear_of_others(browser: Browser, pair: tuple[PanelProcess, PanelProcess]) -> None:
    one, two = pair
    with browser.stream(one, "tasks") as lines:
        next(lines)
        made = two.ok("POST", "/api/client/powers/host1/vm-1?wait=10", {"action": "reset"})
        assert any(made["task_id"] in line for line in lines)


def test_failed_logins_count_with_all(pair: tuple[PanelProcess, PanelProcess]) -> None:
    codes = [httpx2.post(panel.url + "/login", json={"token": "wrong-token"}).status_code for panel in [*pair] * 4]
    assert codes == [401] * 5 + [429] * 3
