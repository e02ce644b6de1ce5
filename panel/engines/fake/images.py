"""What VMs of a fake host are made from."""

from __future__ import annotations

from panel.engines.types import Image, Iso

MIB = 1024**2

IMAGES: tuple[Image, ...] = (
    Image("Debian 12", "debian-12.qcow2", "Debian 12 (bookworm)", "qcow2", 330 * MIB, 3.0, "root"),
    Image("Ubuntu 24.04", "ubuntu-24.04.qcow2", "Ubuntu 24.04 LTS", "qcow2", 590 * MIB, 3.5, "ubuntu"),
    Image("Windows 10 x64", "windows-10.qcow2", "Windows 10 x64", "qcow2", 11_000 * MIB, 40.0, "Administrator"),
)


ISOS: tuple[Iso, ...] = (
    Iso("debian-12-netinst.iso", 631 * MIB),
    Iso("virtio-win.iso", 708 * MIB),
)


def find_image(name: str) -> Image | None:
    """The image called ``name``, whatever its case."""
    return next((image for image in IMAGES if image.name.casefold() == name.casefold()), None)
