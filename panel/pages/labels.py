"""Tags and notes on a VM's page."""

from __future__ import annotations

import re
from typing import Any

from quart import Response

from panel import web
from panel.errors import PanelError
from panel.i18n import gettext_noop as _
from panel.models import Vm
from panel.pages.forms import Form
from panel.pages.shared import came_from, done, form_data, post
from panel.pages.words import FIELDS, say
from panel.security import Actor
from panel.services.labels import known_tags, tags_of

BETWEEN = re.compile(r"[\s,;，；、]+")


async def labels_context(vm: Vm) -> dict[str, Any]:
    """What ``partials/vms/labels.html`` needs. Two queries."""
    tags = (await tags_of([vm.id])).get(vm.id, ())
    return {"labels": _form(vm, tags), "known_tags": await known_tags()}


def _form(vm: Vm, tags: tuple[str, ...], given: Any = None) -> Form:
    return Form(given, {"tags": ", ".join(tags), "notes": vm.notes}, labels=FIELDS)


def _asked_from(host: str, vm: str) -> str:
    return came_from(web.url("pages.vm", host=host, vm=vm))


@post("/hosts/<host>/vms/<vm>/labels", "vm_labels", _asked_from)
async def vm_labels(actor: Actor, host: str, vm: str) -> Response:
    """Write a VM's tags and notes."""
    from panel.pages.vms import vm_page_with, vm_path  # whose overview has this form

    row = await web.services().vms.get(host, vm)
    form = _form(row, (), await form_data())
    tags = [word for word in BETWEEN.split(form.text("tags")) if word]
    if not form.errors:
        try:
            changed = await web.services().labels.write(actor, row, tags, form.value("notes"))
        except PanelError as error:
            form.take(error, ("tags", "notes"))
        else:
            said = _("Saved the tags and notes of {name}.") if changed else _("Nothing was changed.")
            return done(vm_path(host, vm), say(said, name=row.title or row.name))
    return await vm_page_with(row, "overview", status=400, labels=form)
