"""The fields of the form of an imaginary host."""

from __future__ import annotations

from panel.engines.types import HostField
from panel.i18n import gettext_noop as _

FIELDS = (
    HostField("server_addr", _("World"), _("Hosts with the same world see the same VMs."), placeholder="demo"),
    HostField("vms", _("VMs"), _("How many VMs are there from the start."), default="0"),
    HostField(
        "behaviour",
        _("Behaviour"),
        _("Empty for a good host; or slow, failing, lying, hung, refusing, garbage."),
    ),
    HostField("delay", _("Delay"), _("Seconds that each call takes."), default="0"),
    HostField("fail_at", _("Fails at"), _("Where a failing host fails: create:2 is its second step.")),
    HostField("lies", _("Lies about"), _("What a lying host only pretends: power, update, delete, observe ...")),
    HostField("only", _("Only"), _("The calls that the behaviour is about; empty is all.")),
    HostField("shutdown_timeout", _("Shutdown deadline"), _("Seconds that a guest has to stop."), default="1"),
    HostField("forwards", _("Port forwards"), _("native: by the imaginary hypervisor; empty: by imaginary nftables.")),
    HostField("images_path", _("Folder for images"), _("On this machine. Empty: three imaginary ones alone.")),
    HostField(
        "state_file", _("State file"), _("A file that keeps the world across restarts, and for several processes.")
    ),
)
