"""One tag for several VMs: put on, or taken off, those that were selected in the list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quart import Response, request

from panel import web
from panel.errors import InvalidInput, PanelError
from panel.i18n import gettext
from panel.i18n import gettext_noop as _
from panel.pages.bulk import Choice, asked_from, choices_of, ids_of, list_of
from panel.pages.forms import Form
from panel.pages.shared import flashed, form_data, get, page, post, to
from panel.pages.words import FIELDS, localised
from panel.security import Actor
from panel.services.labels import known_tags

WAYS = {"add": _("Add a tag"), "remove": _("Remove a tag")}
AS_BEFORE = {"add": _("It has this tag already."), "remove": _("It does not have this tag.")}


@get("/vms/bulk/tags", "vms_tags")
async def tags_page(_actor: Actor) -> Response:
    """Which tag, for the selected VMs; also the confirmation, for it names them."""
    back = list_of(request.args.get("back"))
    ids = ids_of(request.args.getlist("vm"))
    if not ids:
        return flashed(to(back), "error", gettext(_("Select VMs in the list first.")))
    return await _ask(_way(request.args.get("way", "")), await choices_of(ids), back, Form(None, {"tag": ""}))


@post("/vms/bulk/tags", "vms_tags_run", asked_from)
async def tags_run(actor: Actor) -> Response:
    """Put ``tag`` on each VM of ``vm``, or take it off: each by itself, and what came of it is told."""
    given = await form_data()
    back, way = list_of(given.get("back")), _way(given.get("way", ""))
    ids = ids_of(given.getlist("vm"))
    if not ids:
        raise InvalidInput(_("Select VMs in the list first."))
    choices = await choices_of(ids)
    form = Form(given, {"tag": ""}, labels=FIELDS)
    tag = form.text("tag", required=True)
    if not form.errors:
        try:
            tag = web.services().labels.read(tag)
        except PanelError as error:
            form.take(error, ("tag",))
    if form.errors:
        return await _ask(way, choices, back, form, status=400)
    outcomes = [await _act(actor, choice, tag, way) for choice in choices]
    return await page(
        "pages/vms/bulk_tags_done.html",
        here=back,
        label=gettext(WAYS[way]),
        tag=tag,
        changed=[outcome for outcome in outcomes if outcome.reason is None],
        refused=[outcome for outcome in outcomes if outcome.reason is not None],
        good=gettext(_("Added")) if way == "add" else gettext(_("Removed")),
        back=back,
    )


async def _ask(way: str, choices: Sequence[Choice], back: str, form: Form, status: int = 200) -> Response:
    """The page that asks. To be removed are offered the tags that the VMs have, to be added all that there are."""
    theirs = sorted({tag for choice in choices if choice.row for tag in choice.row.tags})
    return await page(
        "pages/vms/bulk_tags.html",
        status=status,
        here=back,
        way=way,
        label=gettext(WAYS[way]),
        choices=choices,
        there=[choice for choice in choices if choice.row is not None],
        offered=theirs if way == "remove" else await known_tags(),
        form=form,
        back=back,
    )


async def _act(actor: Actor, choice: Choice, tag: str, way: str) -> Choice:
    """The choice, with the reason why nothing was changed."""
    if choice.row is None:
        return choice
    reason = None
    try:
        if not await web.services().labels.tag(actor, choice.row.vm, tag, on=way == "add"):
            reason = gettext(AS_BEFORE[way])
    except PanelError as error:
        reason = localised(error.text, _labels()).translate()
    return Choice(choice.id, choice.name, choice.row, reason)


def _labels() -> Mapping[str, str]:
    return {name: gettext(label) for name, label in FIELDS.items()}


def _way(text: str) -> str:
    if text not in WAYS:
        raise InvalidInput(_("{field} must be one of: {known}."), field="way", known=", ".join(WAYS))
    return text
