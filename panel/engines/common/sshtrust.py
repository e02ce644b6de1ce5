"""Whom SSH trusts, and what it logs in with: the known hosts of the panel's user and of the machine, and key files."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import asyncssh

from panel.engines.types import SshEndpoint
from panel.errors import HostUnreachable, PanelError
from panel.i18n import gettext_noop as _

SYSTEM_KNOWN_HOSTS = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
USER_KNOWN_HOSTS = ("known_hosts", "known_hosts2")  # in ~/.ssh


def known_hosts() -> asyncssh.SSHKnownHosts:
    """All known hosts of the panel's user and of the machine. A line that nobody understands is passed over, as ssh does."""
    folder = Path("~/.ssh").expanduser()
    known = asyncssh.import_known_hosts("")
    for path in (*(folder / name for name in USER_KNOWN_HOSTS), *map(Path, SYSTEM_KNOWN_HOSTS)):
        with suppress(OSError):
            for line in path.read_text(errors="replace").splitlines():
                with suppress(ValueError):
                    known.load(line + "\n")
    return known


def check_key_file(to: SshEndpoint) -> None:
    """``HostUnreachable`` when the panel cannot read the key that it is to log in with."""
    if to.key_file and not os.access(to.key_file, os.R_OK):
        raise HostUnreachable(
            _("The SSH key file {path} for host {host} is not there, or the panel may not read it (ssh_key_file)."),
            path=to.key_file,
            host=to.name,
        )


def untrusted(to: SshEndpoint, known: asyncssh.SSHKnownHosts) -> PanelError:
    """Why a host's key is not to be trusted: another one is known, or none."""
    port = to.port or 22
    where = to.host if port == 22 else f"[{to.host}]:{port}"
    if any(asyncssh.match_known_hosts(known, to.host, "", port)):
        return HostUnreachable(
            _(
                "The SSH key of host {host} is not the one that is known. Either the host was installed anew, or somebody stands "
                "between. When you know why: ssh-keygen -R {where}, then make the new key known as for a new host."
            ),
            host=to.name,
            where=where,
        )
    return HostUnreachable(
        _(
            "The SSH key of host {host} is not known to the panel's user. Run ssh-keyscan -p {port} {address}, compare the key "
            "with the host's own (/etc/ssh/ssh_host_*_key.pub), and put the line into ~/.ssh/known_hosts."
        ),
        host=to.name,
        port=port,
        address=to.host,
    )
