"""A certificate that nobody vouches for: shown, accepted by its button, held, and refused when it changes."""

from __future__ import annotations

from pathlib import Path

from panel.models import Host
from panel.models.host import HostHealth
from panel.security import PANEL
from panel.services.container import Services
from tests.engines.common.workstation import PASSWORD, USER, sealed
from tests.pages.conftest import Browser, until

FORM = {"engine_type": "vmware_workstation", "server_name": "ws", "server_user": USER, "images_path": "D:/Images"}


async def test_accepted_by_its_button(browser: Browser, services: Services, tmp_path: Path) -> None:
    with sealed(tmp_path) as host:
        fields = FORM | {"server_addr": host.base, "server_pass": PASSWORD}
        await browser.get("/hosts/new?engine=vmware_workstation")
        assert 'name="fingerprint"' in browser.html
        for button in ({"test": "1"}, {}):
            await browser.post("/hosts/new", **fields, **button)
            assert browser.status == 400
            assert host.fingerprint in browser.text
            assert f'name="accept" value="{host.fingerprint}"' in browser.html
        await browser.post("/hosts/new", **fields, accept=host.fingerprint)
        assert (browser.status, "Connected to 127.0.0.1: VMware Workstation." in browser.text) == (200, True)
        assert f'name="fingerprint" value="{host.fingerprint}"' in browser.html.replace("  ", " ") or (
            f'value="{host.fingerprint}"' in browser.html
        )
        assert 'name="accept"' not in browser.html
        assert not await Host.exists(), "accepting tests the connection; adding is its own button"
        await browser.post("/hosts/new", **fields, fingerprint=host.fingerprint)
        assert browser.path == "/hosts/ws"
        assert (await Host.get(name="ws")).options["fingerprint"] == host.fingerprint
        port, world = host.port, host.world

    with sealed(tmp_path, port=port, world=world) as other:

        async def noticed() -> bool:
            return (await Host.get(name="ws")).health is HostHealth.UNREACHABLE

        services.observer.look_now((await Host.get(name="ws")).id)
        await until(noticed)
        await browser.get("/hosts/ws")
        assert "another certificate" in browser.text
        known = {"server_addr": other.base, "server_user": USER, "fingerprint": host.fingerprint}
        await browser.get("/hosts/ws?tab=settings")
        await browser.post("/hosts/ws/update", **known, test="1")
        assert f'name="accept" value="{other.fingerprint}"' in browser.html
        await browser.post("/hosts/ws/update", **known, accept=other.fingerprint)
        assert "Connected to" in browser.text
        assert (await Host.get(name="ws")).options["fingerprint"] == host.fingerprint, "not before it is saved"
        await browser.post("/hosts/ws/update", **(known | {"fingerprint": other.fingerprint}))
        assert (await Host.get(name="ws")).options["fingerprint"] == other.fingerprint


async def test_with_htmx_the_field_is_filled(browser: Browser, tmp_path: Path) -> None:
    with sealed(tmp_path) as host:
        await browser.get("/hosts/new?engine=vmware_workstation")
        form = FORM | {"server_addr": host.base, "server_pass": PASSWORD, "csrf_token": browser.csrf}
        headers = {"HX-Request": "true"}
        asked = await browser.client.post("/hosts/new", form=form | {"test": "1"}, headers=headers)
        html = (await asked.get_data()).decode()
        assert asked.status_code == 200
        assert 'hx-select-oob="#field-fingerprint"' in html
        accepted = await browser.client.post("/hosts/new", form=form | {"accept": host.fingerprint}, headers=headers)
        html = (await accepted.get_data()).decode()
        assert 'id="field-fingerprint"' in html
        assert f'value="{host.fingerprint}"' in html
        assert PASSWORD not in html


async def test_a_bad_fingerprint_is_said_beside_its_field(browser: Browser) -> None:
    await browser.get("/hosts/new?engine=vmware_workstation")
    fields = FORM | {"server_addr": "127.0.0.1:1", "server_pass": PASSWORD, "fingerprint": "AB"}
    await browser.post("/hosts/new", **(fields | {"server_addr": "https://127.0.0.1:1"}))
    assert 'id="fingerprint-error"' in browser.html


async def test_a_secret_of_an_engines_own_is_sealed_and_kept(
    browser: Browser, services: Services, tmp_path: Path
) -> None:
    secret = "s3cret-of-guests"
    with sealed(tmp_path) as host:
        fields = FORM | {"server_addr": host.base, "fingerprint": host.fingerprint, "launch_path": "C:/VMware"}
        await browser.get("/hosts/new?engine=vmware_workstation")
        await browser.post("/hosts/new", **fields, server_pass=PASSWORD, guest_user="openidcs", guest_pass=secret)
        row = await Host.get(name="ws")
        assert row.launch_path == "C:/VMware"
        assert row.options["guest_pass"]
        assert secret not in str(row.options)
        assert services.vms._pool.connection(row).secrets["guest_pass"] == secret
        await browser.get("/hosts/ws?tab=settings")
        assert (secret in browser.html, row.options["guest_pass"] in browser.html) == (False, False)
        assert browser.text.count("Leave it empty to keep what is stored.") == 2
        changed = {key: value for key, value in fields.items() if key not in {"engine_type", "server_name"}}
        await browser.post("/hosts/ws/update", **changed, server_pass="", guest_user="other", guest_pass="")
        row = await Host.get(name="ws")
        assert row.options["guest_user"] == "other"
        assert services.vms._pool.connection(row).secrets["guest_pass"] == secret
        saved = await services.configuration._read(await services.configuration.save(PANEL, tmp_path / "saved.json"))
        assert row.options["guest_pass"] in saved.sealed, "loaded with another key, it is refused"
