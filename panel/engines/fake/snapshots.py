"""Snapshots of fake VMs: what can be changed of one, as it was."""

from __future__ import annotations

from datetime import UTC, datetime

from panel.engines.common.checks import no_snapshot, snapshot_there
from panel.engines.fake.world import FakeSnapshot, FakeVm
from panel.engines.types import PowerState, Snapshot, SnapshotAction

KEPT = ("title", "cpu_count", "memory_mib", "iso")


def act(vm: FakeVm, action: SnapshotAction, name: str, now: float) -> None:
    """Do it. ``NotFound`` or ``Conflict`` as ``Engine.snapshot``."""
    held = vm.snapshots.get(name)
    if action is SnapshotAction.TAKE:
        if held is not None:
            raise snapshot_there(name)
        values = {key: getattr(vm, key) for key in KEPT} | {"passwords": dict(vm.passwords), "boot": list(vm.boot)}
        vm.snapshots[name] = FakeSnapshot(now, vm.snapshot, vm.state, values)
        vm.snapshot = name
        return
    if held is None:
        raise no_snapshot(name)
    if action is SnapshotAction.ROLLBACK:
        vm.pending.clear()
        for key, value in held.values.items():
            setattr(vm, key, type(value)(value) if isinstance(value, dict | list) else value)
        vm.snapshot = name
        vm.enter(PowerState(held.state), now)
        return
    del vm.snapshots[name]
    for other in vm.snapshots.values():
        other.parent = held.parent if other.parent == name else other.parent
    vm.snapshot = held.parent if vm.snapshot == name else vm.snapshot


def view_snapshots(vm: FakeVm) -> tuple[Snapshot, ...]:
    """In the order in which they were taken."""
    return tuple(
        Snapshot(
            name,
            taken_at=datetime.fromtimestamp(one.taken_at, UTC),
            parent=one.parent,
            memory=one.state != PowerState.STOPPED,
            current=name == vm.snapshot,
        )
        for name, one in vm.snapshots.items()
    )
