"""The Host header is the client's word: it never becomes a link that somebody else follows."""

from __future__ import annotations

from pathlib import Path

import pytest

from panel.settings import Settings
from tests.api.kit import make_vm
from tests.conftest import ApiClient
from tests.pages.conftest import Browser

EVIL = "evil.example"


class TestWithPublicUrl:
    """Where the panel knows its own address, Host counts for nothing."""

    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        return Settings(
            data_folder=tmp_path / "data", fake_engine=True, observe_seconds=0.2, public_url="https://panel.example"
        )

    async def test_links_are_the_panels_own(self, api: ApiClient, fake_host: str) -> None:
        await make_vm(api, start=True)
        headers = {"Authorization": f"Bearer {api.token}", "Host": EVIL}
        _status, answer = await api("GET", "/api/client/remote/host1/vm-1", headers=headers)
        assert answer["data"]["url"].startswith("https://panel.example/console/host1/vm-1?ticket=")


async def test_redirects_name_no_host(stranger: Browser) -> None:
    for path in ("/hosts", "/", "/vms?page=2"):
        response = await stranger.client.get(path, headers={"Host": EVIL, "Accept": "text/html"})
        assert response.status_code in {302, 303}
        assert response.headers["Location"].startswith("/login"), response.headers["Location"]
    response = await stranger.client.post("/login", form={"token": stranger.token}, headers={"Host": EVIL})
    assert response.headers["Location"] == "/"
    assert "domain=" not in response.headers["Set-Cookie"].lower()


async def test_no_page_repeats_it(browser: Browser) -> None:
    """A cache between us and the next reader would hand it on."""
    for path in ("/", "/hosts", "/settings", "/login"):
        response = await browser.client.get(
            path, headers={"Host": EVIL, "X-Forwarded-Host": EVIL, "Forwarded": f"host={EVIL}"}
        )
        assert EVIL not in (await response.get_data(as_text=True))


@pytest.mark.parametrize(
    "host", ["evil.example/@x", 'a"><script>', "a b", "user:pw@evil.example", "a\\b", "", "evil.example?x"]
)
async def test_what_is_no_host_becomes_no_link(api: ApiClient, fake_host: str, host: str) -> None:
    await make_vm(api, start=True)
    headers = {"Authorization": f"Bearer {api.token}", "Host": host}
    status, answer = await api("GET", "/api/client/remote/host1/vm-1", headers=headers)
    assert (status, answer["data"]) == (400, {"field": "Host"})


async def test_rebinding_a_name_to_us_opens_nothing(browser: Browser) -> None:
    """A page of a name that leads to us has the Origin of that name, but no cookie of ours: those are per name."""
    cookie = next(iter(browser.client.cookie_jar))
    assert not cookie.domain_specified
    client = browser.client.app.test_client()
    headers = {"Host": EVIL, "Origin": f"http://{EVIL}", "Accept": "application/json"}
    assert (await client.post("/settings/token/reset", headers=headers)).status_code == 401
