"""Which libvirt to connect to: from the host's address to a connection URI (https://libvirt.org/uri.html)."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from panel.engines.types import HostConnection, SshEndpoint
from panel.errors import InvalidInput

LOCAL_URI = "qemu:///system"
LOCAL_NAMES = frozenset({"", "localhost", "127.0.0.1", "::1"})
SCHEMES = frozenset({"qemu", "qemu+ssh", "qemu+tcp", "qemu+tls", "qemu+unix", "test"})
# ``command`` and ``netcat`` of libvirt's URIs start programs of the writer's choice: they are not in this list.
PARAMETERS = frozenset({"no_tty", "keyfile", "socket", "pkipath", "tls_priority", "mode"})
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|\[?[0-9A-Fa-f:.]+\]?")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.@-]{0,63}")
_PATH = re.compile(r"/[A-Za-z0-9_./ +@=-]*")


def connection_uri(connection: HostConnection) -> str:
    """The libvirt URI of ``connection``. ``InvalidInput`` (field ``server_addr``, ...) names what is wrong with it."""
    address = connection.address.strip()
    if address in LOCAL_NAMES:
        return LOCAL_URI
    if "://" in address:
        return _checked_uri(address)
    if not _HOST.fullmatch(address):
        raise InvalidInput("{address} is neither a host name nor a libvirt URI.", field="server_addr", address=address)
    host = f"[{address}]" if ":" in address and not address.startswith("[") else address
    user = connection.user.strip()
    if user and not _USER.fullmatch(user):
        raise InvalidInput("{user} is not a user name.", field="server_user", user=user)
    query = {"no_tty": "1"}
    key = connection.options.get("ssh_key_file", "").strip()
    if key:
        if not _PATH.fullmatch(key):
            raise InvalidInput("The SSH key file must be an absolute path.", field="ssh_key_file")
        query["keyfile"] = key
    return f"qemu+ssh://{user + '@' if user else ''}{host}/system?{urlencode(query, quote_via=quote)}"


def _checked_uri(address: str) -> str:
    parts = urlsplit(address)
    if parts.scheme not in SCHEMES:
        raise InvalidInput(
            "The URI scheme {scheme} is not allowed. Use one of: {schemes}.",
            field="server_addr",
            scheme=parts.scheme,
            schemes=", ".join(sorted(SCHEMES)),
        )
    try:
        host, _port = parts.hostname, parts.port
    except ValueError:
        host = "?"
    user_is_right = parts.username is None or _USER.fullmatch(parts.username)
    if parts.password or not user_is_right or (host and not _HOST.fullmatch(host)):
        raise InvalidInput("The URI's user, host or port is not valid.", field="server_addr")
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in PARAMETERS or (name in {"keyfile", "socket", "pkipath"} and not _PATH.fullmatch(value)):
            raise InvalidInput("The URI parameter {name} is not allowed.", field="server_addr", name=name)
    return address


def is_local(uri: str) -> bool:
    """Whether ``uri`` is this machine over a unix socket: then file descriptors can be passed."""
    parts = urlsplit(uri)
    return parts.scheme in {"qemu", "qemu+unix", "test"} and not parts.netloc


def is_ssh(uri: str) -> bool:
    """Whether the connection goes through SSH."""
    return urlsplit(uri).scheme == "qemu+ssh"


def ssh_endpoint(uri: str, password: str = "") -> SshEndpoint | None:
    """Where the SSH of a ``qemu+ssh`` URI leads; None for every other. ``password`` is tried when no key is taken (libvirt itself
    uses keys only)."""
    if not is_ssh(uri):
        return None
    parts = urlsplit(uri)
    key = dict(parse_qsl(parts.query)).get("keyfile", "")
    return SshEndpoint(
        host=parts.hostname or "localhost",
        port=parts.port or 0,
        user=unquote(parts.username or ""),
        key_file=key,
        password=password,
    )


def host_of(uri: str) -> str:
    """The host of a remote URI; empty when it is local."""
    return urlsplit(uri).hostname or ""
