"""What an engine can do: typed, frozen, default off. Pages, API, docs and the contract suite all read this."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from panel.engines.types import PowerAction
from panel.errors import Unsupported
from panel.i18n import gettext_noop as _

USUAL = {
    "spice_console": _("The screens of this engine do not speak SPICE. See its console (VNC), where it has one."),
    "image_files": _("The panel sends no image files to hosts of this engine."),
}
"""Why not, where an engine says nothing."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Each field off unless the engine honours it. ``reasons`` says why not, and what would mend it, by field name.

    Attributes:
        power: the actions that the engine honours.
        create, update, delete: the life of a VM.
        update_live: CPU or memory of a running VM change without a restart, where the guest allows it.
        console: the screen (VNC).
        spice_console: the screen (SPICE), of the VMs that have one.
        text_console: a terminal: a shell in a container, or a serial port.
        password: sets a password inside the running guest.
        scan: VMs that others made are listed and can be adopted.
        ssh_keys: public SSH keys reach the user of a new guest, where its image reads them (cloud-init).
        images: VMs are made from named images of the host.
        image_urls: the host downloads images from URLs by itself, into a store of its own, and they can be removed from it.
        image_files: the panel sends files into the host's store of images, and they can be removed from it.
        networks: networks are listed, and their DHCP gives a MAC the addresses that the panel reserves for it.
        native_forwards: the hypervisor itself leads ports of its host to guests.
        iso: the host's ISO files are listed, and put into the CD drive of a VM.
        boot_order: what a VM starts from can be chosen.
        screenshot: a picture of the screen of a running VM.
        events: changes are told at once; without, they show within one round of observation.
        blank: VMs with an empty disk can be made; without, every VM is made from an image.
        disk_size: the size of the system disk is chosen, seen, and grows.
        counters: the load of each VM is seen (CPU time, disk and network bytes; or their rates).
        host_load: the load and size of the host are seen; without, ``probe`` tells 0 CPUs and MiB, which means: not known.
        leftovers: files of the panel's that no VM uses are found.
        snapshots: a VM's snapshots are seen, taken, rolled back to, and removed.
    """

    power: frozenset[PowerAction] = frozenset()
    create: bool = False
    update: bool = False
    update_live: bool = False
    delete: bool = False
    console: bool = False
    spice_console: bool = False
    text_console: bool = False
    password: bool = False
    ssh_keys: bool = False
    scan: bool = False
    images: bool = False
    image_urls: bool = False
    image_files: bool = False
    networks: bool = False
    native_forwards: bool = False
    iso: bool = False
    boot_order: bool = False
    screenshot: bool = False
    events: bool = False
    blank: bool = False
    disk_size: bool = False
    counters: bool = False
    host_load: bool = False
    leftovers: bool = False
    snapshots: bool = False
    reasons: dict[str, str] = field(default_factory=dict)

    def why_not(self, name: str) -> str | None:
        """None when ``name`` (a field, or ``power.start``) is there; else the reason, in English (a msgid)."""
        head, _dot, action = name.partition(".")
        there = action in self.power if head == "power" else bool(getattr(self, name))
        if there:
            return None
        return self.reasons.get(name) or self.reasons.get(head) or USUAL.get(name) or _("This engine cannot do it.")

    def require(self, name: str) -> None:
        """Raise ``Unsupported`` unless ``name`` is there."""
        reason = self.why_not(name)
        if reason is not None:
            raise Unsupported(reason)

    def as_dict(self) -> dict[str, object]:
        """For the API and the docs: ``{"create": true, "power": ["start", ...], ...}``."""
        result: dict[str, object] = {
            item.name: getattr(self, item.name) for item in fields(self) if item.name not in {"power", "reasons"}
        }
        result["power"] = sorted(self.power)
        return result
