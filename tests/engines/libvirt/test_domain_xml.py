"""The domain XML: made from trees, so that no text becomes markup, and read back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panel.engines.libvirt.domain import Placement, cpu_ceiling, domain_xml, read_domain, sources_of
from panel.engines.libvirt.xmltree import check_title, parse
from panel.engines.types import NicMode, NicSpec, VmSpec
from panel.errors import InvalidInput

REF = "11111111-2222-3333-4444-555555555555"
NIC = NicSpec("eth0", NicMode.NAT, "52:54:00:00:00:01")
SPEC = VmSpec(REF, "vm-1", "A title", 2, 512, 10, (NIC,), image="Debian 12")
PLACE = Placement("/disks/vm-1.qcow2", "/disks/vm-1-seed.iso", False, True, "openidcs", "")


def test_what_is_written_is_read() -> None:
    config = read_domain(domain_xml(SPEC, PLACE))
    assert (config.ref, config.name, config.title) == (REF, "vm-1", "A title")
    assert (config.vcpus, config.os_name, config.managed) == (2, "Debian 12", True)
    assert config.volumes == ("/disks/vm-1.qcow2", "/disks/vm-1-seed.iso")
    assert [(nic.name, nic.mac, nic.kind, nic.network) for nic in config.nics] == [
        ("eth0", "52:54:00:00:00:01", "network", "openidcs")
    ]
    assert config.system_disk is not None
    assert config.system_disk.target == "vda"
    assert config.agent_channel
    assert not config.agent_connected


@given(st.text(max_size=255))
def test_no_title_becomes_markup(title: str) -> None:
    try:
        check_title(title)
    except InvalidInput as error:
        assert error.field == "vm_name"
        return
    root = parse(domain_xml(replace(SPEC, title=title), PLACE))
    assert (root.findtext("title") or "") == title
    assert len(root.findall("devices/disk")) == 3
    assert root.findtext("name") == "vm-1"


@pytest.mark.parametrize("title", ["a\nb", "a\0b", "a\x1bb", "a\ud800b", "a\uffffb", "a\u2028b", "x" * 256])
def test_titles_that_libvirt_cannot_keep(title: str) -> None:
    with pytest.raises(InvalidInput):
        domain_xml(replace(SPEC, title=title), PLACE)


def test_image_and_interface_names_are_only_text() -> None:
    nic = replace(NIC, name="</metadata><devices>")
    config = read_domain(domain_xml(replace(SPEC, image="<x>\n", nics=(nic,)), PLACE))
    assert config.os_name == "<x>"
    assert config.nics[0].name == "</metadata><devices>"


def test_accelerated_or_not() -> None:
    slow, fast = parse(domain_xml(SPEC, PLACE)), parse(domain_xml(SPEC, replace(PLACE, accelerated=True)))
    assert (slow.get("type"), fast.get("type")) == ("qemu", "kvm")
    modes = [cpu.get("mode") for root in (slow, fast) if (cpu := root.find("cpu")) is not None]
    assert modes == ["maximum", "host-passthrough"]


def test_vnc_never_listens_to_the_world() -> None:
    for local, listen in ((True, {"type": "socket"}), (False, {"type": "address", "address": "127.0.0.1"})):
        found = parse(domain_xml(SPEC, replace(PLACE, local=local))).find("devices/graphics/listen")
        assert found is not None
        assert found.attrib == listen


def test_bridges() -> None:
    spec = replace(SPEC, nics=(replace(NIC, mode=NicMode.BRIDGE),))
    with pytest.raises(InvalidInput) as caught:
        domain_xml(spec, PLACE)
    assert caught.value.field == "nic_all"
    nic = read_domain(domain_xml(spec, replace(PLACE, network_bridge="br0"))).nics[0]
    assert (nic.kind, nic.network) == ("bridge", "br0")


@pytest.mark.parametrize("mac", ["", "52:54:00", "01:00:00:00:00:01", "52-54-00-00-00-01", "' onload='"])
def test_wrong_macs(mac: str) -> None:
    with pytest.raises(InvalidInput):
        domain_xml(replace(SPEC, nics=(replace(NIC, mac=mac),)), PLACE)


def test_the_memory_is_no_more_than_asked_for() -> None:
    root = parse(domain_xml(SPEC, PLACE))
    assert root.findtext("memory") == root.findtext("currentMemory") == "512"


@pytest.mark.parametrize(("count", "ceiling"), [(1, 8), (4, 8), (6, 12), (200, 255), (255, 255)])
def test_cpu_ceiling(count: int, ceiling: int) -> None:
    assert cpu_ceiling(count) == ceiling


FOREIGN = f"""
<domain type='kvm' id='3'><name>old</name><uuid>{REF}</uuid><memory unit='KiB'>1048576</memory><vcpu>3</vcpu>
<devices>
 <disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk>
 <disk type='volume' device='disk'><source pool='p' volume='v'/><target dev='vda'/></disk>
 <disk type='file' device='disk'><source file='/d/b.qcow2'/>
  <backingStore type='file'><source file='/d/base.qcow2'/></backingStore><target dev='vdb'/></disk>
 <interface type='bridge'><mac address='52:54:00:AA:00:01'/><source bridge='br9'/></interface>
 <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0' state='connected'/></channel>
 <graphics type='spice' port='5900'/><graphics type='vnc' port='5901' listen='0.0.0.0'/>
</devices></domain>"""


def test_a_domain_of_others() -> None:
    config = read_domain(FOREIGN)
    assert (config.managed, config.volumes, config.vcpus, config.memory_mib) == (False, (), 3, 1024)
    assert config.nics[0].mac == "52:54:00:aa:00:01"
    assert config.system_disk is not None
    assert config.system_disk.by_pool
    assert config.graphics == (("spice", ":5900"), ("vnc", "0.0.0.0:5901"))
    assert config.agent_connected
    assert sources_of(FOREIGN) == {"p/v", "/d/b.qcow2", "/d/base.qcow2"}
