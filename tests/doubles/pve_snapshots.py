"""Snapshots of the double: each keeps the configuration; of a running VM without its memory."""

from __future__ import annotations

import time
from typing import Any

from tests.doubles.pve_world import Cluster, Machine, RefusedError

HERE = "current"


def listed(vm: Machine) -> list[dict[str, Any]]:
    """With the VM itself at the end, as the vendor has it."""
    parent = {"parent": vm.config["parent"]} if "parent" in vm.config else {}
    here = {"name": HERE, "description": "You are here!", "digest": "0" * 40, "running": int(vm.status == "running")}
    found = [
        {"name": name, "description": one["description"], "snaptime": one["snaptime"], "vmstate": 0}
        | ({"parent": one["parent"]} if one["parent"] else {})
        for name, one in vm.snapshots.items()
    ]
    return [*found, here | parent]


def take(world: Cluster, vm: Machine, name: str, notes: str, user: str) -> str:
    """``qmsnapshot``."""
    if name in {HERE, "pending"}:
        raise RefusedError(500, f"unable to use snapshot name '{name}' (reserved name)\n")
    if name in vm.snapshots:
        raise RefusedError(500, f"snapshot name '{name}' already used\n")

    def work() -> None:
        kept = {key: value for key, value in vm.config.items() if key not in {"parent", "lock"}}
        parent = vm.config.get("parent", "")
        vm.snapshots[name] = {"description": notes, "snaptime": int(time.time()), "parent": parent, "config": kept}
        vm.config["parent"] = name

    return world.act(vm, f"{vm.prefix}snapshot", user, work)


def roll_back(world: Cluster, vm: Machine, name: str, user: str, *, start: bool) -> str:
    """``qmrollback``: the VM is stopped for it, and started again only when that is asked for."""
    held = found(vm, name)

    def work() -> None:
        if vm.status == "running":
            world.stop(vm)
        vm.pending = {}
        vm.config = dict(held["config"]) | {"parent": name}
        if start:
            world.start(vm)

    return world.act(vm, f"{vm.prefix}rollback", user, work)


def remove(world: Cluster, vm: Machine, name: str, user: str) -> str:
    """``qmdelsnapshot``: those that came of it now come of what it came of."""
    held = found(vm, name)

    def work() -> None:
        del vm.snapshots[name]
        for one in vm.snapshots.values():
            one["parent"] = held["parent"] if one["parent"] == name else one["parent"]
        if vm.config.get("parent") == name:
            del vm.config["parent"]
            vm.config |= {"parent": held["parent"]} if held["parent"] else {}

    return world.act(vm, f"{vm.prefix}delsnapshot", user, work)


def found(vm: Machine, name: str) -> dict[str, Any]:
    """One of its snapshots."""
    if name not in vm.snapshots:
        raise RefusedError(500, f"snapshot '{name}' does not exist\n")
    return vm.snapshots[name]
