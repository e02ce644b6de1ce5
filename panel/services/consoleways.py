"""Which consoles a VM has, and the way to its screen."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from panel.engines.consoletypes import ConsoleKind, ConsoleTarget, StreamTarget, TcpTarget, UnixTarget
from panel.engines.types import EngineKind
from panel.errors import EngineTimeout, HostUnreachable
from panel.i18n import gettext_noop as _
from panel.models import Vm
from panel.services.engines import capabilities

DIAL_SECONDS = 10.0
READ_LIMIT = 64 * 1024  # of the stream from the VM: asyncio stops reading at twice this
CAPABILITY = {ConsoleKind.VNC: "console", ConsoleKind.SPICE: "spice_console", ConsoleKind.TEXT: "text_console"}

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def dial(target: ConsoleTarget) -> Streams:
    """Connect to a console. ``OSError`` when nothing answers there."""
    match target:
        case TcpTarget(host, port):
            return await asyncio.open_connection(host, port, limit=READ_LIMIT)
        case UnixTarget(path):
            return await asyncio.open_unix_connection(path, limit=READ_LIMIT)
        case StreamTarget(open):
            return await open()


@contextmanager
def reaching_the_screen(vm: Vm) -> Iterator[None]:
    """Within, what goes wrong on the way is said in our words."""
    try:
        yield
    except TimeoutError as error:
        raise EngineTimeout(
            _("The screen of {name} did not answer within {seconds} s."),
            name=vm.name,
            seconds=int(DIAL_SECONDS),
        ) from error
    except OSError as error:
        raise HostUnreachable(
            _("The screen of {name} cannot be reached. Is the VM still running?"), name=vm.name
        ) from error


def kinds(vm: Vm) -> list[ConsoleKind]:
    """The consoles that a VM (its ``host`` fetched) has, the usual one first: of its engine's, those that it has as last seen."""
    has_screen = (vm.hardware or {}).get("screen", True)
    there = kinds_of(vm.host.engine)
    return there if has_screen else [kind for kind in there if kind is ConsoleKind.TEXT]


def kinds_of(engine: EngineKind) -> list[ConsoleKind]:
    """The consoles that an engine has, the usual one first."""
    return [kind for kind, name in CAPABILITY.items() if capabilities(engine).why_not(name) is None]
