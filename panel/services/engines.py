"""One engine per host, made when first needed and made anew when the host's settings change."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

from panel.engines.base import Engine
from panel.engines.capabilities import Capabilities
from panel.engines.registry import engine_class, make_engine
from panel.engines.types import EngineKind, HostConnection
from panel.errors import Conflict, EngineTimeout, PanelError
from panel.i18n import gettext_noop as _
from panel.models import Host, ProcessNode
from panel.security import SecretBox

T = TypeVar("T")

PASSWORD = "server_pass"  # noqa: S105 - the name of a field
QUICK = 15.0  # seconds for a call that only asks
LONG = 1800.0  # seconds for a call that makes or removes things; the engine has its own, shorter, limits inside


class EnginePool:
    """Keeps the engines of this process.

    Args:
        here: the name of the machine that this process runs on, where there are several processes.
    """

    def __init__(self, box: SecretBox, here: str = "") -> None:
        self._box = box
        self.here = here
        self._engines: dict[int, tuple[HostConnection, Engine]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def connection(self, host: Host) -> HostConnection:
        """What the host's row says, its secret opened."""
        secrets = secret_options(host.engine)
        return HostConnection(
            name=host.name,
            address=host.address,
            user=host.user,
            secret=self._box.unseal(host.secret),
            disks_path=host.disks_path,
            images_path=host.images_path,
            launch_path=host.launch_path,
            options={name: value for name, value in host.options.items() if name not in secrets},
            secrets={name: self._box.unseal(host.options[name]) for name in secrets if host.options.get(name)},
            seed=self._box.derive(f"host {host.name}"),
        )

    def of(self, host: Host) -> Engine:
        """The engine of a host.

        Raises:
            Conflict: the host is disabled.
        """
        require_enabled(host)
        self.require_here(host)
        return self.even_disabled(host)

    async def require_somewhere(self, host: Host) -> None:
        """Check that a task on a host can begin: here, or in a process of the machine that alone reaches it.

        Raises:
            Conflict: the host is disabled, or no process runs on that machine.
        """
        if not self.elsewhere(host):
            self.of(host)
            return
        require_enabled(host)
        if not await ProcessNode.exists(machine=host.machine):
            raise Conflict(
                _(
                    "Host {name} is reached by a socket of machine {machine}, where no process of the panel runs. Start one "
                    "there, or give the host an address that every process reaches (server_addr)."
                ),
                name=host.name, machine=host.machine,
            )  # fmt: skip

    def elsewhere(self, host: Host) -> bool:
        """Whether only processes on another machine reach a host: it is known by a local socket there."""
        return bool(self.here and host.machine and host.machine != self.here)

    def is_here(self, host: Host) -> bool:
        """Whether a host is the machine that this process runs on. An imaginary one is not."""
        try:
            return (
                host.engine is not EngineKind.FAKE
                and self.even_disabled(host).on_this_machine
                and not self.elsewhere(host)
            )
        except PanelError:  # its settings make no sense any more
            return False

    def require_here(self, host: Host) -> None:
        """``Conflict`` when the host is ``elsewhere``."""
        if self.elsewhere(host):
            raise Conflict(
                _(
                    "Host {name} is reached by a socket of machine {machine}, and this request came to another machine. "
                    "Give the host an address that every process reaches, as in qemu+ssh://USER@HOST/system (server_addr)."
                ),
                name=host.name, machine=host.machine,
            )  # fmt: skip

    def even_disabled(self, host: Host) -> Engine:
        """The engine of a host, enabled or not: to settle what was begun, and to clean up."""
        connection = self.connection(host)
        known = self._engines.get(host.id)
        if known is not None and known[0] == connection:
            return known[1]
        engine = make_engine(host.engine, connection)
        self._engines[host.id] = (connection, engine)
        if known is not None:
            self._retire(known[1])
        return engine

    async def forget(self, host_id: int) -> None:
        """Close the engine of a host that is gone, changed or disabled."""
        known = self._engines.pop(host_id, None)
        if known is not None:
            await known[1].close()

    async def close(self) -> None:
        """Close all."""
        engines = [engine for _connection, engine in self._engines.values()]
        self._engines.clear()
        await asyncio.gather(*(engine.close() for engine in engines), return_exceptions=True)

    def _retire(self, engine: Engine) -> None:
        task = asyncio.get_running_loop().create_task(engine.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def require_enabled(host: Host) -> None:
    """``Conflict`` when the host is disabled."""
    if not host.enabled:
        raise Conflict(_("Host {name} is disabled. Enable it first."), name=host.name)


def capabilities(kind: EngineKind) -> Capabilities:
    """What an engine can do."""
    return engine_class(kind).capabilities


def secret_options(kind: EngineKind) -> frozenset[str]:
    """The engine's own fields that are secrets besides the password: ``Host.options`` has them sealed."""
    return frozenset(item.name for item in engine_class(kind).fields if item.secret and item.name != PASSWORD)


class Patience:
    """The time of one host for all that it is asked in a row: what the panel does between two questions is not the host's.

    Args:
        seconds: for all questions together.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = self._left = seconds

    async def ask(self, call: Awaitable[T]) -> T:
        """The answer to one question. ``EngineTimeout`` when the time is over."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, self._left)):
                return await call
        except TimeoutError as error:
            raise _too_late(self._seconds) from error
        finally:
            self._left -= time.monotonic() - began


async def limited(call: Awaitable[T], seconds: float = QUICK) -> T:
    """Wait for an engine's answer at most ``seconds``. ``EngineTimeout`` beyond."""
    try:
        async with asyncio.timeout(seconds):
            return await call
    except TimeoutError as error:
        raise _too_late(seconds) from error


def _too_late(seconds: float) -> EngineTimeout:
    return EngineTimeout(_("The host did not answer within {seconds} s."), seconds=int(seconds))
