"""The domain XML: made from a ``VmSpec``, and read back into what the engine needs to know.

Format: https://libvirt.org/formatdomain.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from panel.engines.libvirt.xmltree import METADATA_NS, Element, check_title, clean, node, parse, serialize
from panel.engines.types import BootDevice, NicMode, NicSpec, VmSpec
from panel.errors import InvalidInput

AGENT_CHANNEL = "org.qemu.guest_agent.0"
BALLOON_SECONDS = 10
MIN_CPU_CEILING = 8
MAX_CPU_CEILING = 255  # of the ``pc`` machine
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


@dataclass(frozen=True, slots=True)
class Placement:
    """What the host adds to a ``VmSpec``: paths on it, and how it runs VMs."""

    disk_path: str
    seed_path: str
    accelerated: bool
    local: bool
    network_nat: str
    network_bridge: str


@dataclass(frozen=True, slots=True)
class DomainNic:
    """An interface in the XML. ``network`` is libvirt's network or the host's bridge, ``port`` the tap while it runs."""

    name: str
    mac: str
    kind: str
    network: str
    port: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class DomainDisk:
    """A disk or CD-ROM in the XML. ``source`` is a path, or ``pool/volume``, or empty for an empty drive."""

    target: str
    device: str
    source: str
    by_pool: bool = False
    bus: str = ""
    format: str = ""


@dataclass(frozen=True, slots=True)
class DomainConfig:
    """What the engine reads from a domain's XML. ``volumes`` are the paths that the panel made for it."""

    ref: str
    name: str
    title: str
    vcpus: int
    memory_mib: int
    managed: bool
    os_name: str
    volumes: tuple[str, ...]
    nics: tuple[DomainNic, ...]
    disks: tuple[DomainDisk, ...]
    graphics: tuple[tuple[str, str], ...]
    serial: str  # the type of its first console (``pty``); empty when it has none
    agent_channel: bool
    agent_connected: bool
    boot: tuple[BootDevice, ...] = ()
    iso: str | None = None  # the path in the CD drive, empty when nothing is in it; None without a drive

    @property
    def system_disk(self) -> DomainDisk | None:
        """The first hard disk, which ``VmChange.disk_gib`` means."""
        return next((disk for disk in self.disks if disk.device == "disk" and disk.source), None)


def cpu_ceiling(cpu_count: int) -> int:
    """How many CPUs can be plugged into a VM that starts with ``cpu_count``. An absent CPU costs no thread, under
    KVM or TCG, only a few KiB."""
    return max(cpu_count, min(MAX_CPU_CEILING, max(MIN_CPU_CEILING, 2 * cpu_count)))


def domain_xml(spec: VmSpec, place: Placement) -> str:
    """The definition of a new VM: BIOS, i440fx (its IDE CD-ROM is seen by every cloud image), virtio, VNC for us only.

    ``<memory>`` equals ``<currentMemory>``: what is above the balloon belongs to the guest as soon as it ignores its
    balloon driver, so a ceiling above what was asked for would be a gift. ``InvalidInput`` for a wrong MAC or bridge.
    """
    root = node(None, "domain", type_="kvm" if place.accelerated else "qemu")
    node(root, "name", spec.name)
    node(root, "uuid", spec.ref)
    title = check_title(spec.title)
    if title:
        node(root, "title", title)
    _metadata(root, spec, place)
    node(root, "memory", str(spec.memory_mib), unit="MiB")
    node(root, "currentMemory", str(spec.memory_mib), unit="MiB")
    node(root, "vcpu", str(cpu_ceiling(spec.cpu_count)), placement="static", current=str(spec.cpu_count))
    node(node(root, "os"), "type", "hvm", arch="x86_64", machine="pc")
    features = node(root, "features")
    node(features, "acpi")
    node(features, "apic")
    node(root, "cpu", mode="host-passthrough" if place.accelerated else "maximum")
    node(root, "clock", offset="utc")
    for event, answer in (("on_poweroff", "destroy"), ("on_reboot", "restart"), ("on_crash", "destroy")):
        node(root, event, answer)
    devices = node(root, "devices")
    _storage(devices, place)
    for nic in spec.nics:
        _interface(devices, nic, place)
    _periphery(devices, place)
    return serialize(root)


def _metadata(root: Element, spec: VmSpec, place: Placement) -> None:
    """The panel's mark, and the list of what it made: ``delete`` removes exactly that."""
    mark = node(node(root, "metadata"), f"{{{METADATA_NS}}}vm")
    if spec.image:
        node(mark, f"{{{METADATA_NS}}}image", clean(spec.image))
    for path in (place.disk_path, place.seed_path):
        node(mark, f"{{{METADATA_NS}}}volume", path)
    for nic in spec.nics:
        node(mark, f"{{{METADATA_NS}}}nic", mac=nic.mac, name=clean(nic.name))


def _storage(devices: Element, place: Placement) -> None:
    disk = node(devices, "disk", type_="file", device="disk")
    node(disk, "driver", name="qemu", type_="qcow2", discard="unmap")
    node(disk, "source", file=place.disk_path)
    node(disk, "target", dev="vda", bus="virtio")
    node(disk, "boot", order="1")
    seed = node(devices, "disk", type_="file", device="cdrom")
    node(seed, "driver", name="qemu", type_="raw")
    node(seed, "source", file=place.seed_path)
    node(seed, "target", dev="hda", bus="ide")
    node(seed, "readonly")
    drive = node(devices, "disk", type_="file", device="cdrom")  # for ISO files: IDE takes no drive later
    node(drive, "driver", name="qemu", type_="raw")
    node(drive, "target", dev="hdb", bus="ide")
    node(drive, "readonly")
    node(drive, "boot", order="2")


def tap_name(mac: str) -> str:
    """The name of the interface's port on the host, the same at every start: rules may hang on it. libvirt's own ``vnetN``
    would be another VM's at the next start. 14 characters of the kernel's 15."""
    return "oi" + mac.replace(":", "")


def _interface(devices: Element, nic: NicSpec, place: Placement) -> None:
    if not _MAC.fullmatch(nic.mac) or int(nic.mac[:2], 16) & 1:
        raise InvalidInput("{mac} is not a MAC address for one interface.", field="nic_all", mac=nic.mac)
    if nic.mode is NicMode.NAT:
        interface = node(devices, "interface", type_="network")
        source = {"network": nic.network or place.network_nat}
    else:
        interface = node(devices, "interface", type_="bridge")
        source = {"bridge": nic.network or place.network_bridge}
        if not source["bridge"]:
            raise InvalidInput(
                "This host has no bridge for VMs. Name one in the host's settings, or use NAT.",
                field="nic_all",
            )
    node(interface, "mac", address=nic.mac)
    node(interface, "source", **source)
    node(interface, "target", dev=tap_name(nic.mac))
    node(interface, "model", type_="virtio")


def _periphery(devices: Element, place: Placement) -> None:
    serial = node(devices, "serial", type_="pty")
    node(serial, "target", port="0")
    console = node(devices, "console", type_="pty")
    node(console, "target", type_="serial", port="0")
    channel = node(devices, "channel", type_="unix")
    node(channel, "target", type_="virtio", name=AGENT_CHANNEL)
    node(devices, "input", type_="tablet", bus="usb")  # absolute: the pointer is where the browser shows it
    graphics = node(devices, "graphics", type_="vnc", **({} if place.local else {"autoport": "yes"}))
    listen = {"type": "socket"} if place.local else {"type": "address", "address": "127.0.0.1"}
    node(graphics, "listen", **listen)
    node(node(devices, "video"), "model", type_="vga")
    rng = node(devices, "rng", model="virtio")
    node(rng, "backend", "/dev/urandom", model="random")
    balloon = node(devices, "memballoon", model="virtio")
    node(balloon, "stats", period=str(BALLOON_SECONDS))


def read_domain(xml: str) -> DomainConfig:
    """What the engine needs from a domain's XML (live or not, ours or another's)."""
    root = parse(xml)
    mark = root.find(f"metadata/{{{METADATA_NS}}}vm")
    names: dict[str, str] = {}
    volumes: list[str] = []
    os_name = ""
    if mark is not None:
        names = {item.get("mac", ""): item.get("name", "") for item in mark.findall(f"{{{METADATA_NS}}}nic")}
        volumes = [item.text or "" for item in mark.findall(f"{{{METADATA_NS}}}volume")]
        os_name = mark.findtext(f"{{{METADATA_NS}}}image", "")
    agent = root.find(f"devices/channel/target[@name='{AGENT_CHANNEL}']")
    vcpu = root.find("vcpu")
    return DomainConfig(
        ref=root.findtext("uuid", ""),
        name=root.findtext("name", ""),
        title=root.findtext("title", ""),
        vcpus=int(vcpu.get("current") or vcpu.text or 1) if vcpu is not None else 1,
        memory_mib=_kib(root) // 1024,
        managed=mark is not None,
        os_name=os_name,
        volumes=tuple(path for path in volumes if path),
        nics=tuple(_nic(item, index, names) for index, item in enumerate(root.findall("devices/interface"))),
        disks=tuple(_disk(item) for item in root.findall("devices/disk")),
        graphics=tuple(_graphics(item) for item in root.findall("devices/graphics")),
        serial=_serial(root),
        agent_channel=agent is not None,
        agent_connected=agent is not None and agent.get("state") == "connected",
        boot=boot_order(root),
        iso=_disk(drive).source if (drive := iso_element(root)) is not None else None,
    )


def iso_element(root: Element) -> Element | None:
    """The CD drive for ISO files: the first one that does not hold what the panel made for the first boot."""
    made = {item.text for item in root.iterfind(f"metadata/{{{METADATA_NS}}}vm/{{{METADATA_NS}}}volume")}
    drives = (disk for disk in root.findall("devices/disk") if disk.get("device") == "cdrom")
    return next((drive for drive in drives if _disk(drive).source not in made), None)


def boot_order(root: Element) -> tuple[BootDevice, ...]:
    """What the domain starts from: by the numbers of its devices, or else by the words of ``<os>``."""
    words = {"hd": BootDevice.DISK, "cdrom": BootDevice.CDROM, "network": BootDevice.NETWORK}
    said = [words[word] for item in root.findall("os/boot") if (word := item.get("dev", "")) in words]
    numbered: list[tuple[int, BootDevice]] = []
    for item in root.findall("devices/*[boot]"):
        boot = item.find("boot")
        kind = BootDevice.NETWORK if item.tag == "interface" else BootDevice.DISK
        if item.get("device") == "cdrom":
            kind = BootDevice.CDROM
        if item.tag in {"disk", "interface"} and boot is not None and boot.get("order", "").isdigit():
            numbered.append((int(boot.get("order", "")), kind))
    return tuple(dict.fromkeys([kind for _number, kind in sorted(numbered)] or said))


def _kib(root: Element) -> int:
    """Memory in KiB, the unit that libvirt always writes (https://libvirt.org/formatdomain.html#memory-allocation)."""
    return int(root.findtext("currentMemory") or root.findtext("memory") or 0)


def _nic(item: Element, index: int, names: dict[str, str]) -> DomainNic:
    mac_element, source = item.find("mac"), item.find("source")
    mac = mac_element.get("address", "").lower() if mac_element is not None else ""
    network = (source.get("network") or source.get("bridge") or source.get("dev") or "") if source is not None else ""
    target = item.find("target")
    port = target.get("dev", "") if target is not None else ""
    model = item.find("model")
    card = model.get("type", "") if model is not None else ""
    return DomainNic(names.get(mac) or f"eth{index}", mac, item.get("type", ""), network, port, card)


def _disk(item: Element) -> DomainDisk:
    target, source = item.find("target"), item.find("source")
    path, by_pool = "", False
    if source is not None:
        path = source.get("file") or source.get("dev") or source.get("name") or ""
        if not path and source.get("pool"):
            path, by_pool = f"{source.get('pool')}/{source.get('volume')}", True
    return DomainDisk(
        target=target.get("dev", "") if target is not None else "",
        device=item.get("device", "disk"),
        source=path,
        by_pool=by_pool,
        bus=target.get("bus", "") if target is not None else "",
        format=driver.get("type", "") if (driver := item.find("driver")) is not None else "",
    )


def _serial(root: Element) -> str:
    """The type of the device that ``openConsole`` takes: the first console, else the first serial port."""
    for path in ("devices/console", "devices/serial"):
        item = root.find(path)
        if item is not None:
            return item.get("type", "")
    return ""


def _graphics(item: Element) -> tuple[str, str]:
    """(type, ``host:port`` when it listens on TCP, or the path of its socket)."""
    listen = item.find("listen")
    if listen is not None and listen.get("type") == "socket":
        return item.get("type", ""), listen.get("socket", "")
    address = (listen.get("address") if listen is not None else None) or item.get("listen") or ""
    port = item.get("port", "")
    return item.get("type", ""), f"{address}:{port}" if port not in {"", "-1"} else ""


def graphics_password(xml: str, index: int) -> str:
    """The password of a screen, which only ``VIR_DOMAIN_XML_SECURE`` tells; empty when it has none."""
    return parse(xml).findall("devices/graphics")[index].get("passwd", "")


def sources_of(xml: str) -> set[str]:
    """Every file that the domain's disks use, backing files included; ``pool/volume`` for disks named so."""
    root = parse(xml)
    used = {disk.source for disk in map(_disk, root.findall("devices/disk")) if disk.source}
    for source in root.iterfind("devices/disk//source"):
        used.add(source.get("file") or source.get("dev") or "")
    return used - {""}
