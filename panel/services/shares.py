"""Which process watches which hosts: a plan that every process makes alike from what the database says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Node:
    """A process that lives. ``machine``: where its own sockets lead."""

    id: str
    machine: str


@dataclass(frozen=True, slots=True)
class Group:
    """Hosts that are one machine: they share its rules, so one process has them all.

    Attributes:
        owner: the living process that has one of them now (of several, that of the first); None when nobody has.
        machine: only processes of this machine reach them; empty: all do.
    """

    hosts: tuple[int, ...]
    owner: str | None = None
    machine: str = ""


def grouped(
    machines: Mapping[int, str | None], owners: Mapping[int, str | None], pins: Mapping[int, str]
) -> list[Group]:
    """The groups of some hosts.

    Args:
        machines: by host, the machine that it is; None for one that shares nothing.
        owners: by host, the living process that has it.
        pins: by host, whose processes alone reach it; empty: all.
    """
    together: dict[object, list[int]] = {}
    for host in sorted(machines):
        machine = machines[host]
        together.setdefault(host if machine is None else (machine, pins.get(host, "")), []).append(host)
    return [
        Group(
            tuple(hosts),
            next((owners[host] for host in hosts if owners.get(host)), None),
            next((pins[host] for host in hosts if pins.get(host)), ""),
        )
        for hosts in together.values()
    ]


def share(nodes: Sequence[Node], groups: Iterable[Group]) -> dict[int, str]:
    """The process that each host is to have. Hosts stay where they are, unless one process has at least two more than
    another that could take them. A host that no process reaches is left out.
    """
    load = {node.id: 0 for node in nodes}
    able = {group: [node.id for node in nodes if group.machine in {"", node.machine}] for group in groups}
    having: dict[Group, str] = {}
    for group, can in able.items():
        if group.owner in can:
            having[group] = group.owner or ""
            load[having[group]] += len(group.hosts)
    for group, can in able.items():
        if group not in having and can:
            having[group] = min(can, key=lambda node: (load[node], node))
            load[having[group]] += len(group.hosts)
    while move := _move(having, able, load):
        group, target = move
        load[having[group]] -= len(group.hosts)
        load[target] += len(group.hosts)
        having[group] = target
    return {host: node for group, node in having.items() for host in group.hosts}


def _move(
    having: Mapping[Group, str], able: Mapping[Group, list[str]], load: Mapping[str, int]
) -> tuple[Group, str] | None:
    """What makes it fairer: a group, and who should have it."""
    for source in sorted(load, key=lambda node: (-load[node], node)):
        mine = sorted((group for group, node in having.items() if node == source), key=lambda group: group.hosts)
        for group in mine:
            target = min(able[group], key=lambda node: (load[node], node))
            if load[source] - load[target] > len(group.hosts):
                return group, target
    return None
