"""libvirt's error codes in the panel's words. Only ``client.py`` calls ``translate``.

Codes: https://libvirt.org/html/libvirt-virterror.html
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import libvirt

from panel.errors import (
    Conflict,
    EngineFailure,
    EngineTimeout,
    HostUnreachable,
    NotFound,
    PanelError,
    Unsupported,
)
from panel.i18n import gettext_noop as _

_QEMU_WARNING = re.compile(r"(?:\S+Z )?qemu-system-\S+ (?:-[^\n]*?: )?warning: [^\n]*(?:\n|$)")

_Known = dict[int, tuple[type[PanelError], str]]

_ERRORS: _Known = {
    libvirt.VIR_ERR_NO_DOMAIN: (NotFound, _("The VM is not on host {host}.")),
    libvirt.VIR_ERR_NO_STORAGE_POOL: (
        NotFound,
        _("Host {host} lacks a storage pool. Run the host's connection test to make it."),
    ),
    libvirt.VIR_ERR_NO_STORAGE_VOL: (NotFound, _("A disk file is missing on host {host}: {reason}")),
    libvirt.VIR_ERR_NO_NETWORK: (
        NotFound,
        _("Host {host} lacks a network ({reason}). Run the host's connection test to make it."),
    ),
    libvirt.VIR_ERR_OPERATION_INVALID: (Conflict, _("The state of the VM forbids it: {reason}")),
    libvirt.VIR_ERR_DOM_EXIST: (Conflict, _("Host {host} has a VM of this name or UUID already.")),
    libvirt.VIR_ERR_STORAGE_VOL_EXIST: (
        Conflict,
        _("Host {host} has a disk file of this name already: {reason}"),
    ),
    libvirt.VIR_ERR_RESOURCE_BUSY: (Conflict, _("Something on host {host} is in use: {reason}")),
    libvirt.VIR_ERR_AGENT_UNRESPONSIVE: (
        Conflict,
        _("The guest agent does not answer. Check that qemu-guest-agent runs inside the VM."),
    ),
    libvirt.VIR_ERR_AGENT_UNSYNCED: (Conflict, _("The guest agent is busy. Try again in a minute.")),
    libvirt.VIR_ERR_OPERATION_TIMEOUT: (
        EngineTimeout,
        _("Host {host} gave up waiting: {reason}. Try again."),
    ),
    libvirt.VIR_ERR_OPERATION_UNSUPPORTED: (Unsupported, _("Host {host} cannot do it: {reason}")),
    libvirt.VIR_ERR_NO_SUPPORT: (Unsupported, _("The libvirt of host {host} cannot do it.")),
    libvirt.VIR_ERR_CONFIG_UNSUPPORTED: (Unsupported, _("Host {host} cannot run such a VM: {reason}")),
    libvirt.VIR_ERR_OPERATION_DENIED: (
        HostUnreachable,
        _("Host {host} does not allow it to this user. Add the user to the group libvirt."),
    ),
    libvirt.VIR_ERR_NO_CONNECT: (HostUnreachable, _("The connection to host {host} broke. Try again.")),
    libvirt.VIR_ERR_INVALID_CONN: (HostUnreachable, _("The connection to host {host} broke. Try again.")),
}

LOGIN_CODES = (libvirt.VIR_ERR_AUTH_FAILED, libvirt.VIR_ERR_AUTH_CANCELLED, libvirt.VIR_ERR_AUTH_UNAVAILABLE)
_AUTH = _("Host {host} refuses our login. Check the user, its key and that it is in the group libvirt.")
_CONNECTING: _Known = {
    **dict.fromkeys(LOGIN_CODES, (HostUnreachable, _AUTH)),
    libvirt.VIR_ERR_OPERATION_DENIED: (HostUnreachable, _AUTH),
}
_NOT_CONNECTED = _("Host {host} cannot be reached: {reason}. Check its address and that libvirtd runs there.")
_OTHER = _("Host {host} answered with an error: {reason}")


def translate(error: Any, host: str, *, connecting: bool = False) -> PanelError:
    """The panel's error for a ``libvirt.libvirtError``; while connecting, every failure is ``HostUnreachable``."""
    code = error.get_error_code()
    if connecting:
        kind, message = _CONNECTING.get(code, (HostUnreachable, _NOT_CONNECTED))
    else:
        kind, message = _ERRORS.get(code, (EngineFailure, _OTHER))
    return kind(message, host=host, reason=short_reason(error.get_error_message()))


def short_reason(message: str | None) -> str:
    """libvirt's message on one line, without XML and its full stop, and at most 200 characters. Of what QEMU wrote before it
    ended, the warnings come first and hide why."""
    text = " ".join(_QEMU_WARNING.sub("", message or "").split())
    text = re.sub(r"<[^>]*>", "", text).removesuffix(".")
    return text[:197] + "..." if len(text) > 200 else text


def is_code(error: Any, *codes: int) -> bool:
    """Whether ``error`` has one of libvirt's ``codes``: for work in a thread that goes on after some of them."""
    return error.get_error_code() in codes


@contextlib.contextmanager
def unless(*codes: int) -> Iterator[None]:
    """End the block at a libvirt error with one of ``codes`` (what it looks at is gone); other errors go on."""
    try:
        yield
    except libvirt.libvirtError as error:
        if not is_code(error, *codes):
            raise
