"""Snapshots as Proxmox keeps them: of the disks, without memory, unless somebody took them with it on its own pages."""

from __future__ import annotations

from panel.engines.common.checks import check_snapshot, no_snapshot, snapshot_there
from panel.engines.proxmox.client import Client
from panel.engines.proxmox.tasks import Tasks
from panel.engines.proxmox.view import Found, read_snapshots
from panel.engines.types import Reporter, SnapshotAction

SECONDS = 3600.0


async def act(
    client: Client, tasks: Tasks, one: Found, action: SnapshotAction, name: str, report: Reporter, *, running: bool
) -> None:
    """See ``Engine.snapshot``. A VM that runs is started again after it was rolled back."""
    check_snapshot(name)
    there = {line.name for line in read_snapshots(await client.get(one.path("/snapshot")))}
    if action is SnapshotAction.TAKE:
        if name in there:
            raise snapshot_there(name)
        upid = await client.post(one.path("/snapshot"), {"snapname": name})
    elif name not in there:
        raise no_snapshot(name)
    elif action is SnapshotAction.ROLLBACK:
        upid = await client.post(one.path(f"/snapshot/{name}/rollback"), {"start": "1"} if running else {})
    else:
        upid = await client.delete(one.path(f"/snapshot/{name}"))
    await tasks.wait(str(upid), SECONDS, report, (10, 90))
