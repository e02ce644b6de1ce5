"""An SSH key that is given at create: a real guest reads it from its seed, and lets its owner in."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncssh
import pytest

from panel.engines.libvirt.engine import LibvirtEngine
from tests.gateways.sshd import keygen
from tests.live.engine_site import Place, Report, spec, until

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]


async def let_in(address: str, key: Path) -> bool:
    """Whether the guest lets root in with ``key`` alone. Its server comes up seconds after its address."""
    options = asyncssh.SSHClientConnectionOptions(
        username="root", client_keys=[str(key)], known_hosts=None, config=None, agent_path=None, preferred_auth="publickey",
        server_host_key_algs=["ssh-ed25519"],
    )  # fmt: skip
    for _attempt in range(40):
        try:
            async with asyncio.timeout(20), asyncssh.connect(address, options=options) as connection:
                return (await connection.run("id -u", check=True)).stdout == "0\n"
        except asyncssh.PermissionDenied:
            return False
        except (OSError, asyncssh.Error):
            await asyncio.sleep(1)
    raise AssertionError("no SSH server")


async def test_the_owner_of_the_key_gets_in(engine: LibvirtEngine, place: Place, tmp_path: Path) -> None:
    public = keygen(tmp_path / "mine")
    keygen(tmp_path / "other")
    wanted = spec(start=True, ssh_keys=(f'{public} it\'s: "mine" #1 密钥',))
    await engine.create(wanted, Report())
    seen = await until(engine, wanted.ref, lambda vm: any("." in text for text in vm.nics[0].addresses), 180)
    address = next(text.split("/")[0] for text in seen.nics[0].addresses if "." in text)
    assert await let_in(address, tmp_path / "mine")
    assert not await let_in(address, tmp_path / "other")
    await engine.delete(wanted.ref, wanted.name, Report())
