"""What the form of an Incus or LXD host asks for, and what the engine does not do and why."""

from __future__ import annotations

from panel.engines.common.tls import FINGERPRINT_FIELD
from panel.engines.types import HostField
from panel.i18n import gettext_noop as _

REASONS = {
    "image_urls": _("The panel brings no images into the server's store yet. Use its own client (incus image copy)."),
    "console": _("The screens of Incus' virtual machines speak SPICE (spice_console), and containers have none."),
    "iso": _("The panel does not put CDs into instances. Attach one there (incus config device add)."),
    "boot_order": _("Containers do not boot from devices. A VM's order is boot.priority of its devices there."),
    "screenshot": _("The panel takes no pictures of Incus' screens. Open the console."),
    "blank": _("Incus and LXD make instances from images only: choose an image (os_name)."),
    "counters": _("The API tells no disk traffic of an instance; its CPU time and network traffic is seen."),
    "leftovers": _("Incus and LXD keep no disks without an instance."),
}

FIELDS = (
    HostField(
        "server_addr",
        _("Address or socket"),
        help=_(
            "HOST or HOST:PORT for https (8443 when there is no port), or the path of the unix socket of this machine. Empty: "
            "the usual socket."
        ),
        placeholder="192.168.1.10:8443",
    ),
    HostField(
        "server_pass",
        _("Trust token"),
        help=_(
            "For https: a trust token (incus config trust add openidcs; lxc config trust add --name openidcs), good for one use; "
            "or LXD's trust password; or a client certificate of your own with its key (PEM). Empty for a socket, or when the "
            "host trusts the panel's certificate already: the connection test shows it."
        ),
        secret=True,
    ),
    FINGERPRINT_FIELD,
    HostField("project", _("Project"), help=_("The project that instances are in."), default="default"),
    HostField(
        "system_path",
        _("Storage pool"),
        help=_("The pool for instances. Empty: that of the profile default."),
        placeholder="default",
    ),
    HostField(
        "network_nat",
        _("NAT network"),
        help=_("A managed network that the host translates addresses for. Empty: the first one."),
        placeholder="incusbr0",
    ),
    HostField(
        "network_bridge",
        _("Bridge"),
        help=_("A network or a bridge of the host, for instances that are seen in its network. Empty: there is none."),
        placeholder="br0",
    ),
    HostField(
        "forward_addr",
        _("Address of port forwards"),
        help=_(
            "The host's own address that ports are forwarded from: one IPv4, one IPv6, or one of each. Empty: the one by which "
            "the panel reaches the host, or by which its own machine goes out."
        ),
        placeholder="192.168.1.10",
    ),
    HostField("shutdown_timeout", _("Shutdown deadline"), help=_("Seconds that a guest has to stop."), default="90"),
)
