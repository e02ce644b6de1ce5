"""What reads foreign bytes, each as a function that must end with a result or one of the errors that it promises."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import ParseError

import orjson
from pydantic import ValidationError

from panel.api.routing import check_no_zero, read_model
from panel.api.wire import NewVmBody, ReportBody
from panel.console.frames import FrameError, FrameReader
from panel.console.terminal import size_of
from panel.engines.common import rfb
from panel.engines.common.http import Answer, split_address
from panel.engines.common.pictures import thumbnail
from panel.engines.libvirt.domain import read_domain
from panel.engines.libvirt.images import parse_sidecar
from panel.engines.proxmox.config import disks, gib, mark_of, memory_of, nets
from panel.engines.proxmox.view import addresses
from panel.errors import EngineFailure, PanelError
from panel.services.backupfile import read_head, read_rows
from panel.services.checksums import find_checksum
from panel.services.fetching import check_url
from panel.services.guests import MORE, NUMBERS, _perhaps
from panel.services.imagefiles import _sniff
from panel.services.saved import SavedConfiguration
from panel.settings import load_settings

SCRATCH = Path(tempfile.gettempdir())


@dataclass(frozen=True, slots=True)
class Target:
    """``read`` may raise ``promised`` and nothing else. ``seeds``: where mutation begins."""

    read: Callable[[bytes], object]
    promised: tuple[type[Exception], ...]
    seeds: tuple[bytes, ...]


class _Nowhere:
    def write(self, data: bytes) -> None:
        """What is said to the server."""


def greeting(data: bytes) -> None:
    """A VNC server's first words."""

    async def meet() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        await rfb._log_in(reader, _Nowhere(), "password")  # type: ignore[arg-type]

    asyncio.run(meet())


def frames(data: bytes) -> None:
    """A browser's frames, in one piece and byte by byte: the same result."""
    results = []
    for size in (len(data) or 1, 1, 7):
        got = bytearray()
        ended: list[int] = []
        reader = FrameReader(
            got.extend, lambda opcode, _payload, ended=ended: bool(ended.append(opcode) or opcode == 8)
        )  # type: ignore[misc]
        try:
            for at in range(0, len(data), size):
                reader.feed(data[at : at + size])
                if 8 in ended:
                    break
        except FrameError as error:
            ended.append(-error.code)
        results.append((bytes(got), tuple(ended)))
        assert len(reader._rest) < 140, "what waits is a head or a control frame"
    assert results[0] == results[1] == results[2], results


def report(data: bytes) -> None:
    """A guest's report of itself."""
    value = orjson.loads(data)
    if not isinstance(value, dict):
        return
    check_no_zero(value)
    body = read_model(ReportBody, value)
    values = body.model_dump() | (body.model_extra or {})
    kept = {key: number for key in (*NUMBERS, *MORE) if (number := _perhaps(values.get(key))) is not None}
    assert orjson.loads(orjson.dumps(kept)) == kept


def new_vm(data: bytes) -> None:
    """The largest body of the API."""
    value = orjson.loads(data)
    check_no_zero(value)
    read_model(NewVmBody, value)


def settings_file(data: bytes) -> None:
    """``panel.toml``."""
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        (Path(folder) / "panel.toml").write_bytes(data)
        load_settings({"PANEL_DATA_FOLDER": folder})


def saved_configuration(data: bytes) -> None:
    """``configuration.json``."""
    SavedConfiguration.model_validate_json(data)


def backup(data: bytes) -> None:
    """A backup's head and rows."""
    with tempfile.NamedTemporaryFile(dir=SCRATCH) as file:
        Path(file.name).write_bytes(data)
        read_head(Path(file.name))
        for _ in read_rows(Path(file.name)):
            pass


def image(data: bytes) -> None:
    """A file that wants to be an image."""
    with tempfile.NamedTemporaryFile(dir=SCRATCH) as file:
        Path(file.name).write_bytes(data)
        _sniff(Path(file.name), "x")


def picture(data: bytes) -> None:
    """A hypervisor's picture of a screen."""
    assert thumbnail(data, 64).startswith(b"\x89PNG")


def domain(data: bytes) -> None:
    """A domain of libvirt, which others may have defined."""
    read_domain(data.decode("utf-8", "replace"))


def sidecar(data: bytes) -> None:
    """What stands beside an image on a host."""
    assert all(isinstance(value, str) for value in parse_sidecar(data).values())


def proxmox(data: bytes) -> None:
    """An answer of Proxmox VE: a VM's configuration, and its agent's addresses."""
    value = Answer("h", 200, {}, data).json()
    addresses(value)
    if isinstance(value, dict):
        mark_of(value, 100)
        memory_of(value)
        nets(value)
        disks(value, ours=True)
        gib(str(value.get("size", "")))


def words(data: bytes) -> None:
    """What people type and programs print: addresses, URLs, sizes, checksums."""
    text = data.decode("utf-8", "replace")
    for read in (
        lambda: split_address(text, 8006),
        lambda: check_url(text, "url"),
        lambda: find_checksum(text, "disk.qcow2", "checksum_url"),
    ):
        with suppress(PanelError):
            read()
    size_of(text[: len(text) // 2], text[len(text) // 2 :])


CONFIGURATION = json.dumps(
    {"format": 1, "saved_at": "2026-01-01T00:00:00Z", "hosts": [], "certificates": [], "token": ""}
)
DOMAIN = (
    b"<domain type='qemu'><name>a</name><uuid>11111111-2222-3333-4444-555555555555</uuid><memory unit='KiB'>1024</memory>"
    b"<vcpu>1</vcpu><devices><disk type='file' device='disk'><source file='/x'/><target dev='vda' bus='virtio'/></disk>"
    b"<interface type='network'><mac address='52:54:00:00:00:01'/><source network='n'/></interface></devices></domain>"
)
TARGETS: dict[str, Target] = {
    "greeting": Target(
        greeting,
        (PanelError, asyncio.IncompleteReadError),
        (
            b"RFB 003.008\n\x01\x01\x00\x00\x00\x00",
            b"RFB 003.007\n\x02\x01\x02" + bytes(20),
            b"RFB 003.008\n\x00\x00\x00\x00\x02no",
        ),
    ),
    "frames": Target(
        frames,
        (),
        (
            b"\x82\x85abcdhello",
            b"\x02\x81abcdx\x89\x80abcd\x80\x81abcdy",
            b"\x88\x82abcd\x03\xe8",
            b"\x82\xfe\x01\x00abcd" + bytes(256),
        ),
    ),
    "report": Target(
        report,
        (ValueError, PanelError),
        (b'{"vm_uuid": "vm-1", "cpu_usage": 45.2, "mem_usage": 1e15, "gpu_usage": {"0": 1}}',),
    ),
    "new_vm": Target(
        new_vm,
        (ValueError, PanelError),
        (
            b'{"vm_uuid": "v", "cpu_num": 1, "ram_num": 512, "hdd_num": 4,'
            b' "nic_all": {"eth0": {"net_mode": "nat", "mac_addr": "x"}}}',
        ),
    ),
    "settings_file": Target(
        settings_file,
        (PanelError,),
        (b'port = 1880\nhost = "::"\ntrusted_proxies = "10.0.0.1"\n', b"session_hours = 1e3\n"),
    ),
    "saved_configuration": Target(saved_configuration, (ValidationError,), (CONFIGURATION.encode(),)),
    "backup": Target(backup, (PanelError,), (b'{"format": 1}\n{"table": "vm", "rows": 1}\n', b"\x1f\x8b\x08\x00")),
    "image": Target(
        image,
        (PanelError,),
        (b"QFI\xfb\x00\x00\x00\x03" + bytes(600), bytes(510) + b"\x55\xaa", b"# Disk DescriptorFile\n"),
    ),
    "picture": Target(
        picture,
        (EngineFailure,),
        (b"P6\n2 2\n255\n" + bytes(12), b"P6 99999 99999 255\n", b"\x89PNG\r\n\x1a\n" + bytes(40)),
    ),
    "domain": Target(
        domain,
        (ParseError, ValueError),  # libvirt has written it; that it ends is what counts
        (DOMAIN, b"<!DOCTYPE x [<!ENTITY a 'b'>]><domain>&a;</domain>"),
    ),
    "sidecar": Target(sidecar, (), (b'{"os_name": "Debian 12", "title": "x"}', b"[" * 4000)),
    "proxmox": Target(
        proxmox,
        (PanelError,),
        (
            b'{"cores": 1, "memory": "2048", "scsi0": "local:vm-100-disk-0,size=4G",'
            b' "net0": "virtio=AA:BB:CC:DD:EE:FF,bridge=vmbr0"}',
            b'[{"hardware-address": "aa", "ip-addresses": [{"ip-address": "10.0.0.1"}]}]',
            b'[1, {"ip-addresses": 2}, {"ip-addresses": [3, null]}]',
        ),
    ),
    "words": Target(words, (), (b"https://[::1]:8006/x?y", b"a" * 64 + b"  disk.qcow2\n", b"80x24")),
}


def try_one(target: Target, data: bytes) -> None:
    """Read ``data``; what is promised is no trouble."""
    try:
        target.read(data)
    except target.promised:
        return
