"""What the form of a vSphere host asks for, and what the engine does not do and why."""

from __future__ import annotations

from panel.engines.common.tls import FINGERPRINT_FIELD
from panel.engines.types import HostField
from panel.i18n import gettext_noop as _

REASONS = {
    "image_urls": _("vSphere's images are templates: make them on the host's own pages."),
    "native_forwards": _("vSphere makes no port forwards itself."),
    "update_live": _(
        "vSphere changes a running VM's CPUs and memory only upwards, and only where hot add is on in the VM's settings."
    ),
    "console": _(
        "The panel could not try vSphere's screens against a real host yet, so it offers none. Use the host's own pages."
    ),
    "text_console": _("The panel does not open serial ports of vSphere's VMs. Use the host's own pages."),
    "networks": _("The panel does not manage vSphere's networks. Use the host's own pages (Networking)."),
    "screenshot": _("The panel does not fetch pictures of screens from vSphere. Use the host's own pages."),
    "leftovers": _("The panel does not look for files without a VM on datastores. Use the host's datastore browser."),
}

FIELDS = (
    HostField(
        "server_addr",
        _("Address"),
        help=_("A vCenter, or one ESXi host, with its port when it is not 443."),
        required=True,
        placeholder="vcenter.example",
    ),
    HostField(
        "server_user",
        _("User"),
        help=_("On vCenter with its domain: name@vsphere.local. On ESXi without: root."),
        required=True,
        placeholder="openidcs@vsphere.local",
    ),
    HostField("server_pass", _("Password"), required=True, secret=True),
    FINGERPRINT_FIELD,
    HostField("datacenter", _("Datacenter"), help=_("Only VMs of this one are seen. Empty: the only one there is.")),
    HostField(
        "cluster",
        _("Cluster or host"),
        help=_("Where new VMs run. Empty: the only cluster or host there is."),
    ),
    HostField("folder", _("VM folder"), help=_("Where vCenter keeps new VMs, such as Customers/VPS. It must exist.")),
    HostField(
        "system_path",
        _("Datastore for disks"),
        help=_("Its name. Empty: the one with the most room."),
        placeholder="datastore1",
    ),
    HostField(
        "images_path",
        _("Folder of CD images"),
        help=_("On a datastore. Empty: CDs cannot be changed."),
        placeholder="[datastore1] iso",
    ),
    HostField(
        "template_prefix",
        _("Template names"),
        help=_(
            "ESXi alone has no templates: there a stopped VM whose name begins so is one, and is not listed among the VMs."
        ),
        default="template-",
    ),
    HostField(
        "network_bridge",
        _("Port group"),
        help=_("Of VMs that are seen in the host's network."),
        default="VM Network",
    ),
    HostField(
        "network_nat",
        _("NAT port group"),
        help=_("A port group behind a router that translates addresses and serves DHCP. Empty: there is none."),
    ),
    HostField(
        "guest_user",
        _("Guest user"),
        help=_(
            "A login inside the guests that may run chpasswd, to set passwords through VMware Tools. Empty: none are set."
        ),
    ),
    HostField(
        "guest_pass",
        _("Guest password"),
        help=_("Of that user; the same in all guests. It is kept encrypted."),
        secret=True,
    ),
    HostField("shutdown_timeout", _("Shutdown deadline"), help=_("Seconds that a guest has to stop."), default="90"),
)
