"""The engine: what a hypervisor can do, small. One instance serves one host.

Rules for every engine (the contract suite in ``tests/contract`` holds them):
- Every method is a coroutine that never blocks the event loop and ends within a timeout of its own.
- Any string that names no VM is ``NotFound``, however malformed. A VM that vanishes while others are looked at is no error.
- A title is kept exactly as given, or refused with ``InvalidInput(field="vm_name")``.
- Only ``panel.errors`` come out: ``NotFound`` for a VM that is not there, ``Conflict`` for a state that forbids it,
  ``HostUnreachable``/``EngineTimeout`` when the host does not answer, ``EngineFailure`` for the rest, each with a message
  that names the mend.
- What ``capabilities`` does not declare raises ``Unsupported``. What it declares works.
- ``create`` that fails leaves nothing behind; ``delete`` may be called again on what is half gone.
- Cancelling a coroutine (a task was cancelled) cleans up like a failure.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from panel.engines.capabilities import Capabilities
from panel.engines.consoletypes import ConsoleTarget, SpiceTarget, TextTarget
from panel.engines.hosttypes import HostInfo, HostStatus, Image, Iso, Leftover, NativeForward, NetworkInfo
from panel.engines.imagetypes import ImageFetch, ImagePut
from panel.engines.types import (
    ChangeOutcome,
    DeleteOutcome,
    EngineKind,
    HostConnection,
    HostField,
    PowerAction,
    Reporter,
    SnapshotAction,
    SshEndpoint,
    VmChange,
    VmEvent,
    VmObservation,
    VmSpec,
)
from panel.errors import Unsupported
from panel.i18n import Text
from panel.i18n import gettext_noop as _


class Engine(ABC):
    """One host's hypervisor."""

    kind: ClassVar[EngineKind]
    title: ClassVar[str]
    capabilities: ClassVar[Capabilities]
    fields: ClassVar[tuple[HostField, ...]]

    def __init__(self, connection: HostConnection) -> None:
        self.connection = connection

    @abstractmethod
    async def probe(self) -> HostInfo:
        """Connect and prove that the host is usable: rights, storage, network. The connection test."""

    @abstractmethod
    async def close(self) -> None:
        """Give back connections and threads. Never raises; may be called twice."""

    async def host_status(self) -> HostStatus:
        """The host's load now."""
        raise Unsupported(_("This engine does not tell the host's load."))

    @abstractmethod
    async def observe(self) -> list[VmObservation]:
        """All VMs of the host, in one or a few bulk calls, whatever their number."""

    @abstractmethod
    async def inspect(self, ref: str) -> VmObservation:
        """One VM, read now. ``NotFound`` when it is not there."""

    @abstractmethod
    async def power(self, ref: str, action: PowerAction, report: Reporter) -> None:
        """Do it and return when it is so. ``Conflict`` when the state forbids it. ``SHUTDOWN`` asks the guest (agent, then
        ACPI) and raises ``EngineTimeout`` when the guest has not stopped by its deadline."""

    async def prepare(self) -> None:
        """Make what the host lacks for VMs of the panel (storage pool, NAT network). Repeating it changes nothing."""

    def watch(self) -> AsyncIterator[VmEvent]:
        """Changes as they happen, from the first ``anext`` on, until ``close`` or until the connection breaks (then the iterator
        ends or raises ``HostUnreachable``)."""
        raise Unsupported(_("This engine does not report changes as they happen."))

    async def create(self, spec: VmSpec, report: Reporter) -> None:
        """Make the VM ``spec.ref``, whole or not at all."""
        raise Unsupported(_("This engine cannot create VMs."))

    async def update(self, ref: str, change: VmChange, report: Reporter) -> ChangeOutcome:
        """Change it, live where possible. ``InvalidInput`` for a disk that would shrink (``hdd_num``), an ISO that the host does
        not have (``iso``), a boot order without a device or with one twice (``boot``)."""
        raise Unsupported(_("This engine cannot change VMs."))

    async def delete(self, ref: str, name: str, report: Reporter) -> DeleteOutcome:
        """Remove the VM (running or not) and all that the panel made for it, found by ``ref`` and ``name`` even when half is
        gone or was never finished. What the panel did not make stays. Nothing there at all is not an error."""
        raise Unsupported(_("This engine cannot delete VMs."))

    async def console(self, ref: str) -> ConsoleTarget:
        """Where the VM's screen (VNC) is. ``Conflict`` when the VM is off or has none."""
        raise Unsupported(_("This engine has no console."))

    async def spice_console(self, ref: str) -> SpiceTarget:
        """Where the VM's screen is, of an engine whose screens speak SPICE. ``Conflict`` when the VM is off, ``Unsupported`` when
        it has none."""
        raise Unsupported(_("This engine has no SPICE screens."))

    async def text_console(self, ref: str) -> TextTarget:
        """Where the VM's terminal is: a shell in a container, or a serial port. ``Conflict`` when the VM is off or has none."""
        raise Unsupported(_("This engine has no text console."))

    async def set_password(self, ref: str, user: str, password: str) -> None:
        """Set a password inside the running guest. ``Conflict`` when that needs something that is not there."""
        raise Unsupported(_("This engine cannot set a guest's password."))

    async def snapshot(self, ref: str, action: SnapshotAction, name: str, report: Reporter) -> None:
        """Take a snapshot of the VM, make the VM again what it was then, or remove a snapshot; return when it is so. Whether
        a snapshot has the memory of a running VM is the hypervisor's affair, and ``observe`` tells it; rolled back to one
        without, a VM that runs is off afterwards or has started anew.

        Raises:
            InvalidInput: ``name`` is none that every hypervisor takes (``snapshot``).
            NotFound: there is none of this name. Conflict: there is one already.
        """
        raise Unsupported(_("This engine has no snapshots."))

    async def list_images(self) -> list[Image]:
        """What VMs can be made from, by name."""
        raise Unsupported(_("This engine has no images."))

    async def fetch_image(self, image: ImageFetch, report: Reporter) -> str:
        """Let the host download an image into its own store, and check it; ``Image.key`` of it. One that fails, or is cancelled,
        leaves nothing that ``list_images`` shows.

        Raises:
            InvalidInput: an ending that the host does not take, or no store for it (``url``).
            Conflict: there is an image of this name.
            EngineFailure: the host could not have it, or the checksum is another.
        """
        raise Unsupported(_("This engine's hosts do not download images by themselves."))

    async def remove_image(self, key: str) -> None:
        """Remove an image from the host's own store, of an engine with ``image_urls`` or ``image_files``. ``NotFound``;
        ``Conflict`` for one that must not go."""
        raise Unsupported(_("This engine's hosts do not download images by themselves."))

    async def put_image(self, image: ImagePut, report: Reporter) -> None:
        """Send a file into the host's store of images, whole or not at all: until all of it is there, ``list_images`` and
        ``list_isos`` do not show it. One that fails, or is cancelled, leaves nothing.

        Raises:
            Conflict: there is an image or a file of this name, or no room.
        """
        raise Unsupported(_("The panel sends no image files to hosts of this engine."))

    async def settle_image(self, key: str, token: str) -> bool:
        """After a crash in the middle of ``put_image``: whether the image is there whole. If not, what was there of it is not any
        more."""
        raise Unsupported(_("The panel sends no image files to hosts of this engine."))

    async def list_isos(self) -> list[Iso]:
        """What can be put into a CD drive, by name."""
        raise Unsupported(_("This engine has no CD images."))

    async def screenshot(self, ref: str, width: int) -> bytes:
        """The screen now, as a PNG of at most ``width`` pixels across. ``Conflict`` when the VM is off or has no screen."""
        raise Unsupported(_("This engine cannot take a picture of the screen."))

    @property
    def images_folder(self) -> Path | None:
        """The folder that ``list_images`` reads, when it is one of this machine: files put into it become images."""
        return None

    async def image_users(self, key: str) -> list[str]:
        """The names of the VMs whose disks or CD drives draw on this file of the images folder: it must not go before them."""
        raise Unsupported(_("This engine has no images."))

    @property
    def on_this_machine(self) -> bool:
        """Whether the host's network stack is the one that the panel's own programs see."""
        return False

    @property
    def ssh_endpoint(self) -> SshEndpoint | None:
        """How to run programs on the host, when it is another machine and the engine's own settings tell."""
        return None

    async def list_networks(self) -> list[NetworkInfo]:
        """The networks that VMs of the panel are connected to, as they are now."""
        raise Unsupported(_("This engine does not manage networks."))

    async def reserve(self, network: str, mac: str, addresses: tuple[str, ...]) -> None:
        """See to it that DHCP on ``network`` gives ``mac`` exactly these addresses, now and after a restart; ``()`` removes
        what there is. At most one of each family. Repeating it changes nothing.

        Raises:
            NotFound: there is no such network (``()`` is content with that).
            InvalidInput: an address is not of the network, or there are two of a family.
            Conflict: an address is reserved for another MAC.
        """
        raise Unsupported(_("This engine does not manage networks."))

    @property
    def forwards_place(self) -> str | None:
        """Where the hypervisor keeps this host's forwards, as messages call it; equal for all hosts that share them. None: it
        keeps none for this host (a capability ``native_forwards`` is of the engine, and a host may be without)."""
        return None

    @property
    def forwards_reserved(self) -> frozenset[int]:
        """TCP ports of the host that no forward may take, because the engine itself needs them. Asks nobody."""
        return frozenset()

    async def native_forwards(self) -> list[NativeForward]:
        """All ports that the hypervisor leads to guests now, whoever wanted it."""
        raise Unsupported(_("This engine makes no port forwards itself."))

    async def change_forwards(
        self, remove: Sequence[NativeForward], add: Sequence[NativeForward]
    ) -> Mapping[NativeForward, Text]:
        """Remove, then add. Returns those of ``add`` that the hypervisor refuses, and why: they hold up no others.

        One to remove that is gone already, and one to add that is there already with the same target, is well. It may be cut
        off at any point: what is done by then stays, and is told by ``native_forwards``. What somebody else made is never
        replaced: that is refused.
        """
        raise Unsupported(_("This engine makes no port forwards itself."))

    async def leftovers(self) -> list[Leftover]:
        """Disks and seeds in the panel's own storage that belong to no VM."""
        return []
