"""What the form of a Docker or Podman host asks for, and what the engine does not do and why."""

from __future__ import annotations

from panel.engines.common.tls import FINGERPRINT_FIELD
from panel.engines.types import HostField
from panel.i18n import gettext_noop as _

NETWORK = "openidcs"
POLICIES = ("unless-stopped", "always", "on-failure", "no")

REASONS = {
    "image_urls": _("Docker's images come by their names from a registry: name them in the host's settings (images)."),
    "ssh_keys": _(
        "Containers' images have no SSH server as a rule, and nothing in them takes keys at the first start."
    ),
    "snapshots": _("Docker has no snapshots of containers that can be rolled back to."),
    "native_forwards": _(
        "Docker's published ports cannot change while a container lives: the panel makes forwards with nftables."
    ),
    "console": _("A container has no screen. Open its text console."),
    "screenshot": _("A container has no screen. Open its text console."),
    "iso": _("A container has no CD drive."),
    "boot_order": _("A container does not boot: its image says what it runs."),
    "blank": _("A container is made from an image: choose one (os_name)."),
    "disk_size": _(
        "A container's file system has no size of its own: it shares the disk of its host. Only some storage drivers could limit "
        "it (overlay2 on XFS with project quotas, btrfs, zfs)."
    ),
    "leftovers": _("A container's file system goes with it, so nothing of it is left."),
}

FIELDS = (
    HostField(
        "server_addr",
        _("Address"),
        help=_("Empty for this machine; the path of a socket; tcp://HOST:2376 for TLS; or ssh://USER@HOST."),
        placeholder="ssh://root@host.example",
    ),
    HostField("server_user", _("SSH user"), help=_("Who to log in as on another machine."), placeholder="root"),
    HostField("ssh_key_file", _("SSH key file"), help=_("On the panel's machine, without a passphrase.")),
    HostField("server_pass", _("SSH password"), help=_("Only where no key is taken."), secret=True),
    HostField(
        "tls_folder",
        _("Folder of certificates"),
        help=_("On the panel's machine, with ca.pem, cert.pem and key.pem, as Docker's own client keeps them."),
        placeholder="/etc/openidcs/docker",
    ),
    FINGERPRINT_FIELD,
    HostField(
        "network_nat",
        _("NAT network"),
        help=_("The network of containers without a bridge. It is made when missing."),
        default=NETWORK,
    ),
    HostField(
        "network_bridge",
        _("Bridge network"),
        help=_(
            "A network of the daemon's (macvlan, ipvlan), for containers that are to be seen in the host's network."
        ),
    ),
    HostField(
        "images",
        _("Images to offer"),
        help=_("Besides those that the host has, separated by commas; they are fetched when first needed."),
        placeholder="debian:12, alpine:3.20",
    ),
    HostField(
        "command",
        _("Command"),
        help=_("What new containers run. Empty: what their image says."),
        placeholder="sleep infinity",
    ),
    HostField(
        "restart_policy",
        _("Restart policy"),
        help=_(
            "unless-stopped, always, on-failure or no: what the daemon does when a container ends, and when it starts itself."
        ),
        default="unless-stopped",
    ),
    HostField("shutdown_timeout", _("Shutdown deadline"), help=_("Seconds that a guest has to stop."), default="90"),
)
