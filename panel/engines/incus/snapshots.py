"""Snapshots of instances: seen, taken, rolled back to, removed.

The server keeps them in a row and does not tell on which of them an instance goes on after a rollback: the panel writes that,
with the server's time, beside its other marks. Snapshots taken later have a copy of it, so that each tells its parent.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from panel.engines.common.checks import check_snapshot, no_snapshot, snapshot_there
from panel.engines.incus.client import Changed, Client, instance_path
from panel.engines.incus.marks import Found, Json, writable
from panel.engines.incus.operations import Operations
from panel.engines.types import PowerState, Reporter, Snapshot, SnapshotAction
from panel.i18n import gettext_noop as _

BASE = "user.openidcs.snapshot"
SECONDS = 3600.0  # a disk of some storage is copied whole
CHANGE_SECONDS = 60.0
TRIES = 5
EVER = datetime.min.replace(tzinfo=UTC)
ADDRESSES = ("ipv4.address", "ipv6.address")


def read_snapshots(one: Found) -> tuple[Snapshot, ...]:
    """Of an instance that was read with them, the oldest first. Rolled back by hand, one seems to go on from its newest."""
    rows = sorted(
        ((_time(raw.get("created_at")), str(raw["name"]), raw) for raw in one.raw.get("snapshots") or ()),
        key=lambda row: row[:2],
    )
    current = _base(one.own, {name: at for at, name, _raw in rows})
    seen: list[Snapshot] = []
    before: dict[str, datetime] = {}
    for at, name, raw in rows:
        parent = _base(raw.get("config") or {}, before)
        taken = None if at == EVER else at
        seen.append(Snapshot(name, "", taken, parent, bool(raw.get("stateful")), name == current))
        before[name] = at
    return tuple(seen)


async def act(
    client: Client, operations: Operations, one: Found, action: SnapshotAction, name: str, report: Reporter
) -> None:
    """See ``Engine.snapshot``. A VM's memory is kept where its ``migration.stateful`` lets the server do that, a container's
    never: that needs CRIU, which few guests survive. What runs is started again after it was rolled back."""
    check_snapshot(name)
    there = {each.name: each for each in read_snapshots(one)}
    path = instance_path(one.name, "/snapshots")
    if (name in there) is (action is SnapshotAction.TAKE):
        raise snapshot_there(name) if name in there else no_snapshot(name)
    await report.step(_("Working on snapshot {name}."), percent=10, name=name)
    if action is SnapshotAction.TAKE:
        await operations.run("POST", path, {"name": name, "stateful": keeps_memory(one)}, seconds=SECONDS)
        return
    if action is SnapshotAction.REMOVE:
        await operations.run("DELETE", f"{path}/{quote(name, safe='')}", seconds=SECONDS)
        return
    body = {"restore": name, "stateful": there[name].memory}
    done = await operations.run("PUT", instance_path(one.name), body, seconds=SECONDS)
    await _settle(client, operations, one, f"{name} {done.get('updated_at', '')}".strip())


def keeps_memory(one: Found) -> bool:
    """Whether a snapshot of the instance, as it is now, has its memory."""
    return one.is_vm and one.power is PowerState.RUNNING and one.config.get("migration.stateful") == "true"


def rolled_back(before: Found, after: Found, base: str) -> Json:
    """An instance as it is to be written after it was rolled back: on which snapshot it goes on, and with the addresses that
    DHCP gives its interfaces now, not those of then, which may be another's."""
    body = writable(after.raw)
    now = {before.mac(key): device for key, device in before.nics()}
    devices = dict(body.get("devices") or {})
    for key, device in devices.items():
        given = now.get(after.mac(key)) if device.get("type") == "nic" else None
        if given is not None:
            plain = {name: value for name, value in device.items() if name not in ADDRESSES}
            devices[key] = plain | {name: given[name] for name in ADDRESSES if name in given}
    return body | {"devices": devices, "config": {**(body.get("config") or {}), BASE: base}}


async def _settle(client: Client, operations: Operations, before: Found, base: str) -> None:
    path = instance_path(before.name)
    for left in reversed(range(TRIES)):
        raw, etag = await client.read(path)
        try:
            body = rolled_back(before, Found(raw), base)
            await operations.run("PUT", path, body, seconds=CHANGE_SECONDS, etag=etag)
        except Changed:
            if not left:
                raise
            continue
        return


def _base(config: Json, before: dict[str, datetime]) -> str:
    """On which of these snapshots, by name with their times, the oldest first, one with this configuration is; empty: on none."""
    newest = next(reversed(before), "")
    name, _space, at = str(config.get(BASE) or "").partition(" ")
    if not name or (newest and before[newest] > _time(at)):
        return newest
    return name if name in before else ""


def _time(text: Any) -> datetime:
    """RFC 3339, as Go writes it: up to nine digits of a second."""
    try:
        found = datetime.fromisoformat(str(text or ""))
    except ValueError:
        return EVER
    return found if found.tzinfo else found.replace(tzinfo=UTC)
