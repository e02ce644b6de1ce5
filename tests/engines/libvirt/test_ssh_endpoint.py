"""From a host's address to how its machine is reached by SSH."""

from __future__ import annotations

import pytest

from panel.engines.libvirt.engine import LibvirtEngine
from panel.engines.types import HostConnection, SshEndpoint


def endpoint(address: str, *, user: str = "", key: str = "", secret: str = "") -> SshEndpoint | None:
    """What the engine says for such a host."""
    options = {"ssh_key_file": key} if key else {}
    return LibvirtEngine(HostConnection("h", address, user, secret, options=options)).ssh_endpoint


def test_where_ssh_leads() -> None:
    assert endpoint("node7") == SshEndpoint("node7")
    assert endpoint("node7", user="ops", key="/etc/keys/a b") == SshEndpoint("node7", 0, "ops", "/etc/keys/a b")
    uri = "qemu+ssh://root@Node7:2222/system?no_tty=1&keyfile=/etc/keys/id"
    assert endpoint(uri, secret="hunter2") == SshEndpoint("node7", 2222, "root", "/etc/keys/id", "hunter2")
    assert endpoint("qemu+ssh://[2001:db8::7]/system") == SshEndpoint("2001:db8::7")
    assert "hunter2" not in repr(endpoint(uri, secret="hunter2"))


@pytest.mark.parametrize(
    "address", ["", "localhost", "qemu:///system", "qemu+tcp://node7/system", "qemu+tls://n/system"]
)
def test_where_there_is_none(address: str) -> None:
    assert endpoint(address, user="root") is None


def test_one_name_for_all_logins_of_a_machine() -> None:
    names = {found.name for text in ("node7", "qemu+ssh://ops@NODE7:22/system") if (found := endpoint(text))}
    assert names == {"node7:22"}
    assert SshEndpoint("2001:db8::7", 2222).name == "[2001:db8::7]:2222"
