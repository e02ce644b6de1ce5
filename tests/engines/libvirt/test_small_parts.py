"""URIs, subnets, images, translation of errors, load and observation: without a daemon."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

import libvirt
import pytest

from panel.engines.libvirt import failures, host, images, networks, observe, reservations, storage, uri
from panel.engines.libvirt.domain import read_domain
from panel.engines.libvirt.xmltree import parse
from panel.engines.types import HostConnection, NicMode, PowerState
from panel.errors import Conflict, EngineFailure, HostUnreachable, InvalidInput, NotFound
from tests.engines.libvirt.test_domain_xml import FOREIGN, REF


def test_why_qemu_ended_is_not_hidden_behind_its_warnings() -> None:
    said = (
        "internal error: qemu unexpectedly closed the monitor: 2026-11-27T07:28:28.591586Z qemu-system-x86_64: -accel kvm: "
        "warning: Number of hotpluggable cpus requested (8) exceeds the recommended cpus supported by KVM (2)\n"
        "2026-11-27T07:28:28.602182Z qemu-system-x86_64: warning: no such thing\n"
        "2026-11-27T07:28:28.602182Z qemu-system-x86_64: error: failed to set MSR 0x10a to 0x69\n"
    )
    told = failures.short_reason(said)
    assert told.startswith("internal error: qemu unexpectedly closed the monitor: ")
    assert told.endswith("error: failed to set MSR 0x10a to 0x69")
    assert "warning" not in told
    assert failures.short_reason("a warning: none of QEMU's.") == "a warning: none of QEMU's"


def connection(address: str, user: str = "", **options: str) -> HostConnection:
    return HostConnection("h", address=address, user=user, options=options)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (connection(""), "qemu:///system"),
        (connection(" localhost "), "qemu:///system"),
        (connection("kvm1.example", "root"), "qemu+ssh://root@kvm1.example/system?no_tty=1"),
        (connection("fd00::1"), "qemu+ssh://[fd00::1]/system?no_tty=1"),
        (
            connection("10.0.0.1", ssh_key_file="/etc/k ey"),
            "qemu+ssh://10.0.0.1/system?no_tty=1&keyfile=%2Fetc%2Fk%20ey",
        ),
        (connection("qemu+tls://a.example/system"), "qemu+tls://a.example/system"),
        (connection("qemu+unix:///system?socket=/run/x"), "qemu+unix:///system?socket=/run/x"),
    ],
)
def test_uris(given: HostConnection, expected: str) -> None:
    assert uri.connection_uri(given) == expected


@pytest.mark.parametrize(
    "given",
    [
        connection("-oProxyCommand=x"),
        connection("a b"),
        connection("a.example", "-x"),
        connection("a.example", ssh_key_file="rel/x"),
        connection("xen:///"),
        connection("http://a.example"),
        connection("qemu+ssh://a.example/system?command=/tmp/evil"),
        connection("qemu+ssh://a.example/system?netcat=x"),
        connection("qemu+ssh://-oProxyCommand=x/system"),
        connection("qemu+ssh://u:secret@a.example/system"),
        connection("qemu+tcp://a.example:x/system"),
        connection("qemu+tls://a.example/system?no_verify=1"),
        connection("qemu+tls://a.example/system?pkipath=relative"),
    ],
    ids=lambda given: given.address,
)
def test_refused_addresses(given: HostConnection) -> None:
    with pytest.raises(InvalidInput) as caught:
        uri.connection_uri(given)
    assert "secret" not in str(caught.value)


def test_local_or_not() -> None:
    assert uri.is_local("qemu:///system")
    assert not uri.is_local("qemu+tcp://127.0.0.1/system")
    assert uri.is_ssh("qemu+ssh://a/system")


def test_free_subnet() -> None:
    assert networks.free_subnet([]) == IPv4Network("10.77.0.0/24")
    assert networks.free_subnet([IPv4Network("0.0.0.0/0"), IPv4Network("10.77.0.0/23")]) == IPv4Network("10.77.2.0/24")
    with pytest.raises(Conflict):
        networks.free_subnet([IPv4Network("10.0.0.0/8")])


def test_known_subnets() -> None:
    xml = "<network><ip address='10.77.0.1' netmask='255.255.255.0'/><ip family='ipv6' address='fd00::1' prefix='64'/>"
    assert networks.subnets_of(parse(xml + "</network>")) == [IPv4Network("10.77.0.0/24")]
    made = networks.nat_network_xml("<n>", IPv4Network("10.77.3.0/24"))
    assert networks.subnets_of(parse(made)) == [IPv4Network("10.77.3.0/24")]
    assert parse(made).findtext("name") == "<n>"


def test_free_subnet_of_ipv6() -> None:
    """Unique local, the same for the same network of the same host, and nobody else's."""
    first = networks.free_subnet6("host net", [])
    assert first.subnet_of(IPv6Network("fd00::/8"))
    assert first.prefixlen == 64
    assert networks.free_subnet6("host net", [IPv6Network("::/0")]) == first, "the default route is no network"
    assert networks.free_subnet6("host other", []) != first
    second = networks.free_subnet6("host net", [IPv6Network((first.network_address, 48))])
    assert not second.overlaps(first)
    with pytest.raises(Conflict):
        networks.free_subnet6("host net", [IPv6Network("fc00::/8"), IPv6Network("fd00::/8")])
    table = "fd000000000000000000000000000000 40 00000000000000000000000000000000 00 0 0 0 0 eth0\n" + "short\n"
    assert networks.local_routes6(table) == [IPv6Network("fd00::/64")]


def test_a_network_of_both_families() -> None:
    made = parse(networks.nat_network_xml("n", IPv4Network("10.77.3.0/24"), IPv6Network("fd12:3456:789a::/64")))
    assert networks.subnets6_of(made) == [IPv6Network("fd12:3456:789a::/64")]
    translated = made.find("forward/nat")
    assert translated is not None
    assert translated.get("ipv6") == "yes"
    info = reservations.network_info(made)
    assert (info.subnet6, info.gateway6) == ("fd12:3456:789a::/64", "fd12:3456:789a::1")
    plain = parse(networks.nat_network_xml("n", IPv4Network("10.77.3.0/24")))
    assert plain.find("forward/nat") is None


class Libvirt:
    """A host without networks; one with IPv6 does not start on it when ``refuses``."""

    def __init__(self, refuses: bool) -> None:
        self.refuses = refuses
        self.xml = ""
        self.undefined = 0

    def networkLookupByName(self, _name: str) -> None:  # noqa: N802
        error = libvirt.libvirtError("no")
        error.err = (libvirt.VIR_ERR_NO_NETWORK, 0, "", 0, "", None, None, 0, 0)
        raise error

    def listAllNetworks(self, _flags: int) -> list[object]:  # noqa: N802
        return []

    def getCapabilities(self) -> str:  # noqa: N802
        return "<capabilities><host><uuid>u</uuid></host></capabilities>"

    def networkDefineXML(self, xml: str) -> Libvirt:  # noqa: N802
        self.xml = xml
        return self

    def create(self) -> None:
        if self.refuses and "ipv6" in self.xml:
            raise libvirt.libvirtError("no IPv6 here")

    def undefine(self) -> None:
        self.undefined += 1

    def setAutostart(self, _on: int) -> None:  # noqa: N802
        pass


@pytest.mark.parametrize(("refuses", "families"), [(False, [4, 6]), (True, [4])])
def test_where_ipv6_does_not_start(refuses: bool, families: list[int]) -> None:
    conn = Libvirt(refuses)
    networks.ensure_nat(conn, "n", local=False)
    found = networks.subnets_of(parse(conn.xml)), networks.subnets6_of(parse(conn.xml))
    assert [subnet.version for subnets in found for subnet in subnets] == families
    assert conn.undefined == refuses


def test_an_ipv6_address_where_no_dhcp_gives_it() -> None:
    """The guest sets it up itself: nothing to reserve, and no error."""
    root = parse(
        "<network><ip family='ipv6' address='fd00::1' prefix='64'/><ip address='10.0.0.1' prefix='24'/></network>"
    )
    assert reservations._by_section(root, ["fd00::9"]) == {}
    with pytest.raises(InvalidInput):
        reservations._by_section(root, ["10.0.0.9"])


def test_routes() -> None:
    table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n"
    table += "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
    table += "br0\t00034D0A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
    assert networks.local_routes(table) == [IPv4Network("0.0.0.0/0"), IPv4Network("10.77.3.0/24")]


class Failure:
    """A ``libvirt.libvirtError`` as far as we read it."""

    def __init__(self, code: int, message: str = "why") -> None:
        self._code, self._message = code, message

    def get_error_code(self) -> int:
        return self._code

    def get_error_message(self) -> str:
        return self._message


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (libvirt.VIR_ERR_NO_DOMAIN, NotFound),
        (libvirt.VIR_ERR_OPERATION_INVALID, Conflict),
        (libvirt.VIR_ERR_AGENT_UNRESPONSIVE, Conflict),
        (libvirt.VIR_ERR_INTERNAL_ERROR, EngineFailure),
        (-7, EngineFailure),
    ],
)
def test_errors_in_our_words(code: int, kind: type[Exception]) -> None:
    made = failures.translate(Failure(code, "<domain>\n secret </domain>" + "x" * 300), "h1")
    assert type(made) is kind
    assert "<" not in str(made)
    assert len(str(made)) < 300


def test_every_failure_to_connect_is_unreachable() -> None:
    for code in (libvirt.VIR_ERR_AUTH_FAILED, libvirt.VIR_ERR_RPC, libvirt.VIR_ERR_SYSTEM_ERROR, 1):
        assert isinstance(failures.translate(Failure(code), "h1", connecting=True), HostUnreachable)


def volume(name: str, form: str = "qcow2", backing: str = "") -> storage.VolumeInfo:
    return storage.VolumeInfo(name, f"/i/{name}", form, 2 * storage.GIB, 1000, backing)


def test_what_is_an_image() -> None:
    names = {"a.qcow2": "qcow2", "b.img": "raw", "c.iso": "iso", "d.json": "raw", ".e.qcow2": "qcow2", "f": "dir"}
    assert [name for name, form in names.items() if images.is_image(volume(name, form))] == ["a.qcow2", "b.img"]


def test_sidecars() -> None:
    about = images.parse_sidecar(b'{"os_name": "Debian 12", "default_user": "debian", "title": 3}')
    image = images.describe(volume("d12.qcow2"), about)
    assert (image.name, image.key, image.title, image.default_user) == ("Debian 12", "d12.qcow2", "Debian 12", "debian")
    assert images.describe(volume("d12.qcow2"), {"default_user": "x;y"}).default_user == "root"
    for broken in (b"", b"[]", b"{", b"\xff", b"[" * 60000, b" " * (images.SIDECAR_LIMIT + 1)):
        assert images.parse_sidecar(broken) == {}


def test_images_that_draw_on_other_files() -> None:
    head = b"QFI\xfb" + (3).to_bytes(4, "big")
    images.refuse_foreign_parts(volume("ok.qcow2"), head + bytes(100))
    images.refuse_foreign_parts(volume("ok.vmdk", "vmdk"), b"KDMV")
    for info, header in (
        (volume("a.qcow2", backing="/etc/shadow"), head + bytes(100)),
        (volume("a.qcow2"), head + (8).to_bytes(8, "big") + bytes(100)),
        (volume("a.qcow2"), head + bytes(64) + (4).to_bytes(8, "big") + bytes(8)),
        (volume("a.vmdk", "vmdk"), b"# Disk DescriptorFile"),
    ):
        with pytest.raises(InvalidInput):
            images.refuse_foreign_parts(info, header)


def test_free_names() -> None:
    assert storage.free_name("a", set()) == "a"
    assert storage.free_name("a", {"a", "a-2"}) == "a-3"


def test_kvm_needs_the_processor_too() -> None:
    assert host.cpu_has_virtualization("flags\t\t: fpu vmx sse\n")
    assert not host.cpu_has_virtualization("flags\t\t: fpu sse\nmodel name: vmx\n")


def test_load() -> None:
    first = host.next_sample(None, {"kernel": 10, "user": 10, "idle": 80, "iowait": 0})
    assert first.percent is None
    assert host.next_sample(first, {"kernel": 20, "user": 25, "idle": 155, "iowait": 0}).percent == 25.0
    assert host.next_sample(first, {"kernel": 0, "user": 0, "idle": 5, "iowait": 0}).percent is None
    assert host.dotted(9_000_000) == "9.0.0"
    assert host.dotted(12_008_003) == "12.8.3"


def test_states() -> None:
    words = [observe.power_state(code) for code in range(9)]
    assert words == [
        PowerState.UNKNOWN,
        PowerState.RUNNING,
        PowerState.RUNNING,
        PowerState.SUSPENDED,
        PowerState.RUNNING,
        PowerState.STOPPED,
        PowerState.CRASHED,
        PowerState.SUSPENDED,
        PowerState.UNKNOWN,
    ]


def test_addresses_that_matter() -> None:
    kept = [a for a in ("127.0.0.1", "::1", "fe80::1%eth0", "10.0.0.2", "fd00::2", "x") if observe.is_reachable(a)]
    assert kept == ["10.0.0.2", "fd00::2"]


def test_an_observation() -> None:
    stats = {
        "state.state": 1, "cpu.time": 2_500_000_000, "vcpu.current": 2, "balloon.current": 1048576,
        "balloon.available": 1000 * 1024, "balloon.usable": 400 * 1024,
        "net.count": 1, "net.0.rx.bytes": 5, "net.0.tx.bytes": 7,
        "block.count": 2, "block.0.name": "sda", "block.0.rd.bytes": 1, "block.1.name": "vda",
        "block.1.rd.bytes": 2, "block.1.wr.bytes": 3, "block.1.capacity": 3 * storage.GIB,
    }  # fmt: skip
    entry = observe.Known(read_domain(FOREIGN), 1, 0.0)
    mac = "52:54:00:aa:00:01"
    told = observe.AgentAnswer(0.0, True, {mac: ("10.0.0.9",)})
    seen = observe.observation(REF, "old", stats, entry, {mac: ("10.0.0.2",)}, told, "openidcs")
    assert (seen.state, seen.cpu_count, seen.memory_mib, seen.memory_used_mib) == (PowerState.RUNNING, 2, 1024, 600)
    assert (seen.cpu_seconds, seen.disk_read_bytes, seen.disk_write_bytes) == (2.5, 3, 3)
    assert (seen.net_rx_bytes, seen.net_tx_bytes, seen.disk_gib, seen.agent) == (5, 7, 3.0, True)
    assert seen.nics[0].addresses == ("10.0.0.9",)
    assert seen.nics[0].mode is NicMode.BRIDGE
    silent = {key: value for key, value in stats.items() if key not in {"balloon.available", "balloon.usable"}}
    early = observe.observation(REF, "old", silent, entry, {}, None, "openidcs")
    assert (early.memory_mib, early.memory_used_mib) == (1024, None), "nobody has said yet"
    off = observe.observation(REF, "old", {"state.state": 5}, entry, {mac: ("10.0.0.2",)}, told, "openidcs")
    assert (off.cpu_seconds, off.agent, off.nics[0].addresses, off.cpu_count) == (None, None, (), 3)
