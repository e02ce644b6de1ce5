"""Where a Caddy of the panel's own keeps what it needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from panel.errors import ConfigError
from panel.i18n import gettext_noop as _

LONGEST_SOCKET = 107  # bytes of a unix socket's path (unix(7), sun_path)


@dataclass(frozen=True, slots=True)
class Files:
    """The files of one Caddy, below ``folder`` (0700: who gets at the admin socket gets at uploaded keys)."""

    folder: Path

    @property
    def admin(self) -> Path:
        """The admin API's socket."""
        return self.folder / "admin.sock"

    @property
    def https(self) -> Path:
        """A socket on which https is served besides: the panel looks at certificates through it."""
        return self.folder / "https.sock"

    @property
    def start(self) -> Path:
        """The configuration that Caddy starts with: no sites."""
        return self.folder / "start.json"

    @property
    def storage(self) -> Path:
        """Issued certificates with their keys, and the internal authority."""
        return self.folder / "storage"

    @property
    def log(self) -> Path:
        """Caddy's log, JSON lines; it rotates it by itself."""
        return self.folder / "caddy.log"

    @property
    def output(self) -> Path:
        """What Caddy says before it has read its configuration."""
        return self.folder / "start.log"

    @property
    def pid(self) -> Path:
        """The process that the panel started."""
        return self.folder / "caddy.pid"

    def make(self) -> None:
        """Make the folder. ``ConfigError``: its path is too long for a socket, or it cannot be made."""
        if len(bytes(self.admin.absolute())) > LONGEST_SOCKET:
            raise ConfigError(_("The data folder's path is too long for the proxy's socket: choose a shorter one."))
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder.chmod(0o700)
        except OSError as error:
            raise ConfigError(
                _("The proxy's folder in the data folder cannot be made: {reason}."), reason=error.strerror
            ) from None
