"""What is in the kernel's tables, read from ``nft -j list`` (libnftables-json(5)), and how it differs from what should be."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from panel.errors import EngineFailure
from panel.gateways.ruleset import FAMILIES, TABLE, Leftover, counter_vm
from panel.i18n import Text
from panel.i18n import gettext_noop as _

_VOLATILE = frozenset({"handle", "index", "packets", "bytes", "expires"})
_SETS = ("set", "map")


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes from and to a VM since its counters were made; they begin at 0 again after a reboot of the host."""

    sent_bytes: int = 0
    received_bytes: int = 0


@dataclass(frozen=True, slots=True, order=True)
class Item:
    """One thing in a table. ``place`` is the chain or set it is in, ``subject`` its comment, else what it says itself."""

    family: str
    kind: str
    place: str
    subject: str
    body: str


@dataclass(frozen=True, slots=True)
class Flow:
    """External ports that lead to a guest, as the kernel has them. ``internal_port`` None: the port stays as it is."""

    protocol: str
    first: int
    last: int
    address: str
    internal_port: int | None


@dataclass(frozen=True, slots=True)
class KernelState:
    """Our tables as they are now.

    Attributes:
        families: those in which our table exists.
        revision: of the ``RuleSet`` that was applied last; None when there is none, or someone removed it.
        items: everything in them; rules in their order.
        present: what an apply has to clear away.
        traffic: by VM.
        flows: what the forward maps hold.
        ports: the bridge ports that are guarded.
    """

    families: frozenset[str] = frozenset()
    revision: int | None = None
    items: tuple[Item, ...] = ()
    present: frozenset[Leftover] = frozenset()
    traffic: Mapping[str, Traffic] = field(default_factory=dict)
    flows: frozenset[Flow] = frozenset()
    ports: frozenset[str] = frozenset()

    def shapes(self) -> dict[Leftover, str]:
        """Everything but rules and elements, and how it is declared."""
        return {
            Leftover(item.family, item.kind, item.subject.partition(" ")[2]): item.body
            for item in self.items
            if item.kind not in ("rule", "element")
        }

    def with_other(self, other: KernelState) -> KernelState:
        """Both, for tables that were read one after the other. Counters of a VM are in one of them only."""
        return KernelState(
            self.families | other.families,
            self.revision if other.revision is None else other.revision,
            self.items + other.items,
            self.present | other.present,
            {**self.traffic, **other.traffic},
            self.flows | other.flows,
            self.ports | other.ports,
        )


@dataclass(frozen=True, slots=True)
class Applied:
    """What an apply did besides the rules.

    Attributes:
        guarded: the bridge table is there: anti-spoofing holds. Without it ``warnings`` says so.
        switches: sysctls that were set, as ``name=value``.
        accepts: rules that were put into iptables' FORWARD chain.
        retired: the last counts of VMs that are no longer counted.
        ended: open connections of removed forwards that were ended; None when nobody could.
        refused: by id, the forwards that do not hold though all others do, and why.
    """

    revision: int
    guarded: bool
    switches: tuple[str, ...] = ()
    accepts: tuple[str, ...] = ()
    retired: Mapping[str, Traffic] = field(default_factory=dict)
    ended: int | None = 0
    refused: Mapping[str, Text] = field(default_factory=dict)
    warnings: tuple[Text, ...] = ()


class DifferenceKind(StrEnum):
    """How the kernel differs from the wish."""

    MISSING = "missing"
    FOREIGN = "foreign"  # added by hand in our table
    CHANGED = "changed"


@dataclass(frozen=True, slots=True, order=True)
class Difference:
    """One difference between the wish and the kernel.

    Attributes:
        what: ``table``, ``chain``, ``rule``, ``order``, ``set``, ``map``, ``element``, ``counter``, another word of nft's,
            ``sysctl`` or ``accept`` (a rule in iptables' FORWARD).
        place: family and chain or set, such as ``inet forward4``.
        subject: the comment, such as ``forward 12`` or ``guest vm1``; for foreign things what they say.
        expected, found: nft's JSON; empty where there is nothing.
    """

    kind: DifferenceKind
    what: str
    place: str
    subject: str
    expected: str = ""
    found: str = ""

    @property
    def forward(self) -> str | None:
        """The id of the forward that it touches."""
        word, _, name = self.subject.partition(" ")
        return name if word == "forward" else None

    @property
    def vm(self) -> str | None:
        """The VM whose guard, counter or block it touches."""
        word, _, name = self.subject.partition(" ")
        return name if word == "guest" else None


def parse(text: str) -> KernelState:
    """Our tables out of any ``nft -j list``. ``EngineFailure`` when that is no JSON of nft's."""
    try:
        entries = [next(iter(entry.items())) for entry in json.loads(text)["nftables"]]
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration):
        raise EngineFailure(_("nft answered what is no JSON of nft's. Is it at least version 1.0?")) from None
    ours = [(kind, body) for kind, body in entries if _is_ours(kind, body)]
    items: list[Item] = []
    traffic: dict[str, Traffic] = {}
    flows: set[Flow] = set()
    for kind, body in ours:
        items += _items(kind, body)
        if kind == "counter":
            _count(traffic, body)
        elif kind == "map" and re.fullmatch(r"(forward|range)[46]", body["name"]):
            flows.update(_flows(body))
    things = [(k, b) for k, b in ours if k not in ("table", "rule")]
    return KernelState(
        families=frozenset(body["family"] for kind, body in ours if kind == "table"),
        revision=_revision(items),
        items=tuple(items),
        present=frozenset(Leftover(body["family"], kind, body["name"]) for kind, body in things),
        traffic=traffic,
        flows=frozenset(flows),
        ports=frozenset(
            str(_bare(element)[0])
            for kind, body in things
            if (kind, body["name"], body["family"]) == ("set", "ports", "bridge")
            for element in body.get("elem", ())
        ),
    )


def compare(expected: KernelState, found: KernelState) -> list[Difference]:
    """What is missing, foreign or changed in ``found``, sorted. A table that is missing is one difference, not a thousand."""
    differences: list[Difference] = []
    for family in sorted(expected.families - found.families):
        differences.append(Difference(DifferenceKind.MISSING, "table", family, f"table {family} {TABLE}"))
    common = expected.families & found.families
    for family in sorted(found.families - expected.families):
        differences.append(Difference(DifferenceKind.FOREIGN, "table", family, f"table {family} {TABLE}"))
    wanted = _grouped(item for item in expected.items if item.family in common)
    there = _grouped(item for item in found.items if item.family in common)
    moved: set[tuple[str, str]] = set()
    for key in wanted.keys() | there.keys():
        changes = _compare_group(key, wanted.get(key, []), there.get(key, []))
        if changes and key[1] == "rule":
            moved.add((key[0], key[2]))
        differences += changes
    for family, chain in _chains(expected.items) - moved:
        if family in common and _rules(expected.items, family, chain) != _rules(found.items, family, chain):
            differences.append(Difference(DifferenceKind.CHANGED, "order", f"{family} {chain}", f"chain {chain}"))
    return sorted(differences)


def _is_ours(kind: str, body: Any) -> bool:
    if not isinstance(body, dict) or kind == "metainfo" or body.get("family") not in FAMILIES:
        return False
    return bool((body.get("name") if kind == "table" else body.get("table")) == TABLE)


def _items(kind: str, body: dict[str, Any]) -> Iterable[Item]:
    family = body["family"]
    if kind == "rule":
        said = _canonical(body["expr"])
        yield Item(family, kind, body["chain"], str(body.get("comment") or said), said)
    elif kind != "table":
        head = {key: value for key, value in body.items() if key not in ("elem", "table", "family")}
        yield Item(family, kind, "", f"{kind} {body['name']}", _canonical(head))
    if kind in _SETS:
        for element in body.get("elem", ()):
            key, value = element if kind == "map" else (element, None)
            bare, comment = _bare(key)
            said = _canonical(bare if value is None else [bare, value])
            yield Item(family, "element", body["name"], comment or said, said)


def _bare(element: Any) -> tuple[Any, str]:
    """An element without its comment, and the comment."""
    if isinstance(element, dict) and "elem" in element:
        inner = element["elem"]
        rest = {key: value for key, value in inner.items() if key not in ("val", "comment")}
        return ([inner["val"], rest] if rest else inner["val"]), str(inner.get("comment", ""))
    return element, ""


def _canonical(value: Any) -> str:
    return json.dumps(_settled(value), sort_keys=True, ensure_ascii=False)


def _settled(value: Any) -> Any:
    """Without handles and counts, and with anonymous sets in one order (the kernel's is that of a hash)."""
    if isinstance(value, dict):
        settled = {key: _settled(inner) for key, inner in value.items() if key not in _VOLATILE}
        if isinstance(settled.get("set"), list):
            settled["set"] = sorted(settled["set"], key=lambda inner: json.dumps(inner, sort_keys=True))
        return settled
    if isinstance(value, list):
        return [_settled(inner) for inner in value]
    return value


def _count(traffic: dict[str, Traffic], body: dict[str, Any]) -> None:
    named = counter_vm(body["name"])
    if named is None:
        return
    direction, vm = named
    before, count = traffic.get(vm, Traffic()), int(body["bytes"])
    if direction == "rx":
        traffic[vm] = Traffic(before.sent_bytes, before.received_bytes + count)
    else:
        traffic[vm] = Traffic(before.sent_bytes + count, before.received_bytes)


def _flows(body: dict[str, Any]) -> Iterable[Flow]:
    """The elements of a forward map; what was put in by hand in another shape is nobody's flow."""
    for element in body.get("elem", ()):
        try:
            key, value = element
            protocol, port = _bare(key)[0]["concat"]
            first, last = port["range"] if isinstance(port, dict) else (port, port)
            address, internal = value["concat"] if isinstance(value, dict) else (value, None)
            yield Flow(str(protocol), int(first), int(last), str(address), None if internal is None else int(internal))
        except (KeyError, TypeError, ValueError):
            continue


def _revision(items: Iterable[Item]) -> int | None:
    for item in items:
        if (item.family, item.kind, item.place) == ("inet", "rule", "revision"):
            number = item.subject.removeprefix("revision ")
            return int(number) if number.isdecimal() else None
    return None


def _grouped(items: Iterable[Item]) -> dict[tuple[str, str, str, str], list[str]]:
    groups: dict[tuple[str, str, str, str], list[str]] = {}
    for item in items:
        groups.setdefault((item.family, item.kind, item.place, item.subject), []).append(item.body)
    return groups


def _compare_group(key: tuple[str, str, str, str], wanted: list[str], there: list[str]) -> list[Difference]:
    """Things that go by the same name: what is only wanted and what is only there make pairs of changed ones."""
    family, what, container, subject = key
    place = f"{family} {container}".strip()
    missing = sorted((Counter(wanted) - Counter(there)).elements())
    extra = sorted((Counter(there) - Counter(wanted)).elements())
    pairs = min(len(missing), len(extra))
    changed = [Difference(DifferenceKind.CHANGED, what, place, subject, missing[i], extra[i]) for i in range(pairs)]
    gone = [Difference(DifferenceKind.MISSING, what, place, subject, expected=body) for body in missing[pairs:]]
    added = [Difference(DifferenceKind.FOREIGN, what, place, subject, found=body) for body in extra[pairs:]]
    return [*changed, *gone, *added]


def _chains(items: Iterable[Item]) -> set[tuple[str, str]]:
    return {(item.family, item.place) for item in items if item.kind == "rule"}


def _rules(items: Iterable[Item], family: str, chain: str) -> list[str]:
    return [item.body for item in items if (item.family, item.kind, item.place) == (family, "rule", chain)]
