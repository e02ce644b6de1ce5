"""Snapshots as vSphere keeps them: a tree of what a VM's disks and settings were, and its memory where it ran.

Source: ``VirtualMachineSnapshotTree``, ``CreateSnapshot_Task``, ``RevertToSnapshot_Task`` of the vSphere Web Services API.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from panel.engines.common.checks import check_snapshot, no_snapshot, snapshot_there
from panel.engines.types import PowerState, Reporter, Snapshot, SnapshotAction
from panel.engines.vsphere.client import Session
from panel.engines.vsphere.config import plain_name
from panel.engines.vsphere.sdk import vim
from panel.engines.vsphere.tasks import Tasks

SECONDS = 3600.0  # a running VM's memory is written to the datastore, and a removed one's changes go into the disks
MOST = 100
START = datetime.min.replace(tzinfo=UTC)


def known(info: Any) -> list[tuple[Snapshot, str]]:
    """The newest ``MOST`` of a VM's ``snapshot``, the oldest first, each with its id. vSphere lets several have one name:
    those are told apart by their numbers."""
    nodes = list(_walk(getattr(info, "rootSnapshotList", None) or (), None))
    names = _names([node for node, _parent in nodes])
    current = str(getattr(getattr(info, "currentSnapshot", None), "_moId", "") or "")

    nodes.sort(key=lambda pair: (pair[0].createTime or START, pair[0].id))
    return [
        (
            Snapshot(
                name=names[node.id],
                description=str(node.description or ""),
                taken_at=node.createTime,
                parent=names[parent.id] if parent is not None else "",
                memory=node.state != "poweredOff",
                current=str(node.snapshot._moId) == current,
            ),
            str(node.snapshot._moId),
        )
        for node, parent in nodes[-MOST:]
    ]


def _names(nodes: list[Any]) -> dict[int, str]:
    """A name for each number, none of them twice."""
    counts = Counter(plain_name(node.name) for node in nodes)
    names = {node.id: plain_name(node.name) for node in nodes if counts[plain_name(node.name)] == 1}
    taken = set(names.values())
    for node in nodes:
        if node.id not in names:
            name = f"{plain_name(node.name)}-{node.id}"
            while name in taken:
                name += f"-{node.id}"
            names[node.id] = name
            taken.add(name)
    return names


def _walk(nodes: Iterable[Any], parent: Any) -> Iterator[tuple[Any, Any]]:
    for node in nodes:
        yield node, parent
        yield from _walk(node.childSnapshotList or (), node)


async def act(
    tasks: Tasks, moid: str, info: Any, state: PowerState, action: SnapshotAction, name: str, report: Reporter
) -> None:
    """See ``Engine.snapshot``. ``moid``, ``info``: the VM's id and its ``snapshot``, read now."""
    check_snapshot(name)
    there = {one.name: key for one, key in known(info)}
    if action is SnapshotAction.TAKE and name in there:
        raise snapshot_there(name)
    if action is not SnapshotAction.TAKE and name not in there:
        raise no_snapshot(name)

    def begin(session: Session) -> Any:
        if action is SnapshotAction.TAKE:
            return session.vm(moid).CreateSnapshot_Task(
                name=name, description="", memory=state is PowerState.RUNNING, quiesce=False
            )
        one = vim.vm.Snapshot(there[name], session.stub)
        if action is SnapshotAction.ROLLBACK:
            return one.RevertToSnapshot_Task(suppressPowerOn=False)
        return one.RemoveSnapshot_Task(removeChildren=False, consolidate=True)

    await tasks.run(begin, SECONDS, report, (10, 90))


def devices_of(session: Session, info: Any) -> list[Any]:
    """The devices that a VM had when its snapshots were taken; in a worker thread, in one call."""
    snapshots = [vim.vm.Snapshot(key, session.stub) for _one, key in known(info)]
    found = session.read(snapshots, "VirtualMachineSnapshot", ["config.hardware.device"])
    return [device for _one, props in found for device in props.get("config.hardware.device") or ()]
