"""One power action for several VMs: what was selected in the list is looked through, confirmed, and asked of each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from quart import Response, request

from panel import web
from panel.engines.types import PowerAction
from panel.errors import InvalidInput, PanelError
from panel.i18n import gettext
from panel.i18n import gettext_noop as _
from panel.models import Task
from panel.pages.rows import VmRow, task_rows, whole_rows_by_id
from panel.pages.shared import came_from, flashed, form_data, get, local_path, page, post, to
from panel.pages.topics import live_url
from panel.pages.vms import power_action
from panel.pages.words import ACTIONS, localised, say
from panel.security import Actor

MOST_VMS = 200
LARGEST_ID = 2**31 - 1  # of the database's integer
WARNINGS: dict[PowerAction, str] = {
    PowerAction.STOP: _("They are cut off at once, like pulling the plug. What they have not written to disk is lost."),
    PowerAction.RESET: _("They restart at once, like pressing reset. What they have not written to disk is lost."),
}
GONE = _("This VM is no longer there.")
LEFT_OUT = _("It was not possible when you were asked, so it was left alone.")


@dataclass(frozen=True, slots=True)
class Choice:
    """A VM that was selected.

    Attributes:
        row: None when the VM is gone.
        reason: why the action is not possible now, or was refused; None when it is.
    """

    id: int
    name: str
    row: VmRow | None
    reason: str | None


@get("/vms/bulk", "vms_bulk")
async def bulk_page(_actor: Actor) -> Response:
    """What would happen to each of the selected VMs, to be confirmed."""
    back = list_of(request.args.get("back"))
    ids = ids_of(request.args.getlist("vm"))
    if not ids:
        return flashed(to(back), "error", gettext(_("Select VMs in the list first.")))
    action = power_action(request.args.get("action", ""))
    choices = await choices_of(ids, action)
    return await page(
        "pages/vms/bulk.html",
        action=action,
        label=gettext(ACTIONS[action][0]),
        icon=ACTIONS[action][1],
        warning=gettext(WARNINGS[action]) if action in WARNINGS else None,
        choices=choices,
        possible=[choice for choice in choices if choice.reason is None],
        back=back,
    )


def asked_from() -> str:
    """The page that asked for confirmation."""
    return came_from(web.url("pages.vms"))


@post("/vms/bulk", "vms_bulk_run", asked_from)
async def bulk_run(actor: Actor) -> Response:
    """Begin the action for each VM of ``vm``. Those of ``left`` were shown as impossible: they are not touched."""
    form = await form_data()
    left = ids_of(form.getlist("left"))
    ids = ids_of([*form.getlist("vm"), *map(str, left)])
    if not ids:
        raise InvalidInput(_("Select VMs in the list first."))
    action = power_action(form.get("action", ""))
    outcomes = await asyncio.gather(
        *(_act(actor, choice, action, choice.id in left) for choice in await choices_of(ids, action))
    )
    begun = [outcome for outcome in outcomes if isinstance(outcome, str)]
    tasks = {task.id: task for task in await Task.filter(id__in=begun)}  # read again: the first may have ended
    back = list_of(form.get("back"))
    return await page(
        "pages/vms/bulk_done.html",
        here=back,
        label=gettext(ACTIONS[action][0]),
        tasks=await task_rows([tasks[task_id] for task_id in begun if task_id in tasks]),
        refused=[outcome for outcome in outcomes if isinstance(outcome, Choice)],
        back=back,
        live_url=live_url(flags=("tasks",)),
    )


async def _act(actor: Actor, choice: Choice, action: PowerAction, left: bool) -> str | Choice:
    """The id of the task that began, or the choice with the reason why none did."""
    if choice.row is None or choice.reason is not None:
        return choice
    if left:
        return Choice(choice.id, choice.name, choice.row, gettext(LEFT_OUT))
    try:
        return (await web.services().power.act(actor, choice.row.vm, action)).id
    except PanelError as error:
        return Choice(choice.id, choice.name, choice.row, localised(error.text).translate())


async def choices_of(ids: Sequence[int], action: PowerAction | None = None) -> list[Choice]:
    """The VMs of these ids, in their order, as the database knows them. A VM that is gone is called as its last task
    called it. ``action``: a power action that is wanted of them."""
    rows = {row.vm.id: row for row in await whole_rows_by_id(ids)}
    gone = [one for one in ids if one not in rows]
    last = await Task.filter(vm_id__in=gone).order_by("created_at").values_list("vm_id", "vm_name") if gone else []
    names = dict(last)
    return [_choice(one, rows.get(one), names.get(one), action) for one in ids]


def _choice(vm_id: int, row: VmRow | None, last_name: str | None, action: PowerAction | None) -> Choice:
    if row is None:
        return Choice(vm_id, last_name or say(_("VM number {id}"), id=vm_id), None, gettext(GONE))
    reason = next(button.reason for button in row.buttons if button.action == action) if action else None
    return Choice(vm_id, row.vm.title or row.vm.name, row, reason)


def ids_of(given: Sequence[str]) -> list[int]:
    """The ids of a form, each once. What cannot be one is left out; ``InvalidInput`` beyond ``MOST_VMS``."""
    numbers = [int(text) for text in given if text.isascii() and text.isdigit() and len(text) <= 10]
    ids = list(dict.fromkeys(number for number in numbers if 0 < number <= LARGEST_ID))
    if len(ids) > MOST_VMS:
        raise InvalidInput(
            _("At most {most} VMs at once; {count} are selected. Select fewer."), most=MOST_VMS, count=len(ids)
        )
    return ids


def list_of(wanted: str | None) -> str:
    """The list as it was looked at."""
    return local_path(wanted, web.url("pages.vms"))
