"""The form of a vSphere host: its fields, a setting that names nothing, the login in guests that is kept and not shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from panel.engines.common.tls import fingerprint_of
from panel.engines.vsphere.fields import FIELDS
from panel.models import Host
from tests.certs import made
from tests.doubles.vcsim import vcsim
from tests.pages.conftest import Browser

USER, SECRET = "root", "s3cret-of-the-host"


@pytest.mark.live
async def test_added_by_hand(browser: Browser, tmp_path: Path) -> None:
    own = made("localhost")
    pem = tmp_path / "vcsim.pem"
    pem.write_text(own.key_pem + own.pem)
    fingerprint = fingerprint_of(own.certificate.public_bytes(Encoding.DER))
    with vcsim(pem, USER, SECRET, esx=True) as base:
        await browser.get("/hosts/new?engine=vsphere")
        assert all(f'name="{item.name}"' in browser.html for item in FIELDS)
        fields = {"engine_type": "vsphere", "server_name": "esx", "server_addr": base, "server_user": USER,
                  "server_pass": SECRET, "guest_user": "openidcs", "guest_pass": "in-the-guest"}  # fmt: skip
        await browser.post("/hosts/new", **fields, test="1")
        assert f'name="accept" value="{fingerprint}"' in browser.html
        await browser.post("/hosts/new", **fields, fingerprint=fingerprint, system_path="nowhere", test="1")
        assert "LocalDS_0" in browser.text
        await browser.post("/hosts/new", **fields, accept=fingerprint)
        assert "Connected to" in browser.text
        await browser.post("/hosts/new", **fields, fingerprint=fingerprint)
        assert browser.path == "/hosts/esx"
        await browser.get("/hosts/esx?tab=settings")
        assert 'value="openidcs"' in browser.html
        kept = (await Host.get(name="esx")).options["guest_pass"]
        assert kept not in browser.html
        for secret in (SECRET, "in-the-guest"):
            assert secret not in browser.html
        assert kept != "in-the-guest"
