"""A VM's snapshots: what was seen of them, and the forms that take, roll back and remove."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from quart import Response

from panel import web
from panel.engines.types import Snapshot, SnapshotAction
from panel.errors import InvalidInput, PanelError
from panel.i18n import gettext_noop as _
from panel.models import Vm
from panel.pages.forms import Form
from panel.pages.rows import VmRow
from panel.pages.shared import done, form_data, post
from panel.pages.vms import vm_page_with, why_not_now
from panel.pages.words import say
from panel.security import Actor

SOON = 1.5  # seconds
SAID = {
    SnapshotAction.TAKE: _("Taking snapshot {snapshot} of {name}."),
    SnapshotAction.ROLLBACK: _("Rolling {name} back to {snapshot}."),
    SnapshotAction.REMOVE: _("Removing snapshot {snapshot} of {name}."),
}


@dataclass(frozen=True, slots=True)
class SnapshotList:
    """What the tab shows: the oldest first. ``reason``: why nothing can be done about them now; None when it can."""

    vm: Vm
    rows: tuple[Snapshot, ...]
    reason: str | None


def snapshots_path(host: str, vm: str) -> str:
    """A VM's snapshots."""
    return web.url("pages.vm", host=host, vm=vm, tab="snapshots")


def snapshot_list(row: VmRow) -> SnapshotList:
    """Those that the observer saw last."""
    seen = (row.vm.hardware or {}).get("snapshots", [])
    return SnapshotList(row.vm, tuple(map(_snapshot, seen)), why_not_now(row, "snapshots"))


def _snapshot(stored: dict[str, Any]) -> Snapshot:
    taken = stored["taken_at"]
    return Snapshot(**(stored | {"taken_at": datetime.fromisoformat(taken) if taken else None}))


def snapshots_context(row: VmRow) -> dict[str, Any]:
    """What the tab shows, with its form as it is shown first."""
    return {"snapshots": snapshot_list(row), "take": Form(None)}


@post("/hosts/<host>/vms/<vm>/snapshot", "vm_snapshot", snapshots_path)
async def vm_snapshot(actor: Actor, host: str, vm: str) -> Response:
    """Take a snapshot, roll back to one, or remove one. The tab then tells what became of it."""
    row = await web.services().vms.get(host, vm)
    form = Form(await form_data())
    try:
        action = SnapshotAction(form.value("action"))
    except ValueError:
        known = ", ".join(SnapshotAction)
        raise InvalidInput(_("{field} must be one of: {known}."), field="action", known=known) from None
    name = form.text("snapshot", required=True)
    if not form.errors:
        try:
            task = await web.services().snapshots.act(actor, row, action, name)
            await web.services().tasks.wait(task.id, SOON)  # most are done by then, and the list shows it
        except PanelError as error:
            if action is not SnapshotAction.TAKE:
                raise
            form.take(error, ("snapshot",))
        else:
            message = say(SAID[action], name=row.title or row.name, snapshot=name)
            return done(snapshots_path(host, vm), message, stay=action is not SnapshotAction.TAKE)
    return await vm_page_with(row, "snapshots", status=400, take=form)
