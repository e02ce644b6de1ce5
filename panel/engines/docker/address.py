"""Which daemon to speak to, and how: from the host's address to a socket of this machine, TLS, or SSH."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import unquote, urlsplit

from panel.engines.common.tls import client_context, read_fingerprint
from panel.engines.types import HostConnection, SshEndpoint
from panel.errors import InvalidInput
from panel.i18n import gettext_noop as _

SOCKET = "/run/docker.sock"
TLS_PORT, PLAIN_PORT = 2376, 2375
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|[0-9A-Fa-f:.]+")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.@-]{0,63}")
_PATH = re.compile(r"/[A-Za-z0-9_./ +@=-]{1,100}")


class Way(StrEnum):
    """How the daemon is reached."""

    SOCKET = "socket"
    TLS = "tls"
    PLAIN = "plain"
    SSH = "ssh"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a daemon listens: ``path`` of its socket (on the other machine for ``SSH``), or ``host`` and ``port``."""

    way: Way
    path: str = ""
    host: str = ""
    port: int = 0
    ssh: SshEndpoint | None = None

    @property
    def base(self) -> str:
        """The URL that the client library wants; ``SSH`` is reached through a socket of this machine."""
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.way is Way.TLS else 'http'}://{shown}:{self.port}"

    @property
    def name(self) -> str:
        """What messages call it."""
        if self.way is Way.SOCKET:
            return self.path
        return self.ssh.name if self.ssh else f"{self.host}:{self.port}"


def read_place(connection: HostConnection) -> Place:
    """Where ``connection`` leads. ``InvalidInput`` names the field that is wrong."""
    text = connection.address.strip()
    if not text or text.startswith("/"):
        return Place(Way.SOCKET, path=_path(text or SOCKET))
    try:
        parts = urlsplit(text if "://" in text else f"ssh://{text}")
        host, port = parts.hostname or "", parts.port or 0
    except ValueError:
        raise _wrong() from None
    if parts.query or parts.fragment or parts.password:
        raise _wrong()
    if parts.scheme == "unix":
        return Place(Way.SOCKET, path=_path(parts.netloc + parts.path))
    if not _HOST.fullmatch(host):
        raise _wrong()
    if parts.scheme == "ssh":
        login = SshEndpoint(host, port, _user(parts.username, connection), _key(connection), connection.secret)
        return Place(Way.SSH, path=_path(parts.path.rstrip("/") or SOCKET), ssh=login)
    if parts.username or parts.path.strip("/") or parts.scheme not in {"tcp", "https", "http"}:
        raise _wrong()
    if parts.scheme == "http":
        return Place(Way.PLAIN, host=host, port=port or PLAIN_PORT)
    return Place(Way.TLS, host=host, port=port or TLS_PORT)


def read_context(connection: HostConnection) -> ssl.SSLContext:
    """Trust in the daemon's certificate, and our own to show it: ``ca.pem``, ``cert.pem`` and ``key.pem`` in the folder
    ``tls_folder``, as Docker's own client keeps them. An accepted fingerprint stands for an authority. Reads files.

    Raises:
        InvalidInput: field ``tls_folder``: a file is not there, not readable, or no certificate or key.
    """
    fingerprint = read_fingerprint(connection.options.get("fingerprint", ""))
    folder = connection.options.get("tls_folder", "").strip()
    context = client_context(fingerprint)
    if not folder:
        return context
    where = Path(_path(folder, "tls_folder"))
    try:
        if not fingerprint and (where / "ca.pem").exists():
            context = ssl.create_default_context(cafile=str(where / "ca.pem"))
        if (where / "cert.pem").exists() or not (where / "ca.pem").exists():
            context.load_cert_chain(where / "cert.pem", where / "key.pem", password=lambda: "")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise InvalidInput(
            _("{field}: {path} must have ca.pem, cert.pem and key.pem (without a passphrase), readable for the panel's user."),
            field="tls_folder", path=str(where),
        ) from error  # fmt: skip
    return context


def _user(given: str | None, connection: HostConnection) -> str:
    user = unquote(given or "") or connection.user.strip()
    if user and not _USER.fullmatch(user):
        raise InvalidInput(_("{field} is not a user name."), field="server_user")
    return user


def _key(connection: HostConnection) -> str:
    key = connection.options.get("ssh_key_file", "").strip()
    return _path(key, "ssh_key_file") if key else ""


def _path(text: str, field: str = "server_addr") -> str:
    if not _PATH.fullmatch(text):
        raise InvalidInput(_("{field} must be an absolute path."), field=field)
    return text


def _wrong() -> InvalidInput:
    return InvalidInput(
        _("{field} must be empty (this machine), the path of a socket, tcp://HOST:2376 (TLS), or ssh://USER@HOST."),
        field="server_addr",
    )
