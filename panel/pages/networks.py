"""The networks of a host: how full they are, who has which address, what is kept back, and the pools of bridges."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quart import Response

from panel import web
from panel.errors import PanelError
from panel.i18n import Text, gettext
from panel.i18n import gettext_noop as _
from panel.models import Host, Network, Pool
from panel.pages.forms import Form
from panel.pages.hosts import host_page_with
from panel.pages.shared import done, form_data, post
from panel.pages.words import say
from panel.security import Actor
from panel.services.engines import capabilities
from panel.services.pools import PoolRequest

LABELS = {
    "subnet": _("Subnet"),
    "gateway": _("Gateway"),
    "dns": _("Name servers"),
    "ranges": _("Ranges for VMs"),
    "reserved": _("Reserved"),
}
TAB = "networks"


@dataclass(frozen=True, slots=True)
class OpenForm:
    """The one form that the page has open. ``pool``: the pool is changed; without it, one is added, or the network's reserved
    addresses are changed, as ``kind`` (``pool`` or ``reserved``) says."""

    kind: str
    network: Network
    form: Form
    pool: Pool | None = None


def networks_path(host: str, **more: Any) -> str:
    """A host's networks; ``more``: which form is open."""
    return web.url("pages.host", host=host, tab=TAB, **more)


async def networks_context(host: Host, wanted: Mapping[str, str]) -> dict[str, Any]:
    """What the tab shows. ``wanted``: the page's arguments: ``network`` with ``edit`` (``reserved``, ``new`` or a pool's id)."""
    reason = capabilities(host.engine).why_not("networks")
    return {
        "networks": await web.services().pools.overview(host),
        "networks_reason": gettext(reason) if reason else None,
        "opened": await _opened(host, wanted.get("network", ""), wanted.get("edit", "")),
    }


async def _opened(host: Host, name: str, edit: str) -> OpenForm | None:
    if not name or not edit:
        return None
    network = await web.services().pools.get(host, name)
    if edit == "reserved":
        return OpenForm("reserved", network, _form(None, {"reserved": _lines(network.reserved)}))
    pool = None
    if edit.isascii() and edit.isdigit() and len(edit) < 10:
        pool = await web.services().pools.pool(network, int(edit))
    return OpenForm("pool", network, _pool_form(pool), pool)


def _form(given: Mapping[str, str] | None, defaults: Mapping[str, object]) -> Form:
    return Form(given, defaults, {name: gettext(label) for name, label in LABELS.items()})


def _pool_form(pool: Pool | None, given: Mapping[str, str] | None = None) -> Form:
    if pool is None:
        return _form(given, dict.fromkeys(LABELS, ""))
    lines = {"dns": "\n".join(pool.dns), "ranges": _lines(pool.ranges), "reserved": _lines(pool.reserved)}
    return _form(given, {"subnet": pool.subnet, "gateway": pool.gateway} | lines)


def _lines(pairs: Sequence[Sequence[str]]) -> str:
    """[first, last] pairs as people write them: one in a line."""
    return "\n".join(first if first == last else f"{first} - {last}" for first, last in pairs)


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[\s,;]+", text) if word]


def _pairs(text: str) -> list[list[str]]:
    """What was typed, one range in a line, as [first, last] pairs; the service says what is wrong with them."""
    found = []
    for line in re.split(r"[\n,;]+", text):
        parts = [part.strip() for part in re.split(r"\s*[-–]\s*|\s+", line.strip(), maxsplit=1)]
        if parts[0]:
            found.append([parts[0], parts[-1]])
    return found


def _request(form: Form) -> PoolRequest:
    return PoolRequest(
        subnet=form.text("subnet", required=True),
        gateway=form.text("gateway"),
        dns=_words(form.text("dns")),
        ranges=_pairs(form.text("ranges")),
        reserved=_pairs(form.text("reserved")),
    )


async def _back(host: Host, opened: OpenForm) -> Response:
    """The page again, with what is wrong beside its field. htmx swaps only what it takes for good."""
    return await host_page_with(host, TAB, status=200 if web.is_htmx() else 400, opened=opened)


def _told(host: str, message: str, notes: Sequence[Text]) -> Response:
    words = " ".join([message, *(note.translate() for note in notes[:5])])
    return done(networks_path(host), words, level="warning" if notes else "success")


@post("/hosts/<host>/networks/<network>/reserved", "network_reserved", lambda host, network: networks_path(host))
async def network_reserved(actor: Actor, host: str, network: str) -> Response:
    """Say which addresses of a NAT network are kept back."""
    row = await web.services().hosts.get(host)
    here = await web.services().pools.get(row, network)
    form = _form(await form_data(), {"reserved": ""})
    pairs = _pairs(form.text("reserved"))
    try:
        notes = await web.services().pools.set_reserved(actor, row, network, pairs)
    except PanelError as error:
        form.take(error, LABELS)
        return await _back(row, OpenForm("reserved", here, form))
    return _told(host, say(_("Changed the reserved addresses of {name}."), name=network), notes)


@post("/hosts/<host>/networks/<network>/pools", "pool_add", lambda host, network: networks_path(host))
async def pool_add(actor: Actor, host: str, network: str) -> Response:
    """Give a bridge a pool."""
    row = await web.services().hosts.get(host)
    here = await web.services().pools.get(row, network)
    form = _pool_form(None, await form_data())
    request = _request(form)
    if not form.errors:
        try:
            pool = await web.services().pools.add_pool(actor, row, network, request)
        except PanelError as error:
            form.take(error, LABELS)
        else:
            return done(networks_path(host), say(_("VMs on {name} get addresses of {subnet}."), name=network,
                                                 subnet=pool.subnet))  # fmt: skip
    return await _back(row, OpenForm("pool", here, form))


@post(
    "/hosts/<host>/networks/<network>/pools/<int:pool>",
    "pool_change",
    lambda host, network, pool: networks_path(host),
)
async def pool_change(actor: Actor, host: str, network: str, pool: int) -> Response:
    """Change a pool."""
    row = await web.services().hosts.get(host)
    here = await web.services().pools.get(row, network)
    before = await web.services().pools.pool(here, pool)
    form = _pool_form(before, await form_data())
    request = _request(form)
    if not form.errors:
        try:
            changed, notes = await web.services().pools.change_pool(actor, row, network, pool, request)
        except PanelError as error:
            form.take(error, LABELS)
        else:
            return _told(host, say(_("Changed the pool {subnet}."), subnet=changed.subnet), notes)
    return await _back(row, OpenForm("pool", here, form, before))


@post(
    "/hosts/<host>/networks/<network>/pools/<int:pool>/remove",
    "pool_remove",
    lambda host, network, pool: networks_path(host),
)
async def pool_remove(actor: Actor, host: str, network: str, pool: int) -> Response:
    """Remove a pool that no VM has an address of."""
    row = await web.services().hosts.get(host)
    removed = await web.services().pools.delete_pool(actor, row, network, pool)
    return done(networks_path(host), say(_("Removed the pool {subnet}."), subnet=removed.subnet))
