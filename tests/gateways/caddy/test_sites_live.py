"""Domains with a real Caddy: what the outside gets, and that the proxy is kept as it should be."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest
from websockets.sync.client import connect

from panel.errors import EngineFailure, EngineTimeout
from panel.gateways.caddy.client import CaddyClient
from panel.gateways.caddy.config import render
from panel.gateways.caddy.files import Files
from panel.gateways.caddy.gateway import CaddyGateway
from panel.gateways.sites import KeyPair, Site, SiteCertificate, SiteWish
from tests.certs import made
from tests.gateways.caddy.conftest import Visitors
from tests.gateways.world import A4, A6, B4, GW4, World

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

PLAIN = Site("a.test", A4, 80)
SECURE = Site("b.test", B4, 80, tls=True)


def wish(*sites: Site, issuer: str = "internal", **more: str) -> SiteWish:
    return SiteWish(sites, issuer=issuer, **more)  # type: ignore[arg-type]


def pid_of(folder: Path) -> int:
    return int(Files(folder).pid.read_text())


async def test_a_domain_leads_to_its_guest_and_no_other_name_does(proxy: CaddyGateway, visitors: Visitors) -> None:
    await proxy.apply(wish(PLAIN, Site("six.test", A6, 80)))
    found = visitors.curl("http://a.test/path?x=1", "-H", "X-Forwarded-For: 1.2.3.4")
    assert "guest a\n/path?x=1\nHost: a.test" in found
    assert "X-Forwarded-For: 198.51.100.2\nX-Forwarded-Proto: http" in found  # the visitor's word is not believed
    assert "guest a" in visitors.curl("http://six.test/")
    assert " 421 " in visitors.curl("http://other.test/")
    await proxy.apply(SiteWish())
    assert visitors.curl("http://a.test/") == ""


async def test_tls_by_the_internal_authority_with_a_redirect_and_http_2(
    proxy: CaddyGateway, visitors: Visitors
) -> None:
    await proxy.apply(wish(SECURE))
    found = visitors.until("https://b.test/", "guest b")
    assert found.startswith("HTTP/2 200")
    assert "X-Forwarded-Proto: https" in found
    moved = visitors.curl("http://b.test/x?y=z")
    assert " 308 " in moved.splitlines()[0]
    assert "Location: https://b.test/x?y=z" in moved
    status = (await proxy.statuses(wish(SECURE)))["b.test"]
    assert status.state is SiteCertificate.VALID
    assert "Caddy Local Authority" in status.issuer
    assert status.expires is not None


async def test_wildcards_and_names_in_other_scripts(proxy: CaddyGateway, visitors: Visitors) -> None:
    idn = "xn--0zwm56d.test"  # 测试.test
    sites = (Site("*.w.test", A4, 80, tls=True), Site("own.w.test", B4, 80, tls=True), Site(idn, A4, 80, tls=True))
    await proxy.apply(wish(*sites))
    assert "guest a" in visitors.until("https://any.w.test/", "guest")
    assert "guest b" in visitors.until("https://own.w.test/", "guest")
    assert "guest a" in visitors.until(f"https://{idn}/", "guest")
    assert visitors.curl("https://two.labels.w.test/") == ""
    statuses = await proxy.statuses(wish(*sites))
    assert {one.state for one in statuses.values()} == {SiteCertificate.VALID}


async def test_websockets_uploads_and_streams_pass(
    proxy: CaddyGateway, visitors: Visitors, world: World, tmp_path: Path
) -> None:
    await proxy.apply(wish(PLAIN, Site("ws.test", A4, 81)))
    body = tmp_path / "body"
    with body.open("wb") as file:
        file.truncate(300 << 20)
    size = body.stat().st_size
    took = visitors.curl("http://a.test/upload", "-H", "Expect:", "-T", str(body), "-X", "POST")
    assert f"took {size}" in took
    assert resident_kib(pid_of(proxy._files.folder)) < 200 << 10
    streamed = ["ip", "netns", "exec", world.names["wan"], "curl", "-sN", "--resolve", f"a.test:80:{GW4}"]
    with subprocess.Popen([*streamed, "http://a.test/stream"], stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"tick\n"
        assert reader.poll() is None  # the first line came before the last was written
        assert reader.stdout.read() == b"tick\n" * 2
    wan = world.socket("wan")
    wan.connect((GW4, 80))
    with connect("ws://ws.test/", sock=wan) as socket:
        for message in ("hello", bytes(100_000)):
            socket.send(message)
            assert socket.recv(timeout=5) == message


def resident_kib(pid: int) -> int:
    line = next(one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("VmRSS"))
    return int(line.split()[1])


async def test_an_uploaded_pair_is_served_and_never_lies_on_the_disk(
    proxy: CaddyGateway, visitors: Visitors, folder: Path, tmp_path: Path
) -> None:
    own = made("up.test", "*.up.test", title="A Test's Own")
    pair = KeyPair(own.pem, own.key_pem)
    sites = (Site("up.test", A4, 80, tls=True, key_pair=pair), Site("*.up.test", B4, 80, tls=True, key_pair=pair))
    asked = wish(*sites, issuer="")  # Let's Encrypt, which is not asked
    await proxy.apply(asked)
    root = tmp_path / "root.pem"
    root.write_text(pair.chain)
    assert "guest a" in visitors.until("https://up.test/", "guest", root=root)
    assert "guest b" in visitors.curl("https://x.up.test/", root=root)
    assert {one.issuer for one in (await proxy.statuses(asked)).values()} == {"A Test's Own"}
    files = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert not [secret for secret in own.secrets if secret.encode() in files]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


async def test_what_was_changed_or_killed_is_noticed_and_put_right(
    proxy: CaddyGateway, visitors: Visitors, folder: Path
) -> None:
    asked = wish(PLAIN)
    assert await proxy.drifted(asked)
    await proxy.apply(asked)
    assert not await proxy.drifted(asked)
    changed = render(asked, Files(folder))
    changed["apps"]["http"]["servers"]["http"]["routes"] = []
    await CaddyClient(Files(folder).admin).load(changed)
    assert await proxy.drifted(asked)
    await proxy.apply(asked)
    assert "guest a" in visitors.curl("http://a.test/")
    os.kill(pid_of(folder), signal.SIGKILL)
    while not await proxy.drifted(asked):
        await asyncio.sleep(0.02)
    await proxy.apply(asked)
    assert "guest a" in visitors.curl("http://a.test/")


async def test_one_that_cannot_be_reached_any_more_is_replaced(
    proxy: CaddyGateway, visitors: Visitors, folder: Path
) -> None:
    await proxy.apply(wish(PLAIN))
    pid = pid_of(folder)
    Files(folder).admin.unlink()
    assert await proxy.drifted(wish(PLAIN))
    await proxy.apply(wish(PLAIN))
    assert "guest a" in visitors.curl("http://a.test/")
    assert not alive(pid)


async def test_one_that_hangs_is_not_joined_by_another(
    proxy: CaddyGateway, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await proxy.apply(wish(PLAIN))
    pid = pid_of(folder)
    os.kill(pid, signal.SIGSTOP)
    try:
        monkeypatch.setattr("panel.gateways.caddy.client.LOOK_SECONDS", 0.5)
        with pytest.raises(EngineTimeout):
            await proxy.apply(wish(PLAIN, SECURE))
        assert pid_of(folder) == pid
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_a_taken_port_is_named_and_what_was_served_goes_on(
    proxy: CaddyGateway, visitors: Visitors, world: World
) -> None:
    await proxy.apply(wish(PLAIN))
    world.serve("gw", 443)
    with pytest.raises(EngineFailure, match="Port 443 is taken"):
        await proxy.apply(wish(PLAIN, SECURE))
    visitors.until("http://a.test/", "guest a")
    assert not await proxy.drifted(wish(PLAIN))


async def test_it_outlives_the_panel_which_knows_its_own_again(
    proxy: CaddyGateway, visitors: Visitors, folder: Path, world: World
) -> None:
    await proxy.apply(wish(PLAIN))
    await proxy.close()
    pid = pid_of(folder)
    after = CaddyGateway(folder)  # a panel that has been started anew
    assert not await after.drifted(wish(PLAIN))
    assert "guest a" in visitors.curl("http://a.test/")
    await after.apply(SiteWish())
    assert not Files(folder).admin.exists() or await after.drifted(SiteWish())
    assert not alive(pid)


def alive(pid: int) -> bool:
    """Not even as a zombie that nobody has taken note of."""
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().split(")")[1][:3]
    except FileNotFoundError:
        return False


async def test_somebody_elses_caddy_is_used_and_not_ended(
    proxy: CaddyGateway, visitors: Visitors, folder: Path, world: World
) -> None:
    folder.mkdir(mode=0o700)
    config = folder / "service.json"
    config.write_text(json.dumps(render(SiteWish(), Files(folder))))
    command = ["ip", "netns", "exec", world.names["gw"], "caddy", "run", "--config", str(config)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as service:
        while not Files(folder).admin.exists():
            await asyncio.sleep(0.02)
        await proxy.apply(wish(PLAIN))
        assert "guest a" in visitors.curl("http://a.test/")
        await proxy.apply(SiteWish())
        assert visitors.curl("http://a.test/") == ""
        assert service.poll() is None
        assert not await proxy.drifted(SiteWish())
        service.terminate()


async def test_a_machine_without_caddy_says_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineFailure, match="apt-get install caddy"):
        await CaddyGateway(folder).apply(wish(PLAIN))
    before = time.monotonic()
    assert await CaddyGateway(folder).drifted(wish(PLAIN))
    assert time.monotonic() - before < 5
