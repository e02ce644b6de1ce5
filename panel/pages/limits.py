"""What a VM may use: rates, traffic, forwards and domains."""

from __future__ import annotations

from typing import Any

from quart import Response

from panel import web
from panel.engines.types import VmChange
from panel.errors import PanelError
from panel.i18n import gettext
from panel.i18n import gettext_noop as _
from panel.models import Vm
from panel.pages.forms import Form
from panel.pages.network import network_path
from panel.pages.shared import done, form_data, post
from panel.pages.vms import vm_page_with
from panel.pages.words import say
from panel.security import Actor
from panel.services.specs import LIMITS, RATES, check_limits

SOON = 3.0  # seconds


def limits_form(vm: Vm, given: Any = None) -> Form:
    """The form of a VM's limits: empty is no limit."""
    held = _held(vm)
    return Form(given, {name: "" if held[name] is None else held[name] for name in _shown(vm)})


def _shown(vm: Vm) -> tuple[str, ...]:
    """The limits that mean something on the VM's host: rates and traffic only where its gateway sees them."""
    return LIMITS if web.services().gateways.limits(vm.host) else tuple(name for name in LIMITS if name not in RATES)


def _held(vm: Vm) -> dict[str, int | None]:
    return check_limits(dict.fromkeys(LIMITS) | vm.limits)


@post("/hosts/<host>/vms/<vm>/limits", "vm_limits", network_path)
async def vm_limits(actor: Actor, host: str, vm: str) -> Response:
    """Change what the VM may use; what was left empty is no limit any more."""
    row = await web.services().vms.get(host, vm)
    form, path = limits_form(row, await form_data()), network_path(host, vm)
    wanted = {name: form.integer(name, required=False) if form.value(name).strip() else None for name in _shown(row)}
    held = _held(row)
    changed = {name: value for name, value in wanted.items() if value != held[name]}
    if not form.errors:
        if not changed:
            return done(path, gettext(_("Nothing was changed.")))
        try:
            task = await web.services().vms.update(actor, row, VmChange(), limits=changed)
            await web.services().tasks.wait(task.id, SOON)  # most are done by then, and the form shows it
        except PanelError as error:
            form.take(error, LIMITS)
        else:
            return done(path, say(_("Changing {name}."), name=row.title or row.name))
    return await vm_page_with(row, "network", status=400, limits=form)
