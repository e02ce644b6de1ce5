"""From a ``RuleSet`` to the text of one ``nft -f`` transaction, purely.

Only the tables ``inet openidcs`` and ``bridge openidcs`` are named in it. In the one transaction their rules and elements are
removed and made again, and what does not belong is deleted. Chains and sets of the right shape stay: deleting and adding them
anew is atomic for the rules, but loses a packet now and then (measured: one of 500 new connections while replacing 30 times a
second; none so). Named counters stay: ``flush table`` removes rules and leaves objects, and adding a counter that is there leaves
its value (held by a live test). The inet table translates and filters, the bridge table guards the guests' ports and counts.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from panel.gateways.types import Forward, Guest, Protocol, RuleSet

TABLE = "openidcs"
FAMILIES = ("inet", "bridge")
_SETS = ("map", "set")
PROTOCOLS = ", ".join(Protocol)
_COMMENT_BYTES = 120  # libnftnl takes 128 with the final zero
_SAFE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 ._:-/")

# (family, chain): type, hook, priority. Ahead of it and behind it others may do as they like: policies are accept.
BASE_CHAINS: dict[tuple[str, str], tuple[str, str, int]] = {
    ("inet", "prerouting"): ("nat", "prerouting", -100),
    ("inet", "output"): ("nat", "output", -100),
    ("inet", "postrouting"): ("nat", "postrouting", 100),
    ("inet", "forward"): ("filter", "forward", 0),
    ("bridge", "guard"): ("filter", "prerouting", -250),
    ("bridge", "sent"): ("filter", "prerouting", -200),
    ("bridge", "received"): ("filter", "postrouting", 300),
}

_NAT_TARGET = """
dnat ip to meta l4proto . th dport map @forward4
dnat ip to meta l4proto . th dport map @range4
dnat ip6 to meta l4proto . th dport map @forward6
dnat ip6 to meta l4proto . th dport map @range6
"""
_FORWARD = """
ip saddr @blocked4 drop
ip daddr @blocked4 drop
ip6 saddr @blocked6 drop
ip6 daddr @blocked6 drop
"""
_FORWARD_END = """
oifname @bridges ct state established,related accept
oifname @bridges ct status dnat accept
"""
_FALLBACK_COUNT = """
counter name ip saddr map @sent4
counter name ip daddr map @received4
counter name ip6 saddr map @sent6
counter name ip6 daddr map @received6
"""
_GUARD = """
iifname @blocked jump cut
ether saddr @blockedmacs jump cut
iifname @ports goto frames
"""
_SENT = """
counter name iifname map @sentport
counter name ether saddr map @sentmac
"""
# what a blocked guest keeps: an address, so that it comes back by itself. To broadcast only: nothing is carried away by it
_CUT = """
ether type arp return
ip daddr 255.255.255.255 udp sport 68 udp dport 67 return
udp sport 67 udp dport 68 return
ip6 daddr ff02::1:2 udp sport 546 udp dport 547 return
udp sport 547 udp dport 546 return
icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert } return
drop
"""
_RECEIVED = """
oifname @blocked jump cut
ether daddr @blockedmacs jump cut
ether daddr & 01:00:00:00:00:00 == 01:00:00:00:00:00 oifname . ether saddr @macs drop
counter name oifname map @receivedport
counter name ether daddr map @receivedmac
"""
_FRAMES = """
iifname . ether saddr != @macs drop
ether type arp goto arps
ether type ip goto packets4
ether type ip6 goto packets6
drop
"""
_ARPS = """
iifname . arp saddr ether != @macs drop
iifname . arp saddr ip @address4 accept
arp operation request arp saddr ip 0.0.0.0 accept
iifname @unmanaged arp saddr ip != @owned4 accept
drop
"""
_PACKETS4 = """
udp sport 67 udp dport 68 drop
ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept
iifname . ip saddr @address4 accept
iifname @unmanaged ip saddr != @owned4 accept
drop
"""
_PACKETS6 = """
icmpv6 type { nd-router-advert, nd-redirect } drop
udp sport 547 udp dport 546 drop
icmpv6 type nd-neighbor-advert jump adverts
ip6 saddr :: icmpv6 type { nd-neighbor-solicit, nd-router-solicit, mld-listener-report, mld2-listener-report } accept
iifname . ip6 saddr @address6 accept
ip6 saddr fe80::/10 ip6 saddr != @owned6 accept
iifname @unmanaged ip6 saddr != @owned6 accept
drop
"""
# the target of a neighbour advertisement is the 16 octets after its first 8 (RFC 4861, 4.4); nft 1.0.6 has no name for it
_ADVERTS = """
iifname . @th,64,128 @targets return
@th,64,10 0x3fa @th,64,128 != @ownedtargets return
iifname @unmanaged @th,64,128 != @ownedtargets return
drop
"""


@dataclass(frozen=True, slots=True, order=True)
class Leftover:
    """A thing that is in one of our tables now: ``kind`` is nft's word (``chain``, ``set``, ``map``, ``counter`` ...)."""

    family: str
    kind: str
    name: str


def quote(text: str) -> str:
    """``text`` as an nft string, whatever is in it: what is not plainly harmless is percent-encoded (nft strings know no
    escapes), and what is too long is cut and told apart by a digest. Everything that is not a number, an address or a word of
    this module goes through here."""
    encoded = "".join(c if c in _SAFE else "".join(f"%{octet:02X}" for octet in c.encode()) for c in text)
    if len(encoded) > _COMMENT_BYTES:
        encoded = f"{encoded[:100]}~{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    return f'"{encoded}"'


def counter_name(direction: str, vm: str) -> str:
    """``rx_<vm>`` or ``tx_<vm>`` as an nft identifier: what is not a letter or digit becomes ``_`` and two hex digits."""
    return f"{direction}_" + re.sub(r"[^A-Za-z0-9]", lambda found: f"_{ord(found[0]):02x}", vm)


def counter_vm(name: str) -> tuple[str, str] | None:
    """The direction and VM of a counter's name, or None for a name that is not ours."""
    direction, _, rest = name.partition("_")
    if direction not in ("rx", "tx") or not re.fullmatch(r"([A-Za-z0-9]|_[0-9a-f]{2})+", rest):
        return None
    return direction, re.sub(r"_([0-9a-f]{2})", lambda found: chr(int(found[1], 16)), rest)


def render(
    ruleset: RuleSet, present: Iterable[Leftover] = (), fitting: Iterable[Leftover] = (), *, guard: bool = True
) -> str:
    """The transaction that makes our tables hold exactly ``ruleset``.

    Args:
        present: what the tables hold now. All of it goes, but counters that are still wanted, and
        fitting: those of ``present`` that have the shape that they shall have: they stay, emptied.
        guard: the kernel has the bridge family. Without it there is no anti-spoofing, and traffic is counted where it is
            routed, by address.
    """
    families = FAMILIES if guard else FAMILIES[:1]
    counted = "bridge" if guard else "inet"
    names = [counter_name(way, vm) for vm in sorted({g.vm for g in ruleset.guests}) for way in ("rx", "tx")]
    lines = [line for family in families for line in (f"add table {family} {TABLE}", f"flush table {family} {TABLE}")]
    keep = {Leftover(counted, "counter", name) for name in names}
    keep |= set(fitting) & set(present)
    lines += [f"flush {item.kind} {item.family} {TABLE} {item.name}" for item in sorted(keep) if item.kind in _SETS]
    lines += _removals(item for item in set(present) - keep if item.family in families)
    lines += [f"add counter {counted} {TABLE} {name}" for name in names]
    lines += _inet(ruleset, counting=not guard)
    if guard:
        lines += _bridge(ruleset)
    return "\n".join(lines) + "\n"


def render_clear(families: Iterable[str]) -> str:
    """The transaction that removes our tables, there or not."""
    return "".join(f"add table {family} {TABLE}\ndelete table {family} {TABLE}\n" for family in families)


def _removals(items: Iterable[Leftover]) -> Iterator[str]:
    for item in sorted(items, key=lambda item: (item.kind not in _SETS, item)):  # before the objects that they refer to
        if item.kind in _SETS:
            yield f"flush {item.kind} {item.family} {TABLE} {item.name}"
        yield f"delete {item.kind} {item.family} {TABLE} {item.name}"


def _set(family: str, kind: str, name: str, head: str, elements: Iterable[tuple[str, str, str]]) -> Iterator[str]:
    """A set or map. Elements are (key, owner for the comment, value or nothing), in the order given."""
    yield f"add {kind} {family} {TABLE} {name} {{ {head}; }}"
    items = [f"{key} comment {quote(owner)}" + (f" : {value}" if value else "") for key, owner, value in elements]
    if items:
        yield f"add element {family} {TABLE} {name} {{ {', '.join(items)} }}"


def _chain(family: str, name: str, rules: str | Iterable[tuple[str, str]]) -> Iterator[str]:
    """A chain of rules: lines of text that belong to the house, or (rule, owner) pairs."""
    base = BASE_CHAINS.get((family, name))
    hook = f" {{ type {base[0]} hook {base[1]} priority {base[2]}; policy accept; }}" if base else ""
    yield f"add chain {family} {TABLE} {name}{hook}"
    for rule, owner in _numbered(rules, f"house {name}") if isinstance(rules, str) else rules:
        yield f"add rule {family} {TABLE} {name} {rule} comment {quote(owner)}"


def _inet(ruleset: RuleSet, *, counting: bool) -> Iterator[str]:
    yield from _inet_sets(ruleset)
    if counting:
        for way, direction in (("sent", "tx"), ("received", "rx")):
            for version in (4, 6):
                found = [(a, g, counter_name(direction, g.vm)) for a, g in _owned(ruleset, version)]
                elements = [(address, f"guest {guest.vm}", quote(name)) for address, guest, name in found]
                yield from _set("inet", "map", f"{way}{version}", f"type ipv{version}_addr : counter", elements)
    yield from _chain("inet", "revision", [("return", f"revision {ruleset.revision}")])
    yield from _chain("inet", "forwards", _NAT_TARGET)
    entry = list(_entry(ruleset))
    yield from _chain("inet", "prerouting", entry)
    yield from _chain("inet", "output", entry)
    yield from _chain("inet", "postrouting", _postrouting(ruleset))
    house = _FORWARD + (_FALLBACK_COUNT if counting else "").lstrip() + _FORWARD_END.lstrip()
    yield from _chain("inet", "forward", [*_numbered(house, "house forward"), *_closed(ruleset)])


def _numbered(text: str, owner: str) -> list[tuple[str, str]]:
    return [(line, f"{owner} {number}") for number, line in enumerate(text.strip().splitlines(), start=1)]


def _inet_sets(ruleset: RuleSet) -> Iterator[str]:
    bridges = [(quote(n.bridge), f"network {n.name}", "") for n in ruleset.networks]
    yield from _set("inet", "set", "bridges", "type ifname", bridges)
    inside = [ipaddress.ip_network(text) for n in ruleset.networks for text in (n.subnet4, n.subnet6) if text]
    for version in (4, 6):
        subnets = [(n.subnet4 if version == 4 else n.subnet6, n) for n in ruleset.networks]
        elements = [(subnet, f"network {n.name}", "") for subnet, n in subnets if subnet]
        yield from _set("inet", "set", f"networks{version}", f"type ipv{version}_addr; flags interval", elements)
        outside = [(a, "outside", "") for a in ruleset.outside_addresses if ipaddress.ip_address(a).version == version]
        yield from _set("inet", "set", f"outside{version}", f"type ipv{version}_addr", outside)
        blocked = [(address, f"guest {g.vm}", "") for address, g in _owned(ruleset, version) if g.blocked]
        yield from _set("inet", "set", f"blocked{version}", f"type ipv{version}_addr", blocked)
        forwards = [f for f in ruleset.forwards if f.version == version]
        far: dict[str, str] = {}
        for f in forwards:
            if not any(ipaddress.ip_address(f.internal_ip) in subnet for subnet in inside):
                far.setdefault(f.internal_ip, f"guest {f.vm}")
        elements = [(address, owner, "") for address, owner in sorted(far.items())]
        yield from _set("inet", "set", f"far{version}", f"type ipv{version}_addr", elements)
        key = "type inet_proto . inet_service"
        head = f"{key} : ipv{version}_addr . inet_service"
        yield from _set("inet", "map", f"forward{version}", head, (e for f in forwards for e in _ports(f)))
        head = f"{key} : ipv{version}_addr; flags interval"
        yield from _set("inet", "map", f"range{version}", head, (e for f in forwards for e in _range(f)))


def _is_range(forward: Forward) -> bool:
    """A range whose ports stay what they are is one interval; the kernel cannot shift ports, so others are port by port."""
    return forward.external_start != forward.external_end and forward.external_start == forward.internal_start


def _range(forward: Forward) -> Iterator[tuple[str, str, str]]:
    if _is_range(forward):
        ports = f"{forward.protocol} . {forward.external_start}-{forward.external_end}"
        yield ports, f"forward {forward.id}", forward.internal_ip


def _ports(forward: Forward) -> Iterator[tuple[str, str, str]]:
    if not _is_range(forward):
        for step in range(forward.external_end - forward.external_start + 1):
            target = f"{forward.internal_ip} . {forward.internal_start + step}"
            yield f"{forward.protocol} . {forward.external_start + step}", f"forward {forward.id}", target


def _entry(ruleset: RuleSet) -> Iterator[tuple[str, str]]:
    """Which destinations are the outside's: the rules of ``prerouting`` and ``output``."""
    only = f"meta l4proto {{ {PROTOCOLS} }}"
    versions = {ipaddress.ip_address(address).version for address in ruleset.outside_addresses}
    if 4 in versions:
        yield f"{only} ip daddr @outside4 jump forwards", "house outside 4"
    else:
        local = "ip daddr != 127.0.0.0/8 ip daddr != @networks4 fib daddr type local"
        yield f"{only} {local} jump forwards", "house outside 4"
    if 6 in versions:
        yield f"{only} ip6 daddr @outside6 jump forwards", "house outside 6"
    else:
        local = "ip6 daddr != ::1 ip6 daddr != fe80::/10 ip6 daddr != @networks6 fib daddr type local"
        yield f"{only} {local} jump forwards", "house outside 6"


def _postrouting(ruleset: RuleSet) -> Iterator[tuple[str, str]]:
    """Masquerading: hairpin (the answer must come back through us), guests outside our networks, and the way out."""
    for network in ruleset.networks:
        for word, subnet in (("ip", network.subnet4), ("ip6", network.subnet6)):
            if subnet:
                near = f"{word} saddr {subnet} {word} daddr {subnet} ct status dnat masquerade"
                yield near, f"network {network.name} hairpin {word}"
    yield "ip daddr @far4 ct status dnat masquerade", "house far 4"
    yield "ip6 daddr @far6 ct status dnat masquerade", "house far 6"
    for network in ruleset.networks:
        for version, word, subnet in ((4, "ip", network.subnet4), (6, "ip6", network.translated6)):
            if subnet:
                away = f"oifname != @bridges {word} saddr {subnet} {word} daddr != @networks{version} masquerade"
                yield away, f"network {network.name} out {word}"


def _closed(ruleset: RuleSet) -> Iterator[tuple[str, str]]:
    """Nobody else opens connections into a translated network; a routed prefix stays open."""
    for network in ruleset.networks:
        bridge = quote(network.bridge)
        yield f"iifname {bridge} oifname {bridge} accept", f"network {network.name} within"
        for word, subnet in (("ip", network.subnet4), ("ip6", network.translated6)):
            if subnet:
                shut = f"oifname {bridge} {word} daddr {subnet} reject with icmpx admin-prohibited"
                yield shut, f"network {network.name} closed {word}"


def _owned(ruleset: RuleSet, version: int) -> list[tuple[str, Guest]]:
    """Every guest's own addresses of one family."""
    return [(address, guest) for guest in ruleset.guests for address in (guest.ip4 if version == 4 else guest.ip6)]


def _bridge(ruleset: RuleSet) -> Iterator[str]:
    yield from _bridge_sets(ruleset)
    with_port = [(g, quote(g.interface)) for g in ruleset.guests if g.interface]
    for way, direction in (("sent", "tx"), ("received", "rx")):
        by_port = [(port, f"guest {g.vm}", quote(counter_name(direction, g.vm))) for g, port in with_port]
        yield from _set("bridge", "map", f"{way}port", "type ifname : counter", by_port)
        rest = [g for g in ruleset.guests if not g.interface]
        by_mac = [(g.mac, f"guest {g.vm}", quote(counter_name(direction, g.vm))) for g in rest]
        yield from _set("bridge", "map", f"{way}mac", "type ether_addr : counter", by_mac)
    yield from _chain("bridge", "cut", _CUT)
    yield from _chain("bridge", "adverts", _ADVERTS)
    yield from _chain("bridge", "arps", _ARPS)
    yield from _chain("bridge", "packets4", _PACKETS4)
    yield from _chain("bridge", "packets6", _PACKETS6)
    yield from _chain("bridge", "frames", _FRAMES)
    yield from _chain("bridge", "guard", _GUARD)
    yield from _chain("bridge", "sent", _SENT)
    yield from _chain("bridge", "received", _RECEIVED)


def _bridge_sets(ruleset: RuleSet) -> Iterator[str]:
    everyone = [(g, f"guest {g.vm}") for g in ruleset.guests]
    ports = [(g, owner, quote(g.interface)) for g, owner in everyone if g.interface]
    sets = {
        ("ports", "type ifname"): [(port, owner, "") for g, owner, port in ports],
        ("unmanaged", "type ifname"): [(port, owner, "") for g, owner, port in ports if not g.addresses],
        ("blocked", "type ifname"): [(port, owner, "") for g, owner, port in ports if g.blocked],
        ("blockedmacs", "type ether_addr"): [(g.mac, owner, "") for g, owner in everyone if g.blocked],
        ("macs", "type ifname . ether_addr"): [(f"{port} . {g.mac}", owner, "") for g, owner, port in ports],
        ("address4", "type ifname . ipv4_addr"): [(f"{port} . {a}", o, "") for g, o, port in ports for a in g.ip4],
        ("address6", "type ifname . ipv6_addr"): [(f"{port} . {a}", o, "") for g, o, port in ports for a in _all6(g)],
        ("owned4", "type ipv4_addr"): [(a, owner, "") for g, owner in everyone for a in g.ip4],
        ("owned6", "type ipv6_addr"): [(a, owner, "") for g, owner in everyone for a in _all6(g)],
        ("targets", "typeof iifname . @th,64,128"): [
            (f"{port} . {_hex(a)}", owner, "") for g, owner, port in ports for a in _all6(g)
        ],
        ("ownedtargets", "typeof @th,64,128"): [(_hex(a), owner, "") for g, owner in everyone for a in _all6(g)],
    }
    for (name, head), elements in sets.items():
        yield from _set("bridge", "set", name, head, elements)


def _all6(guest: Guest) -> tuple[str, ...]:
    return (*guest.ip6, guest.link_local)


def _hex(address: str) -> str:
    return f"0x{int(ipaddress.IPv6Address(address)):032x}"
