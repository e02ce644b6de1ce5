"""What the double of Incus holds: instances, whose virtual machines are real QEMUs with real SPICE servers."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

START_SECONDS = 30.0
# As Incus starts it, as far as a screen is concerned, but in software: a KVM within a VM may be slower. Nothing is written.
QEMU = (
    "qemu-system-x86_64 -accel tcg -cpu max -m 128 -nodefaults -no-user-config -display none -device virtio-vga "
    "-device virtio-tablet-pci -device virtio-serial-pci -chardev spicevmc,id=agent,name=vdagent "
    "-device virtserialport,chardev=agent,name=com.redhat.spice.0 -usb -chardev spicevmc,id=usb,name=usbredir "
    "-device usb-redir,chardev=usb -audiodev spice,id=sound -device intel-hda -device hda-duplex,audiodev=sound"
)


class RefusedError(Exception):
    """The server's answer of an error."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(eq=False)
class Instance:
    """A container that does nothing, or a virtual machine of its own QEMU."""

    name: str
    kind: str
    folder: Path
    disk: Path | None = None
    running: bool = False
    uuid: str = field(default_factory=lambda: str(uuid4()))
    process: subprocess.Popen[bytes] | None = None

    @property
    def spice(self) -> Path:
        """Where QEMU's SPICE server listens."""
        return self.folder / f"{self.name}.spice"

    @property
    def serial(self) -> Path:
        """What it writes to its serial port."""
        return self.folder / f"{self.name}.serial"

    @property
    def pointed(self) -> Path:
        """How its mouse was moved: lines of QEMU's own."""
        return self.folder / f"{self.name}.pointed"

    def start(self) -> None:
        """Returns when its screen can be looked at."""
        if self.on:
            raise RefusedError(400, "The instance is already running")
        self.running = True
        if self.kind == "container":
            return
        command = [*QEMU.split(), "-spice", f"unix=on,addr={self.spice},disable-ticketing=on"]
        command += ["-serial", f"file:{self.serial}", "-trace", f"enable=input_event_rel,file={self.pointed}"]
        if self.disk is not None:
            command += ["-drive", f"file={self.disk},format=qcow2,if=virtio,snapshot=on"]
        self.spice.unlink(missing_ok=True)
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while not self.spice.exists():
            said = (self.folder / f"{self.name}.log").read_text()
            assert self.process.poll() is None, f"QEMU does not start: {said}"
            assert time.monotonic() < deadline, f"QEMU opens no SPICE server: {said}"
            time.sleep(0.05)

    def stop(self) -> None:
        """Pull the plug."""
        if not self.on:
            raise RefusedError(400, "The instance is already stopped")
        self.running = False
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    @property
    def on(self) -> bool:
        """Whether it runs."""
        return self.running and (self.process is None or self.process.poll() is None)

    def shown(self) -> dict[str, Any]:
        """As the API has it."""
        config = {"volatile.uuid": self.uuid, "limits.cpu": "1", "limits.memory": "128MiB"}
        devices = {"root": {"type": "disk", "path": "/", "pool": "default", "size": "1GiB"}}
        return {
            "name": self.name,
            "type": self.kind,
            "status": "Running" if self.on else "Stopped",
            "created_at": "2026-01-01T00:00:00Z",
            "config": config,
            "expanded_config": config,
            "devices": devices,
            "expanded_devices": devices,
            "state": self.state(),
        }

    def state(self) -> dict[str, Any]:
        """Its ``state``."""
        on = self.on
        return {"status": "Running" if on else "Stopped", "pid": 1 if on else 0, "processes": -1, "network": {}}


@dataclass(eq=False)
class Console:
    """An operation of type ConsoleShow."""

    of: Instance
    number: str = field(default_factory=lambda: secrets.token_hex(8))
    secrets: dict[str, str] = field(
        default_factory=lambda: {"0": secrets.token_hex(32), "control": secrets.token_hex(32)}
    )
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    channels: int = 0


class Incus:
    """One server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.instances: dict[str, Instance] = {}
        self.consoles: dict[str, Console] = {}
        self.done: set[str] = set()
        self.told: set[str] = set()
        """All secrets of consoles."""

    def add(self, name: str, kind: str = "virtual-machine", *, disk: Path | None = None) -> Instance:
        """An instance that somebody made, off."""
        made = self.instances[name] = Instance(name, kind, self.folder, disk)
        return made

    def find(self, name: str) -> Instance:
        """An instance; ``RefusedError`` when there is none."""
        if name not in self.instances:
            raise RefusedError(404, "Instance not found")
        return self.instances[name]

    def open_console(self, one: Instance, kind: str, *, force: bool) -> Console:
        """As ``instanceConsolePost``: the checks, in its order and words."""
        if kind not in {"console", "vga"}:
            raise RefusedError(400, f'Unknown console type "{kind}"')
        if kind == "vga" and one.kind != "virtual-machine":
            raise RefusedError(400, "VGA console is only supported by virtual machines")
        if not one.on:
            raise RefusedError(400, "Instance is not running")
        for other in [each for each in self.consoles.values() if each.of is one]:
            if not force:
                raise RefusedError(500, "This console is already connected. Force is required to take it over.")
            self.close_console(other)
        opened = Console(one)
        self.consoles[opened.number] = opened
        self.told.update(opened.secrets.values())
        return opened

    def close_console(self, opened: Console) -> None:
        """Cancelled, or its control socket is gone."""
        self.consoles.pop(opened.number, None)
        opened.ended.set()

    def close(self) -> None:
        """End every QEMU."""
        for one in self.instances.values():
            if one.on:
                one.stop()
