"""vSphere's faults, versions and names in our words; nothing is asked."""

from __future__ import annotations

import pytest
from pyVmomi import vim, vmodl

from panel.engines.types import BootDevice, HostConnection, NicMode, NicSpec
from panel.engines.vsphere import faults, sdk
from panel.engines.vsphere.client import served_versions
from panel.engines.vsphere.config import Mark, mark_of, packed, plain_name
from panel.engines.vsphere.engine import VsphereEngine
from panel.engines.vsphere.seed import ethernets
from panel.errors import Conflict, EngineFailure, HostUnreachable, InvalidInput, NotFound, Unsupported
from tests.doubles.pve import pve
from tests.doubles.pve_world import Cluster
from tests.doubles.serving import served

VERSIONS = b"""<?xml version="1.0"?><namespaces version="1.0"><namespace><name>urn:other</name><version>9</version></namespace>
<namespace><name>urn:vim25</name><version>99.0</version><priorVersions><version>6.7</version><version>6.5</version>
</priorVersions></namespace></namespaces>"""


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        (vim.fault.InvalidLogin(msg="Cannot complete login"), HostUnreachable, "server_pass"),
        (vim.fault.PasswordExpired(), HostUnreachable, "expired"),
        (vim.fault.NoPermission(privilegeId="VirtualMachine.Interact.PowerOn"), HostUnreachable, "Interact.PowerOn"),
        (vim.fault.NotAuthenticated(), HostUnreachable, "session"),
        (vmodl.fault.ManagedObjectNotFound(), NotFound, "not on host"),
        (vim.fault.RestrictedVersion(), Unsupported, "licence"),
        (vim.fault.ToolsUnavailable(), Conflict, "agent"),
        (vim.fault.DuplicateName(name="box"), Conflict, "box"),
        (vim.fault.InvalidPowerState(), Conflict, "refuses that now"),
        (vim.fault.TaskInProgress(), Conflict, "refuses that now"),
        (vim.fault.NoDiskSpace(datastore="ds1"), EngineFailure, "ds1"),
        (vim.fault.InsufficientMemoryResourcesFault(), EngineFailure, "memory"),
        (vmodl.fault.NotSupported(), Unsupported, "NotSupported"),
        (
            vmodl.fault.SystemError(reason="boom", msg="A general system error occurred"),
            EngineFailure,
            "general system",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_a_fault_names_its_mend(fault: Exception, kind: type[Exception], says: str) -> None:
    error = faults.translate(fault, "h")
    assert type(error) is kind or issubclass(type(error), kind)
    assert says in str(error)


def test_the_newest_version_that_both_speak() -> None:
    found = served_versions(VERSIONS)
    assert found == {"99.0", "6.7", "6.5"}
    assert sdk.version_for(found) == sdk.version_for({"6.7"}) == "vim.version.version12"
    assert sdk.version_for({"99.0"}) is None
    assert served_versions(b"<html>") == set()


def test_marks_and_names() -> None:
    mark = Mark("a", "机器 <x>", was=(BootDevice.DISK,), since="then")
    entry = vim.option.OptionValue(key="openidcs.mark", value=packed(mark))
    assert mark_of([entry], "a") == mark
    assert mark_of([entry], "b") is None
    assert mark_of([vim.option.OptionValue(key="openidcs.mark", value="no")], "a") is None
    assert plain_name("a%2fb%5Cc%25") == "a/b\\c%"


def test_ipv6_of_a_guest() -> None:
    nic = NicSpec("eth0", NicMode.NAT, "52:54:00:00:00:01", addresses=("2001:db8::5/64",), gateways=("2001:db8::1",))
    told = ethernets((nic,))["nic0"]
    assert (told["dhcp4"], told["dhcp6"], told["routes"]) == (True, False, [{"to": "::/0", "via": "2001:db8::1"}])


async def test_what_is_no_vsphere_says_so() -> None:
    with served(pve(Cluster(), None)) as base:  # type: ignore[arg-type]
        engine = VsphereEngine(HostConnection("h", base, "root", "x"))
        with pytest.raises((EngineFailure, HostUnreachable), match="server_addr"):
            await engine.probe()
        await engine.close()


@pytest.mark.parametrize(("address", "says"), [("127.0.0.1:9", "port"), ("no.such.invalid", "server_addr")])
async def test_nobody_there(address: str, says: str) -> None:
    engine = VsphereEngine(HostConnection("h", address, "root", "x"))
    with pytest.raises(HostUnreachable, match=says):
        await engine.probe()
    await engine.close()


async def test_a_user_is_needed() -> None:
    engine = VsphereEngine(HostConnection("h", "127.0.0.1:9", "", "x"))
    with pytest.raises(InvalidInput) as caught:
        await engine.probe()
    assert caught.value.field == "server_user"
    await engine.close()


def test_a_deadline_is_a_number() -> None:
    with pytest.raises(InvalidInput) as caught:
        VsphereEngine(HostConnection("h", "x", options={"shutdown_timeout": "soon"}))
    assert caught.value.field == "shutdown_timeout"
