"""The SSH login of hosts that are spoken to by something else: the fields ``ssh_addr``, ``ssh_user`` and ``ssh_key_file``."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from panel.engines.types import SshEndpoint
from panel.errors import InvalidInput
from panel.i18n import gettext_noop as _


def read_login(options: Mapping[str, str], password: str = "") -> SshEndpoint | None:
    """Where ``ssh_addr`` leads (``HOST``, ``HOST:PORT`` or ``[IPV6]:PORT``); None when it is empty. ``InvalidInput`` names it."""
    text = options.get("ssh_addr", "").strip()
    if not text:
        return None
    try:
        parts = urlsplit(f"//[{text}]" if text.count(":") > 1 and "[" not in text else f"//{text}")
        host, port = parts.hostname or "", parts.port or 0
    except ValueError:
        host, port = "", 0
    if not host or parts.path or parts.username:
        raise InvalidInput(_("{field} must be HOST or HOST:PORT."), field="ssh_addr")
    user, key_file = options.get("ssh_user", "").strip(), options.get("ssh_key_file", "").strip()
    return SshEndpoint(host, port, user, key_file, password)
