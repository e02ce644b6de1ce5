"""A VM of vSphere's on its page: how busy it is, and its snapshots, over VMware's simulator."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from panel.engines.common.tls import fingerprint_of
from panel.engines.types import EngineKind
from panel.models import Vm
from panel.security import PANEL
from panel.services.container import Services
from panel.services.hosts import HostRequest
from tests.certs import made
from tests.doubles.vcsim import vcsim
from tests.doubles.vcsim_world import World
from tests.pages.conftest import Browser
from tests.pages.test_snapshots import ended

USER, SECRET = "panel@vsphere.local", "s3cret-of-the-host"
PAGE = "/hosts/vc/vms/web"


@pytest.mark.live
async def test_its_load_and_its_snapshots(browser: Browser, services: Services, tmp_path: Path) -> None:
    own = made("localhost")
    pem = tmp_path / "vcsim.pem"
    pem.write_text(own.key_pem + own.pem)
    options = {"fingerprint": fingerprint_of(own.certificate.public_bytes(Encoding.DER))}
    with vcsim(pem, USER, SECRET) as base:
        theirs = World(base, USER, SECRET)
        vm = theirs.add("web")
        theirs.wait(vm.PowerOnVM_Task())
        await services.hosts.create(
            PANEL, "vc", HostRequest(EngineKind.VSPHERE, address=base, user=USER, secret=SECRET, options=options)
        )
        task = await services.vms.scan(PANEL, await services.hosts.get("vc"))
        assert (await services.tasks.wait(task.id, 20)).status == "succeeded"
        await browser.get(PAGE)
        row = await Vm.get(name="web")
        assert row.cpu_percent is not None
        assert row.rates.keys() == {"disk_read", "disk_write", "net_rx", "net_tx"}
        assert re.search(r"Received [1-9][\d.,]* [KM]iB/s", browser.text), browser.text
        await browser.get(f"{PAGE}?tab=snapshots")
        assert "No snapshots seen." in browser.text
        await browser.post(f"{PAGE}/snapshot", action="take", snapshot="before")
        assert await ended(services) == "succeeded"
        await browser.get(f"{PAGE}?tab=snapshots")
        assert "disks and memory" in browser.text
        theirs.wait(vm.PowerOffVM_Task())
        await browser.post(f"{PAGE}/snapshot", action="rollback", snapshot="before")
        assert await ended(services) == "succeeded"
        assert (await Vm.get(name="web")).state == "running"
        await browser.post(f"{PAGE}/snapshot", action="remove", snapshot="before")
        assert await ended(services) == "succeeded"
        await browser.get(f"{PAGE}?tab=snapshots")
        assert "No snapshots seen." in browser.text
