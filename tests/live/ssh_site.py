"""A libvirt host over SSH: what a panel, or an engine, needs to trust an sshd of a test's own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.gateways.sshd import Sshd
from tests.live.libvirt_site import LibvirtSite
from tests.process import PanelProcess


@contextmanager
def trusting(sshd: Sshd, programs: Path) -> Iterator[None]:
    """The environment of one that trusts ``sshd``: its home knows the key, and libvirt's ``ssh`` (a wrapper in the folder
    ``programs``) is told of that home, which it would else take from the user database."""
    ssh = programs / "ssh"
    ssh.write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F none -o UserKnownHostsFile={sshd.known_hosts} "$@"\n')
    ssh.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(sshd.home))
        patch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        patch.delenv("SSH_AUTH_SOCK", raising=False)
        yield


def libvirt_of(sshd: Sshd) -> str:
    """The address of the libvirt behind it."""
    return f"qemu+ssh://root@{sshd.address}:{sshd.port}/system?no_tty=1&keyfile={sshd.key}"


@contextmanager
def panel_over_ssh(site: LibvirtSite, sshd: Sshd, folders: pytest.TempPathFactory) -> Iterator[PanelProcess]:
    """A panel whose only host, ``far``, is reached by SSH, and online."""
    with trusting(sshd, folders.mktemp("programs")):
        process = PanelProcess(folders.mktemp("panel"))
    process.start()
    process.ok("POST", "/api/server/create", {"server_name": "far"} | site.host | {"server_addr": libvirt_of(sshd)})
    process.until("/api/server/detail/far", lambda host: host["health"] == "online")
    yield process
    process.stop()
