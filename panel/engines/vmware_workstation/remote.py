"""What SSH to the host adds: tunnels to screens, and ``vmrun``. Only where the host's settings give it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from panel.engines.common.login import read_login
from panel.engines.common.rfb import Streams
from panel.engines.common.ssh import SshConnection
from panel.engines.common.tunnel import Tunnels
from panel.engines.types import HostConnection
from panel.engines.vmware_workstation.vmrun import GuestLogin, Vmrun, program
from panel.errors import Conflict, EngineFailure
from panel.i18n import Text

SSH_PORT = 22
HERE = "127.0.0.1"


class Remote:
    """SSH to one host, or none: then ``vmrun`` is None and screens are reached directly."""

    def __init__(self, connection: HostConnection) -> None:
        options = connection.options
        endpoint = read_login(options)
        self._ssh = SshConnection(endpoint) if endpoint else None
        self._tunnels = Tunnels(self._ssh) if self._ssh else None
        self.port = (endpoint.port or SSH_PORT) if endpoint else 0
        login = GuestLogin(options.get("guest_user", ""), connection.secrets.get("guest_pass", ""))
        self.vmrun: Vmrun | None = None
        if self._ssh and connection.launch_path and login.user and login.password:
            self.vmrun = Vmrun(self._ssh, program(connection.launch_path), login)

    async def check(self) -> list[Text]:
        """Log in, and look for ``vmrun``; a missing one is a warning. ``HostUnreachable`` when SSH does not let us in."""
        if self._ssh is None:
            return []
        await self._ssh.user()
        if self.vmrun is not None:
            try:
                await self.vmrun.check()
            except (Conflict, EngineFailure) as error:
                return [error.text]
        return []

    def screen(self, host: str, port: int) -> tuple[str, Callable[[], Awaitable[Streams]] | None]:
        """Where a screen is, and how to get there (None: directly)."""
        tunnels = self._tunnels
        return (host, None) if tunnels is None else (HERE, lambda: tunnels.dial(HERE, port))

    async def close(self) -> None:
        """Disconnect. Never raises."""
        if self._ssh is not None and self._tunnels is not None:
            await self._tunnels.close()
            await self._ssh.close()
