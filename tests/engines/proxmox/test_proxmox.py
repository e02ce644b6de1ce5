"""What is Proxmox's own: logins, rights, certificates, locks, cloud-init, linked clones, tasks that are ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from panel.engines.common.http import Answer
from panel.engines.consoletypes import StreamTarget
from panel.engines.proxmox.client import said
from panel.engines.proxmox.config import Mark, dns_name, mark_of, with_mark
from panel.engines.proxmox.engine import ProxmoxEngine
from panel.engines.types import NicMode, NicSpec, PowerAction, PowerState, VmChange
from panel.errors import CertificateRefused, Conflict, HostUnreachable, InvalidInput, PanelError
from tests.contract.kit import Recorder

from .kit import PASSWORD, TOKEN, USER, Double, machine, spec


async def failed(engine: ProxmoxEngine) -> PanelError:
    """Why the connection test fails."""
    try:
        with pytest.raises(PanelError) as caught:
            await engine.probe()
    finally:
        await engine.close()
    return caught.value


async def test_the_certificate_is_shown_and_pinned(double: Double) -> None:
    error = await failed(double.engine(fingerprint=""))
    assert isinstance(error, CertificateRefused)
    assert double.fingerprint in str(error)
    assert isinstance(await failed(double.engine(fingerprint="AB" * 32)), CertificateRefused)
    engine = double.engine()
    info = await engine.probe()
    assert (info.version, info.cpu_count, info.warnings) == ("Proxmox VE 8.4.1", 8, ())
    await engine.close()


@pytest.mark.parametrize(("user", "secret"), [(USER, "wrong"), (TOKEN, "wrong"), ("nobody@pve", PASSWORD)])
async def test_a_wrong_login_says_what_to_check(double: Double, user: str, secret: str) -> None:
    error = await failed(double.engine(user, secret))
    assert isinstance(error, HostUnreachable)
    assert "realm" in str(error)
    assert secret not in str(error)


def test_a_user_needs_a_realm(double: Double) -> None:
    with pytest.raises(InvalidInput, match="root@pam") as caught:
        double.engine("root")
    assert caught.value.field == "server_user"


async def test_a_wrong_node_or_storage(double: Double) -> None:
    for options, field in (({"node": "pve9"}, "node"), ({"storage": "none"}, "system_path")):
        error = await failed(double.engine(**options))
        assert isinstance(error, InvalidInput)
        assert error.field == field


async def test_rights_are_named(double: Double) -> None:
    engine = double.engine()
    double.door.missing |= {"VM.Clone", "VM.Console"}
    assert "VM.Clone, VM.Console" in str((await engine.probe()).warnings[0])
    with pytest.raises(HostUnreachable, match=r"VM\.Clone on /vms/\d+"):
        await engine.create(spec(), Recorder())
    double.door.missing.add("VM.Audit")
    assert "VM.Audit" in str(await failed(engine))


async def test_an_expired_ticket_is_renewed(double: Double) -> None:
    engine = double.engine(USER)
    made_of = spec(start=True)
    await engine.create(made_of, Recorder())
    double.door.tickets.clear()
    await engine.power(made_of.ref, PowerAction.STOP, Recorder())
    double.door.tickets.clear()
    seen = await asyncio.gather(*(engine.inspect(made_of.ref) for _ in range(5)))
    assert {one.state for one in seen} == {PowerState.STOPPED}
    await engine.power(made_of.ref, PowerAction.START, Recorder())
    target = await engine.console(made_of.ref)
    assert isinstance(target, StreamTarget)
    reader, writer = await target.open()
    async with asyncio.timeout(10):
        assert await reader.readexactly(12) == b"RFB 003.008\n"
        writer.write(b"RFB 003.008\n")
        assert await reader.readexactly(2) == b"\x01\x01", "the browser is asked for no password"
    await engine.close()
    assert await asyncio.wait_for(reader.read(100), 5) is not None
    writer.close()
    other = double.engine()
    await other.delete(made_of.ref, made_of.name, Recorder())
    await other.close()


async def test_cloud_init(double: Double) -> None:
    engine = double.engine()
    nics = (
        NicSpec("eth0", NicMode.BRIDGE, "52:54:00:00:00:01", addresses=("203.0.113.5/24", "2001:db8::5/64"),
                gateways=("203.0.113.1", "fe80::1"), dns=("9.9.9.9", "2620:fe::9")),
        NicSpec("eth1", NicMode.NAT, "52:54:00:00:00:02"),
    )  # fmt: skip
    wanted = spec(name="px-_odd_.name", nics=nics, password="first-boot", disk_gib=3)
    report = Recorder()
    await engine.create(wanted, report)
    vm = machine(double, wanted.ref)
    assert vm.config["name"] == "px--odd.name"
    assert (vm.config["ciuser"], vm.config["cipassword"]) == ("root", "first-boot")
    assert vm.config["ipconfig0"] == "gw=203.0.113.1,gw6=fe80::1,ip=203.0.113.5/24,ip6=2001:db8::5/64"
    assert (vm.config["ipconfig1"], vm.config["nameserver"]) == ("ip=dhcp", "9.9.9.9 2620:fe::9")
    assert vm.config["net0"] == "virtio=52:54:00:00:00:01,bridge=vmbr0"
    assert vm.config["net1"] == "virtio=52:54:00:00:00:02,bridge=vmbr1"
    assert any("create full clone" in line for line in report.lines), "the vendor's own log is told"
    await engine.delete(wanted.ref, wanted.name, Recorder())
    await engine.close()


async def test_keys_without_a_password(double: Double) -> None:
    """Percent-encoded, as the vendor wants them: a plus or a space of a key's would be refused."""
    engine, wanted = double.engine(), spec(ssh_keys=("ssh-ed25519 AAAA+/8= a: #c", "ssh-rsa BBBB"), start=True)
    await engine.create(wanted, Recorder())
    vm = machine(double, wanted.ref)
    assert (vm.config["ciuser"], "cipassword" in vm.config) == ("root", False)
    assert vm.config["sshkeys"] == "ssh-ed25519%20AAAA%2B%2F8%3D%20a%3A%20%23c%0Assh-rsa%20BBBB"
    assert vm.keys == list(wanted.ssh_keys)
    await engine.delete(wanted.ref, wanted.name, Recorder())
    await engine.close()


async def test_a_template_without_a_cloud_init_drive(double: Double) -> None:
    plain = double.world.add("plain", gib=1, template=True)
    del plain.config["ide2"]
    engine, report = double.engine(), Recorder()
    wanted = spec(image="plain", password="first-boot")
    await engine.create(wanted, report)
    assert any("cloud-init drive" in line for line in report.lines if line.startswith("warning"))
    assert "cipassword" not in machine(double, wanted.ref).config
    await engine.delete(wanted.ref, wanted.name, Recorder())
    await engine.close()
    double.world.destroy(plain)


@pytest.mark.parametrize(("mode", "storage"), [("full", "fast"), ("linked", "local-lvm")])
async def test_full_and_linked_clones(double: Double, mode: str, storage: str) -> None:
    engine = double.engine(storage="fast", clone_mode=mode)
    wanted = spec()
    await engine.create(wanted, Recorder())
    assert machine(double, wanted.ref).config["scsi0"].startswith(f"{storage}:")
    await engine.delete(wanted.ref, wanted.name, Recorder())
    await engine.close()


async def test_no_nat_without_its_bridge(double: Double) -> None:
    engine = double.engine(network_nat="")
    with pytest.raises(InvalidInput, match="network_nat"):
        await engine.create(spec(), Recorder())
    await engine.close()


async def test_a_locked_vm_says_so(double: Double) -> None:
    engine = double.engine()
    wanted = spec()
    await engine.create(wanted, Recorder())
    vm = machine(double, wanted.ref)
    vm.config["lock"] = "backup"
    calls: list[Callable[[], Any]] = [
        lambda: engine.power(wanted.ref, PowerAction.START, Recorder()),
        lambda: engine.update(wanted.ref, VmChange(cpu_count=2), Recorder()),
        lambda: engine.delete(wanted.ref, wanted.name, Recorder()),
    ]
    for call in calls:
        with pytest.raises(Conflict, match=r"locked.*backup"):
            await call()
    del vm.config["lock"]
    await engine.delete(wanted.ref, wanted.name, Recorder())
    await engine.close()


async def test_a_cancelled_creation_ends_the_vendors_task(double: Double) -> None:
    double.world.clone_seconds = 600
    engine, wanted, volumes = double.engine(), spec(), set(double.world.volumes)
    creating = asyncio.create_task(engine.create(wanted, Recorder()))
    async with asyncio.timeout(20):
        while len(double.world.volumes) == len(volumes):
            await asyncio.sleep(0.02)
    creating.cancel()
    await asyncio.wait({creating}, timeout=20)
    assert creating.cancelled()
    clone = [task for task in double.world.tasks.values() if task.kind == "qmclone"][-1]
    assert (clone.exit, double.world.volumes) == ("interrupted by signal", volumes)
    await engine.close()


async def test_one_node_of_a_cluster(double: Double) -> None:
    other = double.world.add("elsewhere", node="pve2")
    for node, there in (("", True), ("pve1", False), ("pve2", True)):
        engine = double.engine(node=node)
        assert (str(other.vmid) in {vm.ref for vm in await engine.observe()}) is there
        await engine.close()
    double.world.destroy(other)


async def test_a_copy_made_by_hand_is_not_ours(double: Double) -> None:
    engine = double.engine()
    wanted = spec()
    await engine.create(wanted, Recorder())
    copy = double.world.add("copy")
    copy.config["description"] = machine(double, wanted.ref).config["description"]
    seen = {vm.ref: vm for vm in await engine.observe()}
    assert seen[wanted.ref].managed
    assert not seen[str(copy.vmid)].managed
    await engine.delete(wanted.ref, wanted.name, Recorder())
    await engine.close()
    double.world.destroy(copy)


def test_the_sentence_of_a_refusal() -> None:
    """In the body, or in older versions beside the status."""
    assert said(Answer("h", 500, {}, b'{"data":null}', "VM is locked (clone)")) == "VM is locked (clone)"
    body = b'{"data":null,"message":"Parameter verification failed.\\n","errors":{"newid":"is missing"}}'
    assert said(Answer("h", 400, {}, body, "Bad Request")) == "Parameter verification failed. newid: is missing"
    assert said(Answer("h", 502, {}, b"<html>", "")) == "HTTP 502"


def test_marks_and_names() -> None:
    notes = with_mark("Somebody's own\nnotes", Mark(100, "名", "r", "n"))
    assert mark_of({"description": notes}, 100) == Mark(100, "名", "r", "n")
    assert mark_of({"description": notes}, 101) is None
    assert mark_of({"description": "<!-- openidcs AAAA -->"}, 100) is None
    again = with_mark(notes, Mark(100, "b"))
    assert again.startswith("Somebody's own\nnotes\n<!--")
    assert again.count("openidcs") == 1
    assert [dns_name(text) for text in ("web_1", "_", "a..b", "-x-")] == ["web-1", "vm", "a.b", "x"]
