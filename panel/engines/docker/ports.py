"""The host's ends of containers' interfaces: the API does not tell them, the kernel of their machine does."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from panel.engines.docker.client import Client
from panel.errors import PanelError

SSH_SECONDS = 10.0
# sysfs, as a container has it mounted, shows the interfaces of its network namespace; iflink is the other end's number
_FAR = """for p in {pids}; do for d in /proc/$p/root/sys/class/net/*; do
read -r a <"$d/address" && read -r n <"$d/iflink" && for h in /sys/class/net/*; do
read -r i <"$h/ifindex"; [ "$i" = "$n" ] && echo "$a ${{h##*/}}"; done; done; done 2>/dev/null; true"""
_NAME = re.compile(r"[A-Za-z0-9_.@-]{1,15}")

Ports = dict[str, str]


async def ports_of(client: Client, pids: Iterable[int]) -> Ports:
    """The host's interface by the MAC of the container's. Empty where the host's kernel cannot be asked."""
    wanted = sorted({pid for pid in pids if pid > 1})
    if not wanted:
        return {}
    if client.ssh is not None:
        with suppress(PanelError):
            told = await client.ssh.execute(_FAR.format(pids=" ".join(map(str, wanted))), b"", SSH_SECONDS)
            return _parsed(told.stdout.decode(errors="replace"))
        return {}
    return await asyncio.to_thread(_near, wanted) if client.near else {}


def _near(pids: list[int]) -> Ports:
    found: Ports = {}
    for pid in pids:
        with suppress(OSError):
            for device in Path(f"/proc/{pid}/root/sys/class/net").iterdir():
                with suppress(OSError, ValueError):
                    mac = (device / "address").read_text().strip()
                    found[mac] = socket.if_indextoname(int((device / "iflink").read_text()))
    return _without_loopback(found)


def _parsed(text: str) -> Ports:
    rows = [line.split() for line in text.splitlines()]
    return _without_loopback({row[0]: row[1] for row in rows if len(row) == 2 and _NAME.fullmatch(row[1])})


def _without_loopback(found: Ports) -> Ports:
    return {mac: name for mac, name in found.items() if mac != "00:00:00:00:00:00" and name != "lo"}
