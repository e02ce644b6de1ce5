"""New VMs and containers of the double that are no clones: a copy of a cloud image, a system unpacked."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from uuid import uuid4

from tests.doubles.pve_world import DISK, Cluster, Machine, RefusedError, Task

STORAGES = ("local-lvm", "fast")
ANSWERED = frozenset({"password", "ostemplate", "storage", "ssh-public-keys"})


def make_vm(world: Cluster, node: str, vmid: int, wanted: dict[str, str], user: str) -> str:
    """``qmcreate``: drives are given as ``STORAGE:GIB``, ``STORAGE:0,import-from=VOLUME`` or ``STORAGE:cloudinit``."""
    config = dict(wanted)
    made = []
    for drive in filter(DISK.fullmatch, list(config)):
        storage, _colon, what = config[drive].partition(":")
        kind, *options = what.split(",")
        source = dict(option.partition("=")[::2] for option in options).get("import-from", "")
        if storage not in STORAGES:
            raise RefusedError(500, f"storage '{storage}' does not exist\n")
        if kind == "cloudinit":
            volume, config[drive] = (
                f"{storage}:vm-{vmid}-cloudinit",
                f"{storage}:vm-{vmid}-cloudinit,media=cdrom,size=4M",
            )
        elif not source and not kind.isdigit():
            raise RefusedError(400, "Parameter verification failed.\n", {drive: "invalid format"})
        else:
            if source and (source not in world.files or ":import/" not in source):
                raise RefusedError(500, f"volume '{source}' does not exist\n")
            gib = world.image_gib if source else int(kind)
            volume = f"{storage}:vm-{vmid}-disk-{len(made)}"
            config[drive] = f"{volume},size={gib}G"
        made.append(volume)
    for key in [key for key in config if key.startswith("net")]:
        model, _equals, rest = config[key].partition("=")
        if not re.match(r"[0-9A-F:]{17},bridge=", rest):
            raise RefusedError(400, "Parameter verification failed.\n", {key: f"invalid format - {model}"})
    machine = Machine(vmid, node, {"lock": "create"})
    return _begin(world, machine, user, config | {"smbios1": f"uuid={uuid4()}"}, made, f"importing disk to VM {vmid}")


def make_container(world: Cluster, node: str, vmid: int, wanted: dict[str, str], user: str) -> str:
    """``vzcreate``: unpacks a system into a new root file system."""
    if wanted["ostemplate"] not in world.files:
        raise RefusedError(500, f"volume '{wanted['ostemplate']}' does not exist\n")
    storage, _colon, size = wanted.get("rootfs", "").partition(":")
    if storage not in STORAGES:
        raise RefusedError(500, f"storage '{storage}' does not support container directories\n")
    volume = f"{storage}:vm-{vmid}-disk-0"
    config = {key: value for key, value in wanted.items() if key not in ANSWERED}
    config |= {"rootfs": f"{volume},size={int(size)}G", "ostype": "debian", "arch": "amd64"}
    machine = Machine(vmid, node, {"lock": "create"}, kind="lxc", agent=False)
    machine.passwords = {"root": wanted["password"]} if "password" in wanted else {}
    machine.keys = wanted.get("ssh-public-keys", "").splitlines()
    return _begin(world, machine, user, config, [volume], f"extracting archive '{wanted['ostemplate']}'")


def _begin(world: Cluster, machine: Machine, user: str, config: dict[str, str], made: list[str], line: str) -> str:
    """The task: the machine is there at once, locked; it and its disks go away when the task fails."""
    vmid = machine.vmid
    if vmid in world.machines:
        raise RefusedError(500, f"unable to create {machine.called} {vmid} - {machine.called} {vmid} already exists\n")
    world.machines[vmid] = machine

    async def work(task: Task) -> None:
        try:
            world.volumes |= set(made)
            task.log.append(line)
            for percent in (0, 50, 100):
                task.log.append(f"transferred {percent / 50:.1f} GiB of 2.0 GiB ({percent}.00%)")
                await asyncio.sleep(world.clone_seconds / 3)
        except BaseException:
            world.volumes -= set(made)
            with suppress(KeyError):
                del world.machines[vmid]
            raise
        machine.config = config

    begin: Callable[[str, str, int, str, Callable[[Task], Awaitable[None]]], str] = world.begin
    return begin(machine.node, f"{machine.prefix}create", vmid, user, work)
