"""The same kills as ``killing``, on real libvirt: domains that boot, disks, DHCP reservations, nftables."""

from __future__ import annotations

import random
import re
import subprocess
from collections import Counter
from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree

import libvirt

from soak.killing import Fire, Real, kill, rows
from soak.report import Report
from tests.conftest import DEMO_IMAGE
from tests.live.libvirt_site import LibvirtSite
from tests.process import PanelProcess

WORKERS = 2
LONGEST = 14.0  # seconds between two kills: a create takes some
IMAGE = "Demo"
BODY = {"os_name": IMAGE, "cpu_num": 1, "ram_num": 96, "hdd_num": 4}
STATES = {libvirt.VIR_DOMAIN_RUNNING: "running", libvirt.VIR_DOMAIN_SHUTOFF: "stopped"}


async def run(folder: Path, seconds: float, seed: int) -> Report:
    """One VM that is looked at, and up to four that come, go and change; about two of them run."""
    report = Report("libvirt")
    if not DEMO_IMAGE.exists():
        report.hold("the demo image is there", False, "make demo-image")
        return report
    site = LibvirtSite(DEMO_IMAGE, IMAGE)
    panel = PanelProcess(folder, observe_seconds="1", log_level="warning")
    try:
        panel.start()
        panel.ok("POST", "/api/server/create", {"server_name": "host1"} | site.host)
        panel.until("/api/server/status/host1", lambda status: status["seen_at"])
        eye = f"{site.name}-eye"
        made = panel.ok("POST", "/api/client/create/host1?wait=100", BODY | {"vm_uuid": eye, "start": True})
        assert made["status"] == "succeeded", made
        names = [[f"{site.name}-w{number}-{index}" for index in range(2)] for number in range(WORKERS)]
        fire = Fire(panel, eye, BODY, lambda: truth(panel, site), LONGEST)
        await kill(fire, names, report, seconds, random.Random(seed))
    finally:
        panel.kill()
        site.clean()
    return report


def truth(panel: PanelProcess, site: LibvirtSite) -> tuple[dict[str, Real], list[str]]:
    """The site's domains, and what is wrong with disks, MACs and the kernel's forwards."""
    found: dict[str, Real] = {}
    disks: list[str] = []
    macs: list[str] = []
    with closing(libvirt.open("qemu:///system")) as connection:
        for domain in connection.listAllDomains():
            text = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
            if str(site.folder) not in text:
                continue
            xml = ElementTree.fromstring(text)
            vcpu = xml.find("vcpu")
            assert vcpu is not None
            state = domain.state()[0]
            count = int(vcpu.get("current") or vcpu.text or 0)
            found[domain.name()] = Real(STATES.get(state, f"libvirt's {state}"), count)
            disks += [source.get("file", "") for source in xml.findall("devices/disk/source")]
            macs += [mac.get("address", "") for mac in xml.findall("devices/interface/mac")]
    problems = [f"MAC {mac} twice" for mac, count in Counter(macs).items() if count > 1]
    problems += [f"disk {disk} twice" for disk, count in Counter(disks).items() if count > 1]
    problems += [f"{disk} is not there" for disk in disks if disk and not Path(disk).exists()]
    kept = {Path(disk).name for disk in disks}
    if orphans := [file for file in site.files() if file not in kept]:
        problems.append(f"files of nobody: {orphans}")
    return found, problems + lost_forwards(panel)


def lost_forwards(panel: PanelProcess) -> list[str]:
    """Outer ports that the kernel does not forward."""
    listed = subprocess.run(
        ["nft", "list", "table", "inet", "openidcs"], capture_output=True, text=True, timeout=30, check=False
    ).stdout
    ports = [port for (port,) in rows(panel, "SELECT external_start FROM forward")]
    return [f"the kernel does not forward port {port}" for port in ports if not re.search(rf"\b{port}\b", listed)]
