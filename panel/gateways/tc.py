"""Rate limits on the guests' ports by ``tc``: a hierarchical token bucket (htb) that queues, in both directions.

What goes to the guest leaves the host through its port: an htb at the port's root (tc-htb(8)). What comes from the guest is led
by the port's ingress through an intermediate functional block, an ``ifb`` of its own, with an htb there; where the kernel has
no ifb it is policed, which drops instead of queueing. Ours are known by handle ``1dc5:`` and preference 7621.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from panel.errors import EngineFailure
from panel.gateways.runner import Runner, failure, must
from panel.gateways.types import Guest, parse_interface
from panel.i18n import Text
from panel.i18n import gettext_noop as _

HANDLE = "1dc5:"
CLASS = "1dc5:1"
LEAF = "1dc6:"
PREFERENCE = 7621
_IFB = "oidc-"
_QUEUE_PACKETS = 200
REWRITE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Queue:
    """A queueing discipline that is there now."""

    interface: str
    kind: str
    handle: str
    root: bool


@dataclass(frozen=True, slots=True)
class Links:
    """What is on the host: interface names, their queueing disciplines, and their numbers, which a port that is made anew
    does not keep."""

    names: frozenset[str]
    queues: tuple[Queue, ...]
    numbers: Mapping[str, int] = field(default_factory=dict)

    def root(self, interface: str) -> Queue | None:
        """The discipline that somebody put at the root. The kernel's own default has handle 0; libvirt gives ports a ``noqueue``,
        which is none at all."""
        found = (q for q in self.queues if q.interface == interface and q.root)
        return next((q for q in found if q.handle != "0:" and q.kind != "noqueue"), None)

    def ingress(self, interface: str) -> bool:
        """Whether there is an ingress."""
        return any(q.interface == interface and q.kind in ("ingress", "clsact") for q in self.queues)


@dataclass(frozen=True, slots=True)
class Shaped:
    """What ``RateLimiter.apply`` did. ``absent``: ports that are not there now (the VM is off)."""

    limited: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    warnings: tuple[Text, ...] = ()


@dataclass(frozen=True, slots=True)
class _Held:
    """What ``hold`` left behind, and the ports and queues as they were then."""

    wanted: tuple[tuple[str, int, int], ...]
    limited: bool
    picture: frozenset[object]
    shaped: Shaped
    since: float


class RateLimiter:
    """The rate limits of one host's guests. Raises like ``NftGateway``."""

    def __init__(self, runner: Runner, *, seconds: float = 30.0) -> None:
        self._runner = runner
        self._seconds = seconds
        self._held: _Held | None = None

    async def hold(self, guests: Iterable[Guest]) -> Shaped:
        """``apply``, but cheap while nothing changed: one look at the ports and their queues; none at all where no guest has
        a limit and none had. Everything is written anew every ``REWRITE_SECONDS``: a look does not see a class or a filter
        that someone changed."""
        known = sorted((guest for guest in guests if guest.interface), key=lambda guest: guest.interface or "")
        wanted = tuple((guest.interface or "", guest.rate_up_mbit, guest.rate_down_mbit) for guest in known)
        limited = any(up or down for _interface, up, down in wanted)
        held = self._held
        if held is not None and not limited and not held.limited:
            return Shaped()
        fresh = held if held and held.wanted == wanted and time.monotonic() - held.since < REWRITE_SECONDS else None
        if fresh is not None and _picture(await self._links(), wanted) == fresh.picture:
            return fresh.shaped
        self._held = None
        shaped = await self.apply(known)
        self._held = _Held(wanted, limited, _picture(await self._links(), wanted), shaped, time.monotonic())
        return shaped

    async def apply(self, guests: Iterable[Guest]) -> Shaped:
        """Make the limits of ``guests`` hold on the ports that are there. Repeating it changes nothing; what other
        programs have put on a port stays, and is warned of. Helpers (ifb) of ports that no guest has are removed."""
        links = await self._links()
        known = [guest for guest in guests if guest.interface]
        there = [guest for guest in known if guest.interface in links.names]
        warnings: list[Text] = []
        commands: list[str] = []
        police = False
        for guest in there:
            assert guest.interface is not None
            helper = ifb_name(guest.interface)
            if guest.rate_up_mbit and not police and helper not in links.names:
                police = not await self._add_ifb(helper)
            foreign = links.root(guest.interface)
            if guest.rate_down_mbit and foreign and foreign.handle != HANDLE:
                warnings.append(
                    Text(
                        _("{interface} has a queue of another program's: its download is not limited."),
                        {"interface": guest.interface},
                    )
                )
            commands += download(guest.interface, guest.rate_down_mbit, links)
            commands += upload(guest.interface, guest.rate_up_mbit, links, police=police)
        if commands:
            await self._batch(commands)
        wanted = {ifb_name(guest.interface) for guest in there if guest.rate_up_mbit and guest.interface and not police}
        for name in sorted(links.names - wanted):
            if name.startswith(_IFB):
                await self._runner.run(["ip", "link", "del", name], seconds=self._seconds)
        return Shaped(
            limited=tuple(sorted(g.interface for g in there if g.interface and (g.rate_up_mbit or g.rate_down_mbit))),
            absent=tuple(sorted(g.interface for g in known if g.interface not in links.names and g.interface)),
            warnings=tuple(warnings),
        )

    async def limits(self, interface: str) -> tuple[int, int]:
        """The limits on a port as the kernel has them, in bit/s, up and down; 0 is none (or policed)."""
        down = await self._class_rate(parse_interface(interface, "interface"))
        up = await self._class_rate(ifb_name(interface))
        return up, down

    async def _class_rate(self, interface: str) -> int:
        answer = await self._runner.run(["tc", "class", "show", "dev", interface], seconds=self._seconds)
        if answer.missing:
            raise failure("tc", "iproute2", answer)
        for line in answer.stdout.splitlines():
            words = line.split()
            if words[:3] == ["class", "htb", CLASS]:
                return _bits(words[words.index("rate") + 1])
        return 0

    async def _links(self) -> Links:
        names = json.loads(await must(self._runner, ["ip", "-j", "link", "show"], "iproute2", seconds=self._seconds))
        queues = json.loads(await must(self._runner, ["tc", "-j", "qdisc", "show"], "iproute2", seconds=self._seconds))
        numbers = {link["ifname"]: int(link.get("ifindex", 0)) for link in names if "ifname" in link}
        return Links(frozenset(numbers), tuple(_queues(queues)), numbers)

    async def _add_ifb(self, name: str) -> bool:
        """Make an ifb; False where the kernel has none."""
        answer = await self._runner.run(["ip", "link", "add", name, "type", "ifb"], seconds=self._seconds)
        if answer.returncode == 0 or "File exists" in answer.stderr:
            return True
        if "Unknown device type" in answer.stderr or "not supported" in answer.stderr:
            return False
        raise failure("ip", "iproute2", answer)

    async def _batch(self, commands: list[str]) -> None:
        """All commands in one process. A port that went away meanwhile is no error: ``-force`` goes on behind it."""
        links = [line for line in commands if line.startswith("link ")]
        rest = [line for line in commands if not line.startswith("link ")]
        for program, lines in (("ip", links), ("tc", rest)):
            if not lines:
                continue
            text = "\n".join(lines) + "\n"
            argv = [program, "-force", "-batch", "-"]
            answer = await self._runner.run(argv, stdin=text, seconds=self._seconds)
            if answer.missing:
                raise failure(program, "iproute2", answer)
            serious = [line for line in answer.stderr.splitlines() if _serious(line)]
            if answer.returncode != 0 and serious:
                raise EngineFailure(
                    _("A rate limit was refused by the host's kernel: {reason}"), reason=serious[0][:300]
                )


def _picture(links: Links, wanted: Iterable[tuple[str, int, int]]) -> frozenset[object]:
    """The wanted ports and their helpers as they are: number by the kernel, and queues."""
    names = {name for interface, _up, _down in wanted for name in (interface, ifb_name(interface))}
    numbers = {(name, links.numbers[name]) for name in names if name in links.numbers}
    return frozenset({*numbers, *(queue for queue in links.queues if queue.interface in names)})


def ifb_name(interface: str) -> str:
    """The ifb of a port: at most 15 characters, told apart by a digest."""
    return _IFB + hashlib.sha256(interface.encode()).hexdigest()[:8]


def download(interface: str, rate_mbit: int, links: Links) -> list[str]:
    """The ``tc`` commands for what goes to the guest."""
    root = links.root(interface)
    if root and root.handle != HANDLE:
        return []
    if not rate_mbit:
        return [f"qdisc del dev {interface} root"] if root else []
    return _bucket(interface, rate_mbit, there=root is not None)


def upload(interface: str, rate_mbit: int, links: Links, *, police: bool = False) -> list[str]:
    """The ``tc`` and ``ip`` (those that begin with ``link``) commands for what comes from the guest."""
    helper = ifb_name(interface)
    if not rate_mbit:
        return [f"filter del dev {interface} ingress pref {PREFERENCE}"] if links.ingress(interface) else []
    entry = [] if links.ingress(interface) else [f"qdisc add dev {interface} handle ffff: ingress"]
    match = f"filter replace dev {interface} ingress protocol all pref {PREFERENCE} handle 800::1 u32 match u32 0 0"
    if police:
        burst = max(rate_mbit * 125_000 // 10, 131_072)  # a tenth of a second, and more than one large packet
        return [*entry, f"{match} police rate {rate_mbit}mbit burst {burst} mtu 65535 drop"]
    root = links.root(helper)
    bucket = _bucket(helper, rate_mbit, there=root is not None and root.handle == HANDLE)
    return [f"link set dev {helper} up", *bucket, *entry, f"{match} action mirred egress redirect dev {helper}"]


def _bucket(interface: str, rate_mbit: int, *, there: bool) -> list[str]:
    """An htb of one class. The burst is 10 ms of the rate, and not less than one packet of the largest size."""
    burst = max(rate_mbit * 125_000 // 100, 65_536)
    size = f"rate {rate_mbit}mbit ceil {rate_mbit}mbit burst {burst} cburst {burst}"
    made = [] if there else [f"qdisc replace dev {interface} root handle {HANDLE} htb default 1"]
    return [
        *made,
        f"class replace dev {interface} parent {HANDLE} classid {CLASS} htb {size}",
        f"qdisc replace dev {interface} parent {CLASS} handle {LEAF} pfifo limit {_QUEUE_PACKETS}",
    ]


def _serious(line: str) -> bool:
    harmless = (
        "Cannot find device",
        "No such device",
        "Cannot find specified filter",
        "Filter with specified priority",
        "Command failed",
        "We have an error",
    )
    return bool(line.strip()) and not any(words in line for words in harmless)


def _queues(entries: Iterable[Mapping[str, Any]]) -> Iterable[Queue]:
    for entry in entries:
        if "dev" in entry:
            yield Queue(entry["dev"], str(entry.get("kind", "")), str(entry.get("handle", "")), bool(entry.get("root")))


def _bits(word: str) -> int:
    """``9Mbit`` as a number."""
    units = {"Gbit": 10**9, "Mbit": 10**6, "Kbit": 10**3, "bit": 1}
    for unit, factor in units.items():
        if word.endswith(unit):
            return round(float(word.removesuffix(unit)) * factor)
    return 0
