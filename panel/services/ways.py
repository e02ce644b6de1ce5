"""How the panel gets at a host's rules: by the hypervisor itself, by the kernel of this machine, or of another over SSH."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from panel.engines.base import Engine
from panel.engines.types import EngineKind, SshEndpoint
from panel.i18n import Text
from panel.i18n import gettext_noop as _

LOCAL = "this machine"
NO_SSH = _(
    "Forwards need SSH to the host, or a host that is the panel's own machine. Give its address as "
    "qemu+ssh://USER@HOST/system, or ssh://USER@HOST for Docker and Podman (server_addr)."
)
NO_SSH_ADDRESS = _(
    "There are no port forwards on this host, because no SSH access is given. Give the node's address in the host's settings "
    "(ssh_addr)."
)
NO_MEANS = _(
    "This engine makes no port forwards itself, and the panel has no SSH login on its host to make them there."
)


class WayKind(StrEnum):
    """By whom ports are forwarded."""

    NATIVE = "native"  # the hypervisor
    LOCAL = "local"  # nftables of this machine
    SSH = "ssh"  # nftables of the host, over SSH
    IMAGINARY = "imaginary"


WORDS = {
    WayKind.NATIVE: _("The hypervisor itself leads the ports to the VM ({machine})."),
    WayKind.LOCAL: _("The panel leads the ports to the VM by nftables on its own machine."),
    WayKind.SSH: _("The panel leads the ports to the VM by nftables on the host, over SSH ({machine})."),
    WayKind.IMAGINARY: _("This host is imaginary, and so are its port forwards."),
}


@dataclass(frozen=True, slots=True)
class Way:
    """The way to a machine's rules. ``machine``: what it is called, equal for all hosts that share its rules."""

    kind: WayKind
    machine: str
    endpoint: SshEndpoint | None = None

    @property
    def text(self) -> Text:
        """In a sentence."""
        return Text(WORDS[self.kind], {"machine": self.machine})


def way_of(engine: Engine, elsewhere: str = "") -> Way | None:
    """The hypervisor's own forwards where it has them, else nftables where the panel gets at it, else None.

    Args:
        elsewhere: the machine whose socket the engine speaks to, where that is another than this one.
    """
    if engine.forwards_place is not None:
        place = engine.forwards_place
        return Way(WayKind.NATIVE, f"{place} of machine {elsewhere}" if elsewhere else place)
    if engine.on_this_machine:
        return Way(WayKind.LOCAL, f"machine {elsewhere}" if elsewhere else LOCAL)
    endpoint = engine.ssh_endpoint
    return Way(WayKind.SSH, endpoint.name, endpoint) if endpoint else None


def no_way(engine: EngineKind) -> str:
    """Why an engine's host has none, as a msgid."""
    return {EngineKind.LIBVIRT: NO_SSH, EngineKind.PROXMOX: NO_SSH_ADDRESS}.get(engine, NO_MEANS)
