"""What VMs publish, as pages show it: the words and marks of forwards and domains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from quart import Response

from panel import web
from panel.i18n import gettext
from panel.i18n import gettext_noop as _
from panel.models import Traffic, Vm
from panel.pages.shared import came_from, done, post
from panel.pages.words import say
from panel.security import Actor
from panel.services.publications import Opening, Published

MARKS: dict[Opening, tuple[str, str]] = {  # a name of the style sheet, and the word
    Opening.APPLYING: ("pending", _("being applied")),
    Opening.FAILED: ("failed", _("not applied")),
    Opening.CHECKING: ("pending", _("being checked")),
    Opening.OPEN: ("online", _("open")),
    Opening.CLOSED: ("failed", _("closed")),
    Opening.UNTOLD: ("unknown", _("applied")),
    Opening.STOPPED: ("stopped", _("applied")),
    Opening.UNKNOWN: ("unknown", _("unknown")),
}
NOTES: dict[Opening, str] = {
    Opening.UNTOLD: _("Whether UDP is open cannot be told: it answers nothing by itself."),
    Opening.STOPPED: _("The VM is not running."),
}


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """A forward or domain. ``mark`` is a name of the style sheet; ``note`` says what else there is to say of its state."""

    item: Published
    mark: str
    word: str
    note: str


@dataclass(frozen=True, slots=True)
class PublishedList:
    """All that a VM publishes, and its traffic of this month."""

    rows: list[PublishedRow]
    traffic: Traffic | None


def row_of(item: Published) -> PublishedRow:
    """The row of a forward or domain."""
    mark, word = MARKS[item.opening]
    note = NOTES.get(item.opening, "")
    return PublishedRow(item, mark, gettext(word), gettext(note) if note else "")


async def published_of(vm: Vm) -> PublishedList:
    """What a VM publishes. Three queries."""
    service = web.services().publications
    return PublishedList([row_of(item) for item in await service.of_vm(vm)], await service.traffic(vm))


def _asked_from(host: str, vm: str) -> str:
    return came_from(web.url("pages.vm", host=host, vm=vm))


@post("/hosts/<host>/vms/<vm>/probe", "vm_probe", _asked_from)
async def vm_probe(actor: Actor, host: str, vm: str) -> Response:
    """Try the VM's forwards and domains now; back to the page it was asked from."""
    row = await web.services().vms.get(host, vm)
    await web.services().probes.check(actor, row)
    values: dict[str, Any] = {"name": row.title or row.name}
    return done(_asked_from(host, vm), say(_("Checked what {name} publishes."), **values), stay=True)
