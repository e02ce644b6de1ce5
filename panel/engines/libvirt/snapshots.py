"""Snapshots inside the disks' own files (qcow2): seen, taken, rolled back to, removed. Source: libvirt's formatsnapshot.html."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Any

import libvirt

from panel.engines.common.checks import check_snapshot, no_snapshot, snapshot_there
from panel.engines.libvirt.client import Client, Lane
from panel.engines.libvirt.failures import is_code
from panel.engines.libvirt.xmltree import clean, node, parse, serialize
from panel.engines.types import Reporter, Snapshot, SnapshotAction

SECONDS = 900.0  # a running VM's memory is written to its disk
MOST = 100


def read_snapshots(domain: Any) -> tuple[Snapshot, ...]:
    """In a worker thread: the newest ``MOST``, the oldest first. None where the hypervisor has none, or they go meanwhile."""
    found: list[Snapshot] = []
    with contextlib.suppress(libvirt.libvirtError):
        for one in domain.listAllSnapshots(0):
            with contextlib.suppress(libvirt.libvirtError):
                found.append(_read(one))
    found.sort(key=lambda one: (one.taken_at or datetime.min.replace(tzinfo=UTC), one.parent != "", one.name))
    return tuple(found[-MOST:])


def _read(snapshot: Any) -> Snapshot:
    tree = parse(snapshot.getXMLDesc(0))
    taken = tree.findtext("creationTime", "")
    memory = tree.find("memory")
    return Snapshot(
        name=snapshot.getName(),
        description=clean(tree.findtext("description", "")),
        taken_at=datetime.fromtimestamp(int(taken), UTC) if taken.isdigit() else None,
        parent=tree.findtext("parent/name", ""),
        memory=memory is not None and memory.get("snapshot", "no") != "no",
        current=bool(snapshot.isCurrent()),
    )


async def act(client: Client, ref: str, action: SnapshotAction, name: str, report: Reporter) -> None:
    """See ``Engine.snapshot``."""
    client.check_ref(ref)

    def work(domain: Any) -> None:
        there = {one.getName(): one for one in domain.listAllSnapshots(0)}
        if action is SnapshotAction.TAKE:
            if name in there:
                raise snapshot_there(name)
            domain.snapshotCreateXML(_description(name), 0)
            return
        if name not in there:
            raise no_snapshot(name)
        if action is SnapshotAction.ROLLBACK:
            _roll_back(domain, there[name])
        else:
            there[name].delete(0)

    await client.domain(ref, lambda _domain: None)
    check_snapshot(name)
    await report.step("Working on snapshot {name}.", percent=10, name=name)
    await client.domain(ref, work, seconds=SECONDS, lane=Lane.SLOW, settle=True)


def _description(name: str) -> str:
    root = node(None, "domainsnapshot")
    node(root, "name", name)
    return serialize(root)


def _roll_back(domain: Any, snapshot: Any) -> None:
    """Where the running QEMU cannot become what it was then (other hardware), libvirt asks to be told that it may end it."""
    try:
        domain.revertToSnapshot(snapshot, 0)
    except libvirt.libvirtError as error:
        if not is_code(error, libvirt.VIR_ERR_SNAPSHOT_REVERT_RISKY):
            raise
        domain.revertToSnapshot(snapshot, libvirt.VIR_DOMAIN_SNAPSHOT_REVERT_FORCE)
