"""A whole panel and a libvirt host over SSH: a real sshd in a network namespace leads to this machine's libvirt, and the
namespace's nftables are the remote machine's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.gateways.sshd import Sshd
from tests.live.libvirt_site import LibvirtSite
from tests.live.namespaces import beside, run
from tests.live.ssh_site import panel_over_ssh
from tests.process import PanelProcess

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

VM = "/far/vm-1"


@pytest.fixture(scope="module")
def far() -> Iterator[tuple[str, str]]:
    """A namespace beside this machine: its name, and its address."""
    with beside() as made:
        yield made.name, made.address


@pytest.fixture(scope="module")
def sshd(far: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    made = Sshd(tmp_path_factory.mktemp("sshd"), *far)
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def panel(site: LibvirtSite, sshd: Sshd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PanelProcess]:
    with panel_over_ssh(site, sshd, tmp_path_factory) as made:
        yield made


@pytest.fixture(scope="module")
def vm(panel: PanelProcess) -> str:
    """A VM that is off: its address and its rules need no more. The last test deletes it."""
    body = {"vm_uuid": "vm-1", "cpu_num": 1, "ram_num": 64, "hdd_num": 1, "nic_all": {"eth0": {"net_mode": "nat"}}}
    made = panel.ok("POST", "/api/client/create/far?wait=60", body)
    assert made["status"] == "succeeded", made
    return VM


def rules(namespace: str) -> str:
    """The panel's table of the namespace; empty when there is none."""
    return run("ip", "netns", "exec", namespace, "nft", "list", "table", "inet", "openidcs", check=False)


def states(data: Any) -> list[str]:
    return [rule["state"] for rule in data["rules"]]


def test_a_forward_on_a_remote_host(panel: PanelProcess, vm: str, far: tuple[str, str], sshd: Sshd) -> None:
    namespace, _address = far
    rule = panel.ok("POST", f"/api/client/natadd{vm}", {"external_port": 28080, "internal_port": 80})
    assert (rule["state"], rule["problem"]) == ("applied", None)
    assert "tcp . 28080" in rules(namespace)
    assert "28080" not in run("nft", "list", "table", "inet", "openidcs", check=False), "not on the panel's machine"
    status, envelope = panel.api("POST", f"/api/client/natadd{vm}", {"external_port": sshd.port, "internal_port": 22})
    assert status == 409, "its sshd listens there"
    assert "one of its own programs" in envelope["msg"]


def test_it_converges_when_the_host_comes_back(panel: PanelProcess, vm: str, far: tuple[str, str], sshd: Sshd) -> None:
    namespace, _address = far
    sshd.stop()
    away = panel.until(f"/api/client/natget{vm}", lambda data: states(data) == ["failed"])
    assert "SSH" in away["rules"][0]["problem"], away
    added = panel.ok("POST", f"/api/client/natadd{vm}", {"external_port": 28081, "internal_port": 81})
    assert added["state"] == "failed", "the wish is kept"
    run("ip", "netns", "exec", namespace, "nft", "flush", "ruleset")  # what a boot leaves of the rules
    sshd.start()
    panel.until(f"/api/client/natget{vm}", lambda data: states(data) == ["applied", "applied"])
    assert "tcp . 28080" in rules(namespace)
    assert "tcp . 28081" in rules(namespace)


def test_the_end_of_the_vm_ends_them(panel: PanelProcess, vm: str, far: tuple[str, str]) -> None:
    panel.ok("DELETE", f"/api/client/delete{vm}?wait=60")
    assert "2808" not in rules(far[0])
    assert panel.stop() < 10
    assert "[conn=" not in panel.log.read_text(), "nothing of asyncssh's in the log"
