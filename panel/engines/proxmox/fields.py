"""What the form of a Proxmox host asks for, and what the engine does not do and why."""

from __future__ import annotations

from panel.engines.common.tls import FINGERPRINT_FIELD
from panel.engines.types import HostField
from panel.i18n import gettext_noop as _

REASONS = {
    "update_live": _("Proxmox changes a running VM's CPUs and memory at its next start."),
    "native_forwards": _(
        "Proxmox makes no port forwards itself: the panel makes them with nftables on a node, over SSH (ssh_addr)."
    ),
    "networks": _("The panel does not manage Proxmox's networks. Use the node's own pages (System, Network)."),
    "iso": _("The panel does not change CD drives on Proxmox yet. Use Proxmox's own pages (Hardware)."),
    "boot_order": _("The panel does not change the boot order on Proxmox yet. Use Proxmox's own pages (Options)."),
    "screenshot": _("Proxmox's API gives no picture of a VM's screen. Open the console."),
    "events": _("Proxmox's API tells no events: changes show within one round of observation."),
    "blank": _("The panel makes Proxmox's VMs from images only: choose one (os_name)."),
    "counters": _("Proxmox's API tells no CPU time of a VM; its disk and network traffic is seen."),
    "leftovers": _("The panel does not look for disks without a VM on Proxmox. Use the storage's own page (VM Disks)."),
}

FIELDS = (
    HostField(
        "server_addr",
        _("Address"),
        help=_("Any node of the cluster, with its port when it is not 8006."),
        required=True,
        placeholder="192.168.1.10:8006",
    ),
    HostField(
        "server_user",
        _("User or API token"),
        help=_("With its realm: name@pve!token for an API token (better), or root@pam."),
        required=True,
        placeholder="openidcs@pve!panel",
    ),
    HostField(
        "server_pass",
        _("Password or token secret"),
        help=_("The token's secret, or the user's password."),
        required=True,
        secret=True,
    ),
    FINGERPRINT_FIELD,
    HostField("node", _("Node"), help=_("Only this node of the cluster. Empty: the whole cluster.")),
    HostField(
        "system_path",
        _("Storage for disks"),
        help=_("The name of a storage, for all but linked clones. Empty: the template's, or the first that fits."),
        placeholder="local-lvm",
    ),
    HostField(
        "images_path",
        _("Storage for images"),
        help=_(
            "Where images from URLs go: a storage of the content type Import, for containers CT Templates. Empty: one that fits."
        ),
        placeholder="local",
    ),
    HostField(
        "clone_mode",
        _("Clones"),
        help=_("full: a copy of the template's disk. linked: quick, but it needs the template for ever."),
        default="full",
    ),
    HostField(
        "network_bridge", _("Bridge"), help=_("The bridge of VMs that are seen in the node's network."), default="vmbr0"
    ),
    HostField(
        "network_nat",
        _("NAT bridge"),
        help=_("A bridge that the node itself translates addresses for, with DHCP. Empty: there is none."),
        placeholder="vmbr1",
    ),
    HostField(
        "ssh_addr",
        _("SSH address"),
        help=_(
            "HOST or HOST:PORT of the node that leads ports to VMs, by nftables. Of a cluster, VMs that another node has on a "
            "NAT bridge without ports get none, unless their addresses are routed. Empty: no port forwards."
        ),
        placeholder="192.168.1.10",
    ),
    HostField("ssh_user", _("SSH user"), help=_("root, or one who may sudo without a password."), placeholder="root"),
    HostField("ssh_key_file", _("SSH key file"), help=_("On the panel's machine. Empty: the panel's own keys.")),
    HostField("ssh_pass", _("SSH password"), help=_("Only where no key is taken."), secret=True),
    HostField("shutdown_timeout", _("Shutdown deadline"), help=_("Seconds that a guest has to stop."), default="90"),
)
