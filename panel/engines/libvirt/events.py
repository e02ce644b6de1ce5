"""libvirt's events: one daemon thread per process runs libvirt's own event loop and hands events to asyncio loops.

``libvirtaio`` would run libvirt's C callbacks, and what they call, inside asyncio's loop: a slow one stalls every page.
The loop must be registered before the first connection opens, and never stop
(https://libvirt.org/html/libvirt-libvirt-event.html). It also answers the host's keep-alive messages.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable
from typing import Any

import libvirt

Publish = Callable[[str, str], None]

_LIFECYCLE = {
    libvirt.VIR_DOMAIN_EVENT_DEFINED: "defined",
    libvirt.VIR_DOMAIN_EVENT_UNDEFINED: "undefined",
    libvirt.VIR_DOMAIN_EVENT_STARTED: "started",
    libvirt.VIR_DOMAIN_EVENT_SUSPENDED: "suspended",
    libvirt.VIR_DOMAIN_EVENT_RESUMED: "resumed",
    libvirt.VIR_DOMAIN_EVENT_STOPPED: "stopped",
    libvirt.VIR_DOMAIN_EVENT_SHUTDOWN: "shutdown",
    libvirt.VIR_DOMAIN_EVENT_PMSUSPENDED: "suspended",
    libvirt.VIR_DOMAIN_EVENT_CRASHED: "crashed",
}

_OTHERS = {
    libvirt.VIR_DOMAIN_EVENT_ID_REBOOT: "rebooted",
    libvirt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE: "agent",
    libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED: "device",
    libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED: "device",
    libvirt.VIR_DOMAIN_EVENT_ID_METADATA_CHANGE: "metadata",
}


@functools.cache
def start_event_thread() -> None:
    """Register and run libvirt's event loop, once per process, and keep libvirt from writing errors to stderr."""
    libvirt.registerErrorHandler(_be_quiet, None)
    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=_run_forever, name="libvirt-events", daemon=True).start()


def _be_quiet(_context: object, _error: object) -> None:
    return None


def _run_forever() -> None:
    while True:
        with contextlib.suppress(libvirt.libvirtError):
            libvirt.virEventRunDefaultImpl()


class Subscription:
    """The callbacks of one connection. Made, and taken off, in a worker thread (both are round trips)."""

    def __init__(self, conn: Any, publish: Publish, closed: Callable[[], None]) -> None:
        """``publish(ref, what)`` and ``closed()`` are called in the event thread and must not block."""
        self._conn = conn
        self._publish = publish
        self._ids: list[int] = []
        with contextlib.suppress(libvirt.libvirtError):  # the test driver has no close callback
            conn.registerCloseCallback(lambda *_: closed(), None)
        self._register(libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._lifecycle)
        for event, what in _OTHERS.items():
            self._register(event, functools.partial(self._other, what))

    def _register(self, event: int, callback: Callable[..., None]) -> None:
        with contextlib.suppress(libvirt.libvirtError):  # an older libvirt does not know this event
            self._ids.append(self._conn.domainEventRegisterAny(None, event, callback, None))

    def _lifecycle(self, _conn: Any, domain: Any, event: int, _detail: int, _opaque: object) -> None:
        self._publish(domain.UUIDString(), _LIFECYCLE.get(event, "changed"))

    def _other(self, what: str, _conn: Any, domain: Any, *_details: object) -> None:
        self._publish(domain.UUIDString(), what)

    def remove(self) -> None:
        """Take the callbacks off, so that libvirt can free the connection."""
        for number in self._ids:
            with contextlib.suppress(libvirt.libvirtError):
                self._conn.domainEventDeregisterAny(number)
        self._ids.clear()
        with contextlib.suppress(libvirt.libvirtError):
            self._conn.unregisterCloseCallback()
