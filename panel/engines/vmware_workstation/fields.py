"""The fields of the form of a host."""

from __future__ import annotations

from panel.engines.common.tls import FINGERPRINT_FIELD
from panel.engines.types import HostField
from panel.i18n import gettext_noop as _

SHUTDOWN_SECONDS = 90
PORTS = "5901-5999"

FIELDS = (
    HostField(
        "server_addr",
        _("Address"),
        help=_(
            "Where vmrest listens, with its port (8697 when there is none). Add http:// when it has no certificate."
        ),
        required=True,
        placeholder="192.168.1.100:8697",
    ),
    HostField("server_user", _("User"), help=_("As it was set with vmrest -C."), required=True),
    HostField("server_pass", _("Password"), required=True, secret=True),
    FINGERPRINT_FIELD,
    HostField(
        "system_path",
        _("Folder for VMs"),
        help=_("Workstation's own default folder for VMs; a VM that lands elsewhere is told in its task's log."),
        placeholder="D:/VMs",
    ),
    HostField(
        "images_path",
        _("Folder of the templates"),
        help=_("The VMs of the library that lie in it are images. Empty: every VM that the panel did not make."),
        placeholder="D:/Images",
    ),
    HostField(
        "launch_path",
        _("Folder of Workstation"),
        help=_("Where vmrun is, which sets passwords of guests. It needs SSH."),
        placeholder="C:/Program Files (x86)/VMware/VMware Workstation",
    ),
    HostField(
        "ssh_addr",
        _("SSH address"),
        help=_("HOST or HOST:PORT, for screens and guests' passwords. Empty: no SSH."),
        placeholder="192.168.1.100",
    ),
    HostField("ssh_user", _("SSH user"), help=_("The account that runs Workstation.")),
    HostField("ssh_key_file", _("SSH key file"), help=_("On the panel's machine. Empty: the panel's own keys.")),
    HostField(
        "guest_user",
        _("Guest account"),
        help=_("An account inside the templates that may set passwords, and that nobody else uses."),
        placeholder="openidcs",
    ),
    HostField("guest_pass", _("Its password"), secret=True),
    HostField(
        "vnc_ports",
        _("Ports for screens"),
        help=_("The panel gives each VM one of them. Without SSH, the panel's machine must reach them on the host."),
        default=PORTS,
    ),
    HostField(
        "shutdown_timeout",
        _("Shutdown deadline"),
        help=_("Seconds that a guest has to stop."),
        default=str(SHUTDOWN_SECONDS),
    ),
)
