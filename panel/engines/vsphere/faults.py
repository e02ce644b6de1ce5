"""VMware's faults in our words, each with its mend. ``client.py`` calls it for what a call raised, ``tasks.py`` for what a task
ended with.

Source: the fault types of the vSphere Web Services API.
"""

from __future__ import annotations

from typing import Any

from panel.engines.common.ssh import short
from panel.errors import Conflict, EngineFailure, HostUnreachable, NotFound, PanelError, Unsupported
from panel.i18n import gettext_noop as _


class SessionEnded(HostUnreachable):
    """The host does not know our session any more: a new login may help."""


class SessionBroke(HostUnreachable):
    """The connection broke."""


class LoginRefused(HostUnreachable):
    """Trying the same login again would only lock the account."""


def no_api(host: str) -> PanelError:
    """It answers, but is no vCenter or ESXi that we know."""
    return EngineFailure(
        _(
            "Host {host} answers, but not as a vCenter or ESXi of version 6.5 or newer does. Check the port (server_addr)."
        ),
        host=host,
    )


def translate(fault: Any, host: str) -> PanelError:
    """What a call or a task ended with. Types are told by their names, so that a new one costs nothing."""
    names = {each.__name__.rpartition(".")[2] for each in type(fault).__mro__}
    reason = said(fault)
    for known, make in (
        ({"NotAuthenticated"}, _ended),
        ({"InvalidLogin", "PasswordExpired", "NoClientCertificate"}, _login),
        ({"NoPermission"}, _right),
        ({"ManagedObjectNotFound"}, _gone),
        ({"RestrictedVersion"}, _licence),
        ({"ToolsUnavailable", "GuestOperationsUnavailable"}, _tools),
        ({"InvalidGuestLogin", "GuestPermissionDenied"}, _guest_login),
        ({"DuplicateName", "AlreadyExists", "FileAlreadyExists"}, _name),
        ({"InvalidPowerState", "InvalidState", "TaskInProgress", "ConcurrentAccess", "InvalidGuestState"}, _state),
        ({"NoDiskSpace"}, _space),
        ({"InsufficientResourcesFault"}, _resources),
        ({"MethodNotFound", "NotSupported"}, _unknown),
    ):
        if known & names:
            return make(fault, host, reason)
    return EngineFailure(
        _("Host {host} refuses: {reason}. Look at the VM's tasks and events there."), host=host, reason=reason
    )


def said(fault: Any) -> str:
    """The host's own sentence, else the fault's name; never our own arguments."""
    text = str(getattr(fault, "msg", "") or getattr(fault, "localizedMessage", "") or "").strip()
    name = type(fault).__name__.rpartition(".")[2]
    return short(f"{name}: {text}" if text and not text.startswith(("*types.", name)) else name)


def _ended(_fault: Any, host: str, _reason: str) -> PanelError:
    return SessionEnded(_("Host {host} has ended our session. Try again."), host=host)


def _login(fault: Any, host: str, reason: str) -> PanelError:
    if type(fault).__name__.endswith("PasswordExpired"):
        return LoginRefused(
            _("The password of our login on host {host} has expired. Set a new one there, then here."), host=host
        )
    return LoginRefused(
        _("Host {host} refuses our login ({reason}). Check server_user (with its domain: name@vsphere.local) and server_pass. "
          "After some wrong passwords the host locks the account for a while: ESXi for 15 minutes. The panel tries again in 5."),
        host=host, reason=reason,
    )  # fmt: skip


def _right(fault: Any, host: str, _reason: str) -> PanelError:
    right = str(getattr(fault, "privilegeId", "") or "") or "?"
    where = str(getattr(fault, "object", "") or "").strip("'") or "–"
    return HostUnreachable(
        _("Our login on host {host} lacks the right {right} on {where}. Give it a role that has it there."),
        host=host,
        right=right,
        where=where,
    )


def _gone(_fault: Any, host: str, _reason: str) -> PanelError:
    return NotFound(
        _("What was asked for is not on host {host} any more. Scan the host to see what is there."), host=host
    )


def _licence(_fault: Any, host: str, _reason: str) -> PanelError:
    return Unsupported(
        _("The licence of host {host} lets programs look and change nothing, as the free one of ESXi does. Give it another "
          "licence."),
        host=host,
    )  # fmt: skip


def _tools(_fault: Any, _host: str, _reason: str) -> PanelError:
    return no_tools()


def no_tools() -> Conflict:
    """The guest has no agent that listens."""
    return Conflict(
        _(
            "VMware Tools, the guest agent, does not answer. Install open-vm-tools inside the VM, or wait until it has started."
        )
    )


def _guest_login(_fault: Any, _host: str, _reason: str) -> PanelError:
    return Conflict(_("The guest refuses the login of the host's settings (guest_user, guest_pass)."))


def _name(fault: Any, host: str, reason: str) -> PanelError:
    name = str(getattr(fault, "name", "") or "")
    if name:
        return Conflict(_("A VM called {name} exists already. Choose another name."), name=name)
    return Conflict(_("Host {host} refuses that now: {reason}"), host=host, reason=reason)


def _state(_fault: Any, host: str, reason: str) -> PanelError:
    return Conflict(_("Host {host} refuses that now: {reason}"), host=host, reason=reason)


def _space(fault: Any, host: str, reason: str) -> PanelError:
    store = str(getattr(fault, "datastore", "") or reason)
    return EngineFailure(
        _("Host {host} has too little room on its datastore ({reason}). Free some, or choose another (system_path)."),
        host=host,
        reason=store,
    )


def _resources(_fault: Any, host: str, reason: str) -> PanelError:
    return EngineFailure(
        _("Host {host} has too little memory or CPU for that: {reason}. Stop other VMs, or take another host."),
        host=host,
        reason=reason,
    )


def _unknown(_fault: Any, host: str, reason: str) -> PanelError:
    return Unsupported(_("Host {host} cannot do that: {reason}."), host=host, reason=reason)
