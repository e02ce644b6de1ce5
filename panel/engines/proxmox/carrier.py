"""The machine that carries the port forwards: the one that SSH leads to. Of a cluster it is one node, or none of them.

A guest on another node is reached when its bridge there has a port to the outside, or when the machine has a route to its address
through another one. A bridge without ports, as nodes have them for NAT, ends at its own node; the machine may well have one of
the same name and subnet, whose guests are others.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import ip_address

from panel.engines.common.ssh import SshConnection
from panel.engines.proxmox.client import Client
from panel.engines.types import SshEndpoint
from panel.errors import PanelError
from panel.i18n import Text
from panel.i18n import gettext_noop as _

ASK_SECONDS = 10.0
AGAIN_SECONDS = 60.0
BRIDGES_SECONDS = 300.0
_BRIDGES = ("bridge", "OVSBridge")
_PORTS = ("bridge_ports", "ovs_ports")
# an empty line before each answer; fibmatch shows the route itself, so that one of its own is told from the default one
_QUESTION = """sh -c 'hostname; while read -r a; do echo; ip -o route get fibmatch "$a" 2>&1; done'"""
_VIA = re.compile(r"(?!default\b)\S+ via \S+")


class Carrier:
    """What is known of it, learned in the background: no round of observation waits for SSH."""

    def __init__(self, client: Client, endpoint: SshEndpoint) -> None:
        self._client = client
        self._ssh = SshConnection(endpoint)
        self._node = ""  # its host name, which a node's name is (pvecm(1)); empty until it told
        self._routed: dict[str, bool] = {}
        self._wanted: set[str] = set()
        self._asked: float | None = None
        self._asking: asyncio.Task[None] | None = None
        self._bridges: dict[str, tuple[float, frozenset[str]]] = {}

    async def check(self, nodes: Iterable[str]) -> list[Text]:
        """For the connection test: why forwards cannot be made, or what is to be known of them."""
        try:
            await self._ask()
        except PanelError as error:
            return [Text(_("No ports can be forwarded yet, because SSH to the node does not work.")), error.text]
        known = sorted(nodes)
        if self._node in known and len(known) == 1:
            return []
        return [
            Text(
                _(
                    "Ports are forwarded on {machine}. VMs that another node has on a NAT bridge of its own get no forwards."
                ),
                {"machine": self._node},
            )
        ]

    async def close(self) -> None:
        """Disconnect. Never raises."""
        if self._asking is not None:
            self._asking.cancel()
            with suppress(asyncio.CancelledError):
                await self._asking
        await self._ssh.close()

    def is_at(self, node: str) -> bool:
        """Whether it is this node, as far as is known."""
        return self._node == node

    async def apart(self, node: str, bridge: str, addresses: Iterable[str]) -> bool:
        """Whether a guest on a bridge of ``node`` is out of its reach. What is not known yet is taken to be well."""
        self._look()
        if not self._node or self.is_at(node) or bridge not in await self._closed(node):
            return False
        seen = {text for text in addresses if _is_plain(text)}
        self._wanted |= seen
        return not any(self._routed.get(text, True) for text in seen) if seen else True

    async def _closed(self, node: str) -> frozenset[str]:
        """The bridges of a node that end at it. One that its list does not have (SDN's) is none."""
        at, found = self._bridges.get(node, (0.0, frozenset()))
        if not at or time.monotonic() - at > BRIDGES_SECONDS:
            with suppress(PanelError):
                lines = await self._client.get(f"/nodes/{node}/network")
                bridges = [line for line in lines or () if line.get("type") in _BRIDGES]
                found = frozenset(str(line["iface"]) for line in bridges if not any(line.get(key) for key in _PORTS))
            self._bridges[node] = (time.monotonic(), found)
        return found

    def _look(self) -> None:
        """Ask again when it is due."""
        due = (
            self._asked is None or time.monotonic() - self._asked > AGAIN_SECONDS or self._wanted - self._routed.keys()
        )
        if due and (self._asking is None or self._asking.done()):
            self._asking = asyncio.get_running_loop().create_task(self._ask_quietly())

    async def _ask_quietly(self) -> None:
        try:
            await self._ask()
        except PanelError:  # the gateway says it where forwards are wanted
            self._asked = time.monotonic()
            self._routed |= dict.fromkeys(self._wanted - self._routed.keys(), True)

    async def _ask(self) -> None:
        wanted = sorted(self._wanted)
        answer = await self._ssh.execute(_QUESTION, "".join(f"{text}\n" for text in wanted).encode(), ASK_SECONDS)
        name, *routes = answer.stdout.decode(errors="replace").split("\n\n")
        self._node = name.strip().partition(".")[0]
        self._routed = {text: bool(_VIA.match(route)) for text, route in zip(wanted, routes, strict=False)}
        self._wanted.clear()
        self._asked = time.monotonic()


def _is_plain(text: str) -> bool:
    """Whether it is an address and nothing besides: guests tell it, and a shell reads it."""
    with suppress(ValueError):
        return str(ip_address(text)) == text and "%" not in text
    return False
